"""What servers hold while the same is done to each, and its picture."""

import time

import pytest
from helpers.pictures import words

from workbench.errors import Mistake
from workbench.measure.memory import STYLES, Memories, Memory, memories
from workbench.server.launch import launch
from workbench.server.stats import memory

HELD = Memories(
    (
        Memory("keeps all", ((0.0, 15.0), (0.5, 80.25), (1.0, 20.0))),
        Memory("refuses", ((0.0, 15.0), (0.3, 15.5), (0.6, 15.5))),
    )
)
MUCH = 2**23  # bytes


@pytest.fixture
def server():
    with launch("s06") as running:
        yield running


def test_what_a_server_keeps_is_seen(server):
    def flood(flooded):
        empty = memory(flooded)
        visitor.send(b"GET / HTTP/1.1\r\nX: " + b"a" * MUCH)
        deadline = time.monotonic() + 10
        while memory(flooded) < empty + MUCH / 2:
            assert time.monotonic() < deadline, "the server has not read it"
            time.sleep(0.01)

    with server.visit() as visitor:
        (held,) = memories({"any name": server}, flood).parts
    assert held.title == "any name"
    assert held.most >= held.sizes[0] + MUCH / 2 / 2**20
    times = [moment for moment, _ in held.samples]
    assert times[0] == 0
    assert times == sorted(times)


def test_servers_are_looked_at_one_after_another(server):
    done = []
    with launch("s07") as other:
        pair = memories({"one": server, "other": other}, done.append)
    assert done == [server, other]
    assert [held.title for held in pair.parts] == ["one", "other"]
    assert all(len(held.samples) > 2 for held in pair.parts)


def test_what_the_deed_raises_is_raised(server):
    with pytest.raises(ZeroDivisionError):
        memories({"any": server}, lambda _: 1 / 0)


def test_a_server_that_has_ended_is_one_line(server):
    server.stop()
    with pytest.raises(Mistake, match="s06 A slow route has ended: launch it again"):
        memories({"any": server}, print)


def test_no_server_is_one_line():
    with pytest.raises(Mistake, match="needed a server to look at"):
        memories({}, print)


def test_the_picture_has_a_line_for_each_on_one_scale_from_nothing():
    figure = HELD.figure
    (axes,) = figure.axes
    drawn = [tuple(zip(*line.get_data(), strict=True)) for line in axes.get_lines()]
    assert drawn == [held.samples for held in HELD.parts]
    assert axes.get_ylim()[0] == 0
    assert words(figure.legends[0].texts) == [
        "keeps all: 80 MiB at most",
        "refuses: 16 MiB at most",
    ]
    assert "<svg" in HELD._repr_svg_()


def test_the_lines_differ_in_black_and_white():
    assert len({line for _, line in STYLES}) == len(STYLES)


def test_the_figures_stand_in_a_table():
    heading, kept, refused = str(HELD).splitlines()
    assert heading.split() == ["MiB", "before", "at", "most", "after"]
    assert kept.split() == ["keeps", "all", "15.0", "80.2", "20.0"]
    assert refused.split() == ["refuses", "15.0", "15.5", "15.5"]
