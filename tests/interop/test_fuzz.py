"""Whatever is sent, a stage answers or hangs up, and keeps nothing of it.

The same for longer: `tox -e fuzz`, or `FUZZ_SECONDS=30 pytest -n0 -rP tests/test_fuzz.py`.
"""

import re

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from interop.wire_format import PROPERTY, each_alone, effort, rounds, streams
from suite.clients import GET, until
from suite.report import expect
from suite.requirements import PATIENCE, Witness, python_program

from workbench.course.catalogue import heirs
from workbench.server.stats import family, threads

STATUSES = b"100 200 204 400 404 405 408 413 414 417 431 501 505".split()  # and no 500
STATUS_LINE = re.compile(rb"^HTTP/1\.1 ([0-9]{3}) ", re.MULTILINE)
LINGERS = heirs("s12")  # where an answer is never lost in a reset
SLACK = 0 if hasattr(psutil.Process, "num_fds") else 50  # handles that Windows opens for itself


def descriptors(server):
    """Count the files and sockets that the program holds; on Windows, all its handles."""
    count = "handles" if SLACK else "fds"
    return sum(getattr(process, f"num_{count}")() for process in family(server))


def holds(exchange, known):
    """Hold an exchange to its form: whole answers with a status that is known, then the end."""
    assert exchange.ending == "closed" or (exchange.ending == "reset" and known not in LINGERS)
    assert set(STATUS_LINE.findall(exchange.received)) <= set(STATUSES)
    if b"HEAD" not in exchange.sent:  # who guesses what is a HEAD may guess wrong
        answers = exchange.answers if exchange.ending == "closed" else exchange.answers[:-1]
        assert not [answer.fault for answer in answers if answer.fault]


def besiege(known):
    """Send a stage one stream after another, and return how many; then it must be as before."""
    sent = []
    with python_program(known, known.path).start(IDLE_SECONDS=1, HEAD_SECONDS=1) as server:
        before = threads(server), descriptors(server) + SLACK

        def ends_well(pieces, leaves):
            sent.append(b"".join(pieces))
            with server.visit() as visitor:
                for piece in pieces:
                    visitor.send(piece)
                if leaves:
                    visitor.reset()
                else:
                    visitor.finish()
                    holds(visitor.read(), known)

        for alone in each_alone():
            ends_well([alone], leaves=False)
        effort(80)(given(streams(), st.sampled_from([False, False, True]))(ends_well))()
        expect(server.say(GET), 200, ending="closed")
        until(lambda: threads(server) <= before[0], "no thread is left over")
        until(lambda: descriptors(server) <= before[1], "no descriptor is left over")
        quiet, trace, _ = server.log.partition("Traceback")
        number = len(re.findall("connection [0-9]+ from", quiet))
        assert not trace, f"after one of {sent[max(0, number - 2) : number]}\n{server.log}"
    return len(sent)


@PROPERTY
@pytest.mark.parametrize("known", heirs("s10"), ids=lambda known: known.slug)
def test_whatever_is_sent_has_an_end_and_leaves_nothing_behind(known, request, monkeypatch):
    monkeypatch.setattr(Witness, "patience", PATIENCE)
    print(f"{known.slug}: {sum(besiege(known) for _ in rounds(request)):,} streams of requests")
