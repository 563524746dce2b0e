"""The page for the projector: running stages in a browser while a class uses them.

Only the command line may import it; it imports `server` and what is below. Entry: `scope` of
`scope`.
"""
