"""The page on the standard names functions that are there, and sentences that are said."""

import re

import pytest

from workbench.course.catalogue import heirs
from workbench.course.syntax import pieces
from workbench.files import STAGES, SUITE

PAGE = (STAGES.parent / "CONFORMANCE.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if re.match(r"\| (RFC )?[0-9]", line)
]
NAMED = {name for known in heirs("s12") for name in pieces(known.path.read_text(encoding="utf-8"))}
SAID = {
    name
    for path in SUITE.glob("test_*.py")
    for name in re.findall(r"^def test_(\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} {row[4].strip('`')}")
def test_a_row_names_what_there_is(row):
    section, asked, level, where, sentence = row
    names = re.findall(r"`(\w+)`", where)
    assert names, "needed the name of a function"
    assert set(names) <= NAMED
    assert sentence.strip("`") in SAID
    assert level in ("M", "S", "m")
    assert asked, f"needed what §{section} asks"
