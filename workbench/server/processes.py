"""Child processes: how one is started, what it can be asked, and how a family is ended."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import psutil


class Process(Protocol):
    """What a Server needs of a Popen."""

    pid: int
    stdout: Any  # a binary file
    stderr: Any

    def poll(self) -> int | None:
        """Return the exit status; None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended, and return its status. Raises subprocess.TimeoutExpired."""

    def send_signal(self, sig: int) -> None:
        """Send a signal, unless it has ended."""

    def terminate(self) -> None:
        """Ask it to end."""

    def kill(self) -> None:
        """End it at once."""


def spawn(argv: Sequence[str], environment: Mapping[str, str], cwd: str) -> Process:
    """Start a program plainly: in this session, with nothing to read. Raises OSError."""
    pipe = subprocess.PIPE
    with _hearing_ctrl_c():
        return subprocess.Popen(  # noqa: S603 - the caller's own command
            argv, env=environment, cwd=cwd, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe
        )


@contextlib.contextmanager
def _hearing_ctrl_c() -> Iterator[None]:
    """Keep a child from inheriting our own deafness to Ctrl-C (a kernel's, between two cells)."""
    deaf = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if not deaf or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def descendants(pid: int) -> list[psutil.Process]:
    """List a process's children, and theirs; none of one that has gone."""
    with contextlib.suppress(psutil.Error):
        return list(psutil.Process(pid).children(recursive=True)) if _has_children(pid) else []
    return []


def _has_children(pid: int) -> bool:
    """Tell whether a process may have children: Linux knows at once, and psutil asks them all."""
    try:
        tasks = [file.read_bytes() for file in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # it has just gone
        return True
    return any(tasks) or not tasks


def kill(processes: Iterable[psutil.Process]) -> None:
    """End these at once; one that has gone already is as it should be."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
