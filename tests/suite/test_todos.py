"""A to-do list by many hands: what was answered is kept, and nobody undoes another's work.

What no test here can see: whether what was confirmed also survives a power failure. All of them
pass with `PRAGMA synchronous = OFF` as well, since what a killed program has written is in the
kernel already. Only a machine that is cut off, or a disk that pretends to be, would tell.
"""

import json
import re
import sqlite3
from contextlib import closing

import pytest
from suite.chance import name, word
from suite.clients import PAUSE, ask, crowd, get, ready
from suite.report import Broken, expect
from suite.requirements import since

JSON = "application/json"
EVERYTHING = "/todos?limit=100"


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    """Where each program of a sentence keeps its list, so that none touches anybody's own."""
    path = tmp_path / "todos.db"
    monkeypatch.setenv("DATABASE", str(path))
    return path


def asked(method, target, data=None, *headers, media=JSON):
    """A request with something as JSON, or with bytes as they are; the connection goes on."""
    line = f"{method} {target} HTTP/1.1"
    if data is None:
        return ask(line, *headers)
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    lines = [f"Content-Type: {media}", f"Content-Length: {len(body)}"]
    return ask(line, *lines, *headers, body=body)


def call(server, *words, **how):
    """Ask on a connection of its own."""
    return server.say(asked(*words, **how), answers=1)


def add(server, title, **more):
    """Put something on the list, and return it as it was answered."""
    return expect(call(server, "POST", "/todos", {"title": title, **more}), 201).json()


def at(todo):
    """Where a to-do is."""
    return f"/todos/{todo['id']}"


def listed(server, target=EVERYTHING, between=lambda: None):
    """All to-dos, from one page to its `next`; something may happen between the pages."""
    found = []
    while target:
        page = expect(call(server, "GET", target), 200).json()
        found += page["todos"]
        if target := page["next"]:
            between()
    return found


def shows(server, todos, target=EVERYTHING):
    """Hold the list to these to-dos, in this order."""
    found = listed(server, target)
    missing = [todo for todo in todos if todo not in found]
    others = [todo for todo in found if todo not in todos]
    needed = f"needed {len(todos)} to-dos, got {len(found)}"
    assert found == todos, f"{needed}; missing: {missing!a:.200}; not wanted: {others!a:.200}"


def titles(todos):
    """What the to-dos say."""
    return [todo["title"] for todo in todos]


def refused(exchange, status, field=None):
    """Hold an answer to a problem as RFC 9457 has it, which names the field; return the answer."""
    answer = expect(exchange, status, headers={"Content-Type": "application/problem+json"})
    told = answer.json()
    named = [error.get("field") for error in told.get("errors", [])]
    good = told.get("status") == status and told.get("title") and told.get("detail")
    if not good or named != ([field] if field else []):
        needed = f"needed status {status}, title, detail, and errors of {field or 'no field'}"
        raise Broken(exchange, needed, answer.span[1] - len(answer.body))
    return answer


def in_turns(visitors, requests):
    """Let each visitor ask the next question as soon as he has his answer; yield the exchanges.

    Whoever has no answer because his connection is gone takes no further part.
    """
    coming, waiting = iter(requests), set()
    for visitor, request in zip(visitors, coming, strict=False):
        visitor.send(request)
        waiting.add(visitor)
    while waiting:
        heard = ready(waiting)
        assert heard, "needed an answer, and nobody has got one"
        for visitor in heard:
            exchange = visitor.read(answers=1)
            yield exchange
            if exchange.answers and (request := next(coming, None)):
                visitor.send(request)
            else:
                waiting.remove(visitor)


def errands(count):
    """So many requests that put something on the list, each something else."""
    what = word()
    return [asked("POST", "/todos", {"title": f"{what} {number}"}) for number in range(count)]


def all_once(todos, count):
    """Hold a list to so many errands, each of them there once."""
    what = todos[0]["title"].split()[0]
    assert sorted(titles(todos)) == sorted(f"{what} {number}" for number in range(count))
    assert len({todo["id"] for todo in todos}) == count, "needed a number of its own for each"


# one visitor


@since("s15")
def test_what_is_put_on_the_list_is_found_where_it_is_said_to_be(server):
    for sent in ({"title": f"buy {word()}"}, {"title": f"call {name()}", "done": True}):
        answer = expect(call(server, "POST", "/todos", sent), 201, headers={"Content-Type": JSON})
        made, etag = answer.json(), answer.header("ETag")
        assert made == {"done": False, "id": made["id"], "version": 1} | sent
        assert answer.header("Location") == at(made)
        assert re.fullmatch('"[^"]+"', etag or ""), f"needed a strong ETag, got {etag}"
        same = {"ETag": etag, "Content-Type": JSON}
        assert expect(call(server, "GET", at(made)), 200, headers=same).json() == made


@since("s15")
def test_the_list_shows_the_oldest_first(server):
    shows(server, [])
    made = [add(server, word()) for _ in range(3)]
    shows(server, made, "/todos")


@since("s15")
def test_put_replaces_a_to_do_as_a_whole(server):
    old = add(server, word(), done=True)
    new = {"title": word(), "done": False}
    answer = expect(call(server, "PUT", at(old), new), 200)
    assert answer.json() == {"id": old["id"], "version": 2} | new
    etag = {"ETag": answer.header("ETag")}
    assert expect(call(server, "GET", at(old)), 200, headers=etag).json() == answer.json()
    refused(call(server, "PUT", at(old), {"title": "half"}), 422, "done")
    refused(call(server, "PUT", at(old), {"done": True}), 422, "title")
    shows(server, [answer.json()])


@since("s15")
def test_patch_changes_what_it_names_and_leaves_the_rest(server):
    todo = add(server, word())
    for media in (JSON, "application/merge-patch+json", "Application/JSON; charset=utf-8"):
        for part in ({"done": True}, {"title": media}, {"title": "b", "done": False}):
            todo |= part | {"version": todo["version"] + 1}
            exchange = call(server, "PATCH", at(todo), part, media=media)
            assert expect(exchange, 200).json() == todo
    shows(server, [todo])


@since("s15")
def test_what_is_deleted_is_gone(server):
    stays, goes = add(server, word()), add(server, word())
    expect(call(server, "DELETE", at(goes)), 204, body=b"")
    refused(call(server, "GET", at(goes)), 404)
    refused(call(server, "DELETE", at(goes)), 404)
    shows(server, [stays])


@since("s15")
def test_the_number_of_what_was_deleted_is_not_given_again(server):
    """An old link, or an old tag, would else mean another to-do."""
    made = [add(server, word()) for _ in range(3)]
    for _ in range(3):
        expect(call(server, "DELETE", at(made[-1])), 204)
        made.append(add(server, "next"))
    assert len({todo["id"] for todo in made}) == len(made)


@since("s15")
def test_the_list_shows_what_is_done_or_what_is_left(server):
    made = [add(server, word(), done=number % 3 == 0) for number in range(10)]
    for spelled, done in (("true", True), ("false", False)):
        wanted = [todo for todo in made if todo["done"] is done]
        shows(server, wanted, f"/todos?done={spelled}")
        shows(server, wanted, f"/todos?done={spelled}&limit=2")


@since("s15")
def test_from_page_to_page_each_is_shown_once(server):
    made = [add(server, word()) for _ in range(23)]
    for limit in (1, 7, 22, 23, 24):
        shows(server, made, f"/todos?limit={limit}")
    shows(server, made[20:], f"/todos?after={made[19]['id']}")
    page = expect(call(server, "GET", "/todos?limit=7"), 200).json()
    assert page["todos"] == made[:7], "needed no more than the limit"


@since("s15")
def test_others_may_add_and_delete_while_somebody_turns_the_pages(server):
    made = [add(server, word()) for _ in range(12)]
    goes, comes = iter(made), []

    def meanwhile():
        expect(call(server, "DELETE", at(next(goes))), 204)
        if len(comes) < 3:
            comes.append(add(server, "new"))

    found = listed(server, "/todos?limit=3", between=meanwhile)
    assert found == made + comes, f"needed {titles(made + comes)}, got {titles(found)}"


WORDS = [
    "'); DROP TABLE todos; --",
    "\" ' ` \\ \\\" '' ;",
    "NUL\0inside",
    "\0",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽",
    "a" * 200,
    "😀" * 200,
    "קנה חלב, שלום \u202eabc\u202c",
    "first\nsecond\r\n\tthird",
    " blanks around ",
    "<script>alert('&amp;')</script>",
    "%s %00 {title} $1 ? :id",
    "007",
    "1e3",
    "null",
    "cafe\u0301 and caf\u00e9",
    "\ufeff\uffff\x7f",
]


@since("s15")
def test_what_is_written_comes_back_as_it_was(server):
    for words in WORDS:
        made = add(server, words)
        assert made["title"] == words
        spelled = json.dumps({"title": words, "done": False}, ensure_ascii=False).encode()
        for method in ("PUT", "PATCH"):
            assert expect(call(server, method, at(made), spelled), 200).json()["title"] == words
    assert titles(listed(server)) == WORDS


# what is wrong


NOT_JSON = [
    b"",
    b" ",
    b"title=a",
    b"{'title': 'a'}",
    b'{"title": "a"',
    b'{"title": "a"} {}',
    b'{"title": "a",}',
    b'{"title": "a\nb"}',
    b'{"title": "\xff"}',
    '{"title": "Zoë"}'.encode("latin-1"),
    b"[" * 100_000,
    b'{"title": ' * 100_000,
    b'{"title": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"title": "a", "done": ' + b"9" * 5000 + b"}",
    '{"title": "a"}'.encode("utf-16"),
    b'\xef\xbb\xbf{"title": "a"}',
    b'{"title": "\xed\xa0\x80"}',
]


@since("s15")
def test_what_is_no_json_is_400(server):
    todo = add(server, "a")
    for body in NOT_JSON:
        for method, target in (("POST", "/todos"), ("PUT", at(todo)), ("PATCH", at(todo))):
            refused(call(server, method, target, body), 400)
    shows(server, [todo])


@since("s15")
def test_a_number_that_no_to_do_has_is_404(server):
    todo = add(server, "a")
    assert expect(call(server, "GET", "/todos/%31"), 200).json() == todo
    for number in (
        *("0", "-1", "+1", "1e3", "1.0", "00001", "01", "1%20", "%2531", "%EF%BC%91", "%C2%B9"),
        *("one", "1/2", "null", "1;2", "2", "9" * 18, "9" * 19, "9" * 5000, str(2**64 + 1)),
    ):
        refused(call(server, "GET", f"/todos/{number}"), 404)
        refused(call(server, "PATCH", f"/todos/{number}", {"done": True}), 404)
        refused(call(server, "PUT", f"/todos/{number}", {"title": "b", "done": True}), 404)
        refused(call(server, "DELETE", f"/todos/{number}"), 404)
    shows(server, [todo])


@since("s15")
def test_a_method_that_the_list_or_a_to_do_does_not_have_is_405(server):
    todo = at(add(server, "a"))
    for target, has, has_not in (
        ("/todos", {"GET", "HEAD", "POST"}, {"PUT", "PATCH", "DELETE"}),
        (todo, {"GET", "HEAD", "PUT", "PATCH", "DELETE"}, {"POST"}),
    ):
        for method in has_not:
            answer = refused(call(server, method, target, {"title": "b", "done": True}), 405)
            allowed = set(re.split(r"\s*,\s*", answer.header("Allow") or ""))
            assert has <= allowed, f"needed {has} in Allow, got {allowed}"
            assert not has_not & allowed


@since("s15", MAX_TODOS=2)
def test_a_full_list_is_409_until_something_is_deleted(server):
    made = [add(server, "a")]
    for title in "bcd":
        made.append(add(server, title))
        refused(call(server, "POST", "/todos", {"title": "too much"}), 409)
        expect(call(server, "PATCH", at(made[0]), {"title": title}), 200)
        expect(call(server, "DELETE", at(made.pop(0))), 204)
    shows(server, made)


@since("s15", WORKERS=9, MAX_TODOS=1, BUSY_SECONDS=60)
def test_a_list_is_not_fuller_than_full_though_many_add_to_it_at_once(server):
    with crowd(server, 8) as clients:
        for _ in range(8):
            for client in clients:
                client.send(asked("POST", "/todos", {"title": word()}))
            exchanges = [client.read(answers=1) for client in clients]
            made = [one.answer.json() for one in exchanges if expect(one).status == 201]
            assert len(made) == 1, f"needed one to-do in a list of one, got {len(made)}"
            for exchange in exchanges:
                if exchange.answer.status != 201:
                    refused(exchange, 409)
            shows(server, made)
            expect(call(server, "DELETE", at(made[0])), 204)


@since("s15")
def test_what_is_not_said_to_be_json_is_415(server):
    todo, whole = add(server, "a"), {"title": "b", "done": True}
    for method, target in (("POST", "/todos"), ("PUT", at(todo)), ("PATCH", at(todo))):
        for media in (
            *("text/plain", "application/x-www-form-urlencoded", "application/jsonx"),
            *("application/problem+json", "text/plain; application/json", "json", ""),
        ):
            refused(call(server, method, target, whole, media=media), 415)
        refused(call(server, method, target), 415)
    shows(server, [todo])


MISFITS = [
    ({"title": None}, "title"),
    ({"title": 1}, "title"),
    ({"title": True}, "title"),
    ({"title": ["a"]}, "title"),
    ({"title": {"a": "b"}}, "title"),
    ({"title": ""}, "title"),
    ({"title": " \t\n\u00a0\u2003"}, "title"),
    ({"title": "a" * 201}, "title"),
    ({"title": "half \ud83d"}, "title"),
    ({"title": "\ude00 half"}, "title"),
    ({"title": "a", "done": None}, "done"),
    ({"title": "a", "done": 1}, "done"),
    ({"title": "a", "done": 0}, "done"),
    ({"title": "a", "done": 1.0}, "done"),
    ({"title": "a", "done": "true"}, "done"),
    ({"title": "a", "done": []}, "done"),
    ({"title": "a", "done": True, "id": 7}, "id"),
    ({"title": "a", "done": True, "version": 7}, "version"),
    ({"title": "a", "done": True, "Title": "b"}, "Title"),
    ({"title": "a", "done": True, "x'; --": None}, "x'; --"),
    ([], None),
    ([{"title": "a"}], None),
    ("title", None),
    (7, None),
    (None, None),
]


@since("s15")
def test_what_does_not_fit_is_422_and_the_field_is_named(server):
    todo = add(server, "a")
    refused(call(server, "POST", "/todos", {}), 422, "title")
    refused(call(server, "POST", "/todos", {"done": True}), 422, "title")
    for sent, field in MISFITS:
        body = b"null" if sent is None else sent
        refused(call(server, "POST", "/todos", body), 422, field)
        refused(call(server, "PATCH", at(todo), body), 422, field)
        whole = {"done": True} | sent if isinstance(sent, dict) else body
        refused(call(server, "PUT", at(todo), whole), 422, field)
    shows(server, [todo])


@since("s15")
def test_a_query_that_does_not_fit_is_422_and_the_field_is_named(server):
    for field, values in {
        "limit": ("0", "-1", "101", "x", "", "1.5", "1e1", "%EF%BC%91", "1%0A", "9" * 5000),
        "after": ("-1", "x", "", "1.5", "9" * 30, "1%20OR%201=1"),
        "done": ("True", "1", "yes", "null", "%FF", "true%27%20OR%201=1"),
    }.items():
        for value in values:
            refused(call(server, "GET", f"/todos?{field}={value}"), 422, field)


# many at once


@since("s15")
def test_who_knows_the_to_do_as_it_is_may_change_it(server):
    todo = add(server, "a")
    etag = expect(call(server, "GET", at(todo)), 200).header("ETag")
    for spelled in ("{}", '"old", {}', 'W/"old" ,\t{} , "older"', "{}", "*"):
        known = f"If-Match: {spelled.format(etag)}"
        answer = expect(call(server, "PATCH", at(todo), {"title": spelled}, known), 200)
        assert answer.header("ETag") not in (None, etag), "needed another ETag after the change"
        etag = answer.header("ETag")
    whole = {"title": "b", "done": True}
    etag = expect(call(server, "PUT", at(todo), whole, f"If-Match: {etag}"), 200).header("ETag")
    expect(call(server, "DELETE", at(todo), None, f"If-Match: {etag}"), 204)


@since("s15")
def test_who_knows_another_to_do_may_not_change_it(server):
    """412, and nothing has happened; a weak tag never matches (RFC 9110 §13.1.1)."""
    todo = add(server, "a")
    old = expect(call(server, "GET", at(todo)), 200).header("ETag")
    answer = expect(call(server, "PATCH", at(todo), {"done": True}), 200)
    new, todo = answer.header("ETag"), answer.json()
    other = expect(call(server, "GET", at(add(server, "other"))), 200).header("ETag")
    for tags in (old, other, f"W/{new}", f'{old}, W/{new}, "x"', new.strip('"'), "", '"*"'):
        for method, sent in (
            ("PUT", {"title": "b", "done": False}),
            ("PATCH", {"title": "b"}),
            ("DELETE", None),
        ):
            refused(call(server, method, at(todo), sent, f"If-Match: {tags}"), 412)
    assert expect(call(server, "GET", at(todo)), 200, headers={"ETag": new}).json() == todo


@since("s15", WORKERS=8)
def test_of_two_who_change_the_same_at_once_one_is_told_so(server):
    place = at(add(server, "a"))
    with crowd(server, 2) as visitors:
        for rounds in range(100):
            known = expect(call(server, "GET", place), 200).header("ETag")
            for number, visitor in enumerate(visitors):
                sent = {"title": f"{rounds} of {number}"}
                visitor.send(asked("PATCH", place, sent, f"If-Match: {known}"))
            exchanges = [visitor.read(answers=1) for visitor in visitors]
            won, lost = sorted(exchanges, key=lambda exchange: expect(exchange).status)
            answer = expect(won, 200)
            refused(lost, 412)
            same = {"ETag": answer.header("ETag")}
            assert expect(call(server, "GET", place), 200, headers=same).json() == answer.json()


@since("s15", WORKERS=9, BUSY_SECONDS=60)
def test_nobody_deletes_what_another_has_just_changed(server):
    """Of those who know the same version and come at once, one has its way; all others are told."""
    with crowd(server, 8) as clients:
        for number in range(12):
            todo = add(server, f"{number}")
            known = f"If-Match: {expect(call(server, 'GET', at(todo)), 200).header('ETag')}"
            change = asked("PATCH", at(todo), {"done": True}, known)
            deletion = asked("DELETE", at(todo), None, known)
            for client, request in zip(clients, [change, deletion] * 4, strict=True):
                client.send(request)
            statuses = sorted(expect(client.read(answers=1)).status for client in clients)
            assert statuses[0] in (200, 204), f"needed one to have its way, got {statuses}"
            assert set(statuses[1:]) <= {404, 412}, f"needed no more than one, got {statuses}"
            there = listed(server, f"/todos?after={todo['id'] - 1}")
            assert len(there) == (statuses[0] == 200), f"after {statuses}, got {there}"


@since("s15", WORKERS=9, BUSY_SECONDS=60)
def test_of_a_thousand_changes_at_once_each_one_counts(server):
    todo = add(server, "a")
    changes = [asked("PATCH", at(todo), {"title": f"{number}"}) for number in range(1000)]
    with crowd(server, 8) as visitors:
        versions = [expect(one, 200).json()["version"] for one in in_turns(visitors, changes)]
    assert sorted(versions) == list(range(2, 1002)), "needed a version for every change"
    assert listed(server)[0]["version"] == 1001


@pytest.mark.slow
@pytest.mark.timeout(240)
@since("s15", WORKERS=8, BUSY_SECONDS=60)
def test_four_thousand_to_dos_from_eight_writers_are_all_there_once(server):
    with crowd(server, 8) as visitors:
        for exchange in in_turns(visitors, errands(4000)):
            expect(exchange, 201)
    all_once(listed(server), 4000)


@since("s15")
def test_what_was_answered_is_there_after_the_program_was_killed(implementation):
    answered = []
    with implementation.start(WORKERS=8, BUSY_SECONDS=60) as server, crowd(server, 8) as visitors:
        for exchange in in_turns(visitors, errands(1000)):
            if exchange.answers and not exchange.answers[0].fault:
                answered.append(expect(exchange, 201).json())
            if len(answered) == 500:
                server.stop(patience=0)
    assert 500 <= len(answered) < 1000, "needed an end in the middle of the load"
    with implementation.start() as server:
        found = listed(server)
        assert len(set(titles(found))) == len(found), "needed each of them once"
        lost = [todo for todo in answered if todo not in found]
        assert not lost, f"needed all that were answered, and {len(lost)} are gone"
        assert add(server, "afterwards")["id"] > max(todo["id"] for todo in found)


@since("s15")
def test_two_servers_may_keep_one_list(implementation):
    patient = {"BUSY_SECONDS": 60}
    with implementation.start(**patient) as one, implementation.start(**patient) as other:
        with crowd(one, 4) as some, crowd(other, 4) as more:
            for exchange in in_turns([*some, *more], errands(400)):
                expect(exchange, 201)
        all_once(listed(one), 400)
        shows(other, listed(one))


# the file


def opened(file):
    """The database, as another program opens it."""
    return closing(sqlite3.connect(file, isolation_level=None))


@since("s15", BUSY_SECONDS=0)
def test_a_database_that_stays_locked_is_503_and_is_read_all_the_same(server, file):
    todo = add(server, "a")
    with opened(file) as other:
        for lock in ("IMMEDIATE", "EXCLUSIVE"):
            other.execute(f"BEGIN {lock}")
            refused(call(server, "POST", "/todos", {"title": "b"}), 503)
            refused(call(server, "PATCH", at(todo), {"done": True}), 503)
            refused(call(server, "DELETE", at(todo)), 503)
            shows(server, [todo])
            other.execute("ROLLBACK")
    made = add(server, "c")
    shows(server, [todo, made])


@since("s15", BUSY_SECONDS=30)
def test_who_writes_waits_for_another_writer_and_nobody_waits_for_him(server, file):
    todo = add(server, "a")
    with opened(file) as other, server.visit() as writer:
        other.execute("BEGIN IMMEDIATE")
        writer.send(asked("POST", "/todos", {"title": "b"}))
        assert not ready([writer], within=PAUSE), "needed him to wait, and he was answered"
        for _ in range(20):  # whichever worker it is
            shows(server, [todo])
        other.execute("COMMIT")
        made = expect(writer.read(answers=1), 201).json()
    shows(server, [todo, made])


@since("s15")
def test_the_list_is_a_file_that_other_programs_can_read_and_write(server, file):
    add(server, "ours")
    words = "<b>theirs</b>\n" + "é\0" * 500
    with opened(file) as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert other.execute("SELECT title, done FROM todos").fetchall() == [("ours", 0)]
        other.execute("INSERT INTO todos (title, done) VALUES (?, 1)", (words,))
    assert titles(listed(server)) == ["ours", words]
    assert titles(listed(server, "/todos?done=true")) == [words]


@since("s15")
def test_a_database_that_cannot_be_used_ends_the_program(implementation, tmp_path):
    (tmp_path / "words.txt").write_text("no database\n" * 1000)
    for place in (tmp_path, tmp_path / "words.txt", tmp_path / "nowhere" / "todos.db"):
        status, words = implementation.refuse(PORT=0, DATABASE=place)
        assert status == 1, f"needed status 1, got {status}"
        assert "DATABASE" in words, "needed the setting's name"
        assert len(words.splitlines()) == 1, f"needed a line, got {words}"
    assert (tmp_path / "words.txt").read_text() == "no database\n" * 1000


@since("s15")
def test_the_list_has_a_page_for_people_and_a_description_for_programs(server):
    expect(server.say(get("/todo")), 200, headers={"Content-Type": "text/html; charset=utf-8"})
    answer = expect(server.say(get("/openapi.json")), 200, headers={"Content-Type": JSON})
    assert answer.json()["openapi"].startswith("3.")
    assert "/todos" in answer.json()["paths"]
