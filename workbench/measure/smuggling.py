r"""The same bytes read by two programs that do not agree on where a request ends.

`readings(b"POST / HTTP/1.1\r\n…")` shows what a program sees that goes by Content-Length, and
beside it what one sees that goes by Transfer-Encoding; `.strips` draws it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from rich.text import Text

from workbench.client.render import Segment, both_ways, html_text, plain, rich_text, visible
from workbench.client.responses import LENGTH, Length, body_length, messages
from workbench.errors import Mistake
from workbench.measure.picture import Picture, look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEXT, STRIP, GAP = 4.9, 2.9, 0.1  # inches: the bytes, each strip beside them, and before a strip
ROW = 0.34  # inches for a line
WIDEST, MOST = 44, 40  # characters of a line that are drawn, and lines
STYLES: dict[tuple[str, int], tuple[dict[str, str], str]] = {  # of a part, and of its letters
    ("head", 1): ({"facecolor": "#0b4f8a", "edgecolor": "#0b4f8a"}, "white"),
    ("body", 1): ({"facecolor": "white", "edgecolor": "#0b4f8a", "hatch": "\\\\"}, "black"),
    ("head", 0): ({"facecolor": "#f4c95d", "edgecolor": "#333333"}, "black"),
    ("body", 0): ({"facecolor": "#f4c95d", "edgecolor": "#333333", "hatch": "//"}, "black"),
}
SIDE_BY_SIDE = "display:flex;flex-wrap:wrap;gap:0 3em;align-items:flex-start"


def announced(head: bytes, which: int = 0) -> int:
    """Return what the first Content-Length of a head says, or the one at that place; 0 for none."""
    lengths = LENGTH.findall(head)
    return int(lengths[which]) if lengths else 0


WAYS: dict[str, Length] = {  # what a program goes by to find the end of a body
    "Content-Length": lambda head, data, at: announced(head),
    "the last Content-Length": lambda head, data, at: announced(head, -1),
    "Transfer-Encoding": body_length,
}


@dataclass(frozen=True)
class Part:
    """A head or a body: which it is, of which request, and from which byte up to which."""

    request: int
    kind: str
    start: int
    end: int

    def __str__(self) -> str:
        return f"request {self.request}: {self.kind}, {self.end - self.start} bytes"


def parts(data: bytes, way: str) -> Iterator[Part]:
    """Yield the heads and the bodies that one reading sees; an empty body is none."""
    end = 0
    for number, message in enumerate(messages(data, WAYS[way]), 1):
        for kind, piece in zip(("head", "body"), message, strict=True):
            start, end = end, end + len(piece)
            if piece:
                yield Part(number, kind, start, end)


def parting(one: Sequence[Part], other: Sequence[Part]) -> int | None:
    """Find the byte from which on two readings disagree; None if they agree to the end."""
    for here, there in zip(one, other, strict=False):
        if (here.request, here.kind) != (there.request, there.kind):
            return here.start
        if here.end != there.end:
            return min(here.end, there.end)
    return None


@dataclass(frozen=True)
class Readings:
    """Bytes as two programs read them: side by side in a notebook, in turn in a terminal."""

    data: bytes
    ways: tuple[str, str]

    @property
    def strips(self) -> Strips:
        """The picture of it."""
        return Strips(self.data, self.ways)

    def _segments(self, way: str) -> list[Segment]:
        count = len(messages(self.data, WAYS[way]))
        seen = "1 request" if count == 1 else f"{count} requests"
        heading = "note", f"who goes by {way} sees {seen}:\n"
        return [heading, *both_ways(self.data, WAYS[way])]

    def __str__(self) -> str:
        return "\n".join(plain(self._segments(way)) for way in self.ways)

    def __rich__(self) -> Text:
        return Text("\n").join(rich_text(self._segments(way)) for way in self.ways)

    def _repr_html_(self) -> str:
        columns = "".join(html_text(self._segments(way)) for way in self.ways)
        return f'<div style="{SIDE_BY_SIDE}">{columns}</div>'


def readings(
    data: bytes, one: str = "Content-Length", other: str = "Transfer-Encoding"
) -> Readings:
    """Read the bytes of a visitor in two of the WAYS. Raises Mistake for one that is not there."""
    for way in (one, other):
        if way not in WAYS:
            raise Mistake(f"needed a way to read, such as {', '.join(WAYS)}; got {way}")
    return Readings(data, (one, other))


@dataclass(frozen=True)
class Strips(Picture):
    """The bytes line by line, beside them a strip for each reading, and a line where they part."""

    data: bytes
    ways: tuple[str, str]

    @property
    def figure(self) -> Figure:
        """A new picture. Raises Mistake for more lines than can be shown."""
        from matplotlib.figure import Figure

        read = [list(parts(self.data, way)) for way in self.ways]
        lines = _lines(self.data, read)
        if len(lines) > MOST:
            raise Mistake(f"needed no more than {MOST} lines to draw, got {len(lines)}")
        rows = {start: row for row, (start, _) in enumerate(lines)} | {len(self.data): len(lines)}
        width = TEXT + 2 * (GAP + STRIP) + GAP
        with look():
            figure = Figure((width, ROW * (len(lines) + 1.5)))
            axes = figure.add_axes((0, 0, 1, 1))
            axes.set(xlim=(0, width), ylim=(len(lines) + 0.3, -1.2))
            axes.set_axis_off()
            for row, (start, end) in enumerate(lines):
                _write(axes, row, visible(self.data[start:end]))
            for number, way in enumerate(self.ways):
                left = TEXT + GAP + number * (STRIP + GAP)
                axes.text(left, -0.35, f"by {way}", fontweight="bold")
                for part in read[number]:
                    _block(axes, left, rows[part.start], rows[part.end], part)
            if (at := parting(*read)) is not None:
                axes.axhline(rows[at], color="black", linestyle="--", linewidth=3)
        return figure


def _lines(data: bytes, read: Sequence[Sequence[Part]]) -> list[tuple[int, int]]:
    """Cut the bytes behind each LF, and where a part of any reading begins."""
    cuts = {0, len(data)} | {at for at in range(1, len(data)) if data[at - 1] == ord("\n")}
    return list(pairwise(sorted(cuts.union(part.start for seen in read for part in seen))))


def _write(axes: Axes, row: int, line: str) -> None:
    """Write a line of the bytes, and rule it."""
    shown = line if len(line) <= WIDEST else f"{line[: WIDEST - 1]}…"
    axes.text(0.1, row + 0.5, shown, family="monospace", fontsize=13, va="center_baseline")
    axes.axhline(row, color="#cccccc", linewidth=0.8, zorder=0)


def _block(axes: Axes, left: float, top: int, bottom: int, part: Part) -> None:
    """Draw a part in its strip: a head in full colour, a body hatched, each with its name."""
    from matplotlib.patches import Rectangle

    style, letters = STYLES[part.kind, part.request % 2]
    box: dict[str, Any] = {"linewidth": 2, **style}
    axes.add_patch(Rectangle((left, top + 0.06), STRIP, bottom - top - 0.12, **box))
    ground = {"facecolor": style["facecolor"], "edgecolor": "none", "pad": 2}
    place: dict[str, Any] = {"ha": "center", "va": "center_baseline", "bbox": ground}
    axes.text(left + STRIP / 2, (top + bottom) / 2, str(part), color=letters, **place)
