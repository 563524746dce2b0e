"""Who waited and who was served: many visitors at once, drawn by their own clocks.

`timeline(server, ["/sleep?seconds=2", "/", "/"])` sends three visitors and returns a Timeline.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from workbench.client.client import Address, Addressed, Exchange, Visitor, request
from workbench.errors import Mistake
from workbench.measure.picture import Picture, lanes, look, stacked
from workbench.server.launch import Server

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 11.0  # inches, as all that follow
BAR, TOP, MARGIN, TALLEST = 0.42, 0.55, 0.75, 7.5
LABELLED = 30  # visitors of one picture who are all named
LONGEST_LABEL = 34  # characters
LETTER = 0.018  # of the axis, what a letter beside a bar takes
SHORTEST = 0.01  # seconds that the axis spans at the least
PHASES = {  # what a visitor does: colour, edge, hatch; told apart in black and white too
    "connecting": ("#ffffff", "#333333", ""),
    "waiting": ("#f4c95d", "#333333", "//"),
    "being answered": ("#0b4f8a", "#0b4f8a", ""),
    "failed": ("#ffffff", "#a3180f", "xxx"),
}
ENDINGS = "being answered", "failed"


@dataclass(frozen=True)
class Visit:
    """One visitor's way, in seconds since the first of all began; None for what never came."""

    path: str
    started: float
    connected: float | None
    first_byte: float | None
    ended: float
    status: int | None
    failure: str | None

    @property
    def took(self) -> float:
        """Seconds from beginning to end."""
        return self.ended - self.started

    @property
    def outcome(self) -> str:
        """The status, or what went wrong."""
        return self.failure or str(self.status)

    def phases(self) -> list[tuple[str, float, float]]:
        """List what the visitor went through: the phase, its beginning and its end in seconds."""
        marks = [("connecting", self.started), ("waiting", self.connected)]
        marks += [("being answered", self.first_byte)]
        begun = [(phase, at) for phase, at in marks if at is not None]
        if self.failure:
            begun[-1] = ("failed", begun[-1][1])
        ends = [*(at for _, at in begun[1:]), self.ended]
        return [(phase, at, end) for (phase, at), end in zip(begun, ends, strict=True)]


@dataclass(frozen=True)
class Timeline(Picture):
    """The visits in the order of their coming, their picture and their table."""

    title: str
    visits: tuple[Visit, ...]
    stopped: float | None = None  # seconds until the server was asked to stop

    @property
    def figure(self) -> Figure:
        """A new picture, each visitor a bar."""
        return _figure([self])

    def table(self) -> Table:
        """Give the figures behind the picture, for a terminal or a notebook; times in seconds."""
        table = Table("visitor", "path", title=self.title, title_justify="left")
        for heading in ("started", "connected", "first byte", "ended"):
            table.add_column(heading, justify="right")
        table.add_column("outcome")
        for number, visit in enumerate(self.visits, 1):
            times = visit.started, visit.connected, visit.first_byte, visit.ended
            table.add_row(str(number), visit.path, *map(_seconds, times), visit.outcome)
        return table

    def __rich__(self) -> Table:
        return self.table()

    def __str__(self) -> str:
        return _plain([self.table()])


@dataclass(frozen=True)
class Timelines(Picture):
    """Several timelines above each other, on one axis."""

    parts: tuple[Timeline, ...]

    @property
    def figure(self) -> Figure:
        """A new picture of all of them."""
        return _figure(self.parts)

    def __str__(self) -> str:
        return _plain([part.table() for part in self.parts])


def timeline(
    server: Address | Addressed,
    paths: Sequence[str | bytes],
    *,
    gap: float = 0.0,
    stop_after: float | None = None,
    title: str | None = None,
    timeout: float = 90.0,
) -> Timeline:
    """Send a visitor for each path, in that order and at once or `gap` seconds apart.

    Each asks `GET path` on a connection of its own, or says just the bytes given in a path's place,
    and reads to the end, for `timeout` seconds at the most. The times are measured here, by the
    visitors. With `stop_after`, the server is asked to stop (Ctrl-C) so many seconds after the
    first. Raises Mistake if that cannot be asked of it.
    """
    address = server if isinstance(server, tuple) else server.address
    name = title or str(getattr(server, "title", "{}:{}".format(*address)))
    if not paths:
        return Timeline(name, ())
    beginning = time.perf_counter()
    with ThreadPoolExecutor(len(paths) + 1) as crowd:
        stop = crowd.submit(_stop, server, beginning, stop_after)
        going = []
        for number, path in enumerate(paths):
            time.sleep(max(beginning + number * gap - time.perf_counter(), 0))
            visitor = Visitor(address, timeout, wait=False)
            words = path if isinstance(path, bytes) else request(path, address)
            going.append(crowd.submit(_converse, visitor, words))
        exchanges = [one.result() for one in going]
    first = min(exchange.moments.started for exchange in exchanges)
    visits = (_visit(path, one, first) for path, one in zip(paths, exchanges, strict=True))
    stopped = stop.result()
    return Timeline(name, tuple(visits), None if stopped is None else stopped - first)


def timelines(parts: Mapping[str, Timeline]) -> Timelines:
    """Set timelines above each other, each under the name given, to compare them."""
    return Timelines(tuple(replace(part, title=name) for name, part in parts.items()))


def _converse(visitor: Visitor, words: bytes) -> Exchange:
    with visitor:
        visitor.send(words)
        return visitor.read()


def _stop(server: Address | Addressed, beginning: float, after: float | None) -> float | None:
    """Ask a server to stop so many seconds after the beginning; return when that was."""
    if after is None:
        return None
    if not isinstance(server, Server):
        raise Mistake("needed a launched server, for no other can be asked to stop")
    time.sleep(max(beginning + after - time.perf_counter(), 0))
    now = time.perf_counter()
    server.terminate() if os.name == "nt" else server.interrupt()
    return now


def _visit(path: str | bytes, exchange: Exchange, first: float) -> Visit:
    """Turn what a visitor lived through into seconds since the first of all began."""
    name = path if isinstance(path, str) else path.decode("latin-1").strip()
    moments, answer = exchange.moments, next(iter(exchange.answers), None)
    failure = ("broken answer" if answer.fault else None) if answer else "no answer"
    if exchange.ending != "closed":
        failure = exchange.ending
    last = moments.ended if failure else moments.last_byte
    marks = (moments.started, moments.connected, moments.first_byte, last)
    started, connected, first_byte, ended = (None if at is None else at - first for at in marks)
    assert started is not None
    assert ended is not None
    status = answer.status if answer else None
    return Visit(name, started, connected, first_byte, ended, status, failure)


def _figure(parts: Sequence[Timeline]) -> Figure:
    """Draw timelines above each other, every visitor in a row of the same height."""
    from matplotlib.patches import Patch

    rows = [max(len(part.visits), 1) for part in parts]
    height = min(BAR * sum(rows), TALLEST)
    with look():
        figure, column = stacked(WIDTH, height + TOP * len(parts) + MARGIN, rows)
        for axes, part in zip(column, parts, strict=True):
            _draw(axes, part, crowded=sum(rows) > LABELLED)
        visits = [visit for part in parts for visit in part.visits]
        longest = max([SHORTEST, *(visit.ended for visit in visits)])
        widest = max([0, *(len(_words(visit)) for visit in visits if sum(rows) <= LABELLED)])
        column[-1].set_xlim(-0.01 * longest, (1.05 + LETTER * widest) * longest)
        column[-1].set_xlabel("seconds since the first visitor came")
        seen = {phase for visit in visits for phase, _, _ in visit.phases()} | {"waiting"}
        keys = [Patch(label=phase, **_style(phase)) for phase in PHASES if phase in seen]
        figure.legend(handles=keys, loc="outside lower right", ncols=len(keys), frameon=False)
    return figure


def _draw(axes: Axes, part: Timeline, *, crowded: bool) -> None:
    """Draw the visits of one timeline, the first on top; in a crowd without words to each."""
    for name in PHASES:
        phases = [
            (row, *phase) for row, visit in enumerate(part.visits) for phase in visit.phases()
        ]
        bars = [(row, start, end - start) for row, phase, start, end in phases if phase == name]
        if bars:
            rows, starts, widths = zip(*bars, strict=True)
            style = _style(name, crowded=crowded)
            axes.barh(rows, widths, left=starts, height=1.0 if crowded else 0.72, **style)
    for row, visit in enumerate(() if crowded else part.visits):
        place: dict[str, Any] = {"textcoords": "offset points", "va": "center_baseline"}
        axes.annotate(_words(visit), (visit.ended, row), (8, 0), **place)
    if part.stopped is not None:
        axes.axvline(part.stopped, color="black", linestyle="--", linewidth=2)
        foot = (part.stopped, len(part.visits) + 0.1)
        axes.annotate("Ctrl-C", foot, (7, 0), textcoords="offset points", va="center")
    axes.set_title(part.title, loc="left", fontweight="bold")
    axes.set_ylim(len(part.visits) + (-0.4 if part.stopped is None else 0.5), -0.6)
    step = len(part.visits) // 10 + 1 if crowded else 1
    shown = range(0, len(part.visits), step)
    axes.set_yticks(shown, [f"{_short(part.visits[row].path)}  {row + 1}" for row in shown])
    lanes(axes)


def _style(phase: str, *, crowded: bool = False) -> dict[str, Any]:
    """Return how a phase is drawn; an ending that takes no time is still a stroke."""
    colour, edge, hatch = PHASES[phase]
    stroke = 3.5 if phase in ENDINGS else 1.0
    if crowded:
        stroke, hatch = (1.2, hatch) if phase in ENDINGS else (0, "")
    return {"facecolor": colour, "edgecolor": edge, "hatch": hatch, "linewidth": stroke}


def _words(visit: Visit) -> str:
    """Say beside a bar how long it took, and how it came out unless that is a plain 200."""
    took = f"{visit.took * 1000:.0f} ms" if visit.took < 0.1 else f"{visit.took:.2f} s"
    return took if visit.outcome == "200" else f"{took}, {_short(visit.outcome)}"


def _short(label: str) -> str:
    return label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 1]}…"


def _seconds(moment: float | None) -> str:
    return "" if moment is None else f"{moment:.3f}"


def _plain(tables: Sequence[Table]) -> str:
    """Write tables as text without colours."""
    console = Console(file=io.StringIO(), width=100, force_jupyter=False, color_system=None)
    with console.capture() as captured:
        console.print(*tables)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())
