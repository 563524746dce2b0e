"""The command line, run as a user would or in this process."""

import subprocess
import sys

from typer.testing import CliRunner

from workbench.__main__ import app
from workbench.errors import Mistake
from workbench.files import ROOT

WORKBENCH = [sys.executable, "-X", "utf8", "-m", "workbench"]


def workbench(*words, cwd=ROOT):
    """Run a command in a process of its own, as a user would; its status, stdout and stderr."""
    line = [*WORKBENCH, *map(str, words)]
    result = subprocess.run(line, cwd=cwd, capture_output=True, encoding="utf-8")
    return result.returncode, result.stdout, result.stderr


def told(*words):
    """Run a command in this process; its status, and what it printed, the line of a Mistake too."""
    result = CliRunner().invoke(app, [*map(str, words)])
    if isinstance(result.exception, Mistake):
        return result.exit_code, f"{result.output}{result.exception}"
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output
