"""Where a fork is graded: how many walls there are between its programs and everything else.

Each wall is tried by running something behind it, and what stands is recorded. Around the runner
(pytest, our own code) bubblewrap gives a network with nothing but `lo`, processes of its own that
end with it, and a home without a secret; where we are root, the runner is another user in it.
Around each program of the fork a second one hides the runner, the suite, the course's own stages
and every other fork: it sees the system, its own files, and a folder to write in.

All lies in one folder, the work: `fork` holds what was taken of the fork, for all to read, and
`scratch` what is made anew for each stage: `tmp`, where runner and programs write, and `home`.
"""

from __future__ import annotations

import contextlib
import functools
import marshal
import os
import py_compile
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from workbench.files import ROOT
from workbench.server.environment import environment as judged

MEBIBYTE = 2**20
LIMITS: dict[str, int] = {
    "seconds": 240,  # of processor time, for each process
    "memory": 768 * MEBIBYTE,  # resident, of all its processes together
    "tasks": 1000,  # processes and threads
    "descriptors": 4096,  # of one process
    "opened": 16_384,  # descriptors, of all together
    "file": 2200 * MEBIBYTE,  # the suite has one of 1 GiB uploaded
    "disk": 4096 * MEBIBYTE,  # in all files, removed ones that are still open too
    "names": 50_000,  # files and folders
    "output": 8 * MEBIBYTE,  # on stdout and stderr together
    "lines": 200_000,  # of it
    "core": 1,  # less than any core dump has, and by core(5) no program is called for it either
}
SMALL = 64 * MEBIBYTE  # what a program may keep in the memory of each file system of its own
PLAIN = Path(sys.base_prefix)  # the Python without the course's packages
PYTHON = Path(sys.executable).resolve()
INSTEAD = {"instead": {sys.executable: str(PYTHON)}}
SUPERVISOR, ZYGOTE = (Path(__file__).with_name(name) for name in ("supervisor.py", "zygote.py"))
INSIDE = "/zygote.py"
SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64")  # links into /usr on most systems
SETTLED = ("/etc/ld.so.cache", "/etc/localtime", "/etc/hosts", "/etc/mime.types")
LANES = 2  # stages of a fork that are judged side by side: most of the time one of them waits
STRANGERS = 2_000_000  # above the numbers of all real users; a runner's own is added
WITHIN = 20  # seconds for a wall to be tried
GOING = 10.0  # seconds in which the last process of a fork must let its files go
NEWER = "--disable-userns", "--size"  # against worlds of a program's own, and full memory
WORK = "grading-"  # how the name of a work begins
HIDES = {  # what is open to a fork's program where a wall is missing
    "limits": "it may use up the machine, and leave processes behind",
    "network": "it may talk to the network, and to all processes of this machine",
    "user": "it is the user that grades: it may end the runner, and write where that user may",
    "bubblewrap": "it may read the suite, the course's stages and other forks",
}
LISTENS = """
import importlib.util, socket, sys
for name in sys.argv[1:]:
    assert importlib.util.find_spec(name), f"{name} cannot be read there"
door = socket.create_server(("127.0.0.1", 0))
socket.create_connection(door.getsockname()).close()
"""


@dataclass(frozen=True)
class Layer:
    """A wall between a fork and the rest: what it is, whether it stands, and why not."""

    name: str
    on: bool
    detail: str = ""


@dataclass(frozen=True)
class Sandbox:
    """The walls that stand on this machine, and which of a grader's lanes is behind them."""

    layers: tuple[Layer, ...]
    lane: int = 0

    def has(self, name: str) -> bool:
        """Tell whether a wall stands."""
        return any(layer.name == name and layer.on for layer in self.layers)

    @property
    def missing(self) -> tuple[Layer, ...]:
        """The walls that do not stand."""
        return tuple(layer for layer in self.layers if not layer.on)

    def around_runner(self, work: Path) -> list[str]:
        """Return the words before a runner's command, for a fork whose things lie in `work`."""
        user = self.user()
        stranger = [] if user is None else _stranger(user)
        if self.has("network"):
            return _runner(work) + stranger
        plan = {"wrap": [], "instead": {}, "work": str(work), "trusted": True}
        return stranger + (_supervisor(work / "runner", plan) if self.has("limits") else [])

    def user(self) -> int | None:
        """Return the number of the user that a runner of this process is, if it is another one."""
        return STRANGERS + LANES * os.getpid() + self.lane if self.has("user") else None

    def around_program(self, work: Path) -> list[str]:
        """Return the words before each command of the fork, which are a supervisor's."""
        if not self.has("limits"):
            return []
        wrap = _program(work) if self.has("bubblewrap") else []
        bounds = LIMITS | {"processes": LIMITS["tasks"] + (0 if self.has("user") else _tasks())}
        bounds["disk"] = min(LIMITS["disk"], shutil.disk_usage(work).free // (2 * LANES))
        says = bounds | INSTEAD | {"wrap": wrap, "work": str(work), "trusted": False}
        says["zygote"] = [str(PYTHON), INSIDE]
        return _supervisor(work / "plan", says)


def _supervisor(file: Path, plan: dict[str, object]) -> list[str]:
    """Write down a supervisor's plan, and return its command; it is compiled once for all times."""
    file.write_bytes(marshal.dumps(plan))
    ready = py_compile.compile(str(SUPERVISOR), str(file.with_name("supervisor.pyc")), doraise=True)
    return [str(PYTHON), "-I", "-S", str(ready), str(file)]


def _tasks() -> int:
    """Count the processes and threads of this user: the system's limit is for all of them."""
    counted = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            counted += process.num_threads() if process.uids().real == os.getuid() else 0
    return counted


@functools.cache
def probe() -> Sandbox:
    """Try every wall once, each behind those that stand, and say which do."""
    linux = sys.platform == "linux"
    layers = [
        Layer("environment", True, "no variable of the grader's, a home of its own"),
        Layer("copy", True, "regular files only, of bounded size"),
        _layer("limits", linux, "" if linux else "needs Linux"),
    ]
    for name in ("network", "user", "bubblewrap"):
        layers.append(_layer(name, *_tried(name, Sandbox(tuple(layers)))))
    return Sandbox(tuple(layers))


def _layer(name: str, on: bool, detail: str) -> Layer:
    """Say of a wall that is missing why, and what a fork's program may do therefore."""
    return Layer(name, on, detail if on else f"{detail}; without it, {HIDES[name]}")


def _tried(name: str, standing: Sandbox) -> tuple[bool, str]:
    """Run something behind a wall and those that stand; say whether it worked, and why not."""
    if sys.platform != "linux":
        return False, "needs Linux"
    if name != "user" and not shutil.which("bwrap"):
        return False, "needs bubblewrap: install it"
    if name == "user" and os.geteuid() != 0:
        return False, "needs root"
    with tempfile.TemporaryDirectory() as folder:
        work = furnish(Path(folder).resolve())
        hoped = Sandbox((*standing.layers, Layer(name, True)))
        inner = _program(work) if name == "bubblewrap" else []
        inner = [word.replace("{cwd}", "/") for word in inner]
        own(work, hoped.user())
        python, *needs = [str(PYTHON)] if inner else [sys.executable, "pytest"]
        words = [*hoped.around_runner(work), *inner, python, "-I", "-c", LISTENS, *needs]
        on, why = _works(words)
        lacks = [option for option in NEWER if inner and not _known(option)]
        return on, f"this bubblewrap has no {', '.join(lacks)}" if on and lacks else why


def _works(command: Sequence[str]) -> tuple[bool, str]:
    """Run a command; say whether it ended well, or its last words."""
    try:
        ended = subprocess.run(  # noqa: S603 - our own words
            command, capture_output=True, text=True, timeout=WITHIN, check=False, cwd="/"
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, str(error)
    return ended.returncode == 0, (ended.stderr.splitlines() or [""])[-1][:200]


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """Make a work, and remove it in the end, as those of graders that were killed."""
    _forgotten()
    work = Path(tempfile.mkdtemp(prefix=WORK)).resolve()
    try:
        with _claimed(work / "lock", os.O_CREAT):
            yield furnish(work)
    finally:
        remove(work)


@contextlib.contextmanager
def _claimed(lock: Path, flags: int = 0) -> Iterator[None]:
    """Hold a file that says that somebody is at work. Raises OSError if somebody is."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    number = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | flags, 0o600)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(number)


def _forgotten() -> None:
    """Remove what graders of this user have left who were killed."""
    if sys.platform == "win32":
        return
    for work in Path(tempfile.gettempdir()).glob(f"{WORK}*"):
        with contextlib.suppress(OSError), _claimed(work / "lock"):
            if work.lstat().st_uid == os.getuid():
                remove(work)


def remove(folder: Path) -> None:
    """Remove a folder of a fork's, as soon as the last process that writes in it has gone."""
    deadline = time.monotonic() + GOING
    while folder.exists():
        with contextlib.suppress(OSError):
            _emptied(folder)
            folder.rmdir()
        if time.monotonic() > deadline:
            return
        time.sleep(0.01)


def _emptied(folder: Path) -> None:
    """Remove all in a folder, however deep and closed it is; no link is followed."""
    folders = [str(folder)]
    while folders:
        inner = folders.pop()
        os.chmod(inner, 0o700)
        for entry in list(os.scandir(inner)):
            if entry.is_dir(follow_symlinks=False):
                os.chmod(entry.path, 0o700)
                folders.append(os.path.join(folder, secrets.token_hex(8)))
                os.rename(entry.path, folders[-1])  # up: a path may be too long to be said
            else:
                os.unlink(entry.path)
        if inner != str(folder):
            os.rmdir(inner)


def furnish(work: Path) -> Path:
    """Make the folders of a work: what is there for all stages, and what is there for one."""
    for name in ("fork/stages", "fork/static"):
        (work / name).mkdir(parents=True, exist_ok=True)
    renew(work)
    return work


def renew(work: Path) -> None:
    """Make the folder anew in which a runner and its programs write: no stage sees another's."""
    remove(work / "scratch")
    for name in ("tmp", "home"):
        (work / "scratch" / name).mkdir(parents=True)


def own(work: Path, user: int | None) -> None:
    """Let the user that runners into a work, and write in its scratch; the rest stays ours."""
    if user is not None:
        os.chown(work, -1, user)
        work.chmod(0o750)
        for name in ("scratch/tmp", "scratch/home"):
            os.chown(work / name, user, user)


def environment(work: Path) -> dict[str, str]:
    """Return all the variables that a runner has, and every program of the fork: these alone."""
    folders = {"HOME": work / "scratch" / "home", "TMPDIR": work / "scratch" / "tmp"}
    system = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    return judged({name: str(path) for name, path in folders.items()} | system)


def _runner(work: Path) -> list[str]:
    """Wrap a runner: the system to be read, no home, no network but lo, no process of others."""
    words = ["bwrap", "--die-with-parent", "--unshare-pid", "--unshare-net", "--unshare-ipc"]
    words += ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/run"]
    hidden = [Path("/tmp"), Path.home().resolve()]  # noqa: S108 - hidden, not used
    for place in hidden:
        words += ["--perms", "1777", "--tmpfs", str(place)]
    bound: list[Path] = []
    for shown in sorted((PLAIN, Path(sys.prefix), ROOT, work), key=lambda place: len(place.parts)):
        closed = shown != work and not _open(shown)
        for parent in (*reversed(shown.parents), *[shown] * closed):
            above = [top for top in (*hidden, *bound) if parent.is_relative_to(top)]
            top = max(above, key=lambda place: len(place.parts), default=None)
            if top in hidden and top != parent:  # where it is hidden, it is made anew
                words += ["--dir", str(parent), "--chmod", "0755", str(parent)]
            elif top not in hidden and not _open(parent):
                words += ["--perms", "0755", "--tmpfs", str(parent)]
                hidden.append(parent)
        for place in shown.iterdir() if closed else [shown]:
            words += ["--ro-bind", str(place), str(place)]
            bound.append(place)
    return [*words, "--bind", str(work / "scratch"), str(work / "scratch"), "--"]


def _open(folder: Path) -> bool:
    """Tell whether every user may pass through a folder, as the one who runners has to."""
    return bool(folder.stat().st_mode & stat.S_IXOTH)


def _stranger(user: int) -> list[str]:
    """Become another user, who has nothing and can become nobody else."""
    words = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    return [*words, "--no-new-privs", "--"]


def _program(work: Path) -> list[str]:
    """Wrap a program of the fork: the system, its own files, and a folder to write in."""
    words = ["bwrap", "--die-with-parent", "--unshare-user", "--unshare-pid", "--unshare-ipc"]
    words += ["--unshare-uts", "--cap-drop", "ALL", "--new-session", *_known("--disable-userns")]
    words += ["--ro-bind", "/usr", "/usr"]
    for place in (Path("/", name) for name in SYSTEM):
        if place.is_symlink():
            words += ["--symlink", str(place.readlink()), str(place)]
        elif place.exists():
            words += ["--ro-bind", str(place), str(place)]
    for name in SETTLED:
        words += ["--ro-bind-try", name, name]
    words += ["--ro-bind", str(PLAIN), str(PLAIN), "--dir", "/proc", "--dev", "/dev"]
    words += ["--ro-bind", str(ZYGOTE), INSIDE]
    if ROOT.is_relative_to("/usr") or ROOT.is_relative_to(PLAIN):
        words += ["--tmpfs", str(ROOT), "--remount-ro", str(ROOT)]
    for own in ("/dev/shm", "/tmp", str(work / "scratch" / "home")):  # noqa: S108 - its own
        words += ["--perms", "1777", *_known("--size", str(SMALL)), "--tmpfs", own]
    for name, bind in (("fork", "--ro-bind"), ("scratch/tmp", "--bind")):
        words += [bind, str(work / name), str(work / name)]
    return [*words, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "{cwd}", "--"]


def _known(option: str, *value: str) -> list[str]:
    """Return an option that older bubblewraps lack, if this one knows it."""
    return [option, *value] if f" {option} " in _told() else []


@functools.cache
def _told() -> str:
    """Return what bubblewrap says of its options."""
    told = subprocess.run(["bwrap", "--help"], capture_output=True, text=True, check=False)  # noqa: S607
    return told.stdout + told.stderr
