"""The to-do page in a browser: by mouse, by keyboard alone, and when something goes wrong."""

import pytest
from helpers.chromium import WITHIN, complaints, needs_browser

from workbench.course.catalogue import heirs
from workbench.server.launch import launch

CHANGES = {"PUT", "PATCH", "DELETE"}
NAMES = "boxes => boxes.map(box => box.labels[0].innerText.trim())"

pytestmark = [needs_browser, pytest.mark.timeout(300)]


@pytest.fixture(params=heirs("s15"), ids="{0.slug}".format)
def server(request, tmp_path):
    """A stage with a list of its own, which leaves it to the browser to end a conversation."""
    with launch(request.param, DATABASE=tmp_path / "todos.db", IDLE_SECONDS=60) as running:
        yield running


@pytest.fixture
def page(server, chromium, expect):
    """The page with an empty list, for a user of his own; none of its code may fail."""
    failures = []
    with chromium.new_context() as context:
        context.set_default_timeout(WITHIN)
        page = context.new_page()
        page.on("pageerror", lambda error: failures.append(error))
        page.goto(f"{server.url}/todo")
        expect(page.get_by_role("status")).to_have_text("Shown: 0")
        yield page
    assert failures == []


@pytest.fixture
def add(page, expect):
    """Put something on the list, as a user does."""

    def typed(title):
        page.get_by_role("textbox", name="What is to be done?").fill(title)
        page.get_by_role("button", name="Add", exact=True).click()
        expect(page.get_by_role("status")).to_have_text(f"Added: {title}")

    return typed


def box(page, title):
    return page.get_by_role("checkbox", name=title, exact=True)


def button(page, name):
    return page.get_by_role("button", name=name, exact=True)


def shown(page):
    """The titles on the list, from above."""
    return page.get_by_role("list", name="To-dos").get_by_role("checkbox").evaluate_all(NAMES)


def kept(page, server):
    """What the server has: for each to-do its title, and whether it is done."""
    todos = page.request.get(f"{server.url}/todos").json()["todos"]
    return [(todo["title"], todo["done"]) for todo in todos]


def begin(page, title):
    """Begin to edit a title, and return the field."""
    button(page, f"Edit {title}").click()
    return page.get_by_role("textbox", name="Title", exact=True)


def test_what_is_added_ticked_and_edited_is_there_after_a_reload(server, page, add, expect):
    add("milk")
    add("bread")
    box(page, "milk").check()
    expect(page.get_by_role("status")).to_have_text("Saved: milk")
    begin(page, "bread").fill("rye bread")
    button(page, "Save").click()
    expect(page.get_by_role("status")).to_have_text("Saved: rye bread")
    page.reload()
    expect(box(page, "milk")).to_be_checked()
    expect(box(page, "rye bread")).not_to_be_checked()
    assert kept(page, server) == [("milk", True), ("rye bread", False)]


def test_what_is_deleted_is_gone_and_the_row_beside_it_has_the_focus(server, page, add, expect):
    for title in ("one", "two", "three"):
        add(title)
    for title, beside in {"two": "three", "three": "one"}.items():
        button(page, f"Delete {title}").click()
        expect(page.get_by_role("status")).to_have_text(f"Deleted: {title}")
        expect(box(page, beside)).to_be_focused()
    button(page, "Delete one").click()
    expect(page.get_by_text("Nothing is on this list.")).to_be_visible()
    expect(page.get_by_role("textbox", name="What is to be done?")).to_be_focused()
    assert kept(page, server) == []


def test_every_change_says_which_version_it_is_of(page, add, expect):
    sent = []
    page.on("request", lambda request: sent.append((request.method, request.headers)))
    add("milk")
    box(page, "milk").check()
    box(page, "milk").uncheck()
    button(page, "Delete milk").click()
    expect(page.get_by_text("Nothing is on this list.")).to_be_visible()
    changes = [headers.get("if-match") for method, headers in sent if method in CHANGES]
    assert changes == ['"1"', '"2"', '"3"']


def test_a_filter_shows_what_is_open_or_done(page, add, expect):
    for title in ("milk", "bread"):
        add(title)
    page.get_by_role("radio", name="open").check()
    expect(page.get_by_role("status")).to_have_text("Shown: 2")
    box(page, "milk").click()
    expect(box(page, "bread")).to_be_focused()
    assert shown(page) == ["bread"]
    page.get_by_role("radio", name="done").check()
    expect(page.get_by_role("status")).to_have_text("Shown: 1")
    assert shown(page) == ["milk"]
    add("butter")
    assert shown(page) == ["milk"]
    page.get_by_role("radio", name="all").check()
    expect(page.get_by_role("status")).to_have_text("Shown: 3")
    assert shown(page) == ["milk", "bread", "butter"]


def test_a_long_list_goes_on_when_asked(server, page, add, expect):
    for number in range(1, 26):
        page.request.post(f"{server.url}/todos", data={"title": f"{number}"})
    page.reload()
    expect(page.get_by_role("status")).to_have_text("Shown: 20")
    add("the last")
    button(page, "More").click()
    expect(box(page, "21")).to_be_focused()
    assert shown(page) == [*map(str, range(1, 26)), "the last"]
    expect(button(page, "More")).to_be_hidden()


def test_the_keyboard_alone_is_enough(server, page, expect):
    press, status = page.keyboard.press, page.get_by_role("status")

    def focus_by(keys, target):
        for key in keys.split():
            press(key)
        expect(target).to_be_focused()

    focus_by("Tab", page.get_by_role("textbox", name="What is to be done?"))
    page.keyboard.type("milk")
    press("Enter")
    expect(status).to_have_text("Added: milk")
    focus_by("Tab Tab", page.get_by_role("radio", name="all"))
    focus_by("Tab", box(page, "milk"))
    press("Space")
    expect(status).to_have_text("Saved: milk")
    focus_by("Tab", button(page, "Edit milk"))
    title = page.get_by_role("textbox", name="Title", exact=True)
    focus_by("Enter", title)
    page.keyboard.type(" and bread")
    focus_by("Escape", button(page, "Edit milk"))
    focus_by("Enter", title)
    page.keyboard.type(" and honey")
    press("Enter")
    expect(status).to_have_text("Saved: milk and honey")
    expect(button(page, "Edit milk and honey")).to_be_focused()
    assert kept(page, server) == [("milk and honey", True)]
    focus_by("Tab", button(page, "Delete milk and honey"))
    press("Enter")
    expect(page.get_by_text("Nothing is on this list.")).to_be_visible()
    assert kept(page, server) == []


def test_what_the_server_refuses_is_told_in_its_own_words(server, page, add, expect):
    page.get_by_role("textbox", name="What is to be done?").fill(" ")
    button(page, "Add").click()
    expect(page.get_by_role("alert")).to_contain_text("needed a text of 1 to 200 letters")
    add("milk")
    expect(page.get_by_role("alert")).to_be_empty()
    title = begin(page, "milk")
    title.fill("m" * 201)
    title.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("needed a text of 1 to 200 letters")
    expect(title).to_have_value("m" * 201)
    assert kept(page, server) == [("milk", False)]


@pytest.mark.parametrize("what", ["tick", "edit", "delete"])
def test_nobody_overwrites_what_somebody_else_has_changed(server, page, add, expect, what):
    add("milk")
    page.request.patch(f"{server.url}/todos/1", data={"title": "oat milk"})
    if what == "tick":
        box(page, "milk").click()
    elif what == "edit":
        begin(page, "milk").fill("goat milk")
        button(page, "Save").click()
        expect(page.get_by_role("alert")).to_contain_text("You wrote: goat milk")
    else:
        button(page, "Delete milk").click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("another client has changed it")
    expect(alert).to_contain_text("The list has been read again.")
    expect(box(page, "oat milk")).to_be_focused()
    assert shown(page) == ["oat milk"]
    assert kept(page, server) == [("oat milk", False)]


def test_what_somebody_else_has_deleted_goes_from_the_list(server, page, add, expect):
    for title in ("milk", "bread"):
        add(title)
    for number in (1, 2):
        page.request.delete(f"{server.url}/todos/{number}")
    button(page, "Delete milk").click()
    expect(page.get_by_role("status")).to_have_text("Deleted: milk")
    box(page, "bread").click()
    expect(page.get_by_role("alert")).to_contain_text("there is no to-do '2'")
    assert shown(page) == []


def test_a_server_that_cannot_be_reached_is_told(server, page, add, expect):
    add("milk")
    server.stop()
    box(page, "milk").click()
    expect(page.get_by_role("alert")).to_have_text("The server cannot be reached. Is it running?")
    expect(box(page, "milk")).not_to_be_checked()
    page.get_by_role("textbox", name="What is to be done?").fill("bread")
    button(page, "Add").click()
    expect(page.get_by_role("textbox", name="What is to be done?")).to_have_value("bread")
    assert shown(page) == ["milk"]


def test_a_title_is_text_whatever_stands_in_it(page, add, expect):
    title = """<img src=x onerror="document.title = 'broken'"> & '); DROP TABLE todos; --"""
    add(title)
    page.reload()
    expect(box(page, title)).to_be_visible()
    expect(page).to_have_title("To do")
    assert page.locator("img").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_has_nothing_to_complain_of(page, add, expect, scheme):
    page.emulate_media(color_scheme=scheme)
    assert complaints(page) == []
    for title in ("milk", "bread", "butter"):
        add(title)
    box(page, "butter").click()
    expect(page.get_by_role("status")).to_have_text("Saved: butter")
    begin(page, "bread").fill(" ")
    assert complaints(page) == []
    button(page, "Save").click()
    expect(page.get_by_role("alert")).to_contain_text("needed a text")
    assert complaints(page) == []


def test_the_page_asks_nobody_but_its_server(server, page, expect):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    expect(page.get_by_role("status")).to_have_text("Shown: 0")
    assert [url for url in asked if not url.startswith(f"{server.url}/")] == []
