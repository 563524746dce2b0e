"""The servers that stages are compared with: each serves the course's page, and ends with bench."""

import os
import sys
import tomllib

import psutil
import pytest
from helpers.commands import told

from workbench.client.client import say
from workbench.errors import Mistake
from workbench.files import ROOT, STATIC
from workbench.measure import bench as measuring
from workbench.measure.bench import bench
from workbench.measure.peers import EXTRA, PEERS, Peer

SHORT = {"rounds": 1, "seconds": 1, "load": "aiohttp"}
PAGE = (STATIC / "hello.html").read_bytes()
OWN = [name for name, peer in PEERS.items() if not peer.modules and not peer.program]
NAMES = [
    pytest.param(
        name,
        marks=[
            *([] if name in OWN else [pytest.mark.slow]),
            pytest.mark.skipif(bool(peer.missing), reason=f"{name}: {peer.missing}"),
        ],
    )
    for name, peer in PEERS.items()
]
GONE = Peer("nowhere", lambda folder: None, ("no_such_server",))
needs_two_cores = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs os.sched_setaffinity and two cores",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_peer_serves_the_page_and_logs_nothing(name, tmp_path):
    with measuring._peer(name, tmp_path) as server:
        for _ in range(2):
            answer = say(
                server, b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
            ).answer
            assert (answer.status, answer.body, answer.fault) == (200, PAGE, None)
            assert answer.header("Content-Length") == str(len(PAGE))
            assert answer.header("Content-Type").startswith("text/html")
        assert server.title.startswith(f"{name} {PEERS[name].version}, ")
        assert "GET" not in server.log
        assert "warn" not in server.log.lower()


@pytest.mark.parametrize("name", NAMES)
def test_a_peer_is_measured_without_an_error_and_ended(name):
    row = bench(peers=[name], **SHORT).rows[0]
    [one] = row.rounds
    assert (row.name, row.errors) == (name, 0)
    assert (one.requests > 0, one.memory > 0.5) == (True, True)
    assert one.cpu >= 0, "0 for a quick server that a slow client hardly asked"
    assert row.kept == (not name.startswith("rust"))
    mine = psutil.Process().children(recursive=True)
    assert not [child for child in mine if name in " ".join(child.cmdline())]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_peer_is_measured_with_a_new_connection_for_each_request(name):
    row = bench(peers=[name], close=True, **SHORT).rows[0]
    assert (row.errors, row.kept) == (0, False)


@pytest.mark.slow
def test_a_peer_stands_beside_a_stage_and_sends_the_same_page():
    figures = bench("s10", peers=["http.server"], **SHORT)
    assert [row.name for row in figures.rows] == ["s10", "http.server"]
    assert figures.notes == (measuring.LOGS,)
    assert len(figures.ratios(figures.rows[1])) == len(figures.cpu_ratios(figures.rows[1])) == 1


def test_a_peer_that_is_not_installed_is_one_line_that_names_the_extra(monkeypatch):
    monkeypatch.setitem(PEERS, "gone", GONE)
    monkeypatch.setitem(PEERS, "absent", Peer("", GONE.serve, program="no-such-program"))
    assert GONE.missing == f"not installed (no_such_server): {EXTRA}"
    reason = rf"^gone left out: {GONE.missing}; absent left out: needs the program no-such-program"
    with pytest.raises(
        Mistake, match=reason.translate({ord(sign): f"\\{sign}" for sign in "()[]"})
    ):
        bench(peers=["gone", "absent"])


@pytest.mark.slow
def test_the_others_are_measured_without_one_that_is_missing(monkeypatch):
    monkeypatch.setitem(PEERS, "gone", GONE)
    status, out = told("bench", "--peers", "http.server,gone", "--rounds", "1", "--seconds", "1")
    assert status == 0
    assert f"gone left out: {GONE.missing}" in out.splitlines()


def test_the_extra_has_what_the_peers_need():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extra = {line.partition(";")[0] for line in project["optional-dependencies"]["bench"]}
    needed = {name for peer in PEERS.values() for name in peer.modules}
    assert needed <= extra | set(project["dependencies"])


def test_a_peer_that_dies_before_it_responds_says_its_last_words():
    argv, reason = (
        [sys.executable, "-c", DIES],
        "^a mortal has ended with status 3: no application$",
    )
    server = measuring.Server.start(argv, title="a mortal", settings={})
    with server, pytest.raises(Mistake, match=reason):
        bench(server, **SHORT)


DIES = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print("Listening on http://%s:%d" % listener.getsockname(), flush=True)
listener.accept()
print("no application", file=sys.stderr, flush=True)
os._exit(3)
"""


@needs_two_cores
@pytest.mark.slow
def test_servers_and_client_are_pinned_to_a_core_each(monkeypatch):
    seen, cores = {}, sorted(os.sched_getaffinity(0))
    measure = measuring._measure

    def looked_at(server, load, seconds):
        seen["server"] = os.sched_getaffinity(server.process.pid)
        with measuring._pinned(load.core):
            seen["client"] = os.sched_getaffinity(0)
        return measure(server, load, seconds)

    monkeypatch.setattr(measuring, "_measure", looked_at)
    figures = bench(peers=["http.server"], pin=True, **SHORT)
    assert seen == {"server": {cores[0]}, "client": {cores[-1]}}
    assert sorted(os.sched_getaffinity(0)) == cores, "this process is not pinned"
    wanted = f"servers are pinned to core {cores[0]}, the client to core {cores[-1]}"
    assert wanted in figures.notes


def test_a_system_that_cannot_pin_says_so(monkeypatch):
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    assert measuring._cores() is None
    [note] = measuring._pinning(None, asked=True)
    assert note == "not pinned: that needs os.sched_setaffinity (Linux) and two cores"
    assert list(measuring._pinning(None, asked=False)) == []
