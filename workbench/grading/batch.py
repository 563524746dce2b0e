"""Grading a class: fork by fork, on this machine or on a cluster, and nothing known is done twice.

Each fork is graded by a process of its own, `python -m workbench.grading.batch`, which `graded`
starts: text goes in and text comes back, so that any `concurrent.futures.Executor` can run it. One
that ends without a word costs no other its mark; it ends itself when its standard input does, and
so never outlives who started it.
"""

from __future__ import annotations

import _thread
import contextlib
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from workbench.errors import Mistake
from workbench.files import ROOT, keep, write
from workbench.grading import manifest
from workbench.grading.grade import FORK_SECONDS, grade, wanted
from workbench.grading.result import RESULT, Grade, now, unsaid
from workbench.grading.sanitize import harmless, line, quoted
from workbench.grading.submissions import Fork, Parcel, fetched
from workbench.grading.wording import heading, mark, note
from workbench.sandbox.supervisor import PR_SET_DUMPABLE, prctl

if TYPE_CHECKING:
    from workbench.grading.gradebook import Overview

LOOK = 0.5  # seconds between two looks at what is under way
SPARE = 300  # seconds that a grading may need above those of its fork
SILENCE = 4 * (FORK_SECONDS + SPARE)  # until a cluster is given up
GRACE = 10.0  # seconds in which a grading that is to end may clear away
ANSWERS = 30  # seconds for a cluster to be there
LONGEST = 60  # characters of a folder's name
RESERVED = ("grades.csv", "index.html")
WORDS = 300  # characters of what a lost grading said last


class Lost(Exception):  # noqa: N818 - named for what happened
    """A grading has ended without a result; the text holds its last words."""


@dataclass(frozen=True)
class Terms:
    """How all forks of a class are graded; `seed` is chosen for each unless given."""

    stages: Sequence[str] = ()
    seed: int | None = None
    require_isolation: bool = False
    resume: bool = False
    fresh: bool = False

    def known(self, name: str, revision: str, file: Path) -> Grade | None:
        """Return what an earlier grader has found out under the same terms, if it stands there."""
        try:
            found = Grade.read(file)
        except Mistake:
            return None
        of = (name, revision, manifest.suite(), [marks.slug for marks in wanted(self.stages)])
        same = of == (
            found.fork,
            found.revision,
            found.suite,
            [stage.slug for stage in found.stages],
        )
        open_ = self.require_isolation and not all(layer["on"] for layer in found.layers)
        return found if same and not open_ and self.seed in (None, found.seed) else None


@dataclass(frozen=True)
class Job:
    """All that a process needs to grade a fork; plain data, that JSON can hold."""

    name: str
    parcel: Parcel
    suite: str
    terms: Terms
    to: str = ""  # the folder of the result, if the process can reach it
    known: str = ""  # the text of an unfinished result to go on with

    @classmethod
    def read(cls, text: bytes) -> Job:
        """Read what `text` has written."""
        found = json.loads(text)
        parts = {"parcel": Parcel(**found["parcel"]), "terms": Terms(**found["terms"])}
        return cls(**found | parts)

    def text(self) -> str:
        """Write it as one line."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Marked:
    """A fork that is done with: its name, the folder with its result, and whether it was known."""

    place: str
    grade: Grade
    known: bool = False

    def __str__(self) -> str:
        """Say its mark in a line, and which stages have cost points; no text in it is raw."""
        grade = harmless(self.grade)
        less = [
            f"{stage.lesson.short} {stage.points} of {stage.of}"
            for stage in grade.stages
            if stage.points not in (None, stage.of)
        ]
        errors = [grade.error] if grade.error else []
        errors += [
            f"{stage.lesson.short} {note(stage)}"
            for stage in grade.stages
            if stage.state == "error"
        ]
        words = line(", ".join(less if grade.points is not None else errors))
        known = " (known before)" if self.known else ""
        return f"{line(grade.fork)[:LONGEST]}: {mark(grade)}{f', {words}' if words else ''}{known}"


# One grading, in a process of its own

UNDER_WAY: dict[subprocess.Popen[bytes], str] = {}  # with the run that each belongs to
STOPPED: set[str] = set()  # runs


def graded(run: str, place: str, job: str) -> str:
    """Grade a fork in a new process, and return what came of it. Raises Lost.

    `place` is there to be seen in a list of processes.
    """
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
        subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-m", "workbench.grading.batch", place, scratch],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        return _heard(process, run, job)


def _heard(process: subprocess.Popen[bytes], run: str, job: str) -> str:
    """Give a process its job, and return the last line that it says. Raises Lost."""
    assert process.stdin is not None
    assert process.stdout is not None
    bell = threading.Timer(FORK_SECONDS + SPARE, _hang_up, [process])
    UNDER_WAY[process] = run
    bell.start()
    try:
        if run in STOPPED:
            raise Lost("stopped before it began")
        with contextlib.suppress(OSError):  # it has ended already
            process.stdin.write(job.encode() + b"\n")
            process.stdin.flush()
        said = process.stdout.read().decode(errors="replace").rstrip()
        if process.wait() == 0:
            return said.rpartition("\n")[2]
        raise Lost(f"its process ended with {process.returncode}: {quoted(said[-WORDS:])}")
    finally:
        bell.cancel()
        UNDER_WAY.pop(process)
        _hang_up(process)


def _hang_up(process: subprocess.Popen[bytes]) -> None:
    """Let a grading end itself."""
    with contextlib.suppress(OSError, ValueError):
        if process.stdin is not None:
            process.stdin.close()


def stop(run: str) -> None:
    """End all gradings of a run in this process, and let none begin."""
    STOPPED.add(run)
    for process, its in list(UNDER_WAY.items()):
        if its == run:
            _hang_up(process)


def _done(job: Job, scratch: Path) -> dict[str, Any]:
    """Do a job; return the grade, or the Mistake that there is none."""
    try:
        if (ours := manifest.suite()) != job.suite:
            raise Mistake(f"its grader has the suite {ours}, and the class {job.suite}")
        fork, to = scratch / "fork", Path(job.to or scratch / "to")
        job.parcel.unpack(fork)
        if job.known:
            to.mkdir(parents=True, exist_ok=True)
            write(to / RESULT, job.known.encode())
        found = grade(
            fork,
            to,
            stages=job.terms.stages,
            name=job.name,
            revision=job.parcel.revision,
            seed=job.terms.seed,
            resume=bool(job.known),
            require_isolation=job.terms.require_isolation,
        )
    except Mistake as mistake:
        return {"mistake": str(mistake)}
    return {"grade": replace(found, notes=(*job.parcel.notes, *found.notes)).asdict()}


def _once(_number: int, _frame: object) -> None:
    """Hear Ctrl-C once: a second one would disturb who clears away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """Wait until the parent hangs up or is gone, and end; hardly, if clearing away takes long."""
    while os.read(0, 65536):
        pass
    _thread.interrupt_main()
    threading.Event().wait(GRACE)
    os._exit(130)


def main() -> None:
    """Read a job from standard input, and write what came of it to standard output.

    The second word of the command line is a folder to work in; it goes when we do.
    """
    signal.signal(signal.SIGINT, _once)
    prctl(PR_SET_DUMPABLE, 0)
    scratch, status = Path(sys.argv[2]), 130
    try:
        job = Job.read(sys.stdin.buffer.readline())
        threading.Thread(target=_end_with_parent, daemon=True).start()
        print(json.dumps(_done(job, scratch)), flush=True)
        status = 0
    except KeyboardInterrupt:
        pass
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    os._exit(status)  # a bell of the grader's may still be set


# A class


@dataclass
class Marking:
    """A class that is graded into a folder: what is sent off, what is lost, and what is done.

    With `afar`, the executor's workers reach no folder of this machine. `heard` is called at every
    look with the number of stages that are done.
    """

    to: Path
    terms: Terms
    executor: Executor
    run: str
    afar: bool = False
    heard: Callable[[int], object] = lambda _stages: None
    sent: dict[Future[str], tuple[str, Job]] = field(default_factory=dict)
    lost: list[tuple[str, Job]] = field(default_factory=list)
    stages: int = 0
    until: float = field(default_factory=lambda: time.monotonic() + SILENCE)

    def marks(self, forks: Iterable[Fork]) -> Iterator[Marked]:
        """Fetch forks and have them graded; yield each as soon as it is done.

        A grading that was lost is tried once more when nothing else goes on: if it is the fork that
        ends whoever grades it, no other suffers. Then it is an error.
        """
        for place, fork in _placed(forks):
            yield from self.begin(place, fork)
            yield from self.back(0)
        while self.sent:
            yield from self.back(LOOK)
        lost, self.lost = self.lost, []
        for place, job in lost:
            known = self.unfinished(place, job) if self.so_far(place) else job.known
            self.send(place, replace(job, known=known))
            while self.sent:
                yield from self.back(LOOK, last=True)

    def begin(self, place: str, fork: Fork) -> Iterator[Marked]:
        """Send a fork off, or yield it at once if its mark is known or it cannot be had."""
        try:
            parcel = fetched(fork)
        except Mistake as mistake:
            yield self.failed(place, fork.name, "", str(mistake))
            return
        found = self.terms.known(fork.name, parcel.revision, self.file(place))
        if found and found.finished and found.points is not None and not self.terms.fresh:
            yield self.settled(place, found, known=True)
            return
        to = "" if self.afar else str(self.file(place).parent.absolute())
        job = Job(fork.name, parcel, manifest.suite(), self.terms, to)
        known = self.unfinished(place, job) if self.terms.resume else ""
        self.send(place, replace(job, known=known))

    def file(self, place: str) -> Path:
        """Return where the result of a fork is kept."""
        return self.to / place / RESULT

    def unfinished(self, place: str, job: Job) -> str:
        """Return the text of a result that can be gone on with."""
        found = self.terms.known(job.name, job.parcel.revision, self.file(place))
        return json.dumps(found.asdict()) if found else ""

    def send(self, place: str, job: Job) -> None:
        """Have a fork graded."""
        self.sent[self.executor.submit(graded, self.run, place, job.text())] = place, job

    def back(self, seconds: float, *, last: bool = False) -> Iterator[Marked]:
        """Wait so many seconds for a grading to end; yield those that have."""
        done, _ = wait(self.sent, seconds, FIRST_COMPLETED)
        self.heard(self.stages + sum(self.so_far(place) for place, _ in self.sent.values()))
        for future in done:
            place, job = self.sent.pop(future)
            self.until = time.monotonic() + SILENCE
            try:
                yield self.received(place, job, json.loads(future.result()))
            except Exception as error:
                if last:
                    why = f"its grading was lost, twice: {type(error).__name__}: {error}"
                    yield self.failed(place, job.name, job.parcel.revision, why)
                else:
                    self.lost.append((place, job))
        if time.monotonic() > self.until:
            yield from self.given_up()

    def given_up(self) -> Iterator[Marked]:
        """Wait no longer for what is still away: a cluster may have no worker any more."""
        for place, job in self.sent.values():
            why = f"nothing came back within {SILENCE:,} s"
            yield self.failed(place, job.name, job.parcel.revision, why)
        self.sent.clear()

    def so_far(self, place: str) -> int:
        """Count the stages of a fork that are done, of one that is not finished."""
        try:
            found = Grade.read(self.file(place))
        except Mistake:
            return 0
        return sum(stage.state != "waiting" for stage in found.stages if not found.finished)

    def received(self, place: str, job: Job, found: dict[str, Any]) -> Marked:
        """Take over what came back."""
        if reason := found.get("mistake"):
            return self.failed(place, job.name, job.parcel.revision, reason)
        return self.written(place, found["grade"])

    def failed(self, place: str, name: str, revision: str, why: str) -> Marked:
        """Make a result of a fork that could not be graded; one with a mark stays beside it."""
        with contextlib.suppress(Mistake):
            if Grade.read(self.file(place)).points is not None:
                keep(self.file(place), self.file(place).read_bytes())
        stages = tuple(map(unsaid, wanted(self.terms.stages)))
        blank = Grade(name, revision, manifest.suite(), self.terms.seed or 0, (), stages)
        found = self.terms.known(name, revision, self.file(place)) or blank
        return self.written(place, replace(found, error=why, finished=now()).asdict())

    def written(self, place: str, found: dict[str, Any]) -> Marked:
        """Write the result of a fork."""
        self.file(place).parent.mkdir(parents=True, exist_ok=True)
        write(self.file(place), json.dumps(found, ensure_ascii=False).encode())
        return self.settled(place, Grade.read(self.file(place)))

    def settled(self, place: str, found: Grade, *, known: bool = False) -> Marked:
        """Write the reports of a fork that is done with."""
        from workbench.grading.reports import write_all

        write_all(found, self.to / place)
        self.stages += 0 if known else len(found.stages)
        return Marked(place, found, known)


def _placed(forks: Iterable[Fork]) -> Iterator[tuple[str, Fork]]:
    """Give each fork a folder's name that is safe; of two alike, the second has a number."""
    taken = set(RESERVED)
    for fork in forks:
        plain = re.sub(r"[^\w.-]+", "_", fork.name).strip("._-")[:LONGEST] or "fork"
        place, number = plain, 1
        while place.casefold() in taken:
            number += 1
            place = f"{plain}-{number}"
        taken.add(place.casefold())
        yield place, fork


# Who grades: this machine, or a cluster


@contextlib.contextmanager
def here(jobs: int) -> Iterator[tuple[Executor, str]]:
    """Lend an executor that grades so many forks at once; whatever ends it ends them too."""
    prctl(PR_SET_DUMPABLE, 0)  # our environment is not for those whom we grade
    run = uuid.uuid4().hex
    with ThreadPoolExecutor(jobs) as crew:
        try:
            yield crew, run
        except BaseException:
            crew.shutdown(wait=False, cancel_futures=True)
            stop(run)
            raise


@contextlib.contextmanager
def cluster(address: str) -> Iterator[tuple[Executor, str]]:
    """Lend the executor of a Dask cluster. Raises Mistake if there is none.

    Where a worker dies, the cluster has its forks graded by another.
    """
    try:
        distributed = importlib.import_module("distributed")
    except ModuleNotFoundError as error:
        raise Mistake('--dask needs Dask: pip install -e ".[dask]"') from error
    run = uuid.uuid4().hex
    try:
        client = distributed.Client(address, timeout=ANSWERS)
        client.wait_for_workers(1, timeout=ANSWERS)
    except (OSError, ValueError, TimeoutError) as error:
        raise Mistake(f"needed a Dask cluster with a worker at {address}: {error}") from error
    with client, client.get_executor(pure=False) as crew:
        try:
            yield crew, run
        except BaseException:
            crew.shutdown(wait=False)
            client.run(stop, run, on_error="ignore")
            raise


# What is told of it


def mark_class(
    forks: Sequence[Fork], to: Path, terms: Terms, *, jobs: int, dask: str, console: Console
) -> Overview:
    """Grade a class into a folder, and tell of each fork in a line as soon as it is done.

    In a terminal a bar shows how far it is, and how long it will take. Raises Mistake for a cluster
    that is not there.
    """
    from workbench.grading.gradebook import overview

    began, found = time.monotonic(), dict[str, Marked]()
    each = len(wanted(terms.stages))
    crew = cluster(dask) if dask else here(jobs)
    with crew as (executor, run), _bar(console) as bar:
        task = bar.add_task("", total=each * len(forks))
        marking = Marking(to, terms, executor, run, bool(dask))
        marking.heard = lambda stages: bar.update(task, completed=stages)
        for marked in marking.marks(forks):
            found[marked.place] = marked
            bar.update(task, total=each * (len(forks) - sum(one.known for one in found.values())))
            console.print(Text(f"{len(found)}/{len(forks)} {marked}"), soft_wrap=True)
    places = [place for place, _ in _placed(forks)]
    made = overview([(place, found[place].grade) for place in places], to)
    crews = f"Dask at {dask}" if dask else _many(jobs, "job")
    took = f"{_many(len(forks), 'fork')} in {time.monotonic() - began:.0f} s, {crews}"
    count = (
        f"{len(made.marked)} with a mark, {sum(one.known for one in found.values())} known before"
    )
    console.print(Text(f"{took}: {count}"), soft_wrap=True)
    _tell_where(made, to, console)
    return made


def _many(number: int, what: str) -> str:
    """Write a number of things."""
    return f"{number} {what}{'s' * (number != 1)}"


def _tell_where(made: Overview, to: Path, console: Console) -> None:
    """Say where to look; of a fork alone, its stages with their points, to GitHub too."""
    from workbench.grading.reports import to_github

    if len(made.grades) > 1:
        console.print(
            Text(f"The class: {to / 'index.html'} and {to / 'grades.csv'}"), soft_wrap=True
        )
        return
    ((place, found),) = made.grades
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for stage in found.stages:
        table.add_row(heading(stage), mark(stage), "{} of {} sentences hold".format(*stage.counts))
    console.print(table)
    console.print(Text(f"The page for the student: {to / place / 'index.html'}"), soft_wrap=True)
    to_github(found)


def _bar(console: Console) -> Progress:
    """Return a bar with an estimate, for a terminal alone."""
    count = TextColumn("{task.completed:.0f} of {task.total:.0f} stages")
    columns = (count, BarColumn(), TimeElapsedColumn(), Estimate())
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)


class Estimate(ProgressColumn):
    """How long the rest will take if all goes on as so far."""

    def render(self, task: Task) -> Text:
        """Say it in hours, minutes and seconds as soon as anything is done."""
        if not task.completed or not task.elapsed:
            return Text("")
        seconds = task.elapsed * (task.remaining or 0) / task.completed
        return Text(f"about {timedelta(seconds=round(seconds))} to go")


if __name__ == "__main__":
    main()
