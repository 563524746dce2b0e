"""Who decides what is answered: paths, methods, and handlers that fail."""

import json
import re
from contextlib import suppress
from urllib.parse import quote

from suite import chance
from suite.clients import GET, ask, drive, get, logged, post, until
from suite.report import expect
from suite.requirements import since

JSON = {"Content-Type": "application/json"}


def page(implementation, name):
    """A page of the implementation's own folder."""
    return (implementation.static / name).read_bytes()


@since("s05")
def test_the_about_page_is_another_page(server, implementation):
    expect(server.say(get("/about")), 200, body=page(implementation, "about.html"))


@since("s05")
def test_an_encoded_question_mark_does_not_begin_a_query(server):
    expect(server.say(get("/health%3Fx=1")), 404)


@since("s05")
def test_no_more_than_the_body_is_echoed(server):
    body = post("/echo", b"hello") + b" and more"
    expect(server.say(body), 200, body=b"hello")


@since("s05", new=False, python=True)
def test_an_edited_page_is_shown_soon(implementation, tmp_path):
    program = implementation.copy(tmp_path / "edited")
    with program.start() as server:
        expect(server.say(GET), 200)
        (program.static / "hello.html").write_bytes(b"new")
        until(lambda: server.say(GET).answer.body == b"new", "the edited page is shown")


@since("s05", python=True)
def test_a_handler_may_reject_a_request(implementation):
    script = (
        "def handler(request):\n"
        "    raise stage.HTTPError(403, 'not for you')\n"
        "stage.ROUTES['GET', '/secret'] = handler\n"
        "request = stage.parse_request(b'GET /secret HTTP/1.1\\r\\nHost: a')\n"
        "response = stage.respond(request)\n"
        "print('status', response.status, response.body)"
    )
    words = drive(implementation, script)
    assert "status 403" in words, "needed the status that the handler has chosen"
    assert "not for you" in words, "needed the reason that the handler has given"


@since("s05")
def test_health_is_json(server):
    assert expect(server.say(get("/health")), 200, headers=JSON).json() == {"status": "ok"}


NAMES = {
    "": "world",
    "name=Grace%20Hopper": "Grace Hopper",
    "name=Grace+Hopper": "Grace Hopper",
    "name=Zo%C3%AB": "Zoë",
    "name=%22%7D%2C%7B%22admin%22%3A1": '"},{"admin":1',
    "name=%5C%0A%00": "\\\n\0",
    "name=": "",
    "x=1&name=Ada&name=Bob": "Ada",
}


@since("s05")
def test_hello_greets_by_name_whatever_the_name_is(server):
    somebody = chance.name()
    unknown = {f"name={quote(somebody)}": somebody}
    for query, name in (unknown | NAMES).items():
        body = json.dumps({"message": f"Hello, {name}!"})
        exchange = server.say(get(f"/hello?{query}"))
        answer = expect(exchange, 200, headers=JSON)
        if read(answer.text) != json.loads(body):
            expect(exchange, body=body.encode())


def read(text):
    """What a text means as JSON; None when it is not JSON."""
    with suppress(ValueError):
        return json.loads(text)


@since("s05")
def test_echo_gives_back_every_byte(server):
    body = chance.blob(256) + bytes(range(256)) * 40
    expect(server.say(post("/echo", body)), 200, body=body, ending="closed")


@since("s05")
def test_a_body_may_come_in_pieces(server):
    body = chance.blob(150)
    with server.visit() as visitor:
        visitor.send(post("/echo", body), by=7)
        expect(visitor.read(), 200, body=body)


@since("s05")
def test_header_names_come_in_any_case(server):
    body = chance.word().encode()
    request = post("/echo", body).replace(b"Content-Length", b"cOnTeNT-lENGTH")
    expect(server.say(request), 200, body=body)


@since("s05")
def test_any_other_path_has_the_404_page(server, implementation):
    for path in (f"/{chance.word()}", "/about/", "/ABOUT", "//", "/hello.html", "/../stages"):
        expect(server.say(get(path)), 404, body=page(implementation, "404.html"))


@since("s05")
def test_another_method_has_405_and_is_told_which_are_allowed(server):
    for line, method in [("POST /", "GET"), ("DELETE /health", "GET"), ("PUT /echo", "POST")]:
        request = ask(f"{line} HTTP/1.1", "Connection: close")
        answer = expect(server.say(request), 405, ending="closed")
        allowed = re.split(", *", answer.header("Allow") or "")
        assert method in allowed, f"needed {method} in Allow, got {allowed}"
        assert line.split()[0] not in allowed, f"{line} is refused, and said to be allowed"


@since("s05", until="s11")
def test_a_method_is_written_in_capitals(server):
    expect(server.say(ask("get / HTTP/1.1", "Connection: close")), 405)


@since("s05")
def test_a_path_may_be_percent_encoded(server, implementation):
    expect(server.say(get("/%61bou%74")), 200, body=page(implementation, "about.html"))


@since("s03", new=False)
def test_a_query_does_not_change_the_path(server):
    expect(server.say(get("/?a=1&a=2&b")), 200)


@since("s05")
def test_the_icon_that_a_browser_asks_for_is_there(server):
    answer = expect(server.say(get("/favicon.ico")), 200)
    assert answer.header("Content-Type").startswith("image/")


@since("s05", python=True)
def test_a_handler_that_fails_costs_its_visitor_a_500(implementation, tmp_path):
    program = implementation.copy(tmp_path / "copy")
    (tmp_path / "copy" / "static" / "hello.html").unlink()
    with program.start() as server:
        answer = expect(server.say(GET), 500, ending="closed")
        assert "hello.html" not in answer.text, "a failure's details belong in the log"
        logged(server, "FileNotFoundError")
        expect(server.say(get("/health")), 200)
