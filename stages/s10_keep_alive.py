"""python -m stages.s10_keep_alive: one connection, many responses.

Adds: `Connection`, which goes on after a response, as both ends know where a message ends.
Try:  curl -v http://127.0.0.1:7878/ http://127.0.0.1:7878/about: look for 'Re-using'
Limitation: it believes whatever it is sent.
"""

import json
import logging
import os
import queue
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs, unquote


def setting(name: str, default: int, least: int, most: int) -> int:
    """Read a whole number from the environment, or end the program if it cannot be used."""
    value = os.environ.get(name) or str(default)
    if not re.fullmatch("[0-9]{1,9}", value) or not least <= int(value) <= most:
        sys.exit(f"cannot use {name}={value}: set a whole number from {least} to {most}")
    return int(value)


HOST = os.environ.get("HOST") or "127.0.0.1"
PORT = os.environ.get("PORT") or "7878"
WORKERS = setting("WORKERS", 4, least=1, most=1000)
GRACE_SECONDS = setting("GRACE_SECONDS", 8, least=0, most=3600)  # Docker kills after 10
IDLE_SECONDS = setting("IDLE_SECONDS", 5, least=1, most=3600)  # until a silent client is dropped
STATIC = Path(__file__).resolve().parent.parent / "static"
LOG_LEVEL = os.environ.get("LOG_LEVEL") or "INFO"
LOG_FORMAT = "%(relativeCreated)7.0f ms  %(threadName)-14s  %(message)s"
MAX_BODY = 2**20  # bytes
REQUEST_LINE = re.compile(r"([!-~]+) ([!-~]+) (HTTP/1\.[01])")

log = logging.getLogger(__name__)

Job = Callable[[], object]


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


@dataclass(eq=False)
class Connection:
    """What one connection owns; what has arrived and is not read yet is in its buffer."""

    sock: socket.socket
    number: int
    peer: str
    buffer: bytearray = field(default_factory=bytearray)
    requests: int = 0  # that were read so far


@dataclass
class Server:
    """What all connections share."""

    pool: "ThreadPool"
    idle: set[Connection] = field(default_factory=set)  # those that wait for a further request
    stopping: bool = False


@dataclass
class HTTPError(Exception):
    """A request that gets an error response: its status, and the reason in words."""

    status: int
    reason: str


def build_response(response: Response, keep: bool) -> bytes:
    """Lay out a response: status line, headers, blank line, body (RFC 9112 §2.1)."""
    headers = "".join(f"{name}: {value}\r\n" for name, value in response.headers.items())
    head = (
        f"HTTP/1.1 {response.status} {response.reason}\r\n"
        f"Content-Type: {response.content_type}\r\n"
        f"Content-Length: {len(response.body)}\r\n"
        f"{headers}"
        f"Connection: {'keep-alive' if keep else 'close'}\r\n"
        "\r\n"
    )
    return head.encode("latin-1") + response.body


def address(host: str, port: int, *_: int) -> str:
    """Write the address of a socket as a URL has it: IPv6 in brackets (RFC 3986 §3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def receive(connection: Connection) -> None:
    """Add to the buffer what has arrived by now, even if it is one byte; raise if nothing will."""
    chunk = connection.sock.recv(65536)  # blocking
    if not chunk:
        raise ConnectionError("the client left before the request was whole")
    connection.buffer += chunk


def read_head(connection: Connection) -> bytes:
    """Read a head up to its blank line; what follows stays in the buffer (RFC 9112 §2.1)."""
    while b"\r\n\r\n" not in connection.buffer:
        receive(connection)
    head, _, rest = connection.buffer.partition(b"\r\n\r\n")
    connection.buffer = rest
    return bytes(head)


def read_exactly(connection: Connection, count: int) -> bytes:
    """Read so many bytes; what follows them stays in the buffer."""
    while len(connection.buffer) < count:
        receive(connection)
    data = bytes(connection.buffer[:count])
    del connection.buffer[:count]
    return data


def read_request(connection: Connection) -> Request:
    """Read one whole request: a head, and the body that it announces (RFC 9112 §6.3)."""
    request = parse_request(read_head(connection))
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or "transfer-encoding" in request.headers:
        raise HTTPError(400, "a body needs a Content-Length in digits, and no Transfer-Encoding")
    if len(length) > 9 or int(length) > MAX_BODY:  # int() fails on thousands of digits
        raise HTTPError(413, f"a body may have {MAX_BODY} bytes, this one has {length[:80]}")
    return replace(request, body=read_exactly(connection, int(length)))


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


def split_list(value: str) -> list[str]:
    """Split a header that is a list, at its commas (RFC 9110 §5.6.1)."""
    return [item.strip(" \t") for item in value.split(",")]


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


def sleep(request: Request) -> Response:
    """Take 5 seconds, or as many as `?seconds=` says."""
    seconds = request.query.get("seconds", ["5"])[0]
    if not re.fullmatch(r"[0-9]{1,2}(\.[0-9]+)?", seconds) or float(seconds) > 60:
        return plain(400, f"seconds must be a number from 0 to 60, not {seconds[:80]!a}")
    time.sleep(float(seconds))  # blocking
    return plain(200, f"slept for {seconds} seconds")


Handler = Callable[[Request], Response]
ROUTES: dict[tuple[str, str], Handler] = {
    ("GET", "/"): lambda request: page("hello.html"),
    ("GET", "/about"): lambda request: page("about.html"),
    ("GET", "/favicon.ico"): lambda request: page("icon.svg", media="image/svg+xml"),
    ("GET", "/health"): lambda request: Response(200, "application/json", b'{"status": "ok"}'),
    ("GET", "/hello"): hello,
    ("GET", "/sleep"): sleep,
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
        log.exception("the handler of %s failed", request.target)
        return plain(500, "the server failed, and its log says why")


def keep_alive(request: Request) -> bool:
    """Tell whether the client can send a further request (RFC 9112 §9.3)."""
    options = split_list(request.headers.get("connection", "").lower())
    return "close" not in options and (request.version == "HTTP/1.1" or "keep-alive" in options)


def wait_for_request(connection: Connection, server: Server) -> bool:
    """Wait for a request to begin, a further one only until the server stops."""
    if connection.requests:
        server.idle.add(connection)  # and then look at `stopping`: stop_idle does the reverse
    try:
        if not connection.buffer and not (connection.requests and server.stopping):
            connection.buffer += connection.sock.recv(65536)  # blocking
    finally:
        server.idle.discard(connection)
    return bool(connection.buffer)


def handle_request(connection: Connection, server: Server) -> bool:
    """Read one request, send its response, log both in a line; say whether another may follow."""
    line, keep = "rejected:", False
    try:
        request = read_request(connection)
        connection.requests += 1
        line = f"{request.method} {request.target}"
        response = respond(request)
        keep = keep_alive(request) and not server.stopping
    except HTTPError as error:
        response = plain(error.status, error.reason)
    log.info("connection %d: %s %d", connection.number, line, response.status)
    connection.sock.sendall(build_response(response, keep))  # blocking
    return keep


def handle_connection(connection: Connection, server: Server) -> None:
    """Serve one request after another, then close the connection."""
    try:
        with connection.sock:
            connection.sock.settimeout(IDLE_SECONDS)
            while wait_for_request(connection, server) and handle_request(connection, server):
                pass
    except OSError as error:  # a client may leave at any moment
        log.info("connection %d: %s", connection.number, error)


class ThreadPool:
    """A fixed number of workers, threads that take their jobs from one queue."""

    def __init__(self, size: int) -> None:
        """Start `size` workers."""
        self.jobs: queue.Queue[Job | None] = queue.Queue()
        names = [f"worker-{number}" for number in range(1, size + 1)]
        self.workers = [threading.Thread(target=self.work, name=name) for name in names]
        for worker in self.workers:
            worker.start()

    def execute(self, job: Job) -> None:
        """Queue a job for the next worker that is free."""
        self.jobs.put(job)

    def work(self) -> None:
        """Do one job after another until the sentinel; a job that fails costs no worker."""
        while True:
            job = self.jobs.get()  # blocking
            if job is None:
                break
            try:
                job()
            except Exception:
                log.exception("a job failed")
        log.info("worker exits")

    def shut_down(self, seconds: int) -> bool:
        """Let the workers finish the queue and exit; say whether all did within `seconds`."""
        for _ in self.workers:
            self.jobs.put(None)  # a sentinel for each
        deadline = time.monotonic() + seconds
        for worker in self.workers:
            worker.join(max(0, deadline - time.monotonic()))  # blocking
        return not any(worker.is_alive() for worker in self.workers)


def serve(listener: socket.socket, server: Server) -> None:
    """Queue every connection for the workers, until the listener is closed."""
    number = 0
    while listener.fileno() >= 0:  # which is -1 once it is closed
        try:
            sock, peer = listener.accept()  # blocking
        except OSError:  # no client for a second, the client has left, the listener is closed
            continue
        number += 1
        log.info("connection %d from %s", number, address(*peer))
        server.pool.execute(partial(handle_connection, Connection(sock, number, peer[0]), server))


def listen() -> socket.socket:
    """Claim HOST:PORT, or end the program with the reason."""
    family = socket.AF_INET6 if ":" in HOST else socket.AF_INET
    try:
        listener = socket.create_server((HOST, int(PORT)), family=family)
    except (OSError, OverflowError, ValueError) as error:
        sys.exit(f"cannot listen on HOST={HOST} PORT={PORT} ({error}): set another, or PORT=0")
    listener.settimeout(1)  # seconds: on Windows a waiting accept does not notice Ctrl-C
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # for its connections, too
    return listener


def stop_on_signal(listener: socket.socket, server: Server) -> None:
    """Close the listener at the first Ctrl-C or SIGTERM; a second one ends the program at once."""

    def stop(*_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)  # the next one kills
        server.stopping = True
        listener.close()  # `accept` fails from now on; a connection that was accepted is not lost

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def stop_idle(server: Server) -> None:
    """Let each idle connection read that nothing more will come, where the system can do that."""
    for connection in list(server.idle):
        with suppress(OSError):  # a client may leave at any moment
            connection.sock.shutdown(socket.SHUT_RD)


def start_log() -> None:
    """Log to stderr what is of LOG_LEVEL or above, or end the program if there is no such level."""
    try:
        logging.basicConfig(level=LOG_LEVEL.upper(), format=LOG_FORMAT)
    except ValueError:
        sys.exit(f"cannot use LOG_LEVEL={LOG_LEVEL}: set DEBUG, INFO, WARNING, ERROR or CRITICAL")


def main() -> None:
    """Listen, say where, and serve until asked to stop: then finish what was accepted."""
    start_log()
    listener = listen()
    server = Server(ThreadPool(WORKERS))
    stop_on_signal(listener, server)
    print(f"Listening on http://{address(*listener.getsockname())}", flush=True)
    serve(listener, server)
    log.info("the listener is closed, and the queue will be finished")
    stop_idle(server)
    if not server.pool.shut_down(GRACE_SECONDS):
        log.warning("GRACE_SECONDS=%d are over, and the rest is dropped", GRACE_SECONDS)
        os._exit(0)  # without waiting for the workers that are left


if __name__ == "__main__":
    main()
