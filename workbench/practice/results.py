"""What pytest says of the sentences of a stage, heard while it says them.

pytest runs in a process of its own, and writes a line of JSON for each step (pytest-reportlog).
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from workbench.files import ROOT
from workbench.practice import plugin as one_stage
from workbench.practice.progress import MARKS, Sign
from workbench.server.environment import environment
from workbench.server.reaper import REAPER

GLANCE = 0.02  # seconds between two looks at the report
UNENDED = "it did not come to an end, and pytest gave it up"

State = Literal["yes", "no", "not reached", "skipped"]


SIGNS: dict[State, Sign] = {
    "yes": MARKS["passed"],
    "no": Sign("\N{BALLOT X}", "bold red", "color:var(--jp-error-color1, #cf222e)"),
    "not reached": MARKS["not begun"],
    "skipped": Sign("-", "dim", "opacity:.7"),
}


@dataclass(frozen=True)
class Sentence:
    """A sentence of the suite, whether it holds, and the reason where it does not."""

    text: str
    state: State
    reason: str = ""

    @property
    def said(self) -> str:
        """The sentence, with the reason if it was skipped."""
        return f"{self.text} ({self.reason})" if self.state == "skipped" else self.text

    def __str__(self) -> str:
        return f"{SIGNS[self.state].mark} {self.state:11} {self.said}"


@contextmanager
def asked(command: list[str], output: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in the repository, and don't leave it behind: neither now nor if we die.

    It has the variables that every judged program has (`environment`), and none of pytest's own.
    """
    variables = {name: text for name, text in environment().items() if name[:7] != "PYTEST_"}
    with subprocess.Popen(  # noqa: S603 - our own suite
        command,
        cwd=ROOT,
        env=variables | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
    ) as process:
        REAPER.watch(process.pid)
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            REAPER.forget(process.pid)


def entries(
    report: Path,
    process: subprocess.Popen[bytes],
    meanwhile: Callable[[], object] | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield each entry of a growing report as soon as it is whole, until its writer has ended."""
    with report.open(encoding="utf-8") as stream:
        line, ended = "", False
        while not ended:
            if meanwhile:
                meanwhile()
            ended = process.poll() is not None
            while more := stream.readline():
                line += more
                if line.endswith("\n"):
                    yield json.loads(line)
                    line = ""
            time.sleep(0 if ended else GLANCE)


def understood(entry: dict[str, Any]) -> Iterator[tuple[str, Sentence]]:
    """Read what pytest reports of a test's setup, call or teardown; anything else says nothing."""
    if entry["$report_type"] != "TestReport":
        return
    name, why = entry["nodeid"], entry["longrepr"]
    match entry["when"], entry["outcome"]:
        case "setup", "passed":
            yield name, Sentence(spoken(name), "no", UNENDED)
        case "call", "passed":
            yield name, Sentence(spoken(name), "yes")
        case _, "failed":
            yield name, Sentence(spoken(name), "no", _plain(why))
        case _, "skipped":
            reason = why[-1].removeprefix("Skipped: ")
            state: State = "not reached" if reason == one_stage.NOT_REACHED else "skipped"
            yield name, Sentence(spoken(name), state, reason)


def spoken(name: str) -> str:
    """Make a sentence of a test's name; what it is said with, besides the stage, is in brackets."""
    words, _, case = name.rpartition("::test_")[2].rstrip("]").partition("[")
    others = [part for part in case.split("-") if not re.fullmatch(r"s\d\d_\w+", part)]
    return words.replace("_", " ") + (f" ({', '.join(others)})" if others else "")


def _plain(why: str | dict[str, Any]) -> str:
    """Return what a failure says: the suite's own report, or an error's last words."""
    words = why if isinstance(why, str) else why["reprcrash"]["message"]
    return re.sub(r"^[\w.]*\.(DidNotStart|NotSaid): ", "", words)
