"""Keeps one program: within limits, apart from others, and with nothing of it left behind.

`python -I -S keeper.py PLAN ARGV...` runs ARGV as `PLAN`, a JSON file, says (see `cell.py`): what
wraps it, and what it may use. Signals are passed on, output too up to a bound, and the keeper ends
as the program did, by the same status or signal. Standard library only, and little of it: a keeper
is started for each program. Where no other wall ends a judge's processes, one is around it too.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import resource
import selectors
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

TICK = 0.05  # seconds between two looks at what it uses
WEIGHED = 10  # ticks between two looks at its files
DRAIN = 1.0  # seconds for the last words of a program that has ended
SWEEP = 5.0  # seconds until everything that it has started is gone
PIECE = 65536  # bytes
BLOCK = 512  # bytes of a block, as stat(2) counts
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 1, 4, 36  # prctl(2)
PASSED_ON = signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2
RLIMITS = {
    "seconds": resource.RLIMIT_CPU,
    "file": resource.RLIMIT_FSIZE,
    "descriptors": resource.RLIMIT_NOFILE,
    "processes": resource.RLIMIT_NPROC,
    "core": resource.RLIMIT_CORE,
}
OURS = "PYTEST_"  # variables that begin so tell which sentence is being said
Use = dict[str, int]


class Keeper:
    """A program, how much of each thing it may use, and what became of it."""

    def __init__(self, plan: dict[str, Any], argv: list[str]) -> None:
        self.plan, self.wrapped, self.trusted = plan, bool(plan["wrap"]), plan["trusted"]
        wrap = [word.replace("{cwd}", where(Path(plan["work"]))) for word in plan["wrap"]]
        argv[0] = plan["instead"].get(argv[0], argv[0])
        self.said: Use = {"output": 0, "lines": 0}
        self.ticks, self.due, self.ended, self.parent = 0, 0.0, False, os.getppid()
        self.selector = selectors.DefaultSelector()
        shown = {name: os.environ[name] for name in os.environ if not name.startswith(OURS)}
        self.process = subprocess.Popen(  # noqa: S603 - what we are here for
            [*wrap, *argv],
            env=None if self.trusted else shown,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            close_fds=not self.trusted,  # a judge reports by one that it was given
            start_new_session=True,
            preexec_fn=self.confine,
        )
        for number in PASSED_ON:
            signal.signal(number, self.pass_on)

    def confine(self) -> None:
        """Set its limits, in the new process, before it becomes the program."""
        if not self.wrapped:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # bubblewrap does so by itself
        if not self.trusted:
            first_to_go()
            unlimited = resource.getrlimit(resource.RLIMIT_AS)[1]  # our own is the judge's
            resource.setrlimit(resource.RLIMIT_AS, (unlimited, unlimited))
        for name, number in RLIMITS.items():
            if most := self.plan.get(name):
                _, hard = resource.getrlimit(number)
                soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
                spare = 5 if name == "seconds" else 0  # SIGXCPU first, and SIGKILL behind it
                resource.setrlimit(number, (soft, soft + spare if hard < 0 else hard))

    def pass_on(self, number: int, _frame: object) -> None:
        """Give a signal to the program itself, not to what wraps it; a judge has to end at once."""
        if self.trusted:
            self.end("it was told to")
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.program(), number)

    def program(self) -> int:
        """Return the number of the program: bubblewrap's child's first child, if it is wrapped."""
        pid = self.process.pid
        for _ in range(2 if self.wrapped else 0):
            pid = next(iter(children(pid)), pid)
        return pid

    def keep(self) -> int:
        """Wait until it has ended, and sweep up behind it; return its status, as Popen does."""
        for stream, ours in ((self.process.stdout, 1), (self.process.stderr, 2)):
            assert stream is not None
            self.selector.register(stream, selectors.EVENT_READ, ours)
        while self.process.poll() is None:
            self.pump(TICK)
            if time.monotonic() >= self.due:
                self.hold()
        self.sweep()
        deadline = time.monotonic() + DRAIN
        while self.selector.get_map() and time.monotonic() < deadline:
            self.pump(TICK)
        status = self.process.wait()
        return 128 - status if self.wrapped and status > 128 else status

    def pump(self, seconds: float) -> None:
        """Hand on what it says, as long as there is room for it."""
        if not self.selector.get_map():
            time.sleep(seconds)
        for key, _ in self.selector.select(seconds):
            data = os.read(key.fd, PIECE)
            if not data:
                self.selector.unregister(key.fileobj)
            self.said["output"] += len(data)
            self.said["lines"] += data.count(b"\n")
            if not self.excess(self.said):
                say(key.data, data)

    def hold(self) -> None:
        """End it if it is too much, or if nobody is there any more for whom it works."""
        self.ticks, self.due = self.ticks + 1, time.monotonic() + TICK
        used = self.said | used_by(descendants(os.getpid()))
        if not self.trusted and self.ticks % WEIGHED == 0:
            used |= stored(Path(self.plan["work"], "scratch", "tmp"), self.plan["names"])
            opened, hidden = held(descendants(os.getpid()))
            used |= {"opened": opened, "disk": used["disk"] + hidden}
        if reason := self.excess(used):
            self.end(f"needed no more than {reason}")
        if os.getppid() != self.parent:
            self.end("who started it has gone")

    def excess(self, used: Use) -> str:
        """Say which limit is passed that the system does not hold by itself; nothing if none is."""
        passed = (name for name in used if used[name] > self.plan.get(name, math.inf))
        name = next(passed, "")
        return name and f"{self.plan[name]:,} of {name}, and it had {used[name]:,}"

    def end(self, reason: str) -> None:
        """End it, and say why, where its own last words are."""
        if not self.ended:
            say(2, f"\nended by its keeper: {reason}\n".encode())
        self.ended = True
        for pid in descendants(os.getpid()):
            kill(pid)

    def sweep(self) -> None:
        """End whatever it has left: a child of ours, as we are the subreaper of its orphans."""
        deadline = time.monotonic() + SWEEP
        while (left := list(descendants(os.getpid()))) and time.monotonic() < deadline:
            for pid in left:
                kill(pid)
            for pid in left:  # without a pause: what is left may start others
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)


def where(work: Path) -> str:
    """Return the folder to start in: this one, if the program can see it."""
    here = Path.cwd()
    return str(here if here.is_relative_to(work) else work / "fork")


def prctl(option: int, value: int) -> None:
    """Ask Linux for something about this process (prctl(2)); other systems have no such thing."""
    if sys.platform == "linux":
        import ctypes  # slow to load, and a wrapped program needs none of it

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def first_to_go() -> None:
    """Have the system end this process first, should the memory of the machine be used up."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def kill(pid: int) -> None:
    """End a process at once, if it is still there and ours."""
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """List a process's children, the oldest first."""
    found: list[int] = []
    for file in Path("/proc", str(pid), "task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, file.read_text().split())
    return found


def descendants(pid: int) -> list[int]:
    """List the children of a process, and theirs: however long the line is."""
    found = children(pid)
    for child in found:
        found += children(child)  # which this loop comes to
    return found


def used_by(pids: list[int]) -> Use:
    """Return what processes use: resident bytes, and how many they and their threads are."""
    memory = tasks = 0
    for pid in pids:
        with contextlib.suppress(OSError, IndexError):
            fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
            memory += int(fields[21]) * resource.getpagesize()
            tasks += int(fields[17])
    return {"memory": memory, "tasks": tasks}


def held(pids: list[int]) -> tuple[int, int]:
    """Return how many descriptors processes have, and the bytes of files that have no name."""
    opened, nameless = 0, {}
    for pid in pids:
        with contextlib.suppress(OSError):
            for entry in os.scandir(f"/proc/{pid}/fd"):
                opened += 1
                with contextlib.suppress(OSError):
                    file = entry.stat()
                    if stat.S_ISREG(file.st_mode) and not file.st_nlink:
                        nameless[file.st_dev, file.st_ino] = file.st_blocks * BLOCK
    return opened, sum(nameless.values())


def stored(folder: Path, most: int) -> Use:
    """Return how many names are in a folder, until they are too many, and the bytes on the disk."""
    folders, disk, names = [str(folder)], 0, 0
    while folders and names <= most:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for names, entry in enumerate(entries, names + 1):  # noqa: B020 - counts on
                if names > most:
                    break
                with contextlib.suppress(OSError):
                    disk += entry.stat(follow_symlinks=False).st_blocks * BLOCK
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
    return {"disk": disk, "names": names}


def say(stream: int, data: bytes) -> None:
    """Write all of it, unless nobody listens any more."""
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(stream, data) :]


def main() -> None:
    """Keep the program that the command line names."""
    plan = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if not plan["wrap"]:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        prctl(PR_SET_DUMPABLE, 0)  # no other process of this user may look into this one
    status = Keeper(plan, sys.argv[2:]).keep()
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status & 255)


if __name__ == "__main__":
    main()
