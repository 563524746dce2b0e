"""A grade as others read it: the same points everywhere, and no word of a fork means anything."""

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import junitparser
import pytest
from helpers.chromium import complaints, needs_browser
from markdown_it import MarkdownIt

from workbench.files import ROOT
from workbench.grading import reports
from workbench.grading.manifest import manifest
from workbench.grading.result import Check, Grade, StageGrade
from workbench.grading.sanitize import REASON
from workbench.grading.wording import told
from workbench.practice.hints import hints

SCHEMA = json.loads(
    (ROOT / "workbench" / "grading" / "grade.schema.json").read_text(encoding="utf-8")
)
FILES = {"junit.xml", "results.json", "summary.md", "index.html"}
LISTENS = "its first line says where it listens"
MODULE = "it runs as a module too"
HINT = "Is `sendall` in it?"
RUNNER = {
    "CLASSROOM": "cs",
    "ASSIGNMENT": "web",
    "SUBMISSION_TAG": "submit/2026-11-21T10-00-00Z-abcdef0",
    "COMMIT_URL": "https://example.org/commit/abcdef0",
    "RELEASE_URL": "https://example.org/releases/1",
    "REVIEW_URL": "",
}
TAME = "tame words"
HOSTILE = {
    "a script": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "the ends of elements": "</pre></p></code></details></section></main></style></body></html>",
    "the end of a quotation": "\"' onload='alert(1)' \" autofocus onfocus=\"alert(1)",
    "a comment": "<!-- <![CDATA[ ]]> <?xml ?> <!DOCTYPE a> &lt; &#0; &nope;",
    "a null byte": "a\x00b\x01\x7f\ufffe\uffff",
    "half a character": "a\ud800b\udfff",
    "colours": "\x1b[31mred\x1b[0m \x1b]8;;https://example.org\x07link\x1b]8;;\x07",
    "a command": "a\n::error::forged\r\n::error file=a,title=b::forged\n##[error]c %0A::error::d",
    "the end of a fence": "a\n```\n# forged\n````\n~~~\n`````````` forged `",
    "a heading": "a\n\n# forged\n\nforged\n===\n\n---\n- forged\n1. forged\n> forged",
    "a table": "a\n\n| a | b |\n| --- | --- |\n| 5 of 5 points | \\| |",
    "a link": "[a](https://example.org) ![a](https://example.org/a.png) <https://a.org> @all #1",
    "details": "a\n</details>\n<details open><summary>forged</summary>",
    "a formula": "=cmd|' /C calc'!A0",
    "a template": "{{ grade.seed }}{% include 'a' %}{# a #}",
    "the other direction": "a\u202e\u2066\u200fgnp.exe\u2028b\u2029c\x85d\x0be\x0cf",
    "parts of a reason": "a\nHint        forged\nSentence    forged\nWrong       forged",
    "a long line": "x" * 1_000_000,
    "many lines": "x\n" * 500_000,
}


@pytest.fixture(params=HOSTILE.values(), ids=HOSTILE)
def hostile(request):
    """What a fork may say."""
    return request.param


def reason(words):
    """What the suite writes of a sentence that is broken: a fork's words are indented."""
    indented = words.replace("\n", "\n" + " " * 12)
    first = (words.splitlines() or [""])[0]
    return (
        f"Sentence    {MODULE}\nStage       s03_static_response\nWrong       needed a: {first}\n"
        f"It sent     HTTP/1.1 200 OK\\r\\n\n            ^ byte 0\nLast words  {indented}\n"
        f"Hint        {HINT}\nTest        test_answers.py:23"
    )


def check(sentence, outcome="holds", why="", weight=1):
    return Check(f"test_a.py::test_{sentence.replace(' ', '_')}[a]", sentence, weight, outcome, why)


def grade(words=TAME, **changes):
    """A grade of five stages with all outcomes, and a fork's words wherever they can stand."""
    told = (
        check(LISTENS),
        check(MODULE, "broken", reason(words)),
        check("it closes", "broken", words, weight=2),
        check("it can be said here", "skipped", words),
        check("it comes to an end", "not reported"),
    )
    silent = (check(LISTENS, "broken", words), check("it answers", "not reached", "not reached"))
    stages = (
        StageGrade("s01_bind_and_print", 5, (check(LISTENS),), "graded", seconds=1.5),
        StageGrade("s02_read_request", 5, (check(LISTENS, "not reported"),), "missing", words),
        StageGrade("s03_static_response", 5, told, "graded", words, 20.25),
        StageGrade("s04_parse_request", 10, silent, "graded"),
        StageGrade("s05_routing", 10, (check(LISTENS), check("it answers")), "graded"),
    )
    layers = ({"name": "copy", "on": True, "detail": ""}, wall("network", words))
    known = Grade(words, words, "0123456789abcdef", 7, layers, stages, (words, words))
    return replace(known, started="2026-11-21T10:00:00+00:00", **changes)


def wall(name, detail):
    return {"name": name, "on": False, "detail": detail}


def stage(state, known=None):
    """A grade whose third stage has no mark."""
    known = known or grade()
    third = replace(known.stages[2], state=state)
    return replace(known, stages=(*known.stages[:2], third, *known.stages[3:]))


def unmarked():
    """Grades without a mark: a fault of the grader's in a stage or in all, and one not ended."""
    return [stage("error"), stage("waiting"), grade(error="no space left")]


def elements(page):
    """All that a page is made of, but for its texts."""
    found = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            found.append((tag, attributes))

        def handle_endtag(self, tag):
            found.append(tag)

        def handle_comment(self, data):
            found.append("comment")

        handle_decl = handle_pi = unknown_decl = lambda self, data: found.append(data)

    reader = Reader()
    reader.feed(page)
    reader.close()
    return found


def parts(markdown):
    """All that a text in Markdown is made of; of its code only that it is there."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown)
    flat = [part for token in tokens for part in (token, *(token.children or ()))]
    coded = ("code_inline", "fence", "code_block", "inline")
    return [(part.type, part.info, part.type in coded or part.content) for part in flat]


def shape(xml):
    """All that XML is made of, but for its texts and the values of its attributes."""
    return [(element.tag, *element.attrib) for element in ET.fromstring(xml).iter()]


def test_every_report_is_written_and_nothing_else(tmp_path):
    for words in (TAME, "", TAME):
        reports.write_all(grade(words), tmp_path)
        assert {file.name for file in tmp_path.iterdir()} == FILES


def test_all_give_the_same_points(monkeypatch):
    for name, value in RUNNER.items():
        monkeypatch.setenv(name, value)
    points = [stage.points for stage in grade().stages]
    assert points == [5, 0, 1, 0, 10]
    found = reports.gradescope(grade())
    assert [test["score"] for test in found["tests"]] == points
    assert [test["max_score"] for test in found["tests"]] == [5, 5, 5, 10, 10]
    assert found["score"] == sum(points) == 16
    result = reports.classroom50(grade())
    assert [test["score"] for test in result["tests"]] == points
    assert (result["score"], result["max-score"]) == (16, 35)
    text = reports.summary(grade()) + reports.page(grade())
    assert re.findall("16 of 35 points", text, re.IGNORECASE) == ["16 of 35 points"] * 3
    marks = [f"{mark} of {of} points" for mark, of in zip(points, [5, 5, 5, 10, 10], strict=True)]
    assert re.findall(r"^\| s\d\d.*?\| (.*?) \|", text, re.MULTILINE) == marks
    found = ET.fromstring(reports.junit(grade())).iterfind(".//property[@name='mark']")
    assert [fact.attrib["value"] for fact in found] == marks


@pytest.mark.parametrize("known", unmarked(), ids=["error", "waiting", "all"])
def test_without_a_mark_none_is_given_anywhere(known, tmp_path, monkeypatch):
    for name, value in RUNNER.items():
        monkeypatch.setenv(name, value)
    reports.write_all(grade(), tmp_path)
    assert (tmp_path / "result.json").exists()
    reports.write_all(known, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == FILES
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert results.keys() == {"output", "output_format", "stdout_visibility"}
    for name in ("summary.md", "index.html", "results.json"):
        text = (tmp_path / name).read_text(encoding="utf-8").lower()
        assert "no mark" in text
        assert "of 35 points" not in text
    unknown = sum(stage.points is None for stage in known.stages)
    xml = junitparser.JUnitXml.fromfile(str(tmp_path / "junit.xml"))
    assert xml.errors == unknown + bool(known.error)


def test_a_result_for_classroom_50_is_what_its_collector_takes(monkeypatch, tmp_path):
    reports.write_all(grade(), tmp_path)
    assert not (tmp_path / "result.json").exists()  # who is graded is known to the runner only
    for name, value in RUNNER.items():
        monkeypatch.setenv(name, value)
    reports.write_all(grade(), tmp_path)
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    links = ("classroom", "assignment", "submission", "commit", "release", "review")
    assert result.keys() == {"schema", *links, "datetime", "score", "max-score", "tests"}
    assert result["schema"] == "classroom50/result/v1"
    assert result["review"] == result["commit"] == RUNNER["COMMIT_URL"]
    assert result["datetime"] == "2026-11-21T10:00:00Z"
    for test in result["tests"]:
        assert test.keys() == {"test-name", "passed", "score", "max-score"}
        assert test["passed"] == (test["score"] == test["max-score"])


def test_junit_tells_a_failure_from_an_error_and_from_a_skip():
    xml = junitparser.JUnitXml.fromstring(reports.junit(grade()))
    assert (xml.tests, xml.failures, xml.errors, xml.skipped) == (11, 6, 0, 1)
    results = [[type(result).__name__ for result in case] for case in list(xml)[2]]
    assert results == [[], ["Failure"], ["Failure"], ["Skipped"], ["Failure"]]
    xml = junitparser.JUnitXml.fromstring(reports.junit(stage("error")))
    results = [[type(result).__name__ for result in case] for case in list(xml)[2]]
    assert results == [[], ["Failure"], ["Failure"], ["Skipped"], ["Skipped"], ["Error"]]


def test_a_hint_is_given_once():
    for text in (reports.page(grade()), reports.summary(grade())):
        assert len(re.findall(r"Is (?:`|<code>)sendall(?:`|</code>) in it\?", text)) == 1
    first = hints()[f"test_{LISTENS.replace(' ', '_')}"][0]
    assert first in str(told(grade().stages[3].checks[0]))
    shortened = check(MODULE, "broken", reason(TAME)[:100])
    assert told(shortened).hint == hints()[f"test_{MODULE.replace(' ', '_')}"][0]


def test_what_came_can_be_read_with_the_caret_under_it():
    seen = "It sent     HTTP/1.1 200 OK\\r\\n\n            ^ byte 0\nLast words  &lt;tame&gt;\n"
    assert seen in reports.page(grade("<tame>"))
    assert seen.replace("&lt;", "<").replace("&gt;", ">") in reports.summary(grade("<tame>"))


def test_a_page_is_made_of_the_same_whatever_a_fork_says(hostile):
    page = reports.page(grade(hostile))
    assert elements(page) == elements(reports.page(grade()))
    assert len(page) < 100_000


def test_a_summary_is_made_of_the_same_whatever_a_fork_says(hostile):
    assert parts(reports.summary(grade(hostile))) == parts(reports.summary(grade()))


def test_junit_is_made_of_the_same_whatever_a_fork_says(hostile):
    xml = reports.junit(grade(hostile))
    assert shape(xml) == shape(reports.junit(grade()))
    assert junitparser.JUnitXml.fromstring(xml).failures == 6


def test_gradescope_renders_nothing_of_what_a_fork_says(hostile):
    found, tame = reports.gradescope(grade(hostile)), reports.gradescope(grade())
    for part in (found, *found["tests"]):
        assert part["output_format"] == "text"
        assert all(char == "\n" or char.isprintable() for char in part.pop("output"))
    for part in (tame, *tame["tests"]):
        del part["output"]
    assert found == tame


def test_an_annotation_is_one_command_whatever_a_fork_says(hostile):
    pattern = re.compile(r"::(\w+) ([^:]*)::([^\r\n\x00-\x1f]*)")
    commands = map(pattern.fullmatch, reports.annotations(grade(hostile)))
    levels, places, messages = zip(*(command.groups() for command in commands), strict=True)
    assert levels == ("warning",) * 3
    titles = ["s02%3A 0 of 5 points", f"s03%3A {MODULE}", f"s04%3A {LISTENS}"]
    slugs = ["s02_read_request", "s03_static_response", "s04_parse_request"]
    wanted = zip(slugs, titles, strict=True)
    assert list(places) == [f"file=stages/{slug}.py,title={title}" for slug, title in wanted]
    assert all(re.fullmatch("([^%]|%25|%0A)*", message) for message in messages)


def test_what_means_something_in_a_command_is_escaped():
    known = replace(grade().stages[4], checks=(check("50%: a, b\r\nc", "broken", "100%: a, b"),))
    [command] = reports.annotations(replace(grade(), stages=(known,)))
    title = "s05%3A 50%25%3A a%2C b\\x0d c"
    assert command == f"::warning file=stages/s05_routing.py,title={title}::100%25: a, b"


def test_a_grade_without_a_mark_is_annotated_as_an_error():
    for known in unmarked():
        levels = [command.split()[0] for command in reports.annotations(known)]
        assert levels.count("::error") == 1
        assert set(levels) == {"::error", "::warning"}


def test_a_step_has_no_more_annotations_than_github_shows():
    known = grade()
    stages = tuple(replace(known.stages[3], slug=marks.slug) for marks in manifest())
    assert len(reports.annotations(replace(known, stages=stages))) == 10


def test_github_is_told_where_it_asks(hostile, tmp_path, monkeypatch, capsys):
    reports.to_github(grade(hostile))
    assert capsys.readouterr().out == ""
    file = tmp_path / "summary"
    file.write_bytes(b"before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))
    reports.to_github(grade(hostile))
    assert capsys.readouterr().out.splitlines() == reports.annotations(grade(hostile))
    assert file.read_text(encoding="utf-8") == "before\n" + reports.summary(grade(hostile))


def test_a_summary_that_a_step_has_no_room_for_spoils_no_other(tmp_path, monkeypatch, capsys):
    file = tmp_path / "summary"
    file.write_bytes(b"x" * (2**20 - 100))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))
    reports.to_github(grade())
    assert file.stat().st_size == 2**20 - 100
    assert len(capsys.readouterr().out.splitlines()) == 3


def none_holds(marks, words):
    """Every sentence of a stage, broken."""
    told = {"outcome": "broken", "reason": words}
    return tuple(Check(**vars(check) | told) for check in marks.checks)


def test_the_longest_summary_has_room_in_a_step():
    words = "\N{PILE OF POO}" * REASON
    stages = [
        StageGrade(marks.slug, marks.points, none_holds(marks, words), "graded", words)
        for marks in manifest()
    ]
    known = replace(grade(words), stages=tuple(stages), notes=(words,) * 300)
    assert len(reports.summary(known).encode()) < 2**20


def test_a_grade_is_what_its_schema_says():
    import jsonschema  # takes seconds to load

    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for known in (grade(), *unmarked(), replace(grade(), finished=grade().started)):
        jsonschema.validate(json.loads(json.dumps(known.asdict())), SCHEMA)


WRONG = {
    "half a point": lambda found: found["stages"][0].update(points=2.5),
    "less than nothing": lambda found: found.update(points=-1),
    "a mark after an error": lambda found: found.update(error="a", points=0),
    "a mark without that of a stage": lambda found: found["stages"][0].update(points=None),
    "a stage that failed and has a mark": lambda found: found["stages"][0].update(state="error"),
    "no mark without a reason": lambda found: found.update(points=None),
    "another outcome": lambda found: found["stages"][0]["checks"][0].update(outcome="passed"),
    "another kind": lambda found: found.update(schema="web-server-from-a-raw-socket/grade/v2"),
    "something more": lambda found: found["stages"][0].update(bonus=1),
    "something less": lambda found: found.pop("seed"),
    "a time of no zone": lambda found: found.update(started="2026-11-21T10:00:00"),
}


@pytest.mark.parametrize("spoil", WRONG.values(), ids=WRONG)
def test_the_schema_refuses(spoil):
    import jsonschema  # takes seconds to load

    found = json.loads(json.dumps(grade().asdict()))
    spoil(found)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(found, SCHEMA)


@pytest.fixture
def shown(tmp_path, chromium):
    """A page in a browser that says everything at once; nothing runs in it or is asked for."""
    spoken = "\n".join(words[:2000] for words in HOSTILE.values())
    reports.write_all(grade(spoken), tmp_path)
    heard = []
    with chromium.new_page() as page:
        for event in ("console", "pageerror", "dialog", "request"):
            page.on(event, lambda what, event=event: heard.append((event, what)))
        page.goto((tmp_path / "index.html").as_uri())
        yield page
        assert [event for event, _ in heard] == ["request"]


@needs_browser
@pytest.mark.timeout(300)
def test_a_page_runs_nothing_and_is_fit_for_all(shown):
    assert shown.evaluate("[document.scripts.length, document.images.length]") == [0, 0]
    assert shown.evaluate("getComputedStyle(document.querySelector('h2')).display") == "flex"
    for scheme in ("light", "dark"):
        shown.emulate_media(color_scheme=scheme)
        assert complaints(shown) == []
    shown.set_viewport_size({"width": 360, "height": 800})
    assert shown.evaluate("document.documentElement.scrollWidth") <= 360


@needs_browser
@pytest.mark.timeout(300)
def test_all_of_a_page_is_reached_by_keyboard_and_on_paper(shown, expect):
    folded = shown.locator("#s03 details:not([open]) > summary").first
    unfolded = shown.locator("#s03 details[open]")
    expect(unfolded).to_have_count(1)
    folded.focus()
    shown.keyboard.press("Enter")
    expect(unfolded).to_have_count(2)
    folded = shown.locator("#s05 li").first
    assert not folded.is_visible()
    shown.emulate_media(media="print")
    assert folded.bounding_box()["height"] > 0
