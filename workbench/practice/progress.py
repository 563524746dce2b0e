"""How far you have come: what the last check of each stage found, kept from one run to the next.

It is in `progress.json`, in the folder of your own copies. The file is replaced in one step: of two
checks that end in the same moment one may go unrecorded, but neither can spoil it.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Literal, NamedTuple

from rich.text import Text

from workbench.course import workspace as mine
from workbench.course.catalogue import Lesson, lessons
from workbench.errors import Mistake
from workbench.files import keep, shown, write

Standing = Literal["passed", "begun", "not begun"]


class Sign(NamedTuple):
    """How a state is marked: a sign, its style in a terminal, its style in HTML."""

    mark: str
    style: str
    css: str


MARKS: dict[Standing, Sign] = {
    "passed": Sign("\N{CHECK MARK}", "green", "color:var(--jp-success-color1, #1a7f37)"),
    "begun": Sign("\N{WHITE CIRCLE}", "yellow", "color:var(--jp-warn-color0, #9a6700)"),
    "not begun": Sign("\N{MIDDLE DOT}", "dim", "opacity:.7"),
}
CELL = "display:inline-block;width:1.5em;line-height:1.5;text-align:center;border:1px solid"
PART = "margin-right:.6em;white-space:nowrap"


class NotKept(Mistake):
    """Progress cannot be read or written; the text says why."""


@dataclass(frozen=True)
class Record:
    """What the last check of a stage found, and what has come of it."""

    held: int = 0
    total: int = 0
    passed: bool = False  # in this check or in an earlier one
    broken: str = ""  # the first sentence that did not hold
    hinted: int = 0  # how many hints were given on it


KINDS = [type(value) for value in astuple(Record())]


@dataclass(frozen=True)
class Progress:
    """What is known of each stage, by its slug, and what is to be said of the file that has it."""

    records: Mapping[str, Record] = field(default_factory=dict)
    note: str = ""

    def of(self, known: Lesson) -> Record:
        """Return what is known of a stage."""
        return self.records.get(known.slug, Record())

    def standing(self, known: Lesson) -> Standing:
        """Tell whether a stage has passed a check, or at least was checked."""
        begun: Standing = "begun" if known.slug in self.records else "not begun"
        return "passed" if self.of(known).passed else begun

    @property
    def count(self) -> str:
        """How many stages have passed, and which were begun."""
        found = {known.short: self.standing(known) for known in _course()}
        begun = [short for short, standing in found.items() if standing == "begun"]
        passed = f"{list(found.values()).count('passed')} of {len(found)} stages"
        return f"{passed}, begun: {', '.join(begun)}" if begun else passed

    @property
    def parts(self) -> list[list[Lesson]]:
        """The stages of each part of the course, as the bar shows them."""
        return [list(part) for _, part in groupby(_course(), lambda known: known.tier)]

    def kept(self, known: Lesson, record: Record) -> Progress:
        """Put a record in the place of a stage's former one, in the file too. Raises NotKept."""
        records = {**self.records, known.slug: record}
        entries = {slug: asdict(entry) for slug, entry in records.items()}
        with _told():
            mine.folder().mkdir(parents=True, exist_ok=True)
            write(_file(), json.dumps(entries, indent=1).encode())
        return replace(self, records=records)

    def __str__(self) -> str:
        return self.__rich__().plain

    __repr__ = __str__

    def __rich__(self) -> Text:
        signs = [[MARKS[self.standing(known)] for known in part] for part in self.parts]
        bar = [Text.assemble(*((sign.mark, sign.style) for sign in part)) for part in signs]
        line = Text(" ").join([*bar, Text(f" {self.count}", "bold")])
        return Text("\n").join([line, Text(self.note)]) if self.note else line

    def _repr_html_(self) -> str:
        bar = "".join(
            f'<span style="{PART}">{"".join(map(self._cell, part))}</span>' for part in self.parts
        )
        note = f"<div>{html.escape(self.note)}</div>" if self.note else ""
        return f'<div style="margin:.4em 0">{bar}<b>{self.count}</b>{note}</div>'

    def _cell(self, known: Lesson) -> str:
        """Write a stage's mark in HTML: in words for a pointer, and for who does not see it."""
        standing = self.standing(known)
        words = html.escape(f"{known.short} {known.title}: {standing}")
        style = f"{CELL};{MARKS[standing].css}"
        label = f'role="img" aria-label="{words}" title="{words}"'
        return f'<span {label} style="{style}">{MARKS[standing].mark}</span>'


def read() -> Progress:
    """Return what is kept. Raises NotKept.

    A file that cannot be understood is kept under another name, and nothing is known.
    """
    with _told():
        data = _file().read_bytes() if _file().exists() else b"{}"
        try:
            return Progress(_records(data))
        except (ValueError, TypeError, AttributeError, RecursionError):
            aside = keep(_file(), data).name
        what = f"{shown(_file())} could not be understood"
        return Progress(note=f"{what}: it is kept as {aside}, and progress starts anew")


def record(known: Lesson, file: Path, found: Record) -> Progress:
    """Keep what a check found of a stage's file, and return how far the course has come.

    What does not count changes nothing: a file that stands beside your copies by another name, as a
    hunt's does, and the course's own stage, until it has failed a check: it was changed then. The
    note says so, or why nothing could be kept.
    """
    seen = Progress()
    try:
        seen = read()
        if reason := _uncounted(known, file, seen, found):
            return replace(seen, note=seen.note or reason)
        earlier = seen.of(known)
        hinted = earlier.hinted if earlier.broken == found.broken else 0
        passed = earlier.passed or found.passed
        return seen.kept(known, replace(found, passed=passed, hinted=hinted))
    except NotKept as error:
        return replace(seen, note=str(error))


def given(known: Lesson) -> bool:
    """Tell whether a stage is in its repository as the course has it.

    A starter leaves it to be written, and so leaves out the faults that would tell how.
    """
    return (known.folder.parent / "tests" / "suite" / "mutants" / f"{known.slug}.toml").is_file()


def _uncounted(known: Lesson, file: Path, seen: Progress, found: Record) -> str:
    """Say why a check does not count as progress; nothing if it does."""
    own = mine.copied(known)
    if file.resolve().parent == own.resolve().parent and file.name != own.name:
        return f"{file.name} does not count: your copy is {own.name}"
    as_it_came = given(known) and found.passed and known.slug not in seen.records
    if file.resolve() == known.path and as_it_came:
        return f"{shown(known.path)} is as it came and does not count: a copy of yours will"
    return ""


def _records(data: bytes) -> dict[str, Record]:
    """Read the records. Raises ValueError, TypeError or AttributeError for anything else."""
    records = {slug: Record(**entry) for slug, entry in json.loads(data).items()}
    if any([type(value) for value in astuple(entry)] != KINDS for entry in records.values()):
        raise TypeError("a value of another kind")
    return records


def _course() -> list[Lesson]:
    """List the stages that are in this repository: a starter leaves out those behind its own."""
    return [known for known in lessons() if known.path.is_file()]


def _file() -> Path:
    """Return where progress is kept."""
    return mine.folder() / "progress.json"


@contextmanager
def _told() -> Iterator[None]:
    """Make a fault of the folder one line. Raises NotKept."""
    try:
        yield
    except OSError as error:
        raise NotKept(f"progress cannot be kept: {error}") from error
