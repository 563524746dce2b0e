"""The page for uploads in a browser that runs no JavaScript: files go in, and come out as sent."""

import re

import pytest
from helpers.chromium import browser, needs_browser

from workbench.course.catalogue import heirs
from workbench.server.launch import launch

FILES = {'ä "b".txt': b"\r\n--\x00" * 1000, "a & <b>.html": b""}


@needs_browser
@pytest.mark.timeout(300)
@pytest.mark.parametrize("known", heirs("s14"), ids="{0.slug}".format)
def test_a_browser_without_javascript_sends_files_and_gets_them_back(known, tmp_path):
    chosen = [
        {"name": name, "mimeType": "text/plain", "buffer": content}
        for name, content in FILES.items()
    ]
    with launch(known, UPLOADS=tmp_path / "kept") as server, browser() as chromium:
        page = chromium.new_page(java_script_enabled=False)
        page.set_default_timeout(60_000)
        page.goto(f"{server.url}/uploads")
        page.get_by_label("Files").set_input_files(chosen)
        page.get_by_role("button", name="Send").click()
        for name, content in FILES.items():
            with page.expect_download() as coming:
                page.get_by_role("link", name=name, exact=True).click()
            assert coming.value.suggested_filename == re.sub('["<>]', "_", name)  # as Windows needs
            assert coming.value.path().read_bytes() == content
        assert page.url == f"{server.url}/uploads"
        assert page.get_by_role("listitem").count() == len(FILES)
