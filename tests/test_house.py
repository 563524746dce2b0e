"""The house: pages that repeat the catalogue or a command are held to it, and the code is clean."""

import subprocess
import sys

import pytest

from workbench.lessons import STAGES, before, lessons

ROOT = STAGES.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
LONGEST = {"s01": 42, "s09": 245}  # lines that are not blank


def test_the_readme_lists_the_lessons_as_the_catalogue_does():
    rows = [line for line in README.splitlines() if "](stages/s" in line]
    wanted = [
        f"| {known.number} | [{known.title}](stages/{known.slug}.py) | {known.question} "
        f"| {known.flaw} |"
        for known in lessons()
    ]
    assert rows == wanted
    assert all(f"**{known.tier}**" in README for known in lessons())


def test_ci_runs_the_test_command_of_the_readme():
    [command] = [line for line in README.splitlines() if line.endswith("&& .venv/bin/pytest")]
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("line", ["ruff check", "ruff format --check", "mypy"])
def test_the_code_is_clean(line):
    ended = subprocess.run(
        [sys.executable, "-m", *line.split()], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("known", lessons(), ids=lambda known: known.slug)
def test_a_stage_is_short_enough_to_read(known):
    text = known.path.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) <= LONGEST.get(known.short, 245)
    title, parent = text.splitlines()[0], before(known)
    assert title.startswith(f'"""python -m stages.{known.slug}: ')
    others = {other.slug for other in lessons()} - {known.slug}
    assert not any(slug in text for slug in others), "a stage names no other stage"
    assert parent is None or len(lines) - len(nonblank(parent)) < 60


def nonblank(known):
    """The lines of a stage that say something."""
    text = known.path.read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip()]
