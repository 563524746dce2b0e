"""The house: pages that repeat the catalogue or a command are held to it, and the code is clean."""

import subprocess
import sys

import pytest

from workbench.course.catalogue import lessons
from workbench.files import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_lists_the_lessons_as_the_catalogue_does():
    rows = [line for line in README.splitlines() if "](stages/s" in line]
    wanted = [
        f"| {known.number} | [{known.title}](stages/{known.slug}.py) | {known.question} "
        f"| {known.limitation} |"
        for known in lessons()
    ]
    assert rows == wanted
    assert all(f"**{known.tier}**" in README for known in lessons())


def test_ci_runs_the_test_command_of_the_readme():
    [command] = [line for line in README.splitlines() if line.endswith("&& .venv/bin/pytest")]
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


@pytest.mark.timeout(600)  # seconds: mypy reads all of matplotlib's types when it runs first
@pytest.mark.parametrize(
    "line",
    ["ruff check", "ruff format --check", pytest.param("mypy", marks=pytest.mark.slow)],
)
def test_the_code_is_clean(line):
    ended = subprocess.run(
        [sys.executable, "-m", *line.split()], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("known", lessons(), ids=lambda known: known.slug)
def test_a_stage_says_how_it_is_run_and_names_no_other(known):
    text = known.path.read_text(encoding="utf-8")
    assert text.startswith(f'"""python -m stages.{known.slug}: ')
    assert not any(other.slug in text for other in lessons() if other != known)


def linted(config):
    """Ask import-linter whether contracts are kept; return its status and words."""
    command = "from importlinter.cli import lint_imports_command as lint; lint()"
    line = [sys.executable, "-c", command, "--no-cache", "--config", str(config)]
    ended = subprocess.run(line, cwd=ROOT, capture_output=True, encoding="utf-8")
    return ended.returncode, ended.stdout + ended.stderr


def test_no_import_runs_upward():
    status, words = linted(ROOT / "pyproject.toml")
    assert status == 0, words
    assert "2 kept, 0 broken" in words


def test_an_import_that_runs_upward_is_found(tmp_path):
    upside_down = tmp_path / "contract.toml"
    upside_down.write_text(
        '[tool.importlinter]\nroot_package = "workbench"\n[[tool.importlinter.contracts]]\n'
        'name = "x"\ntype = "layers"\ncontainers = ["workbench"]\nlayers = ["client", "server"]\n'
    )
    status, words = linted(upside_down)
    assert status == 1
    assert "workbench.client is not allowed to import" in words or "workbench.server" in words
