"""Starts programs in a moment: a Python that has loaded what they import, and forks for each.

For a fork that is graded it stands inside the sandbox, and its supervisor hands on to it what a
runner asks for (`fork_server.py`); with `--trusted` it serves the course's own suite directly. A
request is a message on stdin: a file, its variables and the folder to start in; with it come three
descriptors: the program's stdout, its stderr, and a line to who asked. There the new process says
that it is here, and the zygote how it ended. Nothing that it has started outlives it.

What the file imports at its top is loaded before, and no more than that: so an import that the file
lacks is missed as ever. None of the fork's own code runs in the zygote: names are read from its
syntax tree, and only modules of the standard library that do nothing at import are loaded.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
import types
import warnings
from collections.abc import Iterator
from typing import Any

REQUEST = 65536  # bytes at most
UNWANTED = {"antigravity", "this", "__main__", "idlelib", "turtledemo", "test"}  # these act or run
ALONE = (os.getpid(), os.getppid()) == (2, 1)  # in a process namespace that is ours
SWEEP = 5.0  # seconds until everything that a program has started is gone
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4  # prctl(2)
CODES: dict[tuple[str, bytes], types.CodeType] = {}  # what was compiled, by file and source
MOST_CODES = 100


def programs(door: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Start a process for each request; return, in each of these alone, what it has to become."""
    running: dict[int, tuple[int, int]] = {}  # a process's descriptor: its number, the line
    while True:
        ready, _, _ = select.select([door.fileno(), *running], [], [])
        for ended in running.keys() & set(ready):
            finish(ended, *running.pop(ended), last=not running)
        if door.fileno() in ready:
            words, numbers, *_ = socket.recv_fds(door, REQUEST, 3)
            if not words:
                for pid, _ in running.values():
                    kill(pid)
                os._exit(0)
            request = json.loads(words)
            load(request["file"])
            if (pid := os.fork()) == 0:
                return request, numbers
            stdout, stderr, line = numbers
            os.close(stdout)
            os.close(stderr)
            running[os.pidfd_open(pid)] = pid, line


def finish(ended: int, pid: int, line: int, last: bool) -> None:
    """Say how a program ended to who asked for it, once all that it has started is gone."""
    _, status = os.waitpid(pid, 0)
    if ALONE and last:
        sweep()
    with contextlib.suppress(OSError):  # who has asked may have gone
        os.write(line, str(os.waitstatus_to_exitcode(status)).encode())
    os.close(line)
    os.close(ended)


def kill(pid: int) -> None:
    """End a program, and the children that are still in its session."""
    for end in (os.killpg, os.kill):  # one that has only just been forked has none of its own yet
        with contextlib.suppress(ProcessLookupError):
            end(pid, signal.SIGKILL)


def load(file: str) -> None:
    """Compile a program, unless it is known, and import what it does of the standard library.

    What raises or warns is left to the program, so that its own stderr says so.
    """
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("error")
        if (key := (file, read(file))) in CODES:
            return
        tree = ast.parse(key[1], file)
        if len(CODES) >= MOST_CODES:
            CODES.clear()
        CODES[key] = compile(tree, file, "exec", dont_inherit=True)
        for name in imported(tree.body):
            first, *others = name.split(".")
            if first in sys.stdlib_module_names - UNWANTED and not UNWANTED.intersection(others):
                with contextlib.suppress(Exception):
                    importlib.import_module(name)
    gc.freeze()


def read(file: str) -> bytes:
    """Return the bytes of a file."""
    with open(file, "rb") as source:
        return source.read()


def imported(statements: list[ast.stmt]) -> Iterator[str]:
    """Yield the modules that top-level statements import, by their whole names."""
    for statement in statements:
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
            yield statement.module


def sweep() -> None:
    """End all that is left behind these walls: every process but this one and the first."""
    deadline = time.monotonic() + SWEEP
    while time.monotonic() < deadline:
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            return
        time.sleep(0.001)


def become(request: dict[str, Any], numbers: list[int]) -> types.CodeType:
    """Be as a Python that was started for a file; return its code."""
    os.setsid()
    with open(os.devnull, "rb") as nothing, socket.socket(fileno=numbers[2]) as line:
        for number, at in enumerate((nothing.fileno(), *numbers[:2])):
            os.dup2(at, number)
        line.send(b"here")  # and the system adds which process says so
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    prctl(PR_SET_DUMPABLE, 1)
    os.environ.clear()
    os.environ.update(request["variables"])
    work = os.path.dirname(os.getcwd())  # where the supervisor has put us is a folder of it
    if not ALONE or request["folder"].startswith(f"{work}/"):
        os.chdir(request["folder"])
    start_clocks()
    return make_main(request["file"])


def make_main(file: str) -> types.CodeType:
    """Make the module `__main__`, and what `sys` says of the command; return the file's code."""
    sys.argv[:], sys.orig_argv[:] = [file], [sys.executable, file]
    sys.path[0] = os.path.dirname(os.path.realpath(file))
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    vars(main).update(__file__=file, __cached__=None, __annotations__={}, __builtins__=builtins)
    loader = type(vars(json)["__loader__"])  # `importlib.machinery` would be there for the program
    vars(main)["__loader__"] = loader("__main__", file)
    sys.excepthook = show
    source = read(file)
    return CODES.get((file, source)) or compile(source, file, "exec", dont_inherit=True)


def start_clocks() -> None:
    """Take the time zone that the variables name; let what counts from its import begin now."""
    time.tzset()
    if logging := sys.modules.get("logging"):
        began = logging._startTime
        vars(logging)["_startTime"] = time.time_ns() if isinstance(began, int) else time.time()


def show(
    kind: type[BaseException], error: BaseException, trace: types.TracebackType | None
) -> None:
    """Show an error that ends a program as Python does, and nothing of the zygote above it."""
    while trace and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    sys.__excepthook__(kind, error.with_traceback(trace), trace)


def prctl(option: int, value: int) -> None:
    """Ask Linux for something about this process (prctl(2))."""
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    if not ALONE and sys.argv[1:] != ["--trusted"]:
        sys.exit("needed a sandbox, for it ends all other processes there: see isolation.py")
    prctl(PR_SET_DUMPABLE, 0)  # no other process of this user may look into this one
    with socket.socket(fileno=0) as door:
        wanted = programs(door)
        door.detach()
    exec(become(*wanted), vars(sys.modules["__main__"]))  # noqa: S102 - behind its walls
