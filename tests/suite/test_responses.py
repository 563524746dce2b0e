"""The form of an answer, and what is understood of a request."""

import re

from suite.chance import word
from suite.clients import GET, drive, get, logged, post
from suite.report import expect
from suite.requirements import since


@since("s02", until="s04", python=True)
def test_the_lines_of_a_request_are_printed(server):
    target, colour = f"/any/{word()}?x={word()}", f"Colour: {word()}"
    server.say(get(target, colour))
    for line in (f"GET {target} HTTP/1.1", "Host: test", colour):
        logged(server, re.escape(line))


@since("s03")
def test_content_length_counts_bytes(server, implementation):
    page = (implementation.static / "hello.html").read_bytes()
    assert len(page.decode()) < len(page), "hello.html needs a character of more than one byte"
    expect(server.say(GET), 200, headers={"Content-Length": str(len(page))}, body=page)


@since("s03")
def test_every_line_of_the_head_ends_in_cr_lf(server):
    exchange = server.say(GET)
    expect(exchange, 200)
    head = exchange.received.partition(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\n" not in head.replace(b"\r\n", b"")


@since("s03")
def test_the_answer_is_the_hello_page(server, implementation):
    page = (implementation.static / "hello.html").read_bytes()
    kind = {"Content-Type": "text/html; charset=utf-8"}
    expect(server.say(GET), 200, headers=kind, body=page, ending="closed")


@since("s03")
def test_the_answer_says_that_the_connection_closes(server):
    expect(server.say(GET), 200, headers={"Connection": "close"}, ending="closed")


@since("s03", until="s05", limitation=True)
def test_every_path_has_the_same_page(server):
    expect(server.say(get("/about")), 200, body=expect(server.say(GET), 200).body)


@since("s02", until="s10", python=True)
def test_reading_a_head_leaves_only_what_follows(implementation):
    script = (
        "import socket\n"
        "near, far = socket.socketpair()\n"
        "far.sendall(b'GET / HTTP/1.1\\r\\nA: 1\\r\\n\\r\\nthe rest')\n"
        "buffer = bytearray()\n"
        "print(stage.read_head(near, buffer), bytes(buffer))"
    )
    words = drive(implementation, script)
    assert r"b'GET / HTTP/1.1\r\nA: 1' b'the rest'" in words, "needed the head, and then the rest"


@since("s03", until="s10", python=True)
def test_a_response_is_sent_to_its_last_byte(implementation):
    """`send` says how many bytes it took: a socket may take ten of them, or all."""
    script = """
class Narrow:
    sent = b""
    def recv(self, count):
        return b"GET / HTTP/1.1\\r\\nHost: test\\r\\n\\r\\n"
    def send(self, data):
        Narrow.sent += data[:10]
        return 10
    def sendall(self, data):
        Narrow.sent += data
stage.handle_request(Narrow(), 1)
whole = stage.build_response(stage.page("hello.html"))
print("whole:", Narrow.sent == whole)
"""
    words = drive(implementation, script)
    assert "whole: True" in words, "needed every byte of the response to be sent"


@since("s04", until="s05", python=True)
def test_an_encoded_question_mark_is_printed_in_the_path(server):
    place = word()
    server.say(get(f"/{place}%3Fcup=1?cup=2"))
    logged(server, re.escape(f"'/{place}?cup=1'"))
    assert "{'cup': ['2']}" in server.log, "needed the query to begin at the question mark"


@since("s04", until="s05", python=True)
def test_no_more_than_the_body_is_printed(server):
    milk = word()
    server.say(post("/", f"with {milk}".encode()) + b" and sugar")
    logged(server, f"'with {milk}'")


@since("s04", until="s05", python=True)
def test_what_was_understood_is_printed(server):
    place, cup, colour, milk = word(), word(), word(), word()
    target = f"/caf%C3%A9/{place}?cup={cup}&cup=2&sugar=&to+go"
    server.say(post(target, f"with {milk}".encode(), f"COLOUR: {colour}", "colour: brown"))
    logged(server, f"'with {milk}'")
    for words in (
        "'POST'",
        f"'/caf\\xe9/{place}'",
        f"{{'cup': ['{cup}', '2'], 'sugar': [''], 'to go': ['']}}",
        "'HTTP/1.1'",
        f"'colour': '{colour}, brown'",
    ):
        assert words in server.log, f"needed {words} to be printed"


NOT_HTTP = {
    "no request line": b"hello\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\n\r\n",
    "a word too many": b"GET / HTTP/1.1 please\r\n\r\n",
    "another protocol": b"GET / FTP/1.1\r\n\r\n",
    "a control byte in the target": b"GET /\x01 HTTP/1.1\r\n\r\n",
    "a header without a colon": b"GET / HTTP/1.1\r\nHost test\r\n\r\n",
    "a header without a name": b"GET / HTTP/1.1\r\n: test\r\n\r\n",
    "a space before the colon": b"GET / HTTP/1.1\r\nHost : test\r\n\r\n",
    "a length in words": b"GET / HTTP/1.1\r\nContent-Length: ten\r\n\r\n",
    "a negative length": b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    "a length with a sign": b"GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
    "two lengths": b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
}


@since("s04")
def test_what_is_not_http_is_refused_with_a_reason(server):
    for fault, request in NOT_HTTP.items():
        answer = expect(server.say(request), 400, ending="closed")
        assert answer.header("Content-Type").startswith("text/plain"), fault
        assert len(answer.text.split()) > 3, f"needed a reason in words for {fault}"


@since("s04")
def test_a_body_over_one_mebibyte_is_refused(server):
    for length in (str(2**20 + 1), "1" + "0" * 12, "9" * 5000):
        expect(server.say(get("/", f"Content-Length: {length}")), 413, ending="closed")


@since("s04", new=False)
def test_a_body_of_one_mebibyte_is_taken(server):
    expect(server.say(post("/echo", bytes(2**20))), 200, ending="closed")
