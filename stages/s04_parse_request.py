"""python -m stages.s04_parse_request: bytes become a request.

Adds: a `Request` whose parts have names, its body too; 400 for what is not HTTP.
Try:  curl -i 'http://127.0.0.1:7878/caf%C3%A9?cup=1&cup=2' -d 'with milk'
Limitation: it understands every request, and still has only one response.
"""

import os
import re
import socket
import sys
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs, unquote

HOST = os.environ.get("HOST") or "127.0.0.1"
PORT = os.environ.get("PORT") or "7878"
STATIC = Path(__file__).resolve().parent.parent / "static"
MAX_BODY = 2**20  # bytes
REQUEST_LINE = re.compile(r"([!-~]+) ([!-~]+) (HTTP/1\.[01])")


@dataclass(frozen=True)
class Request:
    """What a client sends: header names in lower case, a list of values for each query name."""

    method: str
    target: str
    path: str
    query: dict[str, list[str]]
    version: str
    headers: dict[str, str]
    body: bytes = b""


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


@dataclass
class HTTPError(Exception):
    """A request that gets an error response: its status, and the reason in words."""

    status: int
    reason: str


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


def read_exactly(connection: socket.socket, buffer: bytearray, count: int) -> bytes:
    """Read so many bytes; what follows them stays in the buffer."""
    while len(buffer) < count:
        receive(connection, buffer)
    data = bytes(buffer[:count])
    del buffer[:count]
    return data


def read_request(connection: socket.socket, buffer: bytearray) -> Request:
    """Read one whole request: a head, and the body that it announces (RFC 9112 §6.3)."""
    request = parse_request(read_head(connection, buffer))
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or "transfer-encoding" in request.headers:
        raise HTTPError(400, "a body needs a Content-Length in digits, and no Transfer-Encoding")
    if len(length) > 9 or int(length) > MAX_BODY:  # int() fails on thousands of digits
        raise HTTPError(413, f"a body may have {MAX_BODY} bytes, this one has {length[:80]}")
    return replace(request, body=read_exactly(connection, buffer, int(length)))


def parse_request(head: bytes) -> Request:
    """Understand a head: the request line, then one header per line (RFC 9112 §3)."""
    line, *lines = head.decode("latin-1").split("\r\n")
    match = REQUEST_LINE.fullmatch(line)
    if not match:
        raise HTTPError(400, f"needed 'METHOD TARGET HTTP/1.1', got {line[:80]!a}")
    method, target, version = match.groups()
    path, _, query = target.partition("?")
    fields = parse_qs(query, keep_blank_values=True) if query else {}
    return Request(method, target, unquote(path), fields, version, parse_headers(lines))


def parse_headers(lines: list[str]) -> dict[str, str]:
    """Give each name its value; if it comes twice, both, joined by a comma (RFC 9110 §5.3)."""
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or name.split() != [name]:  # no name, or a space in it
            raise HTTPError(400, f"needed 'Name: value', got {line[:80]!a}")
        name, value = name.lower(), value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def page(name: str) -> Response:
    """Respond with a page from the folder `static`."""
    return Response(200, "text/html; charset=utf-8", (STATIC / name).read_bytes())


def plain(status: int, text: str) -> Response:
    """Respond with a line of text."""
    return Response(status, "text/plain; charset=utf-8", f"{text}\n".encode())


def handle_request(connection: socket.socket, number: int) -> None:
    """Read one request, print what was understood, and send the hello page."""
    try:
        request = read_request(connection, bytearray())
        for name, value in vars(request).items():
            print(f"connection {number}: {name:7} {value!a:.200}", flush=True)
        response = page("hello.html")
    except HTTPError as error:
        response = plain(error.status, error.reason)
    connection.sendall(build_response(response))  # blocking


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
