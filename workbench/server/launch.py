"""Servers started as a user starts them, on a free port, and ended with the program that did so.

`launch("s06")` returns a Server once it listens. Launching a stage again ends the one before. A
server never outlives its parent: a helper process, `reaper.py`, sees to it however that dies.
"""

from __future__ import annotations

import atexit
import contextlib
import html
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Self

from workbench.client import client as wire
from workbench.course.catalogue import Lesson, lesson
from workbench.errors import Mistake
from workbench.server.processes import Process, descendants, kill, spawn
from workbench.server.reaper import REAPER

READY = re.compile(r"Listening on http://([^\s/]+):([0-9]+)")
LAST_WORDS = 15  # lines
PATIENCE = 2.0  # seconds that a polite request to end may take
DEFAULTS = {"HOST": "127.0.0.1", "PORT": "0"}


class DidNotStart(Mistake):
    """A program did not come to listen; the text holds its last words and its exit status."""


class NotSaid(Mistake):
    """A server did not say what was waited for; the text holds what it said last."""


class Server:
    """A running program that serves; a context manager that ends it.

    `title` names it, `process` is its Popen, `host` and `port` are where it listens.
    """

    spawn = staticmethod(spawn)  # how it is started; a judge has another way

    def __init__(self, process: Process, title: str, argv: Sequence[str]) -> None:
        self.process, self.title, self.argv = process, title, list(argv)
        self.since = datetime.now().astimezone()
        self.host, self.port = "", 0
        self._said: list[tuple[str, str]] = []  # the stream's name and the line, as they came
        self._news = threading.Condition()
        self._open = {"stdout", "stderr"}
        self._asked = False
        self._readers = [self._listen_to("stdout"), self._listen_to("stderr")]

    @classmethod
    def start(
        cls,
        argv: Sequence[str],
        *,
        title: str,
        settings: Mapping[str, str],
        cwd: str | Path | None = None,
        timeout: float = 15.0,
    ) -> Self:
        """Start a command with settings in its environment, and wait until it says where it is.

        HOST is 127.0.0.1 and PORT is 0, the system's choice, unless set; `timeout` in seconds.
        Raises DidNotStart.
        """
        REAPER.ready()
        environment = os.environ | DEFAULTS | dict(settings)
        try:
            process = cls.spawn(argv, environment, str(cwd or os.getcwd()))
        except OSError as error:
            raise DidNotStart(f"{title} did not start: {argv[0]}: {error.strerror}") from error
        server = cls(process, title, argv)
        SERVERS.add(server)
        try:
            REAPER.watch(server.process.pid)
            server._await_ready(timeout)
        except BaseException:
            server.stop(0)
            raise
        return server

    @property
    def address(self) -> wire.Address:
        """Where it listens."""
        return self.host, self.port

    @property
    def url(self) -> str:
        """Where it listens, for a browser."""
        host = f"[{self.host}]" if ":" in self.host else self.host  # RFC 3986 §3.2.2
        return f"http://{host}:{self.port}"

    @property
    def stdout(self) -> str:
        """All that it has printed."""
        return self._text("stdout")

    @property
    def stderr(self) -> str:
        """All that it has written to standard error."""
        return self._text("stderr")

    @property
    def log(self) -> str:
        """Both, in the order in which the lines came."""
        return self._text("stdout", "stderr")

    def lines(self, start: int = 0) -> list[str]:
        """List the lines of both from a place on; a negative one counts from the end."""
        with self._news:
            return [text.rstrip("\n") for _, text in self._said[start:]]

    @property
    def running(self) -> bool:
        """Whether the program has not ended."""
        return self._status() is None

    def say(
        self,
        *chunks: bytes,
        answers: int | None = None,
        finish: bool = False,
        timeout: float = 10.0,
    ) -> wire.Exchange:
        """Say bytes on a new connection; see `wire.say`."""
        return wire.say(self, *chunks, answers=answers, finish=finish, timeout=timeout)

    def visit(self, timeout: float = 10.0) -> wire.Visitor:
        """Open a connection; see `wire.Visitor`."""
        return wire.Visitor(self.address, timeout)

    def get(self, path: str = "/", timeout: float = 10.0) -> wire.Exchange:
        """Ask for a path on a connection of its own."""
        return self.say(wire.request(path, self.address), timeout=timeout)

    def interrupt(self) -> None:
        """Press Ctrl-C. Raises NotImplementedError on Windows."""
        if os.name == "nt":
            reason = "Windows cannot send Ctrl-C to one program alone: use .terminate() or .stop()"
            raise NotImplementedError(reason)
        if self.running:
            self.process.send_signal(signal.SIGINT)

    def terminate(self) -> None:
        """Ask it to end (SIGTERM; on Windows it is ended at once)."""
        if self.running:
            self.process.terminate()

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended, and return its exit status; -15 if by signal 15.

        Raises subprocess.TimeoutExpired after `timeout` seconds.
        """
        self.process.wait(timeout)
        for reader in self._readers:
            reader.join(PATIENCE)  # a grandchild may hold the pipe open for longer
        status = self._status()
        assert status is not None
        return status

    def wait_for(self, text: str, timeout: float = 10.0) -> str:
        """Wait until a line of the log holds the text, and return that line.

        Raises NotSaid after `timeout` seconds, or as soon as the program has ended without it.
        """
        with self._news:
            self._news.wait_for(lambda: self._line(text) or not self._open, timeout)
            if (line := self._line(text)) is not None:
                return line
        raise NotSaid(f"needed {text!r} from {self.title}, but {self._last_words()}")

    def stop(self, patience: float = PATIENCE) -> int:
        """End it, politely and after `patience` seconds firmly, and return its exit status.

        Whatever it has started itself ends with it; stopping twice does no harm.
        """
        family = descendants(self.process.pid) if self.running else []
        if patience:
            self._ask_to_end()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
        kill(family)
        self.process.kill()
        SERVERS.discard(self)
        return self.wait()

    def _ask_to_end(self) -> None:
        """Ask once: a second Ctrl-C means 'at once' to a server that is finishing its work."""
        if not self._asked:
            self._asked = True
            self.terminate() if os.name == "nt" else self.interrupt()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<{self.title} at {self.url}, {self._condition()}>"

    def _repr_html_(self) -> str:
        title, url = html.escape(self.title), html.escape(self.url)
        place = f'<a href="{url}" target="_blank" rel="noopener">{url}</a>' if self.running else url
        return f"<div><b>{title}</b> at {place}, {self._condition()}</div>"

    def _condition(self) -> str:
        status = self._status()
        return f"running since {self.since:%H:%M:%S}" if status is None else _ended(status)

    def _status(self) -> int | None:
        """Return the exit status, None while it runs; once it has ended, it is not watched."""
        status = self.process.poll()
        if status is not None:
            REAPER.forget(self.process.pid)
        return status

    def _listen_to(self, name: str) -> threading.Thread:
        """Collect the lines of a stream as they come, in a thread that ends with the stream."""
        reader = threading.Thread(target=self._collect, args=(name,), name=name, daemon=True)
        reader.start()
        return reader

    def _collect(self, name: str) -> None:
        with getattr(self.process, name) as stream:
            for line in stream:
                with self._news:
                    text = line.decode(errors="replace").replace("\r\n", "\n")
                    self._said.append((name, text))
                    self._news.notify_all()
        with self._news:
            self._open.discard(name)
            self._news.notify_all()

    def _text(self, *names: str) -> str:
        with self._news:
            return "".join(text for name, text in self._said if name in names)

    def _line(self, text: str) -> str | None:
        return next((line.rstrip() for _, line in self._said if text in line), None)

    def _await_ready(self, timeout: float) -> None:
        """Find the address in what the program says, or say why it said none."""
        with self._news:
            self._news.wait_for(lambda: self._found() or not self._open, timeout)
            found = self._found()
        if found is None:
            raise DidNotStart(self._obituary(timeout))
        self.host, self.port = found[1].strip("[]"), int(found[2])

    def _obituary(self, timeout: float) -> str:
        """Say how a start came to nothing, in a few lines."""
        words, late = self._last_words(), ""
        if self.running:
            late = f"needed 'Listening on http://HOST:PORT' within {timeout:g} s; "
        lines = [f"{self.title} did not start: {late}{words}"]
        return "\n".join([*lines, *_shadows(self.argv, self.log)])

    def _last_words(self) -> str:
        """Say how it is, and the end of what it said."""
        if not self._open:  # it is about to end
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE)
        status, lines = self._status(), self.log.splitlines()[-LAST_WORDS:]
        state = "it is still running" if status is None else f"it {_ended(status)}"
        if not lines:
            return f"{state} and said nothing"
        return "\n    ".join([f"{state}; its last words:", *lines])

    def _found(self) -> re.Match[str] | None:
        lines = (line for name, line in self._said if name == "stdout")
        return next(filter(None, map(READY.search, lines)), None)


SERVERS: set[Server] = set()  # those that may still run
LAUNCHED: dict[str, Server] = {}  # the last one of each stage
LAUNCHING = threading.Lock()


def launch(
    stage: str | int | Path | Lesson, *, file: str | Path | None = None, **settings: object
) -> Server:
    """Start a stage, or a copy of it in `file`, with settings such as PORT=7878 or WORKERS=2.

    PORT is any free one unless set. The server that an earlier call started for this stage is
    ended first. Raises UnknownStage for a name, Mistake for a file that is not there, DidNotStart.
    """
    known = lesson(stage)
    path = Path(file) if file else known.path
    if not path.is_file():
        raise Mistake(f"there is no file {path}")
    texts = {name: str(value) for name, value in settings.items()}
    title = f"{known.short} {known.title}" + (f" ({path.name})" if file else "")
    with LAUNCHING:
        if known.slug in LAUNCHED:
            LAUNCHED.pop(known.slug).stop()
        server = Server.start([sys.executable, str(path)], title=title, settings=texts)
        LAUNCHED[known.slug] = server
    return server


@atexit.register
def stop_all() -> None:
    """End every server that this program has started, all at the same time."""
    servers = list(SERVERS)
    for server in servers:
        server._ask_to_end()
    for server in servers:
        server.stop()
    REAPER.dismiss()


def _ended(status: int) -> str:
    """Say how a program ended: by itself, or (where systems tell) by which signal."""
    if status >= 0:
        return f"ended with status {status}"
    return f"was ended by {signal.Signals(-status).name}"


def _shadows(argv: Sequence[str], words: str) -> Iterator[str]:
    """Name the files beside the program that Python imports in place of its own modules."""
    programs = [Path(word) for word in argv if word.endswith(".py")]
    for file in sorted(programs[0].parent.glob("*.py")) if programs and "Error" in words else ():
        if file.stem in sys.stdlib_module_names and re.search(rf"\b{file.stem}\b", words):
            yield f"{file.name} beside it hides Python's own module {file.stem}: rename that file."
