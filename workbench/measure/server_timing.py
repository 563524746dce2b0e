"""The layers around a handler, and how long each of them took: read from answers, and drawn.

`onion({"as it is": answer, "packed": another})` reads their Server-Timing: a figure in milliseconds
for each layer with all that is inside of it, the innermost first. How much of a layer's own time
went by before what is inside of it, and how much after, no header tells: it is drawn in halves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any
from urllib.request import parse_http_list

from workbench.client.responses import Answer
from workbench.errors import Mistake
from workbench.measure.picture import Picture, look, stacked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW, TOP, MARGIN = 0.42, 0.6, 0.6  # inches: a layer, what is above an onion, and below all
SKIN = 0.4  # of a row: a layer below what is inside of it
OTHERS = r'(?:;(?:[^;"]|"[^"]*")*)*?'  # what else a layer says of itself
ENTRY = re.compile(rf'([^;"\s]+)\s*{OTHERS};\s*dur="?([0-9]+(?:\.[0-9]+)?)"?\s*{OTHERS}')
STYLES: tuple[dict[str, Any], ...] = (  # of neighbours, told apart without colour too
    {"facecolor": "#f4c95d", "edgecolor": "#333333"},
    {"facecolor": "#ffffff", "edgecolor": "#0b4f8a", "hatch": "//"},
    {"facecolor": "#d9d9d9", "edgecolor": "#333333"},
    {"facecolor": "#ffffff", "edgecolor": "#333333", "hatch": ".."},
)
CORE: dict[str, Any] = {"facecolor": "#0b4f8a", "edgecolor": "#0b4f8a"}  # the innermost


@dataclass(frozen=True)
class Layer:
    """A layer: how many milliseconds it took itself, and with all that is inside of it."""

    name: str
    own: float
    whole: float


@dataclass(frozen=True)
class Onion:
    """The layers of an answer, from the outside to the inside."""

    title: str
    layers: tuple[Layer, ...]

    @property
    def total(self) -> float:
        """The milliseconds of all layers together."""
        return self.layers[0].whole

    @property
    def rows(self) -> float:
        """The height of the picture, in rows."""
        return len(self.layers) + SKIN * (len(self.layers) - 1)


@dataclass(frozen=True)
class Onions(Picture):
    """The layers of answers, as a picture and in figures."""

    parts: tuple[Onion, ...]

    @property
    def figure(self) -> Figure:
        """A new picture: the layers of each answer around each other, all on one scale."""
        rows, most = [part.rows for part in self.parts], max(part.total for part in self.parts)
        with look():
            figure, column = stacked(11, ROW * sum(rows) + TOP * len(rows) + MARGIN, rows)
            for axes, part in zip(column, self.parts, strict=True):
                _draw(axes, part)
            column[-1].set(xlabel="milliseconds", xlim=(0, max(most, 0.001) * 1.01))
        return figure

    def __str__(self) -> str:
        """Show the figures in a terminal."""
        return "\n\n".join(map(_written, self.parts))


def onion(answers: Mapping[str, Answer]) -> Onions:
    """Read the layers of each answer, which goes by the name given.

    Raises Mistake for no answer, or one without a Server-Timing in which each layer takes at least
    as long as the one before, which is inside of it.
    """
    if not answers:
        raise Mistake("needed an answer to draw")
    return Onions(tuple(_read(title, answer) for title, answer in answers.items()))


def _read(title: str, answer: Answer) -> Onion:
    """Read an answer's header, and take from each layer what is inside of it."""
    header = answer.header("Server-Timing")
    if header is None:
        raise Mistake(f"needed an answer with Server-Timing, and {title!r} has none")
    layers, inside = list[Layer](), 0.0
    for entry in parse_http_list(header):
        if not (found := ENTRY.fullmatch(entry)):
            raise Mistake(f"needed a Server-Timing such as 'handler;dur=0.5', got {entry[:80]!r}")
        name, whole = found[1], float(found[2])
        if whole < inside:
            raise Mistake(f"needed {name} to take {inside:g} ms or more, as what is inside does")
        layers.append(Layer(name, whole - inside, whole))
        inside = whole
    if not layers:
        raise Mistake(f"needed a layer in Server-Timing, and {title!r} has none")
    return Onion(title, tuple(reversed(layers)))


def _draw(axes: Axes, part: Onion) -> None:
    """Draw an onion, a box in a box, and write beside each layer how long it took."""
    from matplotlib.patches import Rectangle

    styles, rows = cycle(STYLES), range(len(part.layers))
    for row, layer in enumerate(part.layers):
        style = CORE if layer is part.layers[-1] else next(styles)
        corner, height = ((part.total - layer.whole) / 2, row), part.rows - row * (1 + SKIN)
        axes.add_patch(Rectangle(corner, layer.whole, height, linewidth=1.5, **style))
    axes.set_title(f"{part.title}: {part.total:.3f} ms", loc="left", fontweight="bold")
    axes.set_ylim(part.rows + 0.1, -0.1)
    right = axes.secondary_yaxis("right")
    right.set_yticks(
        [row + 0.5 for row in rows], [f"{one.own:.3f} ms itself" for one in part.layers]
    )
    axes.set_yticks([row + 0.5 for row in rows], [layer.name for layer in part.layers])
    for side in (axes, right):
        side.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    right.spines["right"].set_visible(False)


def _written(part: Onion) -> str:
    """Write an onion, a layer a line, the outermost first."""
    width = max(len(text) for text in (part.title, *(layer.name for layer in part.layers)))
    lines = [f"{part.title:{width}}{'ms itself':>12}{'with all inside':>18}"]
    for layer in part.layers:
        lines.append(f"{layer.name:{width}}{layer.own:12.3f}{layer.whole:18.3f}")
    return "\n".join(lines)
