"""What a crowd costs: the threads and the memory of a server while visitors wait inside."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.errors import Mistake
from workbench.measure.picture import Picture, look
from workbench.server.launch import Server
from workbench.server.stats import accepted, memory, threads

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BEGUN = b"GET / HTTP/1.1\r\nHost: waiting\r\n"  # a request that is not over yet
PATIENCE = 5.0  # seconds until the server must have accepted everybody


@dataclass(frozen=True)
class Cost:
    """What a server held at one moment: `memory` is its resident size, in MiB."""

    visitors: int
    accepted: int
    threads: int
    memory: float


@dataclass(frozen=True)
class Costs(Picture):
    """The costs of growing crowds, as a table and as a picture."""

    title: str
    rows: tuple[Cost, ...]

    @property
    def figure(self) -> Figure:
        """Threads and memory against visitors."""
        from matplotlib.figure import Figure

        with look():
            figure = Figure(figsize=(11, 4.2), layout="constrained")
            left, right = figure.subplots(1, 2)
            self._draw(left, "threads", [row.threads for row in self.rows])
            self._draw(right, "memory in MiB", [row.memory for row in self.rows])
            figure.suptitle(self.title, x=0.01, ha="left", fontweight="bold")
        return figure

    def _draw(self, axes: Axes, label: str, values: Sequence[float]) -> None:
        """Draw one line, each point with its figure."""
        visitors = [row.visitors for row in self.rows]
        axes.plot(visitors, values, color="#0b4f8a", marker="o", linewidth=2.5)
        axes.set(xlabel="visitors who wait", ylabel=label, ylim=(0, max(values) * 1.25))
        axes.grid()
        for place in zip(visitors, values, strict=True):
            words: dict[str, Any] = {"textcoords": "offset points", "ha": "center"}
            axes.annotate(f"{place[1]:.0f}", place, (0, 9), **words)

    def __str__(self) -> str:
        """Show the table in a terminal."""
        lines = [f"{'visitors':>9}{'accepted':>9}{'threads':>9}{'MiB':>9}"]
        for row in self.rows:
            lines.append(f"{row.visitors:9}{row.accepted:9}{row.threads:9}{row.memory:9.1f}")
        return "\n".join(lines)


def cost(server: Server, visitors: Sequence[int] = (0, 50, 100, 150, 200)) -> Costs:
    """Measure a server while so many visitors have begun to ask and say no more.

    `visitors` are numbers that grow. Raises Mistake if they don't, or if the server has ended.
    """
    if sorted(visitors) != list(visitors):
        raise Mistake(f"needed numbers of visitors that grow, got {list(visitors)}")
    rows = []
    with ExitStack() as doors:
        inside = 0
        for count in visitors:
            for _ in range(count - inside):
                doors.enter_context(server.visit()).send(BEGUN)
            inside = count
            rows.append(_measure(server, count))
    return Costs(server.title, tuple(rows))


def _measure(server: Server, visitors: int) -> Cost:
    """Wait until the server has taken all in; a stage that cannot is measured as it is."""
    deadline = time.monotonic() + PATIENCE
    while (inside := accepted(server)) < visitors and time.monotonic() < deadline:
        time.sleep(0.01)
    return Cost(visitors, inside, threads(server), memory(server) / 2**20)
