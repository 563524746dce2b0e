"""Servers as child processes: started, watched, ended with who started them, and looked into.

Everyone above may import it; it imports `course`, `client` and the ground floor. Entry: `launch` of
`launch`.
"""
