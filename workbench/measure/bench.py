"""How fast servers are, side by side: throughput, CPU time per request, latency and memory.

`bench("s10", "s12", peers=["waitress"])` loads each in turn, round after round, so that whatever
else the machine does meets all of them. What holds on a busy machine is the ratio, not the figure.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from workbench.client.client import Address, NoAnswer, Visitor, request
from workbench.course.catalogue import lesson
from workbench.errors import Mistake
from workbench.measure import peers as peer_programs
from workbench.measure.benchmark import Benchmark, Benchmarks, Round, Row
from workbench.measure.peers import PEERS
from workbench.server.launch import Server
from workbench.server.stats import family, memory

__all__ = ["LOADS", "LOGS", "Benchmark", "Benchmarks", "Round", "Row", "bench"]

LOADS = ("wrk", "aiohttp")
BUNDLED = Path(__file__).with_name("load.py")
WARM_UP = 1  # seconds
PATIENCE = 5.0  # seconds for the two responses before the first round
START_SECONDS = 60.0  # for a peer, which may have to be compiled
OVERTIME = 20.0  # seconds that a load may take beyond its time
QUIET_SETTINGS = {"LOG_LEVEL": "WARNING"}
LOGS = "access logs are off: stages run with LOG_LEVEL=WARNING, peers without an access log"
REPORT = """
function done(summary, latency)
   local errors, kinds = 0, {}
   for kind, count in pairs(summary.errors) do
      errors = errors + count
      if count > 0 then table.insert(kinds, string.format('"%s": %d', kind, count)) end
   end
   print(string.format(
      '{"requests": %d, "seconds": %f, "mean": %f, "p50": %f, "p99": %f, ' ..
      '"errors": %d, "kinds": {%s}}',
      summary.requests, summary.duration / 1e6, latency.mean / 1e3,
      latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, errors,
      table.concat(kinds, ", ")))
end
"""
QUIET = """
import os, runpy, sys
stderr = os.dup(2)
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
try:
    runpy.run_path(sys.argv[1], run_name="__main__")
except BaseException:
    os.dup2(stderr, 2)
    raise
"""

Target = str | Server | Address


@dataclass(frozen=True)
class _Load:
    """What is asked, by which program and on which core."""

    kind: str
    script: Path
    path: str
    connections: int
    close: bool
    core: int | None

    def line(self, server: Server | Address, seconds: int) -> list[str]:
        """Write the command that asks a server, and prints a Round in JSON as its last line."""
        url = "http://{}:{}{}".format(*_address(server), self.path)
        header, count = ["Connection: close"] if self.close else [], str(self.connections)
        if self.kind == "aiohttp":
            return [sys.executable, "-P", str(BUNDLED), url, str(seconds), count, *header]
        line = ["wrk", "-t1", "-c", count, "-d", f"{seconds}s", "--timeout", "10s"]
        return [*line, "-s", str(self.script), *(f"-H{one}" for one in header), url]


def bench(
    *servers: Target,
    peers: Sequence[str] = (),
    baseline: str | None = None,
    path: str = "/",
    rounds: int = 5,
    seconds: int = 2,
    connections: int = 4,
    close: bool = False,
    pin: bool = False,
    load: str | None = None,
    settings: Mapping[str, object] | None = None,
    heard: Callable[[str], object] | None = None,
) -> Benchmark:
    """Load servers in turn, in so many rounds of so many seconds each; the order moves on by one.

    A server is a stage, which is started with `settings` (and its own: "s12,WORKERS=64") and its
    log thrown away, a launched Server, or the address of one that runs. `peers` are other servers
    by name (PEERS); one that is not installed is left out, with a note. All are compared with
    `baseline`, the name of a row, the first unless told.

    `connections` ask for `path` at once, each again as soon as it has its response, and with
    `close` on a new connection. More of them than a stage has WORKERS wait for each other. With
    `pin` the servers that are started here share one core and the client has another, where the
    system can. `load` is "wrk" where that is installed, else "aiohttp"; wrk counts in the waiting
    of requests that a late response kept it from sending, so that its p99 is the greater.
    `heard` is told what is going on.

    Raises Mistake if an argument cannot be used, or if a server does not respond or does not last.
    """
    load = load or ("wrk" if shutil.which("wrk") else "aiohttp")
    _check(servers, peers, path, load, min(rounds, seconds, connections))
    cores = _cores() if pin else None
    server_core, client_core = cores or (None, None)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        (folder / "report.lua").write_text(REPORT, encoding="utf-8")
        burden = _Load(load, folder / "report.lua", path, connections, close, client_core)
        with _pinned(server_core):
            running = [_running(server, settings or {}, stack) for server in servers]
            running += [stack.enter_context(_peer(name, folder)) for name in _present(peers)]
        place = _place(baseline, running)
        probes = [_probe(server, path) for server in running]
        done = _rounds(running, burden, rounds, seconds, heard or (lambda said: None))
    kept = [probe.kept and not close for probe in probes]
    rows = tuple(Row(*row) for row in zip(map(_title, running), kept, done, strict=True))
    notes = [
        _logs(servers, settings or {}),
        *_pinning(cores, pin),
        *_pages(running, probes),
        *_left_out(peers),
    ]
    title = f"GET {path} by {load}: {_count(connections, 'connection')}, "
    title += f"{_count(rounds, 'round')} of {seconds} s"
    return Benchmark(title, rows, tuple(notes), place)


def _check(
    servers: Sequence[Target], peers: Sequence[str], path: str, load: str, least: int
) -> None:
    """Raise Mistake for what cannot be measured."""
    if not servers and not peers:
        raise Mistake("needed the name of a stage or the address of a server")
    for name in peers:
        if name not in PEERS:
            raise Mistake(f"no peer is called {name!r}; there are {', '.join(PEERS)}")
    if not servers and not _present(peers):
        raise Mistake("; ".join(_left_out(peers)))
    if not re.fullmatch("/[!-~]*", path):
        raise Mistake(f"needed a path like /health, got {path!r}")
    if load not in LOADS:
        raise Mistake(f"needed a load of {' or '.join(LOADS)}, got {load!r}")
    if load == "wrk" and not shutil.which("wrk"):
        raise Mistake("wrk is not installed: use --load aiohttp")
    if least < 1:
        raise Mistake(f"needed at least 1 round, 1 second and 1 connection, got {least}")


def _logs(servers: Sequence[Target], settings: Mapping[str, object]) -> str:
    """Say that logs are off, and of which servers that is not known, or not so."""
    quiet, set_for_all = "LOG_LEVEL=WARNING", str(settings.get("LOG_LEVEL", "WARNING"))
    loud = []
    for server in servers:
        if not isinstance(server, str):
            loud.append(_title(server).partition(" ")[0])  # it logs as it was started
            continue
        name, *own = server.split(",")
        levels = [pair for pair in own if pair.startswith("LOG_LEVEL=")]
        if [f"LOG_LEVEL={set_for_all}", *levels][-1] != quiet:
            loud.append(",".join([lesson(name).short, *own]))
    return f"{LOGS}; not switched off for {', '.join(loud)}" if loud else LOGS


def _present(peers: Sequence[str]) -> list[str]:
    """List the peers that are installed."""
    return [name for name in peers if not PEERS[name].missing]


def _left_out(peers: Sequence[str]) -> list[str]:
    """Say which peers are missing, and what to do."""
    return [f"{name} left out: {gone}" for name in peers if (gone := PEERS[name].missing)]


def _place(baseline: str | None, running: Sequence[Server | Address]) -> int:
    """Find the row that all are compared with. Raises Mistake."""
    names = [_title(server).partition(" ")[0] for server in running]
    if baseline is not None and baseline not in names:
        raise Mistake(f"needed a baseline of {', '.join(names)}, got {baseline!r}")
    return 0 if baseline is None else names.index(baseline)


def _cores() -> tuple[int, int] | None:
    """Choose a core for the servers and one for the client; None where the system cannot."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    return (cores[0], cores[-1]) if len(cores) > 1 else None


def _pinning(cores: tuple[int, int] | None, asked: bool) -> Iterator[str]:
    """Say who computes on which core."""
    if cores:
        yield "servers are pinned to core {}, the client to core {}".format(*cores)
    elif asked:
        yield "not pinned: that needs os.sched_setaffinity (Linux) and two cores"


@contextmanager
def _pinned(core: int | None) -> Iterator[None]:
    """Have the programs started by this thread meanwhile run on one core, as they inherit it."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _running(server: Target, settings: Mapping[str, object], stack: ExitStack) -> Server | Address:
    """Start a stage until the stack ends, its log thrown away: to collect it takes time too."""
    if not isinstance(server, str):
        return server
    name, *own = server.split(",")
    for pair in own:
        if not re.fullmatch(r"[A-Za-z_]\w*=.*", pair):
            raise Mistake(f"needed settings like s12,WORKERS=64, got {server!r}")
    known = lesson(name)
    argv = [sys.executable, "-c", QUIET, str(known.path)]
    title = f"{','.join([known.short, *own])} {known.title}"
    texts = QUIET_SETTINGS | {name: str(value) for name, value in settings.items()}
    texts |= dict(pair.split("=", 1) for pair in own)
    return stack.enter_context(Server.start(argv, title=title, settings=texts))


def _peer(name: str, folder: Path) -> Server:
    """Start a peer, in a new folder of its own."""
    peer, own = PEERS[name], folder / name
    own.mkdir(exist_ok=True)
    argv = [sys.executable, "-P", peer_programs.__file__, name, str(own)]
    title = f"{name} {peer.version}, {peer.setup}"
    return Server.start(argv, title=title, settings={}, timeout=START_SECONDS)


def _address(server: Server | Address) -> Address:
    return server.address if isinstance(server, Server) else server


def _title(server: Server | Address) -> str:
    return server.title if isinstance(server, Server) else "{}:{}".format(*server)


@dataclass(frozen=True)
class _Probe:
    """What a server sends for the path, and whether it responds again on that connection."""

    body: bytes
    kept: bool


def _probe(server: Server | Address, path: str) -> _Probe:
    """Ask twice on one connection. Raises Mistake for a bad response."""
    address = _address(server)
    asking = request(path, address, close=False)
    with Visitor(address, PATIENCE) as client:
        client.send(asking)
        try:
            first = client.read(1).answer
        except NoAnswer as error:
            raise _last_words(server) or NoAnswer(f"{_title(server)}: {error}") from None
        if first.status != 200:
            raise Mistake(f"{_title(server)}: needed 200 for GET {path}, got {first.status}")
        client.send(asking)
        return _Probe(first.body, client.read(1).answers != [])


def _last_words(server: Server | Address) -> Mistake | None:
    """Say why a server has ended, if it has."""
    if not isinstance(server, Server):
        return None
    with suppress(subprocess.TimeoutExpired):
        status = server.wait(0.5)
        words = server.log.rstrip().rpartition("\n")[2]
        return Mistake(f"{server.title} has ended with status {status}: {words}")
    return None


def _pages(running: Sequence[Server | Address], probes: Sequence[_Probe]) -> Iterator[str]:
    """Say which servers send something else than the first."""
    first = probes[0].body
    for server, probe in zip(running, probes, strict=True):
        if probe.body != first:
            sizes = f"{len(probe.body):,} bytes, not the {len(first):,} of {_title(running[0])}"
            yield f"{_title(server)} sends another body: {sizes}"


def _rounds(
    running: Sequence[Server | Address],
    load: _Load,
    rounds: int,
    seconds: int,
    tell: Callable[[str], object],
) -> list[tuple[Round, ...]]:
    """Measure all in turn, after a round that does not count; each round begins with the next."""
    done: list[list[Round]] = [[] for _ in running]
    for number in range(rounds + 1):
        for place in [(number + index) % len(running) for index in range(len(running))]:
            server, takes = running[place], seconds if number else WARM_UP
            tell(f"{f'round {number}' if number else 'warming up'}: {_title(server)}")
            measured = _measure(server, load, takes)
            done[place] += [measured] if number else []
    return [tuple(rounds) for rounds in done]


def _measure(server: Server | Address, load: _Load, seconds: int) -> Round:
    """Run the load once. Raises Mistake if it fails, or if the server has ended."""
    command = load.line(server, seconds)
    (before, _), client = _spent(server), _client_seconds()
    try:
        with _pinned(load.core):
            ended = subprocess.run(  # noqa: S603 - our own command
                command, capture_output=True, text=True, timeout=seconds + OVERTIME
            )
    except subprocess.TimeoutExpired:
        raise Mistake(f"{command[0]} did not end within {seconds + OVERTIME:g} s") from None
    (after, held), client = _spent(server), _client_seconds() - client
    if ended.returncode:
        words = (ended.stderr.strip() or ended.stdout.strip()).rpartition("\n")[2]
        raise Mistake(f"the load of {_title(server)} failed: {words}")
    figures = json.loads(ended.stdout.rstrip().rpartition("\n")[2])
    if not figures["requests"]:  # each connection waited for a response that did not come
        figures["errors"] += load.connections
        figures["kinds"]["no response"] = load.connections
    cpu = None if before is None or after is None else after - before
    in_service = figures["requests"] * figures.pop("mean") / 1000 / figures["seconds"]
    share, served = client / figures["seconds"], in_service / load.connections
    return Round(**figures, cpu=cpu, memory=held, client=share, served=served)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _client_seconds() -> float:
    """Return the CPU seconds of all children that have ended: of these, each load is the last."""
    times = os.times()
    return times.children_user + times.children_system


def _spent(server: Server | Address) -> tuple[float | None, float | None]:
    """Return the CPU seconds of a server so far and its MiB. Raises Mistake if it has ended."""
    if not isinstance(server, Server):
        return None, None
    with suppress(psutil.Error):  # it may end while we look
        if server.running:
            times = [process.cpu_times() for process in family(server)]
            return sum(one.user + one.system for one in times), memory(server) / 2**20
    raise Mistake(f"needed a server that lasts, got {server!r}")
