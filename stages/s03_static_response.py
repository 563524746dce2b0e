"""python -m stages.s03_static_response: a response is a head, a blank line, a body.

Adds: a status line, three headers, and the bytes of a page.
Try:  open http://127.0.0.1:7878 in a browser, then curl -i http://127.0.0.1:7878
Limitation: every path gets the same page: the server does not know what was requested.
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
    """What is sent back: a status such as 200, the media type of the body, and the body."""

    status: int
    content_type: str
    body: bytes

    @property
    def reason(self) -> str:
        """The status in words, such as OK (RFC 9110 §15)."""
        return HTTPStatus(self.status).phrase


def build_response(response: Response) -> bytes:
    """Lay out a response: status line, headers, blank line, body (RFC 9112 §2.1)."""
    head = (
        f"HTTP/1.1 {response.status} {response.reason}\r\n"
        f"Content-Type: {response.content_type}\r\n"
        f"Content-Length: {len(response.body)}\r\n"
        "Connection: close\r\n"
        "\r\n"
    )
    return head.encode("latin-1") + response.body


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


def page(name: str) -> Response:
    """Respond with a page from the folder `static`."""
    return Response(200, "text/html; charset=utf-8", (STATIC / name).read_bytes())


def handle_request(connection: socket.socket, number: int) -> None:
    """Read one request, print its lines, and send the hello page."""
    head = read_head(connection, bytearray())
    for line in head.decode("latin-1").split("\r\n"):
        print(f"connection {number}: {line!a}", flush=True)
    connection.sendall(build_response(page("hello.html")))  # blocking


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
