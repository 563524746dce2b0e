"""python -m stages.s14_forms_and_uploads: what is sent goes to disk while it arrives.

Adds: forms, with files that need not fit into memory, and a folder that keeps those.
Try:  http://127.0.0.1:7878/uploads in a browser
Flaw: what is kept is never changed; if two changed it at once, one would lose his work.
"""

import json
import logging
import mimetypes
import os
import queue
import re
import secrets
import select
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from email.utils import formatdate, parsedate_to_datetime
from functools import partial
from html import escape
from http import HTTPStatus
from itertools import chain
from pathlib import Path
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
GRACE_SECONDS = setting("GRACE_SECONDS", 10, least=0, most=3600)
IDLE_SECONDS = setting("IDLE_SECONDS", 5, least=0, most=3600)
HEAD_SECONDS = setting("HEAD_SECONDS", 10, least=1, most=3600)  # for the whole head
BODY_SECONDS = setting("BODY_SECONDS", 30, least=1, most=3600)  # for the whole body
UPLOAD_SECONDS = setting("UPLOAD_SECONDS", 600, least=1, most=36000)  # for a form with files
SEND_SECONDS = setting("SEND_SECONDS", 30, least=1, most=3600)  # to take what is sent
LINGER_SECONDS = setting("LINGER_SECONDS", 2, least=0, most=3600)
PAGES = Path(__file__).resolve().parent.parent / "static"
STATIC = Path(os.environ.get("STATIC") or PAGES).resolve()
UPLOADS = Path(os.environ.get("UPLOADS") or PAGES.parent / "uploads").resolve()
DESK = UPLOADS / ".desk"  # what lies on it has not been kept yet
LOG_FORMAT = "%(relativeCreated)7.0f ms  %(threadName)-14s  %(message)s"
MAX_QUEUE = setting("MAX_QUEUE", 300, least=1, most=100_000)  # connections
MAX_FIELDS = setting("MAX_FIELDS", 100, least=1, most=10_000)
MAX_LINE = setting("MAX_LINE", 8192, least=100, most=10**8)  # bytes
MAX_HEAD = setting("MAX_HEAD", 65536, least=100, most=10**8)  # bytes
MAX_BODY = setting("MAX_BODY", 2**20, least=0, most=10**8)  # bytes
MAX_UPLOAD = setting("MAX_UPLOAD_MIB", 2048, least=1, most=10**6) * 2**20  # bytes
MAX_RANGES = setting("MAX_RANGES", 10, least=1, most=1000)
MEDIA_TYPES = mimetypes.MimeTypes()  # Python's own list, the same on every machine
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
PARAMETER = re.compile(rf';[ \t]*({TOKEN})=(?:"((?:[^"\\]|\\.)*)"|([^;]*))')
BLANK_LINE = re.compile(rb"\n\r?\n")

log = logging.getLogger(__name__)

Job = Callable[[], object]
Part = tuple[dict[str, str], Iterator[bytes]]  # of a form: its parameters, and what it holds


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
    parts: Iterable[Part] = ()  # of a form with files: read them all, or raise


@dataclass(frozen=True)
class Response:
    """What is answered; `headers` are those besides type, length and connection."""

    status: int
    content_type: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    pieces: "tuple[bytes | Extract, ...]" = ()  # what goes behind the body

    def __post_init__(self) -> None:
        """Raise ValueError for a header that a caller could take for two, or for none."""
        for name, value in {"Content-Type": self.content_type, **self.headers}.items():
            if not FIELD_LINE.fullmatch(f"{name}: {value}"):
                raise ValueError(f"this is no header: {name}: {value!a:.80}")


@dataclass(frozen=True)
class Extract:
    """Some bytes of a file; it is opened when they are sent, and must still be what it was."""

    file: Path
    etag: str
    bytes: range
    place: str = ""  # where they stand, as Content-Range says it (RFC 9110 §14.4)

    def __len__(self) -> int:
        """Return the number of bytes."""
        return len(self.bytes)


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
    length = len(response.body) + sum(map(len, response.pieces))
    content = f"Content-Type: {response.content_type}\r\nContent-Length: {length}\r\n"
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


def stream(connection: socket.socket, buffer: Buffer, count: int) -> Iterator[bytes]:
    """Take so many bytes from the buffer, too, but in pieces, as they arrive."""
    end = buffer.deadline
    while count:
        buffer.deadline = min(end, time.monotonic() + SEND_SECONDS)  # nor may he fall silent
        yield (piece := take(connection, buffer, min(count, len(buffer) or 1)))  # 1: wait for more
        count -= len(piece)


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
    about = parameters(request.headers, "content-type")
    large = (request.method, request.path, about[""]) == ("POST", "/uploads", "multipart/form-data")
    if (length := body_length(request, MAX_UPLOAD if large else MAX_BODY)) == 0:
        return request
    buffer.deadline = time.monotonic() + (UPLOAD_SECONDS if large and length else BODY_SECONDS)
    if expected and not buffer:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    if large:
        form = stream(connection, buffer, length) if length else [read_chunks(connection, buffer)]
        return replace(request, parts=parts(about.get("boundary", ""), form))
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


def parameters(headers: dict[str, str], name: str) -> dict[str, str]:
    """Take `value; key=token; key="text"` apart; the key of the value is "" (RFC 9110 §5.6.6)."""
    text = headers.get(name, "").encode("latin-1").decode(errors="replace")
    found = {"": text.partition(";")[0].strip(" \t").lower()}
    for key, quoted, bare in PARAMETER.findall(text):
        found[key.lower()] = bare.strip(" \t") or re.sub(r'\\(["\\])', r"\1", quoted)
    return found


def form(request: Request) -> dict[str, list[str]]:
    """Find the fields of a body that is spelled like a query, if it is one (URL Standard §5.1)."""
    kind = parameters(request.headers, "content-type")[""]
    body = request.body if kind == "application/x-www-form-urlencoded" else b""
    if body.count(b"&") >= MAX_FIELDS:
        raise HTTPError(413, f"a form may have {MAX_FIELDS} fields, and this one has more")
    return parse_qs(body.decode(errors="replace"), keep_blank_values=True)


def up_to(mark: bytes, body: Iterator[bytes], rest: bytearray) -> Iterator[bytes]:
    """Hand on what comes before a mark, piece by piece; what is behind it is left in `rest`."""
    while (end := rest.find(mark)) < 0:
        sure = max(0, len(rest) - len(mark) + 1)  # the last bytes may be the mark's first
        yield bytes(rest[:sure])
        del rest[:sure]
        if not (piece := next(body, b"")):
            raise HTTPError(400, f"needed {mark!a} in the body, and it ended")
        rest += piece
    yield bytes(rest[:end])
    del rest[: end + len(mark)]


def gather(pieces: Iterator[bytes]) -> bytes:
    """Put pieces together that have to fit into memory."""
    whole = bytearray()
    for piece in pieces:
        whole += piece
        if len(whole) > MAX_LINE:
            raise HTTPError(413, f"a field, or a part's head, may have {MAX_LINE} bytes")
    return bytes(whole)


def parts(boundary: str, form: Iterable[bytes]) -> Iterator[Part]:
    """Cut a form at its boundary; what a part holds has to be read before the next (RFC 7578)."""
    if not 1 <= len(boundary) <= 70:
        raise HTTPError(400, f"needed a boundary of 1 to 70 letters, got {boundary[:80]!a}")
    rest, mark = bytearray(b"\r\n"), f"\r\n--{boundary}".encode()
    body = chain(form, [b"\r\n"])  # so that there is a line's end behind the last boundary, too
    gather(up_to(mark, body, rest))  # what comes before the first part is not for us
    while not gather(up_to(b"\r\n", body, rest)).startswith(b"--"):
        lines = gather(up_to(b"\r\n\r\n", body, rest)).decode("latin-1")
        about = parameters(parse_headers(lines.split("\r\n")), "content-disposition")
        if "name" not in about:
            raise HTTPError(400, f"needed a Content-Disposition with a name, got {lines[:80]!a}")
        yield about, up_to(mark, body, rest)
    for _ in body:  # nor is what comes behind the last
        pass


def page(name: str, status: int = 200, media: str = "text/html; charset=utf-8") -> Response:
    """Answer with a file from the folder `static`."""
    return Response(status, media, (PAGES / name).read_bytes())


def plain(status: int, words: str, **headers: str) -> Response:
    """Answer with a line of text."""
    return Response(status, "text/plain; charset=utf-8", f"{words}\n".encode(), headers)


def hello(request: Request) -> Response:
    """Greet by name; `json.dumps` escapes whatever the name is (RFC 8259 §7)."""
    name = (request.query | form(request)).get("name", ["world"])[0]
    return Response(200, "application/json", json.dumps({"message": f"Hello, {name}!"}).encode())


def sleep(request: Request) -> Response:
    """Take 5 seconds, or as many as `?seconds=` says."""
    seconds = request.query.get("seconds", ["5"])[0]
    if not re.fullmatch(r"[0-9]{1,2}(\.[0-9]+)?", seconds) or float(seconds) > 60:
        return plain(400, f"seconds must be a number from 0 to 60, not {seconds[:80]!a}")
    time.sleep(float(seconds))  # blocking
    return plain(200, f"slept for {seconds} seconds")


def locate(path: str) -> Path | None:
    """Find the file or folder that a path means; None if there is none, or none inside STATIC."""
    name = path.removeprefix("/static").lstrip("/")
    with suppress(OSError, RuntimeError):  # a name may be too long, links may go in a circle
        file = (STATIC / name / "index.html" if path.endswith("/") else STATIC / name).resolve()
        inside = file.is_relative_to(STATIC) and not set(name) & set("\\:")
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


def unchanged(request: Request, etag: str, modified: int) -> bool:
    """Tell whether the caller has what we have (RFC 9110 §13.1.2, §13.1.3)."""
    if tags := request.headers.get("if-none-match"):
        return tags == "*" or etag in re.findall(r'"[!#-~\x80-\xff]*"', tags)
    try:
        return modified <= parsedate_to_datetime(request.headers["if-modified-since"]).timestamp()
    except (KeyError, ValueError, OverflowError):  # a date that cannot be read is none
        return False


def wanted(header: str, size: int) -> list[range] | None:
    """Understand a Range: None for the whole, [] if there are no such bytes (RFC 9110 §14.1)."""
    found, (unit, _, parts) = [], header.partition("=")
    for part in listed(parts):
        match = re.fullmatch("([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18})", part)
        if not match or unit.lower() != "bytes":
            return None
        first, last, suffix = match.groups("")
        if last and int(last) < int(first):
            return None
        start = max(0, size - int(suffix)) if suffix else int(first)
        found.append(range(start, min(size, int(last) + 1) if last else size))
    found = [part for part in found if part]
    return found if len(found) <= MAX_RANGES and sum(map(len, found)) <= size else None


def several(media: str, extracts: list[Extract]) -> Response:
    """Put several parts of a file in one body, each with a head of its own (RFC 9110 §14.6)."""
    boundary = secrets.token_hex(16)
    pieces: list[bytes | Extract] = []
    for extract in extracts:
        head = f"--{boundary}\r\nContent-Type: {media}\r\nContent-Range: {extract.place}\r\n\r\n"
        pieces += [head.encode(), extract, b"\r\n"]
    pieces.append(f"--{boundary}--\r\n".encode())
    return Response(206, f"multipart/byteranges; boundary={boundary}", b"", pieces=tuple(pieces))


def deliver(request: Request, file: Path) -> Response:
    """Answer with a file, or with what the caller lacks of it (RFC 9110 §13.2.2)."""
    status, media = file.stat(), media_type(file)
    size, modified, etag = status.st_size, int(status.st_mtime), etag_of(status)
    date = formatdate(modified, usegmt=True)
    headers = {"ETag": etag, "Last-Modified": date, "Accept-Ranges": "bytes"}
    if unchanged(request, etag, modified):
        return Response(304, media, b"", headers)
    same = request.headers.get("if-range", etag) in (etag, date)
    header = request.headers.get("range", "") if request.method == "GET" and same else ""
    extract = partial(Extract, file, etag)
    if (parts := wanted(header, size)) is None:
        return Response(200, media, b"", headers, (extract(range(size)),))
    extracts = [extract(part, f"bytes {part.start}-{part.stop - 1}/{size}") for part in parts]
    if not extracts:
        return plain(416, f"there are {size} bytes", **{"Content-Range": f"bytes */{size}"})
    if len(extracts) > 1:
        return replace(several(media, extracts), headers=headers)
    headers["Content-Range"] = extracts[0].place
    return Response(206, media, b"", headers, (extracts[0],))


def static(request: Request) -> Response:
    """Answer with what a path below /static/ means, or say where it is."""
    if not (file := locate(request.path)):
        return page("404.html", 404)
    if file.is_dir():
        query = "".join(request.target.partition("?")[1:])
        return plain(301, "a folder ends in a slash", Location=f"{quote(request.path)}/{query}")
    return deliver(request, file)


def put_down(content: Iterator[bytes], name: str, folder: Path) -> Path:
    """Write a file as it arrives, and beside it its name, without the sender's folders."""
    name = re.split(r"[/\\]", name)[-1][-255:] or "unnamed"
    folder.mkdir()
    (folder / "name").write_bytes(name.encode())
    with (folder / "content").open("xb") as file:
        file.writelines(content)
    return folder


def keep(request: Request) -> Response:
    """Keep the files of a form: under names of our own, each as a whole or not at all."""
    folders, fields = [], []
    with tempfile.TemporaryDirectory(dir=DESK) as desk:  # and what stays on it is thrown away
        for count, (about, content) in enumerate(request.parts):
            if count >= MAX_FIELDS:
                raise HTTPError(413, f"a form may have {MAX_FIELDS} parts, and this one has more")
            extended = about.get("filename*", "").split("'", 2)[-1]  # UTF-8''%C3%A9 (RFC 8187)
            if name := unquote(extended) or about.get("filename", "").replace("%22", '"'):
                folders.append(put_down(content, name, Path(desk, str(count))))
            else:
                fields.append((about["name"], gather(content).decode(errors="replace")))
        if not folders:
            return plain(400, "needed a form with a file in it, as multipart/form-data")
        kept = [folder.rename(UPLOADS / secrets.token_hex(8)).name for folder in folders]
    answer = json.dumps({"kept": kept, "fields": fields}).encode()
    return Response(303, "application/json", answer, {"Location": "/uploads"})


def uploads(request: Request) -> Response:
    """Show what is kept, the newest first, and the form to send more."""
    rows = ""
    for file in sorted(UPLOADS.glob("[0-9a-f]*/content"), key=os.path.getmtime, reverse=True):
        name, size = file.with_name("name").read_bytes().decode(), file.stat().st_size
        rows += f'<li><a href="uploads/{file.parent.name}">{escape(name)}</a> {size:,} bytes</li>\n'
    answer = page("upload.html")
    return replace(answer, body=answer.body.replace(b"<!-- what is kept -->\n", rows.encode()))


def download(request: Request) -> Response:
    """Give back what is kept, to be saved under the name that it came with (RFC 6266)."""
    key = request.path.removeprefix("/uploads/")
    file = UPLOADS / key / "content"
    if not re.fullmatch("[0-9a-f]{16}", key) or not file.is_file():
        return page("404.html", 404)
    name = file.with_name("name").read_bytes().decode()
    simple = re.sub(r"[^ !#-\[\]-~]", "_", name)  # for those who know only ASCII
    saved = f"attachment; filename=\"{simple}\"; filename*=UTF-8''{quote(name, safe='')}"
    response = deliver(request, file)
    return replace(response, headers=response.headers | {"Content-Disposition": saved})


Handler = Callable[[Request], Response]
ROUTES: dict[tuple[str, str], Handler] = {
    ("GET", "/"): lambda request: page("hello.html"),
    ("GET", "/about"): lambda request: page("about.html"),
    ("GET", "/favicon.ico"): lambda request: page("icon.svg", media="image/svg+xml"),
    ("GET", "/health"): lambda request: Response(200, "application/json", b'{"status": "ok"}'),
    ("GET", "/hello"): hello,
    ("GET", "/sleep"): sleep,
    ("GET", "/static/"): static,
    ("GET", "/uploads"): uploads,
    ("GET", "/uploads/"): download,
    ("POST", "/echo"): lambda request: Response(200, "application/octet-stream", request.body),
    ("POST", "/hello"): hello,
    ("POST", "/uploads"): keep,
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
        return plain(405, f"{request.path} has no {request.method}", Allow=allow)
    method = "GET" if request.method == "HEAD" else request.method
    return ROUTES[method, name](request)


def respond(request: Request) -> Response:
    """Answer a request; a handler that fails costs its visitor a 500, and the connection."""
    try:
        return route(request)
    except (ConnectionError, HTTPError):
        raise
    except Exception as error:
        log.exception("the handler of %s failed", request.target)
        raise HTTPError(500, "the server failed, and its log says why") from error


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


def send(connection: socket.socket, piece: bytes | Extract) -> None:
    """Send some bytes, or an extract of a file, which never is in memory as a whole."""
    if isinstance(piece, bytes):
        connection.sendall(piece)  # blocking
    elif piece:
        with piece.file.open("rb") as file:
            same = etag_of(os.fstat(file.fileno())) == piece.etag
            if not same or connection.sendfile(file, piece.bytes.start, len(piece)) < len(piece):
                raise ConnectionError(f"{piece.file.name} is not what it was")


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
    for piece in () if bodiless else response.pieces:
        send(connection, piece)
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


def clear_desk() -> None:
    """Make this server's own folder for uploads, and throw away what a crash left half done."""
    try:
        shutil.rmtree(DESK, ignore_errors=True)
        DESK.mkdir(parents=True)
    except OSError as error:
        sys.exit(f"cannot use UPLOADS={UPLOADS} ({error}): set a folder that can be written")


def main() -> None:
    """Listen, say where, and serve until asked to stop: then the door, the queue, the crew."""
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    listener = listen()
    clear_desk()
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
