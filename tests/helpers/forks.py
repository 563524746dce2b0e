"""Honest forks for a grader, what a report of them must be, and what must not be left of them."""

import contextlib
import json
import os
import shutil

import psutil
from helpers.stages import source

from workbench.course.catalogue import lesson
from workbench.files import ROOT
from workbench.grading.manifest import Marks
from workbench.grading.manifest import manifest as whole
from workbench.grading.result import Grade
from workbench.sandbox.isolation import LANES, STRANGERS

LISTENS = "test_its_first_line_says_where_it_listens"


def put(file, words):
    """Write a file of a fork, and the folders above it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(words, encoding="utf-8", newline="")


def fork_of(folder, *slugs, **other):
    """A fork of some stages, and its pages; of the stages by the names of `other`, another text."""
    for slug in slugs:
        known = lesson(slug)
        put(folder / "stages" / known.path.name, other.get(known.short, source(slug)))
    shutil.copytree(ROOT / "static", folder / "static")
    return folder


def few(said):
    """The manifest of some stages, with only those sentences of each that are named: fewer do."""
    stages = {lesson(slug).slug: {LISTENS, *names} for slug, names in said.items()}
    marks = {known.slug: known for known in whole() if known.slug in stages}
    return tuple(
        Marks(slug, marks[slug].points, tuple(only(names, marks[slug].checks)))
        for slug, names in stages.items()
    )


def only(names, checks):
    """Those of some checks that have such names."""
    return (check for check in checks if check.id.rpartition("::")[2].partition("[")[0] in names)


def valid(file):
    """Hold a result file to the schema that is published, and return what it says."""
    import jsonschema  # takes seconds to load

    found = json.loads(file.read_text(encoding="utf-8"))
    schema = json.loads(
        (ROOT / "workbench" / "grading" / "grade.schema.json").read_text(encoding="utf-8")
    )
    jsonschema.validate(found, schema)
    return Grade.read(file)


def left(place, grader=None):
    """The processes that a grader has started for a fork, as their user or their command tells."""
    first, found = STRANGERS + LANES * (grader or os.getpid()), []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            theirs = os.name == "posix" and first <= process.uids().real < first + LANES
            theirs = theirs or str(place) in " ".join(process.cmdline())
            found += [process] if theirs and process.status() != psutil.STATUS_ZOMBIE else []
    return found
