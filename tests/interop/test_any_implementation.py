"""The suite judges forks and foreign programs: by `--stages=FOLDER`, and by `--command=LINE`."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.files import ROOT, STAGES, STATIC, SUITE

pytestmark = pytest.mark.timeout(180)  # seconds: a suite within the suite
TESTS = Path(__file__).parent
FOREIGN = TESTS / "foreign" / "server.py"


def judge(*options):
    """Run the suite as a teacher does; return the counts of its last line, and its text."""
    line = [sys.executable, "-m", "pytest", "-n0", "-q", *options, str(SUITE)]
    ended = subprocess.run(line, capture_output=True, text=True, cwd=ROOT)
    last = ended.stdout.splitlines()[-1]
    counts = {word: int(count) for count, word in re.findall(r"(\d+) (\w+)", last)}
    return counts, ended.stdout


@pytest.mark.parametrize(
    ("chosen", "least"),
    [("s05", 35), ("s09 and (test_drain or test_crowd)", 15)],
    ids=["routing", "drain"],
)
def test_a_program_in_any_language_is_judged_by_its_command(chosen, least):
    command = f'--command="{Path(sys.executable).as_posix()}" "{FOREIGN.as_posix()}" {{stage}}'
    counts, text = judge(command, "-k", chosen)
    assert not counts.keys() & {"failed", "error", "errors", "xfailed"}, text
    assert counts["passed"] >= least, text
    assert counts["skipped"] >= 1, "what asks for Python is skipped for a program that may be any"


def test_a_fork_is_judged_by_its_folder(tmp_path):
    fork = tmp_path / "stages"
    fork.mkdir()
    shutil.copytree(STATIC, tmp_path / "static")
    source = (STAGES / "s03_static_response.py").read_text(encoding="utf-8")
    wrong = source.replace("len(response.body)", "len(response.body.decode())")
    (fork / "s03_static_response.py").write_text(wrong, encoding="utf-8")
    counts, text = judge(f"--stages={fork}", "-k", "(s03 or s04_parse) and length_counts")
    assert (counts["failed"], counts["error"]) == (1, 1), text
    assert "Content-Length" in text
    assert "curl" in text, "a failure gives the line that asks again"
    assert "needed a file s04_parse_request.py" in text
