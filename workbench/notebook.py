"""The front door for notebooks: `from workbench.notebook import launch, say, timeline, diff`."""

import sys

from workbench.lessons import Mistake

if sys.platform == "emscripten":
    raise Mistake(
        "Pyodide has no processes and no sockets, so no server can be started here: "
        "open this notebook in JupyterLab, VS Code, Colab or Binder, as the README says"
    )

from workbench.anatomy import Anatomy, anatomy
from workbench.bench import Benchmark, bench
from workbench.browse import Window, browse
from workbench.check import Verdict, check
from workbench.cost import Costs, cost
from workbench.distance import Far, far, one_by_one
from workbench.guard import Guard
from workbench.hints import Hint, hint
from workbench.hunt import Hunt, hunt, on_bench
from workbench.launch import DidNotStart, Server, launch
from workbench.lessons import Lesson, Mistake, UnknownStage, lesson, lessons
from workbench.memory import Memories, memories
from workbench.mine import mine, practise, register, restore
from workbench.onion import Onions, onion
from workbench.page import page
from workbench.reading import Code, Diff, diff, show
from workbench.readings import Readings, readings
from workbench.solution import solution
from workbench.timeline import Timeline, timeline, timelines
from workbench.versions import Versions, versions
from workbench.weight import Weights, weight
from workbench.wire import Answer, Exchange, Visitor, caret, say

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
