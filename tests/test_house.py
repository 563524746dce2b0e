"""The house: pages that repeat the catalogue or a command are held to it, and the code is clean."""

import ast
import subprocess
import sys

import pytest

from workbench.lessons import STAGES, lessons

ROOT = STAGES.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
# Statements in one function of a stage; the length of a file is a figure, and no wall.
MOST = 20
LONGER = {"compress": 23, "handle_request": 21}


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
@pytest.mark.parametrize("line", ["ruff check", "ruff format --check", "mypy"])
def test_the_code_is_clean(line):
    ended = subprocess.run(
        [sys.executable, "-m", *line.split()], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("known", lessons(), ids=lambda known: known.slug)
def test_a_function_of_a_stage_is_short_enough_to_read(known):
    text = known.path.read_text(encoding="utf-8")
    for function in ast.walk(ast.parse(text)):
        if isinstance(function, ast.FunctionDef):
            statements = sum(isinstance(node, ast.stmt) for node in ast.walk(function)) - 2
            assert statements <= LONGER.get(function.name, MOST), function.name


@pytest.mark.parametrize("known", lessons(), ids=lambda known: known.slug)
def test_a_stage_is_titled_by_its_command_and_names_no_other(known):
    text = known.path.read_text(encoding="utf-8")
    assert text.startswith(f'"""python -m stages.{known.slug}: ')
    others = {other.slug for other in lessons()} - {known.slug}
    assert not any(slug in text for slug in others), "a stage names no other stage"
