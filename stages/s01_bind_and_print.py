"""python -m stages.s01_bind_and_print: a client connects, and is printed.

Adds: a port of its own, and one line for every connection.
Try:  open http://127.0.0.1:7878 in a browser: for one page it connects more than once.
Limitation: nothing is read and nothing is sent: the browser says 'connection reset'.
"""

import os
import socket
import sys

HOST = os.environ.get("HOST") or "127.0.0.1"
PORT = os.environ.get("PORT") or "7878"


def address(host: str, port: int, *_: int) -> str:
    """Write the address of a socket as a URL has it: IPv6 in brackets (RFC 3986 §3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def serve(listener: socket.socket) -> None:
    """Print every connection with a number, one after another, for ever."""
    number = 0
    while True:
        try:
            connection, peer = listener.accept()  # blocking
        except OSError:  # no client for a second, or the client has left already
            continue
        number += 1
        print(f"connection {number} from {address(*peer)}", flush=True)
        connection.close()


def listen() -> socket.socket:
    """Claim HOST:PORT, or end the program with the reason."""
    family = socket.AF_INET6 if ":" in HOST else socket.AF_INET
    try:
        listener = socket.create_server((HOST, int(PORT)), family=family)
    except (OSError, OverflowError, ValueError) as error:
        sys.exit(f"cannot listen on HOST={HOST} PORT={PORT} ({error}): set another, or PORT=0")
    listener.settimeout(1)  # seconds: on Windows a waiting accept does not notice Ctrl-C
    return listener


def main() -> None:
    """Listen, say where, and serve until Ctrl-C."""
    listener = listen()
    print(f"Listening on http://{address(*listener.getsockname())}", flush=True)
    serve(listener)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
