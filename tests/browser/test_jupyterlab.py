"""A real JupyterLab in a real browser: "Run All", the pictures, and the exercises with answers."""

import json
import os

import pytest
from helpers.chromium import needs_browser
from helpers.lab import NOTEBOOKS, lab, run, run_all, tab, window

from workbench.course.catalogue import lessons
from workbench.course.syntax import pieces

PICTURES = {"s06": 4, "s07": 2, "s08": 6, "s09": 1, "s10": 2, "s11": 1, "s12": 2}  # at least
PICTURES |= {"s13": 3, "s14": 3, "s15": 1, "s16": 3}
QUICK = 6  # so far, ten seconds is enough for a check to hear all sentences of a stage
EXERCISES = os.environ.get("EXERCISES")  # "all" has the later stages checked too, for minutes each
MARGIN = 40  # pixels of JupyterLab at the right of a cell

pytestmark = [needs_browser, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """A JupyterLab for the whole file: its address, and the folder with the copies of stages."""
    home = tmp_path_factory.mktemp("lab")
    with lab(home) as address:
        yield address, home / "mine" / "stages"


@pytest.fixture(scope="module")
def chromium():
    """One browser for all."""
    with window() as chromium:
        yield chromium


@pytest.fixture
def page(chromium, started):
    """A page of the browser, with kernels of its own."""
    with tab(chromium, started[0]) as page:
        yield page


@pytest.mark.parametrize("known", lessons(), ids="{0.slug}".format)
def test_run_all_has_no_error_and_each_exercise_is_wrong_until_it_is_answered(started, page, known):
    address, mine = started
    assert run_all(page, f"{address}/lab/tree/{known.slug}.ipynb") == []
    assert seen(page) >= PICTURES.get(known.short, 0)
    for exercise in exercises(known):
        restore, answer, check = (page.locator(".jp-Cell").nth(index) for index in exercise)
        assert "no" in states(check)
        run(page, restore)
        run(page, answer, right(known, exercise[1]))
        assert (mine / known.path.name).read_bytes() == known.path.read_bytes()
    if known.number <= QUICK or EXERCISES == "all":
        run(page, check)
        assert {"yes"} <= states(check) <= {"yes", "skipped"}


def source(known):
    """The texts of a notebook's cells."""
    notebook = json.loads((NOTEBOOKS / f"{known.slug}.ipynb").read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"]]


def exercises(known):
    """The places of the cells of each exercise: it is laid out, has an answer, and is checked."""
    found, last = [], {}
    for index, text in enumerate(source(known)):
        for kind in ("restore(", "%%mine", "check("):
            if text.startswith(kind):
                last[kind] = index
        if text.startswith("check("):
            found.append(tuple(last.values()))
    return found


def right(known, index):
    """The reference answer for a cell: what it defines, as the stage has it."""
    line, body = source(known)[index].split("\n", 1)
    stage = pieces(known.path.read_text(encoding="utf-8"))
    return "\n\n".join([line, *(stage[name] for name in pieces(body) if name in stage)])


def states(cell):
    """What a check in a cell says of its sentences: yes, no, skipped."""
    marks = cell.locator(".jp-OutputArea-output li > span").all_text_contents()
    return {mark.split(maxsplit=1)[1] for mark in marks}


def seen(page):
    """Scroll to each picture, and see that it is large enough and not cut off; count them."""
    shown = page.locator(".jp-RenderedSVG :is(img, svg)").all()
    for picture in shown:
        picture.scroll_into_view_if_needed()
        box = picture.bounding_box()
        assert box["width"] >= 200
        assert box["height"] > 100
        assert box["x"] + box["width"] <= page.viewport_size["width"] - MARGIN, "cut off"
    return len(shown)
