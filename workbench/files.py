"""Where the repository's folders are, and how a file is written so that nothing is lost."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAGES = ROOT / "stages"
STATIC = ROOT / "static"
NOTEBOOKS = ROOT / "notebooks"
TESTS = ROOT / "tests"
SUITE = TESTS / "suite"  # what a stage is judged by, and nothing else


def shown(file: Path) -> str:
    """Write a path as it is said in the repository, or in full where it is elsewhere."""
    return (file.relative_to(ROOT) if file.is_relative_to(ROOT) else file).as_posix()


def write(file: Path, data: bytes) -> None:
    """Replace a file's bytes in one step: it is never seen half written."""
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    fresh.write_bytes(data)
    fresh.replace(file)


def keep(file: Path, former: bytes) -> Path:
    """Keep a former text under the first name that is free, or that has this very text."""
    names = (f"{file.name}.before{number or ''}" for number in itertools.count())
    for kept in map(file.with_name, names):
        if not kept.exists():
            write(kept, former)
        if kept.read_bytes() == former:
            break
    return kept
