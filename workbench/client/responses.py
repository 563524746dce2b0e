"""Answers taken out of the bytes that came, as h11 reads them.

A stage is judged by another's reading of RFC 9112, and a broken answer is shown, not raised.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import h11

BLANK_LINE = re.compile(rb"\n\r?\n")
LENGTH = re.compile(rb"(?im)^content-length:[ \t]*([0-9]{1,18})")
CHUNKED = re.compile(rb"(?im)^transfer-encoding:.*chunked")
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[^\n]*\n")
BODILESS = re.compile(rb"HTTP/1\.[01] (1..|204|304)")
LONGEST_HEAD = 2**24  # bytes; h11 alone would refuse more than 16 KB

Length = Callable[[bytes, bytes, int], int]  # head, all bytes, where in them its body begins


@dataclass(frozen=True)
class Answer:
    """One answer; `span` is its place in the bytes received, 1xx answers before it left out.

    `fault` says what is wrong with it (None: nothing) and `fault_at` where in the bytes received.
    What h11 refuses is taken apart as well as may be; its status is 0 if it has none.
    """

    status: int
    reason: str
    version: str
    headers: list[tuple[str, str]]
    body: bytes
    span: tuple[int, int]
    fault: str | None = None
    fault_at: int | None = None

    def header(self, name: str) -> str | None:
        """Return a header's value, its name in any case; repeated ones joined (RFC 9110 §5.3)."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        return ", ".join(values) if values else None

    @property
    def text(self) -> str:
        """The body read as UTF-8; what is not UTF-8 becomes a question mark."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:  # noqa: ANN401 - JSON is any of seven types
        """Return the value that the body spells. Raises ValueError if it is not JSON."""
        return json.loads(self.body)

    def moved(self, by: int) -> Answer:
        """Return the same answer as seen in a record that begins `by` bytes later."""
        at = None if self.fault_at is None else self.fault_at - by
        return replace(self, span=(max(self.span[0] - by, 0), self.span[1] - by), fault_at=at)


class AnswerReader:
    """Takes answers from a stream as it comes; `sent` (it may grow) tells which are to a HEAD.

    `answers` are the whole ones so far; `fault` is h11's objection, after which no more are read.
    """

    def __init__(self, sent: bytes | bytearray = b"") -> None:
        self.received = bytearray()
        self.answers: list[Answer] = []
        self.fault: str | None = None
        self._sent = sent
        self._heads: list[bool] = []  # for each request whether it is a HEAD
        self._begin()

    def feed(self, data: bytes) -> None:
        """Read on with what has come; b"" says that the connection was closed."""
        self.received += data
        try:
            if data or self._start < len(self.received):
                self._parser.receive_data(data)
            while self.fault is None and self._step():
                pass
        except h11.RemoteProtocolError as error:
            self.fault = str(error)

    def rest(self, reason: str) -> list[Answer]:
        """Return what is left over, if any, as an answer with a fault: h11's, or the reason."""
        if self._start == len(self.received):
            return []
        broken = dissect(bytes(self.received[self._start :])).moved(-self._start)
        if self.answers and not broken.status:
            fault, at = "there are bytes behind the end of the answer", self._start
        elif self.fault:
            fault, at = self.fault, self._start
        else:
            fault, at = f"the answer is not whole: {reason}", len(self.received)
        return [replace(broken, fault=fault, fault_at=at)]

    def _begin(self, data: bytes = b"") -> None:
        """Start on the next answer, `data` being what has already come of it."""
        self._start = len(self.received) - len(data)
        self._head: h11.Response | None = None
        self._body = bytearray()
        self._parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=LONGEST_HEAD)
        self._asked = False
        if data:
            self._parser.receive_data(data)

    def _ask(self) -> None:
        """Tell h11 what the answer that now comes is to: that much is known by now."""
        method = "HEAD" if self._asks_for_head() else "GET"
        self._parser.send(h11.Request(method=method, target="/", headers=[("Host", "any")]))
        self._parser.send(h11.EndOfMessage())
        self._asked = True

    def _asks_for_head(self) -> bool:
        if b"HEAD " not in self._sent:  # to take a hundred megabytes apart would cost seconds
            return False
        number = len(self.answers)
        if number >= len(self._heads):
            heads = (head.lstrip() for head, _ in messages(bytes(self._sent)))
            whole = (head for head in heads if head.endswith((b"\n\r\n", b"\n\n")))
            self._heads = [head.startswith(b"HEAD ") for head in whole]
        return number < len(self._heads) and self._heads[number]

    def _step(self) -> bool:
        """Let h11 read one thing; say whether there may be more."""
        if not self._asked:
            self._ask()
        match self._parser.next_event():
            case h11.InformationalResponse():
                self._start = self._position()
            case h11.Response() as head:
                self._head = head
            case h11.Data(data=data):
                self._body += data
            case h11.EndOfMessage():
                self.answers.append(self._whole())
                self._begin(self._parser.trailing_data[0])
                return self._start < len(self.received)
            case _:  # all is read, for now or for good
                return False
        return True

    def _position(self) -> int:
        return len(self.received) - len(self._parser.trailing_data[0])

    def _whole(self) -> Answer:
        """Return the answer that has just ended, with our own objection where h11 is lenient."""
        assert self._head is not None
        span = self._start, self._position()
        reason, version = self._head.reason.decode("latin-1"), self._head.http_version.decode()
        fields = _text(self._head.headers.raw_items())
        whole = Answer(self._head.status_code, reason, version, fields, bytes(self._body), span)
        head, _ = messages(bytes(self.received[slice(*span)]))[0]
        alone = re.search(rb"(?<!\r)\n", head)
        if alone is None:
            return whole
        fault = "a line of the head ends in LF alone; needed CR LF (RFC 9112 §2.1)"
        return replace(whole, fault=fault, fault_at=span[0] + alone.start())


def body_length(head: bytes, data: bytes, at: int) -> int:
    """Say how many bytes from `at` on are this head's body (RFC 9112 §6.3, leniently)."""
    if BODILESS.match(head) or data.startswith(b"HTTP/1.", at):
        return 0
    if CHUNKED.search(head):
        return _end_of_chunks(data, at) - at
    if announced := LENGTH.search(head):
        return int(announced[1])
    return len(data) if head.startswith(b"HTTP/") else 0


def _end_of_chunks(data: bytes, at: int) -> int:
    """Find where chunks end, behind the blank line after the one of size 0, or all bytes end."""
    while (line := CHUNK_SIZE.match(data, at)) and (size := int(line[1], 16)):
        at = line.end() + size + len(b"\r\n")
    blank = BLANK_LINE.search(data, line.end() - 1) if line else None  # behind any trailers
    return blank.end() if blank else len(data)


def messages(data: bytes, length: Length = body_length) -> list[tuple[bytes, bytes]]:
    """Split the bytes of one direction into heads, each up to its blank line, and bodies.

    Objects to nothing: a body is as long as `length` says, or ends where the bytes end.
    """
    found, start = [], 0
    while start < len(data):
        blank = BLANK_LINE.search(data, start)
        middle = blank.end() if blank else len(data)
        end = min(middle + length(data[start:middle], data, middle), len(data))
        found.append((data[start:middle], data[middle:end]))
        start = end
    return found


def dissect(data: bytes) -> Answer:
    """Take apart one answer whatever state it is in."""
    head, _, body = data.partition(b"\r\n\r\n")
    line, *lines = head.split(b"\r\n")
    found = re.match(r"HTTP/([0-9]\.[0-9]) ([0-9]{3}) ?(.*)", line.decode("latin-1"))
    version, status, reason = found.groups() if found else ("", "0", "")
    pairs = (line.partition(b":") for line in lines)
    fields = _text((name, value.strip()) for name, colon, value in pairs if colon)
    return Answer(int(status), reason, version, fields, body, (0, len(data)))


def _text(fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Decode header names and values as they came; HTTP calls for no more than Latin-1."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields]
