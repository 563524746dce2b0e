"""The evil class: forks that cheat, break or fail, graded one by one beside an honest stage.

`evil/forks.toml` says of each what it does and what must come out. Whatever it does: the honest
stage has its full points, the report is valid, and nothing is left behind.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import tomllib
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import pytest
from helpers.forks import few, fork_of, left, put, valid
from helpers.servers import unused
from helpers.stages import source
from suite.clients import until

from workbench.client import client as wire
from workbench.client.render import caret
from workbench.course.catalogue import lesson
from workbench.files import ROOT, SUITE
from workbench.grading import grade as grading
from workbench.grading import manifest
from workbench.grading.grade import grade
from workbench.grading.result import RESULT
from workbench.grading.submissions import SOURCE
from workbench.sandbox import isolation
from workbench.sandbox.isolation import probe

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the walls are Linux's"),
    pytest.mark.slow,
    pytest.mark.timeout(120),
]
EVIL = Path(__file__).parent / "evil"
STAGE, HONEST = "s05_routing", "s01_bind_and_print"
SAID = {  # a few sentences will do
    STAGE: {
        "test_the_about_page_is_another_page",
        "test_hello_greets_by_name_whatever_the_name_is",
        "test_echo_gives_back_every_byte",
    },
    HONEST: {"test_every_caller_is_printed_with_his_number_and_address"},
}
LISTEN = """
import os, socket, time
door = socket.create_server(("127.0.0.1", int(os.environ.get("PORT") or 0)))
print("Listening on http://127.0.0.1:%d" % door.getsockname()[1], flush=True)
"""
TRIES = """
try:
{}
except Exception as error:
    raise SystemExit(f"stopped: {{error!r}}")
"""
SHARED = EVIL, Path.home(), Path("/")
SMALL = 2**20
LIMITS = {
    "seconds": 60,
    "memory": 160 * SMALL,
    "tasks": 60,
    "descriptors": 256,
    "disk": 48 * SMALL,
    "file": 96 * SMALL,
    "names": 2000,
    "output": SMALL,
    "lines": 20_000,
}
RECORDED = """
_route = route
def route(request):
    response = _route(request)
    with open({!r}, "a", encoding="utf-8") as file:
        print(repr((repr(request), repr(response))), file=file)
    return response
"""
REPLAYED = """
KNOWN = {!r}
def route(request):
    return eval(KNOWN[repr(request)])
"""


@dataclass(frozen=True)
class Evil:
    """A fork of the evil class, as its description says."""

    name: str
    source: str | None = None
    before: str = ""
    tries: str = ""
    made: str = ""
    files: dict[str, str] = field(default_factory=dict)
    comes: str = "nothing"
    says: str = ""
    needs: str = ""
    seconds: float = grading.STAGE_SECONDS

    def words(self, known):
        """The text of its stage, with all places that it needs to know."""
        tries = TRIES.format("\n".join(f"    {line}" for line in self.tries.strip().splitlines()))
        words = self.before + tries * bool(self.tries) + source(STAGE)
        words = words if self.source is None else self.source
        for name, value in known.items():
            words = words.replace(f"@{name}@", value)
        return words


def evils():
    """All of them, in the order of the file."""
    found = tomllib.loads((EVIL / "forks.toml").read_text(encoding="utf-8"))["fork"]
    return [Evil(**entry) for entry in found]


# What no text can say


def link_to_a_secret(fork, stage, known):
    stage.unlink()
    stage.symlink_to(known["other"])


def pages_that_are_a_link(fork, stage, known):
    (fork / "static").rename(fork / "pages")
    (fork / "static").symlink_to("pages")


def pipe(fork, stage, known):
    stage.unlink()
    os.mkfifo(stage)


def device(fork, stage, known):
    stage.unlink()
    try:
        os.mknod(stage, 0o20666, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        pytest.skip("needs root: makes a device")


def folder(fork, stage, known):
    stage.unlink()
    stage.mkdir()


def names(fork, stage, known):
    for name in (
        b"=cmd|'calc'!A0",
        b"new\nline\r.html",
        b"\xff\xed\xa0\x80",
        b"-rf",
        b"\x1b[2J",
    ):
        (fork / "static" / os.fsdecode(name)).write_bytes(b"page")
        (fork / "stages" / os.fsdecode(name)).write_bytes(b"stage")
    os.mkfifo(fork / "static" / "pipe")
    (fork / "static" / "secret").symlink_to(known["secret"])


def pages_without_end(fork, stage, known):
    for number in range(grading.NAMES):
        (fork / "static" / f"z{number}").mkdir()
    with (fork / "static" / "z0" / "large").open("wb") as file:
        file.truncate(2**40)


def too_long(fork, stage, known):
    with stage.open("wb") as file:
        file.truncate(2**40)


def binary(fork, stage, known):
    shutil.copy(os.path.realpath(sys.executable), stage)
    os.truncate(stage, SOURCE)


def cr_lf(fork, stage, known):
    put(stage, source(STAGE).replace("\n", "\r\n"))


def byte_order_mark(fork, stage, known):
    put(stage, "\ufeff" + source(STAGE))


def missing(fork, stage, known):
    stage.unlink()


def named_nearly_right(fork, stage, known):
    stage.rename(stage.with_name("s05-routing.py"))


def named_in_capitals(fork, stage, known):
    stage.rename(stage.with_name("S05_Routing.py"))


def recorded(fork, stage, known):
    """The answers that are right when visitors choose nothing by chance, in place of a server."""
    record = stage.with_name("record")
    start = 'if __name__ == "__main__"'
    put(stage, source(STAGE).replace(start, RECORDED.format(str(record)) + start))
    tests = [str(SUITE / check.id) for marks in few(SAID) for check in marks.checks]
    line = [sys.executable, "-m", "pytest", "-q", "-n0", f"--stages={stage.parent}", "--seed=0"]
    line += [f"--basetemp={fork.parent / 'recording'}", *(test for test in tests if STAGE in test)]
    subprocess.run(line, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    heard = dict(map(eval, record.read_text(encoding="utf-8").splitlines()))
    put(stage, source(STAGE).replace(start, REPLAYED.format(heard) + start))
    record.unlink()


# What is around them


@pytest.fixture
def neighbour():
    """Another student's server, and a socket without a file: where they are."""
    place = f"evil-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as secret:
        secret.bind(f"\0{place}")
        secret.listen()
        line, pipe = [sys.executable, str(lesson(STAGE).path)], subprocess.PIPE
        variables = os.environ | {"PORT": "0"}
        with subprocess.Popen(
            line, env=variables, stdout=pipe, stderr=subprocess.DEVNULL
        ) as server:
            port = server.stdout.readline().decode().strip().rpartition(":")[2]
            yield {"port": port, "socket": place}
            server.kill()


@pytest.fixture
def world(tmp_path, neighbour):
    """All that a fork might want to know, or to harm."""
    others = fork_of(tmp_path / "others" / "fork", STAGE)
    put(tmp_path / "secret", "the teacher's password")
    return neighbour | {
        "root": str(ROOT),
        "home": str(Path.home()),
        "kept": str(next(Path.home().resolve().glob("[!.]*"), tmp_path / "secret")),
        "secret": str(tmp_path / "secret"),
        "other": str(others / "stages" / f"{STAGE}.py"),
        "result": str(tmp_path / "to" / RESULT),
        "listen": LISTEN,
        "free": str(unused()[1]),
    }


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """Smaller limits, fewer sentences, and a folder for what is passing that is this test's own."""
    (tmp_path / "passing").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "passing"))
    monkeypatch.setattr(isolation, "LIMITS", isolation.LIMITS | LIMITS)
    monkeypatch.setattr(manifest, "manifest", lambda: few(SAID))


@pytest.fixture(autouse=True)
def untouched(tmp_path, world):
    """After a test there is no process, port, mount or file that was not there before."""

    def seen():
        kept = (tmp_path / "others", tmp_path / "passing")
        names = [path for place in kept for path in place.rglob("*")]
        names += [path for place in SHARED if (path := place / "planted").exists()]
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
        port = wire.say(("127.0.0.1", int(world["free"])), finish=True).ending
        return names, mounts, port, Path(world["secret"]).read_text(encoding="utf-8")

    before = seen()
    yield
    until(lambda: not left(tmp_path), "no process is left")
    assert seen() == before


def graded(fork, to, seconds=grading.STAGE_SECONDS, **how):
    """Grade a fork; its first stage has so many seconds, which is no matter of luck for others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grading, "STAGE_SECONDS", seconds)

        def heard(known, _what):
            if known.stages[0].state != "waiting":
                patch.setattr(grading, "STAGE_SECONDS", 420)

        grade(fork, to, heard=heard, **how)
    return valid(to / RESULT)


def holds_to(evil, judged):
    """Hold a judged stage to what must come of it."""
    state = "missing" if evil.comes == "missing" else "graded"
    assert judged.state == state, judged
    match evil.comes:
        case "full":
            assert judged.points == judged.of, judged
        case "listens":
            assert "holds" not in [check.outcome for check in judged.checks[1:]], judged
        case "less":
            assert judged.points < judged.of, judged
        case _:
            assert judged.points == 0, judged


@pytest.mark.parametrize("evil", evils(), ids=lambda evil: evil.name)
def test_an_evil_fork_gets_what_it_has_earned_and_nothing_of_it_is_left(evil, tmp_path, world):
    for wall in filter(None, (evil.needs, "limits")):
        if not probe().has(wall):
            pytest.skip(f"is stopped by a wall that is missing here: {wall}")
    fork = fork_of(tmp_path / "fork", *SAID)
    stage = fork / "stages" / f"{STAGE}.py"
    put(stage, evil.words(world))
    if evil.made:
        globals()[evil.made](fork, stage, world)
    for name, words in evil.files.items():
        put(fork / name, words)
    found = graded(fork, tmp_path / "to", evil.seconds, seed=1)
    judged, innocent = found.stages
    assert innocent.points == innocent.of > 0, innocent
    assert not found.error
    holds_to(evil, judged)
    words = "\n".join([judged.note, *found.notes, *(check.reason for check in judged.checks)])
    assert evil.says in words, words
    assert all(letter == "\n" or letter.isprintable() for letter in words)


def test_who_reads_an_answer_without_end_stops_somewhere(monkeypatch):
    monkeypatch.setattr(wire, "FLOOD", 2**20)

    def pour():
        with suppress(OSError), door.accept()[0] as visitor:
            while True:
                visitor.sendall(bytes(2**16))

    with socket.create_server(("127.0.0.1", 0)) as door:
        pouring = Thread(target=pour)
        pouring.start()
        exchange = wire.say(door.getsockname(), timeout=60)
        pouring.join()
    assert exchange.ending == "flood"
    assert len(exchange.received) < 2**21


def test_a_caret_is_found_among_millions_of_lines():
    assert f"^ byte {2**22}\n" in caret(b"a\n" * 2**22, 2**22)


def test_the_class_is_large_and_each_of_it_has_a_name():
    assert len({evil.name for evil in evils()}) == len(evils()) >= 40
    assert all(evil.name.isidentifier() for evil in evils())


def test_an_honest_fork_has_all_points_within_the_same_limits(tmp_path):
    found = graded(fork_of(tmp_path / "fork", *SAID), tmp_path / "to")
    assert found.points == found.of, found


def test_copied_answers_are_right_only_where_nothing_was_left_to_chance(tmp_path, world):
    fork = fork_of(tmp_path / "fork", *SAID)
    recorded(fork, fork / "stages" / f"{STAGE}.py", world)
    known = graded(fork, tmp_path / "known", seed=0).stages[0]
    assert known.points == known.of, "needed a record that is good for what it was made of"
    held = {
        check.sentence: check.outcome for check in graded(fork, tmp_path / "to").stages[0].checks
    }
    assert held["the about page is another page"] == "holds"
    for sentence in ("hello greets by name whatever the name is", "echo gives back every byte"):
        assert held[sentence] == "broken", sentence
