"""The strict stages and h11 read the same bytes alike; where they do not, a rule says why."""

import re
from collections import Counter
from importlib import import_module
from typing import NamedTuple

import h11
import pytest
from hypothesis import given
from interop.wire_format import PROPERTY, each_alone, effort, rounds, streams

from workbench.client.responses import BLANK_LINE


class Rule(NamedTuple):
    """What one of the two refuses and the other accepts, and the section that gives the right."""

    what: str
    section: str
    refusal: str  # our status, or what h11 says: a pattern
    part: str  # of the request, see `parts`
    pattern: bytes  # that is found in it
    example: bytes


TOKEN = rb"[\w!#$%&'*+.^`|~-]+"
VALUE = rb'[ \t]*=[ \t]*(?:%b|"(?:\\.|[^"\\\x00-\x08\x0b-\x1f\x7f])*")' % TOKEN
EXTENSION = rb"[ \t]*;[ \t]*%b(?:%b)?" % (TOKEN, VALUE)
HOST = rb"(?:\[[\dA-Fa-f:.]+\]|(?:[\w.~!$&'()*+,;=-]|%[\dA-Fa-f]{2})*)(?::\d*)?"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"

# fmt: off
H11_ACCEPTS = [
    Rule("a line that ends in LF alone", "RFC 9112 §2.2", "400",
         "lines", rb"(?<!\r)\n", b"GET / HTTP/1.1\nHost: a\n\n"),
    Rule("a value that goes on in the next line", "RFC 9112 §5.2", "400",
         "lines", rb"\n[ \t]", GET + b"X: a\r\n b\r\n\r\n"),
    Rule("a control byte in a value", "RFC 9110 §5.5", "400",
         "lines", rb"[\x01-\x08\x0e-\x1f\x7f]", GET + b"X: \x01\r\n\r\n"),
    Rule("a target with a byte that no URI has, or % without two digits", "RFC 3986 §2", "400",
         "target", rb'["#<>\\^`{|}]|(?<!//)\[|^[^[]*\]|\].*\]|%(?![\dA-Fa-f]{2})',
         b"GET /<a> HTTP/1.1\r\nHost: a\r\n\r\n"),
    Rule("a path with NUL in it", "RFC 3986 §7.3", "400",
         "target", rb"^[^?]*%00", b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n"),
    Rule("a target in no form that goes with its method", "RFC 9112 §3.2", "400",
         "line", rb"^(?!OPTIONS \* )\S+ (?!/|(?i:https?)://)",
         b"GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
    Rule("an absolute target without a host, or with a user", "RFC 9110 §4.2.1, §4.2.4", "400",
         "target", rb"(?i)^https?://(?!(?![/:?]|$)%b(?:[/?]|$))" % HOST,
         b"GET http:///a HTTP/1.1\r\nHost: a\r\n\r\n"),
    Rule("a Host that is no name and no address", "RFC 9112 §3.2", "400",
         "host", rb"^(?!\[v|%b\Z)" % HOST, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    Rule("a Host with an address of a version yet to come", "RFC 3986 §3.2.2", "400",
         "host", rb"^\[v", b"GET / HTTP/1.1\r\nHost: [v1.a]\r\n\r\n"),
    Rule("no Host in HTTP/1.2 to HTTP/1.9", "RFC 9112 §3.2", "400",
         "head", rb"(?is)^\S+ \S+ HTTP/1\.[2-9]\r?\n(?!(.*\n)?host:)", b"GET / HTTP/1.2\r\n\r\n"),
    Rule("a method that we don't know", "RFC 9110 §9.1", "501",
         "line", rb"^(?!(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|TRACE) )",
         b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n"),
    Rule("a version other than HTTP/1", "RFC 9110 §15.6.6", "505",
         "line", rb" HTTP/[^1]\.\d$", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    Rule("an expectation other than 100-continue", "RFC 9110 §10.1.1", "417",
         "expect", rb"(?i)(^|,)[ \t]*(?!100-continue[ \t]*(,|$))[^ \t,]",
         GET + b"Expect: more\r\n\r\n"),
    Rule("a Content-Length twice, or a list of one number", "RFC 9112 §6.3", "400",
         "length", rb",", GET + b"Content-Length: 1, 1\r\n\r\na"),
    Rule("Transfer-Encoding and Content-Length", "RFC 9112 §6.1", "400",
         "head", rb"(?is)(?=.*\ncontent-length:).*\ntransfer-encoding:",
         GET + CHUNKED + b"Content-Length: 1\r\n\r\n0\r\n\r\n"),
    Rule("Transfer-Encoding in HTTP/1.0", "RFC 9112 §6.1", "400",
         "head", rb"(?is)^\S+ \S+ HTTP/1\.0\b.*\ntransfer-encoding:",
         b"GET / HTTP/1.0\r\n" + CHUNKED + b"\r\n0\r\n\r\n"),
    Rule("behind the size of a chunk, what is no extension", "RFC 9112 §7.1.1", "400",
         "sizes", rb"(?m)^[\dA-Fa-f]+(?!(?:%b)*$)" % EXTENSION,
         GET + CHUNKED + b"\r\n0;=\r\n\r\n"),
    Rule("a request line of more than 8192 bytes", "RFC 9112 §3", "414",
         "line", rb".{8193}", b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    Rule("more than 100 fields", "RFC 6585 §5", "431",
         "head", rb"(\n[^\r]+\r){101}", GET + b"X: a\r\n" * 100 + b"\r\n"),
    Rule("a head of more than 65536 bytes", "RFC 6585 §5", "431",
         "head", rb"(?s).{65537}", GET + b"X: " + b"a" * 65536 + b"\r\n\r\n"),
    Rule("a body of more than 1048576 bytes", "RFC 9110 §15.5.14", "413",
         "body", rb"(?s).{1048577}", GET + b"Content-Length: 1048577\r\n\r\n" + b"a" * 1048577),
]
WE_ACCEPT = [
    Rule("an empty line before the request", "RFC 9112 §2.2", "no request line",
         "head", rb"^\r\n", b"\r\n" + GET + b"\r\n"),
    Rule("a Content-Length of more than 20 digits", "RFC 9110 §8.6", "bad Content-Length",
         "length", rb"^0\d{20}", GET + b"Content-Length: " + b"0" * 20 + b"1\r\n\r\na"),
    Rule("a size of a chunk of more than 20 digits", "RFC 9112 §7.1", "illegal chunk header",
         "sizes", rb"(?m)^0[\dA-Fa-f]{20}", GET + CHUNKED + b"\r\n" + b"0" * 21 + b"\r\n\r\n"),
    Rule("white space before an extension of a chunk", "RFC 9112 §7.1.1", "illegal chunk header",
         "sizes", rb"(?m)^[\dA-Fa-f]+[ \t]+;", GET + CHUNKED + b"\r\n0 ;a\r\n\r\n"),
    Rule("framing in a trailer, which is dropped", "RFC 9110 §6.5.1",
         ".*(Content-Length|Transfer-Encoding)",
         "trailers", rb"(?im)^(content-length|transfer-encoding):",
         GET + CHUNKED + b"\r\n0\r\nTransfer-Encoding: gzip\r\n\r\n"),
]
# fmt: on

STRICT = ("s11_strict_requests", "s12_limits")
strict = pytest.mark.parametrize("stage", [import_module(f"stages.{name}") for name in STRICT])


class Accepted(NamedTuple):
    """What was understood, and what is left over for the next request."""

    method: str
    target: str
    version: str
    headers: dict[str, str]
    body: bytes
    rest: bytes


class Refused(NamedTuple):
    """Why it was not accepted, or not yet."""

    reason: str


class Pieces:
    """A connection that gives what it has piece by piece, and then no more."""

    def __init__(self, pieces):
        self.pieces = [piece for piece in pieces if piece]

    def recv(self, _size):
        return self.pieces.pop(0) if self.pieces else b""

    def settimeout(self, _seconds):
        pass

    def sendall(self, _data):
        pass


def we_read(stage, connection):
    """Let a stage read one request."""
    try:
        head = stage.read_head(connection)
        request = stage.read_request(connection, head)
    except stage.HTTPError as error:
        return Refused(f"{error.status} {error.reason}")
    except ConnectionError as error:
        return Refused(str(error))
    headers = dict(request.headers)
    if "transfer-encoding" in headers:  # h11 gives it in lower case (RFC 9112 §7)
        headers["transfer-encoding"] = headers["transfer-encoding"].lower()
    rest = bytes(connection.buffer) + b"".join(connection.sock.pieces)
    return Accepted(request.method, request.target, request.version, headers, request.body, rest)


def h11_reads(data):
    """Let h11 read one request; it leaves to its user what the version and the host mean."""
    oracle, body = h11.Connection(h11.SERVER, max_incomplete_event_size=2**24), b""
    oracle.receive_data(data)
    try:
        head = event = oracle.next_event()
        while event is not h11.NEED_DATA and not isinstance(event, h11.EndOfMessage):
            event = oracle.next_event()
            body += event.data if isinstance(event, h11.Data) else b""
    except h11.RemoteProtocolError as error:
        return Refused(str(error))
    if event is h11.NEED_DATA:
        return Refused("it waits for more")
    headers = joined((name.decode(), value.decode("latin-1")) for name, value in head.headers)
    method, target = head.method.decode(), head.target.decode()
    if absolute := re.match("(?i)https?://([^/?]*)", target):  # RFC 9112 §3.2.2
        headers["host"] = absolute[1]
    version = f"HTTP/{min(head.http_version.decode(), '1.1')}"  # RFC 9110 §2.5
    return Accepted(method, target, version, headers, body, oracle.trailing_data[0])


def joined(fields):
    """Each name with its values, joined by a comma (RFC 9110 §5.3)."""
    values = {}
    for name, value in fields:
        values[name] = f"{values[name]}, {value}" if name in values else value
    return values


def readings(stage, pieces):
    """Yield what is there to read, our reading and h11's, for one request behind another."""
    connection = stage.Connection(Pieces(pieces), 0, "127.0.0.1")
    connection.deadline = float("inf")  # from s12
    data = b"".join(pieces)
    while data:
        ours, theirs = we_read(stage, connection), h11_reads(data)
        yield data, ours, theirs
        data = ours.rest if alike(ours, theirs) and isinstance(ours, Accepted) else b""


def alike(ours, theirs):
    """Whether both refuse, or both understand the same."""
    return ours == theirs or {type(ours), type(theirs)} == {Refused}


def explained(data, ours, theirs):
    """The rules that say why one of the two accepts this request and the other does not."""
    match ours, theirs:
        case Refused(reason), Accepted(rest=rest):
            rules = H11_ACCEPTS
        case Accepted(rest=rest), Refused(reason):
            rules = WE_ACCEPT
        case _:
            return []
    sent = parts(data[: len(data) - len(rest)])
    return [
        rule
        for rule in rules
        if re.match(rule.refusal, reason) and re.search(rule.pattern, sent[rule.part])
    ]


def parts(data):
    """Take apart a request that one of the two has accepted."""
    end = BLANK_LINE.search(data).end()
    head, body, sizes = data[:end], data[end:], []
    line, *fields = head.strip(b"\r\n").splitlines()
    halves = [field.decode("latin-1").partition(":") for field in fields]
    values = joined((name.lower(), value.strip(" \t")) for name, _, value in halves)
    trailers, size = (body, 1) if "transfer-encoding" in values else (b"", 0)
    while size:
        line_of_size, _, trailers = trailers.partition(b"\r\n")
        size = int(re.match(rb"[\dA-Fa-f]+", line_of_size)[0], 16)
        trailers = trailers[size + 2 :] if size else trailers
        sizes.append(line_of_size)
    return {
        "head": head,
        "line": line,
        "target": line.split(b" ")[1],
        "host": values.get("host", "").encode("latin-1"),
        "expect": values.get("expect", "").encode("latin-1"),
        "length": values.get("content-length", "").encode("latin-1"),
        "body": body,
        "sizes": b"\n".join(sizes),
        "trailers": trailers,
        "lines": head + trailers,
    }


def reads_alike(stage, pieces):
    """Hold the two to reading the same, unless a rule says why not; return how often each way."""
    counts = Counter()
    for data, ours, theirs in readings(stage, pieces):
        assert alike(ours, theirs) or explained(data, ours, theirs), (
            f"of {data!a}\n  we say {ours}\n h11 says {theirs}"
        )
        counts[type(ours)] += 1
    return counts


@strict
def test_every_odd_value_alone_is_read_as_h11_reads_it(stage):
    for sent in each_alone():
        reads_alike(stage, [sent])


@PROPERTY
@strict
def test_what_only_one_of_the_two_accepts_is_on_the_list(stage, request):
    counts = Counter()
    tried = effort(200)(given(streams())(lambda pieces: counts.update(reads_alike(stage, pieces))))
    for _ in rounds(request):
        tried()
    print(f"{stage.__name__}: {counts[Accepted]:,} accepted, {counts[Refused]:,} refused")
    assert min(counts.values()) > counts.total() / 5, counts


@pytest.mark.parametrize("rule", H11_ACCEPTS + WE_ACCEPT, ids=lambda rule: rule.what)
def test_every_rule_of_the_list_is_needed(rule):
    stage = import_module(f"stages.{STRICT[-1]}")
    [[data, ours, theirs]] = readings(stage, [rule.example])
    assert explained(data, ours, theirs) == [rule]
    assert isinstance(ours, Accepted) == (rule in WE_ACCEPT)
