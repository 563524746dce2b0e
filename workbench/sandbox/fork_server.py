"""Programs that are started in a moment, as forks of one Python that is warm: the zygote.

A start of Python costs more than most tests do. A ForkServer has a zygote for as long as it lives;
for a fork that is graded a supervisor stands between the two, and both are inside a sandbox. See
`supervisor.py` and `zygote.py`. Linux only; elsewhere each program is started by itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from workbench.sandbox.supervisor import OURS, REQUEST
from workbench.server.processes import Process, spawn

ZYGOTE = Path(__file__).with_name("zygote.py")
HERE = 10.0  # seconds until a program that was asked for says that it is here
KNOWN = 10.0  # seconds until it is known how one has ended
AT_START = "PYTHON", "LC_"  # how variables begin that Python hears only when it starts
SENDER = struct.Struct("3i")  # the process, user and group that a message comes from (unix(7))


class ForkServer:
    """Starts programs as a Server asks; what stands behind it is made when it is needed.

    `under` is the command of a supervisor, which keeps the zygote; without one it is trusted.
    """

    def __init__(self, under: Sequence[str] = ()) -> None:
        self.under = list(under)
        self.command = self.under or [sys.executable, str(ZYGOTE), "--trusted"]
        self.lock = threading.Lock()
        self.supervisor: subprocess.Popen[bytes] | None = None
        self.door: socket.socket  # the way to the supervisor

    def spawn(self, argv: Sequence[str], environment: Mapping[str, str], cwd: str) -> Process:
        """Start a command: from the zygote if it is Python with a file, or else plainly."""
        *python, file = argv
        shown = {name: text for name, text in environment.items() if not name.startswith(OURS)}
        request = json.dumps({"file": file, "variables": shown, "folder": cwd}).encode()
        plain = any(name.startswith(AT_START) for name in shown) or not is_program(file)
        if python == [*self.under, sys.executable] and len(request) <= REQUEST and not plain:
            for _ in "twice":
                with self.lock, contextlib.suppress(OSError):
                    self.keep(shown)
                    return self.ask(request)
                self.end()
        return spawn(argv, environment, cwd)

    def ask(self, request: bytes) -> ForkedProgram:
        """Ask for a program. Raises OSError if it does not come."""
        line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pipes = [os.pipe(), os.pipe()]
        kept = ForkedProgram(line, [reading for reading, _ in pipes], self.end)
        with theirs:
            try:
                handed = [*(writing for _, writing in pipes), theirs.fileno()]
                socket.send_fds(self.door, [request], handed)
            finally:
                for _, writing in pipes:
                    os.close(writing)
        kept.meet()
        return kept

    def keep(self, environment: Mapping[str, str]) -> None:
        """Start the supervisor, unless there is one."""
        if self.supervisor is None:
            self.door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                quiet = (
                    subprocess.DEVNULL if self.under else theirs.fileno()
                )  # cannot seek, as pipes
                self.supervisor = subprocess.Popen(  # noqa: S603 - our own
                    self.command,
                    cwd="/",
                    env=environment,
                    stdin=theirs.fileno(),
                    stdout=quiet,
                    stderr=quiet,
                )

    def end(self) -> None:
        """End what stands behind it, and every program with it."""
        if self.supervisor:
            self.door.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.supervisor.wait(0 if self.under else KNOWN)  # a zygote ends its programs first
            self.supervisor.kill()
            self.supervisor.wait()
        self.supervisor = None


class ForkServers:
    """Trusted ForkServers, one for each file's name: no program finds what another has imported."""

    def __init__(self) -> None:
        self.servers: dict[str, ForkServer] = {}

    def spawn(self, argv: Sequence[str], environment: Mapping[str, str], cwd: str) -> Process:
        """Start a command as a ForkServer does."""
        server = self.servers.setdefault(os.path.basename(argv[-1]), ForkServer())
        return server.spawn(argv, environment, cwd)

    def end(self) -> None:
        """End them all, and every program with them."""
        for server in self.servers.values():
            server.end()


class ForkedProgram:
    """A program behind walls: what a Server needs of a Popen."""

    def __init__(
        self, line: socket.socket, streams: Sequence[int], end: Callable[[], None]
    ) -> None:
        self.line, self.end = line, end
        self.stdout, self.stderr = (os.fdopen(number, "rb") for number in streams)
        self.pid = 0
        self.returncode: int | None = None
        self.gone: list[int] = []  # its descriptor, which tells that it has ended
        self.lock = threading.Lock()
        line.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        weakref.finalize(self, line.close)

    def meet(self) -> None:
        """Hear from the program which process it is. Raises OSError if it does not come."""
        self.line.settimeout(HERE)
        words, said, *_ = self.line.recvmsg(SENDER.size, socket.CMSG_SPACE(SENDER.size))
        if not words:
            raise ConnectionResetError("no zygote")
        self.pid, _, _ = SENDER.unpack(said[0][2])
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            self.gone.append(os.pidfd_open(self.pid))
            weakref.finalize(self, os.close, self.gone[0])

    def poll(self) -> int | None:
        """Return the exit status; None while it runs."""
        return self.ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended, and return its exit status. Raises TimeoutExpired."""
        if (status := self.ended(timeout)) is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return status

    def ended(self, seconds: float | None) -> int | None:
        """Wait for its status; the zygote says it, as soon as all that it has started is gone."""
        line = self.line.fileno()
        if self.returncode is None and news(seconds, line, *self.gone):
            if not news(KNOWN, line):
                self.end()  # the zygote has been stopped
            with self.lock:
                if self.returncode is None:
                    status = self.line.recv(SENDER.size)
                    self.returncode = int(status) if status else -signal.SIGKILL
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def is_program(file: str) -> bool:
    """Tell whether a word is a file of Python, in full: a folder or an option may stand there."""
    return file.endswith(".py") and os.path.isabs(file) and os.path.isfile(file)


def news(seconds: float | None, *numbers: int) -> bool:
    """Wait until something can be read from one of some descriptors, and say whether it can."""
    poll = select.poll()
    for number in numbers:
        poll.register(number, select.POLLIN)
    return bool(poll.poll(None if seconds is None else seconds * 1000))
