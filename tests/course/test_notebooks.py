"""The notebooks: one for each stage, of one shape, without outputs, and they run."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from workbench.course.catalogue import lessons
from workbench.files import NOTEBOOKS

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
PYODIDE = """
import sys
sys.platform = "emscripten"
sys.modules["psutil"] = None  # what must be compiled is not there
from workbench.notebook import *
"""


def read(known):
    """The notebook of a lesson, as it stands in its file."""
    return json.loads(path(known).read_text(encoding="utf-8"))


def path(known):
    """The file of a lesson's notebook."""
    return NOTEBOOKS / f"{known.slug}.ipynb"


def source(cell):
    """The text of a cell."""
    return "".join(cell["source"])


def code(notebook):
    """The cells that run."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


each = pytest.mark.parametrize("known", lessons(), ids=lambda known: known.slug)


def test_every_stage_has_a_notebook_and_every_notebook_a_stage():
    found = {path.stem for path in NOTEBOOKS.glob("*.ipynb")}
    assert found == {known.slug for known in lessons()}


@pytest.mark.slow  # nbformat takes seconds to load, and as long to look
def test_the_notebooks_are_of_the_format():
    import nbformat

    for known in lessons():
        nbformat.validate(nbformat.read(path(known), as_version=4))


@each
def test_a_notebook_has_no_outputs_and_stable_ids(known):
    notebook = read(known)
    assert notebook["metadata"]["kernelspec"] == KERNEL
    for cell in code(notebook):
        assert not cell["outputs"], f"{cell['id']} has outputs"
        assert cell["execution_count"] is None
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    assert all(name.startswith(known.short) for name in ids), "needed ids that git can compare"


@each
def test_a_notebook_is_headed_as_the_catalogue_says(known):
    first = source(read(known)["cells"][0])
    assert first.startswith(f"# {known.number} · {known.title}\n\n**{known.question}**\n")


@each
def test_a_notebook_has_the_shape_of_a_lesson(known):
    notebook = read(known)
    text = "\n".join(map(source, notebook["cells"]))
    assert text.count("<summary>Answer</summary>") == 3, "needed three questions"
    assert text.count(f'check("{known.slug}"') == 2, "needed two exercises"
    assert text.count("Predict") >= 2, "needed a prediction before an experiment"
    assert f'diff("{known.short}' in text or known.builds_on is None
    assert "show(" in text
    for cell in code(notebook):
        lines = [line for line in source(cell).splitlines() if line.strip()]
        assert len(lines) <= 6 or lines[0].startswith("%%mine"), f"{cell['id']} is too long"


def test_in_pyodide_a_notebook_says_in_one_line_where_it_can_be_opened(tmp_path):
    environment = os.environ | {"IPYTHONDIR": str(tmp_path), "PYTHONUTF8": "1"}
    line = [sys.executable, "-m", "IPython", "--colors=NoColor", "-c", PYODIDE]
    ended = subprocess.run(line, cwd=NOTEBOOKS, env=environment, capture_output=True, text=True)
    said = (ended.stdout + ended.stderr).splitlines()
    assert len(said) == 1
    assert re.match("Pyodide has no processes and no sockets.*JupyterLab", said[0])


@pytest.mark.slow
@pytest.mark.timeout(300)
@each
def test_a_notebook_runs_from_top_to_bottom_twice_in_a_row(known, tmp_path):
    """As 'Run All' does, and again in the same kernel."""
    import nbformat
    from nbclient import NotebookClient
    from traitlets.config import Config

    environment = os.environ | {"WORKBENCH_MINE": str(tmp_path / "mine")}
    with tempfile.TemporaryDirectory() as sockets:  # a short path, as a socket's name needs
        # A kernel's ports are chosen before it opens them, and another test's server may be faster.
        ipc = {"transport": "ipc", "ip": str(Path(sockets, "kernel"))} if os.name == "posix" else {}
        client = NotebookClient(
            nbformat.read(path(known), as_version=4),
            timeout=60,
            kernel_name="python3",
            config=Config(KernelManager=ipc, AsyncKernelManager=ipc),
            allow_errors=True,
            resources={"metadata": {"path": str(NOTEBOOKS)}},
        )
        with client.setup_kernel(env=environment):
            for _ in range(2):
                for index, cell in enumerate(client.nb.cells):
                    client.execute_cell(cell, index)
                assert not errors(client.nb)


def errors(notebook):
    """What the cells of a notebook that has run raised, with the cells' ids."""
    return "\n".join(
        f"{cell['id']}: {source(cell)}\n" + "\n".join(output["traceback"])
        for cell in code(notebook)
        for output in cell["outputs"]
        if output["output_type"] == "error"
    )
