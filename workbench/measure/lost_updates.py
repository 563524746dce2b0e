"""Who built on whose work: every try to change something, from the version known to the one made.

`versions({"without tags": tries})` draws for each writer a bar from the one to the other. A try is
a name, the answer in which he saw the thing, and the answer to his change; both tell by their ETag.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.client.responses import Answer
from workbench.errors import Mistake
from workbench.measure.picture import Picture, lanes, look, stacked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LANE, TOP, MARGIN = 0.36, 0.55, 1.1  # inches: a writer, what is above a part, and around all
STUB = 0.45  # of a version: how far a refused try gets
STYLES: dict[str, dict[str, Any]] = {  # told apart without colour too
    "built on the version before": {"facecolor": "#0b4f8a", "edgecolor": "#0b4f8a"},
    "wrote over others' versions": {
        "facecolor": "#f4c95d",
        "edgecolor": "#333333",
        "hatch": "//",
    },
    "refused": {"facecolor": "#ffffff", "edgecolor": "#a3180f", "hatch": "xxx"},
}


@dataclass(frozen=True)
class Try:
    """A try to change something: who knew which version, and which one he made; None if refused."""

    name: str
    known: int
    made: int | None

    @property
    def kind(self) -> str:
        """What became of it, a key of STYLES."""
        built, wrote_over, refused = STYLES
        if self.made is None:
            return refused
        return built if self.made == self.known + 1 else wrote_over

    def __str__(self) -> str:
        return f"{self.known} refused" if self.made is None else f"{self.known} → {self.made}"


@dataclass(frozen=True)
class Race:
    """All the tries to change one thing."""

    title: str
    tries: tuple[Try, ...]

    @property
    def writers(self) -> dict[str, list[Try]]:
        """Each writer's tries, the writers in the order of their first ones."""
        return {
            name: [one for one in self.tries if one.name == name]
            for name in dict.fromkeys(one.name for one in self.tries)
        }

    @property
    def kept(self) -> set[str]:
        """Those whose work is in the last version: who made it, who made what he knew, and so on.

        It is taken for granted that a change keeps what its writer has seen.
        """
        by = {one.made: one for one in self.tries if one.made is not None}
        at, kept = max(by, default=0), set[str]()
        while one := by.pop(at, None):
            kept.add(one.name)
            at = one.known
        return kept

    def outcome(self, name: str) -> str:
        """Say whether a writer's work is in the last version."""
        return "kept" if name in self.kept else "lost"


@dataclass(frozen=True)
class Versions(Picture):
    """Several races above each other, as a picture and in figures."""

    parts: tuple[Race, ...]

    @property
    def figure(self) -> Figure:
        """A new picture, each writer a lane."""
        from matplotlib.patches import Patch

        rows = [len(part.writers) for part in self.parts]
        known = [v for part in self.parts for one in part.tries for v in (one.known, one.made) if v]
        with look():
            figure, column = stacked(11, LANE * sum(rows) + TOP * len(rows) + MARGIN, rows)
            for axes, part in zip(column, self.parts, strict=True):
                _draw(axes, part)
            column[-1].set(xlabel="version", xlim=(min(known) - 0.05, max(known) + 0.6))
            column[-1].set_xticks(range(min(known), max(known) + 1))
            keys = [Patch(label=kind, **style) for kind, style in STYLES.items()]
            figure.legend(handles=keys, loc="outside lower right", ncols=len(keys), frameon=False)
        return figure

    def __str__(self) -> str:
        """Show the figures in a terminal."""
        return "\n\n".join(map(_written, self.parts))


def versions(races: Mapping[str, Iterable[tuple[str, Answer, Answer]]]) -> Versions:
    """Set races beside each other, each under the name given.

    Raises Mistake for a race without a try, or a try of somebody who has seen no version.
    """
    if not (parts := tuple(Race(title, tuple(map(_try, race))) for title, race in races.items())):
        raise Mistake("needed a race to draw")
    for part in parts:
        if not part.tries:
            raise Mistake(f"needed a try to change something in {part.title!r}")
    return Versions(parts)


def _try(one: tuple[str, Answer, Answer]) -> Try:
    """Read a try from its two answers."""
    name, seen, came = one
    if (known := _version(seen)) is None:
        raise Mistake(f'needed an answer with an ETag such as "1", got {seen.status} for {name}')
    return Try(name, known, _version(came))


def _version(answer: Answer) -> int | None:
    """Read the version from an answer's tag."""
    tag = (answer.header("ETag") or "").strip('"')
    return int(tag) if tag.isdecimal() else None


def _draw(axes: Axes, part: Race) -> None:
    """Draw the lanes of a race, the first writer on top, and say at each end what became of him."""
    for row, (name, tries) in enumerate(part.writers.items()):
        for one in tries:
            width = STUB if one.made is None else one.made - one.known
            axes.barh(row, width, 0.7, one.known, **STYLES[one.kind])
        last = max(one.made or one.known + STUB for one in tries)
        place: dict[str, Any] = {"textcoords": "offset points", "va": "center_baseline"}
        axes.annotate(part.outcome(name), (last, row), (7, 0), **place)
    axes.set_title(part.title, loc="left", fontweight="bold")
    axes.set_yticks(range(len(part.writers)), list(part.writers))
    axes.set_ylim(len(part.writers) - 0.4, -0.6)
    lanes(axes)


def _written(part: Race) -> str:
    """Write a race, a writer a line."""
    width = max(map(len, part.writers))
    lines = (
        f"{name:{width}}  {part.outcome(name)}  {', '.join(map(str, tries))}"
        for name, tries in part.writers.items()
    )
    return "\n".join([part.title, *lines])
