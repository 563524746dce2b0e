"""A stage is read by the names of its pieces, and compared with another."""

import io
import re

import pytest
from helpers.stages import source
from rich.console import Console

from workbench.course.catalogue import UnknownStage, lesson, lessons
from workbench.course.source import UnknownPiece, UnreadableFile, diff, show
from workbench.course.syntax import pieces, touched
from workbench.errors import Mistake


def in_terminal(thing, **how):
    console = Console(width=120, record=True, file=io.StringIO(), **how)
    console.print(thing)
    return console.export_text(styles=True)


def plain(html):
    return re.sub("<[^>]+>", "", html.partition("</style>")[2])


# show


def test_show_gives_the_whole_stage_without_names():
    assert str(show("s05")) == source("s05")


def test_show_gives_the_pieces_asked_for_in_the_order_asked():
    parts = pieces(source("s05"))
    assert str(show("s05", "respond", "route")) == f"{parts['respond']}\n\n{parts['route']}"


def test_show_keeps_constants_together():
    assert str(show("s05", "HOST", "PORT")).count("\n") == 2


def test_show_looks_into_a_class():
    method = str(show("s08", "ThreadPool.execute"))
    assert method.startswith("    def execute(")
    assert method in source("s08")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("rout", "no piece is called 'rout' in s08_thread_pool.py: did you mean route?"),
        ("ThreadPool.run", "no piece is called 'run' in ThreadPool in s08_thread_pool.py: "),
        ("route.x", "in route in s08_thread_pool.py: there are none"),
    ],
)
def test_an_unknown_piece_is_one_line_with_the_nearest_name(name, told):
    with pytest.raises(UnknownPiece) as caught:
        show("s08", name)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_show_reads_a_copy_of_ones_own(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("def route():\n    return 'é'\n", encoding="utf-8")
    assert str(show("s05", "route", file=mine)) == mine.read_text(encoding="utf-8")
    assert str(show(str(mine))) == mine.read_text(encoding="utf-8")


def test_a_file_that_is_not_there_is_never_taken_for_a_stage(tmp_path):
    with pytest.raises(UnreadableFile, match="there is no file"):
        show(tmp_path / "s05_routing.py")
    with pytest.raises(UnreadableFile, match="there is no file"):
        diff("s05", f"{tmp_path}/s05_routing.py")


def test_a_file_that_is_not_utf8_is_told_plainly(tmp_path):
    (tmp_path / "odd.py").write_bytes(b"A = '\xff'\n")
    with pytest.raises(UnreadableFile, match="cannot read"):
        show(tmp_path / "odd.py")


def test_code_is_coloured_in_a_terminal_and_as_html_and_escaped():
    code = show("s05", "route")
    assert "\x1b[" in in_terminal(code, force_terminal=True)
    assert 'class="wb-k"' in code._repr_html_()
    assert "->" not in plain(code._repr_html_()) or "-&gt;" in code._repr_html_()


# diff


@pytest.mark.parametrize("known", lessons()[1:], ids=lambda known: known.slug)
def test_a_diff_names_what_is_touched_with_the_titles_on_top(known):
    earlier = lesson(known.builds_on)
    told = diff(earlier, known)
    assert told.touched == known.touches == touched(source(earlier), source(known))
    assert told.title == f"{earlier.short} {earlier.title} → {known.short} {known.title}"
    assert all(name in told.summary for name in known.touches)
    assert str(diff(known)) == str(told)


def test_a_unified_diff_leads_from_one_text_to_the_other():
    added = [line[1:] for line in diff("s05", "s06").unified.splitlines() if line[:1] == "+"]
    assert "def sleep(request: Request) -> Response:" in added
    assert diff("s05", "s06").unified.startswith("--- s05_routing.py\n+++ s06_slow_route.py\n@@")


def test_a_diff_in_a_terminal_is_the_unified_one_in_colour():
    shown = in_terminal(diff("s05", "s06"), force_terminal=True)
    assert "\x1b[32m+import logging" in shown
    assert "\x1b[31m-import traceback" in shown


def test_a_diff_in_a_notebook_is_side_by_side_with_the_changed_words_marked():
    html = diff("s05", "s06")._repr_html_()
    assert "send its response, and <del>print</del>" in html
    assert "send its response, and <ins>log</ins>" in html
    assert "def sleep(request: Request) -&gt; Response:" in html


def test_every_line_that_differs_is_on_the_page():
    html = plain(diff("s01", "s09")._repr_html_())
    for line in diff("s01", "s09").unified.splitlines()[2:]:
        if line[:1] in "+-" and line[1:].strip():
            assert (
                line[1:]
                .strip()
                .replace("&", "&amp;")
                .replace(">", "&gt;")
                .replace("<", "&lt;")
                .replace('"', "&quot;")
                .replace("'", "&#x27;")
                in html
            )


def test_the_same_twice_has_no_difference():
    same = diff("s05", "s05")
    assert (same.unified, same.touched, same.summary) == ("", (), "no name is touched")
    assert "no difference" in same._repr_html_()


def test_a_students_file_alone_is_compared_with_the_stage_it_is_named_after(tmp_path):
    mine = tmp_path / "s05_routing.py"
    mine.write_text(source("s05").replace('"GET", "/about"', '"GET", "/me"'), encoding="utf-8")
    told = diff(mine)
    assert told.touched == ("ROUTES",)
    assert told.summary == "changes ROUTES"
    assert "<ins>me</ins>" in told._repr_html_()


def test_a_file_that_is_not_python_yet_is_still_compared(tmp_path):
    mine = tmp_path / "s05_routing.py"
    mine.write_text(source("s05") + "def oops(:\n", encoding="utf-8")
    told = diff("s05", mine)
    assert "s05_routing.py is not Python yet" in told.summary
    assert "+def oops(:" in str(told)
    with pytest.raises(UnreadableFile):
        _ = told.touched


def test_what_is_removed_is_named(tmp_path):
    old, new = tmp_path / "old.py", tmp_path / "new.py"
    old.write_text("A = 1\nB = 2\n", encoding="utf-8")
    new.write_text("B = 3\nC = 4", encoding="utf-8")
    told = diff(old, new)
    assert told.summary == "adds C; changes B; removes A"
    assert told.unified.endswith("+C = 4\n\\ No newline at end of file\n")


def test_the_first_stage_has_nothing_to_be_compared_with():
    with pytest.raises(Mistake, match="s01_bind_and_print builds on no other stage"):
        diff("s01")


def test_an_unknown_stage_is_told_as_everywhere():
    with pytest.raises(UnknownStage, match="did you mean s06_slow_route"):
        diff("s05", "slow_rout")
