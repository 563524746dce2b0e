r"""Raw bytes to a server and back: a visitor who says what it likes, and a record of the talk.

`say(server, b"GET / HTTP/1.1\r\nHost: any\r\n\r\n")` returns an Exchange, which a terminal and
a notebook show with CR LF visible, and with the `curl` line that says the same.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Literal, Protocol, Self

from rich.text import Text

from workbench.client import curl
from workbench.client.render import Segment, both_ways, caret, html_text, plain, rich_text
from workbench.client.responses import Answer, AnswerReader
from workbench.errors import Mistake

__all__ = ["Address", "Answer", "Ending", "Exchange", "Moments", "NoAnswer", "Visitor"]
__all__ += ["caret", "request", "say"]

Address = tuple[str, int]
Ending = Literal["closed", "reset", "open", "timeout", "refused", "flood"]

ENDINGS: dict[Ending, str] = {
    "closed": "the server closed the connection",
    "reset": "the connection was reset",
    "open": "the connection is still open",
    "timeout": "nothing more came within the time allowed",
    "refused": "the connection was refused: nobody listens there",
    "flood": "more came than anybody would read",
}
FLOOD = 2**27  # bytes of one reading: a server without end must not use up the machine
SHOWN_COMMAND = 600  # characters of the curl line
BEGUN = {0, errno.EINPROGRESS, errno.EWOULDBLOCK}  # what a connection that is being made returns
LINGER = "hh" if os.name == "nt" else "ii"


class NoAnswer(Mistake):
    """An answer was wanted and none came; the text says what came instead."""


class Addressed(Protocol):
    """Whatever has an address to call, such as a `launch.Server`."""

    @property
    def address(self) -> Address:
        """Host and port."""


@dataclass(frozen=True)
class Moments:
    """When things happened, in seconds of `time.perf_counter`; None for what never did.

    `started` is when the visitor began to connect or, later, ended its reading before; `ended` is
    when the reading ended.
    """

    started: float
    connected: float | None = None
    sent: float | None = None
    first_byte: float | None = None
    last_byte: float | None = None
    ended: float | None = None


@dataclass(frozen=True)
class Exchange:
    """What was said and heard since the visitor's reading before, and how it ended."""

    address: Address
    sent: bytes
    received: bytes
    ending: Ending
    moments: Moments
    answers: list[Answer]

    @property
    def answer(self) -> Answer:
        """The first answer. Raises NoAnswer if there is none."""
        if not self.answers:
            count = f"{len(self.received)} bytes came" if self.received else "not a byte came"
            raise NoAnswer(f"needed an answer, but {count}: {ENDINGS[self.ending]}")
        return self.answers[0]

    @property
    def curl(self) -> str:
        """The line for a POSIX shell that sends the same: `curl`, or what is not HTTP by `nc`."""
        return curl.command(self.sent, self.address)

    def _segments(self) -> Iterator[Segment]:
        host, port = self.address
        yield "note", f"→ {len(self.sent):,} bytes sent to {host}:{port}\n"
        yield from both_ways(self.sent)
        yield "note", f"← {self._summary()}\n"
        yield from both_ways(self.received)
        for fault in filter(None, (answer.fault for answer in self.answers)):
            yield "wrong", f"✗ {fault}\n"
        left = len(self.curl) - SHOWN_COMMAND
        yield "note", f"$ {self.curl[:SHOWN_COMMAND]}"
        yield "note", f" … {left:,} characters left out\n" if left > 0 else "\n"

    def _summary(self) -> str:
        if self.moments.first_byte is None:
            return f"nothing received: {ENDINGS[self.ending]}"
        wait = max(self.moments.first_byte - (self.moments.sent or self.moments.started), 0) * 1000
        came = f"{len(self.received):,} bytes received, the first after {wait:,.1f} ms"
        return f"{came}; {ENDINGS[self.ending]}"

    def __str__(self) -> str:
        return plain(list(self._segments()))

    def __rich__(self) -> Text:
        return rich_text(list(self._segments()))

    def _repr_html_(self) -> str:
        return html_text(list(self._segments()))


class Visitor:
    """One connection, to say raw bytes on; use it in a `with`.

    It connects at once, or with `wait=False` only begins to, and has arrived by its first `send`
    or `read`. `timeout` in seconds bounds the connecting, each `send` and each `read`. What the
    network does to it is not raised but reported as an Exchange's ending.
    """

    def __init__(self, address: Address, timeout: float = 10.0, *, wait: bool = True) -> None:
        self.address, self.timeout = address, timeout
        self._sent = bytearray()
        self._reader = AnswerReader(self._sent)
        self._told = self._heard = self._taken = 0  # bytes, bytes and answers already reported
        self._ending: Ending | None = None
        self._connected = False
        self._socket = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._moments = Moments(perf_counter())
        self._knock()
        if wait:
            self.arrive()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _knock(self) -> None:
        """Begin to connect; several visitors who do arrive in this order."""
        self._socket.setblocking(False)
        with self._reported():
            if (code := self._socket.connect_ex(self.address)) not in BEGUN:
                raise OSError(code, os.strerror(code))

    def arrive(self) -> None:
        """Wait until the connection is made or refused."""
        if self._connected or self._ending:
            return
        with self._reported(), selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_WRITE)
            if not selector.select(self.timeout):
                raise TimeoutError
            if code := self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(code, os.strerror(code))
            self._connected = True
            self._moments = replace(self._moments, connected=perf_counter())

    def send(self, data: bytes, by: int | None = None) -> None:
        """Send the bytes, `by` so many at a time if given; what was sent when it fails is kept."""
        self.arrive()
        if not self._connected:
            return
        self._socket.settimeout(self.timeout)
        step = by or len(data) or 1
        with self._reported(TimeoutError):
            for start in range(0, len(data), step):
                self._send_all(memoryview(data)[start : start + step])

    def _send_all(self, data: memoryview) -> None:
        while data:
            count = self._socket.send(data)
            self._sent += data[:count]
            self._moments = replace(self._moments, sent=perf_counter())
            data = data[count:]

    def fileno(self) -> int:
        """Return the socket's number, so that a selector can wait for the visitor."""
        return self._socket.fileno()

    def finish(self) -> None:
        """Say that nothing more will be sent (half close), and go on listening."""
        self.arrive()
        with contextlib.suppress(OSError):  # gone already: reading will tell
            self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Break the connection off, so that the server sees a reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(LINGER, 1, 0))
        self.close()

    def close(self) -> None:
        """Leave; twice does no harm."""
        self._socket.close()

    def read(self, answers: int | None = None, *, until: bytes | None = None) -> Exchange:
        """Read until so many whole answers have come, or `until` is seen, or else to the end.

        1xx answers don't count. Never reads for longer than the visitor's timeout in all. What
        came behind the last answer asked for is kept for the next read.
        """
        self.arrive()
        deadline = perf_counter() + self.timeout
        ending = None if self._connected else self._ending
        while ending is None and not self._enough(answers, until):
            ending = self._receive(deadline)
        return self._report(answers, ending or "open")

    def _enough(self, answers: int | None, until: bytes | None) -> bool:
        if until is not None:
            return self._reader.received.find(until, self._heard) >= 0
        if answers is None:
            return False
        return self._reader.fault is not None or len(self._reader.answers) - self._taken >= answers

    def _receive(self, deadline: float) -> Ending | None:
        """Wait for more; return how the connection ended, or None if it goes on."""
        try:
            self._socket.settimeout(max(deadline - perf_counter(), 0.001))
            data = self._socket.recv(65536)
        except OSError as error:
            return _ending(error)
        self._reader.feed(data)
        if not data:
            return self._ending or "closed"
        now = perf_counter()
        first = now if self._moments.first_byte is None else self._moments.first_byte
        self._moments = replace(self._moments, first_byte=first, last_byte=now)
        return "flood" if len(self._reader.received) - self._heard > FLOOD else None

    def _report(self, answers: int | None, ending: Ending) -> Exchange:
        """Make the record of what is new since the last one."""
        whole = self._reader.answers[self._taken :][:answers]
        enough = answers is not None and len(whole) == answers > 0
        end = whole[-1].span[1] if enough else len(self._reader.received)
        rest = (
            []
            if enough or (ending == "open" and not self._reader.fault)
            else self._reader.rest(ENDINGS[ending])
        )
        record = Exchange(
            self.address,
            bytes(self._sent[self._told :]),
            bytes(self._reader.received[self._heard : end]),
            ending,
            replace(self._moments, ended=perf_counter()),
            [answer.moved(self._heard) for answer in (*whole, *rest)],
        )
        self._told, self._heard, self._taken = len(self._sent), end, self._taken + len(whole)
        self._moments = Moments(perf_counter(), self._moments.connected)
        return record

    @contextlib.contextmanager
    def _reported(self, *ignored: type[OSError]) -> Iterator[None]:
        """Remember what the network did as the ending; a bug of ours is still raised."""
        try:
            yield
        except ignored:
            pass
        except OSError as error:
            self._ending = _ending(error)


def _ending(error: OSError) -> Ending:
    """Tell a network's three ways of failing apart. Raises the error again if it is no such."""
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, ConnectionError) or error.errno == errno.EPROTOTYPE:  # macOS, in a race
        return "reset"
    raise error


def request(path: str, address: Address, *, close: bool = True) -> bytes:
    """Write a GET request; with `close`, it asks the server to close the connection afterwards."""
    host, port = address
    last = "Connection: close\r\n" if close else ""
    return f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n{last}\r\n".encode()


def say(
    server: Address | Addressed,
    *chunks: bytes,
    answers: int | None = None,
    finish: bool = False,
    timeout: float = 10.0,
) -> Exchange:
    """Connect, send the chunks one by one, half-close if `finish`, and read as `Visitor.read` does.

    `server` is (host, port) or has an `address`; `timeout` is in seconds, as for a Visitor.
    """
    address = server if isinstance(server, tuple) else server.address
    with Visitor(address, timeout) as visitor:
        for chunk in chunks:
            visitor.send(chunk)
        if finish:
            visitor.finish()
        return visitor.read(answers)
