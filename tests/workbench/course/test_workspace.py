"""A student's own copy: made from the stage, changed by definitions, never lost."""

import os
import subprocess
import sys

import pytest

from workbench.course.catalogue import UnknownStage, lesson
from workbench.course.syntax import pieces
from workbench.course.workspace import CannotPractise, mine, practise, restore
from workbench.files import STAGES

pytestmark = pytest.mark.usefixtures("workspace")

STAGE = lesson("s05_routing").path
HELLO = 'def hello(request: Request) -> Response:\n    return plain(200, "hello")\n'


def text(file=None):
    return (file or mine("s05")).read_bytes().decode()


def write(words):
    mine("s05").write_bytes(words.encode())


def replaced(name, piece):
    """The stage's text with another piece in the place of one."""
    return text(STAGE).replace(pieces(text(STAGE))[name], piece)


# The copy


def test_a_copy_is_made_from_the_stage_with_its_pages_beside(workspace):
    assert mine("s05_routing") == workspace / "stages" / "s05_routing.py"
    assert text() == text(STAGE)
    assert (workspace / "static" / "hello.html").is_file()


def test_a_copy_that_is_there_is_left_alone():
    write("# mine\n")
    assert text() == "# mine\n"


def test_the_pages_come_again_when_they_are_missing(workspace):
    (mine("s05").parent.parent / "static").rename(workspace / "elsewhere")
    assert (mine("s05").parent.parent / "static" / "about.html").is_file()


def test_copies_are_in_the_notebooks_folder_unless_told(monkeypatch):
    monkeypatch.delenv("WORKBENCH_MINE")
    line = "from workbench.course.workspace import copied; from workbench.files import shown; "
    line += "print(shown(copied('s05')))"
    told = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    assert told.stdout == "notebooks/mine/stages/s05_routing.py\n"
    ignored = (STAGES.parent / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "notebooks/mine/" in ignored


def test_restoring_keeps_what_was_written():
    write("# first\n")
    told = restore("s05")
    assert text() == text(STAGE)
    assert text(mine("s05").with_name("s05_routing.py.before")) == "# first\n"
    assert "kept as s05_routing.py.before" in str(told)


def test_restoring_again_loses_nothing():
    for words in ("# first\n", "# second\n", "# first\n"):
        write(words)
        restore("s05")
        restore("s05")
    kept = {path.name: text(path) for path in mine("s05").parent.glob("*.before*")}
    assert kept == {
        "s05_routing.py.before": "# first\n",
        "s05_routing.py.before1": "# second\n",
    }


# Definitions


def test_a_definition_replaces_the_one_of_its_name_and_nothing_else():
    told = practise("s05", f"\n\n{HELLO}\n\n")
    assert text() == replaced("hello", HELLO)
    assert str(told).startswith("replaced hello in ")
    assert str(told).endswith("stages/s05_routing.py")


def test_practising_twice_is_practising_once():
    practise("s05", HELLO)
    once = text()
    practise("s05", HELLO)
    assert text() == once


@pytest.mark.parametrize(
    ("name", "piece"),
    [
        ("MAX_BODY", "MAX_BODY = 7  # bytes\n"),
        ("Response", "@dataclass\nclass Response:\n    status: int\n"),
        ("route", "# mine\ndef route(request: Request) -> Response:\n    return page('x')\n"),
        ("ROUTES", "ROUTES: dict[str, str] = {\n    'é': '''\n   x'''\n}\n"),
    ],
)
def test_constants_classes_decorators_and_comments_are_taken_as_they_are(name, piece):
    practise("s05", piece)
    assert text() == replaced(name, piece)


def test_the_last_lines_end_may_be_missing():
    practise("s05", HELLO.rstrip())
    assert text() == replaced("hello", HELLO)


def test_several_definitions_at_once():
    told = practise("s05", HELLO + "MAX_BODY = 7\n")
    names = pieces(text())
    assert (names["hello"], names["MAX_BODY"]) == (HELLO, "MAX_BODY = 7\n")
    assert list(names) == list(pieces(text(STAGE)))
    assert str(told).startswith("replaced hello, MAX_BODY in ")


def test_a_new_name_is_put_where_the_cell_has_it():
    before = "def now() -> str:\n    return 'now'\n"
    after = "LATER = 1\n"
    told = practise("s05", before + HELLO + after)
    assert text() == replaced("hello", f"{before}\n\n{HELLO}\n\n{after}")
    assert str(told).startswith("replaced hello; added now, LATER in ")
    practise("s05", after.replace("1", "2"))
    assert "LATER = 2\n" in text()


def test_a_new_handler_can_be_routed_to():
    handler = HELLO.replace("hello", "greet")
    practise("s05", handler + 'ROUTES = {("GET", "/"): greet}\n')
    names = list(pieces(text()))
    assert names.index("greet") + 1 == names.index("ROUTES")


def test_an_import_joins_the_imports_once():
    practise("s05", f"import json, math\nfrom math import ceil as up, floor\n\n\n{HELLO}")
    last = "from urllib.parse import parse_qs, unquote\n"
    lines = "import math\nfrom math import ceil as up\nfrom math import floor\n"
    assert text() == replaced("hello", HELLO).replace(last, last + lines)
    once = text()
    practise("s05", f"import math\n{HELLO}")
    assert text() == once


def test_line_ends_are_those_of_the_copy():
    write(text(STAGE).replace("\n", "\r\n"))
    practise("s05", f"import time\n{HELLO}".replace("\n", "\r\n"))
    assert text().count("\n") == text().count("\r\n") > 200
    assert HELLO.replace("\n", "\r\n") in text()


def test_what_else_the_student_wrote_is_kept():
    write(text(STAGE) + "\n# a note of mine: caf\N{LATIN SMALL LETTER E WITH ACUTE}, \x0c no end")
    practise("s05", f"import time\n{HELLO}")
    assert text().endswith("\x0c no end")


# What cannot be done is told in a line, and changes nothing


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def route(:\n    pass", r"line 1 of the source is not Python, .*: def route\(:"),
        ("def route():\nreturn 1", "line 2 of the source is not Python, expected an indented"),
        ("MAX_BODY = 1\nreturn 1", "line 2 of the source is not Python, 'return' outside"),
        ("MAX_BODY = '\0'", "source is not Python, .*null bytes"),
        ("", "needed a definition"),
        ("import time", "needed a definition"),
        (
            "def rout():\n    pass",
            "needed a name that is in your copy, got rout: did you mean route",
        ),
        ("def zzz():\n    pass", "got zzz: it has HOST, PORT, .* main"),
        ("MAX_BODY = 1\nprint(MAX_BODY)", r"line 2 is `print\(MAX_BODY\)`"),
        ("if True:\n    MAX_BODY = 1", "needed only definitions and imports, and line 1 is `if"),
        ("from __future__ import annotations\nMAX_BODY = 1", "of the outcome is not Python"),
    ],
)
def test_what_cannot_go_into_a_copy_is_told_in_a_line(source, words):
    with pytest.raises(CannotPractise, match=words) as told:
        practise("s05", source)
    assert len(str(told.value).splitlines()) == 1
    assert text() == text(STAGE)


def test_a_copy_that_is_no_python_is_told_with_the_way_out():
    write(text(STAGE) + "def oops(:\n")
    with pytest.raises(CannotPractise, match=r'line \d+ of .*py is not .*restore\("s05_routing"\)'):
        practise("s05", HELLO)


def test_a_name_that_stands_in_two_places_is_changed_by_hand():
    write(text(STAGE) + "\n\ndef hello():\n    pass\n")
    with pytest.raises(CannotPractise, match="hello is not in one piece"):
        practise("s05", HELLO)


def test_a_name_that_shares_its_line_with_another_is_not_lost():
    write("A, B = 1, 2\n")
    with pytest.raises(CannotPractise, match="B would be lost"):
        practise("s05", "A = 3\n")
    assert text() == "A, B = 1, 2\n"


def test_an_unknown_stage_is_told():
    for ask in (mine, restore, lambda name: practise(name, HELLO)):
        with pytest.raises(UnknownStage, match="did you mean s05_routing"):
            ask("s05_rooting")


# In a notebook


def test_the_magic_of_a_notebook(workspace, tmp_path):
    """In an IPython of its own: the cell's text, with its quotes and backslashes, arrives."""
    pytest.importorskip("IPython")
    cell = HELLO.replace('"hello"', r'"{request} $HOME \\ \n"')
    script = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        "shell.run_cell('from workbench.notebook import check')\n"
        f"print(shell.run_cell({'%%mine s05 ' + chr(10) + cell!r}).result._repr_html_())\n"
        f"shell.run_cell({'%%mine s05' + chr(10) + 'def rout(): pass'!r})\n"
    )
    environment = os.environ | {"IPYTHONDIR": str(tmp_path / "ipython")}
    command = [sys.executable, "-c", script]
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert text() == replaced("hello", cell)
    assert "replaced hello in <code>" in told.stdout
    assert "did you mean route?" in told.stdout
    assert "Traceback" not in told.stdout + told.stderr
