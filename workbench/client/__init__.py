"""A client that says raw bytes: what comes back, the `curl` line, and bytes made visible.

Everyone above may import it; it imports the ground floor alone. Entry: `say` and `Client` of
`client`.
"""
