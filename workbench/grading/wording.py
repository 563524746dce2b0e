"""What is said of a grade in whatever form, with all that may be a fork's made harmless."""

import re
from dataclasses import dataclass

from workbench.grading.result import Check, Grade, Outcome, StageGrade
from workbench.grading.sanitize import line
from workbench.practice.hints import hints

NOTES = 20  # remarks that are shown; a fork can cause hundreds
TITLE = 12  # columns of a title in a reason, see `tests/suite/report.py`
SAID_ABOVE = ("Sentence", "Stage", "Hint")  # parts of a reason that have a place of their own
GROUPS: dict[Outcome, str] = {
    "broken": "Does not hold",
    "not reached": "Not reached, since it does not listen",
    "not reported": "Not said to the end",
    "skipped": "Cannot be said on this machine, and does not count",
    "holds": "Holds",
}

Remark = tuple[str, str]


@dataclass(frozen=True)
class Told:
    """A sentence that does not hold: what was wrong in a line, all that was seen, and a hint."""

    wrong: str
    seen: str
    hint: str

    def __str__(self) -> str:
        return f"{self.seen}\n{'Hint':{TITLE}}{self.hint}" if self.hint else self.seen


def told(check: Check) -> Told:
    """Take the reason of a check apart; the hint is the reason's, or else the sentence's first."""
    parts = _parts(check.reason)
    first = hints().get(check.id.partition("::")[2].partition("[")[0], ("",))[0]
    seen = [f"{title:{TITLE}}{text}" for title, text in parts.items() if title not in SAID_ABOVE]
    wrong = parts.get("Wrong") or check.reason.partition("\n")[0] or "it does not say why"
    return Told(line(wrong), "\n".join(seen) or check.reason or wrong, parts.get("Hint", first))


def _parts(reason: str) -> dict[str, str]:
    """Split a reason by its titles if the suite has written it: a fork's words are indented."""
    if not reason.startswith(f"{'Sentence':{TITLE}}"):
        return {}
    parts = re.split(r"\n(?=\S)", reason)
    return {part[:TITLE].rstrip(): part[TITLE:] for part in parts}


def mark(graded: Grade | StageGrade) -> str:
    """Say the points of a fork or a stage, or that there is no mark."""
    return "no mark" if graded.points is None else f"{graded.points} of {graded.of} points"


def heading(stage: StageGrade) -> str:
    """Name a stage by number and title."""
    return f"{stage.lesson.short} {stage.lesson.title}"


def note(stage: StageGrade) -> str:
    """Say what there is to know of a stage besides its sentences."""
    unsaid = "it has not been graded to the end: grade with --resume to go on"
    return stage.note or (unsaid if stage.state == "waiting" else "")


def groups(stage: StageGrade) -> dict[Outcome, list[Check]]:
    """Sort a stage's sentences by what came of them."""
    found = {kind: [check for check in stage.checks if check.outcome == kind] for kind in GROUPS}
    return {kind: checks for kind, checks in found.items() if checks}


def remarks(grade: Grade) -> list[Remark]:
    """List what a reader is to be warned of: a word of ours, and what may be the fork's."""
    missing = [layer for layer in grade.layers if not layer["on"]]
    found = [("No mark", grade.error)] if grade.error else []
    found += [("A wall is missing", f"{wall['name']}: {wall['detail']}") for wall in missing]
    found += [("Note", text) for text in grade.notes]
    left = len(found) - NOTES
    shown = [(title, line(text)) for title, text in found[:NOTES]]
    return shown + [("Notes left out", f"{left}")] * (left > 0)
