"""The course's own answer beside yours, once yours has kept every promise."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text

from workbench.course.catalogue import Stage, lesson
from workbench.course.source import Diff, Source, source
from workbench.errors import Mistake
from workbench.files import STAGES, shown
from workbench.practice import progress
from workbench.practice.check import meant


def solution(
    stage: Stage, file: str | Path | None = None, *, course: str | Path | None = None
) -> Diff | Text:
    """Compare your copy of a stage, or a file, with the course's own text; say if it is the same.

    A starter holds no solution: `course` is the folder of a repository that does. Raises
    UnknownStage, MissingFile, or Mistake as long as the stage has not passed a check.
    """
    known = lesson(stage)
    if not progress.read().of(known).passed:
        ask = f"python -m workbench check {known.short}"
        raise Mistake(f"needed all sentences of {known.short} to hold first: {ask}")
    answer = lesson(known.slug, Path(course).absolute() / STAGES.name) if course else known
    if not progress.given(answer):
        raise Mistake(
            f"{answer.path} is to be written, and no solution: that is in the course's repository. "
            f"Where you have one: python -m workbench solution {known.short} --course FOLDER"
        )
    own = meant(known, file)
    found = Diff(Source(shown(own), source(own).text), source(answer))
    return found if found.unified else Text(f"{shown(own)} is the course's own text.")
