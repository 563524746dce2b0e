"""The house: pages that repeat the catalogue or a command are held to it, and the code is clean."""

import difflib
import subprocess
import sys

import pytest

from workbench.course.catalogue import before, lessons
from workbench.files import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
# In lines that are not blank: what a stage may have, if it is not named as much as any; and what
# it may add to the one that it builds on, if it is not named as much as others of its part.
LONGEST = {"s01": 42, "s09": 242, "s12": 428, "s13": 538, "s15": 556, "s16": 654, "any": 667}
STEP = {"Part I": 65, "Part II": 65, "Part III": 99, "Part IV": 126, "s14": 140, "s15": 136}


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


@pytest.mark.timeout(600)  # seconds: mypy reads all of matplotlib's types when it runs first
@pytest.mark.parametrize("line", ["ruff check", "ruff format --check", "mypy"])
def test_the_code_is_clean(line):
    ended = subprocess.run(
        [sys.executable, "-m", *line.split()], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("known", lessons(), ids=lambda known: known.slug)
def test_a_stage_is_short_enough_to_read(known):
    text = known.path.read_text(encoding="utf-8")
    assert len(written(known)) <= LONGEST.get(known.short, LONGEST["any"])
    assert text.startswith(f'"""python -m stages.{known.slug}: ')
    others = {other.slug for other in lessons()} - {known.slug}
    assert not any(slug in text for slug in others), "a stage names no other stage"


@pytest.mark.parametrize("known", lessons()[1:], ids=lambda known: known.slug)
def test_a_step_is_short_enough_to_read(known):
    comparison = difflib.ndiff(written(before(known)), written(known))
    added = [line for line in comparison if line.startswith("+ ")]
    assert len(added) <= STEP.get(known.short, STEP[known.tier.partition(":")[0]])


def written(known):
    """The lines of a stage that are not blank."""
    return [line for line in known.path.read_text(encoding="utf-8").splitlines() if line.strip()]
