"""What all pictures have in common: how they look, how they are shown and how they are saved."""

from __future__ import annotations

import io
import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import Mistake

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOOK: Any = {
    "font.size": 14,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#bbbbbb",
    "grid.linewidth": 0.8,
    "hatch.linewidth": 0.8,
    "text.parse_math": False,  # a path may hold dollar signs
    "svg.hashsalt": "workbench",  # the same figures give the same file
}
FITTING = "max-width:66em"  # as wide as the page, and no wider than can be read at a glance


def look() -> AbstractContextManager[None]:
    """Draw in the workbench's own look; matplotlib is loaded only when something is drawn."""
    import matplotlib as mpl

    return mpl.rc_context(LOOK)


def stacked(width: float, height: float, rows: Sequence[float]) -> tuple[Figure, list[Axes]]:
    """Return a figure (inches) and its axes on one scale, above each other, each as its rows."""
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained")
    grid = figure.subplots(len(rows), sharex=True, squeeze=False, height_ratios=rows)
    return figure, list(grid[:, 0])


def lanes(axes: Axes) -> None:
    """Let bars lie on a grid, and leave nothing of the upright axis but the names at it."""
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)


class Picture(ABC):
    """Something that draws itself, without pyplot's global state."""

    @property
    @abstractmethod
    def figure(self) -> Figure:
        """A new picture."""

    def save(self, path: str | Path) -> None:
        """Write the picture to a file, in the format of its suffix: .svg, .png or .pdf.

        The same figures give the same SVG. Raises Mistake for another suffix.
        """
        path = Path(path)
        match path.suffix.lower():
            case ".svg":
                path.write_text(self._svg(), encoding="utf-8", newline="\n")
            case ".png" | ".pdf":
                with look():
                    self.figure.savefig(path, dpi=150)
            case suffix:
                raise Mistake(f"needed a file .svg, .png or .pdf, got {suffix or path.name!r}")

    def _repr_svg_(self) -> str:
        """Show the picture in a notebook, which scales it to the width of the page."""
        fixed = r'(<svg [^>]*?)width="\S+" height="\S+"'
        return re.sub(fixed, rf'\1style="{FITTING}"', self._svg(), count=1)

    def _svg(self) -> str:
        text = io.StringIO()
        with look():
            self.figure.savefig(text, format="svg", metadata={"Date": None})
        return text.getvalue()
