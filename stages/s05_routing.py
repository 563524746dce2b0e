"""python -m stages.s05_routing: the method and the path choose the answer.

Adds: a table of routes, from which 404 and 405 follow; 500 for a handler that fails.
Try:  curl -i 'http://127.0.0.1:7878/hello?name=Ada', then the same with -X DELETE
Flaw: one visitor who asks for something slow will stop all the others.
"""

import json
import os
import re
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
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
    """What is asked: header names in lower case, a list of values for each name in the query."""

    method: str
    target: str
    path: str
    query: dict[str, list[str]]
    version: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Response:
    """What is answered; `headers` are those besides type, length and connection."""

    status: int
    content_type: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


class HTTPError(Exception):
    """A request is refused: `raise HTTPError(status, reason)`, the reason in words."""


def build_response(response: Response) -> bytes:
    """Lay out an answer: status line, headers, blank line, body (RFC 9112 §2.1)."""
    headers = "".join(f"{name}: {value}\r\n" for name, value in response.headers.items())
    head = (
        f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}\r\n"
        f"Content-Type: {response.content_type}\r\n"
        f"Content-Length: {len(response.body)}\r\n"
        f"{headers}"
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


def read_request(connection: socket.socket, buffer: bytearray) -> Request:
    """Take from the buffer one whole request: a head, and the body it announces (RFC 9112 §6.3)."""
    request = parse_request(read_head(connection, buffer))
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or "transfer-encoding" in request.headers:
        raise HTTPError(400, "a body needs a Content-Length in digits, and no Transfer-Encoding")
    if len(length) > 9 or int(length) > MAX_BODY:  # int() fails on thousands of digits
        raise HTTPError(413, f"a body may have {MAX_BODY} bytes, this one has {length[:80]}")
    while len(buffer) < int(length):
        receive(connection, buffer)
    return replace(request, body=bytes(buffer[: int(length)]))


def parse_request(head: bytes) -> Request:
    """Understand a head: the request line, then a header a line (RFC 9112 §3)."""
    line, *lines = head.decode("latin-1").split("\r\n")
    if not (match := REQUEST_LINE.fullmatch(line)):
        raise HTTPError(400, f"needed 'METHOD TARGET HTTP/1.1', got {line[:80]!a}")
    method, target, version = match.groups()
    path, _, query = target.partition("?")
    fields = parse_qs(query, keep_blank_values=True)
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


def page(name: str, status: int = 200, media: str = "text/html; charset=utf-8") -> Response:
    """Answer with a file from the folder `static`."""
    return Response(status, media, (STATIC / name).read_bytes())


def plain(status: int, words: str, **headers: str) -> Response:
    """Answer with a line of text."""
    return Response(status, "text/plain; charset=utf-8", f"{words}\n".encode(), headers)


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
    methods = [method for method, path in ROUTES if path == request.path]
    if not methods:
        return page("404.html", 404)
    if request.method not in methods:
        return plain(405, f"{request.path} has no {request.method}", Allow=", ".join(methods))
    return ROUTES[request.method, request.path](request)


def respond(request: Request) -> Response:
    """Answer a request, whatever happens: a handler that fails costs its visitor a 500."""
    try:
        return route(request)
    except Exception:
        traceback.print_exc()
        return plain(500, "the server failed, and its log says why")


def handle_request(connection: socket.socket, number: int) -> None:
    """Read one request, answer it, and print both in a line."""
    try:
        request = read_request(connection, bytearray())
        asked, response = f"{request.method} {request.target}", respond(request)
    except HTTPError as error:
        asked, response = "refused:", plain(*error.args)
    print(f"connection {number}: {asked} {response.status}", flush=True)
    connection.sendall(build_response(response))  # blocking


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
