"""Tries to change something: what was built on what, whose work is kept, and the picture."""

import pytest
from helpers.pictures import words

from workbench.client.responses import Answer
from workbench.errors import Mistake
from workbench.measure.lost_updates import STYLES, versions


def answer(tag):
    """An answer with the tag of a version, or a refusal."""
    headers = [] if tag is None else [("etag", f'"{tag}"')]
    return Answer(412 if tag is None else 200, "", "1.1", headers, b"", (0, 0))


def tried(*tries):
    """What `versions` takes: for each try the name and two answers."""
    return [(name, answer(known), answer(made)) for name, known, made in tries]


CARELESS = tried(("Ada", 1, 2), ("Bob", 1, 4), ("Carol", 1, 3))
CAREFUL = tried(
    ("Ada", 1, None), ("Ada", 2, None), ("Ada", 3, 4), ("Bob", 1, 2), ("Carol", 1, None)
)
CAREFUL += tried(("Carol", 2, 3))
BOTH = versions({"careless": CARELESS, "careful": CAREFUL})


def test_who_is_built_upon_is_kept_and_who_is_written_over_is_lost():
    careless, careful = BOTH.parts
    assert careless.kept == {"Bob"}
    assert careful.kept == {"Ada", "Bob", "Carol"}


def test_the_work_of_one_who_was_refused_and_gave_up_is_lost():
    [race] = versions({"": tried(("Ada", 1, 2), ("Bob", 1, None))}).parts
    assert [race.outcome(name) for name in race.writers] == ["kept", "lost"]


def test_tags_that_stand_still_do_not_keep_it_busy_for_ever():
    [race] = versions({"": tried(("Ada", 1, 1))}).parts
    assert race.kept == {"Ada"}


def test_the_figures_are_a_line_for_each_writer():
    assert str(BOTH).splitlines() == [
        "careless",
        "Ada    lost  1 → 2",
        "Bob    kept  1 → 4",
        "Carol  lost  1 → 3",
        "",
        "careful",
        "Ada    kept  1 refused, 2 refused, 3 → 4",
        "Bob    kept  1 → 2",
        "Carol  kept  1 refused, 2 → 3",
    ]


def test_the_picture_has_a_bar_for_each_try_from_the_version_known_to_the_one_made():
    careless, careful = BOTH.figure.axes
    assert [(bar.get_x(), bar.get_width()) for bar in careless.patches] == [(1, 1), (1, 3), (1, 2)]
    assert len(careful.patches) == len(CAREFUL)
    assert words(careless.texts) == ["lost", "kept", "lost"]
    assert words(careful.get_yticklabels()) == ["Ada", "Bob", "Carol"]
    assert "<svg" in BOTH._repr_svg_()


def test_what_became_of_a_try_is_seen_in_black_and_white():
    kinds = {one.kind for part in BOTH.parts for one in part.tries}
    assert kinds == set(STYLES)
    assert len({style.get("hatch") for style in STYLES.values()}) == len(STYLES)


@pytest.mark.parametrize(
    ("races", "line"),
    [
        ({}, "needed a race"),
        ({"none": []}, "needed a try to change something in 'none'"),
        ({"": tried(("Ada", None, 2))}, "got 412 for Ada"),
    ],
    ids=["no race", "no try", "nothing seen"],
)
def test_what_cannot_be_drawn_is_one_line(races, line):
    with pytest.raises(Mistake, match=line):
        versions(races)
