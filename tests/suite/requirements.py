"""What a sentence is: a promise, the stages it is said of, the programs that must keep it."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import pytest
from suite.options import command_of

from workbench.course.catalogue import Lesson, heirs
from workbench.files import STAGES
from workbench.server.launch import DEFAULTS, Server
from workbench.server.stats import listens

ENDS_WITHIN = 15  # seconds for a program that must end by itself
PATIENCE = 5.0  # seconds until what must happen has happened, on a machine under load
IMPATIENCE = 1.5  # seconds where it must not happen: to give up early is no harm there


@dataclass(frozen=True)
class Promise:
    """The stages that a sentence is said of, and how they are started for it."""

    first: str
    until: str | None = None  # the stage that replaces it by another sentence
    new: bool = True  # the stage before breaks it: that is the lesson
    limitation: bool = False  # what the next stage removes: asked of our own stages only
    costly: bool = False  # seconds of a processor: later stages keep it among the slow tests
    python: bool = False  # needs Python of an implementation, or its way of printing
    settings: dict[str, object] = field(default_factory=dict)

    def lessons(self) -> tuple[Lesson, ...]:
        """The first stage and all that build on it, up to the one that replaces the promise."""
        replaced = heirs(self.until) if self.until else ()
        return tuple(known for known in heirs(self.first) if known not in replaced)


def since(first, *, until=None, new=True, limitation=False, costly=False, python=False, **settings):
    """Say a sentence of a stage and of all that build on it; see Promise."""
    return pytest.mark.since(Promise(first, until, new, limitation, costly, python, settings))


class Witness(Server):
    """A running program, and visitors who lose patience before the sentence does."""

    latest: ClassVar["Witness | None"] = None  # whose last words are of interest
    patience: ClassVar[float] = PATIENCE

    def say(self, *chunks, timeout=None, **how):
        return super().say(*chunks, timeout=timeout or self.patience, **how)

    def visit(self, timeout=None):
        return super().visit(timeout=timeout or self.patience)

    def listens(self):
        """Whether it listens itself; looked for again, as a list of sockets may miss one."""
        deadline = time.monotonic() + self.patience
        while not (found := listens(self)) and self.running and time.monotonic() < deadline:
            time.sleep(0.01)
        return found

    def wait(self, timeout=None):
        timeout = timeout or self.patience
        try:
            return super().wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"needed it to end within {timeout:g} s, and it runs") from error


@dataclass(frozen=True)
class Program:
    """An implementation of one stage: what a user types to start it."""

    lesson: Lesson
    argv: tuple[str, ...]
    file: Path | None  # None where it is a command, in whatever language
    under: tuple[str, ...] = ()  # what starts it
    ours: bool = False  # of this course, and so not held to cheat

    @property
    def line(self) -> tuple[str, ...]:
        """All words of the command."""
        return self.under + self.argv

    @property
    def static(self) -> Path:
        """The folder whose pages it must serve."""
        return (self.file.parent if self.file else STAGES).parent / "static"

    def start(self, *, cwd=None, **settings) -> Witness:
        """Start it, by default on a free port, and wait for its first line."""
        if self.file and not self.file.exists():
            pytest.fail(f"needed a file {self.file.name} in {self.file.parent}, found none", False)
        texts = {"PORT": "0"} | {name: str(value) for name, value in settings.items()}
        title = self.lesson.slug
        server = Witness.latest = Witness.start(self.line, title=title, settings=texts, cwd=cwd)
        if self.file and not self.ours and server.port and not server.listens():
            server.stop()
            pytest.fail(f"needed it to listen on port {server.port} itself, it does not", False)
        return server

    def refuse(self, **settings) -> tuple[int, str]:
        """Start a program that must end at once; return its status and what it says on stderr."""
        environment = os.environ | DEFAULTS | {name: str(value) for name, value in settings.items()}
        process = Witness.spawn(self.line, environment, os.getcwd())
        with process.stdout, process.stderr:
            try:
                assert not (line := process.stdout.readline()), f"needed no start, got {line}"
            finally:
                process.kill()
                status = process.wait()
            return status, process.stderr.read().decode()

    def copy(self, folder: Path, source: str | None = None) -> "Program":
        """Copy the stage (or another text for it) with its pages into a folder of its own."""
        file = folder / "stages" / f"{self.lesson.slug}.py"
        file.parent.mkdir(parents=True)
        file.write_text(source or self.file.read_text(encoding="utf-8"), encoding="utf-8")
        shutil.copytree(self.static, folder / "static")
        return replace(python_program(self.lesson, file, self.under), ours=self.ours)

    def module(self) -> "Program":
        """The same, started as a user starts a module, from the folder above."""
        name = f"{self.file.parent.name}.{self.lesson.slug}"
        return replace(self, argv=(sys.executable, "-m", name))


def python_program(known: Lesson, file: Path, under: tuple[str, ...] = ()) -> Program:
    """A stage in Python, started as a user starts a file."""
    return Program(known, (sys.executable, str(file)), file, under)


def program(known: Lesson, config: pytest.Config) -> Program:
    """The implementation of a stage that the command line asks for; our own by default."""
    under = tuple(shlex.split(config.getoption("under") or ""))
    if command := config.getoption("command"):
        return Program(known, command_of(command, known.slug), None, under)
    folder = Path(config.getoption("stages") or STAGES).resolve()
    found = python_program(known, folder / f"{known.slug}.py", under)
    return replace(found, ours=ours(config))


def ours(config: pytest.Config) -> bool:
    """Whether our own stages are judged, and so the suite itself: red and mutants too."""
    return not (config.getoption("command") or config.getoption("stages"))
