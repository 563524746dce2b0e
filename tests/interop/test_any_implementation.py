"""The suite judges forks and foreign programs: by `--stages=FOLDER`, and by `--command=LINE`."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from helpers.noise import NOISE, ends_in_noise
from suite.options import command_of, settle

from workbench.course.catalogue import lesson
from workbench.files import ROOT, STAGES, STATIC, SUITE

pytestmark = pytest.mark.timeout(180)  # seconds: a suite within the suite
FOREIGN = Path(__file__).parent / "foreign" / "server.py"
COMMAND = f'"{Path(sys.executable).as_posix()}" "{FOREIGN.as_posix()}" {{stage}}'


def run(*options, **variables):
    """Run pytest as a teacher does, in the repository."""
    line = [sys.executable, "-m", "pytest", "-q", *options]
    environment = os.environ | variables
    return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, env=environment)


def judge(*options, **variables):
    """Run the suite as a teacher does; return the counts of its last line, and its text."""
    ended = run("-n0", *options, **variables)
    last = ended.stdout.splitlines()[-1]
    counts = {word: int(count) for count, word in re.findall(r"(\d+) (\w+)", last)}
    return counts, ended.stdout


def fork_of(folder, **stages):
    """A fork with some stages, by their short names, and the course's pages."""
    shutil.copytree(STATIC, folder / "static")
    (folder / "stages").mkdir()
    for short, source in stages.items():
        (folder / "stages" / lesson(short).path.name).write_text(source, encoding="utf-8")
    return folder


def text(short):
    return lesson(short).path.read_text(encoding="utf-8")


# A program in any language


@pytest.mark.parametrize(
    ("chosen", "least"),
    [
        ("s05 and test_routes", 12),
        pytest.param("s05", 40, marks=pytest.mark.slow),
        pytest.param("s09 and (test_shutdown or test_concurrency)", 16, marks=pytest.mark.slow),
    ],
    ids=["routes", "routing", "drain"],
)
def test_a_program_in_any_language_is_judged_by_its_command(chosen, least):
    counts, text = judge(f"--command={COMMAND}", "-k", chosen)
    assert not counts.keys() & {"failed", "error", "errors", "xfailed"}, text
    assert counts["passed"] >= least, text
    assert counts["skipped"] >= 1, "what asks for Python is skipped for a program that may be any"


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
def test_only_the_stage_is_put_into_a_command_and_other_braces_are_the_users_own():
    line = "sh -c 'PORT=${PORT:-0} && echo {1..3} | awk {print} && exec serve {stage}' {stage}.x"
    script = "PORT=${PORT:-0} && echo {1..3} | awk {print} && exec serve s05_routing"
    assert command_of(line, "s05_routing") == ("sh", "-c", script, "s05_routing.x")
    command = f"sh -c {shlex.quote(f'PORT=${{PORT:-7}} exec {COMMAND}')}"
    counts, text = judge(f"--command={command}", "-k", "s05 and about_page")
    assert (counts["passed"], "failed" in counts) == (1, False), text


# A fork


def test_a_fork_is_judged_by_its_folder(tmp_path):
    wrong = text("s03").replace("len(response.body)", "len(response.body.decode())")
    fork = fork_of(tmp_path / "fork", s03=wrong)
    counts, said = judge(f"--stages={fork}", "-k", "(s03 or s04_parse) and length_counts")
    assert (counts["failed"], counts["error"]) == (1, 1), said
    assert "Content-Length" in said
    assert "curl" in said, "a failure gives the line that asks again"
    assert "needed a file s04_parse_request.py" in said


@pytest.mark.parametrize("option", [f"--stages={STAGES}", f"--command={COMMAND}"])
def test_all_requirements_of_the_stage_and_nothing_else_are_run(option):
    ended = run("-n0", "--collect-only", option, "-k", "s14")
    names = [line for line in ended.stdout.splitlines() if "::" in line]
    assert len(names) > 40, ended.stdout
    for name in names:
        assert re.fullmatch(
            r"tests/suite/test_\w+\.py::test_\w+\[(.+-)?s14_forms_and_uploads(-.+)?\]", name
        )
    assert "gibibyte" in ended.stdout, "the slow ones are run too"


def test_a_fork_is_found_by_its_root_or_the_folder_of_its_stages(tmp_path):
    fork = fork_of(tmp_path / "fork", s03="")
    for folder in (fork, fork / "stages"):
        options = Namespace(stages=str(folder), command=None)
        settle(options)
        assert Path(options.stages) == (fork / "stages").resolve()


# What cannot be judged


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stages": ""}, "--stages needs .*, and got nothing: give one, or leave the option out"),
        ({"stages": "no/such"}, "--stages needs .*, and there is no folder .*such"),
        ({"stages": str(STATIC)}, "--stages needs .*static has no file such as s01_"),
        ({"stages": str(FOREIGN)}, "--stages needs .*, and there is no folder .*server.py"),
        ({"command": " "}, "--command needs .*, and got nothing: give one, or leave the option"),
        ({"command": "no-such {stage}"}, "--command needs .*, and there is no program no-such"),
        ({"command": "echo 'x"}, "--command needs .*, and got .*: No closing quotation"),
        ({"command": "x", "stages": "x"}, "needed --stages or --command, and got both"),
    ],
)
def test_what_cannot_be_judged_is_said_in_one_line(options, words):
    with pytest.raises(pytest.UsageError, match=words) as caught:
        settle(Namespace(**{"stages": None, "command": None} | options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("option", ["--stages=", "--command="])
def test_it_is_said_once_and_nothing_is_run(option):
    ended = run("-n2", option, "-k", "s05")
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    assert ended.stdout == ""
    [line] = ended.stderr.split("\n\n")[:-1]
    assert line.startswith(f"ERROR: {option.rstrip('=')} needs")


# What a user has exported


def test_no_verdict_hears_what_a_user_has_exported(tmp_path):
    fork = fork_of(tmp_path / "fork", s03=ends_in_noise(text("s03")))
    chosen = "s03 and (hello_page or length_counts or every_line)"
    counts, said = judge(f"--stages={fork}", "-k", chosen, **NOISE)
    assert (counts["passed"], "failed" in counts) == (3, False), said


@pytest.mark.slow
def test_all_of_a_stage_holds_whatever_a_user_has_exported():
    counts, said = judge("-k", "s08", str(SUITE), **NOISE)
    assert not counts.keys() & {"failed", "error", "errors"}, said
    assert counts["passed"] > 50, said
