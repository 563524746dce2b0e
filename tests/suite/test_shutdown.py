"""The end of a server: the door, the queue, the crew."""

import re
import signal
import threading

import pytest
from suite.clients import GET, HALF, PAUSE, REST, crowd, get, ready, refuses, signals, until
from suite.report import expect
from suite.requirements import since

pytestmark = signals
both = pytest.mark.parametrize("ask", [signal.SIGINT, signal.SIGTERM], ids=lambda ask: ask.name)


@both
@since("s09")
def test_an_answer_that_has_begun_is_finished(server, ask):
    with crowd(server, 1, HALF) as [visitor]:
        server.process.send_signal(ask)
        until(lambda: refuses(server), "a new visitor is refused")
        visitor.send(REST)
        expect(visitor.read(), 200, ending="closed")
    assert server.wait() == 0


@since("s07", until="s09", limitation=True)
def test_ctrl_c_drops_who_is_being_served(server):
    with crowd(server, 8, get("/sleep?seconds=20")) as visitors:
        server.interrupt()
        assert not any(visitor.read().answers for visitor in visitors)


@both
@since("s09", WORKERS=2)
def test_all_who_were_accepted_are_answered(server, ask):
    with crowd(server, 8, HALF) as visitors:
        server.process.send_signal(ask)
        until(lambda: refuses(server), "a new visitor is refused")
        for visitor in visitors:
            visitor.send(REST)
            expect(visitor.read(), 200, ending="closed")
    assert server.wait() == 0


@since("s09")
def test_the_door_is_closed_before_the_work_is_done(server):
    with crowd(server, 1, HALF) as [visitor]:
        server.terminate()
        until(lambda: refuses(server), "a new visitor is refused")
        assert not ready([visitor], within=PAUSE), "it went before the work was done"
        visitor.send(REST)
        expect(visitor.read(), 200)
    assert server.wait() == 0


@since("s09")
def test_sigterm_ends_it_with_status_0(server):
    expect(server.say(GET), 200)
    server.terminate()
    assert server.wait() == 0


@since("s09", python=True, WORKERS=3)
def test_every_worker_says_that_it_exits(server):
    server.terminate()
    assert server.wait() == 0
    gone = re.findall(r"(worker-\d+) +worker exits", server.stderr)
    assert sorted(gone) == ["worker-1", "worker-2", "worker-3"]
    assert "GRACE_SECONDS" not in server.stderr, "needed no warning: nothing was dropped"


@since("s09", GRACE_SECONDS=1)
def test_silent_callers_cannot_hold_it_for_longer_than_its_grace(server):
    with crowd(server, 6):
        server.terminate()
        assert server.wait() == 0


@since("s09", GRACE_SECONDS=60)
def test_a_second_signal_ends_it_at_once(server):
    with crowd(server, 1, get("/sleep?seconds=50")) as sleepers:
        server.terminate()
        until(lambda: refuses(server), "a new visitor is refused")
        assert not ready(sleepers, within=PAUSE), "the first signal waits for who is being served"
        server.terminate()
        server.wait()


@both
@since("s09", new=False)
def test_under_load_every_answer_that_begins_is_whole(server, ask):
    exchanges, enough = [], threading.Event()

    def visit():
        while (exchange := server.say(GET)).ending != "refused":
            exchanges.append(exchange)
            if len(exchanges) > 100:
                enough.set()

    visitors = [threading.Thread(target=visit) for _ in range(4)]
    for visitor in visitors:
        visitor.start()
    assert enough.wait(30)
    server.process.send_signal(ask)
    for visitor in visitors:
        visitor.join(30)
    assert server.wait() == 0
    for exchange in exchanges:
        if exchange.received:
            expect(exchange, 200, ending="closed")
    came = sum(" from 127.0.0.1:" in line for line in server.stderr.splitlines())
    served = sum(": GET / 200" in line for line in server.stderr.splitlines())
    assert came == served or not came
