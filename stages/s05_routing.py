"""python -m stages.s05_routing: the method and the path choose the response.

Adds: a table of routes, from which 404 and 405 follow; 500 for a handler that fails.
Try:  curl -i 'http://127.0.0.1:7878/hello?name=Ada', then the same with -X DELETE
Limitation: one client that asks for something slow will stop all the others.
"""

import json
import os
import re
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
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
    """What is sent back; `headers` are those besides type, length and connection."""

    status: int
    content_type: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

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
    headers = "".join(f"{name}: {value}\r\n" for name, value in response.headers.items())
    head = (
        f"HTTP/1.1 {response.status} {response.reason}\r\n"
        f"Content-Type: {response.content_type}\r\n"
        f"Content-Length: {len(response.body)}\r\n"
        f"{headers}"
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


@lru_cache
def load(name: str, second: int) -> bytes:
    """Read a file from the folder `static`, once in a second at the most."""
    return (STATIC / name).read_bytes()


def page(name: str, status: int = 200, media: str = "text/html; charset=utf-8") -> Response:
    """Respond with a file from the folder `static`."""
    return Response(status, media, load(name, int(time.time())))


def plain(status: int, text: str, **headers: str) -> Response:
    """Respond with a line of text."""
    return Response(status, "text/plain; charset=utf-8", f"{text}\n".encode(), headers)


def hello(request: Request) -> Response:
    """Greet by name; `json.dumps` escapes whatever the name is (RFC 8259 §7)."""
    name = request.query.get("name", ["world"])[0]
    return Response(200, "application/json", json.dumps({"message": f"Hello, {name}!"}).encode())


Handler = Callable[[Request], Response]
ROUTES: dict[tuple[str, str], Handler] = {
    ("GET", "/"): lambda request: page("hello.html"),
    ("GET", "/about"): lambda request: page("about.html"),
    ("GET", "/favicon.ico"): lambda request: page("icon.svg", media="image/svg+xml"),
    ("GET", "/health"): lambda request: Response(200, "application/json", b'{"status": "ok"}'),
    ("GET", "/hello"): hello,
    ("POST", "/echo"): lambda request: Response(200, "application/octet-stream", request.body),
}


def route(request: Request) -> Response:
    """Look up the handler: 404 where the path has none, 405 where it has other methods."""
    if handler := ROUTES.get((request.method, request.path)):
        return handler(request)
    methods = [method for method, path in ROUTES if path == request.path]
    if not methods:
        return page("404.html", 404)
    return plain(405, f"{request.path} has no {request.method}", Allow=", ".join(methods))


def respond(request: Request) -> Response:
    """Return a response, whatever happens: a handler that fails costs no more than a 500."""
    try:
        return route(request)
    except HTTPError as error:
        return plain(error.status, error.reason)
    except Exception:
        traceback.print_exc()
        return plain(500, "the server failed, and its log says why")


def handle_request(connection: socket.socket, number: int) -> None:
    """Read one request, send its response, and print both in a line."""
    line = "rejected:"
    try:
        request = read_request(connection, bytearray())
        line = f"{request.method} {request.target}"
        response = respond(request)
    except HTTPError as error:
        response = plain(error.status, error.reason)
    print(f"connection {number}: {line} {response.status}", flush=True)
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
