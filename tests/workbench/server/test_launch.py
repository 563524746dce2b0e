"""Servers are started as a user starts them, and none outlives the program that did."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from helpers.processes import alive

from workbench.course.catalogue import UnknownStage
from workbench.errors import Mistake
from workbench.files import ROOT
from workbench.server.launch import DEFAULTS, DidNotStart, NotSaid, Server, launch
from workbench.server.reaper import Reaper

SERVES = """
import os, signal, socket, subprocess, sys, time
listener = socket.create_server((os.environ["HOST"], int(os.environ["PORT"])))
print("Listening on http://%s:%d" % listener.getsockname(), flush=True)
"""
WAITS = """
while True:
    time.sleep(0.1)
"""
LAUNCHES = """
import os, signal, sys
from workbench.server.launch import SERVERS, REAPER, launch
def report():
    print(REAPER._process.pid, *(server.process.pid for server in SERVERS), flush=True)
    sys.stdin.readline()
launch("s01")
launch("s05")
report()
{then}
"""
posix = pytest.mark.skipif(os.name == "nt", reason="Windows sends no signals")


def start(tmp_path, text, timeout=15.0, **settings):
    """Start a throw-away program."""
    file = tmp_path / "throwaway.py"
    file.write_text(text, encoding="utf-8")
    argv = [sys.executable, str(file)]
    return Server.start(argv, title="a throw-away", settings=settings, timeout=timeout)


def parent(then):
    """Start a program that launches two stages; return it, its helper and the two."""
    argv, pipe = [sys.executable, "-c", LAUNCHES.format(then=then)], subprocess.PIPE
    program = subprocess.Popen(argv, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    return program, reported(program)


def reported(program):
    """The helper and the servers of a program, which then waits for a line."""
    return [psutil.Process(int(pid)) for pid in program.stdout.readline().split()]


def go_on(program):
    program.stdin.write("\n")
    program.stdin.flush()


def gone(processes, within=20.0):
    """Whether all of them end in time, which is short on an idle machine; a zombie has ended."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if not any(map(alive, processes)):
            return True
        time.sleep(0.01)
    return False


def test_a_server_is_found_at_a_port_of_the_systems_choice():
    with launch("s05") as server:
        assert server.running
        assert server.port not in (0, 7878)
        assert server.address == (DEFAULTS["HOST"], server.port)
        assert server.url == f"http://{DEFAULTS['HOST']}:{server.port}"
        assert server.get("/health").answer.json() == {"status": "ok"}
        with server.visit() as visitor:
            visitor.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            assert visitor.read().answer.status == 200
    assert not server.running


def test_a_parent_that_is_killed_hard_leaves_no_process():
    program, processes = parent("")
    with program:
        program.kill()
        assert gone(processes)


@posix
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_to_the_parent_and_its_helper_leaves_no_process(name):
    program, processes = parent("")
    with program:
        processes[0].send_signal(getattr(signal, name))
        program.send_signal(getattr(signal, name))
        assert gone(processes)


@posix
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_helper_is_deaf_from_its_first_moment(name):
    reaper, sleep = Reaper(), [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(sleep) as sleeper:
        reaper.watch(sleeper.pid)
        reaper._process.send_signal(getattr(signal, name))
        reaper.dismiss()
        assert sleeper.wait(20) == -signal.SIGKILL


@pytest.mark.parametrize("then", ["", "sys.exit(3)", "raise RuntimeError('slip')", "os._exit(0)"])
def test_a_parent_that_ends_leaves_no_process(then):
    program, processes = parent(then)
    with program:
        go_on(program)
        assert gone(processes)


def test_a_helper_that_was_killed_is_replaced_and_told_everything():
    program, (helper, *servers) = parent("launch('s02'); report()")
    with program:
        helper.kill()
        assert gone([helper])
        go_on(program)
        renewed = reported(program)
        assert len(renewed) == 4
        assert set(servers) < set(renewed)
        program.kill()
        assert gone(renewed)


def test_launching_a_stage_again_ends_the_first():
    first = launch("s05")
    other = launch("s04")
    second = launch("s05_routing")
    try:
        assert not first.running
        assert first.say(b"").ending == "refused"
        assert second.running
        assert other.running
    finally:
        second.stop()
        other.stop()


def test_a_students_own_file_stands_in_for_the_stage(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(SERVES + WAITS, encoding="utf-8")
    with launch("s05") as course, launch("s05", file=mine) as own:
        assert not course.running
        assert "mine.py" in own.title


def test_a_stage_that_dies_at_start_shows_its_own_last_words():
    with pytest.raises(DidNotStart) as caught:
        launch("s05", PORT="seventy")
    assert "ended with status 1" in str(caught.value)
    assert "PORT=seventy" in str(caught.value)
    assert caught.value._render_traceback_() == [str(caught.value)]


def test_a_program_that_says_nothing_is_named_when_its_time_is_over(tmp_path):
    with pytest.raises(
        DidNotStart, match=r"(?s)within 0.5 s; it is still running.*last words.*thinking"
    ):
        start(tmp_path, "print('thinking', flush=True)\nimport time\n" + WAITS, timeout=0.5)


def test_a_program_that_ends_in_silence_is_said_to(tmp_path):
    with pytest.raises(DidNotStart, match="ended with status 7 and said nothing"):
        start(tmp_path, "import sys; sys.exit(7)")


def test_a_file_that_hides_the_standard_library_is_named(tmp_path):
    (tmp_path / "socket.py").write_text("", encoding="utf-8")
    with pytest.raises(DidNotStart, match=r"socket\.py beside it hides Python's own module socket"):
        start(tmp_path, SERVES)


def test_an_innocent_file_is_not_accused(tmp_path):
    (tmp_path / "socket.py").write_text("", encoding="utf-8")
    with pytest.raises(DidNotStart) as caught:
        start(tmp_path, "raise SystemExit('Error: no luck today')")
    assert "hides" not in str(caught.value)


def test_a_command_that_does_not_exist_is_one_line():
    with pytest.raises(DidNotStart, match="no-such-program"):
        Server.start(["no-such-program"], title="a mistake", settings={})


def test_slips_in_a_name_are_one_line(tmp_path):
    with pytest.raises(UnknownStage, match="s05_routing"):
        launch("s05_rooting")
    with pytest.raises(Mistake, match="there is no file"):
        launch("s05", file=tmp_path / "nowhere.py")


def test_settings_reach_the_program_as_text(tmp_path):
    with start(tmp_path, SERVES + "print(os.environ['WORKERS'], flush=True)" + WAITS, WORKERS="2"):
        pass
    with launch("s08", WORKERS=2) as server:
        assert server.get("/health").answer.status == 200


def test_the_log_holds_both_streams_in_the_order_of_their_coming(tmp_path):
    talk = """
for word, stream in (("one", sys.stdout), ("café", sys.stderr), ("two", sys.stdout)):
    listener.accept()[0].close()
    print(word, file=stream, flush=True)
"""
    with start(tmp_path, SERVES + talk + WAITS, PYTHONUTF8="1") as server:
        for word in ("one", "café", "two"):
            server.say()
            assert server.wait_for(word) == word
        assert server.log.split()[-3:] == ["one", "café", "two"]
        assert server.stdout.split()[-2:] == ["one", "two"]
        assert server.stderr.split() == ["café"]


def test_waiting_for_words_ends_with_the_program(tmp_path):
    ended = pytest.raises(NotSaid, match=r"(?s)'never' .* ended with status 0.*farewell")
    with start(tmp_path, SERVES + "print('farewell')") as server, ended:
        server.wait_for("never", timeout=60)


def test_waiting_for_words_ends_in_time():
    with launch("s01") as server, pytest.raises(NotSaid, match="still running"):
        server.wait_for("never", timeout=0.1)


@posix
def test_an_interrupt_is_a_ctrl_c():
    with launch("s05") as server:
        server.interrupt()
        assert server.wait(10) == 0
        assert "Traceback" not in server.log


@posix
def test_ctrl_c_is_heard_though_the_parent_is_deaf():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with launch("s05") as server:
            server.interrupt()
            assert server.wait(10) == 0
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(os.name != "nt", reason="elsewhere Ctrl-C can be sent")
def test_windows_says_that_it_cannot():
    with launch("s05") as server, pytest.raises(NotImplementedError, match=r"\.stop\(\)"):
        server.interrupt()


def test_a_program_that_will_not_end_is_ended_with_all_that_it_started(tmp_path):
    stubborn = """
signal.signal(signal.SIGINT, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("child", child.pid, flush=True)
"""
    server = start(tmp_path, SERVES + stubborn + WAITS)
    child = psutil.Process(int(server.wait_for("child").split()[1]))
    status = server.stop(0.2)
    assert status != 0
    assert gone([child])
    assert server.stop() == status


def test_a_server_says_what_it_is_and_how_it_is():
    with launch("s05") as server:
        assert "s05" in repr(server)
        assert "running since" in repr(server)
        assert f'href="{server.url}"' in server._repr_html_()
    assert "running" not in repr(server)
    assert "href" not in server._repr_html_()


@posix
def test_an_end_by_a_signal_is_named(tmp_path):
    with start(tmp_path, SERVES + WAITS) as server:
        server.terminate()
        assert server.wait(10) == -signal.SIGTERM
        assert "was ended by SIGTERM" in repr(server)
