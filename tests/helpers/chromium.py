"""The browser that tests look through: Chromium or Chrome, as the system has it."""

import shutil
from contextlib import contextmanager

import pytest

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
WITHIN = 60_000  # milliseconds for whatever must happen
ARGUMENTS = ["--no-sandbox", "--disable-quic", "--disable-background-networking"]

needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="needs Chromium, which is not installed here"
)


@contextmanager
def browser():
    """A browser without a window, which is closed in the end."""
    from playwright.sync_api import sync_playwright  # slow to import, and few have need of it

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def chromium():
    """One browser for all."""
    with browser() as chromium:
        yield chromium


@pytest.fixture
def expect():
    """Playwright's way to look again until something is so."""
    from playwright.sync_api import expect

    expect.set_options(timeout=WITHIN)
    return expect


def complaints(page):
    """What axe finds in a page against the rules of accessibility, and where."""
    from axe_playwright_python.sync_playwright import Axe

    violations = Axe().run(page).response["violations"]
    return [(rule["help"], [node["html"] for node in rule["nodes"]]) for rule in violations]
