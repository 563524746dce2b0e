"""The form for Colab: what it makes is a notebook that fetches the course and then runs there."""

import json
import os
import shutil

import pytest
from helpers.commands import told
from helpers.git import git

from workbench.course.colab import colab
from workbench.errors import Mistake
from workbench.files import ROOT

PIP = "import sys; print('pip', *sys.argv[1:])"
ASKED = """\
import os, sys
print("asked", os.getcwd(), sys.modules["workbench"].__file__)"""


def test_a_form_stands_before_the_lesson_and_nothing_else_is_changed(tmp_path):
    import nbformat  # takes seconds to load

    file = tmp_path / "s05.ipynb"
    said = told("colab", "s05", "--repository", 'https://x/"y".git', "--to", file)
    assert said == (0, f"Open {file} in Colab, and run its first cell.\n")
    first, *rest = json.loads(file.read_text(encoding="utf-8"))["cells"]
    lesson = json.loads((ROOT / "notebooks" / "s05_routing.ipynb").read_text(encoding="utf-8"))
    assert rest == lesson["cells"]
    title, repository, *_ = first["source"]
    assert title.startswith("#@title ")
    assert repository == 'repository = "https://x/\\"y\\".git"  #@param {type: "string"}\n'
    nbformat.validate(nbformat.read(file, as_version=4))


def test_a_file_that_is_there_is_not_written_over(tmp_path):
    for place in (ROOT / "notebooks" / "s05_routing.ipynb", tmp_path / "missing" / "s05.ipynb"):
        with pytest.raises(Mistake, match="cannot write"):
            colab("s05", "URL", place)


@pytest.mark.skipif(os.name == "nt", reason="Colab is Linux, and its notebooks may say so")
@pytest.mark.timeout(300)
def test_the_form_fetches_the_course_and_the_lesson_runs_wherever_it_was_opened(tmp_path):
    import nbformat  # takes seconds to load
    from nbclient import NotebookClient

    notebook = nbformat.read(colab("s05", published(tmp_path), tmp_path / "s05.ipynb"), 4)
    notebook.cells[3:] = [nbformat.v4.new_code_cell(ASKED)]
    notebook.cells.insert(1, notebook.cells[0])  # a form is run twice, by mistake
    (tmp_path / "opened").mkdir()
    (tmp_path / "modules" / "pip").mkdir(parents=True)
    (tmp_path / "modules" / "pip" / "__init__.py").touch()
    (tmp_path / "modules" / "pip" / "__main__.py").write_text(PIP)
    setting = {"HOME": str(tmp_path), "PYTHONPATH": str(tmp_path / "modules")}
    place = {"metadata": {"path": str(tmp_path / "opened")}}
    client = NotebookClient(notebook, timeout=120, kernel_name="python3", resources=place)
    client.execute(env=os.environ | setting)
    course = tmp_path / "course"
    said = "".join(
        output["text"] for cell in notebook.cells if "outputs" in cell for output in cell["outputs"]
    )
    assert said.count(f"pip install --quiet --editable {course}") == 2
    assert f"asked {course / 'notebooks'} {course / 'workbench' / '__init__.py'}\n" in said


def published(folder):
    """A repository with the course as it stands here, and its address."""
    repository = folder / "published"
    for name in ("stages", "workbench", "notebooks", "static", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "mine", "uploads", ".*")
        shutil.copytree(ROOT / name, repository / name, ignore=ignored)
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "all"]):
        git(repository, *words)
    return repository.as_uri()
