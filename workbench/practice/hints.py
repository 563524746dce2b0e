"""Three hints on each sentence, from a nudge to nearly the answer: one whenever you ask."""

from __future__ import annotations

import functools
import html
import re
import tomllib
from dataclasses import dataclass, replace

from rich.text import Text

from workbench.course.catalogue import Stage, lesson
from workbench.errors import Mistake
from workbench.files import SUITE
from workbench.practice import progress

HINTS = SUITE / "hints.toml"


@dataclass(frozen=True)
class Hint:
    """What is given at once on a sentence: the next of its hints, or all when all were given."""

    sentence: str
    heading: str
    hints: tuple[str, ...]

    def __str__(self) -> str:
        return self.__rich__().plain

    __repr__ = __str__

    def __rich__(self) -> Text:
        heading = Text(f"{self.heading}: {self.sentence}", "bold")
        return Text("\n").join([heading, *map(Text, self.hints)])

    def _repr_html_(self) -> str:
        hints = "".join(f"<p>{as_html(hint)}</p>" for hint in self.hints)
        return f"<b>{html.escape(f'{self.heading}: {self.sentence}')}</b>{hints}"


def as_html(hint: str) -> str:
    """Write a hint in HTML, and what is in backticks as code."""
    return re.sub("`(.+?)`", r"<code>\1</code>", html.escape(hint))


def hint(stage: Stage) -> Hint:
    """Give the next hint on the first sentence that the last check of a stage found broken.

    After the third it gives all three again. Another sentence that breaks has hints of its own, and
    so has one that breaks again. Raises UnknownStage, or Mistake when there is nothing to hint at.
    """
    known = lesson(stage)
    seen = progress.read()
    record, ask = seen.of(known), f"python -m workbench check {known.short}"
    if known.slug not in seen.records:
        raise Mistake(f"{seen.note}; " * bool(seen.note) + f"needed a check first: {ask}")
    if not record.broken:
        raise Mistake(f"all of {known.slug} held when it was last checked; to see again: {ask}")
    if not (texts := hints().get(_test(record.broken), ())):
        raise Mistake(f"nobody has written a hint on this sentence: {record.broken}")
    given = record.hinted
    if given >= len(texts):
        return Hint(record.broken, f"all {len(texts)} hints were given", texts)
    seen.kept(known, replace(record, hinted=given + 1))
    return Hint(record.broken, f"hint {given + 1} of {len(texts)}", texts[given : given + 1])


@functools.cache
def hints() -> dict[str, tuple[str, ...]]:
    """Return the three hints on every sentence, by the name of its test."""
    found = tomllib.loads(HINTS.read_text(encoding="utf-8"))
    return {name: tuple(texts) for name, texts in found.items()}


def _test(sentence: str) -> str:
    """Name the test that says a sentence; what it is said with is in brackets."""
    return "test_" + sentence.partition(" (")[0].replace(" ", "_")
