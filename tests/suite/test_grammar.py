"""RFC 9110 and RFC 9112 to the letter: what is refused, with which status, and what is not.

A request that one program reads in one way and the next in another can be smuggled past the first.
"""

import time
from email.utils import parsedate_to_datetime

from suite.clients import ask, chunked, drive, get, post
from suite.report import Broken, expect, expect_each
from suite.requirements import since

SMUGGLED = get("/about")


def refuses(server, status, requests):
    """Hold the server to refusing each request, saying why, and reading nothing behind it."""
    for request in requests:
        exchange = server.say(request + SMUGGLED)
        answer = expect(exchange, status, headers={"Connection": "close"})
        expect_each(exchange, status, ending="closed")
        assert len(answer.text.split()) > 3, f"needed a reason in words for {request!r:.200}"


def raw(*lines, end=b"\r\n"):
    """A request that need not be one, line by line."""
    return b"".join(line + end for line in (*lines, b""))


@since("s11")
def test_a_line_ends_in_cr_lf(server):
    start, host = b"GET / HTTP/1.1", b"Host: test"
    lines = [
        raw(start, host, end=b"\n"),
        raw(start + b"\r\nX: 1\n" + host),
        raw(start + b"\n" + host),
        start + b"\r\n" + host + b"\r\n\n",
        start + b"\r\n" + host + b"\n\r\n",
        raw(start + b"\r", host),
        raw(start, host, b"X: a\rb"),
        raw(start, host, b"X: a\r"),
        b"\n" + ask("GET / HTTP/1.1"),
    ]
    refuses(server, 400, lines)


@since("s11")
def test_a_field_line_is_a_token_a_colon_and_a_value(server):
    lines = [b" X: 1", b"\tX: 1", b"X : 1", b"X\t: 1", b": 1", b"X", b"X 1", b"X(: 1", b"X/Y: 1"]
    lines += [
        b"X\x00: 1",
        b"X\xe9: 1",
        b'"X": 1',
        b"X: a\x00b",
        b"X: a\x01",
        b"X: a\x7f",
        b"X: \x0b",
    ]
    lines += [
        b"X: 1\r\n folded",
        b"X: 1\r\n\tfolded",
        b"X\xa0: 1",
        b"\xa0X: 1",
        b"[X]: 1",
        b"X;Y: 1",
    ]
    refuses(server, 400, [raw(b"GET / HTTP/1.1", b"Host: test", line) for line in lines])
    refuses(server, 400, [raw(b"GET / HTTP/1.1", b" Host: test", b"Host: test")])


@since("s11", new=False)
def test_a_field_value_may_hold_what_the_grammar_allows(server):
    odd = [
        "X:",
        "X: ",
        "X:1",
        "X: \t 1 \t",
        "X: a\tb",
        "X: Zo\xeb",
        'X: "a, b"',
        "!#$%&'*+.^_`|~9-z: 1",
    ]
    expect(server.say(get("/health", *odd)), 200, ending="closed")


@since("s11")
def test_a_request_names_one_host(server):
    hosts = [[], ["Host: a", "Host: a"], ["Host: a", "host: b"], ["Host: a b"], ["Host: a, b"]]
    hosts += [["Host: http://a"], ["Host: a/b"], ["Host: a@b"], ["Host: a:port"], ["Host: a:1:2"]]
    hosts += [
        ["Host: [::1"],
        ["Host: ::1"],
        ["Host: a\\b"],
        ["Host: a%zz"],
        ["Host: a?b"],
        ["Host: a#b"],
    ]
    refuses(server, 400, [ask("GET / HTTP/1.1", *lines, host=None) for lines in hosts])
    refuses(server, 400, [ask("GET / HTTP/1.0", "Host: a", "Host: b", host=None)])
    refuses(server, 400, [ask("GET http://a/ HTTP/1.1", host=None)])


@since("s11", new=False)
def test_a_host_may_be_a_name_a_number_or_empty(server):
    for host in ("a", "a.b-c:80", "127.0.0.1:7878", "[::1]:80", "[::1]", "", "a:", "a%20b", "x_y"):
        request = ask("GET /health HTTP/1.1", "Connection: close", host=f"Host: {host}")
        expect(server.say(request), 200, ending="closed")
    expect(server.say(ask("GET /health HTTP/1.0", host=None)), 200, ending="closed")


@since("s11")
def test_a_target_that_is_none_is_refused(server):
    targets = [
        "*",
        "about",
        "?x",
        "test:80",
        "http:/about",
        "http://",
        "http:///about",
        "http://:80/",
    ]
    targets += [
        "http://a b/",
        "http://user@test/",
        "ftp://test/",
        "/a#b",
        "/%",
        "/%4",
        "/%zz",
        "/%00",
    ]
    targets += ["/a\\b", "/<", "/a|b", '/"', "/{", "/^", "/`", "/?a=%g0", "/?a#b", "mailto:a@b"]
    refuses(server, 400, [ask(f"GET {target} HTTP/1.1") for target in targets])
    refuses(
        server, 400, [raw(b"GET /" + byte + b" HTTP/1.1", b"Host: a") for byte in (b"\0", b"\xe9")]
    )


@since("s11")
def test_a_target_may_be_a_whole_uri(server):
    uris = [
        "http://test/health",
        "HTTP://a.b:80/health?x",
        "http://[::1]/health",
        "https://a/health",
    ]
    for uri in uris:
        exchange = server.say(ask(f"GET {uri} HTTP/1.1", "Connection: close"))
        expect(exchange, 200, body=b'{"status": "ok"}')
    for uri in ("http://test", "http://test?x=1", "http://test:80"):
        answer = expect(server.say(ask(f"GET {uri} HTTP/1.1", "Connection: close")), 200)
        assert answer.header("Content-Type").startswith("text/html"), f"needed the page / for {uri}"


@since("s11", new=False)
def test_a_target_may_hold_what_the_grammar_allows(server):
    for target in ("/health?", "/health?a=b&c=%20/?@:!$'()*+,;=~._-", "/h%65alth", "/health?%00"):
        expect(server.say(get(target)), 200, ending="closed")


@since("s11")
def test_a_method_that_nobody_knows_is_501(server):
    refuses(server, 501, [ask(f"{method} / HTTP/1.1") for method in ("BREW", "get", "GET2", "M!#")])
    refuses(server, 501, [ask("CONNECT test:80 HTTP/1.1")])


@since("s11")
def test_a_method_is_a_token(server):
    refuses(
        server, 400, [ask(f"{method} / HTTP/1.1") for method in ("GE(T", "G/T", "GET:", "G\xe9T")]
    )


@since("s11", new=False)
def test_a_method_that_is_known_and_not_here_is_405(server):
    for method in ("PUT", "PATCH", "DELETE", "TRACE"):
        request = ask(f"{method} /health HTTP/1.1", "Connection: close")
        allowed = (expect(server.say(request), 405).header("Allow") or "").split(", ")
        assert {"GET", "HEAD"} <= set(allowed)


@since("s11")
def test_options_says_what_is_allowed_and_has_no_body(server):
    """204 has neither a body nor a length, or the next answer would be misread."""
    for target, method in [
        ("/health", "GET"),
        ("/echo", "POST"),
        ("*", "POST"),
        ("http://test", "GET"),
    ]:
        exchange = server.say(ask(f"OPTIONS {target} HTTP/1.1") + get("/health"))
        answer = expect_each(exchange, 204, 200, ending="closed")[0]
        assert method in answer.header("Allow").split(", ")
        assert answer.header("Content-Length") is None
        assert not answer.body
    expect(server.say(ask("OPTIONS /no HTTP/1.1", "Connection: close")), 404)


@since("s11")
def test_another_major_version_is_505(server):
    refuses(server, 505, [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
    refuses(server, 505, [ask(f"GET / HTTP/{version}") for version in ("0.9", "2.0", "3.1", "9.9")])


@since("s11", new=False)
def test_what_is_no_version_is_400(server):
    words = [
        "http/1.1",
        "HTTP/1",
        "HTTP/11.1",
        "HTTP/1.10",
        "HTTP/1,1",
        "HTTP/1.1 ",
        "HTTPS/1.1",
        "1.1",
    ]
    refuses(server, 400, [ask(f"GET / {word}") for word in words])


@since("s11")
def test_a_higher_minor_version_is_answered_as_1_1(server):
    exchange = server.say(ask("GET /health HTTP/1.2") + get("/health"))
    assert expect_each(exchange, 200, 200, ending="closed")[0].version == "1.1"


@since("s11")
def test_one_blank_line_before_a_request_is_forgiven(server):
    exchange = server.say(b"\r\n" + ask("GET /health HTTP/1.1") + b"\r\n" + get("/health"))
    expect_each(exchange, 200, 200, ending="closed")


@since("s11", new=False)
def test_a_length_is_one_number_in_digits(server):
    values = [
        "",
        "+5",
        "-5",
        "5,5",
        "5, 5",
        "5 5",
        "0x5",
        "5.0",
        "5;",
        "five",
        "1_0",
        "\xb2",
        "5\xa0",
    ]
    requests = [ask("POST /echo HTTP/1.1", f"Content-Length: {value}") for value in values]
    requests += [
        ask("POST /echo HTTP/1.1", "Content-Length: 5", f"Content-Length: {n}") for n in "56"
    ]
    refuses(server, 400, requests)


@since("s11", new=False)
def test_a_length_may_have_zeros_before_it(server):
    request = ask(
        "POST /echo HTTP/1.1", "Content-Length: 000000000005", "Connection: close", body=b"hello"
    )
    expect(server.say(request), 200, body=b"hello", ending="closed")


@since("s11", new=False)
def test_a_length_that_is_too_large_is_413(server):
    lengths = ["1048577", "18446744073709551616", "9" * 5000]
    refuses(server, 413, [ask("POST /echo HTTP/1.1", f"Content-Length: {n}") for n in lengths])


LAST = b"0\r\n\r\n"


@since("s11", new=False)
def test_chunks_and_a_length_together_are_refused(server):
    """A guard who goes by the one and a server that goes by the other read two requests or one."""
    for fields in (
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 5"],
    ):
        refuses(server, 400, [ask("POST /echo HTTP/1.1", *fields, body=LAST)])
    refuses(server, 400, [ask("POST /echo HTTP/1.0", "Transfer-Encoding: chunked", body=LAST)])


@since("s11", new=False)
def test_chunked_comes_last_and_once(server):
    codings = [
        "identity",
        "chunked, identity",
        "chunked, chunked",
        "gzip",
        "xchunked",
        "chunked;q=1",
    ]
    codings += [
        '"chunked"',
        "chunked gzip",
        "\xa0chunked",
        "",
        "chunked,",
        "snappy",
        "chunkedchunked",
    ]
    requests = [
        ask("POST /echo HTTP/1.1", f"Transfer-Encoding: {coding}", body=LAST) for coding in codings
    ]
    two = ["Transfer-Encoding: chunked"] * 2
    refuses(server, 400, [*requests, ask("POST /echo HTTP/1.1", *two, body=LAST)])


@since("s11")
def test_a_coding_that_nobody_knows_is_501(server):
    fields = [
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: gzip", "Transfer-Encoding: chunked"],
    ]
    refuses(server, 501, [ask("POST /echo HTTP/1.1", *lines, body=LAST) for lines in fields])


@since("s11", new=False)
def test_chunked_is_known_in_any_case(server):
    for coding in ("chunked", "Chunked", "CHUNKED"):
        request = ask(
            "POST /echo HTTP/1.1",
            f"Transfer-Encoding:\t{coding} ",
            "Connection: close",
            body=b"5\r\nhello\r\n" + LAST,
        )
        expect(server.say(request), 200, body=b"hello", ending="closed")


@since("s11", new=False)
def test_chunks_are_read_to_the_letter(server):
    sizes = [
        b"",
        b" 5",
        b"5 ",
        b"+5",
        b"-5",
        b"0x5",
        b"5_",
        b"g",
        b"5;\x00",
        b"5;=b",
        b'5;a="',
        b"5;a=b c",
        b"5,",
        b"\xb2",
    ]
    bodies = [size + b"\r\nhello\r\n" + LAST for size in sizes]
    bodies += [
        b"5\nhello\r\n" + LAST,
        b"5\r\nhello\n" + LAST,
        b"5\r\nhelloXX" + LAST,
        b"5\r\nhell\r\n" + LAST,
    ]
    bodies += [
        b"5\r\nhello world\r\n" + LAST,
        b"5\r\nhello\r\n0\n\n",
        b"5\r\nhello\r\n0\r\nX : 1\r\n\r\n",
    ]
    bodies += [
        b"5\r\nhello\r\n0\r\nX\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX: 1\n\r\n",
        b"5\r\r\nhello\r\n" + LAST,
    ]
    bodies += [b"5\r\nhello\r\n0\r\n folded\r\n\r\n", b"5;a\rb\r\nhello\r\n" + LAST]
    refuses(
        server,
        400,
        [ask("POST /echo HTTP/1.1", "Transfer-Encoding: chunked", body=body) for body in bodies],
    )


@since("s11", new=False)
def test_a_chunk_of_any_size_is_counted(server):
    for size in ("100001", "FFFFFFFF", "1" + "0" * 40):
        body = f"{size}\r\nhello".encode()
        answer = server.say(
            ask("POST /echo HTTP/1.1", "Transfer-Encoding: chunked", body=body)
        ).answer
        assert answer.status in (400, 413), f"needed a refusal of a chunk of {size} bytes"


@since("s11")
def test_extensions_and_trailers_of_chunks_are_dropped(server):
    body = (
        b'5;a;b=c ; d = "e;\\" f"\r\nhello\r\n00A;x\r\n, world...\r\n000\r\nX-Sum: 1\r\nY:\r\n\r\n'
    )
    request = ask("POST /echo HTTP/1.1", "Transfer-Encoding: chunked", body=body)
    exchange = server.say(request + get("/health"))
    expect(exchange, 200, body=b"hello, world...")
    expect_each(exchange, 200, 200, ending="closed")


@since("s11")
def test_who_waits_to_be_told_is_told_to_go_on(server):
    for line in ("Content-Length: 5", "Transfer-Encoding: chunked"):
        request = ask("POST /echo HTTP/1.1", line, "Expect: 100-Continue", "Connection: close")
        body = b"hello" if line.endswith("5") else b"5\r\nhello\r\n" + LAST
        with server.visit() as visitor:
            visitor.send(request)
            told = visitor.read(until=b"\r\n\r\n")
            if not told.received.startswith(b"HTTP/1.1 100 Continue\r\n\r\n"):
                raise Broken(told, "needed 100 Continue before the body", 0)
            visitor.send(body)
            expect(visitor.read(), 200, body=b"hello", ending="closed")


@since("s11", new=False)
def test_who_need_not_wait_is_not_told(server):
    request = post("/echo", b"hello", "Expect: 100-continue")
    waiting = [
        request,
        request.replace(b"HTTP/1.1", b"HTTP/1.0"),
        get("/health", "Expect: 100-continue"),
    ]
    for whole in waiting:
        exchange = server.say(whole)
        expect(exchange, 200, ending="closed")
        assert exchange.received.startswith(b"HTTP/1.1 200"), "needed no 100 before the answer"


@since("s11", new=False)
def test_a_refusal_comes_in_the_place_of_100(server):
    large = ask("POST /echo HTTP/1.1", "Expect: 100-continue", "Content-Length: 99999999")
    refuses(server, 413, [large])


@since("s11")
def test_another_expectation_is_417(server):
    for expectation in ("the-unexpected", "100-continue, more", "100"):
        refuses(server, 417, [ask("GET /health HTTP/1.1", f"Expect: {expectation}")])
        refuses(
            server,
            417,
            [
                ask(
                    "POST /echo HTTP/1.1",
                    f"Expect: {expectation}",
                    "Content-Length: 5",
                    body=b"hello",
                )
            ],
        )


@since("s11", new=False)
def test_an_upgrade_that_is_not_wanted_is_ignored(server):
    fields = [
        "Upgrade: h2c, websocket",
        "Connection: Upgrade, HTTP2-Settings, close",
        "HTTP2-Settings: AAMA",
    ]
    expect(server.say(ask("GET /health HTTP/1.1", *fields)), 200, ending="closed")


@since("s11")
def test_a_refusal_of_a_head_has_no_body(server):
    for request in (ask("HEAD / HTTP/1.1", host=None), ask("HEAD / HTTP/1.1", "Content-Length: x")):
        with server.visit() as visitor:
            visitor.send(request, by=1)
            expect(visitor.read(), 400, body=b"", ending="closed")


@since("s11")
def test_every_answer_has_a_date(server):
    for request in (
        get("/"),
        get("/no"),
        ask("GET / HTTP/1.1", host=None),
        ask("PUT / HTTP/1.1", "Connection: close"),
    ):
        date = expect(server.say(request)).header("Date")
        assert date, "needed a Date"
        assert abs(parsedate_to_datetime(date).timestamp() - time.time()) < 60, f"it is not {date}"
        assert date.endswith(" GMT")
        assert len(date) == len("Sun, 06 Nov 1994 08:49:37 GMT")


@since("s11", python=True)
def test_nothing_that_is_echoed_becomes_a_header_of_its_own(implementation):
    for value in ("a\\r\\nSet-Cookie: b", "a\\nb", "a\\rb", "a\\0", "\\u20ac"):
        script = (
            f"response = stage.Response(200, 'text/plain', b'', {{'X': '{value}'}})\n"
            "stage.ROUTES['GET', '/echo-header'] = lambda request: response\n"
            "request = stage.parse_request(b'GET /echo-header HTTP/1.1\\r\\nHost: a')\n"
            "print('status', stage.respond(request).status)"
        )
        words = drive(implementation, script)
        assert "status 500" in words, f"needed an error for a header with {value}"


@since("s11", new=False)
def test_what_is_said_of_a_refusal_is_harmless(server):
    """What came is quoted with escapes, and shortened."""
    for junk in (b"\x1b[31m\x07", b"\xff" * 5000, b"<script>"):
        answer = server.say(b"GET " + junk + b" HTTP/1.1\r\nHost: a\r\n\r\n").answer
        assert answer.header("Content-Type").startswith("text/plain")
        assert answer.text.isascii()
        assert answer.text.strip().isprintable()
        assert len(answer.text) < 1000


@since("s11", new=False)
def test_a_body_nobody_asked_for_is_taken(server):
    exchange = server.say(chunked("/health", b"x" * 100).replace(b"POST", b"GET") + get("/health"))
    expect_each(exchange, 200, 200, ending="closed")


@since("s11")
def test_a_tls_handshake_is_told_at_once(server):
    """https:// on this port: both ends would wait for the other."""
    hello = b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + bytes(190)
    answer = expect(server.say(hello), 400, ending="closed")
    assert "TLS" in answer.text, "needed to be told that this is not the port for TLS"


@since("s11", python=True)
def test_a_route_that_ends_in_a_slash_is_for_all_below_it(implementation):
    script = (
        "stage.ROUTES['GET', '/below/'] = lambda request: stage.Response(200, 'a/b', b'')\n"
        "for line in ('GET /below', 'GET /below/', 'GET /below/a/b', 'PUT /below/a', 'GET /b'):\n"
        "    head = f'{line} HTTP/1.1\\r\\nHost: a'.encode()\n"
        "    print(line, stage.respond(stage.parse_request(head)).status)"
    )
    words = drive(implementation, script)
    for line in ("GET /below 200", "GET /below/ 200", "GET /below/a/b 200", "PUT /below/a 405"):
        assert line in words, f"needed {line}"
    assert "GET /b 404" in words, "needed 404 for a path that is not below it"
