"""python -m stages.s16_middleware: what every response needs is done around its handler.

Adds: middleware: a log that programs read, names for requests, gzip, error pages, timings.
Try:  curl -i --compressed http://127.0.0.1:7878/static/hello.html
Limitation: the application is still a part of this file: another one would need another server.
"""

import gzip
import json
import logging
import mimetypes
import os
import queue
import re
import secrets
import signal
import socket
import sys
import threading
import time
from calendar import timegm
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from html import escape
from http import HTTPStatus
from pathlib import Path
from string import Template
from urllib.parse import parse_qs, quote, unquote


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
TURN_SECONDS = 0.05  # for the next request of a client, while others wait
HEAD_SECONDS = setting("HEAD_SECONDS", 10, least=1, most=3600)  # from its arrival, for the head
BODY_SECONDS = setting("BODY_SECONDS", 30, least=1, most=3600)  # from its arrival, for all of it
SEND_SECONDS = setting("SEND_SECONDS", 30, least=1, most=3600)  # for a large response to be taken
LINGER_SECONDS = setting("LINGER_SECONDS", 2, least=0, most=3600)
STATIC = Path(__file__).resolve().parent.parent / "static"
DOCUMENT_ROOT = Path(os.environ.get("DOCUMENT_ROOT") or STATIC).resolve()
LOG_LEVEL = os.environ.get("LOG_LEVEL") or "INFO"
LOG_FORMAT = "%(relativeCreated)7.0f ms  %(threadName)-14s  %(message)s"
MAX_QUEUE = setting("MAX_QUEUE", 1024, least=1, most=100_000)  # connections
MAX_FIELDS = setting("MAX_FIELDS", 100, least=1, most=10_000)
MAX_LINE = setting("MAX_LINE", 8192, least=100, most=10**8)  # bytes
MAX_HEAD = setting("MAX_HEAD", 65536, least=100, most=10**8)  # bytes
MAX_BODY = setting("MAX_BODY", 2**20, least=0, most=10**8)  # bytes
MAX_RANGES = setting("MAX_RANGES", 10, least=1, most=1000)
MIN_GZIP = setting("MIN_GZIP", 500, least=0, most=10**8)  # bytes: less is not worth it
MAX_GZIP = setting("MAX_GZIP", 2**20, least=0, most=10**8)  # bytes: more stays on the disk
MEDIA_TYPES = mimetypes.MimeTypes()  # Python's own list, the same on every machine
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")

# The grammar, by its names in RFC 3986, RFC 9110 and RFC 9112. Read as Latin-1, a byte is a letter.
TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
QUOTED_STRING = r'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
CHUNK_EXT = rf"[\t ]*;[\t ]*{TOKEN}(?:[\t ]*=[\t ]*(?:{TOKEN}|{QUOTED_STRING}))?"
REG_NAME = r"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})"
PCHAR = rf"(?:{REG_NAME}|[:@])"
PATH = rf"(?:/(?:(?!%00){PCHAR})*)*"  # and no NUL in it
QUERY = rf"(?:{PCHAR}|[/?])*"
HOST_PORT = re.compile(rf"(?:\[[0-9A-Fa-f:.]+\]|{REG_NAME}*)(?::[0-9]*)?")
HTTP_URI = rf"(?i:https?)://(?=[^/:?])({HOST_PORT.pattern})"
TARGET = re.compile(rf"(?:{HTTP_URI}|(?=/))({PATH})(?:\?({QUERY}))?|\*")
REQUEST_LINE = re.compile(rf"({TOKEN}) ([!-~]+) HTTP/([0-9])\.([0-9])")
FIELD_LINE = re.compile(rf"({TOKEN}):([\t -~\x80-\xff]*)")
CHUNK_LINE = re.compile(rf"([0-9A-Fa-f]+)((?:{CHUNK_EXT})*)")
CLOCK = "[0-9]{2}:[0-9]{2}:[0-9]{2}"
DATES = {  # the forms of a date, all of them in UTC; `strptime` alone would take more
    "%a, %d %b %Y %H:%M:%S GMT": f"[A-Z][a-z]+, [0-9]{{2}} [A-Z][a-z]+ [0-9]{{4}} {CLOCK} GMT",
    "%A, %d-%b-%y %H:%M:%S GMT": f"[A-Z][a-z]+, [0-9]{{2}}-[A-Z][a-z]+-[0-9]{{2}} {CLOCK} GMT",
    "%a %b %d %H:%M:%S %Y": f"[A-Z][a-z]+ [A-Z][a-z]+ [0-9 ][0-9] {CLOCK} [0-9]{{4}}",
}
QVALUE = r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?"
CODING = re.compile(rf"({TOKEN})(?:[\t ]*;[\t ]*[qQ]=({QVALUE}))?")
BLANK_LINE = re.compile(rb"\n\r?\n")

log = logging.getLogger(__name__)
access = logging.getLogger("access")

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
    peer: str = "-"  # the address of the client


@dataclass(frozen=True)
class Response:
    """What is sent back; `headers` are those besides type, length and connection."""

    status: int
    content_type: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    pieces: "tuple[bytes | Extract, ...]" = ()  # what follows the body

    @property
    def reason(self) -> str:
        """The status in words, such as OK (RFC 9110 §15)."""
        return HTTPStatus(self.status).phrase


@dataclass(frozen=True)
class Extract:
    """Some bytes of a file; it is opened when they are sent, and must still be what it was."""

    file: Path
    etag: str
    bytes: range
    content_range: str = ""  # where they are in the file (RFC 9110 §14.4)

    def __len__(self) -> int:
        """Return the number of bytes."""
        return len(self.bytes)


@dataclass(eq=False)
class Connection:
    """What one connection owns; what has arrived and is not read yet is in its buffer."""

    sock: socket.socket
    number: int
    peer: str
    buffer: bytearray = field(default_factory=bytearray)
    requests: int = 0  # that were read so far
    arrived: float = field(default_factory=time.monotonic)  # when it did, or its last request
    deadline: float = 0.0  # of what is read now, by time.monotonic() too
    timeout: float | None = None  # of the socket; to set it is a system call

    def set_timeout(self, seconds: float) -> None:
        """Let the socket wait for so long, and then raise TimeoutError."""
        if seconds != self.timeout:
            self.timeout = max(0.001, seconds)
            self.sock.settimeout(self.timeout)

    def recv(self, seconds: float) -> bytes:
        """Wait so many seconds for some bytes; b"" means that no more will come."""
        self.set_timeout(seconds)
        return self.sock.recv(65536)  # blocking


@dataclass
class Server:
    """What all connections share."""

    pool: "ThreadPool"
    closers: "ThreadPool"
    idle: set[Connection] = field(default_factory=set)  # those that wait for a further request
    stopping: bool = False


@dataclass
class HTTPError(Exception):
    """A request that gets an error response: its status, and the reason in words."""

    status: int
    reason: str


def validate(rule: re.Pattern[str], text: str, needed: str) -> tuple[str, ...]:
    """Return the parts of a text that follows a rule of the grammar; reject one that does not."""
    match = rule.fullmatch(text)
    if not match:
        raise HTTPError(400, f"needed {needed}, got {text[:80]!a}")
    return match.groups("")


@lru_cache
def http_date(second: int) -> str:
    """Write a time as HTTP does, once for all responses of a second (RFC 9110 §5.6.7)."""
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(second))


def build_response(response: Response, keep: bool, head_only: bool) -> bytes:
    """Lay out a response: status line, headers, blank line, body (RFC 9112 §2.1, §6.3)."""
    length = len(response.body) + sum(map(len, response.pieces))
    content = f"Content-Type: {response.content_type}\r\nContent-Length: {length}\r\n"
    if response.status in (204, 304):
        content, head_only = "", True
    headers = "".join(f"{name}: {value}\r\n" for name, value in response.headers.items())
    head = (
        f"HTTP/1.1 {response.status} {response.reason}\r\n"
        f"Date: {http_date(int(time.time()))}\r\n"
        f"{content}"
        f"{headers}"
        f"Connection: {'keep-alive' if keep else 'close'}\r\n"
        "\r\n"
    )
    return head.encode("latin-1") + (b"" if head_only else response.body)


def address(host: str, port: int, *_: int) -> str:
    """Write the address of a socket as a URL has it: IPv6 in brackets (RFC 3986 §3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def receive(connection: Connection) -> None:
    """Add to the buffer what has arrived by now, even if it is one byte; raise if nothing will."""
    chunk = connection.recv(connection.deadline - time.monotonic())
    if not chunk:
        raise ConnectionError("the client left before the request was whole")
    connection.buffer += chunk


def read_head(connection: Connection) -> bytes:
    """Read a head up to its blank line; what follows stays in the buffer (RFC 9112 §2.1)."""
    while not (end := BLANK_LINE.search(connection.buffer, 0, MAX_HEAD)):
        if connection.buffer.startswith(b"\x16"):  # a TLS handshake
            raise HTTPError(400, "this port speaks HTTP without TLS: use http://, not https://")
        if len(connection.buffer) >= MAX_HEAD:
            status = 431 if 0 <= connection.buffer.find(b"\n") <= MAX_LINE else 414
            raise HTTPError(status, f"a head may have {MAX_HEAD} bytes, a line {MAX_LINE}")
        receive(connection)
    head = read_exactly(connection, end.end())
    return head.removeprefix(b"\r\n").removesuffix(b"\r\n\r\n")  # a blank line before it may be


def read_exactly(connection: Connection, count: int) -> bytes:
    """Read so many bytes; what follows them stays in the buffer."""
    while len(connection.buffer) < count:
        receive(connection)
    data = bytes(connection.buffer[:count])
    del connection.buffer[:count]
    return data


def read_line(connection: Connection) -> str:
    """Read a line, and drop its CR LF."""
    while (end := connection.buffer.find(b"\n")) < 0:
        if len(connection.buffer) > MAX_LINE:
            raise HTTPError(400, f"a line may have {MAX_LINE} bytes, and this one has more")
        receive(connection)
    return read_exactly(connection, end + 1).decode("latin-1").removesuffix("\r\n")


def read_chunks(connection: Connection) -> bytes:
    """Put a body together from its chunks, and drop the trailers after it (RFC 9112 §7.1)."""
    body, dropped = bytearray(), 0
    while True:
        size, extension = validate(CHUNK_LINE, read_line(connection), "the size of a chunk")
        dropped = count_dropped(dropped, extension)
        if int(size, 16) == 0:
            break
        if len(body) + int(size, 16) > MAX_BODY:
            raise HTTPError(413, f"a body may have {MAX_BODY} bytes, and this one has more")
        body += read_exactly(connection, int(size, 16))
        if read_exactly(connection, 2) != b"\r\n":
            raise HTTPError(400, f"needed CR LF after a chunk of {size} bytes")
    while line := read_line(connection):
        dropped = count_dropped(dropped, line)
        parse_headers([line])
    return bytes(body)


def count_dropped(dropped: int, text: str) -> int:
    """Add up what is read and not kept; a client may send no more of it than a head has."""
    if dropped + len(text) > MAX_HEAD:
        raise HTTPError(431, f"extensions and trailers may have {MAX_HEAD} bytes")
    return dropped + len(text)


def body_length(request: Request) -> int | None:
    """Return how long a body is, None for one in chunks; reject a doubtful one (RFC 9112 §6.3)."""
    length = request.headers.get("content-length", "0")
    if not length.isdecimal():
        raise HTTPError(400, f"needed a Content-Length in digits, got {length[:80]!a}")
    if len(length) > 99 or int(length) > MAX_BODY:  # int() fails on thousands of digits
        raise HTTPError(413, f"a body may have {MAX_BODY} bytes, this one has {length[:80]}")
    coding = request.headers.get("transfer-encoding")
    if coding is None:
        return int(length)
    if "content-length" in request.headers or request.version == "HTTP/1.0":
        raise HTTPError(400, "needed no Content-Length beside Transfer-Encoding, and HTTP/1.1")
    *others, last = split_list(coding.lower())
    if last != "chunked" or "chunked" in others:
        raise HTTPError(400, f"needed 'chunked' last and once, got {coding[:80]!a}")
    if others:
        raise HTTPError(501, f"needed 'Transfer-Encoding: chunked', got {coding[:80]!a}")
    return None


def expects_continue(request: Request) -> bool:
    """Tell whether the client waits for 100 Continue before the body (RFC 9110 §10.1.1)."""
    if "expect" not in request.headers or request.version == "HTTP/1.0":
        return False
    expected = request.headers["expect"]
    if set(split_list(expected.lower())) - {"", "100-continue"}:
        raise HTTPError(417, f"needed 'Expect: 100-continue', got {expected[:80]!a}")
    return True


def read_request(connection: Connection, head: bytes) -> Request:
    """Understand a head, and read the body that it announces."""
    request = parse_request(head)
    expected, length = expects_continue(request), body_length(request)
    if length == 0:
        return request
    connection.deadline = connection.arrived + BODY_SECONDS
    if expected and not connection.buffer:
        connection.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = read_chunks(connection) if length is None else read_exactly(connection, length)
    return replace(request, body=body)


def parse_request(head: bytes) -> Request:
    """Understand a head: the request line, then one header per line (RFC 9112 §3)."""
    line, *lines = head.decode("latin-1").split("\r\n")
    if len(line) > MAX_LINE:
        raise HTTPError(414, f"a request line may have {MAX_LINE} bytes, this one has {len(line)}")
    if len(lines) > MAX_FIELDS:
        raise HTTPError(431, f"a head may have {MAX_FIELDS} fields, this one has {len(lines)}")
    method, target, major, minor = validate(REQUEST_LINE, line, "'METHOD TARGET HTTP/1.1'")
    if major != "1":
        raise HTTPError(505, f"needed HTTP/1.1, got HTTP/{major}.{minor}")
    if method not in METHODS:
        raise HTTPError(501, f"needed one of {', '.join(METHODS)}, got {method[:80]}")
    version = "HTTP/1.0" if minor == "0" else "HTTP/1.1"  # 1.2 would be read as 1.1
    headers = parse_headers(lines)
    if "host" not in headers and version == "HTTP/1.1":
        raise HTTPError(400, "needed a Host, got none")
    validate(HOST_PORT, headers.get("host", ""), "one Host: a name, and perhaps a port")
    authority, path, query = parse_target(method, target)
    if authority:  # what the target says replaces the header (RFC 9112 §3.2.2)
        headers["host"] = authority
    fields = parse_qs(query, keep_blank_values=True) if query else {}
    return Request(method, target, path, fields, version, headers)


def parse_target(method: str, target: str) -> tuple[str, str, str]:
    """Split a target into authority, path and query (RFC 9112 §3.2)."""
    authority, path, query = validate(TARGET, target, "a target such as /path?query")
    if target == "*" and method != "OPTIONS":
        raise HTTPError(400, f"the target * goes with OPTIONS, not with {method}")
    if not path:
        path = "*" if method == "OPTIONS" else "/"
    return authority, unquote(path), query


def parse_headers(lines: list[str]) -> dict[str, str]:
    """Give each name its value; if it comes twice, both, joined by a comma (RFC 9110 §5.3)."""
    headers: dict[str, str] = {}
    for line in lines:
        name, value = validate(FIELD_LINE, line, "'Name: value'")
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


def lookup_path(path: str) -> Path | None:
    """Find the file or folder of a path; None for none, or for one outside DOCUMENT_ROOT."""
    name = path.removeprefix("/static").lstrip("/")
    wanted = DOCUMENT_ROOT / name / "index.html" if path.endswith("/") else DOCUMENT_ROOT / name
    with suppress(OSError, RuntimeError):  # a name may be too long, links may go in a circle
        file = wanted.resolve()
        inside = file.is_relative_to(DOCUMENT_ROOT) and not set(name) & set("\\:")
        if inside and (file.is_file() or file.is_dir()) and os.access(file, os.R_OK):
            return file
    return None


def media_type(file: Path) -> str:
    """Tell what a file holds by the end of its name (RFC 9110 §8.3.1)."""
    media, packed = MEDIA_TYPES.guess_type(file.name)
    if packed or not media:
        return "application/octet-stream"
    text = media.startswith("text/") or media.endswith(("javascript", "json", "xml"))
    return f"{media}; charset=utf-8" if text else media


def etag_of(status: os.stat_result) -> str:
    """Name what a file holds: it gets another name when it is written (RFC 9110 §8.8.3)."""
    return f'"{status.st_mtime_ns:x}-{status.st_size:x}"'


def parse_date(text: str) -> int | None:
    """Read a date in one of the three forms; None for what is none (RFC 9110 §5.6.7)."""
    for form, grammar in DATES.items():
        with suppress(ValueError):  # on a 30th of February
            if re.fullmatch(grammar, text):
                return timegm(time.strptime(text, form))
    return None


def precondition_failed(request: Request, etag: str, modified: int) -> bool:
    """Tell whether the client wants only a version that is gone (RFC 9110 §13.1.1, §13.1.4)."""
    if (tags := request.headers.get("if-match")) is not None:
        return tags != "*" and etag not in split_list(tags)
    date = parse_date(request.headers.get("if-unmodified-since", ""))
    return date is not None and modified > date


def is_not_modified(request: Request, etag: str, modified: int) -> bool:
    """Tell whether the client has this version already (RFC 9110 §13.1.2, §13.1.3)."""
    if (tags := request.headers.get("if-none-match")) is not None:
        return tags == "*" or etag in re.findall(r'"[!#-~\x80-\xff]*"', tags)
    date = parse_date(request.headers.get("if-modified-since", ""))
    return date is not None and modified <= date


def parse_range(header: str, size: int) -> list[range]:
    """List the ranges that are asked for; none if the header is to be ignored (RFC 9110 §14.2)."""
    unit, _, parts = header.partition("=")
    ranges: list[range] = []
    if unit.lower() != "bytes" or not size:  # an empty file has no parts
        return []
    for part in split_list(parts):
        match = re.fullmatch("([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18})", part)
        if not match:
            return []
        first, last, suffix = match.groups("")
        if last and int(last) < int(first):
            return []
        start = max(0, size - int(suffix)) if suffix else int(first)
        ranges.append(range(start, min(size, int(last) + 1) if last else size))
    too_much = len(ranges) > MAX_RANGES or sum(map(len, ranges)) > size
    return [] if too_much else ranges


def multipart_byteranges(media: str, extracts: list[Extract]) -> Response:
    """Put several parts of a file in one body, each with a head of its own (RFC 9110 §14.6)."""
    boundary = secrets.token_hex(16)
    pieces: list[bytes | Extract] = []
    for extract in extracts:
        lines = f"Content-Type: {media}\r\nContent-Range: {extract.content_range}\r\n"
        pieces += [f"--{boundary}\r\n{lines}\r\n".encode(), extract, b"\r\n"]
    pieces.append(f"--{boundary}--\r\n".encode())
    return Response(206, f"multipart/byteranges; boundary={boundary}", b"", pieces=tuple(pieces))


def file_response(request: Request, file: Path) -> Response:
    """Respond with a file, or with what the client lacks of it (RFC 9110 §13.2.2)."""
    status, media = file.stat(), media_type(file)
    size, modified, etag = status.st_size, int(status.st_mtime), etag_of(status)
    date = http_date(modified)
    headers = {"ETag": etag, "Last-Modified": date, "Accept-Ranges": "bytes"}
    if precondition_failed(request, etag, modified):
        return plain(412, "the file is not what it was: get it again")
    if is_not_modified(request, etag, modified):
        return Response(304, media, b"", headers)
    ranges = []
    if request.method == "GET" and request.headers.get("if-range", etag) in (etag, date):
        ranges = parse_range(request.headers.get("range", ""), size)
    if not ranges:
        return Response(200, media, b"", headers, (Extract(file, etag, range(size)),))
    extracts = [
        Extract(file, etag, part, f"bytes {part.start}-{part.stop - 1}/{size}")
        for part in ranges
        if part  # one that is empty begins after the end of the file
    ]
    if not extracts:
        return plain(416, f"there are {size} bytes", **{"Content-Range": f"bytes */{size}"})
    if len(extracts) > 1:
        return replace(multipart_byteranges(media, extracts), headers=headers)
    headers["Content-Range"] = extracts[0].content_range
    return Response(206, media, b"", headers, (extracts[0],))


def static(request: Request) -> Response:
    """Respond with what a path below /static/ means, or say where it is."""
    file = lookup_path(request.path)
    if not file:
        return page("404.html", 404)
    if file.is_dir():
        query = "".join(request.target.partition("?")[1:])
        return plain(301, "a folder ends in a slash", Location=f"{quote(request.path)}/{query}")
    return file_response(request, file)


Handler = Callable[[Request], Response]
ROUTES: dict[tuple[str, str], Handler] = {
    ("GET", "/"): lambda request: page("hello.html"),
    ("GET", "/about"): lambda request: page("about.html"),
    ("GET", "/favicon.ico"): lambda request: page("icon.svg", media="image/svg+xml"),
    ("GET", "/health"): lambda request: Response(200, "application/json", b'{"status": "ok"}'),
    ("GET", "/hello"): hello,
    ("GET", "/sleep"): sleep,
    ("GET", "/static/"): static,
    ("POST", "/echo"): lambda request: Response(200, "application/octet-stream", request.body),
}


def route_path(path: str) -> str:
    """Return the path of a route: a route that ends in a slash is for all paths below it."""
    paths = {known for _, known in ROUTES}
    folder = "/".join(path.split("/")[:2]) + "/"
    return folder if folder in paths and path not in paths else path


def route(request: Request) -> Response:
    """Look up the handler: 404 where the path has none, 405 where it has other methods."""
    method = "GET" if request.method == "HEAD" else request.method
    path = request.path if (method, request.path) in ROUTES else route_path(request.path)
    if handler := ROUTES.get((method, path)):
        return handler(request)
    methods = {method for method, known in ROUTES if path in (known, "*")}
    if not methods:
        return page("404.html", 404)
    if "GET" in methods:
        methods.add("HEAD")
    allow = ", ".join(sorted(methods | {"OPTIONS"}))
    if request.method == "OPTIONS":
        return Response(204, "text/plain", b"", {"Allow": allow})
    return plain(405, f"{request.path} has no {request.method}", Allow=allow)


def check_headers(response: Response) -> None:
    """Raise ValueError for a header that a client could take for two, or for none."""
    for name, value in {"Content-Type": response.content_type, **response.headers}.items():
        if not FIELD_LINE.fullmatch(f"{name}: {value}"):
            raise ValueError(f"this is no header: {name}: {value!a:.80}")


def with_header(response: Response, name: str, value: str) -> Response:
    """Add a header to a response, or one more value to a header that it has."""
    values = filter(None, (response.headers.get(name), value))
    return replace(response, headers=response.headers | {name: ", ".join(values)})


def access_log(handler: Handler, request: Request) -> Response:
    """Write a line for each response, in the Combined Log Format that other programs read."""
    response = handler(request)
    words = " ".join(filter(None, (request.method, request.target, request.version)))
    size = 0 if words.startswith("HEAD ") else size_of(response)
    client = [request.headers.get(name, "-") for name in ("referer", "user-agent")]
    asked, *known = [re.sub(r"[^ !#-\[\]-~]", as_hex, text) for text in (words, *client)]
    line = '%s - - [%s] "%s" %d %s "%s" "%s"'
    now = time.strftime("%d/%b/%Y:%H:%M:%S %z")
    access.info(line, request.peer, now, asked, response.status, size or "-", *known)
    return response


def as_hex(letter: re.Match[str]) -> str:
    r"""Write a letter as \x22, so that no text can end a quotation or a line of the log."""
    return f"\\x{ord(letter[0]):02x}"


def size_of(response: Response) -> int:
    """Count the bytes that a response consists of."""
    return len(response.body) + sum(map(len, response.pieces))


def request_id(handler: Handler, request: Request) -> Response:
    """Give a request a name to find it by: the one that it brings, if that is well formed."""
    name = request.headers.get("x-request-id", "")
    if not re.fullmatch("[0-9A-Za-z._-]{1,64}", name):
        name = secrets.token_hex(8)
    request = replace(request, headers=request.headers | {"x-request-id": name})
    return with_header(handler(request), "X-Request-Id", name)


def error_pages(handler: Handler, request: Request) -> Response:
    """Respond whatever happens, to a browser with a page; the reason stays in the log."""
    name = request.headers.get("x-request-id", "-")
    try:
        response = handler(request)
        check_headers(response)
    except HTTPError as error:
        response = plain(error.status, error.reason)
    except Exception:
        log.exception("the handler of %s failed, request %s", request.target, name)
        response = plain(500, "the server failed, and its log says why")
    if response.status < 400 or not response.content_type.startswith("text/plain"):
        return response
    response = with_header(response, "Vary", "Accept")
    packed = "Content-Encoding" in response.headers  # and so no text any more
    if packed or "text/html" not in request.headers.get("accept", ""):
        return response
    title, words = HTTPStatus(response.status).phrase, escape(response.body.decode())
    error_page = Template((STATIC / "error.html").read_text("utf-8"))
    body = error_page.substitute(status=response.status, title=title, words=words, name=name)
    return replace(response, content_type="text/html; charset=utf-8", body=body.encode())


def accepted_codings(request: Request) -> tuple[float, float]:
    """Weigh gzip, and no coding at all, by Accept-Encoding (RFC 9110 §12.5.3)."""
    header = request.headers.get("accept-encoding", "").lower()
    weights = {coding: float(weight or 1) for coding, weight in CODING.findall(header)}
    others = weights.get("*", 0.0)
    least = others if "*" in weights else 0.001  # acceptable, but below all that is named
    return weights.get("gzip", others), weights.get("identity", least)


def compress(handler: Handler, request: Request) -> Response:
    """Send text by gzip to a client that prefers it (RFC 9110 §8.4)."""
    packed, bare = accepted_codings(request)
    if not packed and not bare:
        words = "needed an Accept-Encoding that takes gzip or identity"
        return plain(406, words, Vary="Accept-Encoding")
    tags = request.headers.get("if-none-match", "")
    conditions = {"if-match", "if-none-match"} & request.headers.keys()
    if packed >= bare:  # a client that knows the packed file knows the file
        known = {name: request.headers[name].replace('-gzip"', '"') for name in conditions}
        request = replace(request, headers=request.headers | known)
    response = handler(request)
    text = re.match("(text|multipart)/|application/(json|javascript|xml)", response.content_type)
    if response.status == 204 or (bare and not text):
        return response
    response = with_header(response, "Vary", "Accept-Encoding")
    if packed < bare or response.status == 206:
        return response
    if response.status == 304:
        named = with_tag(response)
        return named if named.headers.get("ETag", "-gzip") in tags else response
    if not (MIN_GZIP if bare else 0) <= size_of(response) <= MAX_GZIP:
        return response
    body = gzip.compress(response.body + b"".join(map(read_piece, response.pieces)))
    response = with_header(with_tag(response), "Content-Encoding", "gzip")
    return replace(response, body=body, pieces=())


def with_tag(response: Response) -> Response:
    """Name what is packed by a tag of its own: it is not the same bytes (RFC 9110 §8.8.3.3)."""
    tag = response.headers.get("ETag", "")
    headers = {"ETag": f'{tag[:-1]}-gzip"'} if tag else {}
    return replace(response, headers=response.headers | headers)


def read_piece(piece: bytes | Extract) -> bytes:
    """Read a piece of a response into memory."""
    if isinstance(piece, bytes):
        return piece
    with piece.file.open("rb") as file:
        if etag_of(os.fstat(file.fileno())) != piece.etag:
            raise OSError(f"{piece.file.name} is not what it was")
        return file.read()[piece.bytes.start : piece.bytes.stop]


def timed(name: str, handler: Handler, request: Request) -> Response:
    """Say how many milliseconds a handler took, with all that is inside of it (Server-Timing)."""
    start = time.perf_counter()
    response = handler(request)
    took = f"{name};dur={(time.perf_counter() - start) * 1000:.3f}"
    return with_header(response, "Server-Timing", took)


MIDDLEWARE = (access_log, request_id, error_pages, compress)  # from the outside to the inside


@lru_cache  # once for a handler, and not for each request
def wrap(handler: Handler) -> Handler:
    """Put all middleware around a handler: the first sees a request first, its response last."""
    handler = partial(timed, "handler", handler)
    for middleware in reversed(MIDDLEWARE):
        handler = partial(timed, middleware.__name__, partial(middleware, handler))
    return handler


def respond(request: Request) -> Response:
    """Return a response, whatever happens, by way of all middleware."""
    return wrap(route)(request)


def rejected(connection: Connection, head: bytes, response: Response) -> Response:
    """Let an error response pass the middleware, though there is no request but a first line."""
    line = head.partition(b"\r\n")[0][:MAX_LINE].decode("latin-1")
    request = Request("", line, "", {}, "", {}, peer=connection.peer)
    return wrap(lambda request: response)(request)


def keep_alive(request: Request) -> bool:
    """Tell whether the client can send a further request (RFC 9112 §9.3)."""
    options = split_list(request.headers.get("connection", "").lower())
    return "close" not in options and (request.version == "HTTP/1.1" or "keep-alive" in options)


def wait_for_request(connection: Connection, server: Server) -> bool:
    """Wait for a request to begin; a further one has little time if others wait."""
    seconds = connection.arrived + IDLE_SECONDS - time.monotonic()
    if connection.requests:
        server.idle.add(connection)  # and then look at `stopping`: stop_idle does the reverse
        if server.stopping:
            seconds = 0
        elif server.pool.saturated():
            seconds = TURN_SECONDS
        else:
            seconds = IDLE_SECONDS
    try:
        if not connection.buffer:
            connection.buffer += connection.recv(seconds)
    finally:
        server.idle.discard(connection)
    if connection.requests and seconds == IDLE_SECONDS:
        connection.arrived = time.monotonic()
    connection.deadline = connection.arrived + HEAD_SECONDS
    return bool(connection.buffer)


def send(connection: Connection, piece: bytes | Extract) -> None:
    """Send some bytes, or an extract of a file, which never is in memory as a whole."""
    if isinstance(piece, bytes):
        connection.sock.sendall(piece)  # blocking
    elif piece:
        with piece.file.open("rb") as file:
            same = etag_of(os.fstat(file.fileno())) == piece.etag
            sent = connection.sock.sendfile(file, piece.bytes.start, len(piece)) if same else 0
        if sent < len(piece):
            raise ConnectionError(f"{piece.file.name} is not what it was")


def close_later(connection: Connection, server: Server) -> None:
    """Leave a lingering close to another thread, so that no client waits for it."""
    connection.buffer.clear()
    connection.deadline = time.monotonic() + LINGER_SECONDS
    server.closers.execute(partial(lingering_close, connection))


def lingering_close(connection: Connection) -> None:
    """Close so that the last response arrives: end it, and read what comes (RFC 9112 §9.6)."""
    with connection.sock, suppress(OSError):
        connection.sock.shutdown(socket.SHUT_WR)
        while (seconds := connection.deadline - time.monotonic()) > 0 and connection.recv(seconds):
            pass


def reject(connection: Connection, server: Server) -> None:
    """Say that the queue is full, and when to try again (RFC 9110 §15.6.4)."""
    busy = plain(503, "too many connections wait already", **{"Retry-After": "1"})
    busy = rejected(connection, b"", busy)
    with suppress(OSError):
        connection.sock.sendall(build_response(busy, keep=False, head_only=False))
    close_later(connection, server)


def handle_request(connection: Connection, server: Server) -> bool:
    """Read one request, send its response, log both in a line; say whether another may follow."""
    head, line, keep = b"", "rejected:", False
    try:
        head = read_head(connection)
        request = replace(read_request(connection, head), peer=connection.peer)
        connection.requests += 1
        line = f"{request.method} {request.target}"
        response = respond(request)
        keep = keep_alive(request) and not server.stopping
    except HTTPError as error:
        response = plain(error.status, error.reason)
    except TimeoutError:
        response = plain(408, "the request was not whole in time")
    if line == "rejected:":
        response = rejected(connection, head or bytes(connection.buffer), response)
    log.info("connection %d: %s %d", connection.number, line, response.status)
    head_only = (head or connection.buffer).startswith(b"HEAD ")
    data = build_response(response, keep, head_only)
    large = len(data) >= 65536 or response.pieces
    connection.set_timeout(SEND_SECONDS if large else IDLE_SECONDS)
    connection.sock.sendall(data)  # blocking
    for piece in () if head_only else response.pieces:
        send(connection, piece)
    return keep


def handle_connection(connection: Connection, server: Server) -> None:
    """Serve one request after another; while other connections wait, each has its turn."""
    try:
        while wait_for_request(connection, server) and handle_request(connection, server):
            connection.arrived = time.monotonic()
            if server.pool.saturated():
                server.pool.execute(partial(handle_connection, connection, server))
                return
    except OSError as error:  # a client may leave at any moment
        log.info("connection %d: %s", connection.number, error)
    close_later(connection, server)


class ThreadPool:
    """A fixed number of workers, threads that take their jobs from one queue."""

    def __init__(self, size: int, role: str = "worker") -> None:
        """Start `size` workers."""
        self.jobs: queue.Queue[Job | None] = queue.Queue()
        names = [f"{role}-{number}" for number in range(1, size + 1)]
        self.workers = [threading.Thread(target=self.work, name=name) for name in names]
        for worker in self.workers:
            worker.start()

    def execute(self, job: Job) -> None:
        """Queue a job for the next worker that is free."""
        self.jobs.put(job)

    def saturated(self) -> bool:
        """Tell whether there are more jobs than workers, those that are being done included."""
        return self.jobs.unfinished_tasks > len(self.workers)

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
            self.jobs.task_done()
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
    """Queue every connection for which there is room, until the listener is closed."""
    number = 0
    while listener.fileno() >= 0:  # which is -1 once it is closed
        try:
            sock, peer = listener.accept()  # blocking
        except OSError:  # no client for a second, the client has left, the listener is closed
            time.sleep(0.01)  # or no descriptor is left
            continue
        number += 1
        log.info("connection %d from %s", number, address(*peer))
        connection = Connection(sock, number, peer[0])
        if server.pool.jobs.qsize() >= MAX_QUEUE:
            reject(connection, server)
        else:
            server.pool.execute(partial(handle_connection, connection, server))


def listen() -> socket.socket:
    """Claim HOST:PORT, or end the program with the reason."""
    family = socket.AF_INET6 if ":" in HOST else socket.AF_INET
    try:
        listener = socket.create_server((HOST, int(PORT)), family=family, backlog=1024)
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
    access.addHandler(logging.StreamHandler())  # to stderr, each line as it is
    access.propagate = False
    listener = listen()
    server = Server(ThreadPool(WORKERS), ThreadPool(4, role="closer"))
    stop_on_signal(listener, server)
    print(f"Listening on http://{address(*listener.getsockname())}", flush=True)
    serve(listener, server)
    log.info("the listener is closed, and the queue will be finished")
    stop_idle(server)
    if not (server.pool.shut_down(GRACE_SECONDS) and server.closers.shut_down(LINGER_SECONDS + 1)):
        log.warning("GRACE_SECONDS=%d are over, and the rest is dropped", GRACE_SECONDS)
        os._exit(0)  # without waiting for the workers that are left


if __name__ == "__main__":
    main()
