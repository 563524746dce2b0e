"""A hostile network: whatever a caller does, the next one is served as if nothing had been."""

import re

from suite.clients import GET, HALF, PAUSE, REST, ask, crowd, get, logged, patiently, post, ready
from suite.report import expect
from suite.requirements import since


def is_served(server):
    """Hold the server to serving an ordinary visitor."""
    is_understood(server, server.say(GET), "GET / HTTP/1.1")


def is_understood(server, exchange, line):
    """Hold the server to having read a request as a whole: s02 prints it, s03 answers it."""
    if server.title < "s03":
        assert exchange.ending != "refused", "it has ended"
        logged(server, re.escape(line))
    else:
        expect(exchange, 200, ending="closed")


@since("s02")
def test_a_request_may_come_byte_by_byte(server):
    with server.visit() as visitor:
        visitor.send(GET[:1])
        assert not ready([visitor], within=PAUSE), "it took one byte for a request"
        visitor.send(GET[1:], by=1)
        is_understood(server, visitor.read(), "GET / HTTP/1.1")


@since("s02")
def test_cr_and_lf_may_come_apart(server):
    exchange = patiently(server, GET[:-1], GET[-1:])
    is_understood(server, exchange, "GET / HTTP/1.1")


@since("s02")
def test_a_head_of_20_kilobytes_is_read(server):
    line = "X-Long: " + "a" * 20_000
    is_understood(server, server.say(get("/", line)), line)


@since("s02", new=False)
def test_a_caller_who_connects_and_leaves_costs_nothing(server):
    for _ in range(5):
        with server.visit():
            pass
    is_served(server)


@since("s02", new=False)
def test_a_caller_who_leaves_in_mid_request_costs_nothing(server):
    with server.visit() as visitor:
        visitor.send(HALF)
    is_served(server)


@since("s02", new=False)
def test_a_caller_who_half_closes_in_mid_request_costs_nothing(server):
    with server.visit() as visitor:
        visitor.send(HALF)
        visitor.finish()
        assert visitor.read().ending in ("closed", "reset")
    is_served(server)


@since("s02", new=False)
def test_a_reset_in_mid_request_costs_nothing(server):
    with server.visit() as visitor:
        visitor.send(HALF)
        visitor.reset()
    is_served(server)


@since("s02", new=False)
def test_bytes_that_are_not_utf_8_cost_nothing(server):
    for junk in (b"\xff\xfe\r\n\r\n", b"GET /\xff HTTP/1.1\r\nX: \xff\r\n\r\n", bytes(256) * 9):
        with server.visit() as visitor:
            visitor.send(junk)
            visitor.finish()
            visitor.read()
    is_served(server)


@since("s02", new=False)
def test_a_header_that_is_not_utf_8_is_only_bytes(server):
    is_understood(server, server.say(get("/", "X-Name: Zo\xeb")), "X-Name: Zo\\xeb")


@since("s03")
def test_a_caller_who_half_closes_still_has_his_answer(server):
    with server.visit() as visitor:
        visitor.send(GET)
        visitor.finish()
        expect(visitor.read(), 200, ending="closed")


@since("s03", new=False)
def test_a_reset_in_mid_answer_costs_nothing(server):
    for _ in range(5):
        with server.visit() as visitor:
            visitor.send(GET)
            visitor.reset()
    is_served(server)


@since("s05", new=False)
def test_a_reset_in_the_middle_of_a_long_answer_costs_nothing(server):
    with server.visit() as visitor:
        visitor.send(post("/echo", b"long" * 250_000))
        assert ready([visitor])
        visitor.reset()
    is_served(server)


@since("s03", until="s10")
def test_two_requests_in_one_write_have_one_answer(server):
    exchange = server.say(ask("GET / HTTP/1.1") * 2)
    expect(exchange, 200, ending="closed")
    assert len(exchange.answers) == 1


@since("s04")
def test_a_body_is_read_before_the_connection_is_closed(server):
    """Closing with unread input resets the connection, and can destroy the answer on its way."""
    body = b"b" * 1_000_000
    exchange = server.say(post("/echo", body))
    assert exchange.ending == "closed", f"needed the connection closed, it was {exchange.ending}"
    expect(exchange, 200)


@since("s03", until="s07", limitation=True)
def test_a_silent_caller_holds_up_everybody(server):
    """By nature: one at a time. It is the motive for a thread per connection."""
    with server.visit() as silent, server.visit() as next_one:
        next_one.send(GET)
        silent.send(HALF)
        assert not ready([next_one], within=0.5), "needed him to wait, and he was served"
        silent.send(REST)
        expect(silent.read(), 200)
        expect(next_one.read(), 200)


@since("s07")
def test_a_silent_caller_holds_up_nobody(server):
    with crowd(server, 3), server.visit() as visitor:
        visitor.send(GET)
        expect(visitor.read(), 200, ending="closed")
