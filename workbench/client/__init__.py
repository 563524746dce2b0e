"""A client that says raw bytes and reads what comes: responses, the `curl` line, bytes made visible.

Everyone above may import it; it imports the ground floor alone. Entry: `say` and `Client` of
`client`.
"""
