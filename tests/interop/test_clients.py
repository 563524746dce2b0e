"""Clients that people use: each gets through, and uses its connection again.

They are imported where they are used, as every run of the suite reads this file.
"""

import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections import Counter
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest
from helpers.chromium import browser, needs_browser
from suite.clients import until
from suite.requirements import Witness

from workbench.course.catalogue import heirs
from workbench.files import STATIC
from workbench.server.launch import launch

BODY = bytes(range(256)) * 1000
WITHIN = 60  # seconds for whatever must happen
CURL = ["curl", "--disable", "--silent", "--show-error", "--include", "--noproxy", "*"]
LOADS = {"ab": "ab -q -k -n 200 -c 4", "wrk": "wrk -t1 -c4 -d1"}
NGINX = shutil.which("nginx", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin"]))
NGINX_CONF = """
daemon off;
master_process off;
pid pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    upstream stage {{
        server {server.host}:{server.port};
        keepalive 4;
    }}
    server {{
        listen unix:{door};
        location / {{
            proxy_pass http://stage;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_request_buffering {buffering};
        }}
    }}
}}
"""


class Ask(NamedTuple):
    """A request, and what must come back."""

    method: str
    target: str
    answer: bytes
    status: int = 200
    body: bytes = b""
    chunked: bool = False

    @property
    def content(self):
        """The body; a generator if it goes in chunks, None if there is none."""
        if self.chunked:
            return (self.body[at : at + 99_999] for at in range(0, len(self.body), 99_999))
        return self.body or None


def page(name):
    return (STATIC / name).read_bytes()


CONVERSATION = [  # which s11 is the first to hold: chunks and HEAD come there
    Ask("GET", "/", page("hello.html")),
    Ask("GET", "/hello?name=Zoë", json.dumps({"message": "Hello, Zoë!"}).encode()),
    Ask("POST", "/echo", BODY, body=BODY),
    Ask("POST", "/echo", BODY, body=BODY, chunked=True),
    Ask("HEAD", "/", b""),
    Ask("GET", "/nowhere", page("404.html"), status=404),
    Ask("GET", "/about", page("about.html")),
]


def stages_from(first):
    """Say it of a stage and of all that build on it, each of which runs as `server`."""
    slug = "{0.slug}".format
    return pytest.mark.parametrize("server", heirs(first), ids=slug, indirect=True)


def needs(program):
    reason = f"needs {program}, which is not installed here"
    return pytest.mark.skipif(shutil.which(program) is None, reason=reason)


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Whoever waits here does so for a program of another's making."""
    monkeypatch.setattr(Witness, "patience", WITHIN)


@pytest.fixture
def server(request):
    """A stage, which leaves it to its visitors to end a conversation."""
    with launch(request.param, IDLE_SECONDS=60) as running:
        yield running


def carried(server, count):
    """How many requests each connection has carried, once the log holds so many."""

    def numbers():
        return re.findall(r"connection (\d+): [A-Z]+ /", server.log)

    until(lambda: len(numbers()) >= count, f"{count} requests are in the log")
    return Counter(numbers())


def by_curl(url):
    """One command for all: curl uses the connection again for what stands behind `--next`."""
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder, "body")
        body.write_bytes(BODY)
        line, files = [], []
        for ask in CONVERSATION:
            files.append(Path(folder, f"answer-{len(files)}"))
            line += ["--next", *CURL[2:], "--output", files[-1], url + as_ascii(ask)]
            line += ["--head"] if ask.method == "HEAD" else []
            line += ["--data-binary", f"@{body}"] if ask.body else []
            line += ["--header", "Transfer-Encoding: chunked"] if ask.chunked else []
        subprocess.run(CURL[:2] + line[1:], check=True, timeout=WITHIN)
        for file in files:
            head, _, answer = file.read_bytes().partition(b"\r\n\r\n")
            yield int(head.split()[1]), answer


def as_ascii(ask):
    """The target for a client that sends it as it is."""
    return quote(ask.target, safe="/?=")


def by_http_client(url):
    yield from conversation(HTTPConnection(url.removeprefix("http://"), timeout=WITHIN))


def conversation(connection):
    """Say it all over a connection of `http.client`."""
    for ask in CONVERSATION:
        connection.request(ask.method, as_ascii(ask), ask.content)
        response = connection.getresponse()
        yield response.status, response.read()
    connection.close()


def by_requests(url):
    import requests

    with requests.Session() as session:
        session.trust_env = False  # no proxy
        for ask in CONVERSATION:
            response = session.request(ask.method, url + ask.target, data=ask.content)
            yield response.status_code, response.content


def by_httpx(url):
    import httpx

    with httpx.Client(trust_env=False, timeout=WITHIN) as session:
        for ask in CONVERSATION:
            response = session.request(ask.method, url + ask.target, content=ask.content)
            yield response.status_code, response.content


def by_aiohttp(url):
    return asyncio.run(by_aiohttp_in_a_loop(url))


async def by_aiohttp_in_a_loop(url):
    import aiohttp

    answers = []
    async with aiohttp.ClientSession() as session:
        for ask in CONVERSATION:
            how = {"data": ask.body or None, "chunked": ask.chunked or None}
            async with session.request(ask.method, url + ask.target, **how) as response:
                answers.append((response.status, await response.read()))
    return answers


@stages_from("s11")
@pytest.mark.parametrize(
    "client",
    [pytest.param(by_curl, marks=needs("curl")), by_http_client, by_requests, by_httpx, by_aiohttp],
)
def test_a_client_has_every_answer_over_one_connection(server, client):
    is_whole(client(server.url))
    assert [*carried(server, len(CONVERSATION)).values()] == [len(CONVERSATION)]


def is_whole(answers):
    """Hold the answers to what was asked."""
    for ask, (status, answer) in zip(CONVERSATION, answers, strict=True):
        assert status == ask.status, ask.target
        assert answer == ask.answer, ask.target


@needs("curl")
@stages_from("s11")
def test_curl_sends_a_body_once_it_has_been_told_to_continue(server, tmp_path):
    (tmp_path / "body").write_bytes(BODY)
    line = [*CURL, "--header", "Expect: 100-continue", "--expect100-timeout", str(2 * WITHIN)]
    line += ["--data-binary", f"@{tmp_path / 'body'}", f"{server.url}/echo"]
    ended = subprocess.run(line, check=True, timeout=WITHIN, stdout=subprocess.PIPE)
    interim, head, answer = ended.stdout.split(b"\r\n\r\n", 2)
    assert interim == b"HTTP/1.1 100 Continue"
    assert head.startswith(b"HTTP/1.1 200 ")
    assert answer == BODY


@stages_from("s10")
@pytest.mark.parametrize("load", [pytest.param(name, marks=needs(name)) for name in LOADS])
def test_a_load_is_carried_without_an_error(server, load):
    line = [*LOADS[load].split(), f"{server.url}/"]
    report = subprocess.run(line, check=True, timeout=WITHIN, capture_output=True, text=True).stdout
    assert re.search(r"Complete requests: +200\n|[1-9]\d* requests in", report), report
    assert not re.search(r"Failed requests: +[1-9]|Non-2xx|Socket errors", report), report
    connections = carried(server, 20)
    assert len(connections) < connections.total() / 2


@pytest.mark.slow
@needs_browser
@pytest.mark.timeout(300)
def test_a_browser_sees_the_pages_and_has_nothing_to_complain_of():
    with browser() as chromium:
        for known in heirs("s10"):
            with launch(known) as server:
                assert complaints(chromium, server) == [], known.slug
                assert max(carried(server, 4).values()) > 1, known.slug


def complaints(chromium, server):
    """Look around with a browser, and return what its console says and what it cannot fetch."""
    heard = []
    window = chromium.new_page()
    window.set_default_timeout(WITHIN * 1000)
    window.on("console", lambda message: heard.append(message.text))
    window.on("requestfailed", lambda request: heard.append(request.url))
    window.goto(f"{server.url}/about")
    window.get_by_role("link", name="Back").click()
    window.get_by_role("heading", name="¡olé!").wait_for()
    saying = "async () => (await fetch('/echo', {method: 'POST', body: 'Zoë'})).text()"
    assert window.evaluate(saying) == "Zoë"
    server.wait_for("GET /favicon.ico 200", WITHIN)
    window.close()
    return heard


@pytest.mark.skipif(
    not (NGINX and hasattr(socket, "AF_UNIX")),
    reason="needs nginx, which is not installed here, and Unix sockets",
)
@stages_from("s11")
@pytest.mark.parametrize("buffering", ["on", "off"])
def test_nginx_in_front_speaks_to_it_over_one_connection(server, buffering):
    with nginx(server, buffering) as connection:
        is_whole(conversation(connection))
    assert [*carried(server, len(CONVERSATION)).values()] == [len(CONVERSATION)]


@contextmanager
def nginx(server, buffering):
    """Open a connection to an nginx of its own, which hands on to the server what it is asked."""
    connection, visitor = HTTPConnection("nginx"), socket.socket(socket.AF_UNIX)
    visitor.settimeout(WITHIN)
    connection.sock = visitor
    with tempfile.TemporaryDirectory() as folder, visitor:
        door = Path(folder, "door")  # short, as the name of a socket has to be
        conf = NGINX_CONF.format(server=server, door=door, buffering=buffering)
        Path(folder, "conf").write_text(conf, encoding="utf-8")
        line = [NGINX, "-p", folder, "-e", "log", "-c", "conf"]
        with subprocess.Popen(line, stderr=subprocess.PIPE) as process:
            try:
                until(lambda: is_open(visitor, door, process), "nginx listens")
                yield connection
            finally:
                process.terminate()


def is_open(visitor, door, process):
    """Knock, and tell whether it was opened."""
    assert process.poll() is None, f"nginx has ended: {process.stderr.read()}"
    return visitor.connect_ex(str(door)) == 0
