"""Many visitors at once, and a picture that tells who waited."""

import re

import pytest
from helpers.pictures import grey, words
from helpers.servers import answering, serving, unused
from rich.table import Table

from workbench.errors import Mistake
from workbench.measure.timeline import PHASES, Timeline, Visit, timeline, timelines
from workbench.server.launch import launch

OUTCOMES = Timeline(
    "every outcome",
    (
        Visit("/slow", 0.0, 0.1, 2.0, 2.4, 200, None),
        Visit("/$a$", 0.1, 0.15, 0.152, 0.153, 404, None),
        Visit("/closed", 0.2, None, None, 0.2, None, "refused"),
        Visit("/broken", 0.2, 0.3, 0.9, 1.5, 200, "broken answer"),
        Visit("/" + "long" * 30, 0.2, 0.3, None, 2.6, None, "timeout"),
    ),
)


def written(figure):
    """All that is written in a picture."""
    found = words(figure.legends[0].texts)
    for axes in figure.axes:
        found += [axes.get_title(loc="left"), axes.get_xlabel()]
        found += words((*axes.texts, *axes.get_yticklabels()))
    return found


def test_on_one_at_a_time_the_fast_waits_behind_the_slow():
    with launch("s06") as server:
        slow, fast = timeline(server, ["/sleep?seconds=0.5", "/"]).visits
    assert slow.first_byte >= 0.5
    assert fast.first_byte >= slow.first_byte - 0.05
    assert (slow.status, fast.status, fast.failure) == (200, 200, None)


def test_with_a_thread_each_the_fast_goes_before_the_slow():
    with launch("s07") as server:
        slow, fast = timeline(server, ["/sleep?seconds=2", "/"]).visits
    assert fast.ended < 1 < slow.ended


def test_visitors_come_in_the_order_of_the_list():
    paths = [f"/about?{number}" for number in range(30)]
    with launch("s06") as server:
        visits = timeline(server, paths).visits
        assert [visit.path for visit in visits] == paths
        assert [visit.status for visit in visits] == [200] * 30
        server.wait_for("?29 200")
        order = [int(asked) for asked in re.findall(r"GET /about\?([0-9]+)", server.log)]
    starts = [visit.started for visit in visits]
    assert starts == sorted(starts)
    assert starts[0] == 0
    assert order == list(range(30))


def test_visitors_may_come_one_after_another():
    with launch("s07") as server:
        starts = [visit.started for visit in timeline(server, ["/"] * 4, gap=0.1).visits]
    assert [round(start, 1) >= number / 10 for number, start in enumerate(starts)] == [True] * 4


def test_every_visit_runs_through_its_phases_in_order():
    with launch("s07") as server:
        for visit in timeline(server.address, ["/", "/nope"]).visits:
            assert visit.started <= visit.connected <= visit.first_byte <= visit.ended
            assert [phase for phase, _, _ in visit.phases()] == list(PHASES)[:3]
            assert visit.took == visit.ended - visit.started


def test_two_hundred_visitors_are_served_and_drawn():
    with launch("s08") as server:
        crowd = timeline(server, ["/"] * 200)
    assert [visit.outcome for visit in crowd.visits] == ["200"] * 200
    axes = crowd.figure.axes[0]
    assert len(axes.get_yticks()) <= 11
    assert crowd.figure.get_size_inches()[1] < 10


def test_a_refused_visitor_is_told_apart():
    (visit,) = timeline(unused(), ["/"]).visits
    assert (visit.failure, visit.status, visit.connected) == ("refused", None, None)
    assert [phase for phase, _, _ in visit.phases()] == ["failed"]


def test_a_visitor_who_runs_out_of_time_is_told_apart():
    with launch("s07") as server:
        slow, fast = timeline(server, ["/sleep", "/"], timeout=0.5).visits
    assert (slow.failure, fast.failure) == ("timeout", None)
    assert slow.took >= 0.5


@pytest.mark.parametrize(
    ("answer", "failure", "status"),
    [
        (b"", "no answer", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nless", "broken answer", 200),
        (b"HTTP/1.0 503 Busy\r\n\r\n", None, 503),
    ],
    ids=["nothing", "cut", "an error"],
)
def test_a_bad_answer_is_told_apart_from_an_error_well_told(answer, failure, status):
    with serving(answering(answer)) as address:
        (visit,) = timeline(address, ["/"]).visits
    assert (visit.failure, visit.status) == (failure, status)


def test_a_visitor_may_say_bytes_of_his_own():
    with launch("s07") as server:
        begun, refused, fast = timeline(server, [b"GET /", b"no\r\n\r\n", "/"], timeout=0.5).visits
    assert [begun.path, refused.path, fast.path] == ["GET /", "no", "/"]
    assert [begun.outcome, refused.outcome, fast.outcome] == ["timeout", "400", "200"]


def test_nobody_is_drawn_as_nobody():
    empty = timeline(("127.0.0.1", 1), [], title="nobody")
    assert empty.visits == ()
    assert "nobody" in written(empty.figure)


def test_the_picture_says_all_outcomes():
    from matplotlib.figure import Figure

    figure = OUTCOMES.figure
    assert isinstance(figure, Figure)
    said = written(figure)
    assert "2.40 s" in said
    assert "53 ms, 404" in said
    assert "0 ms, refused" in said
    assert "/$a$  2" in said
    assert any(label.endswith("…  5") for label in said)
    assert set(PHASES) <= set(said)


def test_several_timelines_share_an_axis():
    both = timelines({"before": OUTCOMES, "after": OUTCOMES})
    upper, lower = both.figure.axes
    assert upper.get_xlim() == lower.get_xlim()
    assert {"before", "after"} <= set(written(both.figure))
    assert "before" in str(both)
    assert "<svg" in both._repr_svg_()


def test_the_phases_differ_in_black_and_white():
    looks = {(grey(colour), hatch, grey(edge)) for colour, edge, hatch in PHASES.values()}
    assert len(looks) == len(PHASES)


def test_the_same_figures_give_the_same_file(tmp_path):
    for name in ("one.svg", "two.svg"):
        OUTCOMES.save(tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert "<svg" in OUTCOMES._repr_svg_()
    OUTCOMES.save(str(tmp_path / "one.png"))
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


def test_a_format_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(Mistake, match=r"needed a file \.svg, \.png or \.pdf, got '\.bmp'"):
        OUTCOMES.save(tmp_path / "picture.bmp")


def test_the_table_holds_the_figures():
    assert isinstance(OUTCOMES.table(), Table)
    assert OUTCOMES.table().row_count == 5
    text = str(OUTCOMES)
    assert "every outcome" in text
    for cell in ("0.152", "refused", "broken answer", "404"):
        assert cell in text
