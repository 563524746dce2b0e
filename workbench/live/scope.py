"""The teacher's page: running stages in a browser, while the class uses them.

It observes from outside: a proxy in front of each stage, and the stage's own log.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import socket
import threading
import webbrowser
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from itertools import chain, cycle
from pathlib import Path
from typing import Any

import anyio
import uvicorn
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workbench.client.client import Address, request
from workbench.course.catalogue import Lesson, lesson
from workbench.errors import Mistake
from workbench.live.proxy import CALLS, Call, Proxy, clock
from workbench.live.workers import Crew, crew, understood
from workbench.server.launch import LAST_WORDS, launch, stop_all

CLOSING = 0.5  # seconds until a page that nothing is told hears that the scope ends
GLANCE = 0.05  # seconds between two looks at a log, or two pieces of news
LATE = 0.15  # seconds by which a line of a log may come after what it tells of
LOG_LINES = 12  # of a log, that the page shows
LONGEST = 120.0  # seconds that a visitor of ours stays
PACE = 0.5  # seconds between two bytes of a slow one
MOST = 100  # visitors of ours at a stage, at a time
SLOW_HEAD = b"GET / HTTP/1.1\r\n", b"X-Slow: very\r\n"  # the second line over and over
VISITORS = {  # how many, and what they ask for, if anything
    "root": (1, "/"),
    "sleep": (1, "/sleep?seconds={}"),
    "roots": (20, "/"),
    "sleeps": (20, "/sleep?seconds={}"),
    "silent": (1, None),
    "loris": (1, None),
}
ASSETS = {"/": "scope.html", "/scope.js": "scope.js", "/scope.css": "scope.css"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

View = Callable[[], dict[str, Any]]


class News:
    """All that the page shows, in the order in which it last changed, for any number of pages."""

    def __init__(self) -> None:
        self._run, self._number = secrets.token_hex(4), 0
        self._latest: dict[str, tuple[int, View]] = {}
        self._bell = asyncio.Event()

    def tell(self, name: str, view: View) -> None:
        """Say that the thing of this name has changed; it is looked at when it is sent."""
        self._number += 1
        self._latest.pop(name, None)
        self._latest[name] = self._number, view
        self._bell.set()
        self._bell = asyncio.Event()

    def forget(self, prefix: str) -> None:
        """Forget the things whose names begin so."""
        for name in [name for name in self._latest if name.startswith(prefix)]:
            del self._latest[name]

    def keep(self, prefix: str, most: int) -> None:
        """Forget all but the last so many of the things whose names begin so."""
        names = [name for name in self._latest if name.startswith(prefix)]
        for name in names[: max(len(names) - most, 0)]:
            del self._latest[name]

    async def since(self, last: str | None, closing: anyio.Event) -> AsyncIterator[ServerSentEvent]:
        """Yield what has changed since the event of that id, or all that there is; then go on."""
        run, _, number = (last or "").partition(".")
        seen = int(number) if run == self._run and number.isdecimal() else None
        while not closing.is_set():
            if seen != self._number:
                news = {"now": clock(), "all": seen is None, "things": self._things(seen or 0)}
                seen = self._number
                yield ServerSentEvent(json.dumps(news), id=f"{self._run}.{seen}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._bell.wait(), CLOSING)
            await asyncio.sleep(GLANCE)  # what happens together is told together

    def _things(self, seen: int) -> list[dict[str, Any]]:
        return [view() for number, view in self._latest.values() if number > seen]


class Bench:
    """A stage that is watched: its program, the proxy before it, and its crew."""

    def __init__(self, known: Lesson, settings: Mapping[str, str], number: int, news: News) -> None:
        self.lesson, self.settings, self.number, self.news = known, settings, number, news
        self.server = launch(known, **settings)
        self.proxy = Proxy(self.server.address, self._changed)
        self.visitors: set[asyncio.Task[None]] = set()
        self._begin()

    def _begin(self) -> None:
        """Know nothing yet of a program that has just been started."""
        source = self.lesson.path.read_text(encoding="utf-8")
        workers = self.settings.get("WORKERS") or os.environ.get("WORKERS")
        self.crew = Crew(crew(source, workers))
        self.why, self._read, self._ran, self._offset = "", 0, True, float("inf")
        self.news.forget(f"{self.number}/")

    async def watch(self) -> None:
        """Tell all there is, then look at the program and its log again and again."""
        self._tell("stage", self._stage)
        while True:
            self._look()
            await asyncio.sleep(GLANCE)

    def visit(self, kind: str, seconds: float) -> None:
        """Send visitors of a kind."""
        count, path = VISITORS[kind]
        words: Iterable[bytes] = (
            [request(path.format(f"{seconds:g}"), self.proxy.address)] if path else []
        )
        if kind == "loris":
            words = map(bytes, zip(chain(SLOW_HEAD[0], cycle(SLOW_HEAD[1]))))
        for _ in range(count):
            task = asyncio.create_task(_visit(self.proxy.address, words))
            self.visitors.add(task)
            task.add_done_callback(self.visitors.discard)

    def dismiss(self) -> None:
        """Have all visitors of ours leave."""
        for visitor in self.visitors:
            visitor.cancel()

    async def start_again(self) -> None:
        """Start the program once more, if it has ended; the page is told why it did not start."""
        try:
            self.server = await asyncio.to_thread(launch, self.lesson, **self.settings)
        except Mistake as mistake:
            self.why = str(mistake)
        else:
            self.proxy.lead_to(self.server.address)
            self._begin()
        self._tell("stage", self._stage)

    def _tell(self, kind: str, view: View, name: str = "") -> None:
        shown = {"kind": kind, "stage": self.number}
        self.news.tell(f"{self.number}/{kind}{name}", lambda: shown | view())

    def _changed(self, call: Call) -> None:
        self._tell("call", call.view, f"/{call.number}")
        self.news.keep(f"{self.number}/call/", CALLS)

    def _stage(self) -> dict[str, Any]:
        """Return what the page shows of the program."""
        host, port = self.proxy.address
        return {
            "name": self.lesson.short,
            "title": self.lesson.title,
            "pool": self.crew.fixed,
            "url": f"http://{host}:{port}",
            "run": self.server.process.pid,
            "running": self.server.running,
            "state": repr(self.server).strip("<>"),
            "why": self.why or "\n".join(self.server.lines(-LAST_WORDS)),
        }

    def _look(self) -> None:
        """Take in the new lines of the log, and whether the program still runs."""
        if lines := self.server.lines(self._read):
            self._read += len(lines)
            for line in lines:
                self._take_in(line)
            self._tell("log", lambda: {"lines": self.server.lines(-LOG_LINES)})
        self.crew.settle(clock() - LATE)
        for lane in self.crew.lanes:
            if lane.changed():
                self._tell("lane", lane.view, f"/{lane.number}")
        if self._ran != self.server.running:
            self._ran = self.server.running
            self._tell("stage", self._stage)

    def _take_in(self, line: str) -> None:
        """Learn from a line of the log about a connection that came through the proxy."""
        if not (read := understood(line)):
            return
        self._offset = min(self._offset, clock() - (read.at or 0))
        at = clock() if read.at is None else self._offset + read.at
        self.crew.settle(at - LATE)
        if read.port is None:
            if call := self.proxy.named(read.name):
                self.crew.say(read.thread, call, at)
        elif call := self.proxy.came_from(read.port):
            call.name, call.accepted = read.name, max(at, call.started)
            self.crew.accept(call, read.thread, call.accepted)
            self._changed(call)


async def _visit(address: Address, words: Iterable[bytes]) -> None:
    """Say these words one after the other, and listen to the end, for LONGEST at the most."""
    with contextlib.suppress(OSError):
        async with asyncio.timeout(LONGEST):
            reader, writer = await asyncio.open_connection(*address)
            listening = asyncio.create_task(reader.read())
            try:
                for word in words:
                    writer.write(word)
                    if (await asyncio.wait({listening}, timeout=PACE))[0]:
                        break
                await listening
            finally:
                listening.cancel()
                writer.close()


class Guard:
    """Lets in only who asks this page by its own address, and from nowhere but this page.

    A page of another site may not even look; another name that leads here is refused as well.
    """

    def __init__(self, app: ASGIApp, port: int) -> None:
        self.app = app
        self.hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse with a line of text."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                said = {name.lower() for name, _ in message["headers"]}
                headers = (
                    (name.lower().encode(), value.encode()) for name, value in HEADERS.items()
                )
                message["headers"] += [pair for pair in headers if pair[0] not in said]
            await send(message)

        refusal = self._refusal(Request(scope)) if scope["type"] == "http" else None
        await (refusal or self.app)(scope, receive, send_guarded)

    def _refusal(self, asked: Request) -> Response | None:
        """Return what is said to a stranger, or None to a friend."""
        hosts, origin = asked.headers.getlist("host"), asked.headers.get("origin")
        if len(hosts) != 1 or hosts[0] not in self.hosts:
            return PlainTextResponse("this page answers to its own address only\n", 421)
        own = origin == f"http://{hosts[0]}" or (origin is None and asked.method in ("GET", "HEAD"))
        if not own or asked.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return PlainTextResponse("this page obeys nobody but itself\n", 403)
        return None


def application(benches: Sequence[Bench], news: News, port: int) -> Starlette:
    """Make the page's own server, which listens on this port."""

    def bench(asked: Request) -> Bench:
        number = int(asked.path_params["stage"])
        if number >= len(benches):
            raise HTTPException(404)
        return benches[number]

    async def asset(asked: Request) -> Response:
        return FileResponse(Path(__file__).with_name(ASSETS[asked.url.path]))

    async def events(asked: Request) -> Response:
        closing = anyio.Event()
        stream = news.since(asked.headers.get("last-event-id"), closing)
        return EventSourceResponse(stream, shutdown_event=closing, shutdown_grace_period=LONGEST)

    async def conversation(asked: Request) -> Response:
        call = bench(asked).proxy.calls.get(asked.path_params["number"])
        if call is None:
            raise HTTPException(404, "this connection is no longer kept")
        return JSONResponse({"segments": call.talk.segments()})

    async def visit(asked: Request) -> Response:
        kind, seconds = asked.path_params["kind"], asked.query_params.get("seconds", "3")
        if kind not in VISITORS or not re.fullmatch(r"[0-9]{1,2}(\.[0-9]+)?", seconds):
            raise HTTPException(400, "needed a kind of visitor, and seconds below 100")
        if any(len(one.visitors) + VISITORS[kind][0] > MOST for one in benches):
            raise HTTPException(429, f"more than {MOST} visitors of ours would be there at once")
        for one in benches:
            one.visit(kind, float(seconds))
        return Response(status_code=202)

    async def dismiss(_: Request) -> Response:
        for one in benches:
            one.dismiss()
        return Response(status_code=202)

    async def start(asked: Request) -> Response:
        one = bench(asked)
        if one.server.running:
            raise HTTPException(409, f"{one.lesson.short} is running")
        await one.start_again()
        return Response(status_code=202)

    routes = [Route(path, asset) for path in ASSETS]
    routes += [Route("/events", events), Route("/calls/{stage:int}/{number:int}", conversation)]
    routes += [Route("/visit/{kind}", visit, methods=["POST"])]
    routes += [Route("/dismiss", dismiss, methods=["POST"])]
    routes += [Route("/start/{stage:int}", start, methods=["POST"])]
    return Starlette(routes=routes, middleware=[Middleware(Guard, port=port)])


def scope(
    stages: Sequence[str],
    *,
    port: int = 0,
    settings: Mapping[str, str] | None = None,
    browser: bool = True,
) -> None:
    """Start the stages, print the page's address, and show them until Ctrl-C.

    PORT is the page's, 0 for any free one. Raises UnknownStage, DidNotStart, or Mistake for a port
    that is taken and for a stage that is named twice.
    """
    known = list(dict.fromkeys(map(lesson, stages)))
    if len(known) < len(stages):
        raise Mistake("needed different stages, to compare them")
    try:
        listener = socket.create_server(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        raise Mistake(f"cannot listen on port {port} ({error}): set another --port") from error
    try:
        with contextlib.suppress(KeyboardInterrupt), listener:
            asyncio.run(_serve(known, settings or {}, listener, browser=browser))
    finally:
        stop_all()


async def _serve(
    known: Sequence[Lesson], settings: Mapping[str, str], listener: socket.socket, *, browser: bool
) -> None:
    """Keep all going: the proxies, those who watch, and the page."""
    news, port = News(), listener.getsockname()[1]
    benches = [Bench(one, settings, number, news) for number, one in enumerate(known)]
    config = uvicorn.Config(
        application(benches, news, port),
        log_level="warning",
        lifespan="off",
        ws="none",
        proxy_headers=False,
        server_header=False,
    )
    async with contextlib.AsyncExitStack() as doors, asyncio.TaskGroup() as watching:
        for bench in benches:
            await doors.enter_async_context(bench.proxy)
        watchers = [watching.create_task(bench.watch()) for bench in benches]
        url = f"http://127.0.0.1:{port}"
        print(url, flush=True)
        if browser:
            open_page = threading.Thread(target=webbrowser.open, args=(url,), daemon=True)
            open_page.start()
        await uvicorn.Server(config).serve(sockets=[listener])
        for watcher in watchers:
            watcher.cancel()
