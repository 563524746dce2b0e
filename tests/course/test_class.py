"""How a class is started and corrected: the very lines of CONTRIBUTING, in its own repositories.

Bare repositories stand for the host: what it does at a press of Fork is a clone.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.files import ROOT

SH, GIT = shutil.which("sh"), shutil.which("git")
pytestmark = pytest.mark.skipif(not (SH and GIT), reason="needs git and a shell")

SECTION = (
    (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("\n## Start a class\n")[2]
)
BLOCKS = re.findall(r"^```sh\n(.+?)^```$", SECTION.partition("\n## ")[0], re.DOTALL | re.MULTILINE)
START, CLONE, KEEP, AGAIN, PUBLISH, GET, SETTLE, BACK = BLOCKS

STAGE = Path("stages") / "s05_routing.py"
PAGE = Path("static") / "about.html"
NOTEBOOK = Path("notebooks") / "s05_routing.ipynb"
ELSEWHERE = '"""A request that gets'
TASK = 'raise NotImplementedError("Respond with a line of text.")'
WRITTEN = 'return Response(status, "text/plain", words.encode())'


class Classroom:
    """The teacher's folder, a student's, and the host's, and a shell for all of them."""

    def __init__(self, folder):
        self.folder = folder
        self.hosted, self.fork = folder / "host" / "class.git", folder / "host" / "fork.git"
        self.course, self.taught = folder / "teacher" / "course", folder / "teacher" / "class"
        self.work = folder / "student" / "class"
        for needed in (self.course, self.work.parent, self.hosted.parent):
            needed.mkdir(parents=True)
        settings = folder / "gitconfig"
        settings.write_text("[user]\n\tname = A\n\temail = a@example.org\n", encoding="utf-8")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        self.environment = kept | {
            "HOME": str(folder),
            "GIT_CONFIG_GLOBAL": str(settings),
            "GIT_CONFIG_NOSYSTEM": "1",
            "LC_ALL": "C",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": str(ROOT),
        }

    def run(self, lines, cwd, fails=False):
        """Type lines in a folder, with what stands in capitals filled in; return what is said."""
        for blank, value in {
            "ADDRESS-OF-THE-CLASS": self.hosted.as_posix(),
            "ADDRESS-OF-THE-FORK": self.fork.as_posix(),
            "OWNER/NAME@COMMIT": f"someone/course@{'5' * 40}",
        }.items():
            lines = lines.replace(blank, value)
        done = subprocess.run(
            [SH, "-e", "-c", lines],
            cwd=cwd,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
        )
        told = done.stdout + done.stderr
        assert bool(done.returncode) == fails, f"{lines}\n{told}"
        return told


@pytest.fixture
def classroom(tmp_path):
    """A class that has been started, with one student in it who has begun to write."""
    room = Classroom(tmp_path)
    room.run(f"git init --quiet --bare -b main {room.hosted.as_posix()}", tmp_path)
    room.run(START, room.course)
    room.run(f"git clone --quiet --bare {room.hosted.as_posix()} {room.fork.as_posix()}", tmp_path)
    room.run(CLONE, room.work.parent)
    change(room.work / STAGE, TASK, WRITTEN)
    notebook = json.loads(text(room.work / NOTEBOOK))
    code = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    code["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["it runs"]}]
    (room.work / "notebooks" / "mine").mkdir()
    copy = room.work / "notebooks" / "mine" / NOTEBOOK.name
    copy.write_text(json.dumps(notebook), encoding="utf-8")
    room.run(KEEP, room.work)
    return room


def text(file):
    return file.read_text(encoding="utf-8")


def change(file, old, new):
    """Put other words in the place of some, which are there once."""
    assert text(file).count(old) == 1, f"{old!r} in {file.name}"
    file.write_bytes(text(file).replace(old, new).encode())


def in_fork(room, name):
    """What the fork on the host has."""
    return room.run(f"git show main:{name.as_posix()}", room.fork)


def is_kept(room):
    """Whether nothing of the student's folder is only there: it is committed, and pushed."""
    told = room.run("git status --short --branch", room.work)
    return told == "## main...origin/main\n"


def test_a_student_has_what_the_class_starts_from_and_the_host_what_he_wrote(classroom):
    assert "yours to write" in text(classroom.work / "README.md")
    assert "raise NotImplementedError" in text(classroom.work / STAGE)
    workflow = text(classroom.work / ".github" / "workflows" / "grade.yml")
    assert "someone/course" in workflow
    assert WRITTEN in in_fork(classroom, STAGE)
    assert is_kept(classroom)


def test_a_correction_comes_and_no_work_is_lost(classroom):
    """In the very file that he writes, in a page, and in a lesson that he has run as a copy."""
    copy = classroom.work / "notebooks" / "mine" / NOTEBOOK.name
    before = copy.read_bytes()
    change(classroom.taught / STAGE, ELSEWHERE, '"""A request that has got')
    change(classroom.taught / PAGE, "</h1>", ", corrected</h1>")
    change(classroom.taught / NOTEBOOK, '"# 5 ', '"# 5, corrected: ')
    classroom.run(PUBLISH, classroom.taught)
    classroom.run(GET, classroom.work)
    assert '"""A request that has got' in text(classroom.work / STAGE)
    assert ", corrected</h1>" in text(classroom.work / PAGE)
    assert "# 5, corrected: " in text(classroom.work / NOTEBOOK)
    assert WRITTEN in text(classroom.work / STAGE)
    assert copy.read_bytes() == before
    assert in_fork(classroom, STAGE) == text(classroom.work / STAGE)
    assert is_kept(classroom)


def test_where_the_course_was_mended_the_starter_is_made_again(classroom):
    ours = text(classroom.taught / PAGE)
    change(classroom.taught / PAGE, "</h1>", ", with a mistake</h1>")
    classroom.run(PUBLISH, classroom.taught)
    classroom.run(GET, classroom.work)
    classroom.run(AGAIN, classroom.course)
    classroom.run(PUBLISH, classroom.taught)
    classroom.run(GET, classroom.work)
    assert text(classroom.work / PAGE) == ours
    assert WRITTEN in text(classroom.work / STAGE)


def clashing(room):
    """Have the teacher correct the very line that the student has written; return git's words."""
    change(room.taught / STAGE, TASK, TASK.replace("a line", "one line"))
    room.run(PUBLISH, room.taught)
    return room.run(GET, room.work, fails=True)


def test_a_correction_of_the_same_lines_leaves_both_and_says_what_to_do(classroom):
    told = clashing(classroom)
    assert f"CONFLICT (content): Merge conflict in {STAGE.as_posix()}" in told
    assert "fix conflicts and then commit the result" in told
    both = text(classroom.work / STAGE)
    mine, correction = re.search(
        r"<<<<<<< \S+\n(.*)=======\n(.*)>>>>>>> ", both, re.DOTALL
    ).groups()
    assert mine.strip() == WRITTEN
    assert correction.strip() == TASK.replace("a line", "one line")
    change(classroom.work / STAGE, re.search(r"<<<<<<<.*>>>>>>>.*?\n", both, re.DOTALL)[0], mine)
    classroom.run(SETTLE, classroom.work)
    assert WRITTEN in in_fork(classroom, STAGE)
    assert "<<<<<<<" not in in_fork(classroom, STAGE)
    assert is_kept(classroom)
    assert "Already up to date" in classroom.run(GET, classroom.work)


def test_a_merge_that_is_taken_back_leaves_all_as_it_was(classroom):
    before = text(classroom.work / STAGE)
    clashing(classroom)
    classroom.run(BACK, classroom.work)
    assert text(classroom.work / STAGE) == before
    assert is_kept(classroom)


def test_work_that_was_not_committed_is_not_overwritten(classroom):
    """He forgot the first three lines: git refuses, and says so."""
    change(classroom.work / STAGE, ELSEWHERE, '"""One that gets')
    before = text(classroom.work / STAGE)
    told = clashing(classroom)
    assert "Please commit your changes" in told
    assert text(classroom.work / STAGE) == before
