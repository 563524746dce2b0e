"""python -m stages.s03_static_response: an answer is a head, a blank line, a body.

Adds: a status line, three headers, and the bytes of a page.
Try:  open http://127.0.0.1:7878 in a browser, then curl -i http://127.0.0.1:7878
Flaw: every path gets the same page: the server does not know what was asked.
"""

import os
import socket
import sys
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

HOST = os.environ.get("HOST") or "127.0.0.1"
PORT = os.environ.get("PORT") or "7878"
STATIC = Path(__file__).resolve().parent.parent / "static"


@dataclass(frozen=True)
class Response:
    """What is answered: a status such as 200, the type of the body, and the body."""

    status: int
    content_type: str
    body: bytes


def build_response(response: Response) -> bytes:
    """Lay out an answer: status line, headers, blank line, body (RFC 9112 §2.1)."""
    head = (
        f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}\r\n"
        f"Content-Type: {response.content_type}\r\n"
        f"Content-Length: {len(response.body)}\r\n"
        "Connection: close\r\n"
        "\r\n"
    )
    return head.encode("ascii") + response.body


def receive(connection: socket.socket, buffer: bytearray) -> None:
    """Add to the buffer what has arrived by now, even if it is one byte; raise if nothing will."""
    chunk = connection.recv(65536)  # blocking
    if not chunk:
        raise ConnectionError("the caller left before the request was whole")
    buffer += chunk


def read_head(connection: socket.socket, buffer: bytearray) -> bytes:
    """Take from the buffer all up to the blank line that ends a head (RFC 9112 §2.1)."""
    while b"\r\n\r\n" not in buffer:
        receive(connection, buffer)
    head, _, rest = buffer.partition(b"\r\n\r\n")
    buffer[:] = rest
    return bytes(head)


def page(name: str) -> Response:
    """Answer with a page from the folder `static`."""
    return Response(200, "text/html; charset=utf-8", (STATIC / name).read_bytes())


def handle_request(connection: socket.socket, number: int) -> None:
    """Read one request, print its lines, and answer with the hello page."""
    head = read_head(connection, bytearray())
    for line in head.decode("latin-1").split("\r\n"):
        print(f"connection {number}: {line!a}", flush=True)
    connection.sendall(build_response(page("hello.html")))  # blocking


def handle_connection(connection: socket.socket, number: int) -> None:
    """Hold one conversation, then hang up."""
    try:
        with connection:
            handle_request(connection, number)
    except OSError as error:  # a caller may vanish at any moment
        print(f"connection {number}: {error}", flush=True)


def serve(listener: socket.socket) -> None:
    """Talk to one caller after another, for ever."""
    number = 0
    while True:
        try:
            connection, peer = listener.accept()  # blocking
        except OSError:  # nobody called for a second, or the caller is gone again
            continue
        number += 1
        print(f"connection {number} from {peer[0]}:{peer[1]}", flush=True)
        handle_connection(connection, number)


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
