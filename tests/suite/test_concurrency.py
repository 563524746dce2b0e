"""Many at once: who waits for whom, what a visitor costs, and what the log says of it."""

import time
from contextlib import ExitStack

from suite.clients import GET, HALF, REST, crowd, drive, get, logged, ready, until
from suite.report import expect
from suite.requirements import since

from workbench.server.stats import threads


@since("s06")
def test_sleep_takes_the_time_that_it_is_told(server):
    began = time.monotonic()
    expect(server.say(get("/sleep?seconds=0.5")), 200)
    took = time.monotonic() - began
    assert took >= 0.5, f"needed an answer after half a second, got it after {took:.3f}"


@since("s06", until="s07")
def test_sleep_takes_five_seconds_when_it_is_not_told(server):
    began = time.monotonic()
    expect(server.say(get("/sleep"), timeout=20), 200)
    took = time.monotonic() - began
    assert took >= 5, f"needed an answer after five seconds, got it after {took:.3f}"


@since("s06")
def test_sleep_refuses_what_is_no_time(server):
    for seconds in ("61", "-1", "soon", "nan", "", "1e1", "600000000000"):
        expect(server.say(get(f"/sleep?seconds={seconds}")), 400)


@since("s06", until="s07", limitation=True)
def test_a_fast_request_waits_behind_a_slow_one(server):
    with crowd(server, 1, get("/sleep?seconds=1")) as [slow], server.visit() as fast:
        fast.send(GET)
        assert slow in ready([slow, fast]), "needed the fast one to wait, and he was served"
        expect(slow.read(), 200)
        expect(fast.read(), 200)


@since("s07")
def test_a_slow_request_does_not_hold_up_a_fast_one(server):
    with crowd(server, 1, get("/sleep?seconds=4")) as [slow], server.visit() as fast:
        fast.send(GET)
        assert ready([slow, fast]) == [fast], "needed the fast one first, and he had to wait"
        expect(fast.read(), 200, ending="closed")


@since("s07")
def test_visitors_are_served_in_the_order_in_which_they_finish_asking(server):
    """Four have begun; the last who came ends his request first, and is answered first."""
    with crowd(server, 4, HALF) as visitors:
        for visitor in reversed(visitors):
            visitor.send(REST)
            expect(visitor.read(), 200, ending="closed")


@since("s03", new=False)
def test_a_hundred_visitors_in_a_row_are_all_served(server):
    for _ in range(100):
        expect(server.say(GET), 200, ending="closed")


@since("s07", until="s08", new=False, limitation=True)
def test_two_hundred_visitors_are_two_hundred_threads(server):
    with crowd(server, 200):
        until(lambda: threads(server) > 200, "every visitor has a thread")


@since("s08")
def test_two_hundred_visitors_cost_no_thread_more(server):
    expect(server.say(GET), 200)
    before = threads(server)
    with crowd(server, 200):
        assert threads(server) == before


@since("s07", until="s08", python=True)
def test_a_thread_bears_the_number_of_its_connection(server):
    for number in (1, 2, 3):
        server.say(GET)
        logged(server, rf"connection-{number} +connection {number}: GET / 200")


@since("s08", python=True, WORKERS=3)
def test_every_worker_has_a_name_and_gets_work(server):
    with crowd(server, 3, HALF) as visitors:
        for visitor in visitors:
            visitor.send(REST)
            expect(visitor.read(), 200)
    for number in (1, 2, 3):
        logged(server, rf"worker-{number} +connection [123]: GET / 200")


@since("s06", python=True)
def test_the_log_says_when_who_and_what(server):
    server.say(get("/about?x=1"))
    logged(server, r"^ *\d+ ms +\S+ +connection 1: GET /about\S* 200$")


@since("s06", LOG_LEVEL="warning")
def test_the_log_level_can_be_chosen(server):
    """A benchmark compares servers without their logs; a failure is logged all the same."""
    for path in ("/", "/no", "/health"):
        server.say(get(path))
    assert "connection 1" not in server.log, "needed no line for a request"


@since("s07", until="s08", python=True)
def test_a_thread_that_cannot_start_costs_one_connection(implementation):
    script = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
listener.settimeout(1)
threading.Thread(target=stage.serve, args=(listener,), daemon=True).start()
def fail(thread):
    raise RuntimeError("can't start new thread")
start, threading.Thread.start = threading.Thread.start, fail
with socket.create_connection(listener.getsockname(), timeout=2) as client:
    print("closed:", client.recv(1) == b"", flush=True)
threading.Thread.start = start
with socket.create_connection(listener.getsockname(), timeout=2) as client:
    client.sendall(b"GET / HTTP/1.1\\r\\nHost: test\\r\\n\\r\\n")
    print("served:", client.recv(15) == b"HTTP/1.1 200 OK", flush=True)
"""
    words = drive(implementation, script)
    assert "closed: True" in words, "needed the connection without a thread to be closed"
    assert "served: True" in words, "needed the next connection to be served"


@since("s08", WORKERS=2)
def test_no_more_are_served_at_once_than_there_are_workers(server):
    with crowd(server, 2, HALF) as busy, server.visit() as third:
        third.send(GET)
        assert not ready([third], within=1), "needed him to wait, and he was served"
        busy[1].send(REST)
        expect(busy[1].read(), 200)
        expect(third.read(), 200)
        busy[0].send(REST)
        expect(busy[0].read(), 200)


@since("s08", costly=True, WORKERS=4)
def test_eight_sleepers_on_four_workers_are_two_waves(server):
    """A wave is three seconds, so that a machine may be late by as much."""
    with ExitStack() as stack:
        sleepers = [stack.enter_context(server.visit(timeout=8)) for _ in range(8)]
        for sleeper in sleepers:
            sleeper.send(get("/sleep?seconds=3"))
        exchanges = []
        for sleeper in sleepers:
            exchanges.append(sleeper.read())
            expect(exchanges[-1], 200)
    first = min(exchange.moments.sent for exchange in exchanges)
    waves = sorted(exchange.moments.first_byte - first for exchange in exchanges)
    assert waves[3] < 6 <= waves[4] + 0.01
    assert waves[7] < 9


@since("s08", python=True)
def test_a_job_that_fails_costs_no_worker(implementation):
    script = (
        "pool, done = stage.ThreadPool(1), threading.Event()\n"
        "pool.execute(lambda: 1 / 0)\n"
        "pool.execute(done.set)\n"
        "print('the next job was done:', done.wait(2), flush=True)"
    )
    words = drive(implementation, script)
    assert "the next job was done: True" in words
    assert "ZeroDivisionError" in words, "a job that fails is logged"
