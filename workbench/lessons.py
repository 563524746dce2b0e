"""The catalogue of the course, and the named pieces that a stage is made of.

Reads `stages/lessons.toml`, where everything about a lesson is written once. Standard library only:
`python3 -m stages` must list the course on a bare Python.
"""

from __future__ import annotations

import ast
import difflib
import functools
import io
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

STAGES = Path(__file__).resolve().parent.parent / "stages"
CATALOGUE = "lessons.toml"


class Mistake(Exception):  # noqa: N818 - named for what it is: the user's, not the program's
    """A user's slip: its text says what was needed, what came and what to do; it is shown alone."""

    def _render_traceback_(self) -> list[str]:
        """Show only the message in a notebook (IPython asks an exception for this method)."""
        return [str(self)]


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


def pieces(source: str) -> dict[str, str]:
    """Map every top-level name of a module to its exact source text, in order.

    Functions and classes come with their decorators and the comment lines directly above them,
    constants with their trailing comment. Raises SyntaxError for what is not Python.
    """
    return _pieces(source, ast.parse(source).body)


def members(source: str) -> dict[str, str]:
    """Map every name in the first class of a source to its exact text, in order; else likewise."""
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    return _pieces(source, classes[0].body) if classes else {}


def _pieces(source: str, statements: Sequence[ast.stmt]) -> dict[str, str]:
    """Map the names that statements bind to the lines of the source that hold them."""
    lines = list(io.StringIO(source))  # by line feeds only, as the parser counts
    texts: dict[str, str] = {}
    for name, statement in _named(statements):
        first = _first_line(statement, lines)
        texts[name] = texts.get(name, "") + "".join(lines[first : statement.end_lineno])
    return texts


def touched(before: str, after: str) -> tuple[str, ...]:
    """Name what is added or changed at the top level between two sources, in the order of `after`.

    Syntax trees are compared: a moved line, a comment or a line break changes nothing. Raises
    SyntaxError for what is not Python.
    """
    old, new = _trees(before), _trees(after)
    return tuple(name for name, tree in new.items() if old.get(name) != tree)


def removed(before: str, after: str) -> tuple[str, ...]:
    """Name what is no longer there, in the order of `before`. Raises SyntaxError likewise."""
    kept = _trees(after)
    return tuple(name for name in _trees(before) if name not in kept)


def _trees(source: str) -> dict[str, list[str]]:
    """Map every top-level name to the syntax trees that bind it, written without positions."""
    trees: dict[str, list[str]] = {}
    for name, statement in _named(ast.parse(source).body):
        trees.setdefault(name, []).append(ast.dump(statement))
    return trees


def _named(statements: Sequence[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """Yield each name with the top-level statement that binds it, imports apart."""
    for statement in statements:
        for name in dict.fromkeys(_bound(statement)):
            yield name, statement


def _bound(node: ast.AST) -> Iterator[str]:
    """Yield the names that a statement binds, those inside an `if` or a `try` among them."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name
        case ast.Name(ctx=ast.Store()):
            yield node.id
        case ast.Lambda() | ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            return  # these bind names of their own
        case _:
            for child in ast.iter_child_nodes(node):
                yield from _bound(child)


def _first_line(statement: ast.stmt, lines: Sequence[str]) -> int:
    """Find the index of a statement's first line, counting decorators and comments above it."""
    first: int = min(node.lineno for node in (statement, *getattr(statement, "decorator_list", ())))
    while first > 1 and lines[first - 2].lstrip().startswith("#"):
        first -= 1
    return first - 1
