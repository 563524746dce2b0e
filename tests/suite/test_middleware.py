"""What every answer needs: a line in the log, a name, as few bytes as may be, and no secrets."""

import gzip
import re
from itertools import chain, pairwise

import pytest
from suite.clients import GET, HALF, REST, TEXT, ask, crowd, fetch, get, logged, until
from suite.report import Broken, expect, expect_each
from suite.requirements import since

GZIP = "Accept-Encoding: gzip"
HTML = "Accept: text/html,application/xhtml+xml,*/*;q=0.8"
ITS_OWN = {"date", "x-request-id", "server-timing"}  # what each answer says anew

# A line of the Combined Log Format; in quotation marks is ASCII, with all that could harm escaped.
QUOTED = r'"((?:[ !#-\[\]-~]|\\(?:x[0-9A-Fa-f]{2}|["\\abfnrtv]))*)"'
WHEN = r"[0-3][0-9]/[A-Z][a-z]{2}/[0-9]{4}(?::[0-9]{2}){3} [+-][0-9]{4}"
LINE = re.compile(
    rf"127\.0\.0\.1 - - \[{WHEN}\] {QUOTED} ([1-5][0-9]{{2}}) ([1-9][0-9]*|-) {QUOTED} {QUOTED}"
)


@pytest.fixture
def files(implementation, tmp_path):
    """The program, serving a folder with a text, and with files of other sizes and kinds."""
    served = tmp_path / "served"
    served.mkdir()
    (served / "text.txt").write_bytes(TEXT)
    (served / "empty.txt").write_bytes(b"")
    (served / "picture.png").write_bytes(TEXT)
    for size in (499, 500, 2**20, 2**20 + 1):
        (served / f"{size}.txt").write_bytes(bytes(size))
    with implementation.start(DOCUMENT_ROOT=served) as server:
        yield server


def book(server, count):
    """Wait until so many lines are in the access log, and take them apart; there are no more."""
    expect(server.say(get("/health", "User-Agent: the last")), 200)  # what came before is written
    logged(server, '"the last"$')

    def lines():
        return [line for line in server.log.splitlines() if " - - [" in line]

    until(lambda: len(lines()) > count, f"{count} lines in the access log")
    found = [line for line in lines() if not line.endswith('"the last"')]
    broken = [line for line in found if not LINE.fullmatch(line)]
    assert not broken, f"needed the Combined Log Format, got {broken[0]}"
    assert len(found) == count, f"needed {count} lines, one for each answer, got {len(found)}"
    return [LINE.fullmatch(line).groups() for line in found]


def unescaped(text):
    r"""What was sent, of a text in which letters are written as \x22 or as \"."""
    return text.encode("ascii").decode("unicode_escape")


def unpacked(exchange):
    """The body of an answer as it is without gzip."""
    answer = expect(exchange)
    if answer.header("Content-Encoding") is None:
        return answer.body
    expect(exchange, headers={"Content-Encoding": "gzip"})
    return gzip.decompress(answer.body)


def fields(answer):
    """The headers of an answer that it has in common with others of its kind."""
    return {name.lower(): value for name, value in answer.headers if name.lower() not in ITS_OWN}


def varies(exchange, name):
    """Hold an answer to saying that it depends on a header of the request."""
    vary = expect(exchange).header("Vary") or ""
    if name.lower() not in re.split(r"\s*,\s*", vary.lower()):
        raise Broken(exchange, f"needed {name} in Vary, got {vary!r}", 0)


ASKED = {
    get("/"): 200,
    get("/", GZIP): 200,
    get("/hello?name=%22%0a%22"): 200,
    get("/static/about.html", "Range: bytes=0-9"): 206,
    get("/static/about.html", "If-None-Match: *"): 304,
    get("/nothing"): 404,
    get("/sleep?seconds=x", HTML): 400,
    ask("HEAD / HTTP/1.1", "Connection: close"): 200,
    ask("DELETE / HTTP/1.0", "Connection: close"): 405,
    ask("OPTIONS * HTTP/1.1", "Connection: close"): 204,
    ask("GET / HTTP/1.1", host=None): 400,
    ask("HEAD / HTTP/1.1", host=None): 400,
    ask("GET /<b> HTTP/1.1"): 400,
    ask("BREW / HTTP/1.1"): 501,
    ask("GET / HTTP/2.0"): 505,
    ask("POST /echo HTTP/1.1", "Content-Length: 99999999"): 413,
    get("/health", *["X: 1"] * 200): 431,
    get("/" + "a" * 9000): 414,
}


@since("s16")
def test_each_answer_is_a_line_in_the_log(server):
    answers = []
    for request, status in ASKED.items():
        answers.append(expect(server.say(request), status, ending="closed"))
    for request, answer, line in zip(ASKED, answers, book(server, len(ASKED)), strict=True):
        asked, status, size, *_ = line
        first = request.partition(b"\r\n")[0].decode()
        same = asked == first if len(first) < 1000 else first.startswith(asked) and asked
        assert same, f"needed {first:.80}, got {asked:.80}"
        assert int(status) == answer.status, f"needed {answer.status} for {first}, got {status}"
        written = str(len(answer.body) or "-")
        assert size == written, f"needed {written} bytes for {first:.80} {status}, got {size}"


@since("s16", MAX_HEAD=5000)
def test_a_head_that_is_too_long_has_its_first_line_in_the_log(server):
    expect(server.say(get("/long", "X: " + "a" * 6000)), 431, ending="closed")
    logged(server, r'"GET /long HTTP/1\.1" 431 ')


@since("s16", WORKERS=1, MAX_QUEUE=1)
def test_who_is_turned_away_is_in_the_log(server):
    with (
        crowd(server, 1, HALF) as [served],  # the only worker waits for the rest of it
        crowd(server, 1, GET) as queued,
        server.visit() as away,
    ):
        away.send(GET)
        size = len(expect(away.read(), 503, ending="closed").body)
        served.send(REST)
        for visitor in (served, *queued):
            expect(visitor.read(), 200, ending="closed")
    found = [(status, written) for _, status, written, *_ in book(server, 3)]
    assert found[0] == ("503", str(size)), f"needed a line for the 503, got {found}"


FORGED = '127.0.0.1 - - [01/Jan/2000:00:00:00 +0000] "GET /forged HTTP/1.1" 200 1 "-" "-"'
HARMFUL = [
    "Mozilla/5.0 (any; rv:1.0) Gecko",
    'a"b',
    '"',
    "\\",
    'a\\"b\\',
    "\\x22 \\n",
    "tab\there",
    "Zo\xeb \x80\x85\x9b2J\xff",
    "%0a%0d%s%d{}",
    f'"\\n{FORGED}',
]


@since("s16")
def test_nobody_can_forge_a_line_of_the_log(server):
    for text in HARMFUL:
        expect(server.say(get("/health", f"Referer: {text}", f"User-Agent: {text}")), 200)
    expect(server.say(get("/health", "User-Agent: a", f" {FORGED}")), 400)  # a folded line
    expect(server.say(get("/health", f"User-Agent: a\n{FORGED}")), 400)
    expect(server.say(f"GET /\n{FORGED}\n \xff\r\n\r\n".encode("latin-1")), 400)
    expect(server.say(get(f"/hello?name=%0a{FORGED.split()[0]}%0d%22")), 200)
    lines = book(server, len(HARMFUL) + 4)
    for text, (*_, referer, agent) in zip(HARMFUL, lines, strict=False):
        assert unescaped(referer) == text, f"needed {text!a} as referer, got {referer}"
        assert unescaped(agent) == text, f"needed {text!a} as user agent, got {agent}"
    assert unescaped(lines[-2][0]) == f"GET /\n{FORGED}\n \xff"


@since("s16")
def test_a_hundred_requests_in_one_write_are_a_hundred_lines(server):
    requests = [ask(f"GET /hello?name={number} HTTP/1.1") for number in range(99)]
    with server.visit() as visitor:
        visitor.send(b"".join(requests) + get("/hello?name=99"))
        expect_each(visitor.read(), *[200] * 100, ending="closed")
    asked = [line[0] for line in book(server, 100)]
    assert asked == [f"GET /hello?name={number} HTTP/1.1" for number in range(100)]


@since("s16", WORKERS=8)
def test_the_lines_of_many_visitors_are_whole(server):
    names = [[f"{guest}-{number} " + "x" * 2000 for number in range(40)] for guest in range(8)]
    with crowd(server, 8) as guests:
        for guest, agents in zip(guests, names, strict=True):
            requests = [ask("GET /health HTTP/1.1", f"User-Agent: {agent}") for agent in agents]
            guest.send(b"".join(requests))
        for guest in guests:
            expect_each(guest.read(answers=40), *[200] * 40)
    assert sorted(agent for *_, agent in book(server, 320)) == sorted(chain(*names))


KEPT = ["a", "0f9b2c", "A-b_c.9", "a" * 64, "550e8400-e29b-41d4-a716-446655440000"]
NOT_KEPT = ["", "a" * 65, "a b", 'a"b', "<b>", "a,b", "a;b", "a/b", "\xe4", "a\tb", "%0a", "$(x)"]


@since("s16")
def test_a_well_formed_id_of_a_request_is_kept(server):
    for name in KEPT:
        for target, status in (("/", 200), ("/nothing", 404), ("/sleep?seconds=x", 400)):
            exchange = server.say(get(target, f"X-Request-Id: {name}"))
            expect(exchange, status, headers={"X-Request-Id": name})


@since("s16")
def test_any_other_request_is_given_an_id_of_its_own(server):
    given = [server.say(get("/", f"X-Request-Id: {name}")) for name in NOT_KEPT]
    given += [server.say(get("/", "X-Request-Id: a", "X-Request-Id: b"))]
    given += [server.say(get("/nothing")), server.say(ask("GET /<b> HTTP/1.1")), server.say(GET)]
    names = [expect(exchange).header("X-Request-Id") or "" for exchange in given]
    for exchange, name in zip(given, names, strict=True):
        if not re.fullmatch("[0-9A-Za-z._-]{1,64}", name) or name in ("a", "b"):
            raise Broken(exchange, f"needed an id made anew, got {name!r}", 0)
    assert len({*names}) == len(names), f"needed a new id for each request, got {names}"


@since("s16")
def test_nobody_can_guess_the_id_of_a_request(server):
    """Nor do two servers give the same, as they might by a clock or by a counter."""
    with server.visit() as visitor:
        visitor.send(ask("GET /health HTTP/1.1") * 50)
        answers = expect_each(visitor.read(answers=50), *[200] * 50)
    names = [answer.header("X-Request-Id") or "" for answer in answers]
    assert len(set(names)) == 50, f"needed 50 ids, got {sorted(names)}"
    differ = sum(len(set(letters)) > 1 for letters in zip(*names, strict=False))
    assert differ >= 10, f"needed ids that have nothing in common, got {names[0]}, {names[1]}"


WELCOMES = {  # what is said in Accept-Encoding, and whether the answer is packed
    None: False,
    "": False,
    "gzip": True,
    "GZIP": True,
    "deflate, gzip, br": True,
    "gzip;q=1.0": True,
    "x;q=0.1 , gzip ; q=0.001": True,
    "gzip;Q=0.5": True,
    "*": True,
    "br;q=1, *;q=0.5": True,
    "identity;q=0.5, gzip;q=1.0": True,
    "gzip;q=0": False,
    "gzip;q=0.000": False,
    "gzip; q=0., *": False,
    "br": False,
    "notgzip, gzip-not": False,
    "identity": False,
    "identity;q=1, gzip;q=0.5": False,
    "*;q=0.2, gzip;q=0.1": False,
    "identity, *;q=0": False,
}
MALFORMED = ["gzip;q=", "gzip;q=x", "gzip;q=9", ";q=0", ",,;;==", "gzip;;q=0", "\xff", "gzip=1"]


@since("s16")
def test_text_is_packed_for_those_who_like_it_better(files):
    for says, packed in WELCOMES.items():
        exchange = fetch(files, "text.txt", *([] if says is None else [f"Accept-Encoding: {says}"]))
        coding = {"Content-Encoding": "gzip" if packed else None}
        answer = expect(exchange, 200, headers=coding, ending="closed")
        assert (len(answer.body) < len(TEXT)) == packed
        assert unpacked(exchange) == TEXT, "needed the same bytes, once they are unpacked"
    for says in MALFORMED:
        exchange = fetch(files, "text.txt", f"Accept-Encoding: {says}")
        expect(exchange, 200, ending="closed")
        assert unpacked(exchange) == TEXT, f"needed the same bytes for {says!a}"


@since("s16")
def test_packed_answers_follow_each_other_on_one_connection(server):
    requests = [ask(f"GET {target} HTTP/1.1", GZIP) for target in ("/", "/about", "/")]
    with server.visit() as visitor:
        visitor.send(b"".join(requests) + get("/health"))
        answers = expect_each(visitor.read(), *[200] * 4, ending="closed")
    codings = [answer.header("Content-Encoding") for answer in answers]
    assert codings == ["gzip", "gzip", "gzip", None]


@since("s16")
def test_what_could_be_packed_says_so_also_when_it_is_not(server):
    """Else a cache would give what is packed to one who cannot read it (RFC 9110 §12.5.5)."""
    tag = expect(server.say(get("/static/hello.html")), 200).header("ETag")
    for headers in ([], [GZIP], ["Accept-Encoding: gzip;q=0"], [f"If-None-Match: {tag}"]):
        for target in ("/static/hello.html", "/", "/nothing", "/health", "/sleep?seconds=x"):
            varies(server.say(get(target, *headers)), "Accept-Encoding")
    varies(server.say(ask("HEAD / HTTP/1.1", "Connection: close")), "Accept-Encoding")


@since("s16")
def test_head_has_the_head_of_what_get_packs(files):
    for line in ("/static/text.txt", "/", "/nothing"):
        whole = expect(files.say(get(line, GZIP)), headers={"Content-Encoding": "gzip"})
        exchange = files.say(ask(f"HEAD {line} HTTP/1.1", GZIP, "Connection: close"))
        assert fields(expect(exchange, whole.status, body=b"")) == fields(whole)


@since("s16")
def test_what_would_not_gain_is_sent_as_it_is(files):
    for name, coding in {
        "500.txt": "gzip",
        "499.txt": None,
        "empty.txt": None,
        "1048576.txt": "gzip",
        "1048577.txt": None,
        "picture.png": None,
    }.items():
        expect(fetch(files, name, GZIP), 200, headers={"Content-Encoding": coding})
    for target in ("/favicon.ico", "/health"):
        expect(files.say(get(target, GZIP)), 200, headers={"Content-Encoding": None})
    options = ask("OPTIONS / HTTP/1.1", GZIP, "Connection: close")
    expect(files.say(options), 204, headers={"Content-Encoding": None}, ending="closed")


@since("s16")
def test_what_is_packed_has_a_tag_of_its_own(files):
    bare = expect(fetch(files, "text.txt"), 200)
    packed = expect(fetch(files, "text.txt", GZIP), 200, headers={"Content-Encoding": "gzip"})
    tags = [answer.header("ETag") for answer in (bare, packed)]
    assert tags[0] != tags[1], "needed two tags for two bodies of different bytes"
    assert re.fullmatch('"[!#-~]+"', tags[1]), f"needed a strong tag, got {tags[1]}"
    assert bare.header("Last-Modified") == packed.header("Last-Modified")


@since("s16")
def test_who_has_it_packed_already_is_told_so(files):
    """But not if he does not take gzip now: what he has is not what he would get."""
    bare = expect(fetch(files, "text.txt"), 200).header("ETag")
    packed = expect(fetch(files, "text.txt", GZIP), 200).header("ETag")
    assert bare != packed, "needed a tag of its own for what is packed"
    for tags in (packed, f"W/{packed}", f'"other", {packed}', f'{packed},"other"'):
        known = f"If-None-Match: {tags}"
        expect(fetch(files, "text.txt", known, GZIP), 304, headers={"ETag": packed}, body=b"")
        for headers in ([], ["Accept-Encoding: gzip;q=0"], ["Accept-Encoding: gzip;q=0.5, *"]):
            exchange = fetch(files, "text.txt", known, *headers)
            expect(exchange, 200, headers={"ETag": bare}, body=TEXT)
    expect(fetch(files, "text.txt", f"If-None-Match: {bare}"), 304, headers={"ETag": bare})
    for tags in ('"other"', '"other-gzip"', f'"x{packed[1:]}', packed.strip('"')):
        exchange = fetch(files, "text.txt", f"If-None-Match: {tags}", GZIP)
        expect(exchange, 200, headers={"ETag": packed})
    exchange = fetch(files, "text.txt", f'If-None-Match: "other-gzip", {bare}', GZIP)
    if exchange.answer.status == 304:
        expect(exchange, headers={"ETag": bare})


@since("s16")
def test_what_was_packed_before_it_was_written_anew_is_sent_anew(files, tmp_path):
    packed = expect(fetch(files, "text.txt", GZIP), 200, headers={"Content-Encoding": "gzip"})
    (tmp_path / "served" / "text.txt").write_bytes(TEXT + TEXT)
    exchange = fetch(files, "text.txt", GZIP, f"If-None-Match: {packed.header('ETag')}")
    expect(exchange, 200, headers={"Content-Encoding": "gzip"})
    assert unpacked(exchange) == TEXT + TEXT


@since("s16")
def test_a_part_is_one_of_what_is_not_packed(files):
    bare = expect(fetch(files, "text.txt"), 200).header("ETag")
    whole = expect(fetch(files, "text.txt", GZIP), 200, headers={"Content-Encoding": "gzip"})
    part = {"Content-Encoding": None, "ETag": bare, "Content-Range": "bytes 0-4999/6000"}
    for known in ([], [f"If-Range: {bare}"]):
        exchange = fetch(files, "text.txt", "Range: bytes=0-4999", GZIP, *known)
        expect(exchange, 206, headers=part, body=TEXT[:5000])
    several = fetch(files, "text.txt", "Range: bytes=0-2999, 3000-5000", GZIP)
    expect(several, 206, headers={"Content-Encoding": None})
    expect(fetch(files, "text.txt", "Range: bytes=6000-", GZIP), 416)
    for headers in ([], [GZIP]):
        known = f"If-Range: {whole.header('ETag')}"
        exchange = fetch(files, "text.txt", "Range: bytes=0-4999", known, *headers)
        expect(exchange, 200)
        assert unpacked(exchange) == TEXT, "needed the whole: he knows the packed bytes"


@since("s16")
def test_a_part_depends_on_what_the_whole_depends_on(files):
    """It has each header that a 200 to the same request would have (RFC 9110 §15.3.7)."""
    for spelled in ("0-9", "0-9, 20-29"):
        for headers in ([], [GZIP], ["Accept-Encoding: gzip;q=0"]):
            exchange = fetch(files, "text.txt", f"Range: bytes={spelled}", *headers)
            expect(exchange, 206)
            varies(exchange, "Accept-Encoding")


@since("s16")
def test_who_wants_only_what_he_has_packed_is_told_if_it_is_another(files):
    bare = expect(fetch(files, "text.txt"), 200).header("ETag")
    packed = expect(fetch(files, "text.txt", GZIP), 200).header("ETag")
    assert bare != packed, "needed a tag of its own for what is packed"
    expect(fetch(files, "text.txt", GZIP, f"If-Match: {packed}"), 200, headers={"ETag": packed})
    expect(fetch(files, "text.txt", f"If-Match: {bare}"), 200, headers={"ETag": bare})
    expect(fetch(files, "text.txt", f"If-Match: {packed}"), 412)
    for headers in ([], [GZIP]):
        for other in ('"other"', '"other-gzip"', f"W/{packed}", ""):
            expect(fetch(files, "text.txt", f"If-Match: {other}", *headers), 412)


@since("s16")
def test_who_takes_nothing_that_there_is_is_told_so(files):
    for says in ("*;q=0", "identity;q=0", "br, identity;q=0", "gzip;q=0, identity;q=0, *"):
        exchange = fetch(files, "text.txt", f"Accept-Encoding: {says}")
        expect(exchange, 406, headers={"Content-Encoding": None}, ending="closed")
        varies(exchange, "Accept-Encoding")


@since("s16")
def test_what_one_middleware_refuses_passes_all_that_are_around_it(server):
    """It is named, shown to a browser as a page, and logged, though no handler was called."""
    nothing = "Accept-Encoding: gzip;q=0, identity;q=0"
    exchange = server.say(get("/about", nothing, HTML, "X-Request-Id: the-request"))
    page = {"Content-Type": "text/html; charset=utf-8", "X-Request-Id": "the-request"}
    answer = expect(exchange, 406, headers=page, ending="closed")
    varies(exchange, "Accept-Encoding")
    assert "the-request" in answer.text, "needed the id on the page"
    [(asked, status, size, *_)] = book(server, 1)
    assert (asked, status, size) == ("GET /about HTTP/1.1", "406", str(len(answer.body)))


@since("s16")
def test_who_takes_gzip_and_nothing_else_has_all_of_it_packed(files):
    for target in ("/static/text.txt", "/static/499.txt", "/static/picture.png", "/health"):
        for says in ("identity;q=0, gzip;q=0.1", "gzip, *;q=0", "*, identity;q=0"):
            exchange = files.say(get(target, f"Accept-Encoding: {says}"))
            expect(exchange, 200, headers={"Content-Encoding": "gzip"}, ending="closed")
            varies(exchange, "Accept-Encoding")
            assert unpacked(exchange) == expect(files.say(get(target))).body


HASTY = """
def hasty(request: Request) -> Response:
    file = STATIC / "about.html"
    response = file_response(request, file)
    file.write_bytes(b"new" * 1000)
    return response


ROUTES["GET", "/hasty"] = hasty


if __name__"""


@since("s16", new=False, python=True)
def test_a_file_that_changes_before_it_is_packed_costs_its_own_answer_alone(
    implementation, tmp_path
):
    text = implementation.file.read_text(encoding="utf-8")
    with implementation.copy(
        tmp_path / "copy", text.replace("\nif __name__", HASTY)
    ).start() as server:
        exchange = server.say(get("/hasty", GZIP))
        whole = [answer for answer in exchange.answers if not answer.fault]
        if whole and whole[0].status == 200:
            raise Broken(exchange, "needed no answer of two files in one", 9)
        expect(server.say(get("/health")), 200)
        expect(server.say(get("/about", GZIP)), 200)
        logged(server, "about.html is not what it was")


@since("s16")
def test_a_browser_is_shown_a_page_for_an_error(server):
    html, plain = "text/html; charset=utf-8", "text/plain; charset=utf-8"
    odd = "%3Cscript%3Ealert(1)%3C/script%3E&a=%22%27"
    asked = {
        f"GET /sleep?seconds={odd}": 400,
        f"PUT /static/{odd}": 405,
        "GET /static/hello.html": 416,
    }
    for line, status in asked.items():
        request = [f"{line} HTTP/1.1", "Connection: close", "Range: bytes=9999-"]
        exchange = server.say(ask(*request, HTML))
        answer = expect(exchange, status, headers={"Content-Type": html}, ending="closed")
        varies(exchange, "Accept")
        assert answer.text.startswith("<!doctype html>")
        assert "<script>alert" not in answer.text, (
            "what a visitor sent stands in the page as it came"
        )
        assert ("&lt;script&gt;" in answer.text) == ("script" in line), "needed the words, escaped"
        assert answer.header("X-Request-Id") in answer.text, "needed the id, to ask about it"
        for accept in ([], ["Accept: */*"], ["Accept: text/plain"], ["Accept: application/json"]):
            exchange = server.say(ask(*request, *accept))
            words = expect(exchange, status, headers={"Content-Type": plain})
            varies(exchange, "Accept")
            for name in ("Allow", "Content-Range"):
                assert words.header(name) == answer.header(name)


@since("s16")
def test_a_page_for_an_error_arrives_however_it_is_packed(server):
    """A message of some length would be packed like any text, before it is made a page."""
    for line, says in {
        "PUT /about": "gzip, *;q=0",
        f"PUT /static/{'a' * 2000}": "gzip",
        f"PUT /static/{'b' * 2000}": "gzip;q=0",
    }.items():
        request = ask(f"{line} HTTP/1.1", "Connection: close", HTML, f"Accept-Encoding: {says}")
        exchange = server.say(request)
        answer = expect(exchange, 405, ending="closed")
        assert answer.header("X-Request-Id"), "needed a name for the request"
        assert b" has no PUT" in unpacked(exchange), "needed the words"


@since("s16")
def test_the_page_for_what_is_not_there_stays(server, implementation):
    page = (implementation.static / "404.html").read_bytes()
    for headers in ([HTML], [GZIP], [HTML, GZIP]):
        exchange = server.say(get("/nothing", *headers))
        expect(exchange, 404, headers={"Content-Type": "text/html; charset=utf-8"})
        assert unpacked(exchange) == page
        varies(exchange, "Accept-Encoding")


@since("s16")
def test_a_refusal_is_named_like_any_answer(server):
    for request, status in {
        ask("GET / HTTP/1.1", HTML, host=None): 400,
        ask("BREW / HTTP/1.1", HTML, GZIP): 501,
        get("/", *["X: 1"] * 200): 431,
    }.items():
        answer = expect(
            server.say(request), status, headers={"Connection": "close"}, ending="closed"
        )
        assert answer.header("X-Request-Id"), "needed a name for the request"
        assert answer.header("Server-Timing"), "needed the layers' times"


@pytest.fixture
def failing(implementation, tmp_path):
    """The program, with a handler that fails: the page that it reads is gone."""
    copy = implementation.copy(tmp_path / "copy")
    (tmp_path / "copy" / "static" / "hello.html").unlink()
    with copy.start() as server:
        yield server


@since("s16", python=True)
def test_a_failure_shows_nothing_of_what_is_inside(failing, tmp_path):
    for accept in ("Accept: */*", HTML):
        name = "the-request"
        exchange = failing.say(get("/", accept, GZIP, f"X-Request-Id: {name}"))
        expect(exchange, 500, headers={"X-Request-Id": name}, ending="closed")
        text = unpacked(exchange).decode()
        for secret in ("Traceback", "Error", "Errno", "hello.html", ".py", tmp_path.name):
            assert secret not in text.replace("Internal Server Error", ""), f"{secret} is inside"
        assert (name in text) == ("html" in accept), "needed the id on the page"


@since("s16", python=True)
def test_the_log_of_a_failure_names_the_request(failing):
    for headers in ([], ["X-Request-Id: given"]):
        answer = expect(failing.say(get("/", *headers)), 500, ending="closed")
        name = answer.header("X-Request-Id")
        assert name, "needed a name for the request"
        logged(failing, rf"failed.*\b{name}\b")
        logged(failing, "FileNotFoundError")
    for asked, status, *_ in book(failing, 2):
        assert (asked, status) == ("GET / HTTP/1.1", "500")


METRIC = r"([!#$%&'*+.^_`|~0-9A-Za-z-]+);dur=([0-9]+(?:\.[0-9]+)?)"


def layers(answer):
    """How many milliseconds each layer took, from the handler outwards, by Server-Timing."""
    timing = answer.header("Server-Timing") or ""
    assert re.fullmatch(rf"{METRIC}(?:, *{METRIC})*", timing), f"needed metrics, got {timing!r}"
    return [(name, float(took)) for name, took in re.findall(METRIC, timing)]


@since("s16")
def test_each_layer_says_how_long_it_took(server):
    """With all that is inside of it, and so no less than that (Server-Timing, by the W3C)."""
    for line, status in {
        "GET /": 200,
        "HEAD /": 200,
        "GET /nothing": 404,
        "PUT /": 405,
        "GET /sleep?seconds=0.1": 200,
    }.items():
        answer = expect(server.say(ask(f"{line} HTTP/1.1", GZIP, "Connection: close")), status)
        found = layers(answer)
        assert found[0][0] == "handler"
        assert len({name for name, _ in found}) == len(found) >= 5, (
            f"needed all layers, got {found}"
        )
        for (inside, less), (outside, more) in pairwise(found):
            assert less <= more, f"{outside} took less than {inside}, which is a part of it"
    assert found[0][1] >= 100, f"the handler slept for 100 ms, and it says {found[0][1]}"
