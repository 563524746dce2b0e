"""The same bytes, two readings: shown, drawn, and slipped past a guard."""

import threading

import pytest
from helpers.pictures import dashed, grey, words
from helpers.stages import mutant

from workbench.client.client import request, say
from workbench.client.responses import messages
from workbench.errors import Mistake
from workbench.measure.naive_proxy import Guard
from workbench.measure.smuggling import WAYS, parting, parts, readings
from workbench.server.launch import launch

HIDDEN = b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n"
BODY = b"0\r\n\r\n" + HIDDEN
HEAD = b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n" % len(BODY)
SMUGGLED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + BODY
HONEST = HEAD + b"\r\n" + BODY
ADA = b"GET /hello?name=Ada HTTP/1.1\r\nHost: test\r\n\r\n"


def seen(data, way):
    """What one reading sees, as (request, head or body, bytes)."""
    return [(part.request, part.kind, data[part.start : part.end]) for part in parts(data, way)]


def drawn(data):
    """The picture of both readings."""
    return readings(data).strips.figure


def test_who_goes_by_content_length_sees_one_request():
    head, _ = SMUGGLED.split(BODY)
    assert seen(SMUGGLED, "Content-Length") == [(1, "head", head), (1, "body", BODY)]


def test_who_goes_by_transfer_encoding_sees_two():
    head, _ = SMUGGLED.split(BODY)
    assert seen(SMUGGLED, "Transfer-Encoding") == [
        (1, "head", head),
        (1, "body", b"0\r\n\r\n"),
        (2, "head", HIDDEN),
    ]


def test_of_two_lengths_the_first_counts_or_the_last():
    head = b"POST / HTTP/1.1\r\nContent-Length: 4\r\ncontent-length:1\r\n\r\n"
    assert seen(head + b"abcd", "Content-Length")[1] == (1, "body", b"abcd")
    assert seen(head + b"abcd", "the last Content-Length")[1] == (1, "body", b"a")


@pytest.mark.parametrize("way", WAYS)
def test_every_byte_has_its_place_in_a_reading(way):
    assert b"".join(data for _, _, data in seen(SMUGGLED, way)) == SMUGGLED
    assert seen(b"", way) == []


@pytest.mark.parametrize(
    "body",
    [
        b"9\r\n0\r\n\r\nabcd\r\n0\r\n\r\n",
        b"A;name=value\r\n0123456789\r\n0\r\n\r\n",
        b"1\r\nx\r\n0\r\nTrailer: yes\r\n\r\n",
        b"0\r\n",
        b"no size\r\n",
    ],
    ids=["an end within a chunk", "an extension", "a trailer", "cut", "nonsense"],
)
def test_a_chunked_body_ends_behind_its_last_chunk_or_with_the_bytes(body):
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert messages(head + body)[0] == (head, body)
    if body.endswith(b"\r\n\r\n"):
        assert messages(head + body + HIDDEN)[1] == (HIDDEN, b"")


def test_two_readings_part_where_the_smuggled_request_begins():
    read = [list(parts(SMUGGLED, way)) for way in ("Content-Length", "Transfer-Encoding")]
    assert parting(*read) == parting(*reversed(read)) == SMUGGLED.index(HIDDEN)
    assert parting(read[0], read[0]) is None
    assert parting(read[0][:1], read[1][2:]) == 0


def test_both_readings_are_shown_with_their_heads_and_bodies():
    shown = readings(SMUGGLED)
    one, two = str(shown).split("who goes by Transfer-Encoding ")
    assert one.startswith("who goes by Content-Length sees 1 request:\n")
    assert two.startswith("sees 2 requests:\n")
    assert f"body, {len(BODY)} bytes" in one
    assert "body, 5 bytes" in two
    assert two.count(r"Host: test\r\n") == 2
    assert shown.__rich__().plain == str(shown)
    assert shown._repr_html_().count("<pre") == 2


def test_a_way_that_is_not_there_is_one_line():
    with pytest.raises(Mistake, match=r"needed a way to read, such as Content-Length, .*; got x"):
        readings(SMUGGLED, "x")


def test_the_picture_says_what_belongs_to_what():
    said = words(drawn(SMUGGLED).axes[0].texts)
    assert said.count(r"GET /health HTTP/1.1\r\n") == 1, "the bytes are there once"
    assert said.count(f"request 1: head, {len(SMUGGLED) - len(BODY)} bytes") == 2
    for part in (f"body, {len(BODY)} bytes", "body, 5 bytes"):
        assert f"request 1: {part}" in said
    assert f"request 2: head, {len(HIDDEN)} bytes" in said
    assert {"by Content-Length", "by Transfer-Encoding"} <= set(said)


def test_the_picture_has_a_line_where_the_readings_part():
    assert dashed(drawn(SMUGGLED)) == [7]
    assert dashed(drawn(HONEST)) == []


def test_neighbours_in_the_picture_differ_in_black_and_white():
    blocks = drawn(HONEST + HONEST).axes[0].patches[:4]
    looks = {(grey(block.get_facecolor()), block.get_hatch()) for block in blocks}
    assert len(looks) == len(blocks)


def test_the_same_bytes_give_the_same_file(tmp_path):
    for name in ("one.svg", "two.svg"):
        readings(SMUGGLED).strips.save(tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_long_lines_are_shortened_and_too_many_refused():
    said = words(drawn(b"GET /" + b"a" * 100 + b" HTTP/1.1\r\n").axes[0].texts)
    assert any(text.endswith("a…") for text in said)
    with pytest.raises(Mistake, match="needed no more than 40 lines to draw, got 41"):
        drawn(b"A: a\r\n" * 41)


def test_a_guard_forbids_a_path_and_lets_the_others_through():
    with launch("s10") as server, Guard(server, "/health") as guard:
        assert say(guard, HIDDEN).answer.status == 403
        assert say(guard, HIDDEN.replace(b"health", b"health?x")).answer.status == 403
        assert say(guard, HONEST).answer.body == BODY
        assert say(guard, ADA).answer.json() == {"message": "Hello, Ada!"}
        server.wait_for("connection 1: GET /hello?name=Ada 200")
    assert guard.seen[0] == "GET /health: forbidden"
    assert guard.seen[2:] == ["POST /echo", "GET /hello?name=Ada"]
    assert "GET /health" not in server.log


def test_a_smuggled_request_passes_him_and_the_next_visitor_gets_its_answer(tmp_path):
    """The server has the fault that prefers chunks to a length."""
    file = tmp_path / "stages" / "s11_strict_requests.py"
    file.parent.mkdir()
    file.write_text(mutant("prefers_chunks").source(), encoding="utf-8")
    with launch("s11", file=file) as server, Guard(server, "/health") as guard:
        assert say(guard, SMUGGLED).answer.status == 200
        assert say(guard, ADA).answer.json() == {"status": "ok"}
        server.wait_for("GET /health 200")
    assert guard.seen == ["POST /echo", "GET /hello?name=Ada"]


def test_a_strict_server_behind_him_refuses_it_and_serves_the_next():
    with launch("s11") as server, Guard(server, "/health") as guard:
        assert say(guard, SMUGGLED).answer.status == 400
        assert say(guard, ADA).answer.json() == {"message": "Hello, Ada!"}
        server.wait_for("connection 2: GET /hello?name=Ada 200")
    assert "GET /health" not in server.log


def test_he_outlives_a_server_that_hangs_up_and_a_visitor_who_leaves_and_no_thread_is_left():
    with launch("s09") as server, Guard(server, "/health") as guard:
        for _ in range(2):
            assert say(guard, request("/about", guard.address)).answer.status == 200
        say(guard, finish=True)
        server.stop()
        assert say(guard, ADA).answers == []
    assert "guard" not in {thread.name for thread in threading.enumerate()}
