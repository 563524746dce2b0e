"""Programs from a zygote: as if Python had been started for each, and apart from one another."""

import os
import signal
import subprocess
import sys
import time

import pytest
from helpers.processes import alive
from suite.clients import until

from workbench.sandbox import fork_server
from workbench.sandbox.fork_server import ForkedProgram, ForkServer, ForkServers
from workbench.sandbox.isolation import environment, own, probe, workplace
from workbench.server.processes import descendants, spawn

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
both = pytest.mark.parametrize("under", ["sandbox", "trusted"], indirect=True)
SELF = """
import __main__, atexit, gc, locale, os, signal, sys, threading, time, warnings
print(__name__, __file__, __loader__.path, sys.argv, sys.orig_argv[1:], sys.path, os.getcwd())
print(sorted(os.environ.keys() - {"PWD"}), sys.flags)  # PWD is of bubblewrap
print(sorted(name for name in vars(__main__) if name.startswith("__")))
print([vars(__main__)[name] for name in ("__doc__", "__package__", "__spec__", "__cached__")])
print(type(__builtins__), type(__loader__), sys.modules["__main__"] is __main__)
print([signal.getsignal(number) for number in range(1, 32)], signal.pthread_sigmask(0, []))
print(threading.current_thread().name, threading.active_count(), sys.stdin.read())
print(threading.main_thread() is threading.current_thread(), atexit._ncallbacks(), gc.isenabled())
print([[s.name, s.mode, s.encoding, s.errors, s.line_buffering, s.write_through]
       for s in (sys.stdin, sys.stdout, sys.stderr)], sys.stdout.seekable(), os.umask(0))
print([os.get_inheritable(number) for number in range(3)], len(os.listdir("/proc/self/fd")))
print(time.tzname, locale.setlocale(locale.LC_ALL), sys.getfilesystemencoding())
print(warnings.filters, sys.warnoptions, sys._xoptions, sys.dont_write_bytecode)
print(sys.displayhook is sys.__displayhook__, sys.getrecursionlimit(), sys.meta_path[1:])
def annotated(name: str) -> None: ...
print(annotated.__annotations__)
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
    "a return where there is none": "return",
    "an annotation that is no name": "def serve(server: Nothing): ...",
    "a warning of the compiler": "print(1 is 1)",
    "a warning of an import": "import warnings, sre_constants\nprint(sre_constants.MAGIC > 0)",
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
def under(work, request):
    """What stands around each program: all walls, or nothing for one that is trusted."""
    if getattr(request, "param", "sandbox") == "trusted":
        return []
    if not probe().has("bubblewrap"):
        pytest.skip("needs bubblewrap")
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


@both
def test_a_program_is_as_if_it_had_been_started_by_itself(start):
    process = start(SELF)
    assert isinstance(process, ForkedProgram)
    found = outcome(process)
    assert found == outcome(start(SELF, spawn))
    assert "s01.py" in found[0]


@both
@pytest.mark.parametrize("source", ENDINGS.values(), ids=ENDINGS)
def test_it_ends_as_if_it_had_been_started_by_itself(start, source):
    said, words, status = outcome(start(source))
    alone, its_words, its_status = outcome(start(source, spawn))
    assert (said, words, status) == (alone, its_words, its_status)


@both
def test_it_has_its_own_variables_but_not_those_that_tell_the_sentence(start):
    source = "import os; print(os.environ.get('WORKERS'), os.environ.get('PYTEST_CURRENT_TEST'))"
    assert outcome(start(source, WORKERS="3", PYTEST_CURRENT_TEST="this"))[0] == "3 None\n"
    assert outcome(start(source))[0] == "None None\n"


@both
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


@both
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


@both
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


@both
def test_with_the_nursery_all_is_gone(start, nursery):
    process = start("import time; print(flush=True); time.sleep(600)")
    assert process.stdout.readline()
    nursery.end()
    assert process.wait(20) == -signal.SIGKILL
    until(lambda: not os.path.exists(f"/proc/{process.pid}"), "the program is gone")


# One that is trusted


@pytest.fixture
def trusted():
    server = ForkServer()
    yield server
    server.end()


def program(folder, source, name="s01.py"):
    """A command that runs a text."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(source, encoding="utf-8")
    return [sys.executable, str(folder / name)]


def test_a_trusted_program_has_the_folder_and_the_time_zone_that_are_asked_for(trusted, tmp_path):
    source = (
        "import os, time; print(os.getcwd(), time.tzname[0], time.strftime('%H', time.gmtime(0)))"
    )
    line = program(tmp_path, source + "; print(time.strftime('%H', time.localtime(0)))")
    for zone, hour in (("UTC", "00"), ("XYZ-5", "05")):
        process = trusted.spawn(line, {"TZ": zone}, str(tmp_path))
        assert isinstance(process, ForkedProgram)
        assert outcome(process)[0].split() == [str(tmp_path), zone[:3], "00", hour]


def test_the_clock_of_logging_begins_with_each_program(trusted, tmp_path):
    source = (
        "import logging; r = logging.makeLogRecord({}); print(r.created - r.relativeCreated / 1e3)"
    )
    line = program(tmp_path, source)
    for _ in range(2):
        before = time.time()
        began = float(outcome(trusted.spawn(line, {}, "/"))[0])
        assert before - 0.01 < began < time.time() + 0.01


def test_what_python_hears_only_at_its_start_or_is_no_file_of_python_starts_plainly(
    trusted, tmp_path
):
    line = program(tmp_path, "print('warm')")
    assert isinstance(trusted.spawn(line, {}, "/"), ForkedProgram)
    for argv, variables in (
        (line, {"PYTHONUNBUFFERED": "1"}),
        (line, {"LC_ALL": "C"}),
        ([sys.executable, str(tmp_path)], {}),
        ([sys.executable, "s01.py"], {}),
        ([sys.executable, "-V"], {}),
    ):
        process = trusted.spawn(argv, variables, str(tmp_path))
        assert isinstance(process, subprocess.Popen), argv
        outcome(process)


def test_an_import_that_another_file_has_is_missed(tmp_path):
    servers = ForkServers()
    try:
        other = program(tmp_path, "import email.utils", "s13.py")
        assert outcome(servers.spawn(other, {}, "/"))[2] == 0
        lacks = program(tmp_path, "import email; email.utils.formatdate()", "s05.py")
        process = servers.spawn(lacks, {}, "/")
        assert isinstance(process, ForkedProgram)
        assert "AttributeError" in outcome(process)[1]
    finally:
        servers.end()


PREFORK = """
import os, time
child = os.fork()
if child:
    print(os.getpid(), child, os.getppid(), flush=True)
time.sleep(600)
"""
ASKS = """
import sys, time
from workbench.sandbox.fork_server import ForkServer
process = ForkServer().spawn(sys.argv[1:], {}, "/")
print(process.stdout.readline().decode(), flush=True)
time.sleep(600)
"""


def test_no_program_is_left_when_who_asked_for_it_is_killed(tmp_path):
    line = [sys.executable, "-c", ASKS, *program(tmp_path, PREFORK)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as asks:
        family = [int(word) for word in asks.stdout.readline().split()]
        asks.kill()
    assert len(family) == 3
    until(lambda: not any(map(alive, family)), "program, child and zygote are gone")
