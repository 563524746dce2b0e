"""What `bench` found: rounds, rows and benchmarks, as a table and as a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from workbench.measure.picture import Picture, lanes, look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SATURATED = 0.9  # of a core: a client that computes so much may be what limits the throughput
STARVED = 0.5  # of the connections: when fewer are served, the others get no response at all


@dataclass(frozen=True)
class Round:
    """What one server did in one round: `p50` and `p99` in milliseconds, for whole responses.

    `cpu` is the seconds that its processes computed, `memory` their resident size at the end, in
    MiB; both are None for a server that was not started here. `client` is the share of a core that
    the load used. `served` is the share of its connections on which, on average, a request was
    under way: rate times mean latency (Little's law); far below 1, some were left waiting.
    `kinds` counts the errors by kind.
    """

    requests: int
    seconds: float
    p50: float
    p99: float
    errors: int
    cpu: float | None = None
    memory: float | None = None
    client: float | None = None
    served: float | None = None
    kinds: Mapping[str, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds

    @property
    def cpu_per_request(self) -> float | None:
        """Microseconds of CPU time for a request; None for less than the system's clock counts."""
        return self.cpu * 1e6 / self.requests if self.cpu and self.requests else None


@dataclass(frozen=True)
class Row:
    """One server's rounds; `kept` says whether it responds more than once on a connection."""

    title: str
    kept: bool
    rounds: tuple[Round, ...]

    @property
    def name(self) -> str:
        """The title up to its first space: `s10`, or an address."""
        return self.title.partition(" ")[0]

    @property
    def errors(self) -> int:
        """Responses other than 200 and requests without one: with any, its figures mean nothing."""
        return sum(one.errors for one in self.rounds)

    @property
    def kinds(self) -> str:
        """The errors by kind, in brackets: status, connect, read, write, timeout; as known."""
        kinds = sum((Counter(one.kinds) for one in self.rounds), Counter[str]())
        words = ", ".join(f"{kind} {count:,}" for kind, count in kinds.items())
        return f" ({words})" if words else ""

    @property
    def rates(self) -> list[float]:
        """Requests per second, round by round."""
        return [one.rate for one in self.rounds]

    @property
    def cpu(self) -> list[float]:
        """Microseconds of CPU time for a request, of the rounds in which that is known."""
        return [cpu for one in self.rounds if (cpu := one.cpu_per_request) is not None]

    @property
    def served(self) -> float:
        """The share of connections with a request under way, 1 if not known or not kept open."""
        known = [one.served for one in self.rounds if one.served is not None]
        return median(known) if known and self.kept else 1.0

    @property
    def saturated(self) -> bool:
        """Whether the client was so busy that the server may be faster than it could measure."""
        known = [one.client for one in self.rounds if one.client is not None]
        return bool(known) and median(known) >= SATURATED


@dataclass(frozen=True)
class Benchmark(Picture):
    """What several servers did, as a table and as a picture; `baseline` is the place of a row."""

    title: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    baseline: int = 0

    @property
    def base(self) -> Row:
        """The row that all are compared with."""
        return self.rows[self.baseline]

    def ratios(self, row: Row) -> list[float]:
        """Compare a row's rate with the baseline's, round by round: common delays cancel out."""
        return self._compared(row, row.rates, self.base.rates)

    def cpu_ratios(self, row: Row) -> list[float]:
        """Compare a row's CPU time per request with the baseline's, round by round."""
        return self._compared(row, row.cpu, self.base.cpu)

    def _compared(self, row: Row, ours: list[float], theirs: list[float]) -> list[float]:
        """Divide round by round; nothing where a figure is not known, or there were errors."""
        if row.errors or self.base.errors or len(ours) != len(theirs):
            return []
        return [one / other for one, other in zip(ours, theirs, strict=True)]

    @property
    def headings(self) -> tuple[str, ...]:
        """Name the columns."""
        ratio = f"/ {self.base.name}"
        return ("requests/s", ratio, "CPU \u00b5s/request", ratio, "p50 ms", "p99 ms", "MiB")

    def columns(self, row: Row) -> list[list[float]]:
        """Return a row's figures under the headings, round by round; empty if not known."""
        columns = [row.rates, self.ratios(row), row.cpu, self.cpu_ratios(row)]
        columns.append([one.p50 for one in row.rounds])
        columns.append([one.p99 for one in row.rounds])
        columns.append([one.memory for one in row.rounds if one.memory is not None])
        return [[] for _ in columns] if row.errors else columns

    @property
    def remarks(self) -> Iterator[str]:
        """Say what a reader must know to read the table."""
        yield from self.notes
        for row in self.rows:
            if row.errors:
                total = sum(one.requests for one in row.rounds)
                errors = f"{row.errors:,} in {total:,}{row.kinds}"
                yield f"{row.name}: no figures, as there were errors: {errors}"
            elif row.saturated:
                yield f"{row.name}: the client was busy all the time, so requests/s is its limit"
            if row.served < STARVED and not row.errors:
                share = f"{row.served:.0%} of the connections"
                yield f"{row.name}: only {share} were served, the others waited until the end"
            if not row.kept and self.mixed:
                yield f"{row.name}: a new connection for each request"
        if not any(row.kept for row in self.rows):
            yield "a new connection for each request"

    @property
    def mixed(self) -> bool:
        """Whether some servers keep connections open and others do not."""
        return len({row.kept for row in self.rows}) > 1

    @property
    def figure(self) -> Figure:
        """A bar for each server, and on it a dot for each round."""
        return _chart([self])

    def __str__(self) -> str:
        """Show the table in a terminal: medians, and below each its least and its greatest."""
        widest = max(len(row.name) for row in self.rows)
        cells = [("", *self.headings, "errors")]
        cells += [line for row in self.rows for line in self._lines(row)]
        lines = [
            (name.ljust(widest) + "".join(cell.rjust(15) for cell in rest)).rstrip()
            for name, *rest in cells
        ]
        return "\n".join([self.title, *lines, *self.remarks])

    def _lines(self, row: Row) -> Iterator[tuple[str, ...]]:
        """Write a row as two lines of cells; what is not known stays blank."""
        columns = self.columns(row)
        medians = [short(median(values)) if values else "" for values in columns]
        if row.errors:
            medians[0] = "no figure"
        yield row.name, *medians, str(row.errors)
        if not row.errors:
            yield "", *(f"{short(min(v))}-{short(max(v))}" if v else "" for v in columns)


@dataclass(frozen=True)
class Benchmarks(Picture):
    """Several benchmarks of the same servers, such as those with 4 and with 64 connections."""

    parts: tuple[Benchmark, ...]

    @property
    def figure(self) -> Figure:
        """Their charts above each other."""
        return _chart(self.parts)

    def __str__(self) -> str:
        """Show their tables below each other."""
        return "\n\n".join(map(str, self.parts))


def _chart(parts: Sequence[Benchmark]) -> Figure:
    """Draw benchmarks above each other: throughput on the left, CPU time where it is known."""
    from matplotlib.figure import Figure

    heights = [1.9 + 0.85 * len(part.rows) for part in parts]
    cpu = any(part.columns(row)[2] for part in parts for row in part.rows)
    with look():
        figure = Figure(figsize=(17 if cpu else 11, sum(heights)), layout="constrained")
        folded = figure.subfigures(len(parts), height_ratios=heights, squeeze=False)[:, 0]
        for part, place in zip(parts, folded, strict=True):
            left, *right = place.subplots(1, 2 if cpu else 1, sharey=True, squeeze=False)[0]
            label = "requests per second: each round a dot, their median the bar"
            _bars(left, part, 0, label)
            for axes in right:
                _bars(axes, part, 2, "CPU time per request in \u00b5s: less is better")
            labels = [row.title.replace(", ", "\n", 1) for row in part.rows]
            left.set_yticks(range(len(labels)), labels)
            left.set_ylim(len(labels) - 0.4, -0.6)
            place.suptitle(part.title, x=0.01, ha="left", fontweight="bold")
    return figure


def _bars(axes: Axes, part: Benchmark, column: int, label: str) -> None:
    """Draw one column of the table, with its ratio to the baseline in words."""
    greatest = max((max(part.columns(row)[column], default=0) for row in part.rows), default=0)
    base = part.columns(part.base)[column]
    for place, row in enumerate(part.rows):
        values, ratios = part.columns(row)[column : column + 2]
        words = f"{median(values):,.0f}" if values else "no figure" if row.errors else ""
        words += (
            f", {median(ratios):.2f} of {part.base.name}" if ratios and row != part.base else ""
        )
        words += "\na new connection each" if part.mixed and not row.kept and column == 0 else ""
        _bar(axes, place, values, words)
    if base:
        axes.axvline(median(base), color="black", linestyle="--", linewidth=1.2)
    axes.set(xlim=(0, greatest * 1.6 or 1), xlabel=label)
    axes.xaxis.set_major_formatter("{x:,g}")
    lanes(axes)


def _bar(axes: Axes, place: int, values: Sequence[float], words: str) -> None:
    """Draw one server: the first round is the highest dot."""
    heights = [place + 0.4 * ((index + 0.5) / len(values) - 0.5) for index in range(len(values))]
    if values:
        axes.barh(place, median(values), height=0.66, color="#9cc3e6", edgecolor="black")
        axes.plot(values, heights, "o", color="black", markersize=7, markeredgecolor="white")
    style: dict[str, Any] = {"textcoords": "offset points", "va": "center_baseline"}
    style["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 2}
    axes.annotate(words, (max(values, default=0), place), (12, 0), **style)


def short(value: float) -> str:
    """Write a figure in about three digits."""
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"
