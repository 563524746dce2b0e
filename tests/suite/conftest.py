"""How the suite is asked: of which implementation, of which stages, and what a failure says."""

import re
import sys
from typing import NamedTuple

import pytest
from suite.report import describe
from suite.requirements import (
    IMPATIENCE,
    PATIENCE,
    Program,
    Promise,
    Witness,
    ours,
    program,
)

from workbench.course.catalogue import Lesson, before, lesson
from workbench.course.mutants import Mutant, mutants
from workbench.sandbox.fork_server import ForkServer, ForkServers
from workbench.server.launch import Server
from workbench.server.processes import spawn


class Case(NamedTuple):
    """One stage to say a sentence of, perhaps with a fault put into it."""

    lesson: Lesson
    mutant: Mutant | None = None


def pytest_generate_tests(metafunc):
    if promise := said(metafunc.definition):
        cases = [
            pytest.param(Case(known), id=known.slug, marks=slowly)
            for known, slowly in paces(promise, metafunc.config)
        ]
        if ours(metafunc.config):
            cases += must_fail(metafunc.function.__name__, promise)
        elif promise.limitation:
            cases = []
        metafunc.parametrize("case", [case for case in cases if choosable(case, metafunc.config)])


def paces(promise, config):
    """Yield each stage of a promise; of our own, the later ones of a costly one are slow."""
    for number, known in enumerate(promise.lessons()):
        slowly = promise.costly and number and ours(config)
        yield known, [pytest.mark.slow] * bool(slowly)


def choosable(case, config):
    """Whether `-k s05` may choose a case: of the many that it will not, none is made."""
    stage = re.fullmatch(r"s\d\d\w*", config.option.keyword)
    return not stage or stage[0] in case.id


def said(item) -> Promise | None:
    """What a sentence promises; None for an ordinary test."""
    marker = item.get_closest_marker("since")
    return marker.args[0] if marker else None


def must_fail(name, promise):
    """Yield what breaks the promise: the stage before, and every mutant that names it."""
    first = before(promise.first)
    if promise.new and first:
        yield failing(Case(first), f"{first.slug}-not_yet", pytest.mark.not_yet, promise.first)
    for mutant in mutants():
        if mutant.caught_by == name:
            case = Case(lesson(mutant.stage), mutant)
            label = f"{case.lesson.slug}-{mutant.name}"
            yield failing(case, label, pytest.mark.mutant, mutant.story)


def failing(case, label, mark, reason):
    """A case that must break the sentence's own words; a crash of the test is no proof."""
    xfail = pytest.mark.xfail(strict=True, raises=AssertionError, reason=reason)
    return pytest.param(case, id=label, marks=[mark, xfail])


@pytest.fixture(autouse=True, scope="session")
def fork_server(request):
    """Start Python's programs as forks of one that is warm, where the system can and none does.

    Of a fork each stage has its own, so that an import that it lacks is missed.
    """
    if sys.platform != "linux" or Server.spawn is not spawn:
        yield
        return
    server = ForkServer() if ours(request.config) else ForkServers()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Witness, "spawn", staticmethod(server.spawn))
        yield
    server.end()


@pytest.fixture
def implementation(request, case, tmp_path) -> Program:
    """The program that a sentence is said of."""
    Witness.latest = None
    breaks = request.node.get_closest_marker("xfail")
    Witness.patience = IMPATIENCE if breaks else PATIENCE
    if case.mutant:
        return program(case.lesson, request.config).copy(tmp_path / "faulty", case.mutant.source())
    found = program(case.lesson, request.config)
    if said(request.node).python and not found.file:
        pytest.skip("asks for Python, and --command may be any language")
    return found


@pytest.fixture
def server(request, implementation):
    """The program, running with the settings that the sentence asks for."""
    with implementation.start(**said(request.node).settings) as running:
        yield running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    broken = call.excinfo is not None and isinstance(call.excinfo.value, AssertionError)
    if broken and report.failed and said(item):
        report.longrepr = describe(item, call.excinfo)
    return report
