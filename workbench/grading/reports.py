"""A grade as others read it: JUnit, Gradescope, GitHub, Classroom 50, and a page for the student.

All are made of what stands in `grade.json`, whose schema is `grade.schema.json` beside this file.
What a fork has said is quoted in them: shortened, made harmless, and never markup. Points are whole
numbers and belong to stages; a sentence has none of its own. Where there is no mark none is given,
and never 0.
"""

import base64
import functools
import hashlib
import json
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from workbench.files import write
from workbench.grading.result import Check, Grade, StageGrade
from workbench.grading.sanitize import LINE, harmless, line
from workbench.grading.wording import GROUPS, groups, heading, mark, note, remarks, told
from workbench.practice.hints import as_html

PAGE = "grade.html.j2"
ANNOTATIONS = 10  # GitHub shows no more of a step
SUMMARY = 2**20  # bytes that GitHub takes of a step
SECONDS = 19  # characters of a time up to its seconds
GRADABLE = "it can be graded"  # what JUnit has an error in, where there is no mark
CLASSROOM50 = "classroom50/result/v1"
RUNNER = {  # the field of a result, and the variable in which Classroom 50's runner gives it
    "classroom": "CLASSROOM",
    "assignment": "ASSIGNMENT",
    "submission": "SUBMISSION_TAG",
    "commit": "COMMIT_URL",
    "release": "RELEASE_URL",
    "review": "REVIEW_URL",
}


def write_all(grade: Grade, folder: Path) -> None:
    """Write every report into a folder, each in one step.

    `result.json` is for Classroom 50, and only there if there is a mark and its runner has started
    us; one of an earlier run goes.
    """
    reports: dict[str, bytes | None] = {
        "junit.xml": junit(grade),
        "results.json": _json(gradescope(grade)),
        "summary.md": summary(grade).encode(),
        "result.json": _json(classroom50(grade)),
        "index.html": page(grade).encode(),
    }
    for name, data in reports.items():
        if data is None:
            (folder / name).unlink(missing_ok=True)
        else:
            write(folder / name, data)


def _json(found: dict[str, Any] | None) -> bytes | None:
    """Write what there is as JSON."""
    return None if found is None else json.dumps(found, indent=1).encode()


# JUnit


def junit(grade: Grade) -> bytes:
    """Write a grade as JUnit's XML: a suite for each stage, in it a case for each sentence.

    What does not hold is a failure, what was not reached or did not report too. A stage without a
    mark has one case more, which is an error; so has a suite of its own what went wrong in all.
    """
    grade = harmless(grade)
    suites = ET.Element("testsuites", name=line(grade.fork))
    for stage in grade.stages:
        facts = {"mark": mark(stage), "seed": str(grade.seed)}
        suite = _suite(suites, stage.slug, facts, stage.seconds)
        for check in stage.checks:
            _result(stage, check, _case(suite, check.sentence))
        if stage.points is None:
            _outcome(_case(suite, GRADABLE), "error", note(stage))
    if grade.error:
        _outcome(_case(_suite(suites, "grader"), GRADABLE), "error", grade.error)
    for suite in suites:
        _count(suite)
    _count(suites)
    return bytes(ET.tostring(suites, encoding="utf-8", xml_declaration=True))


def _suite(
    suites: ET.Element, name: str, facts: dict[str, str] | None = None, seconds: float = 0
) -> ET.Element:
    """Add a suite."""
    suite = ET.SubElement(suites, "testsuite", name=name, time=f"{seconds:.1f}")
    if facts:
        properties = ET.SubElement(suite, "properties")
        for fact, value in facts.items():
            ET.SubElement(properties, "property", name=fact, value=value)
    return suite


def _case(suite: ET.Element, name: str) -> ET.Element:
    """Add a case to a suite."""
    return ET.SubElement(suite, "testcase", name=name, classname=suite.attrib["name"])


def _outcome(case: ET.Element, kind: str, message: str, text: str = "") -> None:
    """Say of a case that it does not hold."""
    ET.SubElement(case, kind, message=line(message)).text = text or message


def _result(stage: StageGrade, check: Check, case: ET.Element) -> None:
    """Say what came of a sentence."""
    match check.outcome:
        case "holds":
            return
        case "broken":
            _outcome(case, "failure", told(check).wrong, str(told(check)))
        case "not reported" if stage.points is None:
            _outcome(case, "skipped", "not said: the stage could not be graded")
        case "skipped":
            _outcome(case, "skipped", check.reason)
        case _:
            _outcome(case, "failure", note(stage) or GROUPS[check.outcome])


def _count(suite: ET.Element) -> None:
    """Write down how many cases there are, and what came of them."""
    kinds = {"tests": "testcase", "failures": "failure", "errors": "error", "skipped": "skipped"}
    for total, kind in kinds.items():
        suite.set(total, str(sum(1 for _ in suite.iter(kind))))


# Gradescope


def gradescope(grade: Grade) -> dict[str, Any]:
    """Return Gradescope's `results.json` (its autograder specifications, 'Output format').

    Every format is "text", which renders nothing. Without a mark there is neither a score nor a
    test, and Gradescope says that the autograder has failed.
    """
    grade = harmless(grade)
    lines = [f"{mark(grade)}, seed {grade.seed}", *map(": ".join, remarks(grade))]
    found = {"output": "\n".join(lines), "output_format": "text", "stdout_visibility": "hidden"}
    if grade.points is None:
        unknown = (stage for stage in grade.stages if stage.points is None)
        lines += [f"{heading(stage)}: {line(note(stage))}" for stage in unknown]
        return found | {"output": "\n".join(lines)}
    tests = [
        {
            "name": heading(stage),
            "name_format": "text",
            "score": stage.points,
            "max_score": stage.of,
            "status": "passed" if stage.points == stage.of else "failed",
            "output": "\n".join(_outline(stage)),
            "output_format": "text",
            "visibility": "visible",
        }
        for stage in grade.stages
    ]
    seconds = round(sum(stage.seconds for stage in grade.stages))
    return found | {"score": grade.points, "execution_time": seconds, "tests": tests}


def _outline(stage: StageGrade) -> Iterator[str]:
    """Yield lines of plain text about a stage: its groups, and the first reason in full."""
    if words := note(stage):
        yield words
    for kind, checks in groups(stage).items():
        yield f"{GROUPS[kind]}: {len(checks)}"
        if kind == "broken":
            yield from (f"- {check.sentence}" for check in checks)
            yield f"\n{checks[0].sentence}\n{told(checks[0])}\n"


# GitHub: a summary in Markdown, and annotations


def summary(grade: Grade) -> str:
    """Write a grade in Markdown: a table of the stages, then those with less than full points.

    The words of a fork stand in code only, behind more backticks than they have.
    """
    grade = harmless(grade)
    lines = [f"# {_code(grade.fork)}: {mark(grade)}", ""]
    lines += [f"- {title}: {_code(text)}" for title, text in remarks(grade)]
    lines += ["", "| stage | mark | sentences that hold |", "| --- | ---: | ---: |"]
    for stage in grade.stages:
        held, said = stage.counts
        lines.append(f"| {_escaped(heading(stage))} | {mark(stage)} | {held} of {said} |")
    for stage in grade.stages:
        if stage.points != stage.of:
            lines += _section(stage)
    return "\n".join([*lines, "", f"Seed {grade.seed}, suite {_code(grade.suite)}", ""])


def _section(stage: StageGrade) -> Iterator[str]:
    """Yield the lines of Markdown about a stage: the first broken sentence, and the names."""
    yield from ("", f"## {_escaped(heading(stage))}: {mark(stage)}", "")
    if words := note(stage):
        yield from (f"Note: {_code(words)}", "")
    broken = groups(stage).get("broken", [])
    for check in broken[:1]:
        yield from (f"**{_escaped(check.sentence)}**", "", _fenced(str(told(check))), "")
    for kind, checks in groups(stage).items():
        if kind != "holds" and checks != broken[:1]:
            yield f"<details><summary>{GROUPS[kind]}: {len(checks)}</summary>\n"
            yield from (f"- {_escaped(check.sentence)}" for check in checks)
            yield "\n</details>\n"


def _ticks(text: str, least: int) -> str:
    """Return more backticks than stand together in a text."""
    return "`" * max(least, 1 + max(map(len, re.findall("`+", text)), default=0))


def _code(text: str) -> str:
    """Write a text in a line of Markdown as code."""
    ticks = _ticks(text, 1)
    return f"{ticks} {line(text)} {ticks}"


def _fenced(text: str) -> str:
    """Write a text in Markdown as a block of code."""
    fence = _ticks(text, 3)
    return f"{fence}text\n{text}\n{fence}"


def _escaped(text: str) -> str:
    """Write a text of ours in Markdown: no sign in it means anything."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", line(text))


def annotations(grade: Grade) -> list[str]:
    """Return GitHub's workflow commands that mark the stages' files, ten at most.

    Each is one line, a warning with the first sentence of a stage that is broken, or an error for a
    stage without a mark.
    """
    grade = harmless(grade)
    found = [_command("error", {"title": "no mark"}, grade.error)] if grade.error else []
    found += [_annotation(stage) for stage in grade.stages if stage.points != stage.of]
    return found[:ANNOTATIONS]


def _annotation(stage: StageGrade) -> str:
    """Write the workflow command for a stage."""
    title, message = mark(stage), note(stage)
    broken = groups(stage).get("broken", [])
    if broken and stage.points is not None:
        why = told(broken[0])
        title, message = broken[0].sentence, f"{why.wrong}\n{why.hint}".strip()
    places = {"file": f"stages/{stage.slug}.py", "title": f"{stage.lesson.short}: {line(title)}"}
    return _command("error" if stage.points is None else "warning", places, message)


def _command(level: str, places: dict[str, str], message: str) -> str:
    """Write a workflow command, with what means something in one escaped."""
    named = ",".join(f"{name}={_property(value)}" for name, value in places.items())
    return f"::{level} {named}::{_data(message[: 2 * LINE])}"


def _data(text: str) -> str:
    """Escape the message of a workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """Escape a property of a workflow command."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def to_github(grade: Grade) -> None:
    """In a step of GitHub's, add the summary to the step's and print the annotations.

    Nothing else is printed, and no line begins with a fork's words. A summary for which a step has
    no room any more is left out: GitHub would refuse them all.
    """
    if not (file := os.environ.get("GITHUB_STEP_SUMMARY")):
        return
    with open(file, "ab") as stream:
        text = summary(grade).encode()
        if stream.tell() + len(text) < SUMMARY:
            stream.write(text)
    for command in annotations(grade):
        print(command, flush=True)


# Classroom 50


def classroom50(grade: Grade) -> dict[str, Any] | None:
    """Return Classroom 50's `result.json`; None without a mark, or outside of its runner.

    It has no way to say 'no mark': where the file is missing, the runner reports an error.
    """
    links = {name: os.environ.get(variable, "") for name, variable in RUNNER.items()}
    links["review"] = links["review"] or links["commit"]
    if grade.points is None or not all(links.values()):
        return None
    tests = [
        {
            "test-name": heading(stage),
            "passed": stage.points == stage.of,
            "score": stage.points,
            "max-score": stage.of,
        }
        for stage in grade.stages
    ]
    links |= {"schema": CLASSROOM50, "datetime": f"{grade.started[:SECONDS]}Z"}
    return {**links, "score": grade.points, "max-score": grade.of, "tests": tests}


# A page for the student


def page(grade: Grade) -> str:
    """Write a grade as one page of HTML that needs no other file and runs nothing."""
    grade = harmless(grade)
    words: dict[str, Callable[..., Any]] = {
        function.__name__: function for function in (told, mark, heading, note, groups, remarks)
    }
    widest = max((stage.of for stage in grade.stages), default=1)
    return pages().get_template(PAGE).render(grade=grade, GROUPS=GROUPS, widest=widest, **words)


@functools.cache
def pages() -> Environment:
    """Return what fills in pages: all is escaped that goes into one."""
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"digest": _digest, "coded": _coded, "line": line, "utc": _utc}
    return found


def _coded(hint: str) -> Markup:
    """Write a hint in HTML: what stands in backticks is code."""
    return Markup(as_html(hint))  # noqa: S704 - it is escaped there


def _utc(time: str) -> str:
    """Write a time for a reader."""
    return f"{time[:SECONDS].replace('T', ' ')} UTC"


def _digest(style: str) -> str:
    """Return the source by which a policy (CSP 3) knows a style sheet in the page."""
    found = hashlib.sha256(style.encode()).digest()
    return f"sha256-{base64.b64encode(found).decode()}"
