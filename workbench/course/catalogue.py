"""The catalogue of the course, and the named pieces that a stage is made of.

Reads `stages/lessons.toml`, where everything about a lesson is written once. Standard library only:
`python3 -m stages` must list the course on a bare Python.
"""

from __future__ import annotations

import difflib
import functools
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from workbench.errors import Mistake
from workbench.files import STAGES

CATALOGUE = "lessons.toml"


class UnknownStage(Mistake, ValueError):  # noqa: N818
    """No stage goes by that name; the text suggests the nearest one."""


class BrokenCatalogue(Mistake):
    """`lessons.toml` cannot be used as it is; the text says which entry, and why."""


@dataclass(frozen=True)
class Lesson:
    """One entry of `lessons.toml`: a stage, its question, and the limitation that it leaves."""

    slug: str
    title: str
    question: str
    limitation: str
    builds_on: str | None
    touches: tuple[str, ...]
    minutes: int
    points: int
    tier: str
    folder: Path = STAGES

    @property
    def number(self) -> int:
        """The place in the course: 5 for `s05_routing`."""
        return int(self.short[1:])

    @property
    def short(self) -> str:
        """The name up to its number: `s05`."""
        return self.slug.partition("_")[0]

    @property
    def path(self) -> Path:
        """The stage's own file."""
        return self.folder / f"{self.slug}.py"

    @property
    def command(self) -> str:
        """The line that runs the stage from the root of the repository."""
        return f"python -m stages.{self.slug}"


Stage = str | int | Path | Lesson  # whatever names one: s5, "s05_routing", its file


@functools.cache
def lessons(folder: Path = STAGES) -> tuple[Lesson, ...]:
    """Return all lessons of a folder's `lessons.toml` in the order of the course.

    The file is read once. Raises BrokenCatalogue if it is missing or an entry cannot be used.
    """
    try:
        entries = tomllib.loads((folder / CATALOGUE).read_text(encoding="utf-8"))["lesson"]
    except (OSError, KeyError, ValueError) as error:
        reason = "no [[lesson]] in it" if isinstance(error, KeyError) else error
        raise BrokenCatalogue(f"cannot read {folder / CATALOGUE}: {reason}") from error
    course: list[Lesson] = []
    for entry in entries:
        course.append(_lesson(entry, course, folder))
    return tuple(course)


def _lesson(entry: dict[str, Any], earlier: Sequence[Lesson], folder: Path) -> Lesson:
    """Make a Lesson of one table; it builds on the lesson before where it names no other."""
    slugs = [lesson.slug for lesson in earlier]
    entry = {"builds_on": slugs[-1] if slugs else None} | entry | {"folder": folder}
    wrong = entry.keys() ^ {field.name for field in fields(Lesson)}
    label = f"{folder / CATALOGUE}, lesson {entry.get('slug', len(slugs) + 1)!r}"
    if wrong:
        raise BrokenCatalogue(f"{label}: missing or unknown: {', '.join(sorted(wrong))}")
    if not re.fullmatch("s[0-9]{2}_[a-z0-9_]+", entry["slug"]) or entry["slug"] in slugs:
        raise BrokenCatalogue(f"{label}: needed a new name like s05_routing")
    if slugs and entry["builds_on"] not in slugs:
        raise BrokenCatalogue(f"{label}: builds_on must name an earlier lesson")
    return Lesson(**entry | {"touches": tuple(entry["touches"])})


def lesson(name: str | int | Path | Lesson, folder: Path = STAGES) -> Lesson:
    """Find a lesson by any of its names: s5, s05, 5, s05_routing, routing, stages/s05_routing.py.

    Raises UnknownStage, whose one line suggests the nearest name.
    """
    if isinstance(name, Lesson):
        return name
    said = _plain(str(name))
    for candidate in lessons(folder):
        if said in _names(candidate):
            return candidate
    raise UnknownStage(f"no stage is called {str(name)!r}{_suggestion(said, folder)}")


def _plain(name: str) -> str:
    """Reduce a path, a module or a number to what tells stages apart: 'S5' becomes 's05'."""
    last = re.split(r"[/\\]", name.strip().lower())[-1]
    last = last.removesuffix(".py").removeprefix("stages.").replace("-", "_")
    number = re.fullmatch("s?([0-9]{1,4})", last)
    return f"s{int(number[1]):02}" if number else last


def _names(lesson: Lesson) -> tuple[str, str, str]:
    """List what a lesson answers to: its slug, its number, and the slug without its number."""
    return lesson.slug, lesson.short, lesson.slug.partition("_")[2]


def _suggestion(said: str, folder: Path) -> str:
    """Say which stage was probably meant; the nearest number, or the nearest spelling."""
    nearest = {name: known.slug for known in lessons(folder) for name in _names(known)}
    close = difflib.get_close_matches(said, nearest, n=1, cutoff=0.5)
    if re.fullmatch("s[0-9]+", said):
        close = [min(lessons(folder), key=lambda known: abs(known.number - int(said[1:]))).slug]
    guess = f": did you mean {nearest[close[0]]}?" if close else ":"
    return f"{guess} `python -m stages` lists them all"


def before(name: str | int | Path | Lesson, folder: Path = STAGES) -> Lesson | None:
    """Return the lesson that this one builds on, or None for the first. Raises UnknownStage."""
    known = lesson(name, folder)
    return lesson(known.builds_on, known.folder) if known.builds_on else None


def heirs(name: str | int | Path | Lesson, folder: Path = STAGES) -> tuple[Lesson, ...]:
    """Return the lesson and all that build on it, directly or not, in the order of the course.

    Raises UnknownStage.
    """
    family = [lesson(name, folder)]
    for later in lessons(family[0].folder):
        if later.builds_on in {member.slug for member in family}:
            family.append(later)
    return tuple(family)
