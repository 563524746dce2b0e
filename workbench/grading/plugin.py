"""A plug-in for pytest, for a grade: each sentence is said, unless the program does not listen.

`pytest -p workbench.grading.plugin TESTS`, the first of which is that it listens. If that does not
hold, the others are skipped as not reached: each would wait for a program that never says where it
is. What the machine lacks, and not the program, ends it all with a status of its own, FAULT.
"""

from __future__ import annotations

import errno
import shlex
import sys

import pytest

from workbench.grading.sanitize import shortened
from workbench.practice.plugin import NOT_REACHED
from workbench.server.launch import Server

LISTENS = pytest.StashKey[bool]()
FAULT = 70  # EX_SOFTWARE of sysexits.h
OURS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}  # of errors
MEMORY = 4 * 2**30  # bytes of address space: what a program sends must not use up the machine
LONGEST = 20_000  # characters of a reason


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what a runner is told."""
    text = "start files of Python from a zygote, which the command of --under keeps"
    parser.addoption("--zygote", action="store_true", help=text)


def pytest_configure(config: pytest.Config) -> None:
    """Keep other processes of this user from reading the runner's memory, and bound it (Linux)."""
    if config.getoption("zygote"):
        from workbench.sandbox.fork_server import ForkServer

        nursery = ForkServer(shlex.split(config.getoption("under")))
        Server.spawn = staticmethod(nursery.spawn)
        config.add_cleanup(nursery.end)
    if sys.platform == "linux":
        import resource

        from workbench.sandbox.supervisor import PR_SET_DUMPABLE, prctl

        prctl(PR_SET_DUMPABLE, 0)
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY if hard < 0 else min(MEMORY, hard), hard))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Say nothing of a program that does not listen."""
    if item is not item.session.items[0] and not item.session.stash.get(LISTENS, False):
        pytest.skip(NOT_REACHED)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> pytest.TestReport:  # type: ignore[misc]
    """Remember whether the first sentence holds; shorten what is said of one that does not."""
    if call.excinfo and getattr(call.excinfo.value, "errno", None) in OURS:
        pytest.exit(f"the runner itself failed: {call.excinfo.value}", FAULT)
    report = yield
    if report.when == "call" and item is item.session.items[0]:
        item.session.stash[LISTENS] = report.passed
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        report.longrepr = shortened(crash.message if crash else str(report.longrepr), LONGEST)
    report.sections.clear()
    return report
