"""A class at a glance: what its table and its page say, and what no fork can make them say."""

import base64
import csv
import io
import re
from dataclasses import replace
from xml.etree import ElementTree

from helpers.pages import Tags
from helpers.pictures import words

from workbench.grading.gradebook import overview
from workbench.grading.manifest import manifest
from workbench.grading.result import Grade, unsaid

NASTY = [
    "=cmd|'/c calc'!A1",
    "+1",
    "@SUM(1)",
    "-2+3",
    "\n=1+1",
    "\uff1d1",
    "<script>alert(1)</script>",
    'a\nb,c"d;e\r\tf',
    "\u202eevil",
    "../../x",
    "{{ 7 * 7 }}",
]


def stage(number, *outcomes, state="graded"):
    """A stage of the manifest; its sentences hold but the first of them, in the order given."""
    blank = unsaid(manifest()[number - 1])
    rest = ["holds"] * (len(blank.checks) - len(outcomes))
    checks = zip(blank.checks, [*outcomes, *rest], strict=True)
    return replace(
        blank, state=state, checks=tuple(replace(check, outcome=kind) for check, kind in checks)
    )


def fork(name, *stages, **more):
    return Grade(name, "abc", "suite", 1, (), stages, **more)


def drawn(tmp_path, *grades):
    """The overview of a class, the rows of its table by name of column, and its page."""
    found = overview([(f"fork-{n}", grade) for n, grade in enumerate(grades)], tmp_path)
    rows = csv.DictReader(io.StringIO((tmp_path / "grades.csv").read_text(encoding="utf-8-sig")))
    return found, list(rows), (tmp_path / "index.html").read_text(encoding="utf-8")


def test_the_table_has_each_forks_points_by_stage_and_no_mark_is_empty(tmp_path):
    _, rows, _ = drawn(
        tmp_path,
        fork("Ada", stage(1), stage(2, "broken")),
        fork("Ida", stage(1), stage(2, state="error")),
        fork("Eva", stage(1, state="missing"), stage(2), notes=("static/x was not taken",)),
        fork("Zoe", stage(1, state="waiting"), stage(2), error="its disk was full"),
    )
    points = [[row[name] for name in ("name", "points", "of", "s01", "s02")] for row in rows]
    assert points == [
        ["Ada", "5", "10", "5", "0"],
        ["Ida", "", "10", "5", ""],
        ["Eva", "5", "10", "0", "5"],
        ["Zoe", "", "10", "", "5"],
    ]
    assert [row["state"] for row in rows] == ["graded", "error", "graded", "error"]
    assert "static/x was not taken" in rows[2]["notes"]
    assert "its disk was full" in rows[3]["notes"]


def test_no_text_of_a_fork_is_a_formula_a_tag_or_a_line_of_its_own(tmp_path):
    nasty = [fork(text, stage(1), notes=(text,), error=text) for text in NASTY]
    _, rows, page = drawn(tmp_path, *nasty)
    assert len(rows) == len(NASTY)
    for row in rows:
        assert all(not re.match(r"\s*[=+@\-\uff1d]", cell) for cell in row.values()), row
        assert not re.search(r"[\x00-\x1f\u202e]", "".join(row.values()))
    seen = Tags(page)
    assert not {"script", "iframe"} & {tag for tag, _ in seen.tags}
    assert "<script>alert(1)</script>" in seen.words
    assert "{{ 7 * 7 }}" in seen.words
    assert "\u202e" not in page
    links = [values["href"] for tag, values in seen.tags if tag == "a"]
    assert links == [f"fork-{n}/index.html" for n in range(len(NASTY))]


def test_what_most_forks_fail_comes_first_and_is_counted_of_those_with_a_mark(tmp_path):
    first, second, third = (check.sentence for check in manifest()[0].checks[:3])
    found, _, page = drawn(
        tmp_path,
        fork("Ada", stage(1, "holds", "broken")),
        fork("Ida", stage(1, "holds", "broken", "not reported")),
        fork("Eva", stage(1, "broken", "not reached", "not reached")),
        fork("Zoe", stage(1, "broken", "broken", state="error")),
    )
    counts = [(one.sentence, one.broken, one.unsaid) for one in found.failures]
    assert counts == [(second, 2, 1), (first, 1, 0), (third, 0, 2)]
    said = Tags(page).words
    assert said.index(second) < said.index(first) < said.index(third)


def test_the_picture_is_an_svg_in_the_page_and_a_class_without_failures_has_none(tmp_path):
    found, _, page = drawn(tmp_path, fork("Ada", stage(1, "broken")))
    (source,) = [values["src"] for tag, values in Tags(page).tags if tag == "img"]
    picture = base64.b64decode(source.removeprefix("data:image/svg+xml;base64,"))
    assert ElementTree.fromstring(picture).tag.endswith("svg")
    (axes,) = found.figure.axes
    assert words(axes.get_yticklabels()) == [f"s01  {manifest()[0].checks[0].sentence}"]
    _, _, page = drawn(tmp_path, fork("Ada", stage(1)))
    assert "img" not in {tag for tag, _ in Tags(page).tags}
    assert "Every sentence that was said holds." in page
