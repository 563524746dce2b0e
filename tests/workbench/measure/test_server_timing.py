"""The layers around a handler: read from answers, drawn around each other, and in figures."""

import pytest
from helpers.pictures import words

from workbench.client.responses import Answer
from workbench.errors import Mistake
from workbench.measure.server_timing import CORE, STYLES, Layer, Onion, onion
from workbench.server.launch import launch


def timed(header):
    """An answer with a Server-Timing."""
    return Answer(200, "OK", "1.1", [("Server-Timing", header)], b"", (0, 0))


QUICK = timed("handler;dur=0.25, pack;dur=0.5, log;dur=1")
SLOW = timed("handler;dur=0.25, pack;dur=3.5, log;dur=4.000")


def test_each_layer_is_told_from_what_is_inside_of_it():
    layers = Layer("log", 0.5, 1.0), Layer("pack", 0.25, 0.5), Layer("handler", 0.25, 0.25)
    assert onion({"quick": QUICK}).parts == (Onion("quick", layers),)


def test_a_stage_tells_its_layers_the_outermost_first():
    with launch("s16") as server:
        (part,) = onion({"health": server.get("/health").answer}).parts
    names = [layer.name for layer in part.layers]
    assert (names[0], names[-1], len(names)) == ("access_log", "handler", 5)
    assert sum(layer.own for layer in part.layers) == pytest.approx(part.total)


def test_a_description_may_stand_beside_the_duration():
    header = 'db;desc="a, b;dur=7";dur=1.5, cache ; hit ; dur="2" ; desc="c;dur=9"'
    (part,) = onion({"": timed(header)}).parts
    assert part.layers == (Layer("cache", 0.5, 2.0), Layer("db", 1.5, 1.5))


def test_the_picture_has_a_box_in_a_box_on_one_scale_and_says_the_figures():
    quick, slow = onion({"quick": QUICK, "slow": SLOW}).figure.axes
    assert [box.get_width() for box in quick.patches] == [1.0, 0.5, 0.25]
    assert [box.get_x() for box in slow.patches] == [0.0, 0.25, 1.875]
    for outer, inner in zip(slow.patches, slow.patches[1:], strict=False):
        assert outer.get_y() < inner.get_y()
        assert outer.get_y() + outer.get_height() > inner.get_y() + inner.get_height()
    assert quick.get_xlim() == slow.get_xlim()
    assert words(quick.get_yticklabels()) == ["log", "pack", "handler"]
    (right,) = slow.child_axes
    figures = words(right.get_yticklabels())
    assert figures == ["0.500 ms itself", "3.250 ms itself", "0.250 ms itself"]
    assert "<svg" in onion({"quick": QUICK})._repr_svg_()


def test_neighbours_differ_in_black_and_white():
    looks = [style.get("hatch") or style["facecolor"] for style in (*STYLES, CORE)]
    assert len(set(looks)) == len(looks)


def test_the_figures_stand_in_a_table():
    heading, *rows = str(onion({"quick": QUICK})).splitlines()
    assert heading.split() == ["quick", "ms", "itself", "with", "all", "inside"]
    assert [row.split() for row in rows][:2] == [
        ["log", "0.500", "1.000"],
        ["pack", "0.250", "0.500"],
    ]


def test_what_cannot_be_read_is_one_line():
    bare = Answer(200, "OK", "1.1", [], b"", (0, 0))
    for answers, line in (
        ({}, "needed an answer to draw"),
        ({"bare": bare}, "Server-Timing, and 'bare' has none"),
        ({"": timed("")}, "has none"),
        ({"": timed("handler")}, "such as 'handler;dur=0.5', got 'handler'"),
        ({"": timed("handler;dur=soon")}, "got 'handler;dur=soon'"),
        ({"": timed("handler;dur=2, log;dur=1")}, "needed log to take 2 ms or more"),
    ):
        with pytest.raises(Mistake, match=line):
            onion(answers)
