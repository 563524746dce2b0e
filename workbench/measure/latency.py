"""A distance between visitors and a server, and what it costs to come again and again.

`with far(server, milliseconds=20) as there:` puts a relay before the server, and
`one_by_one(there, paths)` sends it a visitor who asks for one path after another.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from time import perf_counter

from workbench.client.client import Address, Exchange, Visitor, request
from workbench.measure.timeline import Timeline, Visit
from workbench.server.launch import Server

UNDER_WAY = 64  # pieces of at most 64 KiB that travel in one direction; the next has to wait


@dataclass(frozen=True)
class Far:
    """Where a distant server is reached; `journey` is how long a byte travels, in seconds."""

    title: str
    address: Address
    journey: float


@contextlib.contextmanager
def far(server: Server, milliseconds: float = 20.0) -> Iterator[Far]:
    """Put a distance before a server: whatever is said travels for so long, in each direction.

    As with TCP, nothing said on a new connection leaves before a greeting has gone there and back.
    (The relay's own greeting takes no time, so it holds the first words back for as long.) Nothing
    is lost, and no line is narrow. Whoever breaks off is heard to end. At the end all are cut off.
    """
    journey, over = milliseconds / 1000, threading.Event()
    title = f"{server.title}, {milliseconds:g} ms away"
    with socket.create_server(("127.0.0.1", 0)) as door, ThreadPoolExecutor(1, "far") as relay:
        working = relay.submit(asyncio.run, _relay(door, server.address, journey, over))
        try:
            yield Far(title, door.getsockname(), journey)
        finally:
            over.set()
            working.result()


async def _relay(
    door: socket.socket, address: Address, journey: float, over: threading.Event
) -> None:
    """Join every caller with the server at the address, until it is over."""
    relay = await asyncio.start_server(partial(_join, address, journey), sock=door)
    await asyncio.to_thread(over.wait)
    relay.close()


async def _join(
    address: Address, journey: float, hear: asyncio.StreamReader, tell: asyncio.StreamWriter
) -> None:
    """Greet a caller, and carry all that he and the server say to each other."""
    with contextlib.ExitStack() as hanging_up:
        hanging_up.callback(tell.close)
        try:
            await asyncio.sleep(2 * journey)
            reader, writer = await asyncio.open_connection(*address)
            hanging_up.callback(writer.close)
            async with asyncio.TaskGroup() as both:
                both.create_task(_carry(hear, writer, journey))
                both.create_task(_carry(reader, tell, journey))
        except* (OSError, asyncio.CancelledError):  # somebody has gone, or it is over
            pass


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, journey: float
) -> None:
    """Bring each piece to the other side a journey after it came; the last, b"", is the end."""
    now = asyncio.get_running_loop().time
    road: asyncio.Queue[tuple[bytes, float]] = asyncio.Queue(UNDER_WAY)

    async def arrive() -> None:
        data = b"not yet"
        while data:
            data, due = await road.get()
            await asyncio.sleep(due - now())
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    async with asyncio.TaskGroup() as travelling:
        travelling.create_task(arrive())
        while data := await reader.read(65536):
            await road.put((data, now() + journey))
        await road.put((data, now() + journey))


def one_by_one(server: Server | Far, paths: Sequence[str], timeout: float = 10.0) -> Timeline:
    """Send a visitor who asks for each path as soon as he has the answer to the one before.

    He uses a connection until an answer says `Connection: close`, and then makes another. The
    greeting over a distance is drawn as connecting, which it stands for. `timeout` is how long each
    answer may take, in seconds. Raises NoAnswer if there is none.
    """
    greeting = 2 * server.journey if isinstance(server, Far) else 0.0
    beginning, left, visits = perf_counter(), deque(paths), list[Visit]()
    while left:
        with Visitor(server.address, timeout) as visitor:
            keep = True
            while keep and left:
                path = left.popleft()
                visitor.send(request(path, server.address, close=False))
                exchange = visitor.read(answers=1)
                visits.append(_visit(path, exchange, beginning, greeting))
                keep = "close" not in (exchange.answer.header("connection") or "").lower()
    return Timeline(server.title, tuple(visits))


def _visit(path: str, exchange: Exchange, beginning: float, greeting: float) -> Visit:
    """Turn an exchange into seconds since the beginning; a used connection need not be made."""
    moments, status = exchange.moments, exchange.answer.status
    marks = moments.started, moments.connected, moments.first_byte, moments.last_byte
    started, connected, first_byte, last_byte = (at - beginning for at in marks if at is not None)
    return Visit(
        path, started, max(started, connected + greeting), first_byte, last_byte, status, None
    )
