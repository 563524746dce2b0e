"""A student's own copies of the stages: made when they are asked for, changed by definitions.

They are in `notebooks/mine/stages`, which git ignores, with `static` beside as for the stages
themselves; the environment variable WORKBENCH_MINE names another folder than `notebooks/mine`.
"""

from __future__ import annotations

import ast
import copy
import difflib
import html
import io
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.course import catalogue as lessons
from workbench.course import syntax
from workbench.course.catalogue import Stage
from workbench.errors import Mistake
from workbench.files import NOTEBOOKS, STAGES, STATIC, keep, shown, write

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

IMPORTS = (ast.Import, ast.ImportFrom)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)


class CannotPractise(Mistake, ValueError):  # noqa: N818
    """Definitions that cannot go into a copy; the text says which line or name, and why."""


@dataclass(frozen=True)
class Practised:
    """What was done to a copy, and where the copy is."""

    file: Path
    done: str

    def __str__(self) -> str:
        return f"{self.done} in {shown(self.file)}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"{html.escape(self.done)} in <code>{html.escape(shown(self.file))}</code>"


def folder() -> Path:
    """Return the folder that holds the copies: `notebooks/mine`, or what WORKBENCH_MINE says."""
    return Path(os.environ.get("WORKBENCH_MINE") or NOTEBOOKS / "mine").absolute()


def copied(stage: Stage) -> Path:
    """Return where the copy of a stage is, or would be. Raises UnknownStage."""
    return folder() / STAGES.name / lessons.lesson(stage).path.name


def mine(stage: Stage) -> Path:
    """Return your own copy of a stage, made from the stage when it is missing.

    Raises UnknownStage.
    """
    file = copied(stage)
    furnish(file.parent)
    if not file.exists():
        write(file, lessons.lesson(stage).path.read_bytes())
    return file


def furnish(stages: Path) -> None:
    """Put the pages, and what makes a package, beside copies, where they are missing."""
    stages.mkdir(parents=True, exist_ok=True)
    if not (stages / "__init__.py").exists():
        shutil.copy(STAGES / "__init__.py", stages)
    if not (pages := stages.parent / "static").exists():
        shutil.copytree(STATIC, pages, dirs_exist_ok=True)


def restore(stage: Stage) -> Practised:
    """Start again from the stage; what the copy held stays beside it, with `.before` at its end.

    An earlier `.before` that says something else is kept too: the new one has a number. Raises
    UnknownStage.
    """
    file, original = mine(stage), lessons.lesson(stage).path.read_bytes()
    former = file.read_bytes()
    if former == original:
        return Practised(file, "the stage's own text is")
    kept = keep(file, former)
    write(file, original)
    return Practised(file, f"your text is kept as {kept.name}, and the stage's own is")


def practise(stage: Stage, source: str) -> Practised:
    """Put the top-level definitions of `source` into your copy, in place of those so named.

    A new name is put where `source` has it: before the next name that the copy knows, or else
    after the one before. An import joins the copy's imports. All else stays, to the byte. Raises
    UnknownStage, or CannotPractise for what is not Python, is no definition, or has only new names.
    """
    file, source = mine(stage), source.replace("\r\n", "\n")
    text = file.read_bytes().decode("utf-8", "surrogateescape")
    advice = f': put it right, or restore("{lessons.lesson(stage).slug}")'
    old, new = _pieces(text, shown(file), advice), _definitions(source)
    if not new.keys() & old.keys():
        raise CannotPractise(f"needed a name that is in your copy, got {_nearest(new, old)}")
    changed = _with_imports(_with_pieces(text, old, new), source)
    if lost := (old | new).keys() - _pieces(changed, "the outcome").keys():
        raise CannotPractise(
            f"{', '.join(sorted(lost))} would be lost: change {shown(file)} itself"
        )
    write(file, changed.encode("utf-8", "surrogateescape"))
    return Practised(file, _told(old, new))


def _pieces(text: str, what: str, advice: str = "") -> dict[str, str]:
    """Take a text apart. Raises CannotPractise, with the line, for what Python cannot compile."""
    try:
        compile(text, what, "exec", dont_inherit=True)
        return syntax.pieces(text)
    except SyntaxError as error:
        place = f"line {error.lineno} of {what}"
        reason = f"{error.msg}: {(error.text or '').strip()}"
    except ValueError as error:
        place, reason = what, str(error)
    raise CannotPractise(f"{place} is not Python, {reason}{advice}")


def _definitions(source: str) -> dict[str, str]:
    """Take a student's source apart. Raises CannotPractise for anything but definitions."""
    source = source.rstrip() + "\n"
    found = _pieces(source, "the source")
    for statement in ast.parse(source).body:
        if not isinstance(statement, DEFINITIONS + IMPORTS):
            words = source.splitlines()[statement.lineno - 1].strip()
            place = f"line {statement.lineno} is `{words}`"
            raise CannotPractise(f"needed only definitions and imports, and {place}")
    if not found:
        raise CannotPractise("needed a definition: a whole function, say, with its `def` line")
    return found


def _nearest(new: Mapping[str, str], old: Mapping[str, str]) -> str:
    """Say which names came, and which one was probably meant."""
    close = [match for name in new for match in difflib.get_close_matches(name, old, n=1)]
    hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(old)}"
    return f"{', '.join(new)}: {hint}"


def _with_pieces(text: str, old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """Put each block of new pieces in the place of the old piece that it is for."""
    for name, block in _blocks(old, new):
        start = f"\n{text}".find(f"\n{old[name]}")
        if start < 0:
            raise CannotPractise(f"{name} is not in one piece in your copy: change it there")
        fresh = "\n\n".join(block).replace("\n", _line_end(text))
        text = text[:start] + fresh + text[start + len(old[name]) :]
    return text


def _blocks(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each old name with the pieces for its place; new ones at the end are the last's."""
    last = [name for name in new if name in old][-1]
    block: list[str] = []
    for name, piece in new.items():
        block.append(piece)
        if name in old and name != last:
            yield name, block
            block = []
    yield last, block


def _line_end(text: str) -> str:
    """Return what ends a text's lines."""
    return "\r\n" if "\r\n" in text else "\n"


def _with_imports(text: str, source: str) -> str:
    """Add the imports of a source that a text lacks, below its own."""
    have = dict(_imports(text))
    lines = list(io.StringIO(text))  # by line feeds only, as the parser counts
    after = max(have.values(), default=0)
    missing = [line + _line_end(text) for line, _ in _imports(source) if line not in have]
    return "".join(lines[:after] + missing + lines[after:])


def _imports(source: str) -> Iterator[tuple[str, int]]:
    """Yield every name that is imported at the top level, as a line of its own, and where."""
    for node in ast.parse(source).body:
        if isinstance(node, IMPORTS):
            for alias in node.names:
                one = copy.copy(node)
                one.names = [alias]
                yield ast.unparse(one), node.end_lineno or 0


def _told(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """Say what was replaced and what was added."""
    groups = {
        "replaced": [name for name in new if name in old],
        "added": [name for name in new if name not in old],
    }
    return "; ".join(f"{verb} {', '.join(names)}" for verb, names in groups.items() if names)


def register(ipython: InteractiveShell) -> None:
    """Give a notebook the magic `%%mine s05_routing`: the cell's definitions go into your copy."""
    ipython.magics_manager.register_function(_cell, magic_kind="cell", magic_name="mine")


def _cell(line: str, cell: str) -> Practised:
    """Put the definitions of this cell into your copy of the stage that the line names."""
    return practise(line, cell)
