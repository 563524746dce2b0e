"""Isolation for programs that nobody trusts: layers around them, limits, and a fast start inside.

`practice` and `grading` may import it; it imports `server` and what is below. Entry: `Sandbox` of
`isolation`. `supervisor` and `zygote` are programs of their own, and start as files.
"""
