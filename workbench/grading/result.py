"""What a grade is: a fork's stages, the checks of each, and the marks that follow from them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from workbench.course.catalogue import Lesson, lesson
from workbench.errors import Mistake
from workbench.grading import manifest
from workbench.grading.manifest import Marks

SCHEMA = "web-server-from-a-raw-socket/grade/v1"
RESULT = "grade.json"

State = Literal["waiting", "graded", "missing", "error"]
Outcome = Literal["holds", "broken", "not reached", "not reported", "skipped"]


@dataclass(frozen=True)
class Check(manifest.Check):
    """A sentence of the manifest, what came of it, and the reason where it does not hold."""

    outcome: Outcome = "not reported"
    reason: str = ""


@dataclass(frozen=True)
class StageGrade:
    """What a stage has earned, and by what."""

    slug: str
    of: int
    checks: tuple[Check, ...]
    state: State = "waiting"
    note: str = ""
    seconds: float = 0.0

    @property
    def lesson(self) -> Lesson:
        """The stage."""
        return lesson(self.slug)

    @property
    def said(self) -> list[Check]:
        """The sentences that could be said on this machine."""
        return [check for check in self.checks if check.outcome != "skipped"]

    @property
    def points(self) -> int | None:
        """The mark, a whole number; None if the grader could not find it out, or has not yet.

        All points are given only when all sentences hold that could be said on this machine, and
        none where the first, that it listens, does not.
        """
        if self.state in ("waiting", "error"):
            return None
        said = self.said
        held = sum(check.weight for check in said if check.outcome == "holds")
        full = sum(check.weight for check in said)
        if self.state == "missing" or not said or said[0].outcome != "holds":
            return 0
        return self.of if held == full else min(self.of - 1, self.of * held // full)

    @property
    def counts(self) -> tuple[int, int]:
        """How many sentences hold, of how many that were to be said."""
        return sum(check.outcome == "holds" for check in self.said), len(self.said)


@dataclass(frozen=True)
class Grade:
    """All that a grader found out about a fork."""

    fork: str
    revision: str
    suite: str
    seed: int
    layers: tuple[dict[str, Any], ...]
    stages: tuple[StageGrade, ...]
    notes: tuple[str, ...] = ()
    error: str = ""
    started: str = field(default_factory=lambda: now())
    finished: str = ""

    @property
    def points(self) -> int | None:
        """The mark; None if that of any stage is not known."""
        marks = [stage.points for stage in self.stages]
        return None if self.error or None in marks else sum(mark or 0 for mark in marks)

    @property
    def of(self) -> int:
        """The points that there are."""
        return sum(stage.of for stage in self.stages)

    def asdict(self) -> dict[str, Any]:
        """Return what stands in the result file: all of it, and the marks that follow from it."""
        stages = [
            vars(stage) | {"checks": list(map(vars, stage.checks)), "points": stage.points}
            for stage in self.stages
        ]
        found = {"schema": SCHEMA} | vars(self) | {"stages": stages}
        return found | {"points": self.points, "of": self.of}

    @classmethod
    def read(cls, file: Path) -> Grade:
        """Read a result file. Raises Mistake for one that cannot be understood."""
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            if found.pop("schema") != SCHEMA:
                raise ValueError("of another kind")
            found = {name: found[name] for name in cls.__dataclass_fields__}
            stages = tuple(_stage(entry) for entry in found.pop("stages"))
            return cls(**found | {"stages": stages, "layers": tuple(found["layers"])})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Mistake(f"cannot go on from {file}, {error}: grade without --resume") from error


def _stage(entry: dict[str, Any]) -> StageGrade:
    """Read what a result file says of a stage."""
    entry = {name: entry[name] for name in StageGrade.__dataclass_fields__}
    return StageGrade(**entry | {"checks": tuple(Check(**check) for check in entry["checks"])})


def now() -> str:
    """Return the time, as it stands in a result file."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def unsaid(marks: Marks) -> StageGrade:
    """Return a stage of which nothing is known yet."""
    return StageGrade(
        marks.slug, marks.points, tuple(Check(**vars(check)) for check in marks.checks)
    )
