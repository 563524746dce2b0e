"""The teacher's page: what passes through its proxy, what it tells, whom it obeys, how it looks."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor

import anyio
import httpx
import psutil
import pytest
from helpers.chromium import WITHIN, complaints, needs_browser
from helpers.commands import WORKBENCH
from helpers.servers import unused
from helpers.stages import source
from suite.clients import until

from workbench.client.client import Visitor, request, say
from workbench.errors import Mistake
from workbench.files import ROOT
from workbench.live.proxy import KEPT, Call, Proxy, clock
from workbench.live.scope import HEADERS, News, scope
from workbench.live.workers import Crew, crew, understood

PAINTED = """() => new Promise(done => setTimeout(  // longer than between two pictures
    () => requestAnimationFrame(() => requestAnimationFrame(done)), 300))"""
GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BYTES = bytes(range(256)) * 4096  # a mebibyte of all there are


# The proxy


def run(coroutine):
    """Run it in a thread of its own: in this one a browser's loop may stand."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def proxied(serve, visit):
    """Let visitors through a proxy to a server, and return the calls of which it told."""

    async def talk():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        told = {}
        async with server, asyncio.timeout(30):
            address = server.sockets[0].getsockname()
            async with Proxy(address, lambda call: told.update({call.number: call})) as proxy:
                await visit(proxy)
                while not all(call.ended for call in told.values()):
                    await asyncio.sleep(0.01)
        return list(told.values())

    return run(talk())


async def echo(reader, writer):
    while data := await reader.read(1000):
        writer.write(data)
        await writer.drain()
    writer.close()


async def answer_to_all_that_is_said(reader, writer):
    writer.write(b"%d bytes" % len(await reader.read()))
    writer.close()


async def say_through(proxy, data):
    """Say it, say that there is no more, and return what comes back."""
    reader, writer = await asyncio.open_connection(*proxy.address)
    writer.write(data)
    writer.write_eof()
    heard = await reader.read()
    writer.close()
    return heard


def test_all_bytes_pass_unchanged_both_ways_and_only_some_are_kept():
    async def visit(proxy):
        assert await say_through(proxy, BYTES) == BYTES

    [call] = proxied(echo, visit)
    assert call.talk.sent == call.talk.received == BYTES[:KEPT]
    assert (call.view()["sent"], call.view()["received"]) == (len(BYTES), len(BYTES))
    assert f"{len(BYTES) - KEPT:,} bytes were not kept" in str(call.talk.segments())


def test_who_says_no_more_still_hears_the_answer():
    async def visit(proxy):
        assert await say_through(proxy, b"four") == b"4 bytes"

    [call] = proxied(answer_to_all_that_is_said, visit)
    assert call.left


def reset(writer):
    linger = b"\1\0\0\0\0\0\0\0" if os.name == "posix" else b"\1\0\0\0"
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


def test_a_reset_by_the_stage_reaches_the_visitor():
    async def break_off(reader, writer):
        await reader.read(1)
        reset(writer)

    async def visit(proxy):
        reader, writer = await asyncio.open_connection(*proxy.address)
        writer.write(GET)
        with pytest.raises(ConnectionError):
            await reader.read()

    [call] = proxied(break_off, visit)
    assert (call.ending, call.failed) == ("reset by the stage", True)


def test_a_reset_by_the_visitor_reaches_the_stage():
    seen = []

    async def listen(reader, writer):
        await reader.readexactly(len(GET))
        seen.append("asked")
        with contextlib.suppress(ConnectionError):
            await reader.read()
            seen.append("no reset")
        seen.append("done")

    async def visit(proxy):
        _, writer = await asyncio.open_connection(*proxy.address)
        writer.write(GET)
        await happened("asked")
        reset(writer)
        await happened("done")

    async def happened(what):
        while what not in seen:
            await asyncio.sleep(0.01)

    [call] = proxied(listen, visit)
    assert seen == ["asked", "done"]
    assert (call.ending, call.failed) == ("reset", False)


def test_where_nobody_listens_the_visitor_is_turned_away():
    async def visit(proxy):
        proxy.server = unused()
        with contextlib.suppress(ConnectionError):
            assert await say_through(proxy, GET) == b""

    [call] = proxied(echo, visit)
    assert (call.ending, call.failed) == ("refused", True)
    assert [phase for phase, _ in call.phases()] == ["failed"]


def test_a_crowd_passes_at_once_and_nobody_gets_what_is_anothers():
    async def visit(proxy):
        words = [b"%d" % number * 1000 for number in range(100)]
        assert await asyncio.gather(*(say_through(proxy, word) for word in words)) == words

    calls = proxied(echo, visit)
    assert [call.number for call in calls] == list(range(1, 101))
    assert len({call.port for call in calls}) == 100


# One connection


def phases(call):
    return [phase for phase, _ in call.phases()]


def test_a_connection_connects_until_accepted_and_waits_once_it_has_asked():
    call = Call(1)
    assert phases(call) == ["connecting"]
    call.accepted = clock()
    assert phases(call) == ["connecting", "asking"]
    for piece in (GET[:10], GET[10:]):
        call.say(piece)
    assert phases(call) == ["connecting", "asking", "waiting"]
    call.hear(ANSWER[:-1])
    assert phases(call)[-1] == "being answered"
    call.hear(ANSWER[-1:])
    assert phases(call)[-1] == "asking"
    call.hear(b"")
    assert (call.ending, call.failed, call.view()["status"]) == ("closed by the stage", False, 200)


def test_who_has_asked_before_he_is_accepted_does_not_ask_again():
    call = Call(1)
    call.say(GET)
    call.accepted = clock()
    assert phases(call) == ["connecting", "waiting"]


def test_of_a_long_conversation_the_last_exchange_is_kept():
    call = Call(1)
    for path in (b"/one", b"/two"):
        call.say(GET.replace(b"/ ", path + b" "))
        call.hear(ANSWER)
    text = "".join(text for _, text in call.talk.segments())
    assert "GET /two HTTP/1.1\\r\\n" in text
    assert "/one" not in text
    assert call.view()["asked"] == "GET /two"


@pytest.mark.parametrize("heard", [b"", ANSWER[:-1]])
def test_who_is_hung_up_on_without_a_whole_answer_was_failed(heard):
    call = Call(1)
    call.say(GET)
    call.hear(heard)
    call.hear(b"")
    assert call.failed
    assert phases(call)[-1] == "failed"


# The threads


def test_a_line_of_the_log_is_understood_from_every_stage():
    line = understood("    959 ms  MainThread      connection 1 from 127.0.0.1:33787")
    assert (line.at, line.thread, line.name, line.port) == (0.959, "MainThread", 1, 33787)
    line = understood("connection 12: 'GET / HTTP/1.1'")
    assert (line.at, line.thread, line.name, line.port) == (None, "MainThread", 12, None)
    assert understood("Listening on http://127.0.0.1:7878") is None


@pytest.mark.parametrize(
    ("stage", "workers", "names"),
    [
        ("s06", None, ["MainThread"]),
        ("s07", None, None),
        ("s08", "2", ["worker-1", "worker-2"]),
        ("s16", None, [f"worker-{number}" for number in (1, 2, 3, 4)]),
    ],
)
def test_the_source_of_a_stage_tells_who_serves(stage, workers, names):
    assert crew(source(stage), workers) == names


def accepted(crew, *numbers):
    """Connections that the stage has accepted, one after the other."""
    calls = []
    for number in numbers:
        call = Call(number)
        call.name, call.accepted = number, clock()
        crew.accept(call, "MainThread", call.accepted)
        calls.append(call)
    return calls


def serving(crew):
    """For each thread the connection that it has now, with a question mark if so assumed."""
    spells = {lane.name: lane.spell for lane in crew.lanes if lane.spell}
    return {name: f"{one.call.number}{'' if one.known else '?'}" for name, one in spells.items()}


def test_a_worker_is_assumed_until_the_log_names_him():
    pool = Crew(["worker-1", "worker-2"])
    one, two, _ = accepted(pool, 1, 2, 3)
    assert serving(pool) == {"worker-1": "1?", "worker-2": "2?"}
    pool.say("worker-2", one, clock())
    assert serving(pool) == {"worker-1": "2?", "worker-2": "1"}
    one.end("closed by the stage")
    pool.settle(clock())
    assert serving(pool) == {"worker-1": "2?", "worker-2": "3?"}
    assert pool.lanes[1].view()["spells"][0][0] == 1
    two.end("closed by the stage")
    pool.settle(clock())
    assert serving(pool) == {"worker-2": "3?"}


def test_the_only_thread_has_finished_with_one_when_it_accepts_another():
    alone = Crew(["MainThread"])
    accepted(alone, 1, 2)
    assert serving(alone) == {"MainThread": "2"}


def test_a_thread_for_each_connection_takes_a_place_that_is_free():
    threads = Crew(None)
    one, _ = accepted(threads, 1, 2)
    one.end("closed by the stage")
    threads.settle(clock())
    accepted(threads, 3)
    assert serving(threads) == {"connection-3": "3", "connection-2": "2"}
    assert len(threads.lanes) == 2


def test_a_visitor_who_resets_keeps_his_worker_until_the_log_speaks_of_him():
    pool = Crew(["worker-1", "worker-2"])
    [call] = accepted(pool, 1)
    call.say(GET)
    call.end("reset")
    pool.settle(clock())
    assert serving(pool) == {"worker-1": "1?"}
    pool.say("worker-1", call, clock())
    pool.settle(clock())
    assert serving(pool) == {}


# What is told


def told(news, last=None):
    """The first event that somebody hears who knows all up to another."""

    return run(anext(news.since(last, anyio.Event())))


def test_news_are_told_from_where_a_page_has_left_off():
    news = News()
    for name in "abab":
        news.tell(name, lambda name=name: {"kind": name})
    event = told(news)
    said = json.loads(event.data)
    assert (said["all"], said["things"]) == (True, [{"kind": "a"}, {"kind": "b"}])
    news.tell("c", lambda: {"kind": "c"})
    said = json.loads(told(news, event.id).data)
    assert (said["all"], said["things"]) == (False, [{"kind": "c"}])
    assert json.loads(told(news, "another.1").data)["all"]


def test_old_news_are_forgotten():
    news = News()
    for number in range(5):
        news.tell(f"call/{number}", lambda number=number: {"number": number})
    news.keep("call/", 2)
    assert [thing["number"] for thing in json.loads(told(news).data)["things"]] == [3, 4]
    news.forget("call/")
    assert json.loads(told(news).data)["things"] == []


# The command


@contextlib.contextmanager
def running(*stages):
    """The command in a process of its own, and the address that it prints first."""
    line = [*WORKBENCH, "scope", *stages, "--no-browser"]
    process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8")
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.send_signal(signal.SIGINT) if os.name == "posix" else process.kill()
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def page_address():
    """The page of two stages, for all tests that leave them as they are."""
    with running("s06", "s08") as (_, url):
        yield url


@pytest.fixture
def lone_address():
    """The page of a stage that no client has visited yet."""
    with running("s06") as (_, url):
        yield url


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send a signal to one program")
def test_ctrl_c_ends_it_with_all_that_it_has_started_even_while_a_page_listens():
    with running("s06") as (process, url):
        family = psutil.Process(process.pid).children(recursive=True)
        with httpx.stream("GET", f"{url}/events") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 0
    until(lambda: not any(one.is_running() for one in family), "nothing is left behind")


def test_a_slip_is_told_in_one_line():
    with pytest.raises(Mistake, match="needed different stages"):
        scope(["s06", "6"])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Mistake, match=f"cannot listen on port {port} .*--port"):
            scope(["s06"], port=port)


# Whom it obeys


def test_the_page_answers_to_its_own_address_only(page_address):
    for host in ("evil.example", "127.0.0.1", "127.0.0.1:1", ""):
        assert httpx.get(page_address, headers={"Host": host}).status_code == 421
    own = httpx.get(
        page_address, headers={"Host": page_address.replace("http://127.0.0.1", "localhost")}
    )
    assert own.status_code == 200


@pytest.mark.parametrize("path", ["/", "/scope.js", "/events", "/calls/0/1"])
def test_nobody_else_may_look(page_address, path):
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert httpx.get(page_address + path, headers=headers).status_code == 403


def test_nobody_else_may_send_visitors(page_address):
    for headers in ({}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
        for path in ("/visit/root", "/dismiss", "/start/0"):
            assert httpx.post(page_address + path, headers=headers).status_code == 403
    own = {"Origin": page_address}
    assert httpx.post(f"{page_address}/dismiss", headers=own).status_code == 202
    same_site = own | {"Sec-Fetch-Site": "same-site"}
    assert httpx.post(f"{page_address}/dismiss", headers=same_site).status_code == 403


def test_what_cannot_be_done_is_refused_in_words(page_address):
    own = {"Origin": page_address}
    for path, status in (
        ("/visit/army", 400),
        ("/visit/sleep?seconds=1e9", 400),
        ("/start/0", 409),
        ("/start/7", 404),
    ):
        answer = httpx.post(page_address + path, headers=own)
        assert answer.status_code == status
        assert answer.text


def test_every_answer_forbids_what_the_page_does_not_need(page_address):
    for headers in ({}, {"Host": "evil.example"}):
        given = httpx.get(page_address, headers=headers).headers
        assert {name: given.get(name) for name in HEADERS} == HEADERS


# In a browser


@pytest.fixture
def opened(chromium, expect):
    """Open a page, of whose code nothing may fail, and which must not ask anybody else."""
    with contextlib.ExitStack() as contexts:
        wrong = []

        def open_page(url, **settings):
            context = contexts.enter_context(chromium.new_context(**settings))
            context.set_default_timeout(WITHIN)
            page = context.new_page()
            page.on("pageerror", lambda error: wrong.append(error))
            page.on("console", lambda said: said.type == "error" and wrong.append(said.text))
            page.on("request", lambda asked: asked.url.startswith(url) or wrong.append(asked))
            page.goto(url)
            expect(page.get_by_role("region").first).to_be_visible()
            return page

        yield open_page
        assert wrong == []


def pane(page, stage):
    return page.get_by_role("region", name=stage)


def rows(page, stage):
    return pane(page, stage).locator(".calls button")


def entrance(page, stage):
    """Where visitors of a stage come in."""
    host, port = (
        pane(page, stage).get_by_role("link").inner_text().removeprefix("http://").split(":")
    )
    return host, int(port)


def send(page, name):
    page.get_by_role("button", name=name).click()


pytestmark = pytest.mark.timeout(300)


@pytest.mark.slow
@needs_browser
def test_two_stages_side_by_side_show_who_waits_after_a_reload_too(opened, expect):
    with running("s06", "s08") as (_, url):
        page = opened(url)
        page.get_by_label("/sleep takes").fill("60")
        send(page, "2 one /sleep")
        expect(rows(page, "s06").filter(has_text="waiting")).to_have_count(1)
        send(page, "3 twenty /")
        for _ in ("now", "after a reload"):
            expect(rows(page, "s08").filter(has_text="200 after")).to_have_count(20)
            expect(rows(page, "s08").filter(has_text="waiting")).to_have_count(1)
            expect(rows(page, "s06").filter(has_text="connecting")).to_have_count(20)
            crowd = "20 connecting, 1 waiting; 1 of 1 threads at work."
            expect(pane(page, "s06")).to_contain_text(crowd)
            expect(pane(page, "s08").locator(".lanes")).to_contain_text("1? /sleep?seconds=60")
            page.reload()
        own = {"Origin": url}
        asked = [httpx.post(f"{url}/visit/sleeps", headers=own).status_code for _ in range(5)]
        assert asked == [202, 202, 202, 429, 429], "a hundred visitors are enough"


@needs_browser
def test_twenty_sleepers_are_all_served_in_the_end(page_address, opened, expect):
    page = opened(page_address)
    page.get_by_label("/sleep takes").fill("0.02")
    page.get_by_label("Show the last").select_option("120")
    send(page, "4 twenty /sleep")
    for stage in ("s06", "s08"):
        served = (
            rows(page, stage).filter(has_text="/sleep?seconds=0.02").filter(has_text="200 after")
        )
        expect(served).to_have_count(20)
        expect(pane(page, stage)).to_contain_text("nobody is there; 0 of")


@needs_browser
def test_a_silent_one_and_a_slow_one_are_seen_to_ask_until_they_are_sent_away(
    page_address, opened, expect
):
    page = opened(page_address)
    send(page, "5 a silent one")
    send(page, "6 a slow-loris")
    asking = rows(page, "s08").filter(has_text="asking")
    expect(asking).to_have_count(2)
    expect(asking.first).to_contain_text("(says nothing)")
    expect(rows(page, "s06").filter(has_text="connecting")).to_have_count(1)
    send(page, "0 all leave")
    expect(asking).to_have_count(0)
    expect(pane(page, "s06")).to_contain_text("nobody is there")


@needs_browser
def test_the_keyboard_alone_is_enough(lone_address, opened, expect):
    page = opened(lone_address)
    press = page.keyboard.press
    page.get_by_role("button", name="1 one /").focus()
    press("Enter")
    press("Enter")
    press("Tab")
    expect(page.get_by_role("button", name="2 one /sleep")).to_be_focused()
    expect(rows(page, "s06").filter(has_text="200 after").nth(1)).to_be_visible()
    expect(pane(page, "s06").locator(".calls [tabindex='0']")).to_have_count(1)
    rows(page, "s06").last.focus()
    press("ArrowUp")
    beside = rows(page, "s06").nth(rows(page, "s06").count() - 2)
    expect(beside).to_be_focused()
    press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("GET / HTTP/1.1\\r\\n")
    expect(dialog).to_contain_text("HTTP/1.1 200 OK\\r\\n")
    press("Escape")
    expect(dialog).to_be_hidden()
    expect(beside).to_be_focused()


@needs_browser
def test_what_came_over_the_wire_is_text_whatever_stands_in_it(page_address, opened, expect):
    page = opened(page_address)
    evil = "<script>document.title='broken'</script><img/src=x/onerror=alert(1)>"
    say(entrance(page, "s08"), f"GET /{evil} HTTP/1.1\r\nHost: x\r\n\r\n{evil}".encode())
    row = rows(page, "s08").filter(has_text=evil[:20])
    expect(row).to_be_visible()
    row.click()
    expect(page.get_by_role("dialog")).to_contain_text(evil)
    assert page.title() == "Scope"
    assert page.locator("section script, section img, dialog script, dialog img").count() == 0


@needs_browser
def test_a_picture_that_is_held_stands_still(page_address, opened, expect):
    page = opened(page_address)
    with Visitor(entrance(page, "s08")) as visitor:
        row = rows(page, "s08").filter(has_text="asking")
        expect(row).to_have_count(1)
        send(page, "hold the picture")
        page.evaluate(PAINTED)
        before = row.inner_text()
        visitor.send(request("/", visitor.address))
        visitor.read()
        page.evaluate(PAINTED)
        assert row.inner_text() == before
        send(page, "hold the picture")
        expect(row).to_have_count(0)


@pytest.mark.slow
@needs_browser
def test_a_stage_that_dies_leaves_its_last_words_and_is_started_again(opened, expect):
    with running("s05") as (process, url):
        page = opened(url)
        send(page, "1 one /")
        expect(rows(page, "s05").first).to_contain_text("200 after")
        for child in psutil.Process(process.pid).children():
            if any("s05_routing" in word for word in child.cmdline()):
                child.kill()
        alert = pane(page, "s05").get_by_role("alert")
        expect(alert).to_contain_text("ended")
        expect(alert).to_contain_text("connection 1: GET / 200")
        alert.get_by_role("button", name="Start it again").press("Enter")
        expect(alert).to_be_hidden()
        expect(rows(page, "s05")).to_have_count(0)
        send(page, "1 one /")
        expect(rows(page, "s05").first).to_contain_text("200 after")


@needs_browser
@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_axe_has_nothing_to_complain_of(page_address, opened, expect, scheme):
    page = opened(page_address, color_scheme=scheme)
    send(page, "1 one /")
    expect(rows(page, "s08").last).to_contain_text("200 after")
    assert complaints(page) == []
    rows(page, "s08").last.click()
    expect(page.get_by_role("dialog")).to_contain_text("200 OK")
    assert complaints(page) == []


@needs_browser
def test_phases_and_threads_differ_without_colour(page_address, opened):
    page = opened(page_address)
    kinds = ["connecting", "asking", "waiting", "answered", "failed", "serving", "assumed"]
    style = "(kind) => { const s = getComputedStyle(document.querySelector(`#legend .${kind}`));"
    style += (
        " return [s.fill.startsWith('url') ? s.fill : 'plain', s.strokeDasharray, s.strokeWidth]; }"
    )
    looks = [tuple(page.evaluate(style, kind)) for kind in kinds]
    assert len(set(looks)) == len(kinds)


@needs_browser
def test_the_page_fits_a_phone(page_address, opened, expect):
    page = opened(page_address, viewport={"width": 360, "height": 740})
    send(page, "1 one /")
    expect(rows(page, "s06").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
