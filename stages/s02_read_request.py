"""python -m stages.s02_read_request: a request is lines up to a blank line.

Adds: reading, for as long as it takes: what one `recv` brings is not a request.
Try:  curl http://127.0.0.1:7878/any/path -H 'Colour: blue'
Limitation: nothing is sent back, and curl says 'empty reply from server'.
"""

import os
import socket
import sys

HOST = os.environ.get("HOST") or "127.0.0.1"
PORT = os.environ.get("PORT") or "7878"


def address(host: str, port: int, *_: int) -> str:
    """Write the address of a socket as a URL has it: IPv6 in brackets (RFC 3986 §3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def receive(connection: socket.socket, buffer: bytearray) -> None:
    """Add to the buffer what has arrived by now, even if it is one byte; raise if nothing will."""
    chunk = connection.recv(65536)  # blocking
    if not chunk:
        raise ConnectionError("the client left before the request was whole")
    buffer += chunk


def read_head(connection: socket.socket, buffer: bytearray) -> bytes:
    """Read a head up to its blank line; what follows stays in the buffer (RFC 9112 §2.1)."""
    while b"\r\n\r\n" not in buffer:
        receive(connection, buffer)
    head, _, rest = buffer.partition(b"\r\n\r\n")
    buffer[:] = rest
    return bytes(head)


def handle_request(connection: socket.socket, number: int) -> None:
    """Read one request and print its lines; bytes that are not ASCII are shown as escapes."""
    head = read_head(connection, bytearray())
    for line in head.decode("latin-1").split("\r\n"):
        print(f"connection {number}: {line!a}", flush=True)


def handle_connection(connection: socket.socket, number: int) -> None:
    """Serve one connection, then close it."""
    try:
        with connection:
            handle_request(connection, number)
    except OSError as error:  # a client may leave at any moment
        print(f"connection {number}: {error}", flush=True)


def serve(listener: socket.socket) -> None:
    """Serve one connection after another, for ever."""
    number = 0
    while True:
        try:
            connection, peer = listener.accept()  # blocking
        except OSError:  # no client for a second, or the client has left already
            continue
        number += 1
        print(f"connection {number} from {address(*peer)}", flush=True)
        handle_connection(connection, number)


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
