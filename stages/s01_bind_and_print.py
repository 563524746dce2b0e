"""python -m stages.s01_bind_and_print: a caller arrives, and is printed.

Adds: a port of our own, and one line for every caller.
Try:  open http://127.0.0.1:7878 in a browser: for one page it calls more than once.
Flaw: we hang up without reading a word, and the browser says 'connection reset'.
"""

import os
import socket
import sys

HOST = os.environ.get("HOST") or "127.0.0.1"
PORT = os.environ.get("PORT") or "7878"


def serve(listener: socket.socket) -> None:
    """Print every caller with a number, one after another, for ever."""
    number = 0
    while True:
        try:
            connection, peer = listener.accept()  # blocking
        except OSError:  # nobody called for a second, or the caller is gone again
            continue
        number += 1
        print(f"connection {number} from {peer[0]}:{peer[1]}", flush=True)
        connection.close()


def listen() -> socket.socket:
    """Claim HOST:PORT, or end the program with the reason."""
    try:
        listener = socket.create_server((HOST, int(PORT)))
    except (OSError, OverflowError, ValueError) as error:
        sys.exit(f"cannot listen on HOST={HOST} PORT={PORT} ({error}): set another, or PORT=0")
    listener.settimeout(1)  # seconds: on Windows a waiting accept does not hear Ctrl-C
    return listener


def main() -> None:
    """Listen, say where, and serve until Ctrl-C."""
    with listen() as listener:
        try:
            host, port = listener.getsockname()
            print(f"Listening on http://{host}:{port}", flush=True)
            serve(listener)
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
