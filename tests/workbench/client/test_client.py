"""A visitor says raw bytes, and an exchange shows what was said, heard and how it ended."""

import contextlib
import os
import re
import shutil
import socket
import struct
import subprocess
import threading

import pytest
from helpers.servers import answering, heard, serving, unused
from rich.console import Console

from workbench.client.client import NoAnswer, Visitor, caret, request, say

GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Colour: Blue\r\n\r\nhello"
HOST = "127.0.0.1"


def remaining(connection):
    """A conversation that answers, and then waits until the caller leaves."""
    answering(OK)(connection)
    heard(connection, end=b"never")


def breaking_off(connection):
    """A conversation that ends with a reset."""
    linger = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def after(sent, *chunks, **how):
    """The exchange with a server that answers in these chunks."""
    with serving(answering(*chunks)) as address:
        return say(address, sent, **how)


def test_an_exchange_holds_both_directions():
    exchange = after(GET, OK)
    assert (exchange.sent, exchange.received, exchange.ending) == (GET, OK, "closed")
    answer = exchange.answer
    assert (answer.status, answer.reason, answer.version) == (200, "OK", "1.1")
    assert answer.headers == [("Content-Length", "5"), ("X-Colour", "Blue")]
    assert answer.header("x-COLOUR") == "Blue"
    assert answer.header("x-shape") is None
    assert (answer.body, answer.text, answer.fault) == (b"hello", "hello", None)
    assert answer.span == (0, len(OK))


def test_the_moments_are_in_order():
    moments = after(GET, OK).moments
    order = [moments.started, moments.connected, moments.sent, moments.first_byte]
    order += [moments.last_byte, moments.ended]
    assert order == sorted(order)


def test_chunks_are_sent_one_by_one_and_a_half_close_ends_them():
    got = []
    with serving(lambda connection: got.append(heard(connection, end=b"never"))) as address:
        assert say(address, b"GE", b"T /", finish=True).sent == b"GET /"
    assert got == [b"GET /"]


def test_an_answer_arrives_after_a_half_close():
    with serving(lambda c: (heard(c, end=b"never"), c.sendall(OK))) as address:
        assert say(address, GET, finish=True).answer.text == "hello"


def test_bytes_can_be_sent_one_by_one():
    got = []
    hearing = serving(lambda connection: got.append(heard(connection)))
    with hearing as address, Visitor(address) as visitor:
        visitor.send(GET, by=1)
        visitor.read()
    assert got == [GET]


def test_so_many_answers_are_read_and_the_rest_is_kept():
    with serving(answering(OK + OK, OK)) as address, Visitor(address) as visitor:
        visitor.send(GET + GET)
        visitor.send(GET)
        first, second = visitor.read(1), visitor.read(2)
    assert (first.received, first.ending, first.sent) == (OK, "open", GET * 3)
    assert (second.received, second.sent) == (OK + OK, b"")
    assert [answer.span for answer in second.answers] == [(0, len(OK)), (len(OK), 2 * len(OK))]


def test_a_connection_that_stays_is_open_or_runs_out_of_time():
    with serving(remaining) as address, Visitor(address, timeout=0.2) as visitor:
        visitor.send(GET)
        assert visitor.read(1).ending == "open"
        assert visitor.read().ending == "timeout"
        visitor.close()


def test_reading_stops_where_it_is_told():
    with serving(remaining) as address, Visitor(address) as visitor:
        visitor.send(GET)
        exchange = visitor.read(until=b"X-Colour")
    assert b"X-Colour" in exchange.received
    assert exchange.ending == "open"


def test_an_interim_answer_does_not_count():
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    exchange = after(GET, interim, OK, answers=1)
    assert [answer.status for answer in exchange.answers] == [200]
    assert exchange.received[slice(*exchange.answer.span)] == OK


def test_an_answer_to_head_has_no_body():
    head = OK.removesuffix(b"hello")
    exchange = after(GET.replace(b"GET", b"HEAD") + GET, head + OK)
    assert [(answer.body, answer.fault) for answer in exchange.answers] == [
        (b"", None),
        (b"hello", None),
    ]


def test_an_answer_to_a_head_that_was_sent_in_two_parts_has_no_body():
    twice = serving(lambda c: (answering(OK)(c), answering(OK[:-5])(c)))
    with twice as address, Visitor(address) as visitor:
        visitor.send(GET + b"HEA")
        assert visitor.read(1).answer.text == "hello"
        visitor.send(b"D / HTTP/1.1\r\n\r\n")
        assert visitor.read().answer.fault is None


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
            b"hello",
        ),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", b"hello"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n\xff\x00\xfe", b"\xff\x00\xfe"),
    ],
    ids=["chunked", "to the end", "none", "not text"],
)
@pytest.mark.parametrize("by", [1, 100_000], ids=["byte by byte", "whole"])
def test_bodies_are_framed_as_the_rfc_says(raw, body, by):
    answer = after(GET, *(raw[at : at + by] for at in range(0, len(raw), by))).answer
    assert (answer.body, answer.fault, answer.span) == (body, None, (0, len(raw)))


@pytest.mark.parametrize(
    ("raw", "fault", "at"),
    [
        (OK[:-2], "5", 0),
        (OK.replace(b"OK\r\n", b"OK\n"), "LF alone", 15),
        (OK.replace(b"HTTP/1.1 200", b"HTP/1.1 200"), "status line", 0),
        (OK.replace(b"X-Colour:", b"X Colour:"), "header line", 0),
        (OK[:20], "clos", 0),
    ],
    ids=["body cut", "LF alone", "no status line", "space in a name", "head cut"],
)
def test_a_broken_answer_has_a_fault_and_a_place(raw, fault, at):
    answer = after(GET, raw).answer
    assert fault in answer.fault
    assert answer.fault_at == at


def test_bytes_behind_an_answer_are_a_fault():
    whole, behind = after(GET, OK + b"?!").answers
    assert whole.fault is None
    assert "behind the end" in behind.fault
    assert behind.fault_at == len(OK)


def test_what_is_missing_is_told_when_time_is_over():
    def never_ending(connection):
        answering(OK[:-2])(connection)
        heard(connection, end=b"never")

    with serving(never_ending) as address:
        exchange = say(address, GET, timeout=0.2)
    assert exchange.ending == "timeout"
    assert "not whole" in exchange.answer.fault
    assert exchange.answer.body == b"hel"


def test_a_refused_connection_is_an_ending():
    exchange = say(unused(), GET)
    assert (exchange.ending, exchange.sent, exchange.received) == ("refused", b"", b"")
    assert "nobody listens" in str(exchange)
    with pytest.raises(NoAnswer, match=r"needed an answer.*refused"):
        _ = exchange.answer


def test_a_reset_is_an_ending():
    with serving(breaking_off) as address:
        assert say(address, GET).ending == "reset"


def test_a_reset_while_sending_is_remembered():
    with serving(breaking_off) as address:
        exchange = say(address, *[bytes(2**20)] * 50)
    assert exchange.ending == "reset"
    assert len(exchange.sent) < 50 * 2**20


def test_a_silent_server_costs_no_more_than_the_timeout():
    with serving(lambda connection: heard(connection, end=b"never")) as address:
        exchange = say(address, GET, timeout=0.2)
    assert exchange.ending == "timeout"
    assert 0.2 <= exchange.moments.ended - exchange.moments.started < 5


def test_a_server_that_does_not_read_costs_no_more_than_the_timeout():
    done = threading.Event()
    with serving(lambda connection: done.wait(20)) as address:
        with Visitor(address, timeout=0.2) as visitor:
            visitor.send(bytes(50 * 2**20))
            exchange = visitor.read()
        done.set()
    assert exchange.ending == "timeout"
    assert len(exchange.sent) < 50 * 2**20


def test_a_visitor_can_break_off():
    endings = []

    def conversation(connection):
        try:
            endings.append(heard(connection, end=b"never"))
        except ConnectionError as error:
            endings.append(type(error))

    with serving(conversation) as address:
        visitor = Visitor(address)
        visitor.reset()
        visitor.close()
    assert endings in ([ConnectionResetError], [ConnectionAbortedError])


def test_visitors_who_only_begin_to_connect_arrive_in_that_order():
    with socket.create_server((HOST, 0)) as listener, contextlib.ExitStack() as doors:
        address = listener.getsockname()
        visitors = [Visitor(address, wait=False) for _ in range(20)]
        names = [doors.enter_context(visitor)._socket.getsockname() for visitor in visitors]
        callers = [listener.accept() for _ in visitors]
        assert [peer for _, peer in callers] == names
        for connection, _ in callers:
            connection.close()


def test_two_thousand_answers_are_read():
    with serving(answering(OK * 2000)) as address:
        assert len(say(address, GET * 2000).answers) == 2000


def test_what_is_shown_tells_head_from_body_and_shows_the_ends_of_lines():
    shown = str(after(GET, OK))
    assert "GET / HTTP/1.1\\r\\n\nHost: test\\r\\n\n\\r\\n\n" in shown
    assert "X-Colour: Blue\\r\\n\n\\r\\n\n┄ body, 5 bytes\nhello\n" in shown
    assert "the server closed the connection" in shown
    assert "$ curl -i" in shown


def test_a_long_body_is_shortened_and_what_is_left_out_is_counted():
    body = b"line\n" * 2000
    shown = str(after(GET, b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + body))
    assert "8,800 bytes left out" in shown
    assert shown.count("line") == 240


def test_a_long_head_is_shortened():
    long = (
        b"GET / HTTP/1.1\r\nHost: test\r\nX: "
        + b"a" * 20_000
        + b"\r\n"
        + b"Y: 1\r\n" * 50
        + b"\r\n"
    )
    shown = str(after(long, OK))
    assert len(shown) < 2500
    assert "19,803 bytes left out" in shown


def test_a_body_that_is_not_text_is_shown_in_hex():
    shown = str(after(GET, b"HTTP/1.0 200 OK\r\n\r\n" + bytes(range(250, 256)) + b"ab"))
    assert re.search(r"0000 +fa fb fc fd fe ff 61 62 +\.{6}ab", shown)


def test_a_fault_is_shown():
    assert "✗ a line of the head ends in LF alone" in str(after(GET, OK.replace(b"\r\n", b"\n")))


def test_a_terminal_and_a_notebook_show_the_same():
    exchange = after(GET, OK.replace(b"hello", b"<b>&]"))
    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(exchange)
    assert console.export_text().strip() == str(exchange).strip()
    page = exchange._repr_html_()
    assert "&lt;b&gt;&amp;]" in page
    assert "<b>" not in page


@pytest.mark.parametrize(
    ("data", "offset", "expected"),
    [
        (b"", 0, "\n^ byte 0"),
        (b"ab\r\ncd\r\nef\r\ngh\r\nij", 9, "ab\\r\\n\ncd\\r\\n\nef\\r\\n\n ^ byte 9\ngh\\r\\n"),
        (b"ab", 1, "ab\n ^ byte 1"),
        (b"ab\r\n", 4, "ab\\r\\n\n      ^ byte 4"),
        (b"\xff\x00z", 2, "\\xff\\x00z\n        ^ byte 2"),
        (b"ab", 99, "ab\n  ^ byte 2"),
    ],
)
def test_a_caret_stands_under_its_byte(data, offset, expected):
    assert caret(data, offset) == expected


def test_a_caret_in_a_long_line_shows_its_surroundings():
    lines = caret(b"x" * 5000 + b"!" + b"y" * 5000, 5000).splitlines()
    assert lines[0][lines[1].index("^")] == "!"
    assert len(lines[0]) < 120


HERE = "Host: WHERE\r\n"
CURLS = {
    "plain": f"GET / HTTP/1.1\r\n{HERE}\r\n",
    "query": f"GET /a?b=c&d=%20 HTTP/1.1\r\n{HERE}Accept: x/y\r\n\r\n",
    "no Host": "GET / HTTP/1.1\r\n\r\n",
    "another Host": "GET / HTTP/1.1\r\nHost: other\r\n\r\n",
    "HTTP/1.0": f"GET / HTTP/1.0\r\n{HERE}\r\n",
    "dots": f"GET /a/../b HTTP/1.1\r\n{HERE}\r\n",
    "odd target": f"OPTIONS * HTTP/1.1\r\n{HERE}\r\n",
    "braces": f"GET /{{1}}[a]#b HTTP/1.1\r\n{HERE}\r\n",
    "method": f"DELETE /1 HTTP/1.1\r\n{HERE}\r\n",
    "HEAD": f"HEAD / HTTP/1.1\r\n{HERE}\r\n",
    "POST": f"POST /echo HTTP/1.1\r\n{HERE}Content-Length: 8\r\n\r\n@it's é",
    "POST of nothing": f"POST /echo HTTP/1.1\r\n{HERE}Content-Length: 0\r\n\r\n",
    "PUT of JSON": f"PUT /x HTTP/1.1\r\n{HERE}Content-Type: a/json\r\nContent-Length: 2\r\n\r\n[]",
    "odd headers": f"GET / HTTP/1.1\r\n{HERE}X-Empty:\r\nX-Twice: a\r\nx-twice: $b'\r\n\r\n",
}


@pytest.mark.skipif(not shutil.which("curl") or os.name == "nt", reason="needs curl and sh")
@pytest.mark.parametrize("text", CURLS.values(), ids=CURLS)
def test_the_curl_line_says_the_same(text):
    got = []

    def listening(connection):
        got.append(heard(connection))
        while len(got) == 2 and (length := body_length(got[1])) > len(body(got[1])):
            got[1] += connection.recv(length)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with serving(listening, listening) as address:
        raw = text.replace("WHERE", "{}:{}".format(*address)).encode()
        line = say(address, raw).curl
        assert line.startswith("curl ")
        subprocess.run(["sh", "-c", line], check=True, capture_output=True, timeout=20)
    assert essence(got[1]) == essence(raw)


def essence(raw):
    """The request line, the headers that are not curl's own, and the body."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    line, *fields = head.split(b"\r\n")
    own = re.compile(rb"(?i)(user-agent: curl|accept: \*/\*)")
    kept = [re.sub(rb": *", b":", field) for field in fields if not own.match(field)]
    return line, sorted(kept), rest


def body(raw):
    return raw.partition(b"\r\n\r\n")[2]


def body_length(raw):
    found = re.search(rb"(?i)content-length: *([0-9]+)", raw)
    return int(found[1]) if found else 0


@pytest.mark.skipif(os.name == "nt", reason="needs sh")
@pytest.mark.parametrize(
    "raw",
    [
        b"-n it's 100% \\ \x00\xff\t!\r\n\r\n",
        GET + GET,
        GET.replace(b"\r\n", b"\n"),
        b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\nless",
    ],
    ids=["bytes", "two requests", "LF alone", "chunked", "wrong length"],
)
def test_what_curl_would_not_say_is_said_by_nc(raw):
    printing, _, netcat = after(raw, OK, finish=True).curl.rpartition(" | ")
    assert re.fullmatch(r"nc 127\.0\.0\.1 [0-9]+", netcat)
    printed = subprocess.run(["sh", "-c", printing], check=True, capture_output=True, timeout=20)
    assert printed.stdout == raw


def test_a_request_is_written_for_an_address():
    raw = request("/a", ("127.0.0.1", 80))
    assert raw == b"GET /a HTTP/1.1\r\nHost: 127.0.0.1:80\r\nConnection: close\r\n\r\n"
