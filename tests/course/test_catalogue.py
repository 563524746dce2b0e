"""The catalogue and the stages say the same, and every stage keeps what it does not teach."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.course.catalogue import BrokenCatalogue, UnknownStage, before, heirs, lesson, lessons
from workbench.course.syntax import members, pieces, removed, touched
from workbench.files import ROOT, STAGES

every_lesson = pytest.mark.parametrize("known", lessons(), ids=lambda known: known.slug)


def text(known):
    return known.path.read_text(encoding="utf-8") if known else ""


# The real stages


def test_every_stage_has_an_entry_and_every_entry_a_stage():
    assert [known.path.name for known in lessons()] == sorted(
        path.name for path in STAGES.glob("s[0-9]*.py")
    )


@every_lesson
def test_touches_are_what_the_syntax_trees_say(known):
    assert known.touches == touched(text(before(known)), text(known))


@every_lesson
def test_what_a_stage_does_not_touch_is_the_same_to_the_byte(known):
    old, new = pieces(text(before(known))), pieces(text(known))
    kept = old.keys() & new.keys() - set(known.touches)
    assert {name: new[name] for name in kept} == {name: old[name] for name in kept}


@every_lesson
def test_no_stage_reorders_what_it_takes_over(known):
    old, new = pieces(text(before(known))), pieces(text(known))
    assert [name for name in old if name in new] == [name for name in new if name in old]


@every_lesson
def test_a_stage_needs_nothing_but_the_standard_library(known):
    assert imported(known) <= sys.stdlib_module_names


def imported(known):
    names = set()
    for node in ast.walk(ast.parse(text(known))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            names.add("." * node.level + (node.module or "").partition(".")[0])
    return names


@every_lesson
def test_the_words_of_an_entry_are_filled_in(known):
    assert all([known.title, known.question.endswith("?"), known.limitation, known.tier])
    assert known.minutes > 0
    assert known.points > 0


# Names


@pytest.mark.parametrize(
    "name",
    [
        "s5",
        "s05",
        "5",
        5,
        "S05",
        "s05_routing",
        "s05-routing",
        "routing",
        "stages/s05_routing.py",
        "stages\\s05_routing.py",
        "stages.s05_routing",
        Path("stages/s05_routing.py"),
    ],
)
def test_a_stage_answers_to_all_its_names(name):
    assert lesson(name).slug == "s05_routing"
    assert lesson(lesson(name)) is lesson(name)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("s05_rooting", "s05_routing"), ("thread_pol", "s08_thread_pool"), ("0", "s01_bind")],
)
def test_an_unknown_stage_gets_the_nearest_suggested_in_one_line(name, nearest):
    with pytest.raises(UnknownStage, match=f"did you mean {nearest}") as caught:
        lesson(name)
    assert "\n" not in str(caught.value)


def test_a_name_like_no_other_is_told_where_the_names_are():
    with pytest.raises(UnknownStage, match="'quux': `python -m stages` lists them all"):
        lesson("quux")


def test_a_notebook_shows_only_the_message_of_a_mistake():
    assert UnknownStage("no such stage")._render_traceback_() == ["no such stage"]


def test_a_lesson_knows_its_number_file_and_command():
    known = lesson("s05")
    assert (known.number, known.short, known.path) == (5, "s05", STAGES / "s05_routing.py")
    assert known.command == "python -m stages.s05_routing"


# Catalogues made for the purpose


def entry(slug, **more):
    given = {"slug": slug, "title": "T", "question": "Q?", "limitation": "F"}
    given |= {"touches": [], "minutes": 1, "points": 1, "tier": "I"} | more
    return "[[lesson]]\n" + "".join(f"{key} = {value!r}\n" for key, value in given.items())


def catalogue(folder, *entries):
    (folder / "lessons.toml").write_text("\n".join(entries), encoding="utf-8")
    return folder


@pytest.fixture
def forked(tmp_path):
    """A course that forks: s04 builds on s02, and s05 on s04."""
    fork = entry("s04_d", builds_on="s02_b")
    return catalogue(tmp_path, entry("s01_a"), entry("s02_b"), entry("s03_c"), fork, entry("s05_e"))


def test_a_lesson_builds_on_the_one_before_unless_it_names_another(forked):
    parents = [known.builds_on for known in lessons(forked)]
    assert parents == [None, "s01_a", "s02_b", "s02_b", "s04_d"]
    assert before("s01", forked) is None
    assert before("s04", forked).slug == "s02_b"


@pytest.mark.parametrize(
    ("name", "family"),
    [("s01", "abcde"), ("s02", "bcde"), ("s03", "c"), ("s04", "de"), ("s05", "e")],
)
def test_heirs_are_the_stage_and_all_that_build_on_it(forked, name, family):
    assert "".join(known.slug[-1] for known in heirs(name, forked)) == family


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ([], r"no \[\[lesson\]\] in it"),
        (["oops"], "cannot read"),
        ([entry("s01_a", colour="red")], "'s01_a': missing or unknown: colour"),
        ([entry("s01_a").replace("limitation", "flow")], "missing or unknown: flow, limitation"),
        ([entry("one")], "like s05_routing"),
        ([entry("s01_a"), entry("s01_a")], "needed a new name"),
        ([entry("s01_a"), entry("s02_b", builds_on="s03_c")], "must name an earlier lesson"),
    ],
)
def test_a_catalogue_that_cannot_be_used_says_where_and_why(tmp_path, entries, told):
    with pytest.raises(BrokenCatalogue, match=told):
        lessons(catalogue(tmp_path, *entries))


def test_a_missing_catalogue_is_named(tmp_path):
    with pytest.raises(BrokenCatalogue, match=r"cannot read .*lessons\.toml"):
        lessons(tmp_path)


# Pieces


SAMPLE = '''"""Title."""

import os

HOST = "a"  # here
A, B = 1, 2


# A reason,
# in two lines.
@decorated
def one(x):
    # inside
    return x


if os.name == "nt":

    def two():
        pass

else:
    two = None


class Three:
    """Words."""

    size = 4

    def go(self):
        return "é"


if __name__ == "__main__":
    one(1)
'''


def test_pieces_are_the_exact_text_of_every_top_level_name():
    parts = pieces(SAMPLE)
    assert list(parts) == ["HOST", "A", "B", "one", "two", "Three"]
    assert parts["HOST"] == 'HOST = "a"  # here\n'
    assert parts["A"] == parts["B"] == "A, B = 1, 2\n"
    assert parts["one"].splitlines()[::5] == ["# A reason,", "    return x"]
    assert parts["two"].startswith("if os.name")
    assert parts["two"].endswith("two = None\n")
    assert all(part in SAMPLE for part in parts.values())


def test_pieces_keep_line_ends_and_odd_characters():
    odd = 'A = "\\x0c\x0c\u2028"\r\nB = 2\r\n'
    assert pieces(odd) == {"A": odd[:-7], "B": "B = 2\r\n"}


def test_members_are_the_pieces_of_a_class():
    assert members(SAMPLE)["go"] == '    def go(self):\n        return "é"\n'
    assert members("A = 1\n") == {}


def test_touched_sees_what_is_added_or_changed_in_the_order_of_the_later_source():
    later = SAMPLE.replace("return x", "return x + 1").replace("import os", "import os\n\nNEW = 1")
    assert touched(SAMPLE, later) == ("NEW", "one")
    assert removed(later, SAMPLE) == ("NEW",)


def test_touched_does_not_see_comments_line_breaks_or_places():
    later = SAMPLE.replace("# inside", "# within").replace("one(x)", "one(\n    x,\n)")
    assert touched(SAMPLE, "\n\n" + later) == ()


# The list, on a bare Python


def bare(*arguments, cwd=ROOT):
    command = [sys.executable, "-S", "-E", *arguments]
    result = subprocess.run(
        command, cwd=cwd, capture_output=True, encoding="utf-8", env=os.environ | {"COLUMNS": "99"}
    )
    return result.returncode, result.stdout, result.stderr


def test_the_list_needs_nothing_installed_and_tells_every_stage():
    status, out, err = bare("-X", "utf8", "-m", "stages")
    assert (status, err) == (0, "")
    for known in lessons():
        assert f"{known.number:3}  {known.title}\n     {known.question}\n" in out
        assert f"-m stages.{known.slug}\n" in out + "\n"


def test_the_list_can_be_asked_for_from_any_folder(tmp_path):
    status, out, _ = bare(str(STAGES), "s05", cwd=tmp_path)
    assert status == 0
    assert str(lesson("s05").path) in out


def test_the_list_tells_of_a_stage_that_is_not_there_in_one_line():
    status, out, err = bare("-m", "stages", "s5x")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "no stage is called 's5x'" in err


def test_an_older_python_is_told_what_is_needed():
    without = "import runpy, sys; sys.modules['tomllib'] = None; runpy.run_module('stages')"
    status, out, err = bare("-c", without.replace("('stages')", "('stages', run_name='__main__')"))
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("needed Python 3.11 or newer, got ")
