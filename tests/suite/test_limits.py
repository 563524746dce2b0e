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
    with server.visit() as served:
        served.send(ask("GET /health HTTP/1.1"))
        expect(served.read(answers=1), 200)  # the only worker is his, until he goes
        with crowd(server, 3, GET) as queued, server.visit() as away:
            away.send(GET)
            expect(away.read(), 503, headers={"Retry-After": "1"}, ending="closed")
            served.send(GET)
            for visitor in (served, *queued):
                expect(visitor.read(), 200, ending="closed")


@since("s12", WORKERS=1)
def test_who_stays_does_not_let_others_wait(server):
    """One who asks again and again would else keep his worker for ever."""
    with server.visit() as guest, server.visit() as newcomer:
        guest.send(ask("GET /sleep?seconds=1 HTTP/1.1"))
        newcomer.send(GET)
        expect(guest.read(), 200, headers={"Connection": "close"}, ending="closed")
        expect(newcomer.read(), 200, ending="closed")


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
