"""The browser that tests look through: Chromium or Chrome, as the system has it."""

import shutil
from contextlib import contextmanager

import pytest

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
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
