"""The workflow that grades a fork at each push: its lines are run, in the order of its steps."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from workbench.files import ROOT, STAGES

WORKFLOW = ROOT / ".github" / "workflows" / "grade.yml"
SUDO = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift; done
exec "$@"
"""  # as the runner's, whose user is root for the time of a command
UNTRACKED = shutil.ignore_patterns("__pycache__", ".*")
STILL = "#!/bin/sh\nexit 0\n"  # what would change this machine does nothing
pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.name == "nt", reason="the runner of the workflow is Linux"),
]


@pytest.fixture
def job():
    """The one job of the workflow."""
    (job,) = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"].values()
    return job


def command(folder, name, text):
    """Put a program where a shell finds it before the system's own."""
    file = folder / name
    file.write_text(text, encoding="utf-8")
    file.chmod(0o755)


@pytest.fixture
def runner(tmp_path):
    """What the steps before have fetched: the course, at a commit, and a fork with two stages."""
    (tmp_path / "bin").mkdir()
    command(tmp_path / "bin", "sudo", SUDO)
    for name in ("sysctl", "apt-get"):
        command(tmp_path / "bin", name, STILL)
    for name in ("stages", "static", "tests", "workbench"):
        shutil.copytree(ROOT / name, tmp_path / "course" / name, ignore=UNTRACKED)
    for name in ("LICENSE", "README.md", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / "course")
    for name in ("s01_bind_and_print.py", "s02_read_request.py"):
        (tmp_path / "fork" / "stages").mkdir(parents=True, exist_ok=True)
        shutil.copy(STAGES / name, tmp_path / "fork" / "stages")
    return tmp_path


@pytest.mark.slow
def test_every_line_of_the_workflow_runs_and_grades_the_fork(job, runner):
    summary = runner / "summary.md"
    path = os.pathsep.join(
        [str(runner / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    )
    for step in job["steps"]:
        if "run" in step:
            ended = subprocess.run(
                ["bash", "-e", "-o", "pipefail", "-c", step["run"]],  # as the runner does
                cwd=runner / step.get("working-directory", "."),
                env=os.environ | {"PATH": path, "GITHUB_STEP_SUMMARY": str(summary)},
                capture_output=True,
                text=True,
            )
            assert ended.returncode == 0, f"{step['name']}:\n{ended.stdout}\n{ended.stderr}"
    (result,) = (runner / "grades").rglob("grade.json")
    marks = {stage["slug"]: stage for stage in json.loads(result.read_text())["stages"]}
    assert marks["s02_read_request"]["points"] == marks["s02_read_request"]["of"]
    assert marks["s03_static_response"]["points"] == 0
    assert "s02_read_request" in summary.read_text(encoding="utf-8")


def test_nothing_of_the_fork_is_run_and_no_secret_is_at_hand(job):
    text = WORKFLOW.read_text(encoding="utf-8")
    assert yaml.safe_load(text)["permissions"] == {"contents": "read"}
    assert "secrets." not in text
    checkouts = [
        step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout")
    ]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)
    places = [step.get("working-directory") for step in job["steps"] if "run" in step]
    assert "fork" not in places


def test_what_a_runner_would_fetch_is_at_a_fixed_commit(job):
    fork, course = (step["with"] for step in job["steps"] if "checkout" in step.get("uses", ""))
    assert "repository" not in fork
    assert course["ref"] == "${{ env.COURSE_REF }}"
    assert course["repository"] == "${{ env.COURSE_REPOSITORY }}"
