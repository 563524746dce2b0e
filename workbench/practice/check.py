"""A stage's sentences, said of a student's own file: which hold, and what the first to fail says.

pytest runs them in a process of its own, and the file in another: what a student writes can end
neither the notebook nor the one that judges.
"""

from __future__ import annotations

import html
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from rich.text import Text

from workbench.client.render import MONOSPACE
from workbench.course import catalogue as lessons
from workbench.course import syntax
from workbench.course.catalogue import Lesson, Stage
from workbench.course.workspace import copied, furnish
from workbench.errors import Mistake
from workbench.files import STAGES, SUITE, shown
from workbench.practice import plugin as one_stage
from workbench.practice import progress
from workbench.practice.progress import Progress, Record
from workbench.practice.results import (
    SIGNS,
    UNENDED,
    Sentence,
    asked,
    entries,
    understood,
)

LIST = "columns:26em;list-style:none;padding:0;margin:.4em 0;font-size:90%;line-height:1.4"
PRE = f"{MONOSPACE};white-space:pre-wrap;overflow-wrap:anywhere;margin:.4em 0;line-height:1.35"

PLUGINS = ("no:cacheprovider", "pytest_timeout", "pytest_reportlog.plugin", one_stage.__name__)


class MissingFile(Mistake):
    """There is no such file to check."""


class BrokenSuite(RuntimeError):  # noqa: N818 - named for what happened
    """The sentences could not be said, which is no fault of the file; the text is pytest's own."""


@dataclass(frozen=True)
class Verdict:
    """What the sentences of a stage say of a file; true when all of them hold.

    At its end is how far the course has come, where that is known.
    """

    lesson: Lesson
    file: Path
    sentences: tuple[Sentence, ...]
    progress: Progress | None = None

    def __bool__(self) -> bool:
        return all(known.state in ("yes", "skipped") for known in self.sentences)

    @property
    def reached(self) -> list[Sentence]:
        """The sentences up to the first that does not hold; the summary counts the others."""
        return [known for known in self.sentences if known.state != "not reached"]

    @property
    def broken(self) -> Sentence | None:
        """The first sentence that does not hold."""
        return next((known for known in self.sentences if known.state == "no"), None)

    @property
    def summary(self) -> str:
        """How many hold, of how many, and of which file."""
        states = Counter(known.state for known in self.sentences)
        others = [
            f"{states[state]} {state}" for state in ("not reached", "skipped") if states[state]
        ]
        count = f"{states['yes']} of {len(self.sentences)} hold"
        return f"{self.lesson.slug}: {', '.join([count, *others])} ({shown(self.file)})"

    @property
    def failure(self) -> str:
        """What the first broken sentence says, in full; empty when all hold."""
        return self.broken.reason if self.broken else ""

    def __str__(self) -> str:
        return self.__rich__().plain

    __repr__ = __str__

    def __rich__(self) -> Text:
        lines = [Text(str(known), SIGNS[known.state].style) for known in self.reached]
        lines += [Text(""), Text(self.summary, "bold")]
        lines += [Text(""), Text(self.failure)] if self.failure else []
        lines += [Text(""), self.progress.__rich__()] if self.progress else []
        return Text("\n").join(lines)

    def _repr_html_(self) -> str:
        items = "".join(map(_item, self.reached))
        failure = f'<pre style="{PRE}">{html.escape(self.failure)}</pre>' if self.failure else ""
        heading = f"<summary><b>{html.escape(self.summary)}</b></summary>"
        return (
            f"<details{'' if self else ' open'}>{heading}"
            f'<ul style="{LIST}">{items}</ul></details>{failure}'
            f"{self.progress._repr_html_() if self.progress else ''}"
        )


def _item(known: Sentence) -> str:
    """Write a sentence as an item of a list in HTML: only its mark and state are in colour."""
    style = f"{SIGNS[known.state].css};white-space:nowrap"
    mark = f'<span style="{style}">{SIGNS[known.state].mark} {known.state}</span>'
    return f"<li>{mark} {html.escape(known.said)}</li>"


def check(
    stage: Stage,
    file: str | Path | None = None,
    *,
    heard: Callable[[Sentence], object] | None = None,
    meanwhile: Callable[[], object] | None = None,
) -> Verdict:
    """Say a stage's sentences of a file: your own copy by default, or the stage if you have none.

    Those about what the file has changed come first, and the first that fails is the last that is
    said (see `one_stage`). `heard` is called with each result as soon as it is there, `meanwhile`
    again and again: what one of them raises ends the check. What came of it is kept as progress, if
    it counts: your copy does, and a file that you name, but no hunt's (see `progress.record`).
    Raises UnknownStage, MissingFile, or BrokenSuite when the sentences could not be said at all.
    """
    known = lessons.lesson(stage)
    judged = meant(known, file)
    found: dict[str, Sentence] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        folder = judged.parent if _in_place(judged, known) else _copy(judged, known, Path(scratch))
        for name, sentence in _said(known, folder, Path(scratch), meanwhile):
            found[name] = sentence
            if heard and sentence.reason != UNENDED:
                heard(sentence)
    return _recorded(Verdict(known, judged, tuple(found.values())))


def _recorded(verdict: Verdict) -> Verdict:
    """Keep as progress what a verdict says, and show at its end how far the course has come."""
    states = [known.state for known in verdict.sentences]
    broken = verdict.broken.text if verdict.broken else ""
    found = Record(states.count("yes"), len(states), bool(verdict), broken)
    return replace(verdict, progress=progress.record(verdict.lesson, verdict.file, found))


def meant(known: Lesson, file: str | Path | None) -> Path:
    """Find the file that is meant: your copy, or the stage if you have none. Raises MissingFile."""
    own = copied(known)
    judged = Path(file).absolute() if file else own if own.exists() else known.path
    if not judged.is_file():
        raise MissingFile(f"there is no file {file} to check")
    return judged


def _in_place(file: Path, known: Lesson) -> bool:
    """Tell whether a file stands as a stage does: by its own name, with pages to serve."""
    parts = (file.parent.name, file.name)
    return parts == (STAGES.name, known.path.name) and pages(file).is_dir()


def pages(file: Path) -> Path:
    """Return where a stage looks for its pages."""
    return file.parent.parent / "static"


def _copy(file: Path, known: Lesson, folder: Path) -> Path:
    """Copy a file to where a stage would stand, with its own pages, or the course's."""
    copy = folder / STAGES.name / known.path.name
    if pages(file).is_dir():
        shutil.copytree(pages(file), pages(copy))
    furnish(copy.parent)
    shutil.copyfile(file, copy)
    return copy.parent


def _said(
    known: Lesson, folder: Path, scratch: Path, meanwhile: Callable[[], object] | None
) -> Iterator[tuple[str, Sentence]]:
    """Have the sentences said of a folder's file; yield each one's name and what came of it."""
    report, words = scratch / "report.json", scratch / "words.txt"
    report.touch()
    status, pending = None, False
    with words.open("wb") as output, asked(_command(known, folder, report), output) as process:
        for entry in entries(report, process, meanwhile):
            status = entry.get("exitstatus", status)  # comes when the whole session has ended
            for name, sentence in understood(entry):
                yield name, sentence
                pending = sentence.reason == UNENDED
    if status not in (0, 1) and not pending:
        raise BrokenSuite(words.read_text(encoding="utf-8", errors="replace"))


def _command(known: Lesson, folder: Path, report: Path) -> list[str]:
    """Write the command line for pytest: the plug-ins that we need, and no options of others."""
    options = [f"--stage={known.slug}", f"--touched={','.join(_touched(known, folder))}"]
    options += [f"--stages={folder}", f"--report-log={report}", "--override-ini=addopts="]
    options += [f"-p{plugin}" for plugin in PLUGINS]
    return [sys.executable, "-m", "pytest", *options, str(SUITE)]


def _touched(known: Lesson, folder: Path) -> tuple[str, ...]:
    """Name what a file has changed in its stage; nothing if it is no Python, and will not start."""
    files = known.path, folder / known.path.name
    try:
        before, after = (file.read_text(encoding="utf-8") for file in files)
        return syntax.touched(before, after) + syntax.removed(before, after)
    except (ValueError, SyntaxError):
        return ()
