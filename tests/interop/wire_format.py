"""Requests as Hypothesis invents them: by the grammar of RFC 9112, with a fault here and there."""

import os
import time

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

SECONDS = float(os.environ.get("FUZZ_SECONDS") or 0)  # for a long run; the suite's is short
BATCH = 500  # examples in a long run, before the time is looked at
PROPERTY = pytest.mark.timeout(SECONDS + 400)  # Hypothesis seeks the shortest example for 300

# fmt: off
USUAL = {  # what a request is made of, the plainest first
    "method": ["GET", "POST", "PUT", "OPTIONS", "DELETE", "PATCH", "TRACE", "HEAD"],
    "origin": ["", "", "", "http://test", "HTTPS://[::1]:80", "http://test:"],
    "path": ["/", "/echo", "/hello", "/%C3%A9", "//..",
             *(f"/{byte}" for byte in "09azAZ-._~!$&'()*+,;=:@")],
    "query": ["", "", "", "?", "?name=x", "?a=1&b", "?/?:@", "?%00", "?%ff"],
    "version": ["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.2"],
    "host": ["Host: test", "HOST:TEST:80", "Host: [::1]:8 ", "Host:", "Host: !$&'()*+,;=-._~%c3:"],
    "field": ["Accept: */*", "Connection: close", "connection: Keep-Alive", "Upgrade: h2c",
              "Connection: a, close ,b", "Expect: 100-continue", "EXPECT: 100-Continue",
              "X-Empty:", "X:\x85a\xa0",  # which Python takes for white space
              *(f"X{byte}:{byte}" for byte in "!#$%&'*+.^_`|~09aZ"),
              *(f"X: a{byte}b\t" for byte in '"(),/:;<=>?@[\\]{} \t\x80\xff')],
    "framing": ["none", "length", "chunks"],
    "body": ["hello", "", "a", "\r\n", "0\r\n\r\n", "\0\xff\n" * 5, "GET / HTTP/1.1\r\n\r\n"],
    "length": ["{}", "{}", "0{}"],
    "coding": ["chunked", "chunked", "Chunked"],
    "size": ["{:x}", "{:x}", "{:X}", "0{:x}"],
    "extension": ["", "", "", ";a", ";a=b", ';a="b c"', " ;\ta = b;c", ';a="\\"\xff";b'],
    "tail": ["\r\n"],
    "trailer": ["", "", "X: a\r\n", "X:\r\nY: b\r\n"],
}
ODD = {  # what the grammar has not, or what is doubtful
    "method": ["CONNECT", "BREW", "get", "PRI", "", "G(T", "G\xc9T", " GET", "\r\nGET", "\nGET"],
    "origin": ["http://", "http://:80", "http://u@test", "http://test:x", "ftp://test", "test:80"],
    "path": ["", "*", "a", "/%zz", "/%0", "/%00",
             *(f"/{byte}" for byte in '"#<[]|^\\`{ \xe9\x7f\1')],
    "query": ["?[]", '?"', "?%", "#a", "? ", "?\xe9", "?" + "a" * 9000],
    "version": ["HTTP/2.0", "HTTP/0.9", "HTTP/1.10", "HTTP/1", "http/1.1", "X/1.1", "HTTP/1.1 "],
    "host": ["X-Host: a", "Host : a", "Host:\r\nHost:", "Host: a\r\nHost: a", "Host: a\r\nHOST: b",
             *(f"Host: {host}" for host in ("a b", "a/b", "u@a", "a:b", "a:1:2", "[::1", "[v1.a]")),
             *(f"Host: {host}" for host in ("a, b", "\xe9", "%zz", "a#", "\r\n a"))],
    "field": [" X: a", "X : a", "X\t: a", ": a", "X", "", "\n", "\r\n".join(["X: a"] * 120),
              "X: a\rb", "X: a\nY: b", "X: a\r\n b", "X: a\r\n\t", "Expect: 200-ok",
              "Expect: 100-continue, b", "Expect: 100-continue, 100-continue",
              *(f"X{byte}: a" for byte in ' "(),/;<=>?@[\\]{}\1\x7f\xc9'),
              *(f"X: a{byte}" for byte in "\0\1\x0b\x0c\x1f\x7f")],
    "framing": ["both", "turned"],
    "body": [],
    "length": ["+{}", "-{}", "0x{}", "{}.0", "{0} {0}", "{0}, {0}", "{}, 6", "", "\xb2", "9" * 30,
               "1{}", "0" * 30 + "{}", "{0}\r\nContent-Length: {0}", "{0}\r\nContent-Length: 1{0}"],
    "coding": ["", "gzip", "identity", "gzip, chunked", "chunked, gzip", "chunked, chunked",
               "xchunked", "chunked;a=b", "\x0bchunked", "chunked,",
               *(f"{name}\r\nTransfer-Encoding: chunked" for name in ("", "gzip", "chunked"))],
    "size": ["", "0x{:x}", "-{:x}", "+{:x}", "{:x}h", "{:x} ", " {:x}", "{:x}_0", "{:x}\r", "1{:x}",
             "0" * 21 + "{:x}", "f" * 16],
    "extension": [";", ";=b", ";a b", ";a=", ';a="', ";a\1", ";\xff", ";a ", " a", "\t", ";a=b=c"],
    "tail": ["", "\n", "\r", "\rX", "XX", "X\r\n", "\r\n\r\n"],
    "trailer": ["Content-Length: 1, 2\r\n", "Transfer-Encoding: gzip\r\n", "X : a\r\n", "X\r\n"],
}
# fmt: on
FRAMING = dict.fromkeys(("coding", "size", "extension", "tail", "trailer"), "chunks")
FRAMING |= {"length": "length"}  # what a part needs to be seen
BYTES = [b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b"\t", b" ", b":", b";", b",", b"\x80", b"\xff"]
BYTES += [b"0", b"a", b"/", b"%", b'"', b"\x0b", b"\x7f", b"HTTP/1.1", b"chunked", b""]


def request(**parts):
    """Write a request of these parts, and of the plainest for the rest."""
    part = {name: usual[0] for name, usual in USUAL.items()} | parts
    line = "{method} {origin}{path}{query} {version}".format(**part)
    length = f"Content-Length: {part['length']}".format(len(part["body"]))
    coding = f"Transfer-Encoding: {part['coding']}"
    framing = {"none": [], "length": [length], "chunks": [coding]}
    framing |= {"both": [length, coding], "turned": [coding, length]}
    body = {"none": "", "length": part["body"]}.get(part["framing"], chunked(**part))
    lines = [line, part["host"], part["field"], *framing[part["framing"]], "", body]
    return "\r\n".join(lines).encode("latin-1")


def chunked(body, size, extension, tail, trailer, **_):
    """A body in one chunk or two, and the last one."""
    data = [part for part in (body[:3], body[3:]) if part] + [""]
    tails = [f"{part}{tail}" for part in data[:-1]] + [f"{trailer}\r\n"]
    lines = [f"{size.format(len(part))}{extension}\r\n" for part in data]
    return "".join(line + end for line, end in zip(lines, tails, strict=True))


def each_alone():
    """Yield every value in a request that is otherwise plain."""
    for name, usual in USUAL.items():
        for value in dict.fromkeys(usual + ODD[name]):
            yield request(**{"framing": FRAMING.get(name, "none"), name: value})


def mostly(usual, odd):
    """One of the usual values, and in about one of twenty cases an odd one."""
    return st.sampled_from(usual * (20 * len(odd) // len(usual) + 1) + odd)


requests = st.builds(request, **{name: mostly(USUAL[name], ODD[name]) for name in USUAL})


@st.composite
def streams(draw):
    """Up to three requests behind one another, some with a few bytes changed, cut into pieces."""
    data = b"".join(draw(st.lists(requests, min_size=1, max_size=3)))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.sampled_from([0, 1, 2, 20, len(data)]))
        put = draw(st.sampled_from([*BYTES, data[start:end] * 2]))
        data = data[:start] + put + data[end:]
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=3)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def effort(examples):
    """How a property is tried: in the suite always with the same requests, and not with many."""
    return settings(
        max_examples=BATCH if SECONDS else examples,
        derandomize=not SECONDS,
        database=None,
        deadline=None,  # for one example: a machine under load is no fault
        suppress_health_check=list(HealthCheck),
    )


def rounds(request):
    """Once in the suite; in a long run, again and again for this property's share of the time."""
    marks = [item.get_closest_marker("timeout") for item in request.session.items]
    end = time.monotonic() + SECONDS / marks.count(PROPERTY.mark)
    yield
    while time.monotonic() < end:
        yield
