"""Ends the servers of a program that has ended, however it ended.

Run as a program it is the helper: its parent writes "watch PID" and "forget PID" to its standard
input; when that comes to its end, the parent is gone, and every process still watched is killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

DEADLY = getattr(signal, "SIGKILL", signal.SIGTERM)  # on Windows the latter is as hard
ENDINGS = "SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"  # each system has some of them
FATAL_TO_THE_PARENT = {getattr(signal, name) for name in ENDINGS if hasattr(signal, name)}


class Reaper:
    """The one helper process of this program; started when the first server is."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._watched: set[int] = set()
        self._lock = threading.Lock()

    def ready(self) -> None:
        """Start the helper unless it runs."""
        with self._lock:
            self._tell()

    def watch(self, pid: int) -> None:
        """Have a process killed when this one is gone."""
        with self._lock:
            self._watched.add(pid)
            self._tell(f"watch {pid}\n")

    def forget(self, pid: int) -> None:
        """Let go of a process that has ended: its number may soon be another's."""
        with self._lock:
            if pid in self._watched:
                self._watched.remove(pid)
                self._tell(f"forget {pid}\n")

    def _tell(self, order: str = "") -> None:
        """Pass an order on; a helper that is not there, or no more, is told everything anew."""
        if self._process is None or self._process.poll() is not None:
            self._process = self._start()
            order = "".join(f"watch {pid}\n" for pid in self._watched)
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(order)
            self._process.stdin.flush()

    def dismiss(self) -> None:
        """Let the helper go, and end what it still watches."""
        with self._lock:
            if self._process is not None and self._process.stdin is not None:
                with contextlib.suppress(OSError):
                    self._process.stdin.close()
                self._process.wait()
            self._process = None

    @staticmethod
    def _start() -> subprocess.Popen[str]:
        argv, pipe, silent = [sys.executable, "-I", __file__], subprocess.PIPE, subprocess.DEVNULL
        with _held_back():
            return subprocess.Popen(argv, stdin=pipe, stdout=silent, stderr=silent, text=True)  # noqa: S603


REAPER = Reaper()


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Hold back what ends a program: a process that is started meanwhile is born deaf to it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, FATAL_TO_THE_PARENT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def main() -> None:
    """Keep the list until standard input ends; then kill."""
    for number in FATAL_TO_THE_PARENT:  # we must live a moment longer
        signal.signal(number, signal.SIG_IGN)
    watched: set[int] = set()
    for order in sys.stdin:
        verb, pid = order.split()
        (watched.add if verb == "watch" else watched.discard)(int(pid))
    for pid in watched:
        with contextlib.suppress(OSError):  # gone by itself
            os.kill(pid, DEADLY)


if __name__ == "__main__":
    main()
