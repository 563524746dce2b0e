"""python3 -m stages: the course, stage by stage, and the line that runs each.

Needs nothing installed. `python3 -m stages s05` tells more of one stage; `python3 PATH/TO/stages`
works from any folder.
"""

import argparse
import shutil
import sys
from itertools import groupby
from operator import attrgetter
from pathlib import Path

try:
    import tomllib  # noqa: F401 - arrived with Python 3.11, like all else that the stages need
except ImportError:
    sys.exit(f"needed Python 3.11 or newer, got {sys.version.split()[0]}: try python3.11 -m stages")

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for those who run this folder by its path

from workbench.course.catalogue import Lesson, lesson, lessons
from workbench.errors import Mistake


def command(stage: Lesson) -> str:
    """Return the line that runs a stage from where the reader stands, with the Python in use."""
    python = _python()
    if Path.cwd() == ROOT:
        return stage.command.replace("python", python, 1)
    return f"{python} {_quoted(str(stage.path))}"


def _python() -> str:
    """Name the Python in use, by its path where the name alone would not find one."""
    name = Path(sys.orig_argv[0]).name
    return name if shutil.which(name) else _quoted(sys.orig_argv[0])


def _quoted(word: str) -> str:
    """Put a path with a space between quotes that every shell understands."""
    return f'"{word}"' if " " in word else word


def brief(stage: Lesson) -> str:
    """Tell a stage in three lines: number and title, question, the line that runs it."""
    return f"{stage.number:3}  {stage.title}\n     {stage.question}\n     {command(stage)}"


def listing() -> str:
    """Tell the whole course, tier by tier. Raises BrokenCatalogue if it cannot be read."""
    tiers = groupby(lessons(), key=attrgetter("tier"))
    return "\n\n".join("\n\n".join([tier, *map(brief, stages)]) for tier, stages in tiers)


def details(name: str) -> str:
    """Tell more of one stage: how long it takes, and what it leaves to the next.

    Raises UnknownStage if none goes by that name.
    """
    stage = lesson(name)
    facts = f"{stage.minutes} minutes. Limitation: {stage.limitation}"
    return f"{stage.tier}\n\n{brief(stage)}\n\n     {facts}"


def main() -> None:
    """Print the course, or the one stage that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m stages", description="List the course.")
    parser.add_argument("stage", nargs="?", help="tell more of this one: s05, 5, s05_routing")
    name = parser.parse_args().stage
    try:
        print(details(name) if name else listing())
    except Mistake as mistake:
        sys.exit(str(mistake))


if __name__ == "__main__":
    main()
