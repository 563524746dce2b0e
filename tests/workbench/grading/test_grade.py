"""The grader: what it gives to honest and to partly honest forks, and when it gives nothing."""

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from helpers.forks import few, fork_of, left, put, valid
from helpers.noise import NOISE, ends_in_noise
from helpers.stages import source
from suite.clients import until

from workbench.course.catalogue import lesson, lessons
from workbench.errors import Mistake
from workbench.files import ROOT
from workbench.grading import grade as grading
from workbench.grading import manifest
from workbench.grading.grade import NoIsolation, grade
from workbench.grading.plugin import FAULT
from workbench.grading.result import RESULT, Check, Grade, StageGrade
from workbench.grading.sanitize import REASON, quoted
from workbench.sandbox import isolation
from workbench.sandbox.isolation import Layer, Sandbox, probe
from workbench.server.reaper import REAPER

pytestmark = pytest.mark.timeout(300)
linux = pytest.mark.skipif(sys.platform != "linux", reason="the walls are Linux's")
SAID = {
    "s01": {"test_every_caller_is_printed_with_his_number_and_address"},
    "s03": {"test_the_answer_is_the_hello_page", "test_content_length_counts_bytes"},
}
SILENT = "import time\ntime.sleep(1e6)\n"
GIVES_UP = source("s01").replace(  # a mutant, at its second client
    "number += 1", "number += 1\n        if number == 2:\n            break"
)
WALLS = "environment", "copy", "limits", "network", "user", "bubblewrap"


@pytest.fixture(autouse=True)
def passing(monkeypatch):
    """Fewer sentences, and a folder for what is passing, which is empty in the end."""
    monkeypatch.setattr(manifest, "manifest", lambda: few(SAID))
    REAPER.ready()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)
        until(lambda: not left(folder), "no process is left")
        assert list(Path(folder).iterdir()) == []


def graded(fork, to, **how):
    """Grade a fork, and read what stands in the file."""
    found = grade(fork, to, **how)
    assert valid(to / RESULT) == replace(found, notes=list(found.notes))
    return found


def outcomes(stage):
    """What came of each sentence of a stage."""
    return {check.sentence: check.outcome for check in stage.checks}


# Marks


def test_who_keeps_every_promise_has_all_points(tmp_path):
    found = graded(fork_of(tmp_path / "fork", "s01", "s03"), tmp_path / "to")
    assert [stage.points for stage in found.stages] == [5, 5]
    assert (found.points, found.of, found.error) == (10, 10, "")
    assert found.finished >= found.started
    assert {check.outcome for stage in found.stages for check in stage.checks} == {"holds"}


def test_no_mark_hears_what_a_user_has_exported(tmp_path, monkeypatch):
    for name, value in NOISE.items():
        monkeypatch.setenv(name, value)
    fork = fork_of(tmp_path / "fork", "s01", s01=ends_in_noise(source("s01")))
    found = graded(fork, tmp_path / "to", stages=["s01"])
    assert (found.points, found.of) == (5, 5), found.stages


def test_a_weak_early_stage_has_part_of_its_points_and_costs_the_later_ones_nothing(tmp_path):
    found = graded(fork_of(tmp_path / "fork", "s01", "s03", s01=GIVES_UP), tmp_path / "to")
    weak, strong = found.stages
    assert list(outcomes(weak).values()) == ["holds", "broken"]
    assert 0 < weak.points < weak.of
    assert "a line like" in weak.checks[1].reason
    assert strong.points == strong.of


def test_points_follow_the_weights_and_only_all_that_holds_is_all():
    def stage(*held, of=10, weights=(1, 1, 1, 30)):
        checks = [
            Check(str(weight), "", weight, came)
            for weight, came in zip(weights, held, strict=False)
        ]
        return StageGrade("s01_bind_and_print", of, tuple(checks), "graded")

    holds, broken, skipped = "holds", "broken", "skipped"
    assert stage(holds, holds, holds, holds).points == 10
    assert stage(holds, broken, holds, holds).points == 9
    assert stage(holds, holds, holds, broken).points == 0
    assert stage(holds, holds, broken, broken, weights=(1, 1, 1, 1)).points == 5
    assert stage(holds, skipped, holds, holds).points == 10
    assert stage(broken, holds, holds, holds).points == 0, "it does not listen"
    assert stage(holds, holds, holds, "not reported").points == 0
    assert stage(skipped, skipped).points == 0
    assert replace(stage(holds), state="error").points is None
    assert replace(stage(holds), state="waiting").points is None
    assert replace(stage(holds), state="missing").points == 0


def test_what_is_long_is_cut_in_its_middle_for_its_end_has_the_hint():
    said = quoted("Sentence  it is\n" + "\a" * REASON + "\nHint      do this")
    assert said.startswith("Sentence  it is\n\\x07")
    assert said.endswith("\\x07\nHint      do this")
    assert len(said) < REASON + 50


def test_a_stage_that_does_not_listen_has_nothing_and_the_rest_of_it_is_not_said(tmp_path):
    found = graded(fork_of(tmp_path / "fork", "s01", s01="1 / 0"), tmp_path / "to", stages=["s01"])
    assert list(outcomes(found.stages[0]).values()) == ["broken", "not reached"]
    assert "ZeroDivisionError" in found.stages[0].checks[0].reason
    assert found.points == 0


def test_a_stage_that_is_missing_has_nothing_and_its_name_may_be_nearly_right(tmp_path):
    fork = fork_of(tmp_path / "fork", "s03")
    put(fork / "stages" / "s01_bind_and_pint.py", source("s01"))
    first, second = graded(fork, tmp_path / "to").stages
    assert (first.state, first.points, first.of) == ("missing", 0, 5)
    assert first.note == (
        "needed stages/s01_bind_and_print.py, and there is stages/s01_bind_and_pint.py"
    )
    assert second.points == second.of
    assert graded(tmp_path / "fork" / "static", tmp_path / "none").points == 0


def test_what_there_is_to_earn_is_what_the_manifest_says(monkeypatch, tmp_path):
    monkeypatch.undo()
    assert {marks.slug for marks in manifest.manifest()} == {known.slug for known in lessons()}
    (tmp_path / "fork").mkdir()
    found = grade(tmp_path / "fork", tmp_path / "to")
    assert found.of == sum(known.points for known in lessons())
    assert {stage.state for stage in found.stages} == {"missing"}


def test_the_manifest_is_what_the_suite_makes_of_itself(monkeypatch):
    monkeypatch.undo()
    assert manifest.made() == manifest.MANIFEST.read_text(encoding="utf-8"), (
        "run `python -m workbench.manifest`"
    )


def test_the_first_sentence_of_each_stage_is_that_it_listens(monkeypatch):
    monkeypatch.undo()
    assert {marks.checks[0].sentence for marks in manifest.manifest()} == {
        "its first line says where it listens"
    }


# What is on disk


def test_the_file_is_valid_at_every_moment_and_grows(tmp_path):
    file, seen, ended = tmp_path / "to" / RESULT, [], threading.Event()

    def look():
        while not ended.is_set():
            if file.exists():
                valid(file)
            seen.append(1)

    steps = []
    looking = threading.Thread(target=look)
    looking.start()
    try:
        fork = fork_of(tmp_path / "fork", "s01", "s03")
        grade(fork, file.parent, heard=lambda *_: steps.append(valid(file)))
    finally:
        ended.set()
        looking.join()
    assert len(seen) > 1
    said = [
        sum(check.outcome == "holds" for stage in step.stages for check in stage.checks)
        for step in steps
    ]
    assert said == sorted(said)
    assert set(said) == set(range(6))
    assert [step.points for step in steps[:-2]] == [None] * (len(steps) - 2)


@pytest.mark.slow
def test_a_grader_that_was_killed_leaves_a_file_and_another_goes_on(tmp_path, passing):
    fork, to = fork_of(tmp_path / "fork", "s01", "s03", s03=SILENT), tmp_path / "to"
    script = (
        "import sys, tempfile; from pathlib import Path; from workbench.grading.grade import grade;"
        "grade(Path(sys.argv[1]), Path(sys.argv[2]), stages=['s01', 's03'], seed=7)"
    )
    variables = os.environ | {"TMPDIR": str(passing), "TEMP": str(passing)}
    line = [sys.executable, "-c", script, str(fork), str(to)]
    with subprocess.Popen(line, cwd=ROOT, env=variables) as grader:
        file = to / RESULT
        until_graded(file, grader)
        until(lambda: left(passing, grader.pid), "the next stage is being judged")
        grader.kill()
    until(lambda: not left(passing, grader.pid), "nothing of a killed grader is left")
    killed = valid(file)
    assert killed.finished == ""
    assert killed.points is None
    assert killed.stages[0].points == 5
    put(fork / "stages" / "s01_bind_and_print.py", "1 / 0")  # nobody will look at it again
    put(fork / "stages" / lesson("s03").path.name, source("s03"))
    whole = grade(fork, to, seed=1, resume=True)
    assert (whole.seed, whole.started) == (7, killed.started)
    assert [stage.points for stage in whole.stages] == [5, 5]


@linux
def test_ctrl_c_ends_all_that_is_under_way_and_another_goes_on(tmp_path):
    fork = fork_of(tmp_path / "fork", "s01", "s03", s03=SILENT)

    def heard(found, _what):
        if found.stages[0].state == "graded":
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        grade(fork, tmp_path / "to", heard=heard)
    first, second = valid(tmp_path / "to" / RESULT).stages
    assert (first.points, second.state) == (5, "waiting")
    put(fork / "stages" / lesson("s03").path.name, source("s03"))
    assert [stage.points for stage in grade(fork, tmp_path / "to", resume=True).stages] == [5, 5]


def until_graded(file, grader):
    """Wait until the first stage is graded, however long that takes, or the grader has ended."""
    while not (file.exists() and Grade.read(file).stages[0].state == "graded"):
        assert grader.poll() is None


@pytest.mark.slow
def test_only_what_is_known_of_the_same_revision_and_suite_is_taken_over(tmp_path):
    fork, to = fork_of(tmp_path / "fork", "s01"), tmp_path / "to"
    old = grade(fork, to, stages=["s01"], revision="one", seed=3)
    put(fork / "stages" / "s01_bind_and_print.py", "1 / 0")
    again = {"stages": ["s01"], "resume": True, "seed": 4}
    assert grade(fork, to, revision="one", **again).stages == old.stages
    assert grade(fork, to, revision="two", **again).points == 0
    found = json.loads((to / RESULT).read_text(encoding="utf-8"))
    (to / RESULT).write_text(json.dumps(found | {"suite": "0" * 16}), encoding="utf-8")
    put(fork / "stages" / "s01_bind_and_print.py", source("s01"))
    assert grade(fork, to, revision="two", **again).points == 5


@pytest.mark.parametrize("words", ["", "{}", "[]", '{"schema": "another"}', "\0"])
def test_a_file_that_is_none_of_ours_is_a_mistake(tmp_path, words):
    put(tmp_path / "to" / RESULT, words)
    with pytest.raises(Mistake, match="grade without --resume"):
        grade(tmp_path, tmp_path / "to", resume=True)


# Time


@pytest.mark.slow
def test_a_stage_that_takes_too_long_is_cut_off_and_the_next_has_its_time(tmp_path, monkeypatch):
    fork = fork_of(tmp_path / "fork", "s01", "s03", s03=SILENT)

    def heard(found, _what):
        if found.stages[1].state != "waiting":
            monkeypatch.setattr(grading, "STAGE_SECONDS", 300)

    monkeypatch.setattr(grading, "LANES", 1)
    monkeypatch.setattr(grading, "STAGE_SECONDS", 3)
    next_one, slow = graded(fork, tmp_path / "to", heard=heard).stages
    assert (slow.state, slow.points) == ("graded", 0)
    assert slow.note == "its time was over before all sentences were said"
    assert next_one.points == next_one.of


@pytest.mark.slow
def test_a_sentence_that_takes_too_long_does_not_hold_and_the_next_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(
        manifest,
        "manifest",
        lambda: few({"s01": {"test_a_port_that_cannot_be_ends_it_with_one_line"} | SAID["s01"]}),
    )
    monkeypatch.setattr(grading, "SENTENCE_SECONDS", 8)
    waits = 'import os, time\nif os.environ["PORT"] != "0":\n    time.sleep(1e6)\n'
    fork = fork_of(tmp_path / "fork", "s01", s01=waits + source("s01"))
    found = outcomes(graded(fork, tmp_path / "to").stages[0])
    assert found["a port that cannot be ends it with one line"] == "broken"
    assert found["every caller is printed with his number and address"] == "holds"


def test_a_fork_has_so_much_time_and_each_stage_its_share(tmp_path, monkeypatch):
    shares = []
    monkeypatch.setattr(grading, "LANES", 1)
    monkeypatch.setattr(grading, "FORK_SECONDS", 200)
    monkeypatch.setattr(grading, "STAGE_SECONDS", 150)

    def said(_runner, _stage, seconds):
        shares.append(seconds)
        return iter(())

    monkeypatch.setattr(grading.Runner, "said", said)
    grade(fork_of(tmp_path / "fork", "s01", "s03"), tmp_path / "to")
    first, last = shares
    assert 90 < first <= 100, "half of it is the other's"
    assert last == 150, "all that is left, but no more than a stage may have"


# What the grader could not find out


def test_a_grader_without_room_gives_an_error_and_no_mark(tmp_path, monkeypatch):
    monkeypatch.setattr(grading, "ROOM", 2**70)
    found = graded(fork_of(tmp_path / "fork", "s01"), tmp_path / "to")
    assert found.points is None
    assert "the grader itself failed" in found.error
    assert (
        os.strerror(errno.ENOSPC) in found.error or "ENOSPC" in found.error or "28" in found.error
    )
    assert {stage.state for stage in found.stages} == {"waiting", "missing"}


def test_a_grader_that_fails_in_any_way_gives_an_error_and_no_mark(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("\ud800 broken\0")

    monkeypatch.setattr(grading, "collected", fail)
    found = graded(fork_of(tmp_path / "fork", "s01"), tmp_path / "to")
    assert (found.points, found.error) == (
        None,
        "the grader itself failed: RuntimeError('\\ud800 broken\\x00')",
    )


def test_a_suite_that_cannot_be_said_is_an_error_which_the_next_grader_mends(tmp_path, monkeypatch):
    fork, to = fork_of(tmp_path / "fork", "s01"), tmp_path / "to"
    with monkeypatch.context() as patch:
        patch.setattr(grading, "PLUGINS", (*grading.PLUGINS, "no_such_plugin"))
        found = graded(fork, to, stages=["s01"])
    assert (found.stages[0].state, found.points) == ("error", None)
    assert "no_such_plugin" in found.stages[0].note
    assert grade(fork, to, stages=["s01"], resume=True).points == 5


def test_what_the_machine_lacks_ends_a_judge_with_a_status_of_its_own(tmp_path):
    put(tmp_path / "test_it.py", f"def test_it():\n    raise OSError({errno.EMFILE}, 'too many')\n")
    line = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "workbench.grading.plugin",
        str(tmp_path / "test_it.py"),
    ]
    line += [f"--rootdir={tmp_path}", "-c", os.devnull]
    alone = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    ended = subprocess.run(line, cwd=ROOT, stdout=subprocess.DEVNULL, env=alone)
    assert ended.returncode == FAULT


@linux
def test_a_judge_that_is_ended_is_followed_by_another_that_goes_on(tmp_path):
    ended = []

    def heard(found, _what):
        if found.stages[0].counts[0] == len(ended) + 1 < 3:
            runner = max(psutil.Process().children(), key=lambda child: child.create_time())
            ended.append(runner.pid)
            os.kill(runner.pid, signal.SIGKILL)

    fork = fork_of(tmp_path / "fork", "s03")
    found = graded(fork, tmp_path / "to", stages=["s03"], heard=heard)
    assert len(ended) == 2
    assert found.points == found.of, found


def test_a_sentence_that_ends_the_judge_twice_is_given_up_and_the_others_are_said(
    tmp_path, monkeypatch
):
    command = grading.Runner.command

    def ending(runner, checks, report):
        """The same, with a plug-in that ends pytest in the middle of a sentence."""
        line = command(runner, checks, report)
        place = line.index("-m")
        return [*line[:place], "-c", ENDING, *line[place + 2 :]]

    monkeypatch.setattr(grading, "probe", lambda: Sandbox(()))
    monkeypatch.setattr(grading.Runner, "command", ending)
    [found] = graded(fork_of(tmp_path / "fork", "s03"), tmp_path / "to", stages=["s03"]).stages
    assert found.state == "graded"
    assert outcomes(found).pop("the answer is the hello page") == "not reported"
    assert list(outcomes(found).values()).count("holds") == 2
    assert 0 < found.points < found.of


ENDING = """
import os, pytest

class Ending:
    def pytest_runtest_call(self, item):
        if "the_answer_is_the_hello_page" in item.name:
            os._exit(9)

raise SystemExit(pytest.main(plugins=[Ending()]))
"""


# Walls


def test_the_walls_are_recorded_with_the_reason_for_each_that_is_missing(tmp_path):
    found = graded(fork_of(tmp_path / "fork"), tmp_path / "to", stages=["s01"])
    assert tuple(layer["name"] for layer in found.layers) == WALLS
    assert [layer["on"] for layer in found.layers] == [layer.on for layer in probe().layers]
    assert all(layer["on"] or "without it" in layer["detail"] for layer in found.layers)


@linux
@pytest.mark.parametrize("top", ["/tmp", "/var/tmp"])  # one that is hidden, and one that is not
@pytest.mark.parametrize("closed", ["inner", "inner/course", "inner/course/.tox", ""])
def test_a_judge_finds_what_it_needs_where_its_user_may_not_pass(monkeypatch, top, closed):
    if not probe().has("network"):
        pytest.skip("needs bubblewrap")
    with tempfile.TemporaryDirectory(dir=top) as folder:
        os.chmod(folder, 0o755)
        place = Path(folder).resolve() / "inner" / "course" / ".tox" / "py"
        suite = place.parents[1] / "tests" / "found"
        for file in (suite, place / "found", Path(folder) / "inner" / "secret"):
            put(file, "it")
        os.chmod(Path(folder) / closed, 0o700)  # for nobody else to enter
        monkeypatch.setattr(sys, "prefix", str(place))
        monkeypatch.setattr(isolation, "ROOT", place.parent.parent)
        with isolation.workplace() as work:
            isolation.own(work, probe().user())
            line = [*probe().around_runner(work), "cat", str(suite), str(place / "found")]
            assert subprocess.run(line, capture_output=True, cwd="/").stdout == b"itit"
            line[-2:] = [str(Path(folder) / "inner" / "secret")]
            hidden = top == "/tmp" or closed in ("", "inner")
            assert bool(subprocess.run(line, capture_output=True, cwd="/").returncode) == hidden


def test_who_insists_on_isolation_is_told_what_is_missing(tmp_path, monkeypatch):
    walls = Sandbox((Layer("copy", True), Layer("network", False, "needs bubblewrap")))
    monkeypatch.setattr(grading, "probe", lambda: walls)
    with pytest.raises(NoIsolation, match="network: needs bubblewrap"):
        grade(fork_of(tmp_path / "fork", "s01"), tmp_path / "to", require_isolation=True)
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize(
    "missing",
    [
        *(
            pytest.param(walls, marks=pytest.mark.slow)
            for walls in (*WALLS[3:], "network,bubblewrap")
        ),
        "network,user,bubblewrap",
    ],
)
@linux
def test_an_honest_fork_has_the_same_marks_behind_fewer_walls(tmp_path, monkeypatch, missing):
    lacking(monkeypatch, *missing.split(","))
    found = graded(fork_of(tmp_path / "fork", "s01", "s03", s01=GIVES_UP), tmp_path / "to")
    on = {layer["name"] for layer in found.layers if layer["on"]}
    assert on.isdisjoint(missing.split(","))
    assert [stage.counts for stage in found.stages] == [(1, 2), (3, 3)], found


def test_an_honest_fork_has_the_same_marks_behind_no_wall_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(grading, "probe", lambda: Sandbox(probe().layers[:2]))
    found = graded(fork_of(tmp_path / "fork", "s01", "s03", s01=GIVES_UP), tmp_path / "to")
    assert [stage.counts for stage in found.stages] == [(1, 2), (3, 3)], found


def lacking(monkeypatch, *names):
    """Try the walls anew, as on a machine where some of them do not stand."""
    tried = isolation._tried

    def trying(name, standing):
        return (False, "is missing") if name in names else tried(name, standing)

    with monkeypatch.context() as patch:
        patch.setattr(isolation, "_tried", trying)
        walls = probe.__wrapped__()
    monkeypatch.setattr(grading, "probe", lambda: walls)


@linux
def test_a_daemon_is_ended_even_where_only_a_keeper_can_do_it(tmp_path, monkeypatch, passing):
    lacking(monkeypatch, "network", "user", "bubblewrap")
    daemon = (
        "import os\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        f"        os.execv('/bin/sh', ['sh', '-c', 'sleep 600; exit', {str(passing)!r}])\n"
        "    os._exit(0)\n"
    )
    fork = fork_of(tmp_path / "fork", "s01", s01=daemon)
    assert graded(fork, tmp_path / "to", stages=["s01"]).points == 0
    assert left(passing) == []


STOPPING = """
import os, signal, time
supervisor = os.getppid()
runner = int(open(f"/proc/{supervisor}/stat").read().rpartition(")")[2].split()[1])
around = int(open(f"/proc/{runner}/stat").read().rpartition(")")[2].split()[1])
assert "supervisor.py" in open(f"/proc/{around}/cmdline").read(), "and not the grader"
for one in (around, runner, supervisor):
    os.kill(one, signal.SIGSTOP)
time.sleep(1e6)
"""


@pytest.mark.slow
@linux
def test_who_stops_the_judge_is_ended_with_it(tmp_path, monkeypatch):
    """It may stop all around it where no wall but the supervisors stands."""
    lacking(monkeypatch, "network", "user", "bubblewrap")
    monkeypatch.setattr(grading, "STAGE_SECONDS", 8)
    monkeypatch.setattr(grading, "ENDS_WITHIN", 1)
    fork = fork_of(tmp_path / "fork", "s01", s01=STOPPING)
    found = graded(fork, tmp_path / "to", stages=["s01"])
    assert (found.points, found.error) == (0, "")


@linux
def test_what_a_killed_grader_left_is_removed_by_the_next_but_not_what_one_is_using(passing):
    with isolation.workplace() as used:
        forgotten = passing / f"{isolation.WORK}forgotten"
        isolation.furnish(forgotten)
        (forgotten / "lock").touch()
        with isolation.workplace():
            assert not forgotten.exists()
            assert used.exists()


def test_a_folder_of_any_depth_is_removed_and_no_link_is_followed(tmp_path):
    kept, folder = tmp_path / "kept", tmp_path / "folder"
    put(kept / "file", "kept")
    folder.mkdir()
    here, depth = Path.cwd(), 600 if os.name == "posix" else 20
    os.chdir(folder)
    try:
        for _ in range(depth):
            os.mkdir("deeper")
            os.chdir("deeper")
        if os.name == "posix":
            os.symlink(kept, "link")
            os.chmod("..", 0)
    finally:
        os.chdir(here)
    isolation.remove(folder)
    assert not folder.exists()
    assert (kept / "file").exists()
