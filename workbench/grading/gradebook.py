"""A class at a glance: a table for a spreadsheet, and a page with what the class fails most."""

from __future__ import annotations

import base64
import csv
import io
import textwrap
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from workbench.course.catalogue import lesson
from workbench.files import write
from workbench.grading.reports import pages
from workbench.grading.result import Check, Grade, StageGrade
from workbench.grading.sanitize import harmless, line
from workbench.grading.wording import mark, note, remarks
from workbench.measure.picture import Picture, lanes, look, stacked

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = "gradebook.html.j2"
CSV, HTML = "grades.csv", "index.html"
SHOWN = 20  # sentences in the picture
WIDTH, LANE, MARGIN = 11.0, 0.42, 1.2  # inches
WRAP = 58  # characters of a line beside a bar
FORMULAS = "=+-@\t\r"  # what makes a spreadsheet calculate
BROKEN: dict[str, Any] = {"facecolor": "#0b4f8a", "edgecolor": "#0b4f8a"}
UNSAID: dict[str, Any] = {"facecolor": "#ffffff", "edgecolor": "#333333", "hatch": "//"}


@dataclass(frozen=True)
class Failure:
    """A sentence of a stage, in how many forks it is broken, and in how many it was not said."""

    stage: str
    sentence: str
    broken: int
    unsaid: int

    @property
    def label(self) -> str:
        """The sentence below its stage, in lines that fit."""
        return textwrap.fill(f"{self.stage}  {self.sentence}", WRAP)


@dataclass(frozen=True)
class Overview(Picture):
    """The grades of a class, each with the folder that its reports are in."""

    grades: tuple[tuple[str, Grade], ...]

    @cached_property
    def marked(self) -> list[Grade]:
        """Those with a mark."""
        return [grade for _, grade in self.grades if grade.points is not None]

    @cached_property
    def failures(self) -> list[Failure]:
        """What does not hold in some fork with a mark, first what is broken in most."""
        counts = Counter(
            (stage.slug, check.sentence, kind)
            for grade in self.marked
            for stage in grade.stages
            for check in stage.checks
            if (kind := _kind(check))
        )
        names = dict.fromkeys((slug, sentence) for slug, sentence, _ in counts)
        found = [
            Failure(lesson(slug).short, text, *(counts[slug, text, kind] for kind in KINDS))
            for slug, text in names
        ]
        return sorted(found, key=lambda one: (-one.broken, -one.unsaid, one.stage))

    @property
    def figure(self) -> Figure:
        """A new picture: a bar for each of the sentences that the class fails most."""
        from matplotlib.patches import Patch
        from matplotlib.ticker import MaxNLocator

        shown = self.failures[:SHOWN]
        rows, broken = range(len(shown)), [one.broken for one in shown]
        with look():
            figure, (axes,) = stacked(WIDTH, LANE * max(len(shown), 1) + MARGIN, [1])
            axes.barh(rows, broken, 0.7, **BROKEN)
            axes.barh(rows, [one.unsaid for one in shown], 0.7, broken, **UNSAID)
            axes.set_yticks(rows, [one.label for one in shown], fontsize=11)
            axes.set(ylim=(max(len(shown), 1) - 0.4, -0.6), xlim=(0, max(len(self.marked), 1)))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_xlabel(f"forks, of {len(self.marked)} with a mark")
            lanes(axes)
            keys = [Patch(label="does not hold", **BROKEN), Patch(label="was not said", **UNSAID)]
            figure.legend(handles=keys, loc="outside lower right", ncols=2, frameon=False)
        return figure

    @property
    def stages(self) -> tuple[StageGrade, ...]:
        """The stages that were graded."""
        return self.grades[0][1].stages if self.grades else ()

    def table(self) -> Iterator[list[object]]:
        """Yield the lines of the table: the points of each fork and stage; no mark is empty."""
        shorts = [stage.lesson.short for stage in self.stages]
        yield ["name", "revision", "points", "of", *shorts, "state", "notes"]
        for _, grade in self.grades:
            points = [stage.points for stage in grade.stages]
            words = "; ".join(notes(grade))
            yield [grade.fork, grade.revision, grade.points, grade.of, *points, state(grade), words]

    def csv(self) -> bytes:
        """Write the table as a spreadsheet reads it; no text in it is a formula."""
        text = io.StringIO()
        csv.writer(text).writerows([[_cell(value) for value in row] for row in self.table()])
        return text.getvalue().encode("utf-8-sig")

    def html(self) -> str:
        """Write one page, which needs no other file but those of the forks, and runs nothing."""
        words = {function.__name__: function for function in (mark, notes, state, quote)}
        picture = base64.b64encode(self._svg().encode()).decode() if self.failures else ""
        page = pages().get_template(PAGE)
        return page.render(overview=self, picture=picture, shown=SHOWN, **words)


KINDS = ("broken", "unsaid")


def _kind(check: Check) -> str:
    """Say how a sentence does not hold; nothing if it does, or cannot be said here."""
    unsaid = {"not reached": "unsaid", "not reported": "unsaid", "broken": "broken"}
    return unsaid.get(check.outcome, "")


def state(grade: Grade) -> str:
    """Say whether there is a mark."""
    return "error" if grade.points is None else "graded"


def notes(grade: Grade) -> list[str]:
    """List in a line each what there is to know of a fork besides its points."""
    found = [f"{stage.lesson.short}: {line(note(stage))}" for stage in grade.stages if stage.note]
    return [": ".join(remark) for remark in remarks(grade)] + found


def _cell(value: object) -> object:
    """Put a sign before a text that a spreadsheet would take for a formula."""
    if not isinstance(value, str):
        return value
    text = line(value)
    plain = unicodedata.normalize("NFKC", value).lstrip(" \n")
    return f"'{text}" if plain.startswith(tuple(FORMULAS)) else text


def overview(grades: Sequence[tuple[str, Grade]], to: Path) -> Overview:
    """Write the table and the page of a class into a folder."""
    found = Overview(tuple((place, harmless(grade)) for place, grade in grades))
    to.mkdir(parents=True, exist_ok=True)
    write(to / CSV, found.csv())
    write(to / HTML, found.html().encode())
    return found
