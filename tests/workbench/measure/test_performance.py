"""The page that holds benchmarks: sections that a command has printed, and nothing by hand."""

import platform
import re
import shlex

import pytest
from helpers.commands import told

from workbench.errors import Mistake
from workbench.files import ROOT
from workbench.measure import performance
from workbench.measure.benchmark import Benchmark, Round, Row
from workbench.measure.peers import PEERS

PAGE = ROOT / "docs" / "performance.md"
SECTION = re.compile(
    r"<!-- bench (\S+) -->\n\n```sh\n(.+)\n```\n(.*?)\n<!-- end of bench \1 -->", re.S
)
FIGURES = Benchmark(
    "GET / by hand",
    (
        Row("s10 Keep-alive", True, (Round(100, 1, 1, 9, 0, 0.02, 20), Round(300, 1, 2, 9, 0))),
        Row("a|b <1>", False, (Round(50, 1, 3, 9, 2), Round(90, 1, 3, 9, 0))),
    ),
    ("logs are off",),
)


def test_a_section_has_command_machine_table_and_notes():
    text = performance.section([FIGURES], "python -m workbench bench s10", "a PDP-11")
    assert text.splitlines() == [
        *("```sh", "python -m workbench bench s10", "```", ""),
        *("Machine: a PDP-11.", ""),
        *("**GET / by hand**", ""),
        "| server | requests/s | / s10 | CPU \u00b5s/request | / s10 | p50 ms | p99 ms | MiB |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
        "| s10 Keep-alive | 200 (100\u2013300) | 1.00 | 200 | 1.00 | 1.50 | 9.00 | 20.0 |",
        "| a\\|b &lt;1> | no figure: 2 errors |  |  |  |  |  |  |",
        "",
        "- logs are off",
        "- a\\|b: no figures, as there were errors: 2 in 140",
        "- a\\|b: a new connection for each request",
    ]


def test_a_section_is_put_between_its_comments_and_nothing_else_changes(tmp_path):
    page, (begin, end) = tmp_path / "page.md", performance.markers("close")
    page.write_text(f"Before\n{begin}\nold\n{end}\nAfter\n", encoding="utf-8")
    for text in ("one\n", "two\n"):
        performance.put(page, "close", text)
    assert page.read_text(encoding="utf-8") == f"Before\n{begin}\n\ntwo\n\n{end}\nAfter\n"
    with pytest.raises(Mistake, match=r"has no lines <!-- bench keep-alive --> and <!-- end of"):
        performance.put(page, "keep-alive", "three\n")


def test_a_page_without_the_section_is_told_before_anything_is_measured(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("mine\n", encoding="utf-8")
    status, words = told("bench", "s10", "--markdown", page)
    assert (status, page.read_text(encoding="utf-8")) == (1, "mine\n")
    assert words == f"{page} has no lines " + " and ".join(performance.markers("keep-alive")) + (
        " to put the tables between"
    )


def test_the_machine_is_described():
    words = performance.machine()
    assert f"Python {platform.python_version()}" in words
    assert re.search(r", \d+ cores, .+ before the run \(load average \d", words)


@pytest.mark.slow
def test_the_command_writes_the_page(tmp_path):
    page, picture = tmp_path / "new.md", tmp_path / "speed.svg"
    line = ["bench", "--peers", "http.server", "--rounds", "1", "--seconds", "1"]
    line += ["--connections", "1,2", "--markdown", page, "--section", "mine", "--save", picture]
    status, out = told(*line)
    assert status == 0
    assert out.splitlines()[-1] == f"written to {page}"
    [(name, _, text)] = SECTION.findall(page.read_text(encoding="utf-8"))
    assert name == "mine"
    assert re.findall(r": (\d) connections?,", text) == ["1", "2"]
    assert text.count("| http.server ") == 2


def test_the_page_of_the_course_has_been_written_by_the_commands_that_it_names():
    sections = SECTION.findall(PAGE.read_text(encoding="utf-8"))
    assert [name for name, _, _ in sections] == ["keep-alive", "close", "files", "log"]
    for name, line, text in sections:
        words = shlex.split(line)
        assert words[:4] == ["python", "-m", "workbench", "bench"]
        assert words[words.index("--section") + 1] == name
        assert words[words.index("--markdown") + 1] == "docs/performance.md"
        assert "\nMachine: " in text
        peers = words[words.index("--peers") + 1].split(",") if "--peers" in words else []
        for peer in peers:
            assert peer in PEERS
            assert f"| {peer} " in text
