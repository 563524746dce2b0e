"""Speed, side by side: what the figures mean is held here, and never how great they are."""

import contextlib
import re
import shutil
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from helpers.commands import told, workbench

from workbench.errors import Mistake
from workbench.measure.bench import Benchmark, Round, Row, bench
from workbench.server.launch import DidNotStart, Server, launch

needs_wrk = pytest.mark.skipif(not shutil.which("wrk"), reason="needs wrk, which is not here")
LOADS = [pytest.param("wrk", marks=needs_wrk), "aiohttp"]
ONE_IS_SLOW = [LOADS[0], pytest.param("aiohttp", marks=pytest.mark.slow)]
SHORT = {"rounds": 1, "seconds": 1}
FIGURES = Benchmark(
    "GET / by hand",
    (
        Row("s10 Keep-alive", True, (Round(100, 1, 1.5, 9, 0, 0.02, 20), Round(300, 1, 2.5, 9, 0))),
        Row("127.0.0.1:80", False, (Round(50, 1, 3, 9, 1), Round(90, 1, 3, 1234, 2))),
    ),
)
DIES = """
import os, socket
ANSWER = b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: 0\\r\\n\\r\\n"
listener = socket.create_server(("127.0.0.1", 0))
print("Listening on http://%s:%d" % listener.getsockname(), flush=True)
for _ in range(9):
    with listener.accept()[0] as connection:
        connection.recv(65536)
        connection.sendall(ANSWER)
os._exit(3)
"""


class Counted(BaseHTTPRequestHandler):
    """Counts requests and connections; of those for /half, it fails every second one."""

    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.server.count("connections")

    def do_GET(self):
        number = self.server.count("requests")
        status = 500 if self.path == "/half" and number % 2 == 0 else 200
        keep = self.headers.get("Connection", "keep-alive")
        head = f"HTTP/1.1 {status} Counted\r\nContent-Length: 3\r\nConnection: {keep}\r\n\r\n"
        self.close_connection = keep == "close"
        with contextlib.suppress(OSError):  # who asks last does not wait for the answer
            self.wfile.write(head.encode() + b"yes")


class Counter(ThreadingHTTPServer):
    """A server in this process, which knows what it was asked."""

    daemon_threads = True

    def __init__(self):
        self.lock, self.counts = threading.Lock(), {"connections": 0, "requests": 0}
        super().__init__(("127.0.0.1", 0), Counted)

    def count(self, name):
        with self.lock:
            self.counts[name] += 1
            return self.counts[name]

    def handle_error(self, request, client_address):
        """A load that has had its time leaves in the middle of a talk."""


@pytest.fixture
def counter():
    with Counter() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def measured(counter, **arguments):
    """Run one round; return it, its row, and what the server counted from its beginning on."""
    before = {}
    figures = bench(
        counter.server_address,
        heard=lambda said: before.update(counter.counts),
        **SHORT,
        **arguments,
    )
    [row] = figures.rows
    return row.rounds[0], row, {name: counter.counts[name] - before[name] for name in before}


@pytest.mark.parametrize("load", LOADS)
def test_what_is_counted_is_what_the_server_answered(counter, load):
    one, row, counted = measured(counter, load=load, connections=3)
    assert one.requests > 0
    assert 0 <= counted["requests"] - one.requests <= 2 * 3, "those under way at either end"
    assert counted["connections"] <= 2 * 3
    assert (row.kept, one.errors, one.cpu, one.memory) == (True, 0, None, None)
    assert 0.9 <= one.seconds < 10
    assert 0 < one.p50 <= one.p99


@pytest.mark.parametrize("load", ONE_IS_SLOW)
def test_close_makes_a_connection_for_each_request(counter, load):
    one, row, counted = measured(counter, load=load, close=True)
    assert 0 <= counted["connections"] - one.requests <= 4 * 4
    assert (row.kept, one.errors) == (False, 0)


@pytest.mark.parametrize("load", ONE_IS_SLOW)
def test_answers_that_say_error_are_counted_as_errors(counter, load):
    one, _, _ = measured(counter, load=load, path="/half")
    assert abs(one.errors - one.requests / 2) <= 2 * 4


@pytest.mark.slow
@pytest.mark.parametrize("load", LOADS)
def test_stages_are_measured_in_turn_and_each_round_begins_with_another(load):
    said = []
    figures = bench("s09", "s12", load=load, rounds=2, seconds=1, heard=said.append)
    order = [re.sub(" A graceful drop| Limits", "", words) for words in said]
    assert order == [
        *("warming up: s09", "warming up: s12"),
        *("round 1: s12", "round 1: s09"),
        *("round 2: s09", "round 2: s12"),
    ]
    assert [(row.name, row.kept) for row in figures.rows] == [("s09", False), ("s12", True)]
    for one in [one for row in figures.rows for one in row.rounds]:
        assert one.requests > 0
        assert one.errors == 0
        assert one.cpu > 0
        assert one.memory > 1
    assert figures.ratios(figures.rows[0]) == [1, 1]


@pytest.mark.slow
def test_a_stage_that_runs_already_is_left_alone():
    with launch("s10") as mine:
        figures = bench(mine, "s10", load="aiohttp", **SHORT)
        assert [row.title for row in figures.rows] == [mine.title] * 2
        assert mine.running
        assert mine.log.count("GET /health 200") >= figures.rows[0].rounds[0].requests


@pytest.mark.slow
def test_more_connections_than_workers_end_in_time():
    settings = {"WORKERS": 1, "IDLE_SECONDS": 1}
    figures = bench("s10", load="aiohttp", connections=3, settings=settings, **SHORT)
    assert figures.rows[0].rounds[0].seconds < 10


def test_a_server_that_dies_is_told_in_one_line():
    argv = [sys.executable, "-c", DIES]
    with Server.start(argv, title="a mortal", settings={}) as server:
        with pytest.raises(Mistake, match=r"^needed a server that lasts, got <a mortal .*status 3"):
            bench(server, load="aiohttp", rounds=2, seconds=1)
        with pytest.raises(Mistake, match=r"^\S+: needed an answer, but .* refused"):
            bench(server.address, load="aiohttp")


def test_a_stage_that_does_not_start_says_why_though_its_log_is_thrown_away():
    with pytest.raises(DidNotStart, match="cannot use WORKERS=0"):
        bench("s10", settings={"WORKERS": 0})


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["s5x"], "no stage is called 's5x'"),
        (["s10", "--rounds", "0"], "needed at least 1 round, 1 second and 1 connection, got 0"),
        (["s10", "--path", "health"], "needed a path like /health, got 'health'"),
        (["s10", "--path", "/nope"], "needed an answer below 400 to GET /nope, got 404"),
        (["s10", "--load", "ab"], "needed a load of wrk or aiohttp, got 'ab'"),
        (["s10", "--set", "path"], "needed NAME=VALUE after --set, got 'path'"),
        (["s01"], "s01 Bind and print: needed an answer, but not a byte came"),
        (["127.0.0.1:x"], "needed an address like 127.0.0.1:7878"),
    ],
)
def test_a_slip_is_one_line(words, line):
    status, out, err = workbench("bench", *words)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert line in err


@pytest.mark.slow
def test_without_wrk_the_bundled_load_is_taken_unless_wrk_is_asked_for(monkeypatch, counter):
    monkeypatch.setenv("PATH", "")
    assert bench(counter.server_address, **SHORT).title.startswith("GET /health by aiohttp: ")
    with pytest.raises(Mistake, match=r"^wrk is not installed: use --load aiohttp$"):
        bench(counter.server_address, load="wrk")


def test_nothing_to_measure_is_a_mistake():
    with pytest.raises(Mistake, match="needed the name of a stage or the address of a server"):
        bench()


@pytest.mark.slow
def test_the_command_prints_a_table_and_draws_it(tmp_path):
    picture = tmp_path / "speed.svg"
    words = ["s10", "s12", "--rounds", "1", "--seconds", "1", "--save", picture]
    _, out = told("bench", *words, "--set", "WORKERS=5")
    title, headings, *rows, _, drawn = out.splitlines()
    assert re.fullmatch(r"GET /health by \w+: connections 4, rounds 1 of 1 s", title)
    assert headings.split("  ")[-1].strip() == "errors"
    assert [row.split()[0] for row in rows[::2]] == ["s10", "s12"]
    assert drawn == f"drawn in {picture}"
    assert "<svg" in picture.read_text(encoding="utf-8")


def test_the_table_has_medians_and_what_lies_around_them():
    _, headings, *rows, note = str(FIGURES).splitlines()
    assert re.split("  +", headings.strip())[:3] == ["requests/s", "to the first", "p50 ms"]
    assert [row.split() for row in rows] == [
        ["s10", "200", "1.00", "2.00", "9.00", "200", "20.0", "0"],
        ["100-300", "1.00-1.00", "1.50-2.50", "9.00-9.00", "200-200", "20.0-20.0"],
        ["127.0.0.1:80", "70.0", "0.40", "3.00", "622", "3"],
        ["50.0-90.0", "0.30-0.50", "3.00-3.00", "9.00-1,234"],
    ]
    assert rows[2].index("622") + 2 == rows[0].rindex("9.00") + 3, "blanks keep their columns"
    assert note == "127.0.0.1:80: a new connection for each request"


def test_the_picture_has_a_bar_for_each_server_and_a_dot_for_each_round():
    [axes] = FIGURES.figure.axes
    assert [bar.get_width() for bar in axes.patches] == [200, 70]
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [list(line.get_xdata()) for line in dots] == [[100, 300], [50, 90]]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "s10 Keep-alive",
        "127.0.0.1:80",
    ]
    assert [text.get_text() for text in axes.texts] == [
        "200",
        "70, 0.40 of s10\na new connection each",
    ]
    assert "<svg" in FIGURES._repr_svg_()
