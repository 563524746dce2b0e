"""A stage's sentences, said again of a file at each save, and of the next stage's once all hold.

The system tells of saves, by watchfiles. A look at the file by the clock, now and then, finds out
where it does not (a shared folder, a limit that is used up): from then on it is looked at often.
Whatever tells of a save, what counts is how the file is: one by rename, one by truncating, several
in a row or one with the file gone for a moment start one check, as soon as it stays as it is.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Self

import watchfiles
from prompt_toolkit.input import create_input
from prompt_toolkit.keys import Keys
from rich.console import Console
from rich.text import Text

from workbench.course import catalogue as lessons
from workbench.course.catalogue import Lesson, Stage
from workbench.files import shown
from workbench.practice import check as checking
from workbench.practice.check import MissingFile, Verdict, meant
from workbench.practice.results import SIGNS, Sentence

TICK = 0.1  # seconds between two looks at the keys, and at a file that has just been saved
LOOK = 2.0  # seconds between two looks at the file by the clock
POLL = 0.5  # seconds where nothing tells of saves
NEVER = 10**9  # milliseconds
ON = {Keys.Enter, Keys.ControlJ, "n", "N"}
LEAVE = {Keys.ControlC, Keys.ControlD, "q", "Q"}

News = Literal["gone", "saved", "ready", ""]
State = frozenset[tuple[Path, int, int, int]]
Pressed = Callable[[], set[str]]


class Ended(Exception):  # noqa: N818 - named for what happened
    """A check is not to go on."""


def watch(stage: Stage, file: str | Path | None = None) -> None:
    """Check a file at each save, until a key leaves or Ctrl-C does.

    It is the file that `check` takes. When all sentences hold, a key goes on to the next stage.
    Raises UnknownStage, MissingFile, or BrokenSuite when the sentences could not be said at all.
    """
    known: Lesson | None = lessons.lesson(stage)
    with suppress(KeyboardInterrupt), _keys() as keys:
        while known:
            watched = Watched(known, meant(known, file))
            known = _stay(watched, Screen(watched, bool(keys)), keys or set)
            file = watched.beside(known) if file and known else None


def _stay(watched: Watched, screen: Screen, pressed: Pressed) -> Lesson | None:
    """Check a file at each save until a key is pressed; return the stage to go on to, if any."""
    with screen, Saves(watched) as saves, Checks(watched, screen) as checks:
        while not (keys := pressed()) & LEAVE:
            if keys & ON and checks.hold and watched.later:
                return watched.later
            screen.note(saves.silence)
            checks.take(saves.news())
    return None


@contextmanager
def _keys() -> Iterator[Pressed | None]:
    """Lend what tells the keys that were pressed, and does not wait for one; None without any."""
    if not sys.stdin.isatty():
        yield None
        return
    typed = create_input()
    with typed.raw_mode():  # Ctrl-C is a key here: what runs a check does not hear it
        yield lambda: {press.key for press in typed.read_keys()}


# What is watched


@dataclass(frozen=True)
class Watched:
    """A stage, and the file in its place."""

    lesson: Lesson
    file: Path

    @property
    def later(self) -> Lesson | None:
        """The next stage of the course, if it is here: a class may have just the first ones."""
        course = (known for known in lessons.lessons() if known.number > self.lesson.number)
        return next((known for known in course if known.path.is_file()), None)

    def beside(self, later: Lesson) -> Path:
        """Return the file for a later stage: the one with its name beside this one, or this."""
        other = self.file.with_name(later.path.name)
        return other if other.is_file() else self.file

    def state(self) -> State | None:
        """Return what a save changes, of the file and its pages; None for no file, or no text."""
        with suppress(OSError):
            if self.file.stat().st_size:
                return frozenset(_signs(path) for path in [self.file, *self._pages()])
        return None

    def folders(self) -> list[Path]:
        """List the folders to listen to: a file that is saved by rename is a new one."""
        return [self.file.parent, *(path for path in self._pages() if path.is_dir())]

    def _pages(self) -> list[Path]:
        pages = checking.pages(self.file)
        return [pages, *pages.rglob("*")] if pages.is_dir() else []


def _signs(path: Path) -> tuple[Path, int, int, int]:
    """Return what tells one text of a file from another. Raises OSError if it has gone."""
    found = path.stat()
    return path, found.st_mtime_ns, found.st_size, found.st_ino


class Saves:
    """Tells how a file is, as soon as it changes; a context manager that ends the listening."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._state: State | None = None
        self._settled = self._unheard = False
        self._next = time.monotonic() + LOOK  # when to look by the clock
        self._why = ""  # nothing tells of saves
        self._told, self._over = threading.Event(), threading.Event()
        self._listener = threading.Thread(target=self._listen, name="saves", daemon=True)

    @property
    def silence(self) -> str:
        """What to know where the system does not tell of saves; empty where it does."""
        instead = f"the file is looked at every {POLL * 1000:.0f} ms instead"
        return f"No word of saves comes here ({self._why}): {instead}." if self._why else ""

    def __enter__(self) -> Self:
        self._listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._listener.join()

    def _listen(self) -> None:
        """Hear of saves. Its own falling back to looking would be silent, and so never looks."""
        if os.environ.get("WATCHFILES_FORCE_POLLING", "false") not in ("false", "disable", ""):
            self._why = "WATCHFILES_FORCE_POLLING is set"
            return
        try:
            for _ in watchfiles.watch(
                *self._watched.folders(),
                recursive=False,
                stop_event=self._over,
                rust_timeout=0,
                force_polling=False,
                poll_delay_ms=NEVER,
            ):
                self._told.set()
        except (OSError, RuntimeError) as error:
            self._why = str(error).partition(" (")[0]

    def news(self) -> News:
        """Wait a moment, and tell what has become of the file.

        It is "saved" or "gone" at a change, and then once "ready", when it stays as it is.
        """
        told = self._told.wait(TICK)
        self._told.clear()
        timely = self._is_time()
        if not (told or timely or not self._settled):
            return ""
        before, self._state = self._state, self._watched.state()
        changed = self._state != before
        self._doubt(told, timely, changed)
        ready = not changed and not self._settled and self._state is not None
        self._settled = ready or (self._settled and not changed)
        if changed:
            return "saved" if self._state else "gone"
        return "ready" if ready else ""

    def _doubt(self, told: bool, timely: bool, changed: bool) -> None:
        """Notice when a change that was seen by the clock is not told of until its next look."""
        if timely and self._unheard and not told:
            self._why = self._why or "a save was seen that was not told of"
        if told or timely:
            self._unheard = changed and not told

    def _is_time(self) -> bool:
        """Tell whether to look by the clock."""
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + (POLL if self._why else LOOK)
        return True


# What is checked


class Check:
    """A check of a file in a thread of its own, after those before."""

    def __init__(self, watched: Watched, pool: ThreadPoolExecutor) -> None:
        self.heard: Sentence | None = None  # the last one
        self._ended = False
        self._verdict: Future[Verdict] = pool.submit(
            checking.check,
            watched.lesson,
            watched.file,
            heard=self._hear,
            meanwhile=self._go_on,
        )

    def _hear(self, sentence: Sentence) -> None:
        self.heard = sentence

    def _go_on(self) -> None:
        """End a check that is not wanted any more: it leaves nothing behind."""
        if self._ended:
            raise Ended

    def verdict(self) -> Verdict | None:
        """Return what has come of it; None before its end. Raises what the check raises."""
        return self._verdict.result() if self._verdict.done() else None

    def end(self) -> None:
        """Have it end at once."""
        self._ended = True
        self._verdict.cancel()


class Checks:
    """The checks of a file, of which at most one is wanted; a context manager that ends it."""

    def __init__(self, watched: Watched, screen: Screen) -> None:
        self.hold = False  # all the sentences, of the file as it is
        self._watched, self._screen = watched, screen
        self._check: Check | None = None
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self._pool.shutdown()

    def take(self, news: News) -> None:
        """Do what a piece of news asks for; without any, see what has come of the check."""
        match news:
            case "gone":
                self._end()
                self._screen.work("waiting for")
            case "saved":
                self._end()
            case "ready":
                self._screen.work("checking")
                self._check = Check(self._watched, self._pool)
            case "" if self._check:
                self._follow(self._check)

    def _end(self) -> None:
        self.hold = False
        if self._check:
            self._check.end()
        self._check = None

    def _follow(self, check: Check) -> None:
        """Show what the check has heard, or its verdict."""
        try:
            verdict = check.verdict()
        except (MissingFile, FileNotFoundError):  # gone at that very moment
            self.take("ready")
            return
        if verdict is None:
            self._screen.hear(check.heard)
            return
        self.hold, self._check = bool(verdict), None
        self._screen.show(verdict)


# What is seen


class Screen:
    """In a terminal one picture that is drawn anew in its place; elsewhere line below line."""

    def __init__(self, watched: Watched, keys: bool) -> None:
        self._watched, self._keys = watched, keys
        self._console = Console()
        self._status = self._console.status("")
        self._note = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def note(self, words: str) -> None:
        """Say what is to be known while all goes on, once."""
        if words and words != self._note:
            self._console.print(Text(words, "yellow"), soft_wrap=True)
        self._note = words

    def work(self, doing: str) -> None:
        """Say what is done with the file."""
        words = self._words(doing)
        if not self._console.is_terminal:
            self._console.print(words, soft_wrap=True)
        self._status.update(words)
        self._status.start()

    def _words(self, doing: str) -> Text:
        return Text(f"{doing} {self._watched.lesson.short}, {shown(self._watched.file)}")

    def hear(self, sentence: Sentence | None) -> None:
        """Show in a terminal how far a check has come."""
        if sentence:
            self._status.update(self._words("checking").append(f": {sentence.said}"))

    def show(self, verdict: Verdict) -> None:
        """Show what came of a check, and what can be done."""
        self._status.stop()
        with self._console:  # all at once
            self._console.clear()
            self._console.print(Text("\n").join(self._picture(verdict)), soft_wrap=True)

    def _picture(self, verdict: Verdict) -> Iterator[Text]:
        known = self._watched.lesson
        yield Text(f"{known.short} {known.title}, at {datetime.now():%H:%M:%S}", "bold")
        if verdict.broken:
            yield Text(str(verdict.broken), SIGNS["no"].style)
            yield Text(f"\n{verdict.failure}\n")
        yield Text(verdict.summary, SIGNS["yes" if verdict else "no"].style)
        if verdict.progress:
            yield verdict.progress.__rich__()
        if self._note:
            yield Text(self._note, "yellow")
        yield Text(self._advice(bool(verdict)), "bold")

    def _advice(self, hold: bool) -> str:
        """Say what can be done: with keys, only where there are any."""
        later, leave = self._watched.later, " q leaves." * self._keys
        if not hold:
            return f"It is checked again when it is saved.{leave}"
        if later is None:
            return f"All hold, and no stage is behind it here.{leave}"
        on = f" Enter goes on to {later.short} {later.title}." * self._keys
        return f"All hold.{on}{leave}"
