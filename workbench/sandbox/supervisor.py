"""Keeps one program: within limits, apart from others, and with nothing of it left behind.

`python -I -S supervisor.py PLAN ARGV...` runs ARGV as `PLAN`, a file, says (see `isolation.py`):
what wraps it, and what it may use. Signals are passed on, output too up to a bound, and the
supervisor ends as the program did, by the same status or signal. Where no other wall ends a
runner's processes, one is around it too. Without ARGV it keeps a zygote, and hands on to it what is
asked for on stdin.

Where there is no zygote, a supervisor is started for each program, and two hundred times for a
stage: so it loads next to nothing of the standard library. That is why it reads `/proc` by hand.
"""

from __future__ import annotations

import marshal
import os
import select
import signal
import stat
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any
if sys.platform != "win32":
    import resource

TICK = 0.05  # seconds between two looks at what it uses
WEIGHED = 10  # ticks between two looks at its files
DRAIN = 1.0  # seconds for the last words of a program that has ended
SWEEP = 5.0  # seconds until everything that it has started is gone
PIECE = REQUEST = 65536  # bytes
BLOCK = 512  # bytes of a block, as stat(2) counts
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 1, 4, 36  # prctl(2)
PASSED_ON = "SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"
PYTHONS_OWN = "SIGPIPE", "SIGXFSZ"  # Python ignores them, and other programs should not
RLIMITS = {
    "seconds": "RLIMIT_CPU",
    "file": "RLIMIT_FSIZE",
    "descriptors": "RLIMIT_NOFILE",
    "processes": "RLIMIT_NPROC",
    "core": "RLIMIT_CORE",
}
OURS = "PYTEST_"  # variables that begin so tell which sentence is being said
Use = dict[str, int]
NOTHING: Use = {"output": 0, "lines": 0}  # has been said yet


class Gone:
    """Let pass that a process or file is gone, or not ours; as `contextlib.suppress(OSError)`."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, OSError)


class Supervisor:
    """A program, how much of each thing it may use, and what became of it."""

    def __init__(self, plan: dict[str, Any], argv: list[str]) -> None:
        self.plan, self.wrapped, self.trusted = plan, bool(plan["wrap"]), plan["trusted"]
        wrap = [word.replace("{cwd}", where(plan["work"])) for word in plan["wrap"]]
        self.argv = [*wrap, plan["instead"].get(argv[0], argv[0]), *argv[1:]]
        self.said: Use = dict(NOTHING)
        self.ticks, self.due, self.ended, self.parent = 0, 0.0, False, os.getppid()
        self.last_words = 2
        self.poll, self.streams = select.poll(), dict[int, int]()
        self.pid, self.status = self.start(), 0
        for name in PASSED_ON:
            signal.signal(getattr(signal, name), self.pass_on)

    def start(self) -> int:
        """Start it in a session of its own, and listen to what it says."""
        pipes = [(1, *os.pipe()), (2, *os.pipe())]
        if (pid := os.fork()) == 0:
            self.become([(number, writing) for number, _, writing in pipes])
        for number, reading, writing in pipes:
            os.close(writing)
            self.streams[reading] = number
            self.poll.register(reading, select.POLLIN)
        if hasattr(os, "pidfd_open"):
            with Gone():  # an old kernel: its end is seen at the next tick
                self.poll.register(os.pidfd_open(pid), select.POLLIN)
        return pid

    def become(self, outputs: list[tuple[int, int]]) -> None:
        """Become the program, in the new process."""
        try:
            os.setsid()
            for number, at in [(0, self.stdin()), *outputs]:
                os.dup2(at, number)
            for name in PYTHONS_OWN:
                signal.signal(getattr(signal, name), signal.SIG_DFL)
            self.confine()
            shown = {name: os.environ[name] for name in os.environ if not name.startswith(OURS)}
            os.execvpe(self.argv[0], self.argv, os.environ if self.trusted else shown)  # noqa: S606
        except BaseException as error:
            say(2, f"cannot start: {error}\n".encode())
        finally:
            os._exit(127)

    def stdin(self) -> int:
        """Return what the program can read."""
        return os.open(os.devnull, os.O_RDONLY)

    def confine(self) -> None:
        """Set its limits, in the new process, before it becomes the program."""
        if not self.wrapped:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # bubblewrap does so by itself
        if not self.trusted:
            first_to_go()
            unlimited = resource.getrlimit(resource.RLIMIT_AS)[1]  # our own is the runner's
            resource.setrlimit(resource.RLIMIT_AS, (unlimited, unlimited))
        for name, kind in RLIMITS.items():
            if most := self.plan.get(name):
                number = getattr(resource, kind)
                _, hard = resource.getrlimit(number)
                soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
                spare = 5 if name == "seconds" else 0  # SIGXCPU first, and SIGKILL behind it
                resource.setrlimit(number, (soft, soft + spare if hard < 0 else hard))

    def pass_on(self, number: int, _frame: object) -> None:
        """Give a signal to the program itself, not to what wraps it; a runner ends at once."""
        if self.trusted:
            self.end("it was told to")
        with Gone():
            os.kill(self.program(), number)

    def program(self) -> int:
        """Return the number of the program: bubblewrap's child's first child, if it is wrapped."""
        pid = self.pid
        for _ in range(2 if self.wrapped else 0):
            pid = next(iter(children(pid)), pid)
        return pid

    def keep(self) -> int:
        """Wait until it has ended, and sweep up behind it; return its status, as Popen does."""
        while not self.over():
            self.pump(TICK)
            if time.monotonic() >= self.due:
                self.hold()
        self.sweep()
        deadline = time.monotonic() + DRAIN
        while self.streams and time.monotonic() < deadline:
            self.pump(TICK)
        status = os.waitstatus_to_exitcode(self.status)
        return 128 - status if self.wrapped and status > 128 else status

    def over(self) -> bool:
        """Tell whether it has ended."""
        pid, self.status = os.waitpid(self.pid, os.WNOHANG)
        return pid != 0

    def pump(self, seconds: float) -> None:
        """Hand on what it says, as long as there is room for it; come back when it has ended."""
        for number, _ in self.poll.poll(seconds * 1000):
            self.hear(number)

    def hear(self, number: int) -> None:
        """Hand on a piece of a stream; be silent about what has ended."""
        data = os.read(number, PIECE) if number in self.streams else b""
        self.said["output"] += len(data)
        self.said["lines"] += data.count(b"\n")
        if data and not self.excess(self.said):
            say(self.streams[number], data)
        if not data:
            self.poll.unregister(number)
            self.streams.pop(number, None)

    def hold(self) -> None:
        """End it if it is too much, or if nobody is there any more for whom it works."""
        self.ticks, self.due = self.ticks + 1, time.monotonic() + TICK
        used = self.said | used_by(descendants(os.getpid()))
        if not self.trusted and self.ticks % WEIGHED == 0:
            used |= stored(f"{self.plan['work']}/scratch/tmp", self.plan["names"])
            opened, hidden = held(descendants(os.getpid()))
            used |= {"opened": opened, "disk": used["disk"] + hidden}
        if reason := self.excess(used):
            self.end(f"needed no more than {reason}")
        if os.getppid() != self.parent:
            self.end("who started it has gone")

    def excess(self, used: Use) -> str:
        """Say which limit is passed that the system does not hold by itself; nothing if none is."""
        passed = (name for name in used if used[name] > self.plan.get(name, used[name]))
        name = next(passed, "")
        return name and f"{self.plan[name]:,} of {name}, and it had {used[name]:,}"

    def end(self, reason: str) -> None:
        """End it, and say why, where its own last words are."""
        if not self.ended:
            say(self.last_words, f"\nended by its supervisor: {reason}\n".encode())
        self.ended = True
        for pid in descendants(os.getpid()):
            kill(pid)

    def sweep(self) -> None:
        """End whatever it has left: a child of ours, as we are the subreaper of its orphans."""
        deadline = time.monotonic() + SWEEP
        while (left := descendants(os.getpid())) and time.monotonic() < deadline:
            for pid in left:
                kill(pid)
            for pid in left:  # without a pause: what is left may start others
                with Gone():
                    os.waitpid(pid, os.WNOHANG)


class ForkSupervisor(Supervisor):
    """Keeps a zygote and all that it starts: each with the streams of who has asked for it."""

    def __init__(self, plan: dict[str, Any]) -> None:
        import socket  # slow to load, and once is enough

        self.socket = socket
        self.asked = socket.socket(fileno=os.dup(0))
        self.zygote, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        super().__init__(plan, plan["zygote"])
        self.theirs.close()
        self.poll.register(self.asked, select.POLLIN)

    def stdin(self) -> int:
        """Return where a zygote hears what it shall start."""
        return self.theirs.fileno()

    def hear(self, number: int) -> None:
        """Hand on a request, too; and let go of a program's streams when they have ended."""
        writing = self.streams.get(number, 0)
        if number == self.asked.fileno():
            self.request()
        else:
            super().hear(number)
        if writing and number not in self.streams:
            os.close(number)
            os.close(writing)
            self.last_words = self.last_words if self.last_words != writing else 2

    def request(self) -> None:
        """Hand a request on, with streams that come by here; after the last let the zygote go."""
        words, numbers, *_ = self.socket.recv_fds(self.asked, REQUEST, 3)
        if not words:
            self.poll.unregister(self.asked)
            self.zygote.close()
            return
        self.said, pipes = dict(NOTHING), [os.pipe(), os.pipe()]
        handed = [writing for _, writing in pipes] + numbers[2:]
        with Gone():
            self.socket.send_fds(self.zygote, [words], handed)
        for number in handed:
            os.close(number)
        for (reading, _), writing in zip(pipes, numbers, strict=False):
            self.streams[reading] = self.last_words = writing
            self.poll.register(reading, select.POLLIN)


def where(work: str) -> str:
    """Return the folder to start in: this one, if the program can see it."""
    here = os.getcwd()
    return here if here.startswith(f"{work}/") else f"{work}/fork"


def prctl(option: int, value: int) -> None:
    """Ask Linux for something about this process (prctl(2)); other systems have no such thing."""
    if sys.platform == "linux":
        import ctypes  # slow to load, and a wrapped program needs none of it

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def first_to_go() -> None:
    """Have the system end this process first, should the memory of the machine be used up."""
    with Gone(), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def kill(pid: int) -> None:
    """End a process at once, if it is still there and ours."""
    with Gone():
        os.kill(pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """List a process's children, the oldest first."""
    found: list[int] = []
    with Gone():
        for task in os.listdir(f"/proc/{pid}/task"):
            with Gone(), open(f"/proc/{pid}/task/{task}/children") as file:
                found += map(int, file.read().split())
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
        with Gone(), open(f"/proc/{pid}/stat", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
            memory += int(fields[21]) * resource.getpagesize()
            tasks += int(fields[17])
    return {"memory": memory, "tasks": tasks}


def held(pids: list[int]) -> tuple[int, int]:
    """Return how many descriptors processes have, and the bytes of files that have no name."""
    opened, nameless = 0, {}
    for pid in pids:
        with Gone(), os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in entries:
                opened += 1
                with Gone():
                    file = entry.stat()
                    if stat.S_ISREG(file.st_mode) and not file.st_nlink:
                        nameless[file.st_dev, file.st_ino] = file.st_blocks * BLOCK
    return opened, sum(nameless.values())


def stored(folder: str, most: int) -> Use:
    """Return how many names are in a folder, until they are too many, and the bytes on the disk."""
    folders, disk, names = [folder], 0, 0
    while folders and names <= most:
        with Gone(), os.scandir(folders.pop()) as entries:
            for entry in entries:
                names += 1
                if names > most:
                    break
                with Gone():
                    disk += entry.stat(follow_symlinks=False).st_blocks * BLOCK
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
    return {"disk": disk, "names": names}


def say(stream: int, data: bytes) -> None:
    """Write all of it, unless nobody listens any more."""
    with Gone():
        while data:
            data = data[os.write(stream, data) :]


def main() -> None:
    """Keep the program that the command line names."""
    with open(sys.argv[1], "rb") as file:
        plan = marshal.load(file)  # noqa: S302 - our own file, which no program can write
    if not plan["wrap"]:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        prctl(PR_SET_DUMPABLE, 0)  # no other process of this user may look into this one
    argv = sys.argv[2:]
    status = (Supervisor(plan, argv) if argv else ForkSupervisor(plan)).keep()
    if status < 0:
        with Gone():  # for SIGKILL there is nothing to be set
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status & 255)


if __name__ == "__main__":
    main()
