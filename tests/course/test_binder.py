"""What Binder reads in `.binder`: it names what the project has, and what the suite has tried."""

import tomllib
from importlib.metadata import version

from packaging.specifiers import SpecifierSet

from workbench.files import ROOT

BINDER = ROOT / ".binder"  # repo2docker runs `pip install -r .binder/requirements.txt` in the root
PROXY = "jupyter-server-proxy"


def text(file):
    return file.read_text(encoding="utf-8")


def test_binder_installs_what_the_class_does_with_the_proxy_that_the_suite_has_tried():
    constraints, project = text(BINDER / "requirements.txt").splitlines()
    pins = (BINDER / constraints.removeprefix("-c ")).resolve()
    assert pins == ROOT / "constraints.txt"
    assert project == "-e .[lab]"
    extras = tomllib.loads(text(ROOT / "pyproject.toml"))["project"]["optional-dependencies"]
    assert PROXY in extras["lab"]
    assert f"{PROXY}=={version(PROXY)}" in text(pins).splitlines()


def test_binders_python_is_one_that_the_suite_runs_on():
    name, number = text(BINDER / "runtime.txt").strip().split("-")
    project = tomllib.loads(text(ROOT / "pyproject.toml"))["project"]
    assert name == "python"
    assert number in SpecifierSet(project["requires-python"])
    assert f"py{number.replace('.', '')}" in text(ROOT / "tox.ini")
