"""A real JupyterLab in a real browser: "Run All" ends without an error and shows the pictures."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time

import pytest
from browser import browser, needs_browser

from workbench.lessons import STAGES

NOTEBOOKS = STAGES.parent / "notebooks"
SHOWN = {"s01_bind_and_print": 0, "s06_slow_route": 1, "s09_graceful_drop": 1}  # pictures at least
ERRORS = '[data-mime-type="application/vnd.jupyter.error"]'
OVER = rf"""() => document.querySelector('{ERRORS}') !== null
    || [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')]
        .every(prompt => /\[\d+\]/.test(prompt.textContent))"""
BEGUN = r"""() => [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')]
    .some(prompt => /\[[*\d]/.test(prompt.textContent))"""
SOON = 10_000  # milliseconds for the first cell to begin
MARGIN = 40  # pixels of JupyterLab at the right of a cell
READY = 45_000  # milliseconds for a step to be possible
WITHIN = 100_000  # milliseconds, for JupyterLab to load and for a notebook to end

pytestmark = [needs_browser, pytest.mark.timeout(500)]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab of its own, on a copy of the notebooks, which shows all cells of a page."""
    home = tmp_path_factory.mktemp("lab")
    shutil.copytree(NOTEBOOKS, home / "notebooks", ignore=shutil.ignore_patterns("mine", ".*"))
    tracker = (
        home / "settings" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    )
    tracker.parent.mkdir(parents=True)
    tracker.write_text('{"windowingMode": "none"}')
    folders = {
        "JUPYTER_CONFIG_DIR": home / "config",
        "JUPYTER_DATA_DIR": home / "data",
        "JUPYTER_RUNTIME_DIR": home / "runtime",
        "JUPYTERLAB_SETTINGS_DIR": home / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": home / "workspaces",
        "WORKBENCH_MINE": home / "mine",
    }
    environment = os.environ | {name: str(folder) for name, folder in folders.items()}
    line = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1"]
    line += ["--port=0", "--IdentityProvider.token=", f"--ServerApp.root_dir={home / 'notebooks'}"]
    with (home / "log").open("w") as log:
        process = subprocess.Popen(line, env=environment, stdout=log, stderr=log)
    try:
        yield until(lambda: address(process, home / "log"))
    finally:
        process.terminate()
        process.wait(60)


def address(process, log):
    """Where it listens, as its log says; None as long as it doesn't."""
    text = log.read_text(errors="replace")
    assert process.poll() is None, f"JupyterLab ended before it listened:\n{text}"
    found = re.search(r"(http://127\.0\.0\.1:[1-9]\d*)/lab", text)
    return found and found[1]


def until(condition):
    """Look again until there is something."""
    deadline = time.monotonic() + WITHIN / 1000
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def accept(dialog):
    """Take what a dialogue offers, whenever one is in the way."""
    dialog.locator(".jp-mod-accept").click()


@pytest.fixture
def page():
    """A page of the browser."""
    with browser() as chromium:
        page = chromium.new_page(viewport={"width": 1300, "height": 1000})
        page.set_default_timeout(READY)
        page.add_locator_handler(page.locator(".jp-Dialog"), accept)
        yield page


def test_run_all_ends_without_an_error_and_shows_the_pictures(lab, page):
    for slug, pictures in SHOWN.items():
        while not runs(page, f"{lab}/lab/tree/{slug}.ipynb?reset"):
            pass  # JupyterLab was not ready, or asked for something: a new page, as a user would
        page.wait_for_function(OVER, timeout=WITHIN)
        assert page.locator(ERRORS).all_inner_texts() == [], slug
        assert seen(page) >= pictures, slug


def runs(page, address):
    """Open a notebook, say 'Run All', and tell whether the first cell begins to run."""
    from playwright.sync_api import TimeoutError as TooLate

    with contextlib.suppress(TooLate):
        page.goto(address)
        page.locator(".jp-CodeCell").first.wait_for()
        page.get_by_text("Kernel status: Idle").first.wait_for(state="attached")
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_text("Run All Cells", exact=True).click()
        page.wait_for_function(BEGUN, timeout=SOON)
        return True
    return False


def seen(page):
    """Scroll to each picture, and see that it is large enough and not cut off; count them."""
    shown = page.locator(".jp-RenderedSVG :is(img, svg)").all()
    for picture in shown:
        picture.scroll_into_view_if_needed()
        box = picture.bounding_box()
        assert box["width"] > 300
        assert box["height"] > 100
        assert box["x"] + box["width"] <= page.viewport_size["width"] - MARGIN, "cut off"
    return len(shown)
