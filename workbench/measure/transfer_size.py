"""What visits weigh: the bytes that went out and came back, heads and bodies told apart.

`weight({"first visit": exchange, "again": another})` draws two bars for each Exchange.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.client.client import Exchange
from workbench.client.responses import messages
from workbench.errors import Mistake
from workbench.measure.picture import Picture, look

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BAR, MARGIN = 0.44, 1.4  # inches: a bar with the space around it, and what is above and below all
STYLES: dict[str, dict[str, Any]] = {  # told apart without colour too
    "heads": {"facecolor": "#0b4f8a", "edgecolor": "#0b4f8a"},
    "bodies": {"facecolor": "#f4c95d", "edgecolor": "#333333", "hatch": "//"},
}


@dataclass(frozen=True)
class Weight:
    """The bytes of a visit in one direction; how chunks are wrapped up counts as heads."""

    title: str
    direction: str
    heads: int
    bodies: int

    @property
    def name(self) -> str:
        """The visit and the direction."""
        return f"{self.title}, {self.direction}"

    @property
    def total(self) -> int:
        """All of them."""
        return self.heads + self.bodies


@dataclass(frozen=True)
class Weights(Picture):
    """What visits weigh, as a picture and in figures."""

    parts: tuple[Weight, ...]

    @property
    def figure(self) -> Figure:
        """A new picture: a bar for each direction of a visit, all on one scale."""
        from matplotlib.figure import Figure

        rows, most = range(len(self.parts)), max(part.total for part in self.parts)
        with look():
            figure = Figure((11, MARGIN + BAR * len(rows)), layout="constrained")
            axes = figure.subplots()
            ends = [0] * len(rows)
            for kind, style in STYLES.items():
                sizes = [getattr(part, kind) for part in self.parts]
                axes.barh(rows, sizes, 0.7, ends, label=kind, **style)
                ends = [end + size for end, size in zip(ends, sizes, strict=True)]
            for row, part in enumerate(self.parts):
                figures = f"{part.heads:,} + {part.bodies:,}" if part.bodies else f"{part.heads:,}"
                place: dict[str, Any] = {"textcoords": "offset points", "va": "center"}
                axes.annotate(figures, (part.total, row), (6, 0), **place)
                if row and part.title != self.parts[row - 1].title:
                    axes.axhline(row - 0.5, color="#bbbbbb", linewidth=0.8)
            axes.set_yticks(rows, [part.name for part in self.parts])
            axes.set(xlabel="bytes", xlim=(0, max(most, 1) * 1.3), ylim=(len(rows) - 0.5, -0.5))
            axes.locator_params(axis="x", nbins=5)
            axes.xaxis.set_major_formatter("{x:,.0f}")
            axes.tick_params(axis="y", length=0)
            figure.legend(loc="outside upper left", ncols=2, frameon=False)
        return figure

    def __str__(self) -> str:
        """Show the figures in a terminal."""
        width = max(len(part.name) for part in self.parts)
        lines = [f"{'bytes':{width}}{'heads':>10}{'bodies':>10}{'all':>10}"]
        for part in self.parts:
            lines.append(f"{part.name:{width}}{part.heads:10,}{part.bodies:10,}{part.total:10,}")
        return "\n".join(lines)


def weight(visits: Mapping[str, Exchange]) -> Weights:
    """Weigh what was sent and what was received in each visit, which goes by the name given.

    Raises Mistake for no visit.
    """
    if not visits:
        raise Mistake("needed a visit to weigh")
    weights = (part for title, exchange in visits.items() for part in _weighed(title, exchange))
    return Weights(tuple(weights))


def _weighed(title: str, exchange: Exchange) -> Iterator[Weight]:
    """Weigh both directions; only the answers know that there is no body behind a HEAD."""
    asked = sum(len(body) for _, body in messages(exchange.sent))
    came = sum(len(answer.body) for answer in exchange.answers)
    yield Weight(title, "sent", len(exchange.sent) - asked, asked)
    yield Weight(title, "received", len(exchange.received) - came, came)
