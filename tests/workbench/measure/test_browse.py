"""`browse`: the live page, below a hub's address, on this machine, in VS Code and in Colab."""

import re
import sys
from contextlib import contextmanager
from types import ModuleType

import pytest
from helpers.chromium import needs_browser
from helpers.lab import lab, run_all, tab, window
from helpers.pages import Tags

from workbench.files import STATIC
from workbench.measure.browse import browse
from workbench.server.launch import launch

PAGES = STATIC
BASE = "--ServerApp.base_url=/user/ada/"  # as a hub starts JupyterLab for Ada
WITHOUT = "--ServerApp.jpserver_extensions={'jupyter_server_proxy': False}"
CELLS = """\
from workbench.notebook import browse, launch
server = launch("{stage}", UPLOADS="{kept}", DATABASE="{kept}.db")
browse(server, "{path}")"""


@contextmanager
def browsed(home, address, stage, path):
    """Run a notebook that browses a page of a stage; lend the frame that shows it."""
    import nbformat  # takes seconds to load

    cells = CELLS.format(stage=stage, path=path, kept=(home / "kept").as_posix()).splitlines()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(notebook, home / "notebooks" / "browse.ipynb")
    with window() as chromium, tab(chromium, address) as page:
        assert run_all(page, f"{address}/lab/tree/browse.ipynb") == []
        frame = page.locator("iframe[title^=s]").element_handle().content_frame()
        frame.wait_for_url(f"**{path}")
        yield frame


@pytest.mark.slow
@needs_browser
@pytest.mark.timeout(600)
def test_below_a_hub_the_page_and_all_that_it_leads_to_is_below_the_hubs_address(tmp_path):
    with lab(tmp_path, BASE) as hub, browsed(tmp_path, hub, "s15", "/todo") as frame:
        root = re.fullmatch(rf"({hub}/proxy/\d+/)todo", frame.url)[1]
        assert frame.page.get_by_role("link", name=f"{root}todo").is_visible()
        frame.get_by_role("textbox").first.fill("milk")
        frame.get_by_role("button", name="Add").click()
        frame.get_by_role("checkbox", name="milk").check()
        frame.get_by_text("Saved: milk").wait_for()
        for start in ("todo", "about", "nothing", "no/such/page"):
            frame.goto(root + start)
            frame.get_by_role("link", name="Back").click()
            frame.get_by_role("heading", name="¡olé!").wait_for()
            assert frame.url == root


@pytest.mark.slow
@needs_browser
@pytest.mark.timeout(600)
def test_where_there_is_no_proxy_the_page_is_on_this_machine(tmp_path):
    with lab(tmp_path, WITHOUT) as address, browsed(tmp_path, address, "s15", "/todo") as frame:
        frame.get_by_text("Nothing is on this list.").wait_for()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/todo", frame.url)
        assert not frame.url.startswith(address)


@needs_browser
def test_a_page_that_is_not_jupyterlabs_shows_the_link_alone():
    with launch("s05") as server, window() as chromium, chromium.new_page() as page:
        page.set_content(browse(server, "/about")._html())
        assert page.get_by_role("link").get_attribute("href") == f"{server.url}/about"
        assert page.locator("iframe").is_hidden()
        assert "/about" not in server.log


def test_colab_is_asked_for_its_own_way_to_a_port(monkeypatch):
    asked = []
    google, colab = ModuleType("google"), ModuleType("google.colab")
    colab.output = ModuleType("google.colab.output")
    colab.output.serve_kernel_port_as_iframe = lambda *args, **named: asked.append((args, named))
    monkeypatch.setitem(sys.modules, "google", google)
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    with launch("s05") as server:
        browse(server, "/about", height=200)._ipython_display_()
    assert asked == [((server.port,), {"path": "/about", "height": "200"})]


def test_a_terminal_is_told_where_the_page_is():
    with launch("s05") as server:
        assert repr(browse(server, "/about")) == f"{server.url}/about"


@pytest.mark.parametrize("file", sorted(PAGES.glob("*.html")), ids="{0.name}".format)
def test_no_page_has_a_link_to_the_root_of_its_server(file):
    leads = [
        link
        for tag, attrs in Tags(file.read_text(encoding="utf-8")).tags
        if tag != "base"  # of a page for any path, whose script puts it right
        for name, link in attrs.items()
        if name in ("href", "src", "action")
    ]
    assert leads
    assert not [link for link in leads if link.startswith("/")]
