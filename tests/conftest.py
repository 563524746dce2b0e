"""How the suite is asked: of which implementation, of which stages, and what a failure says."""

import os
import re
import signal
import sys
from typing import NamedTuple

import pytest
from browser import chromium, expect  # noqa: F401 - fixtures
from chance import CHANCE
from promises import (
    IMPATIENCE,
    PATIENCE,
    Program,
    Promise,
    Witness,
    ours,
    program,
)
from report import describe

from workbench.launch import DEFAULTS
from workbench.lessons import Lesson, before, lesson
from workbench.saboteurs import Saboteur, saboteurs


def pytest_configure(config):
    """Let nobody call at another's door; hear Ctrl-C again, to which the background is deaf."""
    CHANCE.seed(config.getoption("seed"))
    if (worker := os.environ.get("PYTEST_XDIST_WORKER")) and sys.platform == "linux":
        # A port that was left is soon another server's: so each worker has an address of its own.
        DEFAULTS["HOST"] = f"127.0.0.{2 + int(worker.removeprefix('gw'))}"
    for name, action in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, action)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """Share the work among four; among three for a choice, as each reads the whole suite first."""
    return 3 if config.option.keyword else 4


def pytest_addoption(parser):
    group = parser.getgroup("the course")
    group.addoption(
        "--stages", metavar="FOLDER", help="judge the stages of a fork: --stages=FOLDER"
    )
    group.addoption(
        "--command",
        metavar="LINE",
        help="judge an implementation in any language: --command='cargo run --bin {stage}'",
    )
    group.addoption(
        "--under", metavar="LINE", help="start each program by another: --under='strace -f -o log'"
    )
    group.addoption(
        "--seed", metavar="NUMBER", type=int, default=0, help="of what visitors choose at random"
    )


class Case(NamedTuple):
    """One stage to say a sentence of, perhaps with a fault put into it."""

    lesson: Lesson
    saboteur: Saboteur | None = None


def pytest_generate_tests(metafunc):
    if promise := said(metafunc.definition):
        cases = [pytest.param(Case(known), id=known.slug) for known in promise.lessons()]
        if ours(metafunc.config):
            cases += must_fail(metafunc.function.__name__, promise)
        elif promise.flaw:
            cases = []
        metafunc.parametrize("case", [case for case in cases if choosable(case, metafunc.config)])


def choosable(case, config):
    """Whether `-k s05` may choose a case: of the many that it will not, none is made."""
    stage = re.fullmatch(r"s\d\d\w*", config.option.keyword)
    return not stage or stage[0] in case.id


def said(item) -> Promise | None:
    """What a sentence promises; None for an ordinary test."""
    marker = item.get_closest_marker("since")
    return marker.args[0] if marker else None


def must_fail(name, promise):
    """Yield what breaks the promise: the stage before, and every saboteur that names it."""
    first = before(promise.first)
    if promise.new and first:
        yield failing(Case(first), f"{first.slug}-not_yet", pytest.mark.not_yet, promise.first)
    for saboteur in saboteurs():
        if saboteur.caught_by == name:
            case = Case(lesson(saboteur.stage), saboteur)
            label = f"{case.lesson.slug}-{saboteur.name}"
            yield failing(case, label, pytest.mark.saboteur, saboteur.story)


def failing(case, label, mark, reason):
    """A case that must break the sentence's own words; a crash of the test is no proof."""
    xfail = pytest.mark.xfail(strict=True, raises=AssertionError, reason=reason)
    return pytest.param(case, id=label, marks=[mark, xfail])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Let each test's visitors choose the same things again, alone or among others."""
    CHANCE.seed(f"{item.config.getoption('seed')} {item.nodeid}")


@pytest.fixture(autouse=True, scope="session")
def belongings(tmp_path_factory):
    """What a stage or a check keeps lies in a folder of the tests, and not beside the stages."""
    folder = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UPLOADS", str(folder / "uploads"))
        patch.setenv("DATABASE", str(folder / "todos.db"))
        patch.setenv("WORKBENCH_MINE", str(folder / "mine"))
        yield


@pytest.fixture
def implementation(request, case, tmp_path) -> Program:
    """The program that a sentence is said of."""
    Witness.latest = None
    breaks = request.node.get_closest_marker("xfail")
    Witness.patience = IMPATIENCE if breaks else PATIENCE
    if case.saboteur:
        return program(case.lesson, request.config).copy(
            tmp_path / "faulty", case.saboteur.source()
        )
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
