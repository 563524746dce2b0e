"""A distance before a server: what it costs, and that it changes and leaves nothing."""

import contextlib
import os
import threading

import pytest
from suite.clients import until

from workbench.client.client import NoAnswer, Visitor, say
from workbench.measure.latency import far, one_by_one
from workbench.server.launch import launch
from workbench.server.stats import accepted

JOURNEY = 0.1  # seconds
LEAST = 0.9 * JOURNEY  # what a clock that ticks slowly shows of it
HALF = b"GET / HTTP/1.1\r\n"


@pytest.fixture
def server():
    with launch("s10") as running:
        yield running


def test_a_greeting_and_every_answer_cost_a_journey_there_and_back(server):
    with far(server, 1000 * JOURNEY) as there:
        first, second = one_by_one(there, ["/health", "/about"]).visits
    assert first.connected - first.started >= 2 * LEAST
    assert first.first_byte - first.connected >= 2 * LEAST
    assert second.connected == second.started
    assert second.first_byte - second.started >= 2 * LEAST
    assert (first.path, first.outcome, second.path, second.outcome) == (
        *("/health", "200"),
        *("/about", "200"),
    )


def test_a_visitor_stays_on_his_connection_for_as_long_as_he_may(server):
    for stage, connections in ((launch("s09"), 3), (server, 1)):
        with stage, far(stage, 1) as there:
            visits = one_by_one(there, ["/health"] * 3).visits
            assert [visit.status for visit in visits] == [200] * 3
            assert stage.log.count(" from 127.0.0.1:") == connections


def test_without_a_distance_a_visitor_needs_no_greeting(server):
    (visit,) = one_by_one(server, ["/nope"]).visits
    assert visit.status == 404
    assert visit.started <= visit.connected <= visit.first_byte <= visit.ended


def test_what_travels_arrives_whole_and_in_order(server):
    body = os.urandom(2**20)
    head = f"POST /echo HTTP/1.1\r\nHost: far\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with far(server, 1) as there:
        assert say(there, head, body, answers=1).answer.body == body


def test_an_end_travels_too(server):
    with far(server, 1) as there:
        assert say(there, HALF, finish=True).ending == "closed"
    server.wait_for("the client left")


def test_a_server_that_is_gone_is_heard_to_hang_up(server):
    with far(server, 1) as there:
        server.stop()
        with pytest.raises(NoAnswer):
            one_by_one(there, ["/"])


def test_nothing_is_left_of_it(server):
    before = threading.active_count()
    with contextlib.suppress(ZeroDivisionError), far(server, 1) as there:
        visitor = Visitor(there.address)
        visitor.send(HALF)
        server.wait_for("connection 1 from")
        raise ZeroDivisionError
    with visitor:
        assert visitor.read().ending in ("closed", "reset")
    until(lambda: not accepted(server), "the server has nobody left")
    assert threading.active_count() == before
    assert say(there).ending == "refused"
