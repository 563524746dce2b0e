"""Programs from a zygote: as if Python had been started for each, and apart from one another."""

import os
import signal
import subprocess
import sys

import pytest
from suite.clients import until

from workbench.sandbox import fork_server
from workbench.sandbox.fork_server import ForkedProgram, ForkServer
from workbench.sandbox.isolation import environment, own, probe, workplace
from workbench.server.processes import descendants, spawn

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not probe().has("bubblewrap"), reason="needs bubblewrap"
)
SELF = """
import __main__, sys, os, signal, threading
print(__name__, __file__, sys.argv, sys.path, os.getcwd())
print(sorted(os.environ.keys() - {"PWD"}), sys.flags)  # PWD is of bubblewrap
print(sorted(name for name in vars(__main__) if name.startswith("__")))
print([signal.getsignal(number) for number in (2, 13, 15, 17)], signal.pthread_sigmask(0, []))
print(threading.current_thread().name, threading.active_count(), sys.stdin.read())
print([sys.stdout.line_buffering, sys.stderr.line_buffering, sys.stdout.encoding, os.umask(0)])
"""
ENDINGS = {
    "a status": "raise SystemExit(7)",
    "a text": "import sys; sys.exit('no such thing')",
    "an error": "print('first'); raise ValueError('wrong')",
    "a signal": "import os; os.kill(os.getpid(), 9)",
    "Ctrl-C": "raise KeyboardInterrupt",
    "no more than that": "import os; os._exit(3)",
    "the last thread": "import threading; threading.Timer(0.1, print, ['late']).start()",
    "the last words": "import atexit; atexit.register(print, 'at exit', end='')",
    "a word that is wrong": "def",
    "an old spelling": "# coding: latin-1\nprint(ascii('\udce9'))",
    "a module that was not imported": "import urllib, json; print(urllib.robotparser)",
}


@pytest.fixture
def work():
    """The place of a fork, with all walls."""
    with workplace() as place:
        own(place, None)
        yield place


@pytest.fixture
def under(work):
    return probe().around_program(work)


@pytest.fixture
def nursery(under):
    made = ForkServer(under)
    yield made
    made.end()


@pytest.fixture
def start(work, under, nursery):
    """Start a text, by the nursery or another way."""

    def start(source, by=nursery.spawn, **variables):
        file = work / "fork" / "stages" / "s01.py"
        file.write_bytes(source.encode(errors="surrogateescape"))
        return by([*under, sys.executable, str(file)], environment(work) | variables, "/")

    return start


def outcome(process):
    """What a program said, and how it ended."""
    with process.stdout, process.stderr:
        said = process.stdout.read().decode(), process.stderr.read().decode()
    return *said, process.wait(20)


def test_a_program_is_as_if_it_had_been_started_by_itself(start):
    process = start(SELF)
    assert isinstance(process, ForkedProgram)
    found = outcome(process)
    assert found == outcome(start(SELF, spawn))
    assert "s01.py" in found[0]


@pytest.mark.parametrize("source", ENDINGS.values(), ids=ENDINGS)
def test_it_ends_as_if_it_had_been_started_by_itself(start, source):
    said, words, status = outcome(start(source))
    alone, its_words, its_status = outcome(start(source, spawn))
    assert (said, words, status) == (alone, its_words, its_status)


def test_it_has_its_own_variables_but_not_those_that_tell_the_sentence(start):
    source = "import os; print(os.environ.get('WORKERS'), os.environ.get('PYTEST_CURRENT_TEST'))"
    assert outcome(start(source, WORKERS="3", PYTEST_CURRENT_TEST="this"))[0] == "3 None\n"
    assert outcome(start(source))[0] == "None None\n"


def test_a_signal_reaches_the_program_and_its_end_is_known(start):
    process = start("import time; print(flush=True); time.sleep(60)")
    assert process.stdout.readline()
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.terminate()
    assert process.wait(20) == process.poll() == -signal.SIGTERM
    process.kill()  # which does no harm


LEAVES = """
import os, time
told, tell = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(tell, b"here")
        time.sleep(600)
    os._exit(0)
os.read(told, 4)
"""


def test_nothing_of_it_is_left_when_its_end_is_known(start, nursery):
    first = start("import time; print(flush=True); time.sleep(600)")
    assert first.stdout.readline()
    assert outcome(start("print('beside it')"))[::2] == ("beside it\n", 0)
    assert first.poll() is None
    first.kill()
    assert first.wait(20) == -signal.SIGKILL
    alone = len(descendants(nursery.supervisor.pid))
    assert start(LEAVES).wait(20) == 0
    assert len(descendants(nursery.supervisor.pid)) == alone


def test_a_zygote_that_was_killed_is_followed_by_another(start):
    killed = start("import os, time; os.kill(os.getppid(), 9); time.sleep(60)")
    assert killed.wait(20) == -signal.SIGKILL
    assert outcome(start("print('again')"))[::2] == ("again\n", 0)


def test_a_zygote_that_was_stopped_holds_nobody_up(start, monkeypatch):
    monkeypatch.setattr(fork_server, "HERE", 0.5)
    monkeypatch.setattr(fork_server, "KNOWN", 0.5)
    stopped = start("import os; os.kill(os.getppid(), 19)")
    assert stopped.wait(20) == -signal.SIGKILL
    assert outcome(start("print('again')"))[::2] == ("again\n", 0)


def test_what_cannot_be_kept_is_started_plainly():
    broken = ForkServer(["/bin/false"])
    process = broken.spawn(["/bin/false", sys.executable, "x.py"], os.environ, "/")
    assert isinstance(process, subprocess.Popen)
    assert process.wait(20) == 1
    process = broken.spawn([sys.executable, "-c", "print(1)"], os.environ, "/")
    assert outcome(process)[0] == "1\n"


def test_each_program_has_all_of_its_output(start):
    source = "import sys; sys.stdout.write('a' * 5 * 2**20); sys.stderr.write('b' * 2**15)"
    for _ in range(3):
        said, words, status = outcome(start(source))
        assert (len(said), len(words), status) == (5 * 2**20, 2**15, 0)


def test_one_that_says_too_much_is_told_why_it_was_ended(start):
    process = start("while True: print('a' * 2**20)")
    with process.stdout, process.stderr:
        assert len(process.stdout.read()) < 16 * 2**20
        assert "ended by its supervisor: needed no more than" in process.stderr.read().decode()
    assert process.wait(20) == -signal.SIGKILL


def test_with_the_nursery_all_is_gone(start, nursery):
    process = start("import time; print(flush=True); time.sleep(600)")
    assert process.stdout.readline()
    nursery.end()
    assert process.wait(20) == -signal.SIGKILL
    until(lambda: not os.path.exists(f"/proc/{process.pid}"), "the program is gone")
