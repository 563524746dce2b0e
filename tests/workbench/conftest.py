"""What these tests share: a browser, and folders of their own."""

import pytest
from helpers.chromium import chromium, expect  # noqa: F401 - fixtures


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A folder for the copies, the bug hunts and the progress of one test alone."""
    folder = tmp_path / "mine"
    monkeypatch.setenv("WORKBENCH_MINE", str(folder))
    return folder
