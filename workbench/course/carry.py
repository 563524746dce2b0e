"""Bring a fix made in one stage forward through all the stages that build on it.

At a base commit every stage is taken to be in step with the one that it builds on. What a stage has
become since then is merged into each stage that builds on it, one neighbour at a time, by
`git merge-file`. What has been carried is noted in the repository's `.git/carry.json`, so that a
clash put right by hand stays right, and a second run changes nothing.
"""

from __future__ import annotations

import ast
import io
import json
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from workbench.course import catalogue as lessons
from workbench.course.catalogue import Lesson
from workbench.errors import Mistake
from workbench.files import STAGES

MARKER = re.compile(rb"^(<{7}|>{7}) ", re.MULTILINE)
GO_ON = "python -m workbench carry --continue"


class Clash(Mistake):
    """The fix and what a stage teaches meet in the same lines; the text says where, and how on."""


class NothingToCompare(Mistake):
    """Git cannot tell what a stage was before: no repository, no such commit, no such file."""


@dataclass(frozen=True)
class Carried:
    """What a run did: the stage it started from, and the stages whose files it changed."""

    stage: Lesson
    changed: tuple[Lesson, ...]

    def __str__(self) -> str:
        names = ", ".join(lesson.slug for lesson in self.changed)
        return f"{self.stage.slug} is carried forward: {names or 'nothing'} changed"


@dataclass
class Step:
    """One merge into a stage: the parent's text it took in, its own text before and after."""

    parent: str
    was: str
    now: str


@dataclass
class Journal:
    """What has been carried since one commit; lives in the repository's .git folder."""

    path: Path
    base: str
    stage: str
    clash: str | None = None  # the stage that the last run stopped at
    steps: dict[str, list[Step]] = field(default_factory=dict)

    def save(self) -> None:
        """Write the journal, whole or not at all."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(self) | {"path": ""}), encoding="utf-8")
        fresh.replace(self.path)


def carry(stage: str | Lesson, base: str | None = None, folder: Path = STAGES) -> Carried:
    """Merge what changed in a stage since `base` into all the stages that build on it.

    `base` is a commit, HEAD by default; changes that are not committed yet count too. A change made
    since then in a stage on the way goes on from there as well. A stage's docstring is its own, and
    stays. A run that a clash stopped is gone on with.

    Raises UnknownStage; NothingToCompare; or Clash, with both versions left in the file.
    """
    first = lessons.lesson(stage, folder)
    journal = _journal(folder)
    if journal is None or not _continues(journal, first, base):
        journal = _opened(first, base or "HEAD", journal)
    return _cascade(first, journal)


def go_on(folder: Path = STAGES) -> Carried:
    """Go on with the run that a clash stopped. Raises Mistake if there is none, else as `carry`."""
    journal = _journal(folder)
    if journal is None or journal.clash is None:
        raise Mistake("no carry was stopped: name the stage whose fix is to be carried")
    _settle(lessons.lesson(journal.clash, folder), journal)
    return _cascade(lessons.lesson(journal.stage, folder), journal)


def _settle(stage: Lesson, journal: Journal) -> None:
    """Take a stage as it is now for the answer to its clash, be it the text it had before."""
    _refuse_markers(stage)
    journal.steps[stage.slug][-1].now = _as_text(_read(stage))


def _continues(journal: Journal, first: Lesson, base: str | None) -> bool:
    """Tell whether this is the run that a clash stopped, asked for by its stage's name again."""
    return base is None and journal.clash is not None and journal.stage == first.slug


def _opened(first: Lesson, base: str, earlier: Journal | None) -> Journal:
    """Begin a run; what was carried since the same commit before stays noted."""
    commit = _git(first.folder, "rev-parse", "--verify", "--quiet", f"{base}^{{commit}}")
    if commit is None:
        raise NothingToCompare(f"git knows no commit {base!r} here: name another with --base")
    sha = commit.decode().strip()
    if _at_base(first, sha) is None:
        raise NothingToCompare(f"{first.path.name} is not in {base}: commit it, or name a --base")
    steps = earlier.steps if earlier and earlier.base == sha else {}
    return Journal(_journal_path(first.folder), sha, first.slug, steps=steps)


def _cascade(first: Lesson, journal: Journal) -> Carried:
    """Bring each stage into step with the one it builds on, in the order of the course."""
    _refuse_markers(first)
    changed = [heir for heir in _later(first) if _bring(heir, journal)]
    journal.clash = None
    journal.save()
    return Carried(first, tuple(changed))


def _later(first: Lesson) -> list[Lesson]:
    """List what builds on a stage, up to the last that is there: a class may have but a part."""
    later = list(lessons.heirs(first)[1:])
    while later and not later[-1].path.exists():
        later.pop()
    return later


def _bring(child: Lesson, journal: Journal) -> bool:
    """Merge what is new in the parent into one stage, and tell whether that changed its file."""
    _refuse_markers(child)
    parent = lessons.lesson(child.builds_on or "", child.folder)
    taken, new, mine = _taken(child, journal), _read(parent), _read(child)
    old = _as_bytes(taken[-1].parent) if taken else _before(parent, journal)
    if old == new:
        return False
    merged, clashes = _merged(child, parent, mine, old, new)
    journal.steps[child.slug] = [*taken, Step(*map(_as_text, (new, mine, merged)))]
    journal.clash = child.slug if clashes else None
    journal.save()  # first: if the next line is never reached, the step is seen not to be taken
    child.path.write_bytes(merged)
    if clashes:
        raise Clash(_advice(child, parent))
    return merged != mine


def _taken(child: Lesson, journal: Journal) -> list[Step]:
    """Return the steps that a stage has taken, without those that were undone by hand since."""
    steps, mine = journal.steps.get(child.slug, []), _read(child)
    if steps and _as_text(mine) != steps[-1].now and mine == _at_base(child, journal.base):
        return []
    undone = (n for n, step in enumerate(steps) if step.was == _as_text(mine) != step.now)
    return steps[: next(undone, len(steps))]


def _before(parent: Lesson, journal: Journal) -> bytes:
    """Return a stage as it was at the base, or before any step if it is newer than the base."""
    at_base = _at_base(parent, journal.base)
    if at_base is not None:
        return at_base
    steps = journal.steps.get(parent.slug)
    return _as_bytes(steps[0].was) if steps else _read(parent)


def _merged(
    child: Lesson, parent: Lesson, mine: bytes, old: bytes, new: bytes
) -> tuple[bytes, bool]:
    """Merge three texts byte for byte, and tell whether they clash."""
    labels = f"{child.slug} as it is", f"{parent.slug} before", f"{parent.slug} now"
    named = [word for label in labels for word in ("-L", label)]
    with TemporaryDirectory() as folder:
        for name, text in ("mine", mine), ("old", old), ("new", _with_docstring_of(old, new)):
            (Path(folder) / name).write_bytes(text)
        command = ["git", "merge-file", "--stdout", "--diff3", "--quiet", *named]
        result = _run([*command, "mine", "old", "new"], Path(folder), env=_plain_environment())
    if not 0 <= result.returncode < 128:
        raise Mistake(f"git could not merge into {child.path}: {_words(result.stderr)}")
    return result.stdout, result.returncode > 0


def _with_docstring_of(old: bytes, new: bytes) -> bytes:
    """Give the new text the old one's docstring: it names its stage, and no other can use it."""
    kept, lines = _docstring_lines(old), _lines(new)
    place = _docstring_lines(new)
    if not kept or not place:
        return new
    return b"".join([*lines[: place[0]], *_lines(old)[slice(*kept)], *lines[place[1] :]])


def _docstring_lines(text: bytes) -> tuple[int, int] | None:
    """Find the first and the last line of a module's docstring, if it has one."""
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError):
        return None
    match body:
        case [ast.Expr(value=ast.Constant(value=str())) as words, *_] if words.end_lineno:
            return words.lineno - 1, words.end_lineno
    return None


def _lines(text: bytes) -> list[bytes]:
    """Cut a text after its line feeds."""
    return list(io.BytesIO(text))


def _refuse_markers(stage: Lesson) -> None:
    """Raise Clash if a stage still has the marks of one in it."""
    text = _read(stage)
    if found := MARKER.search(text):
        line = text.count(b"\n", 0, found.start()) + 1
        raise Clash(f"{_shown(stage)}, line {line}: a clash still to be put right; then: {GO_ON}")


def _advice(child: Lesson, parent: Lesson) -> str:
    """Say where a clash is, and what to do."""
    return (
        f"{_shown(child)}: what changed in {parent.slug} meets what this stage changes itself; "
        f"put right what stands between <<<<<<< and >>>>>>>, then: {GO_ON}"
    )


def _shown(stage: Lesson) -> str:
    """Name a stage's file as one would type it at the root of the repository."""
    return f"{stage.folder.name}/{stage.path.name}"


def _read(stage: Lesson) -> bytes:
    """Read a stage as it is in the working tree. Raises NothingToCompare if it is not there."""
    try:
        return stage.path.read_bytes()
    except OSError as error:
        raise NothingToCompare(f"cannot read {stage.path}: {error.strerror}") from error


def _at_base(stage: Lesson, commit: str) -> bytes | None:
    """Return a stage as it was in a commit, or None if it was not there."""
    text = _git(stage.folder, "cat-file", "blob", f"{commit}:./{stage.path.name}")
    return None if text is None else _with_line_ends_of(_read(stage), text)


def _with_line_ends_of(now: bytes, text: bytes) -> bytes:
    """Give a text the line ends of today's: git may translate them, and they are no change."""
    text = text.replace(b"\r\n", b"\n")
    return text.replace(b"\n", b"\r\n") if b"\r\n" in now else text


def _journal_path(folder: Path) -> Path:
    """Find the journal's place in the repository. Raises NothingToCompare outside of one."""
    place = _git(folder, "rev-parse", "--git-path", "carry.json")
    if place is None:
        raise NothingToCompare(f"{folder} is in no git repository: carry needs one to compare with")
    return folder / os.fsdecode(place.rstrip(b"\r\n"))


def _journal(folder: Path) -> Journal | None:
    """Read what was carried before, if anything was."""
    path = _journal_path(folder)
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        steps = {slug: [Step(**step) for step in taken] for slug, taken in kept["steps"].items()}
        return Journal(path, kept["base"], kept["stage"], kept["clash"], steps)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Mistake(f"cannot use {path}: {error!r}; remove it to begin anew") from error


def _git(folder: Path, *words: str) -> bytes | None:
    """Ask git, and return its answer, or None where it says no."""
    result = _run(["git", *words], folder)
    return None if result.returncode else result.stdout


def _run(
    command: Sequence[str], folder: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run git in a folder. Raises NothingToCompare if there is none on this machine."""
    try:
        return subprocess.run(command, cwd=folder, env=env, capture_output=True)  # noqa: S603 - git
    except FileNotFoundError as error:
        raise NothingToCompare("carry needs git, and the folder of the stages") from error


def _plain_environment() -> dict[str, str]:
    """Return an environment in which nobody's own git settings change how texts are merged."""
    inherited = {name: value for name, value in os.environ.items() if name[:4] != "GIT_"}
    return inherited | {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}


def _words(message: bytes) -> str:
    """Put what git said on one line."""
    return " ".join(message.decode(errors="replace").split())


def _as_text(text: bytes) -> str:
    """Write bytes as JSON can hold them, one character for each."""
    return text.decode("latin-1")


def _as_bytes(text: str) -> bytes:
    """Read them back."""
    return text.encode("latin-1")
