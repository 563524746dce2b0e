"""What all tests have in common: options, addresses of their own, folders of their own."""

import os
import signal
import sys
import time

import pytest
from suite.chance import CHANCE
from suite.options import settle
from suite.requirements import ours

from workbench.files import SUITE
from workbench.server.environment import environment
from workbench.server.launch import DEFAULTS


def pytest_configure(config):
    """Make every run alike: no variable of the user's, addresses apart, Ctrl-C heard again.

    Raises UsageError before any worker is started, so that it is said once.
    """
    settle(config.option)
    choose_slow_ones(config)
    CHANCE.seed(config.getoption("seed"))
    if "PYTHONDONTWRITEBYTECODE" in os.environ:  # else each worker compiles the suite anew
        sys.dont_write_bytecode = False
    os.environ.update(clean := environment())
    for name in os.environ.keys() - clean:
        del os.environ[name]
    if hasattr(time, "tzset"):
        time.tzset()
    if (worker := os.environ.get("PYTEST_XDIST_WORKER")) and sys.platform == "linux":
        # A port that was left is soon another server's: so each worker has an address of its own.
        DEFAULTS["HOST"] = f"127.0.0.{2 + int(worker.removeprefix('gw'))}"
    for name, action in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, action)


def choose_slow_ones(config):
    """Judge another's program by all requirements, as `check` and `grade` do, unless -m chooses."""
    chosen = any(word.startswith("-m") for word in config.invocation_params.args)
    if not (chosen or ours(config) or hasattr(config, "workerinput")):
        config.option.markexpr = ""


def pytest_ignore_collect(collection_path, config):
    """Leave out all but the suite where another's program is judged; None asks the others."""
    near = SUITE.is_relative_to(collection_path) or collection_path.is_relative_to(SUITE)
    return None if near or ours(config) else True


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """Share the work among five; among three for a choice, as each reads the whole suite first."""
    return 3 if config.option.keyword else 5


def pytest_addoption(parser):
    group = parser.getgroup("the course")
    group.addoption(
        "--stages", metavar="FOLDER", help="judge a fork: its folder, or that of its stages"
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
