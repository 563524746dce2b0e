"""Bug hunts: a stage with a fault in it is put on the bench, and does not tell what is wrong.

The bench is a file beside your own copies, such as `notebooks/mine/stages/hunt_s08.py`. What has
been put there is recorded by marks from which no fault can be read.
"""

from __future__ import annotations

import hashlib
import html
import secrets
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group
from rich.text import Text

from workbench.course import workspace as mine
from workbench.course.catalogue import Lesson, Stage, lesson
from workbench.course.mutants import MUTANTS, Mutant, mutants
from workbench.course.source import Diff, Source, source
from workbench.errors import Mistake
from workbench.files import keep, shown, write
from workbench.practice import check as checking
from workbench.practice.results import Sentence
from workbench.server.launch import Server, launch

Heard = Callable[[Sentence], object]


@dataclass(frozen=True)
class Hunt:
    """A wrong file on the bench, and what to do with it; it shows no fault unless asked."""

    lesson: Lesson
    file: Path

    def launch(self, **settings: object) -> Server:
        """Start the wrong file; see `launch`."""
        return launch(self.lesson, file=self.file, **settings)

    def check(self, heard: Heard | None = None) -> checking.Verdict:
        """Say the stage's sentences of it, up to the first that fails; see `check`."""
        return checking.check(self.lesson, self.file, heard=heard)

    def reveal(self, heard: Heard | None = None) -> Revealed:
        """Tell what is wrong, and whether you have repaired it. Raises Mistake on an empty bench.

        A repair that is not the stage's own text is checked; `heard` is called as by `check`.
        """
        fault = _latest(self.lesson, self.file)
        return Revealed(self.lesson, fault, self.file, self._outcome(fault, heard))

    def _outcome(self, fault: Mutant, heard: Heard | None) -> str:
        """Say what has become of the file."""
        text = self.file.read_text(encoding="utf-8", errors="replace")
        if text == fault.source():
            return "The file is as it was put there."
        if text == source(self.lesson).text:
            return "Repaired: the file is the stage's own again."
        broken = self.check(heard).broken
        if broken:
            return f"Not repaired yet: {broken.text} (this does not hold)."
        return "Repaired: the file keeps every promise of its stage."

    @property
    def title(self) -> str:
        """What is on the bench."""
        count = len(_faults(self.lesson))
        return f"{self.lesson.short} {self.lesson.title}, with one of {count} faults"

    def __str__(self) -> str:
        short, place = self.lesson.short, shown(self.file)
        file = subprocess.list2cmdline([place])
        return (
            f"{self.title}, is in {place}.\n"
            "Find the fault by what the file does, and repair it.\n\n"
            f"The wrong one    python -m workbench run {short} --file {file}\n"
            f"A right one      python -m workbench run {short} --set PORT=7879\n"
            f"What it breaks   python -m workbench check {short} --file {file}\n"
            f"The fault        python -m workbench hunt {short} --reveal"
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return (
            f"<b>{html.escape(self.title)}</b>, is in "
            f"<code>{html.escape(shown(self.file))}</code>. Find the fault by what the file "
            f"does, and repair it. <code>.launch()</code> starts it, "
            f'<code>launch("{self.lesson.short}")</code> a right one in its place; '
            f"<code>.check()</code> says what it breaks, <code>.reveal()</code> the fault."
        )


@dataclass(frozen=True)
class Revealed:
    """The fault that is on the bench, and what has become of the file."""

    lesson: Lesson
    fault: Mutant
    file: Path
    outcome: str

    @property
    def story(self) -> str:
        """What is wrong, which of the stage's faults that is, and what catches it."""
        faults = _faults(self.lesson)
        number = f"{faults.index(self.fault) + 1} of {len(faults)}"
        return f"Fault {number}: {self.fault.story}.\nCaught by: {self.fault.sentence}."

    @property
    def diff(self) -> Diff:
        """What the fault has changed in the stage."""
        return Diff(source(self.lesson), Source(self.file.name, self.fault.source()))

    def __str__(self) -> str:
        return f"{self.outcome}\n{self.story}\n\n{self.diff}"

    __repr__ = __str__

    def __rich__(self) -> Group:
        return Group(Text(f"{self.outcome}\n{self.story}\n"), self.diff)

    def _repr_html_(self) -> str:
        said = html.escape(f"{self.outcome}\n{self.story}").replace("\n", "<br>")
        return f"{said}{self.diff._repr_html_()}"


def hunt(stage: Stage, number: int | None = None) -> Hunt:
    """Put a stage on the bench with a fault in it: one of those that were there least often.

    A number, from 1, gives a whole class the same. What you wrote on the bench is kept beside it,
    as by `restore`. Raises UnknownStage, or Mistake for a number or a stage that has no fault.
    """
    known = lesson(stage)
    faults = _faults(known)
    if number is None:
        often = Counter(_marks(known))
        least = min(often[_mark(fault)] for fault in faults)
        fault = secrets.choice([fault for fault in faults if often[_mark(fault)] == least])
    elif 1 <= number <= len(faults):
        fault = faults[number - 1]
    else:
        raise Mistake(
            f"needed a number from 1 to {len(faults)} for the faults of {known.slug}, got {number}"
        )
    return _put(known, fault)


def on_bench(stage: Stage) -> Hunt:
    """Return the hunt that is under way. Raises UnknownStage, or Mistake if there is none."""
    known = lesson(stage)
    _latest(known, _bench(known))
    return Hunt(known, _bench(known))


def record() -> Path:
    """Return the record of what has been on the bench: in each line a stage and a mark."""
    return mine.folder() / "hunted.txt"


def _bench(known: Lesson) -> Path:
    """Return where a stage's wrong file is put."""
    return mine.copied(known).with_name(f"hunt_{known.short}.py")


def _faults(known: Lesson) -> list[Mutant]:
    """List the faults of a stage. Raises Mistake if it has none, with those that have some."""
    if not MUTANTS.is_dir():
        raise Mistake(f"there is no folder {shown(MUTANTS)}, where the faults are kept")
    faults = [fault for fault in mutants() if fault.stage == known.slug]
    if not faults:
        others = dict.fromkeys(lesson(fault.stage).short for fault in mutants())
        raise Mistake(f"no faults to hunt in {known.slug}: there are in {', '.join(others)}")
    return faults


def _put(known: Lesson, fault: Mutant) -> Hunt:
    """Put a fault on the bench, and keep what was written there; what hunts put is not kept."""
    file, text = _bench(known), fault.source()
    mine.furnish(file.parent)
    if file.exists() and file.read_text(encoding="utf-8", errors="replace") not in _sources(known):
        keep(file, file.read_bytes())
    write(file, text.encode())
    with record().open("a", encoding="utf-8") as stream:
        stream.write(f"{known.slug} {_mark(fault)}\n")
    return Hunt(known, file)


def _sources(known: Lesson) -> list[str]:
    """List the texts that can be made again: the stage's, and those with its faults."""
    return [source(known).text, *(fault.source() for fault in _faults(known))]


def _mark(fault: Mutant) -> str:
    """Return what stands for a fault in the record: the same after a correction of its stage."""
    return hashlib.sha256(f"{fault.stage} {fault.name}".encode()).hexdigest()


def _marks(known: Lesson) -> list[str]:
    """List the marks of what has been on a stage's bench, the latest last."""
    lines = record().read_text(encoding="utf-8").splitlines() if record().exists() else []
    return [line.split()[-1] for line in lines if line.startswith(f"{known.slug} ")]


def _latest(known: Lesson, file: Path) -> Mutant:
    """Find the fault that is on the bench. Raises Mistake if there is none."""
    latest = _marks(known)[-1:]
    for fault in _faults(known):
        if file.is_file() and [_mark(fault)] == latest:
            return fault
    raise Mistake(
        f"nothing of {known.slug} is on the bench: python -m workbench hunt {known.short}"
    )
