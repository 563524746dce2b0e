"""What a grade is made of: for each stage its points, and the sentences that earn them.

The manifest, `tests/suite/manifest.json`, is made from the suite and kept in git, so that marks
come from a list that was there before any fork was: `python -m workbench.grading.manifest` writes
it anew. A sentence that a stage is the first to keep weighs three times as much as one that it took
over.

As a plug-in for pytest (`-p workbench.grading.manifest --manifest=FILE`) it writes down what was
collected.
"""

from __future__ import annotations

import functools
import hashlib
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.course.catalogue import lesson, lessons
from workbench.files import ROOT, STAGES, SUITE, write
from workbench.practice.results import spoken

if TYPE_CHECKING:
    import pytest

MANIFEST = SUITE / "manifest.json"
TAUGHT, KEPT = 3, 1  # weights
FIRST = "test_its_first_line_says_where_it_listens"  # without it nothing else can be asked


@dataclass(frozen=True)
class Check:
    """A sentence that is said of a stage: its name in the suite, its words, its weight."""

    id: str
    sentence: str
    weight: int


@dataclass(frozen=True)
class Marks:
    """What a stage can earn, and by which sentences; that it listens is the first."""

    slug: str
    points: int
    checks: tuple[Check, ...]


@functools.cache
def manifest(file: Path = MANIFEST) -> tuple[Marks, ...]:
    """Read the manifest, the stages in the order of the course."""
    stages = json.loads(file.read_text(encoding="utf-8"))["stages"]
    return tuple(
        Marks(stage["slug"], stage["points"], tuple(Check(**check) for check in stage["checks"]))
        for stage in stages
    )


@functools.cache
def suite() -> str:
    """Return what tells one state of the suite from another: a digest of all that runners."""
    digest = hashlib.sha256()
    for folder, pattern in ((SUITE, "*.*"), (ROOT / "workbench", "**/*.py")):
        for file in sorted(folder.glob(pattern)):
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def made() -> str:
    """Make the manifest's text from the suite as it is."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "collected.json")
        line = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n0", f"--stages={STAGES}"]
        line += ["-p", __spec__.name, f"--manifest={file}", str(SUITE)]
        subprocess.run(line, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
        found = json.loads(file.read_text(encoding="utf-8"))
    stages = [
        {"slug": known.slug, "points": known.points, "checks": _ordered(found[known.slug])}
        for known in lessons()
    ]
    return json.dumps({"stages": stages}, indent=1, ensure_ascii=False) + "\n"


def _ordered(checks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put that it listens before everything else."""
    return sorted(checks, key=lambda check: f"::{FIRST}[" not in check["id"])


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the name of the file to write."""
    parser.addoption("--manifest", metavar="FILE", required=True, help="where to write it")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Write down each sentence of each stage that was collected."""
    found: dict[str, list[dict[str, Any]]] = {}
    said = (item for item in session.items if hasattr(item, "callspec"))
    for item in said:
        marker, case = item.get_closest_marker("since"), item.callspec.params.get("case")
        if known := marker and getattr(case, "lesson", None):  # one for no stage has none
            promise = marker.args[0]
            taught = promise.new and lesson(promise.first) == known
            name, weight = item.nodeid.rpartition("suite/")[2], TAUGHT if taught else KEPT
            found.setdefault(known.slug, []).append(vars(Check(name, spoken(name), weight)))
    Path(session.config.getoption("manifest")).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    write(MANIFEST, made().encode())
