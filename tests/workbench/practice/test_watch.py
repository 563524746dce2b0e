"""A file is checked at each save: one save is one check, whoever tells of it, and nothing stays."""

import os
import re
import select
import signal
import subprocess
import threading

import psutil
import pytest
import watchfiles
from helpers.commands import WORKBENCH, told
from helpers.processes import alive
from suite.clients import signals, until
from suite.requirements import Witness

from workbench.course.catalogue import lesson, lessons
from workbench.files import ROOT, write
from workbench.practice import progress
from workbench.practice import watch as watching
from workbench.practice.watch import Saves, Watched

pty = pytest.importorskip("pty") if os.name == "posix" else None
terminal = pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
patient = pytest.mark.timeout(300)  # each check is a run of pytest

WHOLE = lesson("s01").path.read_bytes()
WRONG = b"raise NotImplementedError('write me')\n" + WHOLE


pytestmark = pytest.mark.usefixtures("workspace")


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """A folder for what is kept only for a while, and no variable that changes how it watches."""
    (tmp_path / "scratch").mkdir()
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(tmp_path / "scratch"))
    for name in ("WATCHFILES_FORCE_POLLING", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Witness, "patience", 60.0)
    return tmp_path / "scratch"


@pytest.fixture
def file(tmp_path):
    """A file in a stage's place, with a page beside it."""
    (tmp_path / "own" / "stages").mkdir(parents=True)
    (tmp_path / "own" / "static").mkdir()
    (tmp_path / "own" / "static" / "hello.html").write_text("é", encoding="utf-8")
    file = tmp_path / "own" / "stages" / "s01_bind_and_print.py"
    file.write_bytes(b"one")
    return file


def lingering(began):
    """The stage, which takes its time to start; a file tells that it began."""
    return f"import time\n\nopen({str(began)!r}, 'w').close()\ntime.sleep(3)\n".encode() + WHOLE


# A save


def watched(file):
    return Watched(lesson("s01"), file)


def heard(saves, *deeds):
    """The news up to the moment when the file is ready, with a deed before each look at first."""
    left, news = list(deeds), []

    def ready():
        if left:
            left.pop(0)()
        news.append(saves.news())
        return news[-1] == "ready" and not left

    until(ready, "the file is ready")
    return [word for word in news if word]


def renamed(file):
    return [lambda: write(file, b"another")]


def truncated(file):
    return [lambda: file.write_bytes(b""), lambda: None, lambda: file.write_bytes(b"another")]


def in_a_burst(file):
    return [lambda size=size: file.write_bytes(b"x" * size) for size in range(1, 9)]


def gone_for_a_moment(file):
    return [file.unlink, lambda: None, lambda: None, lambda: file.write_bytes(b"another")]


@pytest.mark.parametrize("way", [renamed, truncated, in_a_burst, gone_for_a_moment])
def test_a_save_counts_once_however_it_is_done(file, way, monkeypatch):
    """The first, and the next: a file that is saved by rename is another file then."""
    monkeypatch.setattr(watching, "LOOK", 10**6)  # the system must tell
    with Saves(watched(file)) as saves:
        assert heard(saves) == ["saved", "ready"]
        for _ in range(2):
            news = heard(saves, *way(file))
            assert news.count("ready") == 1, news
            assert "saved" in news
            assert not any(saves.news() for _ in range(5))


def test_a_file_that_is_gone_is_waited_for(file):
    with Saves(watched(file)) as saves:
        heard(saves)
        file.unlink()
        until(lambda: saves.news() == "gone", "it is seen to be gone")
        assert not any(saves.news() for _ in range(5))
        assert heard(saves, *renamed(file)) == ["saved", "ready"]


def test_a_page_that_is_saved_counts_and_a_neighbour_does_not(file):
    with Saves(watched(file)) as saves:
        heard(saves)
        file.with_name("notes.txt").touch()
        assert not any(saves.news() for _ in range(5))
        page = file.parent.parent / "static" / "hello.html"
        assert heard(saves, *renamed(page)) == ["saved", "ready"]


def test_nobody_listens_any_more_when_it_is_over(file):
    with Saves(watched(file)) as saves:
        heard(saves)
    assert "saves" not in {thread.name for thread in threading.enumerate()}


# Where no word of saves comes


def limit_reached(*folders, **how):
    raise OSError("OS file watch limit reached. about [folder] (Error { kind: MaxFilesWatch })")


def silence(*folders, stop_event, **how):
    """What a network folder says, and watchfiles where it falls back by itself: NEVER is long."""
    stop_event.wait()
    yield from ()


@pytest.mark.parametrize(
    ("watch", "why"),
    [
        (limit_reached, r"OS file watch limit reached. about \[folder\]"),
        (silence, "a save was seen that was not told of"),
    ],
)
def test_a_file_whose_saves_are_not_told_is_looked_at_and_it_says_so(file, monkeypatch, watch, why):
    monkeypatch.setattr(watchfiles, "watch", watch)
    monkeypatch.setattr(watching, "LOOK", 0.3)
    with Saves(watched(file)) as saves:
        heard(saves)
        assert heard(saves, *renamed(file)) == ["saved", "ready"]
        until(lambda: saves.news() == "" and saves.silence, "it says so")
        line = (
            rf"No word of saves comes here \({why}\): the file is looked at every 500 ms instead\."
        )
        assert re.fullmatch(line, saves.silence), saves.silence
        assert heard(saves, *gone_for_a_moment(file))[-2:] == ["saved", "ready"]


def test_it_looks_where_watchfiles_is_told_to(file, monkeypatch):
    monkeypatch.setenv("WATCHFILES_FORCE_POLLING", "1")
    with Saves(watched(file)) as saves:
        assert heard(saves) == ["saved", "ready"]
        assert "WATCHFILES_FORCE_POLLING is set" in saves.silence
        assert heard(saves, *renamed(file)) == ["saved", "ready"]


# The command


class Session:
    """The command under way, and what it has said since it was last read."""

    def __init__(self, process, read):
        self.process, self._read, self.said = process, read, ""

    def hears(self, *phrases):
        """Read on until all the phrases have come, one behind the other; return what came."""
        before = ""
        for phrase in phrases:
            while phrase not in self.said:
                ended = self.process.poll() is not None
                more = self._read()
                assert more or not ended, f"no {phrase!r} in {before + self.said}"
                self.said += more
            place = self.said.index(phrase) + len(phrase)
            before, self.said = before + self.said[:place], self.said[place:]
        return before

    def ends(self):
        """Read on until it has ended, and return its status."""
        while self.process.poll() is None:
            self.said += self._read()
        return self.process.wait()

    def family(self):
        return [one.pid for one in psutil.Process(self.process.pid).children(recursive=True)]

    def in_mid_check(self, began):
        """Wait until a check has started the file, and return all that runs then."""
        self.hears("checking s01, ")
        until(began.exists, "the file is being checked")
        return self.family()


@pytest.fixture
def piped():
    """Start the command with pipes, as another program would."""
    started = []

    def start(*words):
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(
            [*WORKBENCH, "watch", *words], cwd=ROOT, encoding="utf-8", **pipes
        )
        started.append(process)
        return Session(process, process.stdout.readline)

    yield start
    for process in started:
        process.kill()
        process.communicate()


def interrupted(session):
    session.process.send_signal(signal.SIGINT)
    out, err = session.process.communicate()
    return session.process.returncode, session.said + out, err


@patient
def test_through_a_pipe_it_checks_again_at_a_save_and_says_nothing_of_keys(file, piped):
    file.write_bytes(WRONG)
    session = piped("s01", "--file", str(file))
    told = session.hears("checking s01, ", "NotImplementedError: write me", "when it is saved.\n")
    write(file, WHOLE)
    told += session.hears("checking s01, ", " hold (", "All hold.\n")
    assert "\x1b" not in told
    for word in ("Enter", "leaves"):
        assert word not in told
    if os.name != "nt":
        assert interrupted(session) == (0, "", "")


@pytest.mark.slow
@patient
def test_a_save_in_mid_check_starts_it_anew_and_nothing_of_the_former_stays(file, piped, tmp_path):
    """The former has a copy of its own, and would have found that all sentences hold."""
    file = file.with_name("my own.py")
    file.write_bytes(lingering(tmp_path / "began"))
    session = piped("s01", "--file", str(file))
    former = session.in_mid_check(tmp_path / "began")
    write(file, WRONG)
    told = session.hears("checking s01, ", "hold", "when it is saved.\n")
    assert "NotImplementedError: write me" in told
    assert not progress.read().of(lesson("s01")).passed
    helpers = set(session.family())  # the one that sees to it lives on
    until(lambda: not [pid for pid in former if alive(pid) and pid not in helpers], "all are gone")
    assert len(set(former) - helpers) >= 2


@patient
@signals
def test_ctrl_c_in_mid_check_leaves_nothing_behind(file, piped, tmp_path, scratch):
    file.write_bytes(lingering(tmp_path / "began"))
    session = piped("s01", "--file", str(file))
    family = session.in_mid_check(tmp_path / "began")
    status, out, err = interrupted(session)
    assert (status, err) == (0, "")
    assert "hold" not in out
    until(lambda: not any(map(alive, family)), "the whole family is gone")
    left = [path.name for path in scratch.iterdir()]
    assert not [name for name in left if not name.startswith("pytest-of-")]
    assert not progress.read().records


@pytest.mark.slow
@patient
def test_that_it_looks_instead_is_said_in_one_line(file, piped, monkeypatch):
    monkeypatch.setenv("WATCHFILES_FORCE_POLLING", "1")
    file.write_bytes(WRONG)
    session = piped("s01", "--file", str(file))
    told = session.hears("when it is saved.\n")
    assert "No word of saves comes here (WATCHFILES_FORCE_POLLING is set): the file is" in told
    write(file, WRONG + b"#")
    session.hears("checking s01, ")


# In a terminal


@pytest.fixture
def typed():
    """Start the command in a terminal, as a user would."""
    import termios

    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 100))
    started = []

    def read():
        """What is on the screen within a moment; a program whose words nobody reads must wait."""
        ready = select.select([ours], [], [], 0.1)[0]
        return os.read(ours, 1000).decode(errors="replace") if ready else ""

    def start(*words):
        env = os.environ | {"TERM": "xterm"}
        ends = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
        command = [*WORKBENCH, "watch", *words]
        process = subprocess.Popen(command, cwd=ROOT, env=env, start_new_session=True, **ends)
        started.append(process)
        session = Session(process, read)
        session.press = lambda key: os.write(ours, key)
        session.settings = lambda: termios.tcgetattr(theirs)
        return session

    yield start
    for process in started:
        process.kill()
        process.wait()
    for end in (ours, theirs):
        os.close(end)


@pytest.mark.slow
@patient
@terminal
def test_in_a_terminal_red_a_save_green_a_key_and_the_next_stage(file, typed):
    file.write_bytes(WRONG)
    (file.with_name("s02_read_request.py")).write_bytes(WRONG)
    session = typed("s01", "--file", str(file))
    before = session.settings()
    session.hears("NotImplementedError: write me", "q leaves.")
    session.press(b"\r")  # not yet: it is red
    write(file, WHOLE)
    told = session.hears("All hold.", "Enter goes on to s02 Read the request. q leaves.")
    assert "checking s02" not in told
    assert told.count("\x1b[2J") == 1, "one picture is drawn, in place of the one before"
    session.press(b"\r")
    session.hears("checking s02, ", "s02 Read the request, at", "q leaves.")
    session.press(b"q")
    assert session.ends() == 0
    assert session.settings() == before


@patient
@terminal
@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_a_key_in_mid_check_leaves_with_no_word(file, typed, key, tmp_path):
    file.write_bytes(lingering(tmp_path / "began"))
    session = typed("s01", "--file", str(file))
    family = session.in_mid_check(tmp_path / "began")
    session.press(key)
    assert session.ends() == 0
    until(lambda: not any(map(alive, family)), "the whole family is gone")
    assert "Traceback" not in session.said
    assert not progress.read().records


# Which file, and which stage is next


def test_a_file_that_is_not_there_is_told(tmp_path):
    status, out = told("watch", "s05", "--file", tmp_path / "nothing.py")
    assert status == 1
    assert re.fullmatch(r"there is no file .*nothing\.py to check", out)


def test_the_next_stage_has_the_file_beside_or_the_same(file):
    known = watched(file)
    assert known.later == lesson("s02")
    assert known.beside(lesson("s02")) == file
    beside = file.with_name("s02_read_request.py")
    beside.touch()
    assert known.beside(lesson("s02")) == beside


def test_no_stage_is_behind_the_last():
    assert Watched(lessons()[-1], lessons()[-1].path).later is None
