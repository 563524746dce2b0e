"""How fast servers are, side by side: requests per second, waiting, processor time and memory.

`bench("s10", "s11", "s12")` loads each in turn, round after round, so that whatever else the
machine does meets all of them. What holds on a busy machine is the ratio, not the figure.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import psutil

from workbench.client.client import Address, NoAnswer, Visitor, request
from workbench.course.catalogue import lesson
from workbench.errors import Mistake
from workbench.measure.picture import Picture, lanes, look
from workbench.server.launch import Server
from workbench.server.stats import family, memory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOADS = ("wrk", "aiohttp")
BUNDLED = Path(__file__).with_name("load.py")
WARM_UP = 1  # seconds
PATIENCE = 5.0  # seconds for the two answers before the first round
OVERTIME = 20.0  # seconds that a load may take beyond its time
REPORT = """
function done(summary, latency)
   local errors = 0
   for _, count in pairs(summary.errors) do errors = errors + count end
   print(string.format('{"requests": %d, "seconds": %f, "p50": %f, "p99": %f, "errors": %d}',
      summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3,
      latency:percentile(99) / 1e3, errors))
end
"""
QUIET = """
import os, runpy, sys
stderr = os.dup(2)
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
try:
    runpy.run_path(sys.argv[1], run_name="__main__")
except BaseException:
    os.dup2(stderr, 2)
    raise
"""

Target = str | Server | Address


@dataclass(frozen=True)
class Round:
    """What one server did in one round: `p50` and `p99` in milliseconds, for whole answers.

    `cpu` is the seconds that its processes computed, `memory` their resident size at the end, in
    MiB; both are None for a server that was not started here.
    """

    requests: int
    seconds: float
    p50: float
    p99: float
    errors: int
    cpu: float | None = None
    memory: float | None = None

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds

    @property
    def cpu_per_thousand(self) -> float | None:
        """Milliseconds of processor time for a thousand requests."""
        return None if self.cpu is None else self.cpu * 1000 / self.requests * 1000


@dataclass(frozen=True)
class Row:
    """One server's rounds; `kept` says whether it answered more than once on a connection."""

    title: str
    kept: bool
    rounds: tuple[Round, ...]

    @property
    def name(self) -> str:
        """The title up to its first space: `s10`, or an address."""
        return self.title.partition(" ")[0]

    @property
    def rates(self) -> list[float]:
        """Requests per second, round by round."""
        return [one.rate for one in self.rounds]


@dataclass(frozen=True)
class Benchmark(Picture):
    """What several servers did, as a table and as a picture."""

    title: str
    rows: tuple[Row, ...]

    def ratios(self, row: Row) -> list[float]:
        """Compare a row with the first, round by round: what slows both down cancels out."""
        return [rate / first for rate, first in zip(row.rates, self.rows[0].rates, strict=True)]

    @property
    def figure(self) -> Figure:
        """A bar for each server, and on it a dot for each round."""
        from matplotlib.figure import Figure

        with look():
            figure = Figure(figsize=(11, 1.9 + 0.85 * len(self.rows)), layout="constrained")
            axes = figure.subplots()
            for place, row in enumerate(self.rows):
                self._draw(axes, place, row)
            fastest = max(rate for row in self.rows for rate in row.rates)
            axes.axvline(median(self.rows[0].rates), color="black", linestyle="--", linewidth=1.2)
            axes.set(xlim=(0, fastest * 1.5), ylim=(len(self.rows) - 0.4, -0.6))
            axes.set_xlabel("requests per second: each round a dot, their median the bar")
            axes.set_yticks(range(len(self.rows)), [row.title for row in self.rows])
            axes.xaxis.set_major_formatter("{x:,g}")
            lanes(axes)
            figure.suptitle(self.title, x=0.01, ha="left", fontweight="bold")
        return figure

    def _draw(self, axes: Axes, place: int, row: Row) -> None:
        """Draw one server: the first round is the highest dot."""
        rates, count = row.rates, len(row.rates)
        heights = [place + 0.4 * ((index + 0.5) / count - 0.5) for index in range(count)]
        axes.barh(place, median(rates), height=0.66, color="#9cc3e6", edgecolor="black")
        axes.plot(rates, heights, "o", color="black", markersize=7, markeredgecolor="white")
        words = f"{median(rates):,.0f}"
        words += f", {median(self.ratios(row)):.2f} of {self.rows[0].name}" if place else ""
        words += "" if row.kept else "\na new connection each"
        style: dict[str, Any] = {"textcoords": "offset points", "va": "center_baseline"}
        style["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 2}
        axes.annotate(words, (max(rates), place), (12, 0), **style)

    def __str__(self) -> str:
        """Show the table in a terminal: medians, and below each its least and its greatest."""
        widest = max(len(row.name) for row in self.rows)
        headings = (
            "requests/s",
            "to the first",
            "p50 ms",
            "p99 ms",
            "CPU ms/1,000",
            "MiB",
            "errors",
        )
        cells = [("", *headings), *(line for row in self.rows for line in self._lines(row))]
        lines = [
            (name.ljust(widest) + "".join(cell.rjust(14) for cell in rest)).rstrip()
            for name, *rest in cells
        ]
        notes = [
            f"{row.name}: a new connection for each request" for row in self.rows if not row.kept
        ]
        return "\n".join([self.title, *lines, *notes])

    def _lines(self, row: Row) -> Iterator[tuple[str, ...]]:
        """Write a row as two lines of cells; what was not measured stays blank."""
        columns: list[Sequence[float | None]] = [row.rates, self.ratios(row)]
        columns.append([one.p50 for one in row.rounds])
        columns.append([one.p99 for one in row.rounds])
        columns.append([one.cpu_per_thousand for one in row.rounds])
        columns.append([one.memory for one in row.rounds])
        measured = [[value for value in column if value is not None] for column in columns]
        yield (
            row.name,
            *(_short(median(values)) if values else "" for values in measured),
            str(sum(one.errors for one in row.rounds)),
        )
        yield "", *(f"{_short(min(v))}-{_short(max(v))}" if v else "" for v in measured)


@dataclass(frozen=True)
class _Load:
    """What is asked, and by which program."""

    kind: str
    script: Path
    path: str
    connections: int
    close: bool

    def line(self, server: Server | Address, seconds: int) -> list[str]:
        """Write the command that asks a server, and prints a Round in JSON as its last line."""
        url = "http://{}:{}{}".format(*_address(server), self.path)
        header, count = ["Connection: close"] if self.close else [], str(self.connections)
        if self.kind == "aiohttp":
            return [sys.executable, "-P", str(BUNDLED), url, str(seconds), count, *header]
        line = ["wrk", "-t1", "-c", count, "-d", f"{seconds}s", "--timeout", "10s"]
        return [*line, "-s", str(self.script), *(f"-H{one}" for one in header), url]


def bench(
    *servers: Target,
    path: str = "/health",
    rounds: int = 5,
    seconds: int = 2,
    connections: int = 4,
    close: bool = False,
    load: str | None = None,
    settings: Mapping[str, object] | None = None,
    heard: Callable[[str], object] | None = None,
) -> Benchmark:
    """Load servers in turn, in so many rounds of so many seconds each; the order moves on by one.

    A server is the name of a stage, which is started with `settings` and its log thrown away, a
    launched Server, or the address of one that runs. `connections` ask for `path` at once, each
    again as soon as it is answered, and with `close` on a new connection. More of them than a
    stage has WORKERS wait for each other. `load` is "wrk" where that is installed, else "aiohttp";
    wrk puts waiting in for the requests that a late answer kept it from sending, so that its p99
    is the greater. `heard` is told what is going on.

    Raises Mistake if an argument cannot be used, or if a server does not answer or does not last.
    """
    load = load or ("wrk" if shutil.which("wrk") else "aiohttp")
    _check(servers, path, load, min(rounds, seconds, connections))
    tell = heard or (lambda said: None)
    with ExitStack() as stack, TemporaryDirectory() as folder:
        script = Path(folder, "report.lua")
        script.write_text(REPORT, encoding="utf-8")
        burden = _Load(load, script, path, connections, close)
        running = [_running(server, settings or {}, stack) for server in servers]
        kept = [_keeps(server, path) and not close for server in running]
        done: list[list[Round]] = [[] for _ in running]
        for number in range(rounds + 1):
            for place in [(number + index) % len(running) for index in range(len(running))]:
                server, takes = running[place], seconds if number else WARM_UP
                tell(f"{f'round {number}' if number else 'warming up'}: {_title(server)}")
                measured = _measure(server, burden.line(server, takes), takes)
                done[place] += [measured] if number else []
    title = f"GET {path} by {load}: connections {connections}, rounds {rounds} of {seconds} s"
    rows = zip(map(_title, running), kept, map(tuple, done), strict=True)
    return Benchmark(title, tuple(Row(*row) for row in rows))


def _check(servers: Sequence[Target], path: str, load: str, least: int) -> None:
    """Raise Mistake for what cannot be measured."""
    if not servers:
        raise Mistake("needed the name of a stage or the address of a server")
    if not re.fullmatch("/[!-~]*", path):
        raise Mistake(f"needed a path like /health, got {path!r}")
    if load not in LOADS:
        raise Mistake(f"needed a load of {' or '.join(LOADS)}, got {load!r}")
    if load == "wrk" and not shutil.which("wrk"):
        raise Mistake("wrk is not installed: use --load aiohttp")
    if least < 1:
        raise Mistake(f"needed at least 1 round, 1 second and 1 connection, got {least}")


def _running(server: Target, settings: Mapping[str, object], stack: ExitStack) -> Server | Address:
    """Start a stage until the stack ends, its log thrown away: to collect it takes time too."""
    if not isinstance(server, str):
        return server
    known, texts = lesson(server), {name: str(value) for name, value in settings.items()}
    argv = [sys.executable, "-c", QUIET, str(known.path)]
    title = f"{known.short} {known.title}"
    return stack.enter_context(Server.start(argv, title=title, settings=texts))


def _address(server: Server | Address) -> Address:
    return server.address if isinstance(server, Server) else server


def _title(server: Server | Address) -> str:
    return server.title if isinstance(server, Server) else "{}:{}".format(*server)


def _keeps(server: Server | Address, path: str) -> bool:
    """Tell whether a server answers twice on one connection. Raises Mistake for a bad answer."""
    address = _address(server)
    asking = request(path, address, close=False)
    with Visitor(address, PATIENCE) as visitor:
        visitor.send(asking)
        try:
            status = visitor.read(1).answer.status
        except NoAnswer as error:
            raise NoAnswer(f"{_title(server)}: {error}") from None
        if not 200 <= status < 400:
            raise Mistake(f"needed an answer below 400 to GET {path}, got {status}")
        visitor.send(asking)
        return visitor.read(1).answers != []


def _measure(server: Server | Address, command: list[str], seconds: int) -> Round:
    """Run the load once. Raises Mistake if it fails, or if there is nothing that answers."""
    before, _ = _spent(server)
    try:
        ended = subprocess.run(  # noqa: S603 - our own command
            command, capture_output=True, text=True, timeout=seconds + OVERTIME
        )
    except subprocess.TimeoutExpired:
        raise Mistake(f"{command[0]} did not end within {seconds + OVERTIME:g} s") from None
    after, held = _spent(server)
    if ended.returncode:
        words = (ended.stderr.strip() or ended.stdout.strip()).rpartition("\n")[2]
        raise Mistake(f"the load of {_title(server)} failed: {words}")
    figures = json.loads(ended.stdout.rstrip().rpartition("\n")[2])
    if not figures["requests"]:
        raise Mistake(f"{_title(server)} answered nothing in {seconds} s")
    cpu = None if before is None or after is None else after - before
    return Round(**figures, cpu=cpu, memory=held)


def _spent(server: Server | Address) -> tuple[float | None, float | None]:
    """Return the CPU seconds of a server so far and its MiB. Raises Mistake if it has ended."""
    if not isinstance(server, Server):
        return None, None
    with suppress(psutil.Error):  # it may end while we look
        if server.running:
            times = [process.cpu_times() for process in family(server)]
            return sum(one.user + one.system for one in times), memory(server) / 2**20
    raise Mistake(f"needed a server that lasts, got {server!r}")


def _short(value: float) -> str:
    """Write a figure in about three digits."""
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"
