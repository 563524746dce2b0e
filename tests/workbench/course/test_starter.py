"""The repository that a class forks: what is blank in it, what it may not hold, and that it works.

The sentences of three stages are run on what is left of them; `tox -e starters` runs those of all.
"""

import ast
import itertools
import json
import os
import re
import runpy
import sys
from pathlib import Path

import pytest
from helpers.commands import told, workbench
from helpers.git import git

from workbench.course.catalogue import UnknownStage, before, lesson, lessons
from workbench.course.starter import starter
from workbench.course.syntax import pieces as pieces_of
from workbench.course.workspace import practise
from workbench.errors import Mistake
from workbench.files import ROOT, SUITE
from workbench.practice import check as checking
from workbench.practice.results import UNENDED, asked, understood

SAMPLE = ("s04", "s08", "s12")
RUN = [known.short for known in lessons()] if os.environ.get("STARTERS") == "all" else SAMPLE
TELLING = 40  # characters: less of a body gives nothing away
HOLDS = {  # what `setting` does, which has to stay: it is called while a stage is imported
    "a crew that cannot be ends it with one line",
    "a grace that cannot be ends it with one line",
}
NO_START = re.compile(r"(Syntax|Indentation|Import|ModuleNotFound|Name|Attribute)Error|Timeout \(")
CHOICES = [*(known.short for known in lessons()), "all"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Make a starter of a stage, or of all, but each only once."""
    kept = {}

    def make(choice):
        if choice not in kept:
            chosen = lessons() if choice == "all" else [choice]
            kept[choice] = starter(chosen, tmp_path_factory.mktemp("starter") / choice)
        return kept[choice]

    return make


each = pytest.mark.parametrize("choice", CHOICES)
each_stage = pytest.mark.parametrize("short", CHOICES[:-1])


def text(path):
    return path.read_text(encoding="utf-8")


def functions(source):
    """Every function and method of a source, by its name."""
    found = {}
    for node in ast.parse(source).body:
        inside = node.body if isinstance(node, ast.ClassDef) else []
        for function in (node, *inside):
            if isinstance(function, ast.FunctionDef):
                found[function.name if function is node else f"{node.name}.{function.name}"] = (
                    function
                )
    return found


def is_blank(function):
    """Whether a function says only that it is to be written, with a sentence."""
    match function.body:
        case [ast.Expr(), ast.Raise(exc=ast.Call(func=ast.Name(id=name), args=[sentence]))]:
            return name == "NotImplementedError" and len(sentence.value) > 10
    return False


def blanks(file):
    return {name for name, function in functions(text(file)).items() if is_blank(function)}


# What is blank


@each_stage
def test_what_the_lesson_adds_or_changes_is_blank_and_nothing_else(made, short):
    known, folder = lesson(short), made(short).folder
    file = folder / "stages" / known.path.name
    ours, left = functions(text(known.path)), functions(text(file))
    earlier = functions(text(before(known).path)) if before(known) else {}
    taught = {
        name
        for name, function in ours.items()
        if name not in earlier or ast.dump(function) != ast.dump(earlier[name])
    }
    assert {name.partition(".")[0] for name in taught} <= set(known.touches)
    assert blanks(file) == set(made(short).blank[known.slug]) == taught - {"setting"}
    for name, function in left.items():
        head = ast.dump(function.args), ast.get_docstring(function)
        assert head == (ast.dump(ours[name].args), ast.get_docstring(ours[name]))


@each_stage
def test_with_the_definitions_put_back_it_is_the_stage_to_the_byte(made, short, tmp_path):
    """And of that the suite says that it keeps all its promises."""
    known, name = lesson(short), lesson(short).path.name
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / name).write_bytes((made(short).folder / "stages" / name).read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_MINE", str(tmp_path))
        names = dict.fromkeys(name.partition(".")[0] for name in made(short).blank[known.slug])
        pieces = pieces_of(text(known.path))
        practise(short, "\n\n".join(pieces[name] for name in names))
    assert (tmp_path / "stages" / name).read_bytes() == known.path.read_bytes()


@each_stage
def test_the_stages_before_are_whole_and_those_behind_are_not_there(made, short):
    files = sorted((made(short).folder / "stages").glob("s[0-9]*.py"))
    so_far = [known for known in lessons() if known.number <= lesson(short).number]
    assert [file.name for file in files] == [known.path.name for known in so_far]
    for file, known in zip(files[:-1], so_far[:-1], strict=True):
        assert file.read_bytes() == known.path.read_bytes()


@each
def test_what_is_left_of_a_stage_can_be_imported(made, choice):
    for slug in made(choice).blank:
        runpy.run_path(str(made(choice).folder / "stages" / f"{slug}.py"), run_name="imported")


def test_with_all_no_stage_holds_a_single_body(made):
    """Or s06 would be the answer to s05."""
    for known in lessons():
        file = made("all").folder / "stages" / known.path.name
        assert blanks(file) == functions(text(known.path)).keys() - {"setting"}


def test_with_two_stages_the_second_does_not_answer_the_first(tmp_path):
    made = starter(["s05", "s07"], tmp_path / "class")
    stages = tmp_path / "class" / "stages"
    assert blanks(stages / "s04_parse_request.py") == set()
    assert "route" in blanks(stages / "s06_slow_route.py")
    assert "sleep" not in blanks(stages / "s06_slow_route.py")
    assert {"serve", "route"} <= blanks(stages / "s07_thread_per_connection.py")
    assert list(made.blank) == ["s05_routing", "s06_slow_route", "s07_thread_per_connection"]


def test_the_sentence_to_make_true_is_one_of_the_suite_where_a_fault_is_known(made):
    route = functions(text(made("s05").folder / "stages" / "s05_routing.py"))["route"]
    assert route.body[-1].exc.args[0].value in {
        "any other path has the 404 page",
        "another method has 405 and is told which are allowed",
    }


# What may not be in it


def lines(file):
    """The lines of a file, of every cell if it is a notebook."""
    whole = text(file)
    if file.suffix == ".ipynb":
        whole = "\n".join("".join(cell["source"]) for cell in json.loads(whole)["cells"])
    return whole.splitlines()


def telling(lines):
    """What of some lines gives away an answer: a long line, or two neighbours together."""
    lines = [line.strip() for line in lines if line.strip()]
    pairs = [f"{one}\n{other}" for one, other in itertools.pairwise(lines)]
    return {words for words in [*lines, *pairs] if len(words) >= TELLING}


def answers(known):
    """What gives away a stage's functions."""
    whole = text(known.path).splitlines()
    spans = [
        (function.body[0].end_lineno, function.end_lineno)  # from the docstring's end
        for function in functions(text(known.path)).values()
    ]
    return set().union(*(telling(whole[start:end]) for start, end in spans))


@each
def test_no_line_of_a_solution_is_in_it(made, choice):
    """Apart from what the stages before have, and what a lesson leaves as it was."""
    folder = made(choice).folder
    chosen = lessons() if choice == "all" else [lesson(choice)]
    public = [telling(lines(file)) for file in (folder / "stages").glob("s*.py")]
    secret = set().union(*map(answers, chosen)).difference(*public)
    assert len(secret) >= 4
    found = [
        (file.name, answer)
        for file in folder.rglob("*")
        if file.is_file()
        for whole in ["\n".join(line.strip() for line in lines(file) if line.strip())]
        for answer in secret
        if answer in whole
    ]
    assert not found


@each
def test_nothing_is_in_it_but_what_a_class_needs(made, choice):
    folder = made(choice).folder
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    last = lessons()[-1] if choice == "all" else lesson(choice)
    first = lessons()[0] if choice == "all" else last
    assert not [name for name in names if name.endswith((".pyc", ".db")) or ".git/" in name]
    assert {name for name in names if name.startswith("notebooks/")} == {
        f"notebooks/{known.slug}.ipynb" for known in lessons() if known.number <= last.number
    }
    assert {name for name in names if name.startswith("tests/suite/mutants/s")} == {
        f"tests/suite/mutants/{known.slug}.toml"
        for known in lessons()
        if known.number < first.number
    }
    assert {"README.md", "pyproject.toml", "constraints.txt", "LICENSE", ".gitignore"} <= names
    assert {"static/hello.html", "tests/suite/hints.toml", "workbench/practice/check.py"} <= names


def test_the_notebook_says_what_is_blank_and_keeps_its_exercises(made):
    cells = json.loads(text(made("s05").folder / "notebooks" / "s05_routing.ipynb"))["cells"]
    whole = "\n".join("".join(cell["source"]) for cell in cells)
    assert "`route`, `respond` and `handle_request`" in "".join(cells[1]["source"])
    assert cells[1].keys() == cells[0].keys()
    assert whole.count('check("s05_routing")') == 2
    assert 'raise NotImplementedError("a handler that fails costs its visitor a 500")' in whole
    assert not any(cell.get("outputs") for cell in cells)
    earlier = made("s05").folder / "notebooks" / "s04_parse_request.ipynb"
    assert earlier.read_bytes() == (ROOT / "notebooks" / earlier.name).read_bytes()


# It works


def own_sentences(known):
    """The sentences that a stage makes true, as pytest is told of them."""
    for path in sorted(SUITE.glob("test_*.py")):
        for node in ast.parse(text(path)).body:
            for call in getattr(node, "decorator_list", ()):
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "since":
                    words = {word.arg for word in call.keywords} & {"new", "limitation"}
                    if call.args[0].value == known.short and not words:
                        yield f"{path}::{node.name}"


@pytest.mark.parametrize("short", RUN)
@pytest.mark.timeout(600)
def test_it_fails_each_sentence_of_its_own_stage_and_in_time(made, short, tmp_path):
    """For want of the bodies alone: with them it is the stage to the byte, and that holds all."""
    known = lesson(short)
    stages, report = made(short).folder / "stages", tmp_path / "report.json"
    line = [sys.executable, "-m", "pytest", f"--stages={stages}", f"-k={known.slug}"]
    line += [f"--report-log={report}", "--override-ini=addopts=--import-mode=importlib"]
    line += [f"-p{plugin}" for plugin in checking.PLUGINS[:-1]]
    report.touch()
    words = tmp_path / "words"
    with words.open("wb") as log, asked([*line, *own_sentences(known)], log) as process:
        assert process.wait(540) == 1, text(words)
    entries = [json.loads(entry) for entry in text(report).splitlines()]
    heard = [sentence for entry in entries for _, sentence in understood(entry)]
    said = [sentence for sentence in heard if sentence.reason != UNENDED]
    assert len(said) >= 2
    assert {sentence.text for sentence in said if sentence.state == "yes"} <= HOLDS
    wrong = [sentence.reason for sentence in said if NO_START.search(sentence.reason)]
    assert not wrong, "\n\n".join(wrong)


def test_a_course_that_is_told_grades_each_push(tmp_path):
    commit = "0123456789" * 4
    starter(["s01"], tmp_path / "graded", f"ada/course@{commit}")
    workflow = text(tmp_path / "graded" / ".github" / "workflows" / "grade.yml")
    assert 'COURSE_REPOSITORY: "ada/course"' in workflow
    assert f'COURSE_REF: "{commit}"' in workflow
    starter(["s01"], tmp_path / "not graded")
    assert not (tmp_path / "not graded" / ".github").exists()


@pytest.mark.parametrize("course", ["ada/course", "course@" + "0" * 40, "ada/course@main"])
def test_a_course_that_is_not_at_a_commit_is_refused(tmp_path, course):
    with pytest.raises(Mistake, match="needed --course OWNER/NAME@COMMIT"):
        starter(["s01"], tmp_path / "starter", course)
    assert not (tmp_path / "starter").exists()


def test_it_says_what_is_not_written(made):
    verdict = checking.check("s01", made("s01").folder / "stages" / "s01_bind_and_print.py")
    assert "NotImplementedError: " in verdict.failure


@pytest.mark.slow
def test_it_stands_alone(made):
    folder = made("s03").folder
    status, out, err = workbench("check", "s02", cwd=folder)
    assert status == 0, out + err
    status, out, _ = workbench("check", "s03", cwd=folder)
    assert status == 1
    assert "stages/s03_static_response.py" in out


def test_what_is_written_in_one_stage_is_carried_to_those_that_do_not_change_it(tmp_path):
    """With --all the class writes each thing once; carry stops where a lesson changes it."""
    folder = starter(lessons(), tmp_path / "class").folder
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message=start"]):
        git(folder, *words)
    written = {"hello", "route", "build_response"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_MINE", str(folder))
        pieces = pieces_of(text(lesson("s05").path))
        practise("s05", "\n\n".join(pieces[name] for name in sorted(written)))
    _, _, err = workbench("carry", "s05", cwd=folder)
    assert "stages/s11_strict_requests.py: what changed in s10_keep_alive meets" in err
    for known in lessons()[5:9]:
        ours = set(functions(text(known.path)))
        assert blanks(folder / "stages" / known.path.name) == ours - written - {"setting"}
    assert "carry s01" in text(folder / "README.md")


# From the command line


def test_it_says_what_is_in_it_and_what_to_do_next(tmp_path):
    status, out = told("starter", "s05", "--to", tmp_path / "class")
    assert status == 0, out
    for words in ("s05_routing: ", "route", "git init", "python -m workbench check s05"):
        assert words in out
    assert "git init" not in text(tmp_path / "class" / "README.md")
    assert "python -m workbench check s05" in text(tmp_path / "class" / "README.md")


def test_a_folder_that_holds_something_is_refused(tmp_path):
    (tmp_path / "mine.txt").touch()
    for folder in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(Mistake, match="needed a new or empty folder"):
            starter(["s05"], folder)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_folder_will_do(tmp_path):
    assert starter(["s01"], tmp_path).folder == tmp_path


def test_an_unknown_stage_is_told_and_nothing_is_made(tmp_path):
    with pytest.raises(UnknownStage, match="did you mean s05_routing"):
        starter(["s05_rooting"], tmp_path / "class")
    assert not (tmp_path / "class").exists()


@pytest.mark.parametrize("words", [[], ["s05", "--all"]])
def test_either_stages_or_all(words, tmp_path):
    status, out = told("starter", *words, "--to", tmp_path / "class")
    assert status == 1
    assert out.startswith("needed the names of stages, or --all")
    assert not Path(tmp_path / "class").exists()
