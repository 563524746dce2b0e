"""A careless guard before a server, as a proxy is: one who goes by Content-Length alone.

`with Guard(server, "/health") as guard: say(guard, b"GET / HTTP/1.1…")` lets everybody through to
the server, unless he asks for the path that is forbidden.
"""

from __future__ import annotations

import threading
from socketserver import StreamRequestHandler, TCPServer
from typing import Self

from workbench.client.client import Address, Addressed, Visitor
from workbench.measure.smuggling import announced

FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
PATIENCE = 10.0  # seconds for a visitor to say the next byte, and for the server to answer
GLANCE = 0.02  # seconds between two looks whether he may go


class Guard(TCPServer):
    """Takes one request from each visitor, one after another, to the server and an answer back.

    All go over one connection, which he opens again when the server has closed it. `seen` lists
    what he has seen: `GET /`, or `GET /health: forbidden`. Use it in a `with`.
    """

    def __init__(self, server: Addressed, forbidden: str) -> None:
        super().__init__(("127.0.0.1", 0), _Passage)
        self.behind, self.forbidden = server, forbidden
        self.seen: list[str] = []
        self._way: Visitor | None = None
        self._thread = threading.Thread(
            target=self.serve_forever, args=(GLANCE,), name="guard", daemon=True
        )

    @property
    def address(self) -> Address:
        """Where he stands."""
        return "127.0.0.1", self.socket.getsockname()[1]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self._leave()
        self.server_close()

    def answer(self, request: bytes) -> bytes:
        """Refuse what is forbidden; take the rest to the server, and return its next answer."""
        words = request.split(maxsplit=2)[:2]
        self.seen.append(b" ".join(words).decode("latin-1"))
        if words[1:] and words[1].partition(b"?")[0] == self.forbidden.encode():
            self.seen[-1] += ": forbidden"
            return FORBIDDEN
        self._way = self._way or Visitor(self.behind.address, PATIENCE)
        self._way.send(request)
        exchange = self._way.read(answers=1)
        if not exchange.answers or exchange.answer.header("Connection") == "close":
            self._leave()
        return exchange.received

    def _leave(self) -> None:
        if self._way:
            self._way.close()
        self._way = None


class _Passage(StreamRequestHandler):
    """One visitor's way past the guard."""

    timeout = PATIENCE
    server: Guard

    def handle(self) -> None:
        """Read a head up to its blank line, and then as many bytes as its Content-Length says."""
        head = b""
        while (line := self.rfile.readline()).strip():
            head += line
        head += line
        if head:
            self.wfile.write(self.server.answer(head + self.rfile.read(announced(head))))
