"""The course's own stages, as tests ask for them."""

from workbench.course.catalogue import lesson
from workbench.course.mutants import mutants


def source(stage):
    """The course's own text of a stage."""
    return lesson(stage).path.read_text(encoding="utf-8")


def mutant(name):
    """The mutant of that name."""
    return next(mutant for mutant in mutants() if mutant.name == name)
