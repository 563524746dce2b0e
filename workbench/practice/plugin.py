"""A plug-in for pytest: one stage's sentences, in the order in which a student should hear them.

`pytest -p workbench.practice.plugin --stage=s06_slow_route --stages=FOLDER`. First come the
promises of the lessons that teach what was `--touched`, then all others; of both, those of earlier
stages come first, then those that stand first in their file. After the first that fails, the others
are skipped as not reached.
"""

from __future__ import annotations

import pytest

from workbench.course.catalogue import lesson

NOT_REACHED = "not reached"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the stage, and the names in which its file differs from the course's."""
    group = parser.getgroup("one stage")
    group.addoption("--stage", metavar="SLUG", required=True, help="the stage to speak of")
    group.addoption("--touched", metavar="NAMES", default="", help="names, as in read_head,route")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what is said of the stage itself, and put it in order."""
    touched = set(config.getoption("touched").split(","))
    said = [item for item in items if _is_of(item, config.getoption("stage"))]
    items[:] = sorted(said, key=lambda item: _place(item, touched))


def _place(item: pytest.Item, touched: set[str]) -> tuple[bool, bool, int, bool]:
    """Return what puts a sentence in order: whether its lesson teaches other things, and which.

    Of one lesson, the promises that it makes true come before those that never were broken, and
    those that a later stage replaces come last.
    """
    first = lesson(_first(item))
    marker = item.get_closest_marker("since")
    lasting = marker is not None and not marker.args[0].new
    replaced = marker is not None and marker.args[0].until is not None
    return touched.isdisjoint(first.touches), lasting, first.number, replaced


def _first(item: pytest.Item) -> str:
    """Name the first stage of which a sentence is said; nothing for an ordinary test."""
    marker = item.get_closest_marker("since")
    return str(marker.args[0].first) if marker else ""


def _is_of(item: pytest.Item, stage: str) -> bool:
    """Tell a sentence said of the stage from other tests, stages, and cases that must fail."""
    if not isinstance(item, pytest.Function) or item.get_closest_marker("xfail"):
        return False
    return bool(_first(item)) and stage in item.callspec.id.split("-")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Say nothing more after the first sentence that fails."""
    if item.session.testsfailed:
        pytest.skip(NOT_REACHED)
