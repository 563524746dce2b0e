"""The front door for notebooks: `from workbench.notebook import launch, say, timeline, diff`."""

import sys

from workbench.errors import Mistake

if sys.platform == "emscripten":
    raise Mistake(
        "Pyodide has no processes and no sockets, so no server can be started here: "
        "open this notebook in JupyterLab, VS Code, Colab or Binder, as the README says"
    )

from workbench.client.client import Answer, Exchange, Visitor, caret, say
from workbench.course.catalogue import Lesson, UnknownStage, lesson, lessons
from workbench.course.source import Code, Diff, diff, show
from workbench.course.workspace import mine, practise, register, restore
from workbench.errors import Mistake
from workbench.measure.bench import Benchmark, bench
from workbench.measure.browse import Window, browse
from workbench.measure.latency import Far, far, one_by_one
from workbench.measure.lost_updates import Versions, versions
from workbench.measure.memory import Memories, memories
from workbench.measure.multipart import Anatomy, anatomy
from workbench.measure.naive_proxy import Guard
from workbench.measure.page import page
from workbench.measure.resources import Costs, cost
from workbench.measure.server_timing import Onions, onion
from workbench.measure.smuggling import Readings, readings
from workbench.measure.timeline import Timeline, timeline, timelines
from workbench.measure.transfer_size import Weights, weight
from workbench.practice.check import Verdict, check
from workbench.practice.hints import Hint, hint
from workbench.practice.hunt import Hunt, hunt, on_bench
from workbench.practice.solution import solution
from workbench.server.launch import DidNotStart, Server, launch

__all__ = [
    "Anatomy",
    "Answer",
    "Benchmark",
    "Code",
    "Costs",
    "DidNotStart",
    "Diff",
    "Exchange",
    "Far",
    "Guard",
    "Hint",
    "Hunt",
    "Lesson",
    "Memories",
    "Mistake",
    "Onions",
    "Readings",
    "Server",
    "Timeline",
    "UnknownStage",
    "Verdict",
    "Versions",
    "Visitor",
    "Weights",
    "Window",
    "anatomy",
    "bench",
    "browse",
    "caret",
    "check",
    "cost",
    "diff",
    "far",
    "hint",
    "hunt",
    "launch",
    "lesson",
    "lessons",
    "memories",
    "mine",
    "on_bench",
    "one_by_one",
    "onion",
    "page",
    "practise",
    "readings",
    "restore",
    "say",
    "show",
    "solution",
    "timeline",
    "timelines",
    "versions",
    "weight",
]

if "IPython" in sys.modules and (shell := sys.modules["IPython"].get_ipython()):
    register(shell)  # the magic %%mine
