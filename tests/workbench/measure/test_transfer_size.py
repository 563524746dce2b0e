"""The bytes of visits: weighed, drawn, and in figures."""

import pytest
from helpers.pictures import words

from workbench.errors import Mistake
from workbench.measure.transfer_size import STYLES, Weight, Weights, weight
from workbench.server.launch import launch

TWO = Weights(
    (
        Weight("first", "sent", 100, 0),
        Weight("first", "received", 200, 3000),
        Weight("again", "sent", 150, 20),
        Weight("again", "received", 210, 0),
    )
)
POST = b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: test\r\n\r\n"


def test_heads_and_bodies_are_told_apart_in_both_directions():
    with launch("s11") as server:
        posted, both = server.say(POST + b"abcde", answers=1), server.say(HEAD + HEAD, answers=2)
    assert weight({"post": posted, "heads": both}).parts == (
        Weight("post", "sent", len(POST), 5),
        Weight("post", "received", len(posted.received) - 5, 5),
        Weight("heads", "sent", 2 * len(HEAD), 0),
        Weight("heads", "received", len(both.received), 0),
    )


def test_the_picture_has_two_bars_for_a_visit_on_one_scale_and_says_the_figures():
    (axes,) = TWO.figure.axes
    heads, bodies = ([bar.get_width() for bar in bars] for bars in axes.containers)
    assert heads == [100, 200, 150, 210]
    assert bodies == [0, 3000, 20, 0]
    assert [bar.get_x() for bar in axes.containers[1]] == heads
    assert axes.get_xlim()[0] == 0
    assert words(axes.texts) == ["100", "200 + 3,000", "150 + 20", "210"]
    assert axes.get_yticklabels()[1].get_text() == "first, received"
    assert "<svg" in TWO._repr_svg_()


def test_heads_and_bodies_differ_in_black_and_white():
    assert len({style.get("hatch") for style in STYLES.values()}) == len(STYLES)


def test_the_figures_stand_in_a_table():
    heading, *rows = str(TWO).splitlines()
    assert heading.split() == ["bytes", "heads", "bodies", "all"]
    assert rows[1].split() == ["first,", "received", "200", "3,000", "3,200"]
    assert len(rows) == 4


def test_no_visit_is_one_line():
    with pytest.raises(Mistake, match="needed a visit to weigh"):
        weight({})
