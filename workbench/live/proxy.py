"""A proxy that changes nothing: who comes through it to a server, what passes, and when.

Bytes, half-closes and resets are passed on both ways. Each visitor becomes a Call, whose phases are
what can be seen from outside; when the server took him in, only its own log can tell.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import Any, Literal, Self

from workbench.client.client import LINGER, Address
from workbench.client.render import Segment, both_ways, visible
from workbench.client.responses import AnswerReader, messages

CHUNK = 2**16  # bytes that are passed on at a time
KEPT = 2**16  # bytes of each direction of an exchange
READ = 2**20  # bytes in which the end of an answer is looked for
PAST = 50  # exchanges of one connection whose times are kept
CALLS = 200  # connections that are kept
SHOWN_LINE = 80  # characters of a request's first line
FAREWELL = 60.0  # seconds that a visitor has to leave, once the server has
BEGAN = perf_counter()

Phase = Literal["connecting", "asking", "waiting", "being answered", "failed"]
Ending = Literal["closed by the stage", "reset by the stage", "refused", "left", "reset"]


def clock() -> float:
    """Return the seconds since this program began to watch."""
    return perf_counter() - BEGAN


class Talk:
    """One exchange: what a visitor asked until he was answered, and what he got.

    `asked_at` is when the head of his request was whole, `first_byte` and `whole_at` are of the
    answer; None for what has not been. Bytes beyond KEPT in a direction are only counted.
    """

    def __init__(self) -> None:
        self.sent, self.received = bytearray(), bytearray()
        self.more_sent = self.more_received = 0
        self.asked = self.answered = 0  # whole heads, whole answers
        self.status: int | None = None
        self.asked_at: float | None = None
        self.first_byte: float | None = None
        self.whole_at: float | None = None
        self._reader: AnswerReader | None = AnswerReader(self.sent)

    @property
    def over(self) -> bool:
        """Whether all that was asked is answered."""
        return self.answered >= max(self.asked, 1)

    @property
    def line(self) -> str:
        """The first line of the last request, as much as has come of it."""
        heads = [head for head, _ in messages(bytes(self.sent))]
        line = heads[-1].partition(b"\n")[0].strip() if heads else b""
        return visible(line.removesuffix(b" HTTP/1.1"))[:SHOWN_LINE]

    def say(self, data: bytes) -> None:
        """Note what the visitor sends."""
        kept = data[: KEPT - len(self.sent)]
        self.sent += kept
        self.more_sent += len(data) - len(kept)
        if kept:
            heads = (head for head, _ in messages(bytes(self.sent)))
            self.asked = sum(head.endswith((b"\n\r\n", b"\n\n")) for head in heads)
        if self.asked and self.asked_at is None:
            self.asked_at = clock()

    def hear(self, data: bytes) -> None:
        """Note what the server sends; b"" says that it will send no more."""
        kept = data[: KEPT - len(self.received)]
        self.received += kept
        self.more_received += len(data) - len(kept)
        if data and self.first_byte is None:
            self.first_byte = clock()
        if self._reader:
            self._read(self._reader, data)

    def _read(self, reader: AnswerReader, data: bytes) -> None:
        """Look for the end of an answer, in what can be read of it."""
        reader.feed(data)
        if reader.answers:
            self.answered, self.status = len(reader.answers), reader.answers[-1].status
        if self.over:
            self.whole_at = clock()
        if self.over or not data or len(reader.received) > READ:
            self._reader = None

    def segments(self) -> list[Segment]:
        """Return both directions for a reader's eyes."""
        found: list[Segment] = []
        for arrow, who, data, more in (
            ("→", "the visitor sent", self.sent, self.more_sent),
            ("←", "the stage sent", self.received, self.more_received),
        ):
            found.append(("note", f"{arrow} {who} {len(data) + more:,} bytes\n"))
            found += both_ways(bytes(data))
            found += [("note", f"… {more:,} bytes were not kept\n")] if more else []
        return found


class Call:
    """One connection, with its exchanges; `port` is the one that the stage sees it come from.

    `name` is the number that the stage's log gives it, and `accepted` when it did so.
    """

    def __init__(self, number: int) -> None:
        self.number, self.started = number, clock()
        self.port: int | None = None
        self.name: int | None = None
        self.accepted: float | None = None
        self.left = False  # the visitor will send no more
        self.ended: float | None = None
        self.released: float | None = None  # its thread has no more to do with it
        self.ending: Ending | None = None
        self.talk = Talk()
        self._past: deque[Talk] = deque(maxlen=PAST)
        self._bytes = [0, 0]

    def say(self, data: bytes) -> None:
        """Note what the visitor sends; behind an answer it begins a new exchange."""
        self._bytes[0] += len(data)
        if not data:
            self.left = True
            return
        if self.talk.over:
            self.talk.sent, self.talk.received = bytearray(), bytearray()
            self._past.append(self.talk)
            self.talk = Talk()
        self.talk.say(data)

    def hear(self, data: bytes) -> None:
        """Note what the server sends; b"" says that it has hung up."""
        self._bytes[1] += len(data)
        self.talk.hear(data)
        if not data:
            self.end("left" if self.left and not self.talk.over else "closed by the stage")

    def forget(self) -> None:
        """Keep no bytes any longer."""
        self.talk = Talk()

    def end(self, ending: Ending) -> None:
        """Note how it ended; what comes later changes nothing."""
        if self.ended is None:
            self.ended, self.ending = clock(), ending
            if ending != "reset" or self.talk.over:  # else it may not have noticed yet
                self.released = self.ended

    @property
    def failed(self) -> bool:
        """Whether the visitor did not get what he came for, and it was not he who left."""
        cheated = bool(self.talk.asked or self.talk.first_byte) and not self.talk.over
        hung_up_on = self.ending == "closed by the stage" and cheated
        return hung_up_on or self.ending in ("refused", "reset by the stage")

    @property
    def inside(self) -> float:
        """When the stage had it at the latest, or for one that it has not: now."""
        first = (self._past[0] if self._past else self.talk).first_byte
        seen = (at for at in (self.accepted, first) if at is not None)
        return max(min(seen, default=clock()), self.started)

    def phases(self) -> list[tuple[Phase, float]]:
        """List what it went through, each phase with its beginning; the last one goes on.

        It is connecting until the stage has accepted it, which the system may have done long ago.
        """
        found: list[tuple[Phase, float]] = [("connecting", self.started)]
        if self.accepted is not None or self.talk.first_byte is not None or self._past:
            at: float | None = (inside := self.inside)
            for talk in (*self._past, self.talk):
                marks: tuple[tuple[Phase, float | None], ...] = (
                    ("asking", at),
                    ("waiting", talk.asked_at),
                    ("being answered", talk.first_byte),
                )
                found += [(phase, max(mark, inside)) for phase, mark in marks if mark is not None]
                at = talk.whole_at
            found += [] if at is None else [("asking", at)]
        ends = [*(at for _, at in found[1:]), self.ended]
        lasting = [one for one, end in zip(found, ends, strict=True) if end is None or one[1] < end]
        lasting = lasting or found[-1:]
        return [*lasting[:-1], ("failed", lasting[-1][1])] if self.failed else lasting

    def view(self) -> dict[str, Any]:
        """Return what the page shows; times in seconds of `clock`."""
        return {
            "number": self.number,
            "name": self.name,
            "phases": self.phases(),
            "ended": self.ended,
            "ending": self.ending,
            "asked": self.talk.line,
            "status": self.talk.status,
            "sent": self._bytes[0],
            "received": self._bytes[1],
        }


class Proxy:
    """Listens on a port of its own of 127.0.0.1, in an `async with`, and leads to a server.

    `changed` is called with a Call whenever there is something new of it.
    """

    def __init__(self, server: Address, changed: Callable[[Call], object]) -> None:
        self.server, self._changed = server, changed
        self.calls: dict[int, Call] = {}  # by their numbers
        self._count = 0
        self._visits: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._door = await asyncio.start_server(self._admit, "127.0.0.1", 0, backlog=1024)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._door.close()
        for visit in self._visits:
            visit.cancel()
        await asyncio.gather(*self._visits, return_exceptions=True)

    @property
    def address(self) -> Address:
        """Where visitors come in."""
        host, port = self._door.sockets[0].getsockname()
        return host, port

    def lead_to(self, server: Address) -> None:
        """Lead to another server from now on, and begin to count anew."""
        self.server, self._count = server, 0
        self.calls.clear()

    def came_from(self, port: int) -> Call | None:
        """Find the last connection that reached the server from this port."""
        return next((call for call in reversed(self.calls.values()) if call.port == port), None)

    def named(self, name: int) -> Call | None:
        """Find a connection by the number that the server's log gives it."""
        return next((call for call in reversed(self.calls.values()) if call.name == name), None)

    def _welcome(self) -> Call:
        self._count += 1
        call = self.calls[self._count] = Call(self._count)
        if len(self.calls) > CALLS:
            self.calls.pop(next(iter(self.calls))).forget()
        self._changed(call)
        return call

    def _admit(self, visitor: asyncio.StreamReader, to_visitor: asyncio.StreamWriter) -> None:
        visit = asyncio.create_task(self._visit(visitor, to_visitor))
        self._visits.add(visit)
        visit.add_done_callback(self._visits.discard)

    async def _visit(self, visitor: asyncio.StreamReader, to_visitor: asyncio.StreamWriter) -> None:
        """Lead a visitor to the server, and see him through to the end."""
        call = self._welcome()
        try:
            stage, to_stage = await self._knock(call)
        except OSError:
            call.end("refused")
            _reset(to_visitor)
        else:
            await self._converse(call, (visitor, to_visitor), (stage, to_stage))
        self._changed(call)

    async def _knock(self, call: Call) -> Streams:
        """Connect to the server, from a port that is known before its log may name it."""
        door = socket.socket(socket.AF_INET6 if ":" in self.server[0] else socket.AF_INET)
        try:
            door.setblocking(False)
            door.bind(("", 0))
            call.port = door.getsockname()[1]
            await asyncio.get_running_loop().sock_connect(door, self.server)
            return await asyncio.open_connection(sock=door)
        except BaseException:
            door.close()
            raise

    async def _converse(self, call: Call, outside: Streams, inside: Streams) -> None:
        """Pass on what both say until both have finished; a reset of one is a reset of both."""
        (visitor, to_visitor), (stage, to_stage) = outside, inside
        try:
            async with asyncio.timeout(None) as limit, asyncio.TaskGroup() as both:
                both.create_task(self._carry(visitor, to_stage, call, call.say))
                await self._carry(stage, to_visitor, call, call.hear)
                limit.reschedule(asyncio.get_running_loop().time() + FAREWELL)
        except* OSError:
            call.end("reset by the stage" if stage.exception() else "reset")
            _reset(to_visitor)
            _reset(to_stage)
        finally:
            to_visitor.close()
            to_stage.close()

    async def _carry(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        call: Call,
        note: Callable[[bytes], None],
    ) -> None:
        """Pass on one direction to its end, and the end too."""
        more = True
        while more:
            data = await source.read(CHUNK)
            note(data)
            self._changed(call)
            sink.write(data)
            await sink.drain()
            more = bool(data)
        sink.write_eof()


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def _reset(writer: asyncio.StreamWriter) -> None:
    """Break a connection off, so that the other side sees a reset."""
    with suppress(OSError):
        reset_at_once = struct.pack(LINGER, 1, 0)
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, reset_at_once
        )
    writer.transport.abort()
