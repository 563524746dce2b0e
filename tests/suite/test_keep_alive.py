"""One connection, many answers: where each request ends, and when the connection does."""

import socket
import threading
import time
from contextlib import suppress

from suite.chance import blob, word
from suite.clients import PAUSE, ask, chunked, crowd, drive, get, ready, refuses, signals, until
from suite.report import expect, expect_each
from suite.requirements import Witness, since

KEEP = ask("GET /health HTTP/1.1")


def greeted(exchange):
    """Whom the answers of an exchange greet, in order."""
    return [answer.json()["message"].removeprefix("Hello, ")[:-1] for answer in exchange.answers]


@since("s10")
def test_one_connection_has_many_answers(server):
    with server.visit() as visitor:
        for path in ("/health", "/about", "/hello", "/"):
            visitor.send(ask(f"GET {path} HTTP/1.1"))
            expect(visitor.read(answers=1), 200, headers={"Connection": "keep-alive"})


@since("s10")
def test_requests_in_one_write_are_answered_in_order(server):
    names = [word() for _ in range(20)]
    asked = [ask(f"GET /hello?name={name} HTTP/1.1") for name in names[:-1]]
    exchange = server.say(b"".join(asked) + get(f"/hello?name={names[-1]}"))
    expect(exchange, 200, ending="closed")
    assert greeted(exchange) == names


@since("s10")
def test_requests_byte_by_byte_are_answered_in_order(server):
    names = [word(), word()]
    with server.visit() as visitor:
        visitor.send(b"".join(ask(f"GET /hello?name={name} HTTP/1.1") for name in names), by=1)
        exchange = visitor.read(answers=2)
    expect(exchange, 200)
    assert greeted(exchange) == names


@since("s10")
def test_a_body_ends_where_its_length_says(server):
    """The body looks like a request, and even a body that nobody needs is taken."""
    body = b"GET /about HTTP/1.1\r\nHost: test\r\n\r\n"
    length = f"Content-Length: {len(body)}"
    asked = [ask(f"POST {path} HTTP/1.1", length, body=body) for path in ("/echo", "/about", "/no")]
    exchange = server.say(b"".join(asked) + get("/health"))
    expect(exchange, body=body)
    expect_each(exchange, 200, 405, 404, 200, ending="closed")


@since("s11")
def test_a_body_may_come_in_chunks(server):
    chunks = [b"w", word().encode(), b"", b"GET / HTTP/1.1\r\n\r\n", blob(5000)]
    with server.visit() as visitor:
        for by in (None, 3):
            visitor.send(chunked("/echo", *filter(None, chunks)) + KEEP, by=by)
            exchange = visitor.read(answers=2)
            expect(exchange, 200, body=b"".join(chunks))
            assert exchange.answers[1].json() == {"status": "ok"}


@since("s11", new=False)
def test_a_body_in_chunks_over_one_mebibyte_is_refused(server):
    answer = expect(server.say(chunked("/echo", bytes(2**20), b"x")), ending="closed")
    assert answer.status in (400, 413), "needed a refusal"


@since("s11")
def test_head_has_the_head_of_get_and_no_body(server):
    """A body would be taken for the beginning of the next answer."""
    for path in ("/", "/health", "/nothing"):
        of_get = server.say(get(path)).answer
        exchange = server.say(ask(f"HEAD {path} HTTP/1.1") + get("/health"))
        length = {"Content-Length": of_get.header("Content-Length")}
        expect(exchange, of_get.status, headers=length, body=b"")
        expect_each(exchange, of_get.status, 200, ending="closed")


CLOSING = [
    ["Connection: close"],
    ["connection: CLOSE"],
    ["Connection: keep-alive, Close"],
    ["Connection: one ,\tclose,two"],
    ["Connection: one", "Connection: close"],
]
STAYING = [
    ["Connection: keep-alive"],
    ["Connection: x-close"],
    ["Connection: closed"],
    ["Connection:"],
    ["Keep-Alive: close"],
]


@since("s10", new=False)
def test_close_is_one_of_a_list_in_any_case(server):
    for lines in CLOSING:
        exchange = server.say(ask("GET /health HTTP/1.1", *lines) + KEEP)
        expect(exchange, headers={"Connection": "close"})
        expect_each(exchange, 200, ending="closed")


LONG = 300_000  # letters: whoever looks at each of them once for each is not done today
FIELDS = (
    *("Connection", "Expect", "Transfer-Encoding", "Content-Type", "Accept-Encoding"),
    *("Range", "If-Match", "If-None-Match", "If-Modified-Since", "X-Request-Id"),
)


@since("s10", new=False, MAX_HEAD=10**7, MAX_LINE=10**7)
def test_a_long_header_costs_no_time(server):
    values = [f"a{' ' * LONG}b", "a," * (LONG // 2), "a; " * (LONG // 3), '"' * LONG]
    for name in FIELDS:
        for value in values:
            request = ask("GET /static/hello.html HTTP/1.1", f"{name}: {value}")
            expect(server.say(request, answers=1))


@since("s10")
def test_what_only_looks_like_close_does_not_close(server):
    for lines in STAYING:
        with server.visit() as visitor:
            visitor.send(ask("GET /health HTTP/1.1", *lines))
            expect(visitor.read(answers=1), 200, headers={"Connection": "keep-alive"})
            visitor.send(KEEP)
            expect(visitor.read(answers=1), 200)


@since("s10", new=False)
def test_http_1_0_closes_unless_it_is_asked_to_stay(server):
    exchange = server.say(ask("GET /health HTTP/1.0") + KEEP)
    expect(exchange, headers={"Connection": "close"})
    expect_each(exchange, 200, ending="closed")


@since("s10")
def test_http_1_0_stays_if_it_is_asked_to(server):
    with server.visit() as visitor:
        for option in ("keep-alive", "Keep-Alive", "x, KEEP-ALIVE"):
            visitor.send(ask("GET /health HTTP/1.0", f"Connection: {option}"))
            expect(visitor.read(answers=1), 200, headers={"Connection": "keep-alive"})
        visitor.send(ask("GET /health HTTP/1.0", "Connection: keep-alive, close"))
        expect(visitor.read(), 200, headers={"Connection": "close"}, ending="closed")


@since("s10")
def test_an_answer_that_is_no_refusal_does_not_end_the_connection(server):
    with server.visit() as visitor:
        for line, status in [("GET /no", 404), ("PUT /", 405), ("GET /sleep?seconds=x", 400)]:
            visitor.send(ask(f"{line} HTTP/1.1"))
            expect(visitor.read(answers=1), status, headers={"Connection": "keep-alive"})


@since("s10", new=False)
def test_a_refusal_ends_the_connection_and_says_so(server):
    """Where a request was not understood, nobody knows where the next one begins."""
    exchange = server.say(b"GET  / HTTP/1.1\r\nHost: test\r\n\r\n" + KEEP)
    expect(exchange, headers={"Connection": "close"})
    expect_each(exchange, 400, ending="closed")


@since("s10")
def test_a_caller_who_half_closes_still_has_all_his_answers(server):
    with server.visit() as visitor:
        visitor.send(KEEP * 5)
        visitor.finish()
        exchange = visitor.read()
    expect_each(exchange, *[200] * 5, ending="closed")


@since("s10", IDLE_SECONDS=1)
def test_who_says_nothing_is_let_go(server):
    with server.visit() as newcomer, server.visit() as guest:
        guest.send(KEEP)
        expect(guest.read(answers=1), 200, headers={"Connection": "keep-alive"})
        for visitor in (newcomer, guest):
            exchange = visitor.read()
            assert exchange.ending == "closed", f"needed the end, it was {exchange.ending}"
            assert not exchange.received


@since("s10", until="s12", limitation=True, WORKERS=2, IDLE_SECONDS=60)
def test_as_many_silent_guests_as_workers_hold_up_a_newcomer(server):
    """A thread that waits for one caller serves no other: it is the motive for an event loop."""
    with server.visit() as first, server.visit() as second:
        for guest in (first, second):
            guest.send(KEEP)
            expect(guest.read(answers=1), 200)
        is_held_up_until_one_of_them_leaves(server, first)


@since("s12", new=False, limitation=True, WORKERS=2, IDLE_SECONDS=60)
def test_as_many_clients_that_say_nothing_as_workers_hold_up_a_newcomer(server):
    """Those that were served once give way; those that have not begun have their time."""
    with crowd(server, 2) as guests:
        is_held_up_until_one_of_them_leaves(server, guests[0])


def is_held_up_until_one_of_them_leaves(server, guest):
    """Hold a newcomer to wait while every worker does, and to be served once one is free."""
    with server.visit() as newcomer:
        newcomer.send(KEEP)
        assert not ready([newcomer], within=PAUSE), "needed it to wait, and it was served"
        guest.close()
        expect(newcomer.read(answers=1), 200)


@signals
@since("s10", GRACE_SECONDS=60, IDLE_SECONDS=60, WORKERS=6)
def test_idle_callers_are_let_go_at_once(server):
    with crowd(server, 4, ask("GET / HTTP/1.1")) as visitors:
        for visitor in visitors:
            expect(visitor.read(answers=1), 200, headers={"Connection": "keep-alive"})
        server.terminate()
        assert server.wait() == 0
        assert {visitor.read().ending for visitor in visitors} == {"closed"}


@signals
@since("s10", new=False)
def test_the_last_answer_before_the_end_says_so(server):
    with crowd(server, 1, b"GET / HTTP/1.1\r\n") as [visitor]:
        server.terminate()
        until(lambda: refuses(server), "a new visitor is refused")
        visitor.send(b"Host: test\r\n\r\n")
        expect(visitor.read(), 200, headers={"Connection": "close"}, ending="closed")
    assert server.wait() == 0


IDLE = """
import socket, time
near, far = socket.socketpair()
near.settimeout(3)
shared = [None for name in stage.Server.__dataclass_fields__ if name in ("pool", "closers")]
server, connection = stage.Server(*shared), stage.Connection(near, 1, "127.0.0.1")
connection.requests = 1
"""


@since("s10", python=True)
def test_a_connection_that_becomes_idle_after_the_stop_is_closed(implementation):
    script = (
        IDLE
        + """
server.stopping, start = True, time.monotonic()
try:
    print("another:", stage.wait_for_request(connection, server))
except TimeoutError:
    print("another: False")
print("waited:", time.monotonic() - start > 1)
"""
    )
    words = drive(implementation, script)
    assert "another: False\nwaited: False" in words, "needed it not to wait when the server stops"


@since("s10", python=True)
def test_a_connection_that_is_over_is_forgotten(implementation):
    script = (
        IDLE
        + """
far.close()
class Pool:
    def saturated(self):
        return False
server.pool = Pool()
try:
    print("another:", stage.wait_for_request(connection, server))
except OSError:
    print("another: False")
print("kept:", len(server.idle))
"""
    )
    words = drive(implementation, script)
    assert "another: False\nkept: 0" in words, (
        "needed nothing to be kept of a connection that is over"
    )


def is_stuck(server):
    """Wait until a server has said nothing for a second: nothing more fits into the buffers."""
    deadline, said = time.monotonic() + Witness.patience, None
    while said != (said := server.log) and time.monotonic() < deadline:
        time.sleep(1)


def sends(client, data):
    """Send for as long as there is somebody who takes it."""
    with suppress(OSError):
        client.sendall(data)


@since("s10", new=False)
def test_a_client_that_reads_slowly_gets_every_byte(server):
    """What does not fit into the system's buffers waits until the client has read some."""
    body, times = blob(2**20), 6
    asked = ask("POST /echo HTTP/1.1", f"Content-Length: {len(body)}", body=body)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(20)
        client.connect(server.address)
        last = asked.replace(b"Host", b"Connection: close\r\nHost", 1)
        sender = threading.Thread(target=sends, args=(client, asked * (times - 1) + last))
        sender.start()
        is_stuck(server)
        received = bytearray()
        with suppress(OSError):  # what has not come by then is missing
            while chunk := client.recv(2**18):
                if len(received) >> 18 != len(received) + len(chunk) >> 18:
                    time.sleep(0.05)  # so that a part of the buffers is free, and not all
                received += chunk
    sender.join()
    assert received.count(body) == times, "needed every byte of every response"
