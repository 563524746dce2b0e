"""Grading a fork: marks that come from the suite of this checkout, and cannot be forged.

From the fork come the files of its stages and `static/`, nothing else. They are copied, and run as
children of a runner (pytest, with the suite that lies here) in a sandbox, see `isolation.py`. Marks
are given by the manifest: what did not report earns nothing. What the grader could not find out is
an error, and no mark at all.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import json
import os
import queue
import secrets
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

from workbench.course.catalogue import Stage, lesson
from workbench.errors import Mistake
from workbench.files import ROOT, SUITE, write
from workbench.grading import manifest
from workbench.grading import plugin as graded
from workbench.grading.manifest import Marks
from workbench.grading.result import RESULT, Check, Grade, Outcome, StageGrade, State, now, unsaid
from workbench.grading.sanitize import quoted
from workbench.grading.submissions import NAMES, collected
from workbench.practice.results import UNENDED, entries, understood
from workbench.sandbox.isolation import LANES, Sandbox, environment, own, probe, renew, workplace
from workbench.server.processes import descendants, kill
from workbench.server.reaper import REAPER

SENTENCE_SECONDS = 60  # where the sentence sets itself no other
STAGE_SECONDS = 420
FORK_SECONDS = 3600
MEBIBYTE = 2**20
WORDS = 2000  # characters of a runner's last words
ROOM = 64 * MEBIBYTE  # bytes on the disk without which nothing can be found out
ENDS_WITHIN = 10  # seconds for a runner that is told to end
PLUGINS = ("no:cacheprovider", "pytest_timeout", "pytest_reportlog.plugin", graded.__name__)

ENDED = None, 2, 3  # statuses of a runner that was killed, interrupted, or fell over a sentence

Lanes = queue.SimpleQueue[tuple[Path, Sandbox]]
OUTCOMES: dict[str, Outcome] = {
    "yes": "holds",
    "no": "broken",
    "not reached": "not reached",
    "skipped": "skipped",
}


class NoIsolation(Mistake):
    """Isolation was required, and a wall does not stand; the text says which, and why."""


Heard = Callable[[Grade, str], object]


def grade(
    fork: Path,
    to: Path,
    *,
    stages: Sequence[Stage] = (),
    name: str = "",
    revision: str = "",
    seed: int | None = None,
    resume: bool = False,
    require_isolation: bool = False,
    heard: Heard = lambda _grade, _what: None,
) -> Grade:
    """Grade a fork's folder, and keep the result in the folder `to` as `grade.json`.

    All stages of the course are graded unless some are named. The file is valid at every moment;
    with `resume`, what it has already is not graded again. `heard` is called with each step. Raises
    Mistake for a folder that is not there, NoIsolation if it is required and a wall is missing.
    """
    if not fork.is_dir():
        raise Mistake(f"needed a fork's folder, and {fork} is none")
    sandbox = probe()
    if require_isolation and sandbox.missing:
        lacking = "; ".join(f"{layer.name}: {layer.detail}" for layer in sandbox.missing)
        raise NoIsolation(f"isolation was required, and these layers are missing: {lacking}")
    to.mkdir(parents=True, exist_ok=True)
    layers = tuple(asdict(layer) for layer in sandbox.layers)
    fresh = Grade(
        quoted(name or fork.resolve().name),
        revision,
        manifest.suite(),
        secrets.randbelow(2**31) if seed is None else seed,
        layers,
        tuple(map(unsaid, wanted(stages))),
    )
    grading = Grading(_resumed(fresh, to / RESULT) if resume else fresh, to / RESULT, heard)
    grading.run(fork, sandbox)
    return grading.grade


def wanted(stages: Sequence[Stage]) -> tuple[Marks, ...]:
    """Choose from the manifest. Raises UnknownStage."""
    slugs = {lesson(stage).slug for stage in stages}
    return tuple(marks for marks in manifest.manifest() if not slugs or marks.slug in slugs)


def _resumed(fresh: Grade, file: Path) -> Grade:
    """Take over what an earlier grader of the same suite has found out. Raises Mistake."""
    if not file.exists():
        return fresh
    old = Grade.read(file)
    if (old.suite, old.revision) != (fresh.suite, fresh.revision):
        return fresh
    known = {stage.slug: stage for stage in old.stages if stage.state in ("graded", "missing")}
    stages = tuple(known.get(stage.slug, stage) for stage in fresh.stages)
    return replace(fresh, seed=old.seed, stages=stages, started=old.started)


class Grading:
    """A grade that grows, check by check, and is on disk at every moment."""

    def __init__(self, grade: Grade, file: Path, heard: Heard) -> None:
        self.grade, self.file, self.heard = grade, file, heard
        self.lock = threading.RLock()
        self.stopped = threading.Event()
        self.runners: set[Runner] = set()

    def keep(self, what: str = "", **changes: object) -> None:
        """Take over changes, write the file anew, and tell of it."""
        with self.lock:
            self.grade = replace(self.grade, **changes)  # type: ignore[arg-type]
            write(self.file, json.dumps(self.grade.asdict(), ensure_ascii=False).encode())
            self.heard(self.grade, what)

    def keep_stage(self, stage: StageGrade, what: str = "") -> None:
        """Take over what is known of a stage."""
        with self.lock:
            stages = [stage if old.slug == stage.slug else old for old in self.grade.stages]
            self.keep(what, stages=tuple(stages))

    def run(self, fork: Path, sandbox: Sandbox) -> None:
        """Grade what is not graded yet; a fault of our own is an error, and no mark."""
        self.keep()
        until = time.monotonic() + FORK_SECONDS
        left = [stage for stage in self.grade.stages if stage.points is None]
        left.sort(key=lambda stage: len(stage.checks))  # the longest is begun first
        try:
            with contextlib.ExitStack() as stack:
                first, *others = works = [stack.enter_context(workplace()) for _ in range(LANES)]
                slugs = [stage.slug for stage in self.grade.stages]
                self.keep(notes=tuple(collected(fork, first / "fork", slugs)))
                for other in others:
                    shutil.copytree(first / "fork", other / "fork", dirs_exist_ok=True)
                lanes = Lanes()
                for number, work in enumerate(works):
                    lanes.put((work, replace(sandbox, lane=number)))
                pool = stack.enter_context(ThreadPoolExecutor(LANES))
                stack.callback(self.stop, pool)
                tasks = [
                    pool.submit(self.in_lane, fork, lanes, stage, until, behind)
                    for behind, stage in reversed(list(enumerate(left)))
                ]
                for task in tasks:
                    task.result()
        except Exception as error:  # whatever it was, the fork is not to blame
            self.keep(error=quoted(f"the grader itself failed: {error!r}"))
        self.keep(finished=now())

    def stop(self, pool: ThreadPoolExecutor) -> None:
        """End what is still under way; what is not done then is as if it had not begun."""
        pool.shutdown(wait=False, cancel_futures=True)
        self.stopped.set()
        for runner in list(self.runners):
            runner.end()

    def in_lane(
        self, fork: Path, lanes: Lanes, stage: StageGrade, until: float, behind: int
    ) -> None:
        """Runner a stage in a lane that is free, if the fork has it, and leave time for others."""
        lane = lanes.get()
        runner = Runner(*lane, self.grade.seed, self.stopped)
        self.runners.add(runner)
        try:
            if (runner.work / "fork" / "stages" / f"{stage.slug}.py").exists():
                self.runner(stage, runner, (until - time.monotonic()) / (behind + 1))
            else:
                self.keep_stage(replace(stage, state="missing", note=_nearly(stage, fork)))
        finally:
            self.runners.remove(runner)
            lanes.put(lane)

    def runner(self, stage: StageGrade, runner: Runner, seconds: float) -> None:
        """Have the sentences of a stage said, and take over each as it comes."""
        began = time.monotonic()
        places = {check.id: place for place, check in enumerate(stage.checks)}
        checks = list(stage.checks)
        for said in runner.said(stage, min(STAGE_SECONDS, seconds)):
            place = places[said.id]
            checks[place] = replace(checks[place], outcome=said.outcome, reason=said.reason)
            stage = replace(stage, checks=tuple(checks), seconds=time.monotonic() - began)
            self.keep_stage(stage, said.sentence)
        stage = replace(stage, seconds=round(time.monotonic() - began, 1))
        self.keep_stage(replace(stage, state=runner.state, note=runner.note))


class StoppedError(Exception):
    """A runner was told to stop."""


class Runner:
    """pytest in a sandbox, which says the sentences of one stage.

    One that is ended in the middle of a sentence is followed by another, which says it once more
    and goes on: so the machine's bad luck costs nothing, and who can end a runner earns nothing.
    """

    def __init__(self, work: Path, sandbox: Sandbox, seed: int, stopped: threading.Event) -> None:
        self.work, self.sandbox, self.seed, self.stopped = work, sandbox, seed, stopped
        self.state: State = "graded"
        self.note = ""
        self.over = False
        self.process: subprocess.Popen[bytes] | None = None

    def said(self, stage: StageGrade, seconds: float) -> Iterator[Check]:
        """Yield each sentence of a stage with what came of it, for so many seconds at most."""
        until, suspect = time.monotonic() + seconds, ""
        first, left = stage.checks[0], {check.id: check for check in stage.checks}
        while left and not self.over:
            asked = {first.id: first} | left
            for check in self.heard(list(asked.values()), until):
                left.pop(check.id, None)
                yield check
            guilty, suspect = suspect, next(iter(left), "")
            if left and suspect == guilty and not self.over:
                reason = "the runner was ended when it was said, and when it was said again"
                yield replace(left.pop(suspect), reason=reason)
                self.over = suspect == first.id

    def heard(self, checks: list[Check], until: float) -> Iterator[Check]:
        """Have sentences said by a runner of their own, and yield each; it may not come to all."""
        renew(self.work)
        own(self.work, self.sandbox.user())
        roomy(self.work)
        begun, status, known = False, None, {check.id: check for check in checks}
        with self.running(checks) as (process, report):
            bell = threading.Timer(max(0, until - time.monotonic()), _end, [process])
            bell.daemon = True  # nothing waits for it, however this ends
            bell.start()
            for entry in report:
                begun = begun or entry["$report_type"] == "CollectReport"
                status = entry.get("exitstatus", status)
                for name, said in understood(entry):
                    check = known.get(name.rpartition("suite/")[2])
                    if check and said.reason != UNENDED:
                        reason = quoted(said.reason)
                        yield replace(check, outcome=OUTCOMES[said.state], reason=reason)
            bell.cancel()
        roomy(self.work)
        self.conclude(begun, status, time.monotonic() >= until)

    def end(self) -> None:
        """End it now."""
        if self.process:
            _end(self.process)

    def conclude(self, begun: bool, status: int | None, late: bool) -> None:
        """Say why not all was said, if so: a fault of the grader's own is an error.

        Raises StoppedError where it is none of all that.
        """
        self.over = True
        if self.stopped.is_set():
            raise StoppedError
        if status in (0, 1):
            return
        if late:
            self.note = "its time was over before all sentences were said"
        elif begun and status in ENDED:
            self.note = "the runner was ended in the middle of a sentence"
            self.over = False
        else:
            self.state = "error"
            last = self.words.read_text(encoding="utf-8", errors="replace")[-WORDS:]
            self.note = f"the sentences could not be said: {quoted(last)}"

    @property
    def words(self) -> Path:
        """Where the runner's own words go."""
        return self.work / "words.txt"

    def command(self, checks: list[Check], report: str) -> list[str]:
        """Write the command line for pytest, behind what stands around it."""
        options = ["--override-ini=addopts=", f"--override-ini=timeout={SENTENCE_SECONDS}"]
        options += [f"--stages={self.work / 'fork' / 'stages'}", f"--report-log={report}"]
        options += [f"--basetemp={self.work / 'scratch' / 'tmp' / 'pytest'}"]
        options += [f"-p{plugin}" for plugin in PLUGINS]
        if under := self.sandbox.around_program(self.work):
            options += [f"--under={shlex.join(under)}"]
        if self.sandbox.has("bubblewrap"):
            options += ["--zygote"]
        tests = [str(SUITE / check.id) for check in checks]
        python = [sys.executable, "-I", "-B", "-m", "pytest"]  # -B: no code where others may write
        return [*self.sandbox.around_runner(self.work), *python, *options, *tests]

    @contextlib.contextmanager
    def running(
        self, checks: list[Check]
    ) -> Iterator[tuple[subprocess.Popen[bytes], Iterator[dict[str, Any]]]]:
        """Run a runner, and leave nothing of it behind: neither now nor if we die.

        It reports by a pipe, which has no name for a program of the fork to write to.
        """
        seed = {"PYTEST_ADDOPTS": f"--seed={self.seed}"}  # not in the command, for all to read
        with (
            self.words.open("wb") as output,
            Channel(self.work, self.sandbox.user()) as channel,
            subprocess.Popen(  # noqa: S603 - our own suite
                self.command(checks, channel.name),
                cwd=ROOT,
                env=environment(self.work) | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | seed,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=channel.numbers,
            ) as process,
        ):
            REAPER.watch(process.pid)
            self.process = process
            try:
                if self.stopped.is_set():
                    raise StoppedError
                yield process, channel.entries(process)
            finally:
                _end(process)
                REAPER.forget(process.pid)


class Channel:
    """How a runner reports: by a pipe, which no program of the fork has; on Windows, by a file."""

    def __init__(self, work: Path, user: int | None) -> None:
        self.file, self.numbers = work / "report", tuple[int, ...]()
        self.name, self.ends = str(self.file), contextlib.ExitStack()
        if sys.platform == "win32":
            self.file.write_bytes(b"")
            return
        reading, writing = os.pipe()
        self.lines = self.ends.enter_context(os.fdopen(reading, encoding="utf-8"))
        self.writer = self.ends.enter_context(os.fdopen(writing, "wb"))
        self.numbers, self.name = (writing,), f"/dev/fd/{writing}"
        if user is not None:
            os.fchown(writing, user, user)

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *_: object) -> None:
        self.ends.close()

    def entries(self, process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
        """Yield each entry of the report as it comes; the last line may have been cut off."""
        if not self.numbers:
            yield from entries(self.file, process)
            return
        self.writer.close()  # it is the runner's alone now, and ends with it
        yield from (json.loads(line) for line in self.lines if line.endswith("\n"))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a runner; what stands around it ends all that it has started, unless it was stopped."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(ENDS_WITHIN)
        return
    kill(descendants(process.pid))
    process.kill()


def roomy(work: Path) -> None:
    """Raise OSError where there is no room to find anything out."""
    if (free := shutil.disk_usage(work).free) < ROOM:
        raise OSError(errno.ENOSPC, f"{work} has {free:,} bytes left, and needs {ROOM:,}")


def _nearly(stage: StageGrade, fork: Path) -> str:
    """Say that a file is not there, and which one has nearly its name."""
    wanted = f"{stage.slug}.py"
    with contextlib.suppress(OSError):
        others = [entry.name for entry in islice(os.scandir(fork / "stages"), NAMES)]
        for close in difflib.get_close_matches(wanted, others, n=1, cutoff=0.7):
            if close != wanted:
                return f"needed stages/{wanted}, and there is stages/{quoted(close)}"
    return f"needed a file stages/{wanted} that could be taken, found none"
