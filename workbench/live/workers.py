"""Who of a stage's threads serves whom, as far as its own log tells.

The log says when a connection was accepted, and names a thread only with the answer. Until then a
worker of a pool is assumed: connections are taken in their order by whoever is free.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from workbench.live.proxy import Call

POOL = re.compile(r'^WORKERS = \w+\("WORKERS", ([0-9]+)', re.MULTILINE)
LINE = re.compile(r"(?: *([0-9]+) ms  (\S+) +)?connection ([0-9]+)(?: from \S+:([0-9]+)$|: )")
SPELLS = 60  # of one thread, that are kept


@dataclass(frozen=True)
class Line:
    """A line of the log about a connection: `port` is the caller's where it was accepted.

    `at` is in seconds since the stage began, None before s06; so is no thread named there.
    """

    at: float | None
    thread: str
    name: int
    port: int | None


def understood(line: str) -> Line | None:
    """Read a line of a stage's log, or None for one that is about no connection."""
    if not (found := LINE.match(line)):
        return None
    ms, thread, name, port = found.groups()
    at = int(ms) / 1000 if ms else None
    return Line(at, thread or "MainThread", int(name), int(port) if port else None)


def crew(source: str, workers: str | None) -> list[str] | None:
    """Name those who serve in a stage of this source: WORKERS of a pool, or the main thread.

    None for a stage that makes a thread for each connection.
    """
    if found := POOL.search(source):
        return [f"worker-{number}" for number in range(1, int(workers or found[1]) + 1)]
    return None if "threading.Thread(" in source else ["MainThread"]


@dataclass
class Spell:
    """What a thread does for one connection; `known` unless it is only assumed."""

    call: Call
    start: float
    known: bool
    end: float | None = None


@dataclass
class Lane:
    """A thread, and whom it served; in `spells`, the last one may go on."""

    number: int
    name: str
    spells: deque[Spell] = field(default_factory=lambda: deque(maxlen=SPELLS))
    _seen: object = None

    @property
    def spell(self) -> Spell | None:
        """What it does now."""
        return self.spells[-1] if self.spells and self.spells[-1].end is None else None

    def changed(self) -> bool:
        """Tell whether there is something new since this was asked before."""
        before, self._seen = self._seen, self.view()
        return before != self._seen

    def begin(self, spell: Spell) -> None:
        """Serve, but not before the one before was served."""
        ends = [one.end for one in self.spells if one.end is not None]
        spell.start = max([spell.start, *ends[-1:]])
        self.spells.append(spell)

    def finish(self, at: float) -> None:
        """Serve no longer."""
        if self.spell:
            self.spell.end = max(at, self.spell.start)

    def view(self) -> dict[str, Any]:
        """Return what the page shows: for each spell the connection, from, until, and `known`."""
        spells = [(one.call.number, one.start, one.end, one.known) for one in self.spells]
        return {"lane": self.number, "name": self.name, "spells": spells}


class Crew:
    """The threads of a stage; `names` as `crew` gives them, None for one for each connection."""

    def __init__(self, names: Sequence[str] | None) -> None:
        self.lanes = [Lane(number, name) for number, name in enumerate(names or ())]
        self.fixed = names is not None
        self._known = names is None or len(names) == 1
        self._queue: deque[Call] = deque()

    def accept(self, call: Call, thread: str, at: float) -> None:
        """Note that a thread has accepted a connection: whoever is free takes it, or it queues."""
        if not self.fixed:
            slot = next((lane for lane in self.lanes if not lane.spell), None) or self._new("")
            slot.name = f"connection-{call.name}"
        if lane := self._lane(thread):
            lane.finish(at)
        self._queue.append(call)
        self._hand_out(at)

    def say(self, thread: str, call: Call, at: float) -> None:
        """Note that a thread has said something of a connection, so that it must be serving it."""
        if call.ending == "reset":
            call.released = call.released or at
        lane = self._lane(thread)
        if lane is None and thread != "MainThread":
            lane = self._new(thread)
        if lane and lane.spell and lane.spell.call is call:
            lane.spell.known = True
        elif lane:
            self._correct(lane, call, at)

    def settle(self, until: float) -> None:
        """Free whoever served a connection that was over by then, and hand out the queue."""
        while over := [one for lane in self.lanes if (one := lane.spell) and _over(one) <= until]:
            spell = min(over, key=_over)
            at = max(_over(spell), spell.start)
            spell.end = at
            self._hand_out(at)

    def _lane(self, thread: str) -> Lane | None:
        return next((lane for lane in self.lanes if lane.name == thread), None)

    def _new(self, name: str) -> Lane:
        self.lanes.append(Lane(len(self.lanes), name))
        return self.lanes[-1]

    def _hand_out(self, at: float) -> None:
        """Give the first in the queue to the first who is free; who has gone meanwhile is not."""
        for lane in self.lanes:
            while self._queue and not lane.spell:
                call = self._queue.popleft()
                if call.released is None or call.released > at:
                    lane.begin(Spell(call, max(at, call.inside), self._known))

    def _correct(self, lane: Lane, call: Call, at: float) -> None:
        """Let a thread have the connection that it speaks of, and exchange those assumed."""
        holder = next((one for one in self.lanes if one.spell and one.spell.call is call), None)
        if lane.spell and lane.spell.known:
            lane.finish(at)
        assumed = lane.spells.pop() if lane.spell else None
        lane.begin(holder.spells.pop() if holder else Spell(call, call.inside, known=True))
        lane.spells[-1].known = True
        if call in self._queue:
            self._queue.remove(call)
        if assumed and holder:
            holder.begin(assumed)
        elif assumed:
            self._queue.appendleft(assumed.call)
        self._hand_out(at)


def _over(spell: Spell) -> float:
    """Return when a connection ceased to need its thread, which may be never."""
    return math.inf if spell.call.released is None else spell.call.released
