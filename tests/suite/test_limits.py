"""Nobody can use up what is there for all: every resource has a limit, every limit an answer."""

import socket
import threading
import time
from contextlib import suppress

from suite.clients import (
    FLAT,
    GET,
    HALF,
    MEBIBYTE,
    REST,
    ask,
    chunked,
    crowd,
    drip,
    get,
    post,
    until,
)
from suite.report import expect, expect_each
from suite.requirements import Witness, since

from workbench.server.stats import memory

MEGABYTE = bytes(10**6)


@since("s12", MAX_LINE=500)
def test_a_request_line_has_a_limit(server):
    expect(server.say(get("/no?" + "a" * 400)), 404, ending="closed")
    for size in (500, 5_000, 500_000):
        expect(server.say(get("/" + "a" * size)), 414, ending="closed")


@since("s12", new=False)
def test_a_request_line_of_8000_bytes_is_read(server):
    """RFC 9112 §3 recommends no less."""
    expect(server.say(get("/health?" + "a" * 7970)), 200, ending="closed")


@since("s12", MAX_HEAD=5000)
def test_a_head_has_a_limit(server):
    expect(server.say(get("/health", "X: " + "a" * 4000)), 200, ending="closed")
    expect(server.say(get("/health", "X: " + "a" * 5000)), 431, ending="closed")
    expect(server.say(get("/health", *["X: " + "a" * 100] * 60)), 431, ending="closed")
    expect(server.say(HALF + b"X: " + b"a" * 500_000), 431, ending="closed")


@since("s12", MAX_FIELDS=10)
def test_the_number_of_fields_has_a_limit(server):
    expect(server.say(get("/health", *["X: 1"] * 8)), 200, ending="closed")
    expect(server.say(get("/health", *["X: 1"] * 9)), 431, ending="closed")


@since("s12", MAX_BODY=1000)
def test_a_body_has_a_limit_also_in_chunks(server):
    part = b"a" * 500
    exchange = server.say(chunked("/echo", part, part) + post("/echo", part * 2))
    expect_each(exchange, 200, 200, ending="closed")
    expect(server.say(post("/echo", part * 2 + b"a")), 413, ending="closed")
    expect(server.say(chunked("/echo", part, part, b"a")), 413, ending="closed")
    expect(server.say(chunked("/echo", part * 3)), 413, ending="closed")


@since("s12")
def test_the_line_before_a_chunk_has_a_limit(server):
    request = ask("POST /echo HTTP/1.1", "Transfer-Encoding: chunked", body=b"5;" + b"a" * 500_000)
    answer = expect(server.say(request), ending="closed")
    assert 400 <= answer.status < 500, f"needed a refusal, got {answer.status}"


@since("s12", HEAD_SECONDS=2)
def test_a_head_has_to_come_in_time_as_a_whole(server):
    """A deadline for each byte is none: a byte a second would hold a worker for ever."""
    with server.visit() as visitor:
        visitor.send(HALF + b"X: ")
        expect(drip(visitor, b"a", Witness.patience), 408, ending="closed")


@since("s12", BODY_SECONDS=2)
def test_a_body_has_to_come_in_time_as_a_whole(server):
    for request in (
        ask("POST /echo HTTP/1.1", "Content-Length: 10000"),
        ask("POST /echo HTTP/1.1", "Transfer-Encoding: chunked", body=b"10000\r\n"),
    ):
        with server.visit() as visitor:
            visitor.send(request)
            expect(drip(visitor, b"a", Witness.patience), 408, ending="closed")


@since("s12", HEAD_SECONDS=2, WORKERS=4)
def test_a_hundred_slow_callers_keep_a_newcomer_for_one_deadline_at_the_most(server):
    """Every clock runs from the caller's arrival, and not from when a worker has time for him."""
    with crowd(server, 100, HALF) as slow, server.visit(timeout=2 + Witness.patience) as visitor:
        visitor.send(GET)
        expect(visitor.read(), 200, ending="closed")
        for other in slow:
            other.timeout = 2 + Witness.patience
            expect(other.read(), 408, ending="closed")


@since("s12", WORKERS=1, SEND_SECONDS=1)
def test_who_does_not_read_his_answers_is_dropped(server):
    """He may leave unread what the system keeps for him, and no more."""
    with server.visit(timeout=1) as deaf:
        length = f"Content-Length: {MEBIBYTE}"
        deaf.send(40 * ask("POST /echo HTTP/1.1", length, body=bytes(MEBIBYTE)))
        with server.visit(timeout=1 + Witness.patience) as visitor:
            visitor.send(GET)
            expect(visitor.read(), 200, ending="closed")


@since("s12", WORKERS=1, MAX_QUEUE=3)
def test_who_finds_the_queue_full_is_told_to_come_again(server):
    """The only worker waits for the rest of a request, and three more wait for the worker."""
    with (
        crowd(server, 1, HALF) as [served],
        crowd(server, 3, GET) as queued,
        server.visit() as away,
    ):
        away.send(GET)
        expect(away.read(), 503, headers={"Retry-After": "1"}, ending="closed")
        served.send(REST)
        for visitor in (served, *queued):
            expect(visitor.read(), 200, ending="closed")


@since("s12", new=False)
def test_who_lets_nobody_wait_may_stay(server):
    with crowd(server, 4, ask("GET /health HTTP/1.1")) as guests:
        for guest in guests:
            expect(guest.read(answers=1), 200, headers={"Connection": "keep-alive"})


@since("s12", costly=True)
def test_a_refusal_reaches_him_who_sends_a_hundred_megabytes(server):
    """To close with unread input is to reset, and a reset can overtake the answer."""
    body = bytes(100_000_000)
    expect(server.say(post("/echo", body)), 413, ending="closed")
    expect(server.say(HALF + body), ending="closed")


@since("s12", new=False, LINGER_SECONDS=1)
def test_who_never_ends_is_not_listened_to_for_ever(server):
    with server.visit() as visitor:
        visitor.send(ask("GET / HTTP/1.1", host=None))
        expect(visitor.read(answers=1), 400)
        until(lambda: broken_off(visitor), "the connection ends")


def broken_off(visitor):
    """Say something more, and tell whether it is too late for that."""
    visitor.send(b"more")
    return visitor.read().ending == "reset"


@since("s12", costly=True)
def test_memory_stays_flat_whatever_two_hundred_callers_send(server):
    """Fifty megabytes each: heads that never end, bodies that were announced, bodies in chunks.

    What is kept of a crowd is told from what a first crowd makes a program load by a second one.
    """
    expect(server.say(GET), 200)
    before = memory(server)
    first = most_under_a_crowd(server, before + 4 * FLAT)
    assert first < before + 4 * FLAT, f"it grew by {(first - before) / MEBIBYTE:.0f} MiB"
    second = most_under_a_crowd(server, first + FLAT)
    growth = (second - first) / MEBIBYTE
    assert second < first + FLAT, f"a second crowd needed {growth:.0f} MiB more than the first"
    expect(server.say(GET), 200, ending="closed")


def most_under_a_crowd(server, enough):
    """The most memory that a server has while two hundred callers send, or until it is enough."""
    beginnings = [
        HALF + b"X: ",
        ask("POST /echo HTTP/1.1", "Content-Length: 50000000"),
        ask("POST /echo HTTP/1.1", "Transfer-Encoding: chunked", body=b"2faf080\r\n"),
        b"a",
    ]
    callers = [
        threading.Thread(target=pour, args=(server.address, beginning))
        for beginning in beginnings * 50
    ]
    for caller in callers:
        caller.start()
    most = memory(server)
    while most < enough and any(caller.is_alive() for caller in callers):
        most = max(most, memory(server))
        time.sleep(0.1)
    return most


def pour(address, beginning):
    """Send fifty megabytes, whatever is answered, for as long as there is a connection."""
    with suppress(OSError), socket.create_connection(address) as caller:
        caller.sendall(beginning)
        for _ in range(50):
            caller.sendall(MEGABYTE)


@since("s12")
def test_the_limits_are_what_they_are_said_to_be(server):
    expect(server.say(get("/health", *["X: 1"] * 98)), 200, ending="closed")
    expect(server.say(get("/health", *["X: 1"] * 99)), 431, ending="closed")
    line = len("GET /health? HTTP/1.1")
    expect(server.say(get("/health?" + "a" * (8192 - line))), 200, ending="closed")
    expect(server.say(get("/health?" + "a" * (8193 - line))), 414, ending="closed")
    expect(server.say(post("/echo", bytes(2**20))), 200, ending="closed")
    expect(server.say(post("/echo", bytes(2**20 + 1))), 413, ending="closed")


@since("s12", MAX_HEAD=5000)
def test_trailers_and_extensions_have_a_limit(server):
    """What is dropped has to be read all the same."""
    fields = b"".join(b"X-%d: %b\r\n" % (number, b"a" * 100) for number in range(60))
    few = fields[:330]
    expect(
        server.say(
            chunked("/echo", b"a", end=b"0\r\n" + few[: few.rindex(b"X")] + b"\r\n"), answers=1
        ),
        200,
    )
    expect(
        server.say(chunked("/echo", b"a", end=b"0\r\n" + fields + b"\r\n")), 431, ending="closed"
    )
    chunks = b"".join(b"1;x=%b\r\na\r\n" % (b"a" * 100) for _ in range(60))
    expect(server.say(chunked("/echo", end=chunks + b"0\r\n\r\n")), 431, ending="closed")


@since("s12", MAX_HEAD=5000)
def test_an_error_response_to_head_has_no_body(server):
    request = ask("HEAD / HTTP/1.1", "X: " + "a" * 6000)
    exchange = server.say(request)
    expect(exchange, 431, body=b"", ending="closed")
    assert exchange.received.endswith(b"\r\n\r\n"), "needed nothing after the head"


@since("s12", BODY_SECONDS=2, HEAD_SECONDS=2, WORKERS=4)
def test_a_hundred_slow_bodies_cost_one_deadline(server):
    slow_body = ask("POST /echo HTTP/1.1", "Content-Length: 1000", body=b"a")
    one_deadline(server, slow_body, 408)


@since("s12", IDLE_SECONDS=2, WORKERS=4)
def test_a_hundred_silent_clients_cost_one_deadline(server):
    one_deadline(server, b"", None)


def one_deadline(server, beginning, status):
    """A hundred who stop after their beginning: whoever comes then is served after one deadline."""
    with (
        crowd(server, 100, beginning) as slow,
        server.visit(timeout=2 + Witness.patience) as visitor,
    ):
        visitor.send(GET)
        expect(visitor.read(), 200, ending="closed")
        for other in slow:
            other.timeout = Witness.patience
            exchange = other.read()
            if status:
                expect(exchange, status, ending="closed")
            assert exchange.ending == "closed", f"needed the end, it was {exchange.ending}"


@since("s12", new=False)
def test_a_thousand_clients_at_once_are_all_served(server):
    """All workers are busy, and more than any browser would open come at once; some hundreds do."""
    with crowd(server, 4, HALF) as busy, crowd(server, 400, GET) as waiting:
        for visitor in busy:
            visitor.send(REST)
        for visitor in (*busy, *waiting):
            visitor.timeout = 4 * Witness.patience
            expect(visitor.read(), 200, ending="closed")


@since("s12", WORKERS=1)
def test_a_busy_connection_takes_turns_with_others(server):
    """Fifty requests at once on one connection, two seconds of work; one request on another."""
    with server.visit(timeout=20) as busy, server.visit(timeout=1) as other:
        busy.send(49 * ask("GET /sleep?seconds=0.04 HTTP/1.1") + get("/health"))
        busy.read(answers=1)
        other.send(GET)
        expect(other.read(), 200, ending="closed")
        expect(busy.read(), 200, ending="closed")


@since("s12", WORKERS=1, IDLE_SECONDS=60)
def test_no_worker_waits_for_an_idle_client_while_others_wait(server):
    with server.visit() as idle, server.visit() as busy:
        idle.send(ask("GET /sleep?seconds=0.5 HTTP/1.1"))
        busy.send(get("/sleep?seconds=1"))
        expect(idle.read(answers=1), 200)
        with server.visit() as other:  # which waits behind the turn of the one that is idle
            other.send(GET)
            expect(busy.read(), 200, ending="closed")
            expect(other.read(), 200, ending="closed")
