r"""A form with files, as it travels: the bytes line by line, and beside them what they belong to.

`anatomy(b"POST /uploads HTTP/1.1\r\n…", b"…")` takes the chunks as `say` does, and draws where one
ends and the next begins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from workbench.client.render import visible
from workbench.client.responses import messages
from workbench.errors import Mistake
from workbench.measure.picture import Picture, look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEXT, STRIP, GAP = 7.8, 3.2, 0.1  # inches: the bytes, the strip beside them, and around the strip
ROW = 0.34  # inches for a line
WIDEST, MOST = 72, 40  # characters of a line that are drawn, and lines
BOUNDARY = re.compile(rb'(?im)^content-type:.*boundary=(?:"([^"]+)"|([^;\s]+))')
STYLES: dict[str, tuple[dict[str, Any], str]] = {  # of a part, and of its letters
    "the request's head": ({"facecolor": "white", "edgecolor": "#333333"}, "black"),
    "boundary": ({"facecolor": "#0b4f8a", "edgecolor": "#0b4f8a"}, "white"),
    "a part's head": ({"facecolor": "white", "edgecolor": "#0b4f8a", "hatch": "\\\\"}, "black"),
    "content": ({"facecolor": "#f4c95d", "edgecolor": "#333333"}, "black"),
    "for nobody": ({"facecolor": "white", "edgecolor": "#333333", "hatch": "xx"}, "black"),
}


@dataclass(frozen=True)
class Part:
    """Some bytes in a row: what they are, and from which one up to which."""

    kind: str
    start: int
    end: int

    def __str__(self) -> str:
        return f"{self.kind}, {self.end - self.start} bytes"


@dataclass(frozen=True)
class Anatomy(Picture):
    """A form's bytes with their parts, as a picture and in figures."""

    chunks: tuple[bytes, ...]

    @property
    def data(self) -> bytes:
        """All the bytes."""
        return b"".join(self.chunks)

    @property
    def parts(self) -> list[Part]:
        """What the bytes are, in order; an empty part is none.

        Raises Mistake if no head of a request is there that names a boundary.
        """
        kinds, pieces = zip(*_pieces(self.data), strict=True)
        ends = accumulate(map(len, pieces), initial=0)
        found = (Part(kind, *span) for kind, span in zip(kinds, pairwise(ends), strict=True))
        return [part for part in found if part.end > part.start]

    @property
    def figure(self) -> Figure:
        """A new picture. Raises Mistake for more lines than can be shown."""
        from matplotlib.figure import Figure

        parts = self.parts
        end = parts[-1].end
        cuts = [cut for cut in accumulate(map(len, self.chunks)) if 0 < cut < end]
        rows = _rows(self.data[:end], {*cuts, *(part.start for part in parts)})
        if len(rows) > MOST + 1:
            raise Mistake(f"needed no more than {MOST} lines to draw, got {len(rows) - 1}")
        width, height = TEXT + STRIP + GAP, len(rows) - 1
        with look():
            figure = Figure((width, ROW * (height + 0.6)))
            axes = figure.add_axes((0, 0, 1, 1))
            axes.set(xlim=(0, width), ylim=(height + 0.3, -0.3))
            axes.set_axis_off()
            for row, span in enumerate(pairwise(rows)):
                _write(axes, row, visible(self.data[slice(*span)]))
            for part in parts:
                _block(axes, rows[part.start], rows[part.end], part)
            for cut in cuts:
                axes.axhline(rows[cut], color="black", linestyle="--", linewidth=3)
        return figure

    def __str__(self) -> str:
        """Show the figures in a terminal."""
        return "\n".join(map(str, self.parts))


def _pieces(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Cut the first request of some bytes, and say of each piece what it is."""
    head, body = messages(data)[0] if data else (b"", b"")
    if not (found := BOUNDARY.search(head)):
        raise Mistake("needed a form with files, with Content-Type: …; boundary=… in its head")
    yield "the request's head", head
    mark = re.compile(rb"(?s)(?:\A|\r\n)--%b(--)?.*?(?:\r\n|\Z)" % re.escape(found[1] or found[2]))
    kind, start = "for nobody", 0
    while boundary := mark.search(body, start):
        yield kind, body[start : boundary.start()]
        yield "boundary", boundary[0]
        kind, start = "for nobody", boundary.end()
        if boundary[1]:  # two hyphens more: it is the last
            break
        blank = body.find(b"\r\n\r\n", start)
        kind, start = "content", len(body) if blank < 0 else blank + 4
        yield "a part's head", body[boundary.end() : start]
    yield kind, body[start:]


def _rows(data: bytes, cuts: set[int]) -> dict[int, int]:
    """Give a row to each byte that begins one: behind an LF, and at the cuts; one to the end."""
    ends = {match.end() for match in re.finditer(b"\n", data)}
    return {at: row for row, at in enumerate(sorted({0, len(data)} | ends | cuts))}


def _write(axes: Axes, row: int, line: str) -> None:
    """Write a line of the bytes."""
    shown = line if len(line) <= WIDEST else f"{line[: WIDEST - 1]}…"
    axes.text(GAP, row + 0.5, shown, family="monospace", fontsize=13, va="center_baseline")


def _block(axes: Axes, top: int, bottom: int, part: Part) -> None:
    """Draw a part in the strip, with its name, and rule off the bytes above it."""
    from matplotlib.patches import Rectangle

    style, letters = STYLES[part.kind]
    axes.add_patch(Rectangle((TEXT, top + 0.06), STRIP, bottom - top - 0.12, linewidth=2, **style))
    axes.axhline(top, color="#cccccc", linewidth=0.8, zorder=0)
    place: dict[str, Any] = {"ha": "center", "va": "center_baseline", "color": letters}
    if "hatch" in style:
        place["bbox"] = {"facecolor": style["facecolor"], "edgecolor": "none", "pad": 2}
    axes.text(TEXT + STRIP / 2, (top + bottom) / 2, str(part), **place)


def anatomy(*chunks: bytes) -> Anatomy:
    """Take apart a form as it was sent. Raises Mistake if there is none."""
    form = Anatomy(chunks)
    _ = form.parts
    return form
