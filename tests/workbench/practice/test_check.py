"""What is told to a student whose file is checked: by real runs, on faults that students make."""

import subprocess
import sys

import pytest
from helpers.commands import told
from helpers.noise import NOISE, ends_in_noise
from helpers.processes import alive
from helpers.stages import source
from suite.clients import until

from workbench.course.catalogue import UnknownStage, lesson
from workbench.course.workspace import mine, practise
from workbench.practice import check as checking
from workbench.practice.check import BrokenSuite, MissingFile, Sentence, Verdict, check
from workbench.practice.results import UNENDED, spoken, understood

pytestmark = pytest.mark.usefixtures("workspace")

BLANK = "def hello(request: Request) -> Response:\n    raise NotImplementedError\n"


def states(verdict):
    return {sentence.state for sentence in verdict.sentences}


# Real runs


def test_a_file_that_keeps_every_promise_wherever_it_is_and_whatever_its_name(tmp_path):
    file = tmp_path / "my own server.py"
    file.write_text(source("s01"), encoding="utf-8")
    verdict = check("s01", file)
    assert verdict, verdict
    assert states(verdict) <= {"yes", "skipped"}
    assert len(verdict.sentences) >= 10
    assert "its first line says where it listens" in str(verdict)
    assert verdict.failure == ""


def test_a_blanked_function_is_told_by_the_sentence_that_needs_it(tmp_path, monkeypatch):
    """Your copy is the one that is checked, whatever pytest is told elsewhere."""
    (tmp_path / "conftest.py").write_text("nonsense", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTEST_ADDOPTS", "--nonsense")
    practise("s05", BLANK)
    heard = []
    verdict = check("s05", heard=heard.append)
    assert not verdict
    assert verdict.file == mine("s05")
    assert verdict.broken.text == "hello greets by name whatever the name is"
    for words in ("needed status 200, got 500", "curl -i", "NotImplementedError", "^ byte 9"):
        assert words in verdict.failure, verdict.failure
    assert tuple(heard) == verdict.sentences
    assert states(verdict) == {"yes", "no", "not reached"}
    held = sum(sentence.state == "yes" for sentence in verdict.sentences)
    assert f"s05_routing: {held} of {len(heard)} hold, {len(heard) - held - 1} not" in str(verdict)


def test_what_the_file_has_changed_is_spoken_of_first():
    practise("s06", "def sleep(request: Request) -> Response:\n    return plain(200, 'soon')\n")
    verdict = check("s06")
    assert verdict.sentences[0].text == "sleep takes the time that it is told"
    assert verdict.sentences[0] == verdict.broken


def test_pages_of_its_own_are_served(tmp_path):
    """A page in ASCII alone breaks a sentence of s03, where STATIC is taught."""
    file = tmp_path / "fork" / "code" / "s03_static_response.py"
    file.parent.mkdir(parents=True)
    (tmp_path / "fork" / "static").mkdir()
    (tmp_path / "fork" / "static" / "hello.html").write_text("hello", encoding="utf-8")
    file.write_text(source("s03").replace('/ "static"', "/ 'static' / ''"), encoding="utf-8")
    verdict = check("s03", file)
    assert "needs a character of more than one byte" in verdict.failure, verdict


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("def oops(:", "SyntaxError"),
        ("raise NotImplementedError('write me')", "NotImplementedError: write me"),
    ],
)
def test_a_file_that_does_not_start_is_told_with_its_own_last_words(line, words):
    mine("s05").write_text(f"{line}\n{source('s05')}", encoding="utf-8")
    verdict = check("s05")
    assert not verdict
    assert verdict.sentences[0].state == "no"
    assert verdict.failure.startswith("s05_routing did not start")
    assert words in verdict.failure
    assert {sentence.state for sentence in verdict.sentences[1:]} == {"not reached"}


def test_the_stages_themselves_are_checked_where_there_is_no_copy(workspace):
    assert checking.meant(lesson("s05"), None) == lesson("s05").path
    assert not workspace.exists()


def test_no_verdict_hears_what_a_user_has_exported(tmp_path, monkeypatch):
    file = tmp_path / "s01.py"
    file.write_text(ends_in_noise(source("s01")), encoding="utf-8")
    for name, value in NOISE.items():
        monkeypatch.setenv(name, value)
    verdict = check("s01", file)
    assert verdict, verdict


@pytest.mark.slow
def test_the_stage_of_the_thread_pool_holds_where_a_user_has_exported_workers(monkeypatch):
    for name, value in NOISE.items():
        monkeypatch.setenv(name, value)
    verdict = check("s08")
    assert verdict, verdict


def test_from_the_command_line():
    practise("s05", BLANK)
    status, out = told("check", "s05", "--file", mine("s05"))
    assert status == 1
    assert "no          hello greets by name whatever the name is" in out


def test_nothing_goes_on_when_the_one_who_asked_is_killed():
    """A notebook's kernel may be killed while it checks."""
    script = (
        "import psutil\n"
        "from workbench.practice.check import check\n"
        "def tell(sentence):\n"
        "    family = psutil.Process().children(recursive=True)\n"
        "    print(*(process.pid for process in family), flush=True)\n"
        "check('s05', heard=tell)\n"
    )
    line = [sys.executable, "-c", script]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as asking:
        family = [int(word) for word in asking.stdout.readline().split()]
        asking.kill()
    assert len(family) >= 2
    until(lambda: not any(map(alive, family)), "the whole family is gone")


# What cannot be checked


def test_an_unknown_stage_is_told():
    with pytest.raises(UnknownStage, match="did you mean s05_routing"):
        check("s05_rooting")


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(MissingFile, match=r"there is no file .*nothing\.py to check"):
        check("s05", tmp_path / "nothing.py")


def test_a_fault_of_the_suite_is_not_the_students(tmp_path, monkeypatch):
    """Here it is a folder without its conftest."""
    monkeypatch.setattr(checking, "SUITE", tmp_path)
    with pytest.raises(BrokenSuite, match="unrecognized arguments: --stages"):
        check("s01")


def test_a_sentence_that_pytest_did_not_survive_does_not_hold():
    entry = {"nodeid": "test_x.py::test_it_ends[s05_routing]", "longrepr": None}
    entry |= {"$report_type": "TestReport", "when": "setup", "outcome": "passed"}
    [(_, sentence)] = understood(entry)
    assert sentence == Sentence("it ends", "no", UNENDED)


# How it looks

SAMPLE = Verdict(
    lesson("s05"),
    lesson("s05").path,
    (
        Sentence("one", "yes"),
        Sentence("two", "skipped", "Windows cannot"),
        Sentence("three", "no", "needed <b>, got &"),
        Sentence("four", "not reached", "not reached"),
    ),
)


def test_a_verdict_is_a_list_a_count_and_the_first_failure():
    assert str(SAMPLE).splitlines() == [
        "✓ yes         one",
        "- skipped     two (Windows cannot)",
        "✗ no          three",
        "",
        "s05_routing: 1 of 4 hold, 1 not reached, 1 skipped (stages/s05_routing.py)",
        "",
        "needed <b>, got &",
    ]
    assert repr(SAMPLE) == str(SAMPLE) == SAMPLE.__rich__().plain


def test_a_verdict_in_a_notebook_says_states_in_words_and_escapes_what_came():
    page = SAMPLE._repr_html_()
    assert "<details open>" in page
    assert "✗ no</span> three" in page
    assert "needed &lt;b&gt;, got &amp;</pre>" in page
    held = Verdict(SAMPLE.lesson, SAMPLE.file, SAMPLE.sentences[:2])
    assert held
    assert "<details><summary><b>s05_routing: 1 of 2 hold, 1 skipped" in held._repr_html_()
    assert "<pre" not in held._repr_html_()


def test_a_sentence_is_spoken_without_its_stage():
    for name, words in {
        "tests/test_a.py::test_health_is_json[s05_routing]": "health is json",
        "tests/test_a.py::test_it_ends[SIGINT-s09_graceful_drop]": "it ends (SIGINT)",
    }.items():
        assert spoken(name) == words
