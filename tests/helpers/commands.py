"""The command line, run as a user would or in this process."""

import subprocess
import sys

from typer.testing import CliRunner

from workbench.__main__ import app
from workbench.files import ROOT

WORKBENCH = [sys.executable, "-X", "utf8", "-m", "workbench"]


def workbench(*words):
    """Run a command in a process of its own, as a user would; its status, stdout and stderr."""
    result = subprocess.run([*WORKBENCH, *words], cwd=ROOT, capture_output=True, encoding="utf-8")
    return result.returncode, result.stdout, result.stderr


def told(*words):
    """Run a command in this process, and return what it printed."""
    return CliRunner().invoke(app, words, catch_exceptions=False).output
