"""Speed, side by side: what the figures mean is held here, and never how great they are."""

import contextlib
import re
import shutil
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from helpers.commands import told, workbench
from helpers.pictures import words

from workbench.errors import Mistake
from workbench.measure.bench import LOGS, Benchmark, Benchmarks, Round, Row, _logs, bench
from workbench.server.launch import DidNotStart, Server, launch

needs_wrk = pytest.mark.skipif(not shutil.which("wrk"), reason="needs wrk, which is not here")
LOADS = [pytest.param("wrk", marks=needs_wrk), "aiohttp"]
ONE_IS_SLOW = [LOADS[0], pytest.param("aiohttp", marks=pytest.mark.slow)]
SHORT = {"rounds": 1, "seconds": 1}
FIGURES = Benchmark(
    "GET / by hand",
    (
        Row("s10 Keep-alive", True, (Round(100, 1, 1.5, 9, 0, 0.02, 20), Round(300, 1, 2.5, 9, 0))),
        Row("127.0.0.1:80", False, (Round(50, 1, 3, 9, 0), Round(90, 1, 3, 1234, 0))),
    ),
)
WRONG = Row("s12 Limits", True, (Round(999, 1, 1, 1, 0, 1, 1), Round(1, 1, 1, 1, 3, 1, 1)))
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

SILENT = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
print("Listening on http://%s:%d" % listener.getsockname(), flush=True)
held = []
while held.append(listener.accept()[0]) is None:
    for _ in range(2 if len(held) == 1 else 0):
        held[0].recv(65536)
        held[0].sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
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
    one, row, _ = measured(counter, load=load, path="/half")
    assert row.kinds == f" (status {one.errors:,})"
    assert abs(one.errors - one.requests / 2) <= 2 * 4


@pytest.mark.slow
@pytest.mark.parametrize("load", LOADS)
def test_stages_are_measured_in_turn_and_each_round_begins_with_another(load):
    said = []
    figures = bench("s09", "s12", load=load, rounds=2, seconds=1, heard=said.append)
    order = [re.sub(r"(s\d+) .*", r"\1", told) for told in said]
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
        assert mine.log.count("GET / 200") >= figures.rows[0].rounds[0].requests


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
    ("line", "why"),
    [
        (["s5x"], "no stage is called 's5x'"),
        (["s10", "--rounds", "0"], "needed at least 1 round, 1 second and 1 connection, got 0"),
        (["s10", "--path", "health"], "needed a path like /health, got 'health'"),
        (["s10", "--path", "/nope"], "needed 200 for GET /nope, got 404"),
        (["s10", "--load", "ab"], "needed a load of wrk or aiohttp, got 'ab'"),
        (["s10", "--set", "path"], "needed NAME=VALUE after --set, got 'path'"),
        (["s10,WORKERS"], "needed settings like s12,WORKERS=64, got 's10,WORKERS'"),
        (["s10", "--peers", "apache"], "no peer is called 'apache'; there are http.server, "),
        (["s10", "--connections", "4,"], "needed numbers of connections like 4 or 4,64, got '4,'"),
        (["s10", "--baseline", "s12"], "needed a baseline of s10, got 's12'"),
        ([], "needed the name of a stage or the address of a server"),
        (["s01"], "s01 Bind and print: needed an answer, but not a byte came"),
        (["127.0.0.1:x"], "needed an address like 127.0.0.1:7878"),
    ],
)
def test_a_slip_is_one_line(line, why):
    status, out, err = workbench("bench", *line)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert why in err


@pytest.mark.slow
def test_without_wrk_the_bundled_load_is_taken_unless_wrk_is_asked_for(monkeypatch, counter):
    monkeypatch.setenv("PATH", "")
    assert bench(counter.server_address, **SHORT).title.startswith("GET / by aiohttp: ")
    with pytest.raises(Mistake, match=r"^wrk is not installed: use --load aiohttp$"):
        bench(counter.server_address, load="wrk")


def test_nothing_to_measure_is_a_mistake():
    with pytest.raises(Mistake, match="needed the name of a stage or the address of a server"):
        bench()


@pytest.mark.slow
def test_the_command_prints_a_table_and_draws_it(tmp_path):
    picture = tmp_path / "speed.svg"
    line = ["bench", "s10", "s12", "--rounds", "1", "--seconds", "1", "--save", picture]
    _, out = told(*line, "--set", "WORKERS=5")
    title, headings, *rows = out.splitlines()
    assert re.fullmatch(r"GET / by \w+: 4 connections, 1 round of 1 s", title)
    assert headings.split("  ")[-1].strip() == "errors"
    assert [row.split()[0] for row in rows[:4:2]] == ["s10", "s12"]
    assert rows[4] == LOGS
    assert rows[-2].startswith("Machine: ")
    assert rows[-1] == f"drawn in {picture}"
    assert "<svg" in picture.read_text(encoding="utf-8")


def test_the_table_has_medians_and_what_lies_around_them():
    _, headings, *rows, note = str(FIGURES).splitlines()
    assert headings.split()[:5] == ["requests/s", "/", "s10", "CPU", "\u00b5s/request"]
    assert [row.split() for row in rows] == [
        ["s10", "200", "1.00", "200", "1.00", "2.00", "9.00", "20.0", "0"],
        ["100-300", "1.00-1.00", "200-200", "1.00-1.00", "1.50-2.50", "9.00-9.00", "20.0-20.0"],
        ["127.0.0.1:80", "70.0", "0.40", "3.00", "622", "0"],
        ["50.0-90.0", "0.30-0.50", "3.00-3.00", "9.00-1,234"],
    ]
    assert rows[2].index("622") + 2 == rows[0].rindex("9.00") + 3, "blanks keep their columns"
    assert note == "127.0.0.1:80: a new connection for each request"


def test_the_picture_has_a_bar_for_each_server_and_a_dot_for_each_round():
    axes, cpu = FIGURES.figure.axes
    assert [bar.get_width() for bar in axes.patches] == [200, 70]
    assert [bar.get_width() for bar in cpu.patches] == [200]
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [list(line.get_xdata()) for line in dots] == [[100, 300], [50, 90]]
    assert words(axes.get_yticklabels()) == [
        "s10 Keep-alive",
        "127.0.0.1:80",
    ]
    assert words(axes.texts) == [
        "200",
        "70, 0.40 of s10\na new connection each",
    ]
    assert "<svg" in FIGURES._repr_svg_()


def test_the_picture_of_several_has_them_above_each_other():
    axes = Benchmarks((FIGURES, FIGURES)).figure.axes
    assert [len(one.patches) for one in axes] == [2, 1, 2, 1]


def test_a_row_with_errors_has_no_figures():
    figures = Benchmark("by hand", (FIGURES.rows[0], WRONG))
    row, note = str(figures).splitlines()[-2:]
    assert row.split() == ["s12", "no", "figure", "3"]
    assert note == "s12: no figures, as there were errors: 3 in 1,000"
    assert figures.ratios(WRONG) == figures.cpu_ratios(WRONG) == []
    axes, cpu = figures.figure.axes
    assert [words(one.texts) for one in (axes, cpu)] == [["200", "no figure"]] * 2


def test_nothing_is_compared_with_a_baseline_that_had_errors():
    figures = Benchmark("by hand", (FIGURES.rows[0], WRONG), baseline=1)
    assert figures.ratios(figures.rows[0]) == []
    assert figures.figure.axes


def test_ratios_are_taken_round_by_round_from_the_chosen_baseline():
    one = Row("s05 Routing", False, (Round(100, 1, 1, 1, 0, 0.04), Round(200, 1, 1, 1, 0, 0.02)))
    two = Row("s12 Limits", True, (Round(200, 1, 1, 1, 0, 0.02), Round(100, 1, 1, 1, 0, 0.03)))
    figures = Benchmark("by hand", (one, two), baseline=1)
    assert figures.ratios(one) == [0.5, 2]
    assert figures.cpu_ratios(one) == pytest.approx([4, 1 / 3])
    assert figures.headings[:4] == ("requests/s", "/ s12", "CPU \u00b5s/request", "/ s12")


def test_a_client_that_is_busy_all_the_time_is_named():
    row = Row("nginx 1", True, (Round(9, 1, 1, 1, 0, client=0.97),))
    assert "nginx: the client was busy all the time" in str(Benchmark("by hand", (row,)))


@pytest.mark.slow
def test_a_server_that_sends_another_page_is_named(counter):
    figures = bench("s10", counter.server_address, load="aiohttp", **SHORT)
    [note] = [note for note in figures.notes if "another body" in note]
    assert re.fullmatch(
        r"127\.0\.0\.1:\d+ sends another body: 3 bytes, not the \d+ of s10 .*", note
    )


@pytest.mark.slow
def test_a_stage_has_settings_of_its_own_and_a_quiet_log():
    with pytest.raises(DidNotStart, match="cannot use WORKERS=0"):
        bench("s10,WORKERS=0", settings={"WORKERS": 4})
    figures = bench("s10,WORKERS=9", load="aiohttp", **SHORT)
    assert figures.rows[0].name == "s10,WORKERS=9"
    assert "LOG_LEVEL=WARNING" in figures.notes[0]


@pytest.mark.slow
def test_a_server_that_falls_silent_has_no_figure_and_the_others_have_theirs():
    with Server.start([sys.executable, "-c", SILENT], title="mute", settings={}) as server:
        mute, _ = bench(server, "s10", load="aiohttp", connections=3, **SHORT).rows
    assert (mute.errors, mute.kinds) == (3, " (no response 3)")
    assert "no figure" in str(Benchmark("by hand", (mute,)))


def test_a_server_that_leaves_connections_waiting_is_named():
    row = Row("s10 Keep-alive", True, (Round(9, 1, 1, 1, 0, served=0.0625),))
    note = "s10: only 6% of the connections were served, the others waited until the end"
    assert note in str(Benchmark("by hand", (row,))).splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("load", LOADS)
def test_more_connections_than_workers_keep_some_waiting(load):
    few, all_ = bench("s10,WORKERS=1", "s10,WORKERS=8", load=load, connections=8, **SHORT).rows
    assert few.served < 0.5 < all_.served


def test_cpu_time_below_the_clock_of_the_system_is_not_compared():
    row = Row("rust 1", True, (Round(9, 1, 1, 1, 0, cpu=0.0),))
    figures = Benchmark("by hand", (row, FIGURES.rows[0]))
    assert [figures.cpu_ratios(one) for one in figures.rows] == [[], []]


@pytest.mark.parametrize(
    ("servers", "settings", "loud"),
    [
        (["s10", "s12,WORKERS=9"], {}, ""),
        (["s10", "s12_limits,LOG_LEVEL=INFO"], {}, "s12,LOG_LEVEL=INFO"),
        (["s10", "s12,LOG_LEVEL=WARNING"], {"LOG_LEVEL": "INFO"}, "s10"),
        (["s10", ("127.0.0.1", 80)], {}, "127.0.0.1:80"),
    ],
)
def test_a_log_that_is_not_off_is_not_said_to_be(servers, settings, loud):
    assert _logs(servers, settings) == (f"{LOGS}; not switched off for {loud}" if loud else LOGS)
