"""The faults that students really make: the suite must catch each, and each is a bug to hunt."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass

from workbench.course.catalogue import lesson
from workbench.errors import Mistake
from workbench.files import SUITE

MUTANTS = SUITE / "mutants"


@dataclass(frozen=True)
class Mutant:
    """A fault that students really make, put into a stage by its own text."""

    stage: str
    name: str
    story: str
    find: str
    replace: str
    caught_by: str

    @property
    def sentence(self) -> str:
        """The sentence that must catch it, in words."""
        return self.caught_by.removeprefix("test_").replace("_", " ")

    def source(self) -> str:
        """Return the stage's text with the fault in it. Raises Mistake where it does not fit."""
        file = lesson(self.stage).path
        text = file.read_text(encoding="utf-8")
        if (times := text.count(self.find)) != 1:
            place = f"once in {file.name}, found it {times} times: was it changed?"
            raise Mistake(f"needed the text that a fault of {self.stage} replaces {place}")
        return text.replace(self.find, self.replace)


@functools.cache
def mutants() -> tuple[Mutant, ...]:
    """Return all faults of `tests/suite/mutants/`, a file for each stage, named as the stage."""
    return tuple(
        Mutant(stage=path.stem, **entry)
        for path in sorted(MUTANTS.glob("*.toml"))
        for entry in tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]
    )
