"""The notebooks: one for each stage, of one shape, without outputs, and they run."""

import asyncio
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
AT_ONCE = 3  # kernels, each with the servers that it starts
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


def test_the_notebooks_are_of_the_format():
    import nbformat  # takes long to load, and only two tests need it

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


@pytest.mark.timeout(600)
def test_the_notebooks_run_from_top_to_bottom_twice_in_a_row(tmp_path):
    failed = asyncio.run(run_all(tmp_path))
    assert not failed, "\n\n".join(failed)


async def run_all(folder):
    """Run every notebook twice in one kernel; return what the cells that failed said."""
    places = asyncio.Semaphore(AT_ONCE)

    async def run(known):
        async with places:
            with tempfile.TemporaryDirectory() as sockets:
                return await run_twice(known, folder / known.slug, Path(sockets))

    outcomes = await asyncio.gather(*map(run, lessons()))
    return [outcome for outcome in outcomes if outcome]


async def run_twice(known, mine, sockets):
    """Run a notebook as 'Run All' does, and again in the same kernel."""
    import nbformat
    from nbclient import NotebookClient
    from traitlets.config import Config

    environment = os.environ | {"WORKBENCH_MINE": str(mine)}
    # A kernel's ports are chosen before it opens them, and a server of another test may be faster.
    transport = {"transport": "ipc", "ip": str(sockets / "kernel")} if os.name == "posix" else {}
    client = NotebookClient(
        nbformat.read(path(known), as_version=4),
        timeout=60,
        kernel_name="python3",
        config=Config(AsyncKernelManager=transport),
        allow_errors=True,
        resources={"metadata": {"path": str(NOTEBOOKS)}},
    )
    async with client.async_setup_kernel(env=environment):
        for _ in range(2):
            for index, cell in enumerate(client.nb.cells):
                await client.async_execute_cell(cell, index)
            if failed := errors(client.nb):
                return f"{known.slug}:\n{failed}"
    return ""


def errors(notebook):
    """What the cells of a notebook that has run raised, with the cells' ids."""
    return "\n".join(
        f"{cell['id']}: {source(cell)}\n" + "\n".join(output["traceback"])
        for cell in code(notebook)
        for output in cell["outputs"]
        if output["output_type"] == "error"
    )
