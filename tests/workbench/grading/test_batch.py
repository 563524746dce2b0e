"""A class is graded: what is sent off, what is known already, and who pays for what is lost."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from helpers.commands import WORKBENCH, told
from helpers.forks import fork_of
from helpers.processes import alive
from helpers.stages import source
from suite.clients import signals, until
from suite.requirements import Witness

from workbench.course.catalogue import lesson
from workbench.errors import Mistake
from workbench.files import ROOT, write
from workbench.grading import batch as marking
from workbench.grading import grade as grading
from workbench.grading import manifest
from workbench.grading.batch import Lost, Marking, Terms, here
from workbench.grading.result import Grade
from workbench.grading.submissions import Fork
from workbench.server.processes import descendants

SOURCE = source("s01")
SLOW = f"import time\ntime.sleep(1)\n{SOURCE}".replace("from __future__ import annotations\n", "")


def student(folder, name, source=SOURCE):
    """Make a fork that has the first stage."""
    return fork_of(folder / name, "s01", s01=source)


# Without a runner: what a process would do is done at once


class Graders:
    """Stands in for the processes: all sentences hold, unless a fork loses who grades it."""

    def __init__(self):
        self.places, self.known, self.loses = [], [], {}

    def __call__(self, run, place, job):
        job = marking.Job.read(job.encode())
        self.places.append(place)
        self.known.append(bool(job.known))
        if self.loses.get(place, 0) > 0:
            self.loses[place] -= 1
            raise Lost(f"{place} has ended it")
        blank = map(grading.unsaid, grading.wanted(job.terms.stages))
        stages = [
            {
                **vars(stage),
                "state": "graded",
                "checks": [{**vars(check), "outcome": "holds"} for check in stage.checks],
            }
            for stage in blank
        ]
        found = Grade(job.name, job.parcel.revision, job.suite, job.terms.seed or 7, WALLS, ())
        return json.dumps({"grade": {**found.asdict(), "finished": "now", "stages": stages}})


WALLS = ({"name": "copy", "on": True, "detail": ""},)


@pytest.fixture
def graders(monkeypatch):
    found = Graders()
    monkeypatch.setattr(marking, "graded", found)
    return found


@pytest.fixture
def forks(tmp_path):
    """Three forks of a class."""
    for name in ("ada", "eva", "ida"):
        student(tmp_path / "forks", name)
    return tmp_path / "forks"


def marks(forks, to, jobs=2, **terms):
    """Grade the first stage of forks; return for each its points, and whether they were known."""
    terms = Terms(["s01_bind_and_print"], **terms)
    listed = (
        [Fork.at(fork) for fork in sorted(forks.iterdir())] if isinstance(forks, Path) else forks
    )
    with here(jobs) as (executor, run):
        made = list(Marking(to, terms, executor, run).marks(listed))
    return {one.place: (one.grade.points, one.known) for one in made}


def test_what_is_known_is_not_graded_again(forks, tmp_path, graders):
    to = tmp_path / "grades"
    assert marks(forks, to) == dict.fromkeys(("ada", "eva", "ida"), (5, False))
    assert marks(forks, to) == dict.fromkeys(("ada", "eva", "ida"), (5, True))
    (forks / "eva" / "README.md").write_text("mine", encoding="utf-8")
    (forks / "ida" / "stages" / lesson("s01").path.name).write_text("", encoding="utf-8")
    found = marks(forks, to)
    assert found == {"ada": (5, True), "eva": (5, True), "ida": (5, False)}


def test_what_is_known_on_other_terms_is_graded_again(forks, tmp_path, graders, monkeypatch):
    to = tmp_path / "grades"
    marks(forks, to)

    def known(**terms):
        return {known for _, known in marks(forks, to, **terms).values()}

    assert known(seed=7) == {True}
    assert known(seed=8) == {False}
    assert known(fresh=True) == {False}
    monkeypatch.setattr(sys.modules[__name__], "WALLS", ({**WALLS[0], "on": False},))
    assert known(require_isolation=True) == {True}
    assert known(fresh=True) == {False}
    assert known() == {True}
    assert known(require_isolation=True) == {False}
    monkeypatch.setattr(manifest, "suite", lambda: "another")
    assert known() == {False}


def test_what_was_not_finished_is_gone_on_with_if_that_is_asked_for(forks, tmp_path, graders):
    to = tmp_path / "grades"
    marks(forks, to)
    for name in ("ada", "eva"):
        file = to / name / "grade.json"
        write(file, json.dumps({**json.loads(file.read_bytes()), "finished": ""}).encode())
    (forks / "eva" / "stages" / lesson("s01").path.name).write_text("", encoding="utf-8")
    graders.known.clear()
    assert marks(forks, to, resume=True)["ida"] == (5, True)
    assert graders.known == [True, False], "eva has changed"
    assert marks(forks, to, fresh=True)["ada"] == (5, False)
    assert graders.known[2:] == [False, False, False]
    graders.known.clear()
    write(file.parent.parent / "ada" / "grade.json", file.read_bytes()[:100])
    assert marks(forks, to, resume=True)["ada"] == (5, False)
    assert graders.known == [False]


def test_a_grading_that_is_lost_is_tried_again_when_all_others_are_done(forks, tmp_path, graders):
    graders.loses = {"ada": 1}
    assert marks(forks, tmp_path / "grades", jobs=1)["ada"] == (5, False)
    assert graders.places == ["ada", "eva", "ida", "ada"]


def test_one_that_is_lost_twice_is_an_error_and_costs_no_other_its_mark(forks, tmp_path, graders):
    to = tmp_path / "grades"
    marks(forks, to)
    graders.loses = {"ada": 2}
    found = marks(forks, to, fresh=True)
    assert found == {"ada": (None, False), "eva": (5, False), "ida": (5, False)}
    assert "ada has ended it" in Grade.read(to / "ada" / "grade.json").error
    assert Grade.read(to / "ada" / "grade.json.before").points == 5
    assert marks(forks, to)["ada"] == (5, False), "an error is tried again"


def test_a_fork_that_cannot_be_had_is_an_error_of_its_own(forks, tmp_path, graders):
    listed = [Fork("gone", str(forks / "gone")), Fork.at(forks / "ada")]
    assert marks(listed, tmp_path / "grades") == {"gone": (None, False), "ada": (5, False)}
    assert "there is no folder" in Grade.read(tmp_path / "grades" / "gone" / "grade.json").error


def test_every_name_has_a_folder_of_its_own_in_the_results(forks, tmp_path, graders):
    names = [
        "..",
        "../../ada",
        "/etc",
        "ada",
        "Ada",
        "ada",
        "index.html",
        "=cmd|x",
        "a\nb",
        "",
        ".",
    ]
    names += ["x" * 500, "\U0001f98a", "grades.csv", "-rf"]
    to = tmp_path / "results" / "grades"
    found = marks([Fork(name, str(forks / "ada")) for name in names], to)
    assert len({place.casefold() for place in found}) == len(names)
    assert all(re.fullmatch(r"\w[\w.-]*", place) for place in found)
    assert not {"index.html", "grades.csv"} & set(found)
    assert {path.name for path in to.iterdir()} == set(found)
    assert {path.name for path in to.parent.iterdir()} == {"grades"}
    kept = [Grade.read(path).fork for path in to.glob("*/grade.json")]
    assert sorted(kept) == sorted(names)


def test_a_class_is_a_line_for_each_fork_a_table_and_a_page(forks, tmp_path, graders, monkeypatch):
    (tmp_path / "list.csv").write_text("name,source\n\x1b[2J=x,forks/eva\n", encoding="utf-8")
    to = tmp_path / "grades"
    words = [forks / "ada", "--forks", tmp_path / "list.csv", "--stages", "s01-s02", "--to", to]
    status, out = told("grade", *words)
    assert status == 0
    lines = sorted(out.splitlines()[:2], key=lambda line: "ada" not in line)
    assert [line.partition(" ")[2] for line in lines] == [
        "ada: 10 of 10 points",
        "\\x1b[2J=x: 10 of 10 points",
    ]
    assert "2 forks in " in out
    assert "1 job: 2 with a mark, 0 known before" in out
    assert (to / "index.html").is_file()
    assert (to / "grades.csv").read_text(encoding="utf-8-sig").splitlines()[1].startswith("ada,")
    assert "(known before)" in told("grade", *words)[1]


def test_a_fork_alone_has_its_stages_told_and_github_is(forks, tmp_path, graders, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    status, out = told("grade", forks / "ada", "--stages", "s01", "--to", tmp_path / "grades")
    assert status == 0
    assert re.search(r"s01 Bind and print  5 of 5 points  (\d+) of \1 sentences hold", out)
    assert f"The page for the student: {tmp_path / 'grades' / 'ada' / 'index.html'}" in out
    assert "5 of 5 points" in (tmp_path / "summary.md").read_text(encoding="utf-8")


def test_an_error_is_status_1_and_a_low_mark_is_not(forks, tmp_path, graders):
    graders.loses = {"eva": 2}
    words = [*sorted(forks.iterdir()), "--stages", "s01", "--to", tmp_path / "grades"]
    status, out = told("grade", *words)
    assert status == 1
    assert "eva: no mark, its grading was lost, twice: Lost: eva has ended it" in out
    assert "2 with a mark" in out


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "needed the folder of a fork"),
        (["nowhere"], "needed the folder of a fork, and nowhere is none"),
        (["--forks", "nowhere.csv"], "cannot read the list nowhere.csv"),
        ([".", "--jobs", "0"], "--jobs must be at least 1, not 0"),
        ([".", "--stages", "s01-s99"], "no stage is called 's99'"),
        ([".", "--dask", "tcp://127.0.0.1:1"], "needed a Dask cluster with a worker at tcp"),
    ],
)
def test_a_slip_is_a_line(words, why, tmp_path, graders, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(marking, "ANSWERS", 0.2)
    status, mistake = told("grade", *words)
    assert status == 1
    assert why in mistake
    assert "\n" not in mistake


def test_without_dask_it_says_what_to_install(forks, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    status, mistake = told("grade", forks / "ada", "--dask", "tcp://127.0.0.1:1")
    assert status == 1
    assert 'pip install -e ".[dask]"' in mistake


# With real processes


@pytest.fixture
def patience(monkeypatch):
    """Time for several runners, on a machine that has much to do."""
    monkeypatch.setattr(Witness, "patience", 100)


@contextlib.contextmanager
def begun(*words):
    """Start the command in a process and a session of its own; it is ended if it has not."""
    line = [*WORKBENCH, "grade", *map(str, words), "--stages", "s01"]
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(line, cwd=ROOT, text=True, start_new_session=True, **both) as process:
        try:
            yield process
        finally:
            process.kill()


def words(process):
    """The command line of a process; nothing of one that has gone."""
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


def gradings(processes, place=""):
    """Those of the processes that grade a fork."""
    return [
        one
        for one in processes
        if "workbench.grading.batch" in words(one) and place in words(one)[-2]
    ]


def under_way(grading):
    """Whether a grading has come so far that sentences are said."""
    return any("pytest" in words(child) for child in descendants(grading.pid))


def said(file):
    """How many sentences of a fork are known to hold."""
    with contextlib.suppress(Mistake):
        return Grade.read(file).stages[0].counts[0]
    return 0


def when(command, condition, what):
    """Wait until a condition holds, or a command has ended before it did."""
    return until(lambda: condition() or command.poll() is not None, what)


def ended(process):
    """Wait until a command has ended; return its status and what it has printed."""
    out, _ = process.communicate(timeout=300)
    return process.returncode, out


def test_a_fork_is_graded_for_real(tmp_path):
    to = tmp_path / "grades"
    status, out = told("grade", student(tmp_path, "ada"), "--stages", "s01", "--to", to)
    assert status == 0, out
    assert re.search(r"(\d+) of \1 sentences hold", out)
    assert Grade.read(to / "ada" / "grade.json").points == 5


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_forks_are_graded_for_real_and_one_that_is_killed_is_graded_again(tmp_path, patience):
    folders = student(tmp_path, "ada"), tmp_path / "nobody"
    folders[1].mkdir()
    with begun(*folders, "--to", tmp_path / "grades", "--jobs", "2") as command:
        when(
            command,
            lambda: any(map(under_way, gradings(descendants(command.pid), "ada"))),
            "a runner",
        )
        (grading,) = gradings(descendants(command.pid), "ada")
        grading.kill()
        status, out = ended(command)
    assert "ada: 5 of 5 points\n" in out
    assert "nobody: 0 of 5 points, s01 0 of 5\n" in out
    assert status == 0


@pytest.mark.slow
@signals
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_class_that_is_stopped_leaves_valid_results_and_no_process(
    tmp_path, number, status, patience
):
    folder, to = student(tmp_path, "ada", SLOW), tmp_path / "grades"
    with begun(folder, "--to", to) as command:
        when(command, lambda: said(to / "ada" / "grade.json"), "a sentence is said")
        started = descendants(command.pid)
        assert any(gradings(started))
        os.killpg(command.pid, number)
        assert ended(command)[0] == status
    until(lambda: not any(map(alive, started)), "all processes are gone")
    assert Grade.read(to / "ada" / "grade.json").points is None
    assert 0 < said(to / "ada" / "grade.json") < 10


# On a cluster


@pytest.fixture
def cluster():
    """A cluster of three processes; a fork may be lost with one of them, and not with two."""
    distributed = pytest.importorskip("distributed")
    dask = pytest.importorskip("dask")
    size = {"n_workers": 3, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(**size, silence_logs="CRITICAL") as found,
    ):
        yield found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_fork_is_graded_elsewhere_if_its_worker_dies_and_one_that_kills_them_all_is_an_error(
    tmp_path, cluster, patience
):
    folders = [student(tmp_path, name) for name in ("ada", "ida", "killer")]
    to, seen, killed = tmp_path / "grades", {}, []
    with begun(*folders, "--to", to, "--dask", cluster.scheduler_address) as command:
        while command.poll() is None:
            for grading in filter(under_way, gradings(descendants(os.getpid()))):
                name, worker = words(grading)[-2], grading.parent()
                if grading not in seen and (name == "killer" or name == "ada" not in killed):
                    worker.kill()
                    killed.append(name)
                seen[grading] = name, worker
            time.sleep(0.05)
        status, out = ended(command)
    assert status == 1, out
    assert "ada: 5 of 5 points\n" in out
    assert "ida: 5 of 5 points\n" in out
    assert "killer: no mark, its grading was lost, twice: KilledWorker: " in out
    assert Grade.read(to / "killer" / "grade.json").points is None
    assert len({worker for name, worker in seen.values() if name == "ada"}) > 1
    assert killed.count("killer") > 2, "it was not tried again"
    until(lambda: not any(map(alive, seen)), "all gradings are gone")


@pytest.mark.slow
@signals
@pytest.mark.timeout(300)
def test_a_class_that_is_stopped_leaves_no_process_at_the_workers(
    tmp_path, cluster, patience, monkeypatch
):
    folder, to = student(tmp_path, "ada", SLOW.replace("(1)", "(9)")), tmp_path / "grades"
    with begun(folder, "--to", to, "--dask", cluster.scheduler_address) as command:
        when(command, lambda: any(map(under_way, gradings(descendants(os.getpid())))), "a runner")
        os.killpg(command.pid, signal.SIGINT)
        status, out = ended(command)
    assert status == 130, out
    monkeypatch.setattr(Witness, "patience", 40)  # to its end it would take twice as long
    until(lambda: not gradings(descendants(os.getpid())), "all gradings are gone")
