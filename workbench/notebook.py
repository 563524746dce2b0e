"""The front door for notebooks: `from workbench.notebook import launch, say, timeline, diff`."""

import sys

from workbench.check import Verdict, check
from workbench.cost import Costs, cost
from workbench.launch import DidNotStart, Server, launch
from workbench.lessons import Lesson, Mistake, UnknownStage, lesson, lessons
from workbench.mine import mine, practise, register, restore
from workbench.page import page
from workbench.reading import Code, Diff, diff, show
from workbench.timeline import Timeline, timeline, timelines
from workbench.wire import Answer, Exchange, Visitor, caret, say

__all__ = [
    "Answer",
    "Code",
    "Costs",
    "DidNotStart",
    "Diff",
    "Exchange",
    "Lesson",
    "Mistake",
    "Server",
    "Timeline",
    "UnknownStage",
    "Verdict",
    "Visitor",
    "caret",
    "check",
    "cost",
    "diff",
    "launch",
    "lesson",
    "lessons",
    "mine",
    "page",
    "practise",
    "restore",
    "say",
    "show",
    "timeline",
    "timelines",
]

if "IPython" in sys.modules and (shell := sys.modules["IPython"].get_ipython()):
    register(shell)  # the magic %%mine
