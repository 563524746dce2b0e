"""Memory over time: what servers hold while the same is done to each of them, on one scale.

`memories({"before": old, "after": new}, flood)` calls `flood(old)`, then `flood(new)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import cycle
from time import perf_counter, sleep
from typing import TYPE_CHECKING

from workbench.errors import Mistake
from workbench.measure.picture import Picture, look
from workbench.server.launch import Server
from workbench.server.stats import memory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GLANCE = 0.02  # seconds between two looks
AFTERWARDS = 20  # looks when it is done
STYLES = (("#a3180f", "--"), ("#0b4f8a", "-"), ("#333333", ":"))  # told apart without colour too


@dataclass(frozen=True)
class Memory:
    """What a server held, in MiB, each time with the seconds since the beginning."""

    title: str
    samples: tuple[tuple[float, float], ...]

    @property
    def sizes(self) -> list[float]:
        """The MiB alone."""
        return [size for _, size in self.samples]

    @property
    def most(self) -> float:
        """The largest size, in MiB."""
        return max(self.sizes)


@dataclass(frozen=True)
class Memories(Picture):
    """What servers held, as a picture and in figures."""

    parts: tuple[Memory, ...]

    @property
    def figure(self) -> Figure:
        """A new picture, each server a line."""
        from matplotlib.figure import Figure

        with look():
            figure = Figure(figsize=(11, 4.2), layout="constrained")
            axes = figure.subplots()
            for part, (colour, line) in zip(self.parts, cycle(STYLES), strict=False):
                label = f"{part.title}: {part.most:.0f} MiB at most"
                axes.plot(*zip(*part.samples, strict=True), line, c=colour, lw=3, label=label)
            highest = max(part.most for part in self.parts)
            axes.set(xlabel="seconds", ylabel="memory in MiB", ylim=(0, highest * 1.1))
            axes.set_xlim(left=0)
            axes.grid()
            figure.legend(loc="outside upper left", ncols=2, frameon=False, handlelength=3)
        return figure

    def __str__(self) -> str:
        """Show the figures in a terminal."""
        width = max(len(part.title) for part in self.parts)
        lines = [f"{'MiB':{width}}{'before':>9}{'at most':>9}{'after':>9}"]
        for part in self.parts:
            first, *_, last = part.sizes
            lines.append(f"{part.title:{width}}{first:9.1f}{part.most:9.1f}{last:9.1f}")
        return "\n".join(lines)


def memories(servers: Mapping[str, Server], deed: Callable[[Server], object]) -> Memories:
    """Do the same to each server, one after another, and look at its memory all the while.

    Each server goes by the name given. What the deed raises is raised. Raises Mistake for no
    server, or for one that has ended.
    """
    if not servers:
        raise Mistake("needed a server to look at")
    return Memories(tuple(_watched(name, server, deed) for name, server in servers.items()))


def _watched(title: str, server: Server, deed: Callable[[Server], object]) -> Memory:
    """Look before, while the deed is done, and for a while afterwards."""
    beginning, samples = perf_counter(), [(0.0, memory(server) / 2**20)]
    with ThreadPoolExecutor(1) as hands:
        done = hands.submit(deed, server)
        for _ in _glances(done):
            samples.append((perf_counter() - beginning, memory(server) / 2**20))
    done.result()
    return Memory(title, tuple(samples))


def _glances(done: Future[object]) -> Iterator[None]:
    """Come round every GLANCE until it is done, and AFTERWARDS so many times more."""
    while not wait([done], GLANCE).done:
        yield
    for _ in range(AFTERWARDS):
        sleep(GLANCE)
        yield
