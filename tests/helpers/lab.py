"""A JupyterLab of its own for a test, and what a user does there, by way of a browser."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time

from helpers.chromium import browser

from workbench.files import NOTEBOOKS
from workbench.server.reaper import REAPER

ERRORS = '[data-mime-type="application/vnd.jupyter.error"]'
OVER = rf"""() => document.querySelector('{ERRORS}') !== null
    || [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')]
        .every(prompt => /\[\d+\]/.test(prompt.textContent))"""
BEGUN = r"""() => [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')]
    .some(prompt => /\[[*\d]/.test(prompt.textContent))"""
RUN = """([cell, before]) => ![before, '[*]:']
    .includes(cell.querySelector('.jp-InputPrompt').textContent)"""
SOON = 10_000  # milliseconds for the first cell to begin
READY = 45_000  # milliseconds for a step to be possible
WITHIN = 240_000  # milliseconds, for JupyterLab to load and for a notebook to end


@contextlib.contextmanager
def lab(home, *options):
    """Start a JupyterLab on a copy of the notebooks, which shows all cells; lend its address."""
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
    line += ["--ServerApp.disable_check_xsrf=True"]
    with (home / "log").open("w") as log:
        process = subprocess.Popen([*line, *options], env=environment, stdout=log, stderr=log)
    REAPER.watch(process.pid)
    try:
        yield until(lambda: address(process, home / "log"))
    finally:
        process.terminate()
        process.wait(60)
        REAPER.forget(process.pid)


def address(process, log):
    """Where it listens, as its log says; None as long as it doesn't."""
    text = log.read_text(errors="replace")
    assert process.poll() is None, f"JupyterLab ended before it listened:\n{text}"
    found = re.search(r"(http://127\.0\.0\.1:[1-9]\d*\S*)/lab", text)
    return found and found[1]


def until(condition):
    """Look again until there is something."""
    deadline = time.monotonic() + WITHIN / 1000
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


@contextlib.contextmanager
def window():
    """Open a browser of a laptop's size, whose pages share what they have fetched."""
    with browser() as chromium:
        context = chromium.new_context(viewport={"width": 1300, "height": 1000})
        context.set_default_timeout(READY)
        yield context


@contextlib.contextmanager
def tab(context, address):
    """Open a page that takes what a dialogue offers; the kernels of a JupyterLab end with it."""
    with context.new_page() as page:
        accept = page.locator(".jp-Dialog .jp-mod-accept")
        page.add_locator_handler(page.locator(".jp-Dialog"), lambda _: accept.click())
        yield page
    for kernel in context.request.get(f"{address}/api/kernels").json():
        context.request.delete(f"{address}/api/kernels/{kernel['id']}")


def run_all(page, address):
    """Open a notebook and say 'Run All'; return what its cells raised."""
    while not runs(page, f"{address}?reset"):
        pass  # JupyterLab was not ready, or asked for something: a new page, as a user would
    page.wait_for_function(OVER, timeout=WITHIN)
    return page.locator(ERRORS).all_inner_texts()


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


def run(page, cell, text=None):
    """Run a cell, with another text in it if one is given, and wait until it has run."""
    before = cell.locator(".jp-InputPrompt").inner_text()
    cell.locator(".cm-content").click()
    if text:
        page.keyboard.press("ControlOrMeta+a")
        page.keyboard.insert_text(text)
    page.keyboard.press("Control+Enter")
    page.wait_for_function(RUN, arg=[cell.element_handle(), before], timeout=WITHIN)
