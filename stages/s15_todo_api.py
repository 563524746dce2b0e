"""python -m stages.s15_todo_api: what is answered is kept, whoever else writes.

Adds: a to-do list as JSON, in a database that survives a crash, with tags against lost updates.
Try:  http://127.0.0.1:7878/todo in a browser, or curl -i http://127.0.0.1:7878/todos
Flaw: what all answers need, such as a log or gzip, every handler would have to do again.
"""

import json
import logging
import os
import queue
import re
import select
import selectors
import signal
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
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
GRACE_SECONDS = setting("GRACE_SECONDS", 10, least=0, most=3600)
IDLE_SECONDS = setting("IDLE_SECONDS", 5, least=0, most=3600)
HEAD_SECONDS = setting("HEAD_SECONDS", 10, least=1, most=3600)  # for the whole head
BODY_SECONDS = setting("BODY_SECONDS", 30, least=1, most=3600)  # for the whole body
SEND_SECONDS = setting("SEND_SECONDS", 30, least=1, most=3600)  # to take what is sent
LINGER_SECONDS = setting("LINGER_SECONDS", 2, least=0, most=3600)
BUSY_SECONDS = setting("BUSY_SECONDS", 5, least=0, most=3600)  # to wait for other writers
STATIC = Path(__file__).resolve().parent.parent / "static"
DATABASE = Path(os.environ.get("DATABASE") or STATIC.parent / "todos.db").resolve()
LOG_FORMAT = "%(relativeCreated)7.0f ms  %(threadName)-14s  %(message)s"
MAX_QUEUE = setting("MAX_QUEUE", 300, least=1, most=100_000)  # connections
MAX_FIELDS = setting("MAX_FIELDS", 100, least=1, most=10_000)
MAX_LINE = setting("MAX_LINE", 8192, least=100, most=10**8)  # bytes
MAX_HEAD = setting("MAX_HEAD", 65536, least=100, most=10**8)  # bytes
MAX_BODY = setting("MAX_BODY", 2**20, least=0, most=10**8)  # bytes
MAX_TODOS = setting("MAX_TODOS", 10_000, least=1, most=10**8)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")

# The grammar, by its names in RFC 3986, RFC 9110 and RFC 9112. Read as Latin-1, a byte is a letter.
TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - no password
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
CHUNK_LINE = re.compile(rf"([0-9A-Fa-f]+)(?:{CHUNK_EXT})*")
BLANK_LINE = re.compile(rb"\n\r?\n")

SCHEMA = """PRAGMA journal_mode = WAL;  -- those who read do not wait for a writer
CREATE TABLE IF NOT EXISTS todos (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    title TEXT NOT NULL,
    done INTEGER NOT NULL,
    version INTEGER NOT NULL DEFAULT 1
)"""

log = logging.getLogger(__name__)
here = threading.local()  # what each thread has for itself

Job = Callable[[], object]
Todo = dict[str, object]  # by the names of the table's columns


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

    def __post_init__(self) -> None:
        """Raise ValueError for a header that a caller could take for two, or for none."""
        for name, value in {"Content-Type": self.content_type, **self.headers}.items():
            if not FIELD_LINE.fullmatch(f"{name}: {value}"):
                raise ValueError(f"this is no header: {name}: {value!a:.80}")


class Buffer(bytearray):
    """What has arrived and has not been taken yet; what is needed has to come by the deadline."""

    deadline = 0.0  # by time.monotonic()


class HTTPError(Exception):
    """A request is refused: `raise HTTPError(status, reason)`, the reason in words."""


def matched(rule: re.Pattern[str], text: str, needed: str) -> tuple[str, ...]:
    """Hold a text to a rule of the grammar, and return its parts; refuse what breaks the rule."""
    if not (match := rule.fullmatch(text)):
        raise HTTPError(400, f"needed {needed}, got {text[:80]!a}")
    return match.groups("")


def build_response(response: Response, keep: bool, bodiless: bool) -> bytes:
    """Lay out an answer: status line, headers, blank line, body (RFC 9112 §2.1, §6.3)."""
    content = f"Content-Type: {response.content_type}\r\nContent-Length: {len(response.body)}\r\n"
    if response.status in (204, 304):
        content, bodiless = "", True
    headers = "".join(f"{name}: {value}\r\n" for name, value in response.headers.items())
    head = (
        f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}\r\n"
        f"Date: {time.strftime('%a, %d %b %Y %H:%M:%S GMT', time.gmtime())}\r\n"
        f"{content}"
        f"{headers}"
        f"Connection: {'keep-alive' if keep else 'close'}\r\n"
        "\r\n"
    )
    return head.encode("latin-1") + (b"" if bodiless else response.body)


def receive(connection: socket.socket, buffer: Buffer) -> None:
    """Add to the buffer what has arrived by now, even if it is one byte; raise if nothing will."""
    connection.settimeout(max(0.001, buffer.deadline - time.monotonic()))
    try:
        chunk = connection.recv(65536)  # blocking
    except TimeoutError:
        raise HTTPError(408, "the request was not whole in time") from None
    finally:
        connection.settimeout(SEND_SECONDS)
    if not chunk:
        raise ConnectionError("the caller left before the request was whole")
    buffer += chunk


def read_head(connection: socket.socket, buffer: Buffer) -> bytes:
    """Take from the buffer all up to the blank line that ends a head (RFC 9112 §2.1)."""
    while not (end := BLANK_LINE.search(buffer, 0, MAX_HEAD)):
        if len(buffer) >= MAX_HEAD:
            status = 431 if 0 <= buffer.find(b"\n") <= MAX_LINE else 414
            raise HTTPError(status, f"a head may have {MAX_HEAD} bytes, a line {MAX_LINE}")
        receive(connection, buffer)
    head = take(connection, buffer, end.end())  # a blank line before it is forgiven (RFC 9112 §2.2)
    return head.removeprefix(b"\r\n").removesuffix(b"\r\n\r\n")


def take(connection: socket.socket, buffer: Buffer, count: int) -> bytes:
    """Take so many bytes from the buffer, and leave what stands behind: the next request."""
    while len(buffer) < count:
        receive(connection, buffer)
    taken = bytes(buffer[:count])
    del buffer[:count]
    return taken


def read_line(connection: socket.socket, buffer: Buffer) -> str:
    """Take a line from the buffer, without its CR LF."""
    while (end := buffer.find(b"\n")) < 0:
        if len(buffer) > MAX_LINE:
            raise HTTPError(400, f"a line may have {MAX_LINE} bytes, and this one has more")
        receive(connection, buffer)
    return take(connection, buffer, end + 1).decode("latin-1").removesuffix("\r\n")


def read_chunks(connection: socket.socket, buffer: Buffer) -> bytes:
    """Put a body together from its chunks, and drop the trailers behind it (RFC 9112 §7.1)."""
    body = bytearray()
    while size := chunk_size(read_line(connection, buffer)):
        if len(body) + size > MAX_BODY:
            raise HTTPError(413, f"a body may have {MAX_BODY} bytes, and this one has more")
        body += take(connection, buffer, size)
        if take(connection, buffer, 2) != b"\r\n":
            raise HTTPError(400, f"needed CR LF behind a chunk of {size} bytes")
    while line := read_line(connection, buffer):
        parse_headers([line])
    return bytes(body)


def chunk_size(line: str) -> int:
    """Understand the line before a chunk: a size in hexadecimal, and what we need not know."""
    return int(matched(CHUNK_LINE, line, "the size of a chunk")[0], 16)


def body_length(request: Request, most: int) -> int | None:
    """Say how long a body is, None for one in chunks; refuse a doubtful one (RFC 9112 §6.3)."""
    length = request.headers.get("content-length", "0")
    if not length.isdecimal():
        raise HTTPError(400, f"needed a Content-Length in digits, got {length[:80]!a}")
    if len(length) > 99 or int(length) > most:  # int() fails on thousands of digits
        raise HTTPError(413, f"a body may have {most} bytes, this one has {length[:80]}")
    if (coding := request.headers.get("transfer-encoding")) is None:
        return int(length)
    if "content-length" in request.headers or request.version == "HTTP/1.0":
        raise HTTPError(400, "needed no Content-Length beside Transfer-Encoding, and HTTP/1.1")
    codings = listed(coding.lower())
    if codings != ["chunked"]:
        status = 400 if "chunked" in codings[:-1] or codings[-1] != "chunked" else 501
        raise HTTPError(status, f"needed 'Transfer-Encoding: chunked', got {coding[:80]!a}")
    return None


def read_request(connection: socket.socket, buffer: Buffer, head: bytes) -> Request:
    """Understand a head, and take from the buffer the body that it announces."""
    request = parse_request(head)
    expected = request.headers.get("expect", "").lower() if request.version == "HTTP/1.1" else ""
    if set(listed(expected)) - {"", "100-continue"}:
        raise HTTPError(417, f"needed 'Expect: 100-continue', got {expected[:80]!a}")
    if (length := body_length(request, MAX_BODY)) == 0:
        return request
    buffer.deadline = time.monotonic() + BODY_SECONDS
    if expected and not buffer:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = read_chunks(connection, buffer) if length is None else take(connection, buffer, length)
    return replace(request, body=body)


def parse_request(head: bytes) -> Request:
    """Understand a head: the request line, then a header a line (RFC 9112 §3)."""
    line, *lines = head.decode("latin-1").split("\r\n")
    if len(line) > MAX_LINE:
        raise HTTPError(414, f"a request line may have {MAX_LINE} bytes, this one has {len(line)}")
    if len(lines) > MAX_FIELDS:
        raise HTTPError(431, f"a head may have {MAX_FIELDS} fields, this one has {len(lines)}")
    method, target, major, minor = matched(REQUEST_LINE, line, "'METHOD TARGET HTTP/1.1'")
    if major != "1":
        raise HTTPError(505, f"needed HTTP/1.1, got HTTP/{major}.{minor}")
    if method not in METHODS:
        raise HTTPError(501, f"needed one of {', '.join(METHODS)}, got {method[:80]}")
    version, headers = f"HTTP/1.{min(minor, '1')}", parse_headers(lines)
    host = headers.get("host", "" if version == "HTTP/1.0" else "no Host")
    matched(HOST_PORT, host, "one Host, and in it a name and perhaps a port")
    host, path, query = matched(TARGET, target, "a target such as /path?query")
    if target == "*" and method != "OPTIONS":
        raise HTTPError(400, f"the target * goes with OPTIONS, not with {method}")
    if host:  # what the target says outdoes the header (RFC 9112 §3.2.2)
        headers["host"] = host
    path = unquote(path) or ("*" if method == "OPTIONS" else "/")
    fields = parse_qs(query, keep_blank_values=True)
    return Request(method, target, path, fields, version, headers)


def parse_headers(lines: list[str]) -> dict[str, str]:
    """Give each name its value; if it comes twice, both, joined by a comma (RFC 9110 §5.3)."""
    headers: dict[str, str] = {}
    for line in lines:
        name, value = matched(FIELD_LINE, line, "'Name: value'")
        name, value = name.lower(), value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def listed(value: str) -> list[str]:
    """Take a header apart that is a list, at its commas (RFC 9110 §5.6.1)."""
    return [item.strip(" \t") for item in value.split(",")]


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


def sleep(request: Request) -> Response:
    """Take 5 seconds, or as many as `?seconds=` says."""
    seconds = request.query.get("seconds", ["5"])[0]
    if not re.fullmatch(r"[0-9]{1,2}(\.[0-9]+)?", seconds) or float(seconds) > 60:
        return plain(400, f"seconds must be a number from 0 to 60, not {seconds[:80]!a}")
    time.sleep(float(seconds))  # blocking
    return plain(200, f"slept for {seconds} seconds")


def problem(status: int, detail: str, field: str | None = None, **headers: str) -> Response:
    """Answer with what is wrong, and with which field, for a program to read (RFC 9457 §3)."""
    words = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    errors = {"errors": [{"detail": detail, "field": field}]} if field is not None else {}
    body = json.dumps(words | errors).encode()
    return Response(status, "application/problem+json", body, headers)


def show(todo: Todo, status: int = 200, **headers: str) -> Response:
    """Answer with a to-do, and with the tag that a change of it may name."""
    headers["ETag"] = f'"{todo["version"]}"'
    return Response(status, "application/json", json.dumps(todo).encode(), headers)


def database() -> sqlite3.Connection:
    """Return this thread's own connection, on which a statement is done whole or not at all."""
    if not hasattr(here, "connection"):
        connection = sqlite3.connect(DATABASE, timeout=BUSY_SECONDS, isolation_level=None)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA synchronous = FULL")  # what is done is on the disk
        here.connection = connection
    mine: sqlite3.Connection = here.connection
    return mine


def make_table() -> None:
    """Open the database, new if there is none, or end the program with the reason."""
    try:
        database().executescript(SCHEMA)
    except sqlite3.Error as error:
        sys.exit(f"cannot use DATABASE={DATABASE} ({error}): set a file that can be written")


def run(statement: str, **values: object) -> list[Todo]:
    """Run a statement; values stand beside it, and whatever is in them is never taken for SQL."""
    rows = database().execute(statement, values).fetchall()  # blocking
    return [{**row, "done": bool(row["done"])} for row in rows]


TITLE = r"(?s)(?=.*\S)[^\ud800-\udfff]{1,200}"  # half of a surrogate pair could not be stored
RULES: dict[str, tuple[str, type, str]] = {
    "title": ("a text of 1 to 200 letters, not all of them blank", str, TITLE),
    "done": ("true or false", bool, "True|False"),
}


def read_todo(request: Request, *needed: str) -> dict[str, object]:
    """Understand a to-do that comes as JSON; refuse what is missing, and what does not belong."""
    media = request.headers.get("content-type", "").partition(";")[0].strip(" \t").lower()
    if media not in ("application/json", "application/merge-patch+json"):
        raise HTTPError(415, f"needed Content-Type: application/json, got {media[:80]!a}")
    try:
        sent = json.loads(request.body.decode())
    except (ValueError, RecursionError) as error:
        raise HTTPError(400, f"needed JSON: {error}") from error
    if not isinstance(sent, dict):
        raise HTTPError(422, f"needed an object with {', '.join(RULES)}")
    for name in [*needed, *sent]:
        words, kind, rule = RULES.get(name, (f"only {', '.join(RULES)}", bool, ""))  # fits nothing
        value = sent.get(name)
        if not isinstance(value, kind) or not re.fullmatch(rule, str(value)):
            raise HTTPError(422, f"needed {words}, got {value!a:.80}", name)
    return sent


def choice(request: Request, name: str, default: str, rule: str, words: str) -> str:
    """Read what the query says of the list; refuse what does not fit."""
    text = request.query.get(name, [default])[-1]
    if not re.fullmatch(rule, text):
        raise HTTPError(422, f"needed {words}, got {text[:80]!a}", name)
    return text


def list_todos(request: Request) -> Response:
    """Show a page of the list: at most `?limit=`, behind the id `?after=`, `?done=` or not."""
    limit = int(choice(request, "limit", "20", "[1-9][0-9]?|100", "a whole number from 1 to 100"))
    after = int(choice(request, "after", "0", "[0-9]{1,18}", "a whole number of 1 to 18 digits"))
    done = choice(request, "done", "", "true|false|", "true or false")
    select = "SELECT * FROM todos WHERE id > :after AND :done IN ('', done) ORDER BY id LIMIT :most"
    found = run(select, after=after, done=done and done == "true", most=limit + 1)
    todos, more = found[:limit], len(found) > limit
    rest = f"/todos?after={todos[-1]['id']}&limit={limit}&done={done}" if more else None
    return Response(200, "application/json", json.dumps({"todos": todos, "next": rest}).encode())


def create(request: Request) -> Response:
    """Put something on the list, and say where it is."""
    sent = {"done": False} | read_todo(request, "title")
    insert = """INSERT INTO todos (title, done) SELECT :title, :done
                WHERE (SELECT count(*) FROM todos) < :most RETURNING *"""
    if not (made := run(insert, most=MAX_TODOS, **sent)):
        raise HTTPError(409, f"the list is full: {MAX_TODOS} to-dos. Delete one first")
    return show(made[0], 201, Location=f"/todos/{made[0]['id']}")


def find(request: Request) -> Todo:
    """Look up the to-do of a path; refuse one that is not as the caller knows it (If-Match)."""
    key = request.path.removeprefix("/todos/")
    known = re.fullmatch("[1-9][0-9]{0,17}", key)
    if not known or not (found := run("SELECT * FROM todos WHERE id = :id", id=int(key))):
        raise HTTPError(404, f"there is no to-do {key[:80]!a}")
    tags = request.headers.get("if-match", "*")
    if tags != "*" and f'"{found[0]["version"]}"' not in listed(tags):
        raise HTTPError(412, "somebody has changed it: get it again")
    return found[0]


def change(request: Request) -> Response:
    """Change a to-do, all of it by PUT, some of it by PATCH, in its newest version."""
    sent = read_todo(request, *RULES if request.method == "PUT" else ())
    update = """UPDATE todos SET title = :title, done = :done, version = version + 1
                WHERE id = :id AND version = :version RETURNING *"""
    while not (made := run(update, **(find(request) | sent))):
        pass  # somebody was faster: look again
    return show(made[0])


def delete(request: Request) -> Response:
    """Take a to-do off the list."""
    strike = "DELETE FROM todos WHERE id = :id AND version = :version RETURNING *"
    while not run(strike, **find(request)):
        pass  # somebody was faster: look again
    return Response(204, "text/plain", b"")


Handler = Callable[[Request], Response]
ROUTES: dict[tuple[str, str], Handler] = {
    ("GET", "/"): lambda request: page("hello.html"),
    ("GET", "/about"): lambda request: page("about.html"),
    ("GET", "/favicon.ico"): lambda request: page("icon.svg", media="image/svg+xml"),
    ("GET", "/health"): lambda request: Response(200, "application/json", b'{"status": "ok"}'),
    ("GET", "/hello"): hello,
    ("GET", "/openapi.json"): lambda request: page("openapi.json", media="application/json"),
    ("GET", "/sleep"): sleep,
    ("GET", "/todo"): lambda request: page("todo.html"),
    ("GET", "/todos"): list_todos,
    ("GET", "/todos/"): lambda request: show(find(request)),
    ("PATCH", "/todos/"): change,
    ("PUT", "/todos/"): change,
    ("DELETE", "/todos/"): delete,
    ("POST", "/todos"): create,
    ("POST", "/echo"): lambda request: Response(200, "application/octet-stream", request.body),
}


def route(request: Request) -> Response:
    """Look up the handler of a path, or of its folder: 404 for none, 405 for other methods."""
    paths, folder = {path for _, path in ROUTES}, "/".join(request.path.split("/")[:2]) + "/"
    name = folder if folder in paths and request.path not in paths else request.path
    methods = {method for method, path in ROUTES if name in (path, "*")}
    if not methods:
        return page("404.html", 404)
    if "GET" in methods:
        methods.add("HEAD")
    if request.method not in methods:
        allow = ", ".join(sorted(methods | {"OPTIONS"}))
        if request.method == "OPTIONS":
            return Response(204, "text/plain", b"", {"Allow": allow})
        return problem(405, f"{request.path} has no {request.method}", Allow=allow)
    method = "GET" if request.method == "HEAD" else request.method
    return ROUTES[method, name](request)


def respond(request: Request) -> Response:
    """Answer a request, whatever happens: a handler that fails costs its visitor a 500."""
    try:
        return route(request)
    except HTTPError as error:
        return problem(*error.args)
    except sqlite3.OperationalError as error:
        log.warning("the database cannot do %s: %s", request.target, error)
        return problem(503, "the database cannot do it now: try again")
    except Exception:
        log.exception("the handler of %s failed", request.target)
        return plain(500, "the server failed, and its log says why")


def persists(request: Request) -> bool:
    """Tell whether the caller will use the connection again (RFC 9112 §9.3)."""
    options = listed(request.headers.get("connection", "").lower())
    return "close" not in options and (request.version == "HTTP/1.1" or "keep-alive" in options)


def rings(bell: socket.socket) -> bool:
    """Tell whether the door has been closed: then somebody has let go of the bell's rope."""
    return bool(select.select([bell], [], [], 0)[0])


def begins(selector: selectors.BaseSelector, connection: socket.socket, buffer: Buffer) -> bool:
    """Wait for the next request to begin; say no after IDLE_SECONDS, or if the bell rings."""
    if not buffer:
        seconds = min(IDLE_SECONDS, buffer.deadline - time.monotonic())
        ready = [key.fileobj for key, _ in selector.select(max(0, seconds))]  # blocking
        if connection in ready:
            buffer += connection.recv(65536)
    return buffer != b""


def hang_up(connection: socket.socket, house: "House") -> None:
    """Leave the closing to an usher, so that no caller waits for it."""
    if house.ushers.jobs.qsize() < MAX_QUEUE:
        deadline = time.monotonic() + LINGER_SECONDS
        house.ushers.execute(partial(show_out, connection.dup(), deadline))


def show_out(connection: socket.socket, deadline: float) -> None:
    """Close so that the last answer arrives: say no more, and hear him out (RFC 9112 §9.6)."""
    with connection, suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        while (seconds := deadline - time.monotonic()) > 0:
            connection.settimeout(seconds)
            if not connection.recv(65536):  # blocking
                break


def turn_away(connection: socket.socket, house: "House") -> None:
    """Say that the queue is full, and when to try again (RFC 9110 §15.6.4)."""
    busy = plain(503, "too many callers wait already", **{"Retry-After": "1"})
    with connection, suppress(OSError):
        connection.sendall(build_response(busy, keep=False, bodiless=False))
        hang_up(connection, house)


def handle_request(connection: socket.socket, buffer: Buffer, house: "House", number: int) -> bool:
    """Read one request, answer it, and log both in a line; say whether another may follow."""
    head, keep = b"", False
    try:
        head = read_head(connection, buffer)
        request = read_request(connection, buffer, head)
        asked, response = f"{request.method} {request.target}", respond(request)
        keep = persists(request) and not rings(house.bell) and not house.pool.crowded()
    except HTTPError as error:
        asked, response = "refused:", plain(*error.args)
    log.info("connection %d: %s %d", number, asked, response.status)
    bodiless = (head or buffer).startswith(b"HEAD ")
    connection.sendall(build_response(response, keep, bodiless))  # blocking
    return keep


def handle_connection(
    connection: socket.socket, buffer: Buffer, house: "House", number: int
) -> None:
    """Hold one conversation, request after request, then hang up."""
    try:
        with connection, selectors.DefaultSelector() as selector:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(SEND_SECONDS)
            selector.register(connection, selectors.EVENT_READ)
            more = begins(selector, connection, buffer)  # the bell does not hurry a newcomer
            selector.register(house.bell, selectors.EVENT_READ)
            while more:
                more = handle_request(connection, buffer, house, number)
                buffer.deadline = time.monotonic() + max(IDLE_SECONDS, HEAD_SECONDS)
                more = more and begins(selector, connection, buffer)
            hang_up(connection, house)
    except OSError as error:  # a caller may vanish at any moment
        log.info("connection %d: %s", number, error)


class ThreadPool:
    """A fixed crew of workers who take their jobs from one queue."""

    def __init__(self, size: int, role: str = "worker") -> None:
        """Start `size` workers; raise ValueError for less than one."""
        if size < 1:
            raise ValueError(f"a pool needs at least 1 worker, not {size}")
        self.jobs: queue.Queue[Job | None] = queue.Queue()
        names = [f"{role}-{number}" for number in range(1, size + 1)]
        self.crew = [threading.Thread(target=self.work, name=name, daemon=True) for name in names]
        for worker in self.crew:
            worker.start()

    def execute(self, job: Job) -> None:
        """Queue a job for the next worker who is free."""
        self.jobs.put(job)

    def crowded(self) -> bool:
        """Tell whether there are more jobs than workers, those that are being done included."""
        return self.jobs.unfinished_tasks > len(self.crew)

    def work(self) -> None:
        """Do one job after another; a job that fails costs no worker."""
        while (job := self.jobs.get()) is not None:  # blocking
            try:
                job()
            except Exception:
                log.exception("a job failed")
            self.jobs.task_done()
        log.info("goes home")

    def shut_down(self, seconds: int) -> bool:
        """Let the workers finish the queue and go; say whether all did within `seconds`."""
        for _ in self.crew:
            self.jobs.put(None)
        deadline = time.monotonic() + seconds
        for worker in self.crew:
            worker.join(max(0, deadline - time.monotonic()))  # blocking
        return not any(worker.is_alive() for worker in self.crew)


@dataclass(frozen=True)
class House:
    """What all conversations share: the bell, the workers, and the ushers who show callers out."""

    bell: socket.socket
    pool: ThreadPool
    ushers: ThreadPool


def serve(listener: socket.socket, house: House) -> None:
    """Queue every caller for the crew while there is room, until the door is closed."""
    number = 0
    while listener.fileno() >= 0:  # which is -1 once it is closed
        try:
            connection, peer = listener.accept()  # blocking
        except OSError:  # nobody called for a second, the caller is gone, or the door is closed
            time.sleep(0.01)  # or no descriptor is left
            continue
        number += 1
        log.info("connection %d from %s:%d", number, *peer)
        if house.pool.jobs.qsize() >= MAX_QUEUE:
            turn_away(connection, house)
            continue
        buffer = Buffer()
        buffer.deadline = time.monotonic() + HEAD_SECONDS  # whoever arrives has to speak up
        house.pool.execute(partial(handle_connection, connection, buffer, house, number))


def listen() -> socket.socket:
    """Claim HOST:PORT, or end the program with the reason."""
    try:
        listener = socket.create_server((HOST, int(PORT)))
    except (OSError, OverflowError, ValueError) as error:
        sys.exit(f"cannot listen on HOST={HOST} PORT={PORT} ({error}): set another, or PORT=0")
    listener.settimeout(1)  # seconds: on Windows a waiting accept does not hear Ctrl-C
    return listener


def close_on_signal(listener: socket.socket, rope: socket.socket) -> None:
    """Ring, and close the door, at the first Ctrl-C or SIGTERM; a second one ends the program."""

    def close_door(*_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)  # the next one kills
        rope.close()  # whoever waits at the bell can read from it now: that nothing more will come
        listener.close()  # `accept` fails from now on, and a caller who was accepted is not lost

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, close_door)


def main() -> None:
    """Listen, say where, and serve until asked to stop: then the door, the queue, the crew."""
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    listener = listen()
    make_table()
    bell, rope = socket.socketpair()
    house = House(bell, ThreadPool(WORKERS), ThreadPool(4, role="usher"))
    close_on_signal(listener, rope)
    host, port = listener.getsockname()
    print(f"Listening on http://{host}:{port}", flush=True)
    serve(listener, house)
    log.info("the door is closed, and the queue will be finished")
    if not house.pool.shut_down(GRACE_SECONDS) or not house.ushers.shut_down(LINGER_SECONDS + 1):
        log.warning("GRACE_SECONDS=%d are over, and the rest is dropped", GRACE_SECONDS)
        os._exit(0)  # without waiting for those who are left


if __name__ == "__main__":
    main()
