"""A form with files, taken apart: its parts, and its picture."""

import pytest
from helpers.pictures import dashed, grey, words

from workbench.errors import Mistake
from workbench.measure.multipart import STYLES, anatomy

TYPE = b"Content-Type: multipart/form-data; boundary=%b\r\n"
HEAD = b"POST / HTTP/1.1\r\n" + TYPE + b"Content-Length: %d\r\n\r\n"
FIELD = b'Content-Disposition: form-data; name="note"\r\n\r\n'
FILE = b'Content-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'


def sent(body, boundary=b"fence"):
    """A request with a form."""
    return HEAD % (boundary, len(body)) + body


def seen(data):
    """What each part is, and its bytes; the request's head is left out."""
    head, *parts = anatomy(data).parts
    assert head.kind == "the request's head"
    return [(part.kind, data[part.start : part.end]) for part in parts]


BODY = b"--fence\r\n" + FIELD + b"hello\r\n--fence\r\n" + FILE + b"one\r\ntwo\r\n"
FORM = sent(BODY + b"\r\n--fence--\r\n")


def test_the_line_end_before_a_boundary_belongs_to_the_boundary():
    assert seen(FORM) == [
        ("boundary", b"--fence\r\n"),
        ("a part's head", FIELD),
        ("content", b"hello"),
        ("boundary", b"\r\n--fence\r\n"),
        ("a part's head", FILE),
        ("content", b"one\r\ntwo\r\n"),
        ("boundary", b"\r\n--fence--\r\n"),
    ]


def test_what_is_around_the_boundaries_is_for_nobody_and_within_a_line_there_is_none():
    body = b"hello\r\n--fence\r\n" + FIELD + b"--fence\r\n --fence\r\n--fence--\r\nbye"
    assert [part for part in seen(sent(body)) if part[0] != "boundary"] == [
        ("for nobody", b"hello"),
        ("a part's head", FIELD),
        ("content", b"--fence\r\n --fence"),
        ("for nobody", b"bye"),
    ]


@pytest.mark.parametrize("boundary", [b'"a b"', b"a+b(c)"], ids=["quoted", "signs of a pattern"])
def test_a_boundary_may_hold_signs(boundary):
    mark = b"--" + boundary.strip(b'"')
    first, last = mark + b"\r\n", b"\r\n" + mark + b"--"
    parts = seen(sent(first + FIELD + last, boundary))
    assert parts == [("boundary", first), ("a part's head", FIELD), ("boundary", last)]


@pytest.mark.parametrize("end", range(FORM.index(b"--fence"), len(FORM), 7))
def test_every_byte_has_its_place_even_in_a_form_that_breaks_off(end):
    parts = anatomy(FORM[:end]).parts
    assert [part.end for part in parts] == [part.start for part in parts[1:]] + [end]


def test_the_picture_has_a_line_where_a_chunk_ends():
    at = FORM.index(b"nce--")
    assert dashed(anatomy(FORM).figure) == []
    assert dashed(anatomy(FORM[:at], FORM[at:]).figure) == [16]


def test_the_picture_shows_every_line_and_names_every_part():
    form = anatomy(FORM)
    said = words(form.figure.axes[0].texts)
    assert str(form).splitlines() == said[-len(form.parts) :]
    assert r"POST / HTTP/1.1\r\n" in said
    assert "content, 5 bytes" in said
    assert "<svg" in form._repr_svg_()


def test_the_parts_in_the_picture_differ_in_black_and_white():
    looks = {(grey(style["facecolor"]), style.get("hatch")) for style, _ in STYLES.values()}
    assert len(looks) == len(STYLES)


def test_long_lines_are_shortened_and_too_many_refused():
    said = words(anatomy(sent(b"--fence\r\n" + FILE + b"a" * 100)).figure.axes[0].texts)
    assert any(text.endswith("a…") for text in said)
    with pytest.raises(Mistake, match="needed no more than 40 lines to draw, got 45"):
        _ = anatomy(sent(b"--fence\r\n" + FIELD + b"a\n" * 38)).figure


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\n\r\n"], ids=["nothing", "no form"])
def test_what_is_no_form_with_files_is_one_line(data):
    with pytest.raises(Mistake, match="needed a form with files"):
        anatomy(data)
