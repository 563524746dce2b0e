"""How far a student has come, the hints that he asked for, and the solution once he has passed."""

import json
import subprocess
import sys
from dataclasses import asdict

import pytest
from helpers.chromium import browser, needs_browser
from helpers.commands import told, workbench
from helpers.stages import mutant, source
from rich.console import Console

from workbench.course import workspace as mine
from workbench.course.catalogue import lesson, lessons
from workbench.course.starter import starter
from workbench.errors import Mistake
from workbench.files import ROOT
from workbench.notebook import solution
from workbench.practice import check as checking
from workbench.practice import hints as hinting
from workbench.practice import progress
from workbench.practice.check import Sentence, Verdict, check
from workbench.practice.hints import hint
from workbench.practice.hunt import hunt
from workbench.practice.progress import Progress, Record

pytestmark = pytest.mark.usefixtures("workspace")

FIRST, SECOND, THIRD = "Which `recv` is it?", "Look for <CR LF>.", "Say `buffer.find`."
HINTS = {"test_it_answers": (FIRST, SECOND, THIRD), "test_it_ends": ("a", "b", "c")}


@pytest.fixture
def written(monkeypatch):
    """Hints on two sentences."""
    monkeypatch.setattr(hinting, "hints", lambda: HINTS)


def concluded(stage, broken="", file=None):
    """Conclude a check without a run: all held, or the second of three sentences was broken."""
    sentences = [Sentence("one", "yes"), Sentence("two", "yes")]
    if broken:
        sentences = [sentences[0], Sentence(broken, "no"), Sentence("three", "not reached")]
    known = lesson(stage)
    file = file or mine.copied(known)
    return checking._recorded(Verdict(known, file, tuple(sentences)))


# How far the course has come


def test_what_a_check_found_is_kept_from_one_run_to_the_next(workspace):
    mine.mine("s01").write_text("1 / 0", encoding="utf-8")
    status, out, _ = workbench("check", "s01")
    assert status == 1
    assert out.endswith("\n○····· ··· ··· ····  0 of 16 stages, begun: s01\n"), out
    found = progress.read().of(lesson("s01"))
    assert (found.passed, found.broken) == (False, "its first line says where it listens")
    assert found.held < found.total
    mine.mine("s01").write_text(source("s01"), encoding="utf-8")
    verdict = check("s01")
    assert verdict, verdict
    assert str(verdict).endswith("\n✓····· ··· ··· ····  1 of 16 stages")
    held = [known.state for known in verdict.sentences].count("yes")
    kept = json.loads((workspace / "progress.json").read_text(encoding="utf-8"))
    assert kept == {"s01_bind_and_print": asdict(Record(held, len(verdict.sentences), True))}


def test_what_has_passed_once_stays_passed():
    concluded("s05")
    verdict = concluded("s05", "it answers")
    assert str(verdict.progress) == "····✓· ··· ··· ····  1 of 16 stages"
    assert progress.read().of(lesson("s05")) == Record(1, 3, True, "it answers")


def test_a_file_that_you_name_counts(tmp_path):
    for file in (tmp_path / "my_routing.py", mine.folder() / "mine" / "s05_routing.py"):
        (mine.folder() / "progress.json").unlink(missing_ok=True)
        assert "1 of 16 stages" in str(concluded("s05", file=file))


def test_a_hunts_file_does_not_count():
    put = hunt("s01", number=1)
    verdict = put.check()
    assert not verdict
    assert "\nhunt_s01.py does not count: your copy is s01_bind_and_print.py" in str(verdict)
    assert progress.read() == Progress()


def test_the_courses_own_stage_counts_once_it_has_been_changed():
    own = lesson("s05").path
    assert "is as it came and does not count" in str(concluded("s05", file=own))
    assert progress.read() == Progress()
    assert "begun: s05" in str(concluded("s05", "it answers", file=own))
    assert str(concluded("s05", file=own)).endswith("1 of 16 stages")


def test_two_checks_at_the_same_time_spoil_nothing(workspace):
    script = (
        "import sys\n"
        "from workbench.course.catalogue import lesson\n"
        "from workbench.practice import progress\n"
        "known = lesson(sys.argv[1])\n"
        "for held in range(200):\n"
        "    found = progress.record(known, known.path, progress.Record(held, 200, broken='x'))\n"
        "    assert not found.note, found\n"
    )
    said = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    lines = [[sys.executable, "-c", script, stage] for stage in ("s01", "s02", "s01")]
    for writer in [subprocess.Popen(line, cwd=ROOT, **said) for line in lines]:
        assert writer.communicate()[0] == ""
    assert set(progress.read().records) <= {"s01_bind_and_print", "s02_read_request"}
    assert [file.name for file in workspace.iterdir()] == ["progress.json"]


# What cannot be read or written


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"s05_routing": 1}'),
        *(b'{"s05_routing": {"held": "1"}}', b'{"s05_routing": {"happy": true}}'),
    ],
    ids=lambda data: repr(data[:40]),
)
def test_a_file_that_cannot_be_understood_is_kept_aside(workspace, data):
    workspace.mkdir()
    (workspace / "progress.json").write_bytes(data)
    verdict = concluded("s05")
    *_, bar, note = str(verdict).splitlines()
    assert bar.endswith("1 of 16 stages")
    assert "progress.json could not be understood: it is kept as progress.json.before" in note
    assert (workspace / "progress.json.before").read_bytes() == data
    assert progress.read().of(lesson("s05")).passed
    assert "understood" not in str(concluded("s05"))


def test_a_folder_that_cannot_be_written_spoils_no_check(tmp_path, monkeypatch):
    """Here it is a file."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("WORKBENCH_MINE", str(tmp_path / "file"))
    (tmp_path / "mine.py").write_text(source("s01"), encoding="utf-8")
    verdict = check("s01", tmp_path / "mine.py")
    assert verdict, verdict
    assert "\nprogress cannot be kept: " in str(verdict)


def test_hints_and_solutions_say_what_cannot_be_read(workspace):
    workspace.mkdir()
    (workspace / "progress.json").mkdir()
    for command in ("hint", "solution"):
        status, out = told(command, "s05")
        assert status == 1
        assert "progress cannot be kept: " in out
    assert "progress cannot be kept: " in str(concluded("s05"))


# How the bar looks


SOME = Progress(
    {
        "s01_bind_and_print": Record(12, 12, True),
        "s02_read_request": Record(9, 20, False, "it answers"),
        "s07_thread_per_connection": Record(30, 30, True),
        "s99_of_another_course": Record(30, 30, True),
    },
    "a <note>",
)


def test_every_stage_has_a_mark_and_every_part_of_the_course_is_apart():
    assert str(SOME) == repr(SOME) == "✓○···· ✓·· ··· ····  2 of 16 stages, begun: s02\na <note>"


def test_in_a_terminal_it_is_in_colour():
    console = Console(force_terminal=True, color_system="standard", width=80, _environ={})
    with console.capture() as captured:
        console.print(SOME)
    assert "\x1b[32m✓\x1b[0m\x1b[33m○\x1b[0m" in captured.get()


def test_in_a_notebook_every_mark_says_what_it_means():
    page = SOME._repr_html_()
    for words in (
        "s01 Bind and print: passed",
        "s02 Read the request: begun",
        "s16 Middleware: no",
    ):
        assert f'aria-label="{words}' in page
    assert "<b>2 of 16 stages, begun: s02</b><div>a &lt;note&gt;</div>" in page
    assert concluded("s05")._repr_html_().endswith("<b>1 of 16 stages</b></div>")


@needs_browser
def test_in_a_browser_the_bar_is_one_line():
    with browser() as chromium:
        page = chromium.new_page(viewport={"width": 800, "height": 200})
        page.set_content(SOME._repr_html_())
        marks = [mark.bounding_box() for mark in page.get_by_role("img").all()]
    assert len(marks) == len(lessons())
    assert len({box["y"] for box in marks}) == 1
    assert len({(box["width"], box["height"]) for box in marks}) == 1


# Hints


def test_hints_come_one_by_one_and_then_all_again(written):
    concluded("s05", "it answers (at once)")
    for number, words in enumerate((FIRST, SECOND, THIRD), 1):
        status, out = told("hint", "s05")
        assert (status, out) == (0, f"hint {number} of 3: it answers (at once)\n{words}\n")
    for _ in range(2):
        assert told("hint", "s05")[1].splitlines() == [
            "all 3 hints were given: it answers (at once)",
            *(FIRST, SECOND, THIRD),
        ]


def test_hints_go_on_after_a_check_and_begin_again_with_another_sentence(written):
    concluded("s05", "it answers")
    assert hint("s05").hints == (FIRST,)
    concluded("s05", "it answers")
    assert hint("s05").hints == (SECOND,)
    concluded("s05", "it ends")
    assert hint("s05").hints == ("a",)
    concluded("s05", "it answers")
    assert hint("s05").hints == (FIRST,)


def test_the_hints_on_one_stage_are_not_those_on_another(written):
    concluded("s05", "it answers")
    concluded("s06", "it ends")
    assert [hint("s05").hints, hint("s06").hints] == [(FIRST,), ("a",)]
    assert progress.read().of(lesson("s05")).hinted == 1


def test_a_hint_in_a_notebook_shows_code_and_escapes(written):
    concluded("s05", "it answers")
    assert "<p>Which <code>recv</code> is it?</p>" in hint("s05")._repr_html_()
    assert "<p>Look for &lt;CR LF&gt;.</p>" in hint("s05")._repr_html_()


def test_what_there_is_no_hint_on_is_told(written, workspace):
    def refused():
        status, out = told("hint", "s05")
        assert status == 1
        return out

    assert refused() == "needed a check first: python -m workbench check s05"
    concluded("s05")
    assert "all of s05_routing held when it was last checked" in refused()
    concluded("s05", "it is a fork's own")
    assert refused() == "nobody has written a hint on this sentence: it is a fork's own"
    (workspace / "progress.json").write_bytes(b"{")
    assert "progress starts anew; needed a check first" in refused()


def test_a_failure_shows_the_first_hint_alone():
    fault = mutant("counts_characters")
    mine.mine("s03").write_text(fault.source(), encoding="utf-8")
    verdict = check("s03")
    first, *others = hinting.hints()[fault.caught_by]
    assert verdict.broken.text == fault.sentence
    assert f"\nHint        {first}\n" in verdict.failure
    assert not any(words in verdict.failure for words in others)
    assert hint("s03").hints == (first,)


# The solution


def test_the_solution_is_refused_before_a_pass_and_given_after():
    own = mine.mine("s05")
    own.write_text(source("s05") + "\n# my own way\n", encoding="utf-8")
    needed = "needed all sentences of s05 to hold first: python -m workbench check s05"
    assert told("solution", "s05") == (1, needed)
    concluded("s05", "it answers")
    assert told("solution", "s05") == (1, needed)
    concluded("s05")
    status, out = told("solution", "s05")
    assert status == 0
    assert out.startswith(f"{mine.shown(own)} → s05 Routing\n")
    assert "\n-# my own way\n" in out
    assert "<table" in solution("s05_routing")._repr_html_()


def test_the_solution_is_compared_with_a_file_that_you_name(tmp_path):
    concluded("s05")
    (tmp_path / "my_routing.py").write_text("pass\n", encoding="utf-8")
    assert "\n-pass\n" in told("solution", "s05", "--file", str(tmp_path / "my_routing.py"))[1]


def test_who_has_written_what_the_course_has_is_told():
    concluded("s05")
    own = mine.shown(mine.mine("s05"))
    assert told("solution", "s05") == (0, f"{own} is the course's own text.\n")


# In the repository that a class forked


@pytest.fixture(scope="module")
def fork(tmp_path_factory):
    """What a class forks for s03."""
    return starter(["s03"], tmp_path_factory.mktemp("class") / "fork").folder


@pytest.mark.slow
def test_a_class_has_its_solution_from_the_course(fork):
    def ask(*words):
        status, out, err = workbench(*words, cwd=fork)
        return status, out + err

    file = fork / "stages" / lesson("s03").path.name
    status, out = ask("check", "s03")
    assert status == 1
    assert "\n··○  0 of 3 stages, begun: s03\n" in out
    assert "hint 1 of 3: " in ask("hint", "s03")[1]
    file.write_text(source("s03") + "\n# my own way\n", encoding="utf-8")
    status, out = ask("check", "s03")
    assert (status, out.splitlines()[-1]) == (0, "··✓  1 of 3 stages"), out
    status, out = ask("solution", "s03")
    assert status == 1
    assert out.splitlines() == [
        f"{file} is to be written, and no solution: that is in the course's repository. "
        "Where you have one: python -m workbench solution s03 --course FOLDER"
    ]
    status, out = ask("solution", "s03", "--course", ROOT)
    assert status == 0
    assert "stages/s03_static_response.py → s03 A first response" in out
    assert "\n-# my own way\n" in out


def test_what_a_class_has_written_counts_at_the_first_check(fork):
    known = lesson("s03", fork / "stages")
    assert not progress.given(known)
    assert progress.given(lesson("s02", fork / "stages"))
    assert not progress._uncounted(known, known.path, Progress(), Record(1, 1, True))
    assert progress._uncounted(lesson("s03"), lesson("s03").path, Progress(), Record(1, 1, True))


def test_a_folder_that_is_not_the_course_is_told(fork, tmp_path):
    concluded("s03")
    with pytest.raises(Mistake, match=r"cannot read .*lessons\.toml"):
        solution("s03", course=tmp_path)
    with pytest.raises(Mistake, match="is to be written, and no solution"):
        solution("s03", course=fork)
