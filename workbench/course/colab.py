"""A lesson in the form that Colab needs: opened alone there, its first cell fetches the course."""

from __future__ import annotations

import json
from pathlib import Path

from workbench.course import catalogue as lessons
from workbench.course.catalogue import Stage
from workbench.errors import Mistake
from workbench.files import NOTEBOOKS

# What Colab has stays as it is: its kernel runs already, with packages of other versions than ours.
FORM = """\
#@title Run this first: it fetches the course {{ display-mode: "form" }}
repository = {repository}  #@param {{type: "string"}}
import os, sys

course = os.path.expanduser("~/course")
![ -d "{{course}}" ] || git clone --quiet --depth 1 "{{repository}}" "{{course}}"
%pip install --quiet --editable "{{course}}"
%cd -q {{course}}/notebooks
sys.path.insert(0, course)"""


def colab(stage: Stage, repository: str, to: Path) -> Path:
    """Write a lesson's notebook into a new file, with a form before it that fetches a repository.

    Raises UnknownStage, or Mistake for a file that is there already or cannot be written.
    """
    known = lessons.lesson(stage)
    lesson = NOTEBOOKS / f"{known.slug}.ipynb"
    notebook = json.loads(lesson.read_text(encoding="utf-8"))
    form = FORM.format(repository=json.dumps(repository)).splitlines(keepends=True)
    cell = {"cell_type": "code", "execution_count": None, "id": f"{known.short}-colab"}
    notebook["cells"].insert(
        0, cell | {"metadata": {"cellView": "form"}, "outputs": [], "source": form}
    )
    try:
        with to.open("x", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise Mistake(f"cannot write {to}: {error.strerror}") from error
    return to
