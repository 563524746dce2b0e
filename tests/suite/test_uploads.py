"""What a visitor sends in a form is understood, and its files are kept: whole, or not at all."""

import os
import re
import shutil
import socket
from contextlib import contextmanager, suppress
from email import message_from_string
from email.utils import collapse_rfc2231_value
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote_plus, urljoin

import psutil
import pytest
from suite import chance
from suite.clients import (
    FLAT,
    MEBIBYTE,
    PAUSE,
    ask,
    chunked,
    crowd,
    drip,
    get,
    post,
    ready,
    rejects_setting,
    until,
)
from suite.report import Broken, expect, expect_each
from suite.requirements import Witness, since

from workbench.server.stats import family, memory

MARK = "mark"
TYPE = f"Content-Type: multipart/form-data; boundary={MARK}"
END = f"--{MARK}--\r\n".encode()
SPELLED = "Content-Type: application/x-www-form-urlencoded"


@pytest.fixture
def folder(tmp_path):
    """Where the program has to keep what it is sent; to make the folder is its own business."""
    yield tmp_path / "uploads"
    shutil.rmtree(tmp_path / "uploads", ignore_errors=True)


@pytest.fixture
def server(request, implementation, folder):
    """The program, running with that folder and the settings that the sentence asks for."""
    promise = request.node.get_closest_marker("since").args[0]
    with implementation.start(UPLOADS=folder, **promise.settings) as running:
        yield running


def part(says, content=b""):
    """A part of a form: what stands in its head behind `form-data; `, and what it holds."""
    head = f"--{MARK}\r\nContent-Disposition: form-data; {says}\r\n\r\n"
    return head.encode() + content + b"\r\n"


def file(name, content=b""):
    """A file in a form."""
    return part(f'name="file"; filename="{name}"', content)


def form(*parts):
    """The only request of a connection: a form of these parts."""
    return post("/uploads", b"".join(parts) + END, TYPE)


def in_chunks(*chunks):
    """A form whose text comes in these chunks; it leaves open whether the connection goes on."""
    return chunked("/uploads", *chunks).replace(b"\r\n", f"\r\n{TYPE}\r\n".encode(), 1)


class Page(HTMLParser):
    """The tags of a page with their attributes, and its links: where they lead, and their text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.linked = [], [], False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "a":
            self.links.append((urljoin("/uploads", dict(attrs)["href"]), ""))
            self.linked = True

    def handle_endtag(self, tag):
        self.linked = self.linked and tag != "a"

    def handle_data(self, data):
        if self.linked:
            target, text = self.links[-1]
            self.links[-1] = target, text + data


def listing(server):
    """The page that lists what is kept."""
    kind = {"Content-Type": "text/html; charset=utf-8"}
    return Page(expect(server.say(get("/uploads")), 200, headers=kind).body.decode())


def kept(server):
    """What is listed, from the top: the name of each file, and where it is to be had."""
    links = listing(server).links
    return [(name, target) for target, name in links if target.startswith("/uploads/")]


def keep(server, *parts):
    """Send a form whose files are kept; return where each name is to be had."""
    expect(server.say(form(*parts)), 303, headers={"Location": "/uploads"}, ending="closed")
    return dict(kept(server))


def understood(server, *parts):
    """Send a form with a file, and return the answer: what is kept, and the fields beside it."""
    kind = {"Location": "/uploads", "Content-Type": "application/json"}
    return expect(server.say(form(*parts)), 303, headers=kind, ending="closed").json()


def fetch(server, target, *headers):
    """Ask for what is kept."""
    return server.say(get(target, *headers))


def saved_as(answer):
    """Under which name an answer asks to be saved; `filename*` outdoes `filename` (RFC 6266)."""
    header = f"Content-Disposition: {answer.header('Content-Disposition')}"
    found = message_from_string(header)
    assert found.get_content_disposition() == "attachment", f"needed an attachment, got {header}"
    names = dict(found.get_params(header="Content-Disposition"))  # the last is filename*
    return collapse_rfc2231_value(names["filename"])


def lying(folder):
    """What lies in a folder, by the first of its names; an empty folder in it is nothing."""
    return {
        Path(place, name).relative_to(folder).parts[0]
        for place, folders, files in os.walk(folder)  # which does not mind what vanishes
        for name in (files if Path(place) == folder else folders + files)
    }


def holds(server, folder, *names):
    """Wait until the folder holds nothing but what is listed, and see that it is these files."""

    def nothing_else():
        return lying(folder) == {target.removeprefix("/uploads/") for _, target in kept(server)}

    until(nothing_else, "the folder holds only what is listed")
    assert sorted(name for name, _ in kept(server)) == sorted(names)


def weight(folder):
    """How many bytes lie in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextmanager
def half_a_form(server, folder):
    """A visitor who has sent one file and half of another, and what he has not sent yet."""
    whole = form(file("first", b"1"), file("second", bytes(2 * MEBIBYTE)))
    with server.visit() as visitor:
        visitor.send(whole[:MEBIBYTE])
        until(lambda: weight(folder) > MEBIBYTE / 2, "what arrives is put on the disk")
        yield visitor, whole[MEBIBYTE:]


SPELLINGS = {
    b"name=Zo%C3%AB+x": "Zo\xeb x",
    b"name=a%26b%3Dc%2B%2541": "a&b=c+%41",
    b"name=A&name=B": "A",
    b"a=1&b=&name=B": "B",
    b"name=": "",
    b"name": "",
    b"names=A": "world",
    b"&&": "world",
    b"": "world",
}


@since("s14")
def test_a_form_is_understood(server):
    unknown = chance.name()
    spellings = SPELLINGS | {f"name={quote_plus(unknown)}".encode(): unknown}
    for kind in (SPELLED, f"{SPELLED}; charset=UTF-8", SPELLED.replace("x-www", "X-WWW")):
        for body, name in spellings.items():
            answer = expect(server.say(post("/hello", body, kind)), 200, ending="closed")
            assert answer.json() == {"message": f"Hello, {name}!"}


@since("s14", MAX_FIELDS=10)
def test_the_number_of_fields_in_a_form_has_a_limit(server, folder):
    for count, alone, beside in ((10, 200, 303), (11, 413, 413), (1000, 413, 413)):
        spelled = post("/hello", b"&".join([b"name=A"] * count), SPELLED)
        expect(server.say(spelled), alone, ending="closed")
        fields = [part('name="name"', b"A")] * (count - 1)
        expect(server.say(form(file("x", b"1"), *fields)), beside, ending="closed")
    expect(server.say(form(*[file("y", b"1")] * 11)), 413, ending="closed")
    holds(server, folder, "x")


@since("s14", new=False)
def test_what_comes_to_another_route_is_no_form(server):
    for kind in (SPELLED, TYPE, "Content-Type: multipart/form-data"):
        for body in (b"name=Zo%C3%AB", file("x", b"1") + END):
            expect(server.say(post("/echo", body, kind)), 200, body=body, ending="closed")


CONTENTS = {
    "empty": b"",
    "bytes": bytes(range(256)) * 1000,
    "a line's end": b"\r\n",
    "half a line's end": b"\r",
    "lines": b"\r\n\r\n\n\r--\r\n",
    "half a boundary": b"\r\n--mar\r\n--ma\r\n--mar",
    "a boundary within a line": b"x--mark--\r\n --mark\n--mark--\r--mark",
    "two dashes": b"\r\n--",
    "a head": b"Content-Disposition: form-data; name=x\r\n\r\n",
}


@since("s14")
def test_the_files_of_a_form_are_kept_and_given_back(server, folder):
    contents = CONTENTS | {chance.word(): chance.blob()}
    parts = [file(name, content) for name, content in contents.items()]
    found = keep(server, part('name="a"', b"1"), *parts, part('name="b"'))
    holds(server, folder, *contents)
    for name, content in contents.items():
        expect(fetch(server, found[name]), 200, body=content, ending="closed")


@since("s14")
def test_files_of_the_same_name_are_all_kept(server, folder):
    contents = sorted(chance.word().encode() for _ in range(3))
    expect(server.say(form(*[file("x", content) for content in contents[:2]])), 303)
    expect(server.say(form(file("x", contents[2]))), 303)
    holds(server, folder, "x", "x", "x")
    assert sorted(fetch(server, target).answer.body for _, target in kept(server)) == contents


@since("s14")
def test_a_field_may_stand_beside_files(server, folder):
    """The answer says what was understood, and where the files are."""
    name = chance.name()
    fields = [["names", "no"], ["name", name], ["name", ""], ["", "x"], ["Zo\xeb", "a\r\nb"]]
    parts = [part(f'name="{key}"', text.encode()) for key, text in fields]
    answer = understood(server, file("x", b"1"), *parts, file("y", b"2"))
    assert answer["fields"] == fields
    found = {name: target.removeprefix("/uploads/") for name, target in kept(server)}
    assert answer["kept"] == [found["x"], found["y"]]
    assert understood(server, part("name=name", b"A"), file("z"))["fields"] == [["name", "A"]]
    holds(server, folder, "x", "y", "z")


@since("s14")
def test_a_form_without_a_file_keeps_nothing(server, folder):
    """A browser sends an empty name where no file was chosen."""
    for request in (
        form(part('name="file"; filename=""')),
        form(part('name="name"', b"A")),
        form(),
        post("/uploads", b"file=x", SPELLED),
        post("/uploads", file("x") + END, "Content-Type: text/plain"),
        post("/uploads", file("x") + END),
        post("/uploads", b"", TYPE),
    ):
        expect(server.say(request), 400, ending="closed")
    holds(server, folder)


ONE, TWO = b"a\r\n--mar\r\n-", b"\r\n--mar"
FORM = file("one", ONE) + file("two", TWO) + END
AROUND = range(FORM.index(ONE), FORM.index(b"Content", FORM.index(ONE)) + 1)


def both_are_kept(server, times):
    """See that the two files of FORM have been kept so often, as they were."""
    found = kept(server)
    assert sorted(name for name, _ in found) == times * ["one"] + times * ["two"]
    for name, target in found:
        expect(fetch(server, target), 200, body=ONE if name == "one" else TWO)


@since("s14", WORKERS=len(AROUND))
def test_a_boundary_may_come_in_two_reads(server):
    request = post("/uploads", FORM, TYPE)
    cuts = [len(request) - len(FORM) + cut for cut in AROUND]
    with crowd(server, len(cuts)) as visitors:
        for visitor, cut in zip(visitors, cuts, strict=True):
            visitor.send(request[:cut])
        assert not ready(visitors, within=PAUSE), "it did not wait for the rest of a form"
        for visitor, cut in zip(visitors, cuts, strict=True):
            visitor.send(request[cut:])
            expect(visitor.read(answers=1), 303)
            visitor.close()
    both_are_kept(server, times=len(cuts))


@since("s14")
def test_a_form_may_come_in_chunks_of_any_size(server):
    wholes = [[FORM[:cut], FORM[cut:]] for cut in range(1, len(FORM))]
    wholes += [[FORM[at : at + size] for at in range(0, len(FORM), size)] for size in (1, 2, 7)]
    for chunks in wholes:
        exchange = server.say(in_chunks(*chunks) + get("/health"))
        expect_each(exchange, 303, 200, ending="closed")
    both_are_kept(server, times=len(wholes))


@since("s14")
def test_a_form_may_come_byte_by_byte(server):
    with server.visit() as visitor:
        visitor.send(post("/uploads", FORM, TYPE), by=1)
        expect(visitor.read(), 303, ending="closed")
    both_are_kept(server, times=1)


@since("s14")
def test_a_form_without_an_end_is_refused_and_not_kept(server, folder):
    for cut in range(len(FORM) - len(b"--\r\n")):
        expect(server.say(post("/uploads", FORM[:cut], TYPE)), 400, ending="closed")
    expect(server.say(in_chunks(FORM[:-5]), answers=1), 400)
    holds(server, folder)


@since("s14")
def test_who_leaves_in_mid_upload_leaves_nothing_behind(server, folder):
    for leave in ("close", "reset", "finish"):
        with half_a_form(server, folder) as (visitor, _):
            getattr(visitor, leave)()
        holds(server, folder)


@since("s14")
def test_a_crash_in_mid_upload_leaves_nothing_behind(implementation, server, folder):
    keep(server, file("whole", b"1"))
    with half_a_form(server, folder):
        server.stop(0)
    with implementation.start(UPLOADS=folder) as again:
        holds(again, folder, "whole")


@since("s14")
def test_what_is_on_its_way_is_not_there_yet(server, folder):
    with half_a_form(server, folder) as (visitor, rest):
        assert kept(server) == [], "needed nothing in the list before the form is whole"
        for path in list(folder.rglob("*")):
            target = f"/uploads/{path.relative_to(folder).as_posix()}"
            expect(fetch(server, target), 404, ending="closed")
        visitor.send(rest)
        expect(visitor.read(), 303, ending="closed")
    holds(server, folder, "first", "second")


NAMES = {
    'filename="plain.txt"': "plain.txt",
    "filename=token.txt": "token.txt",
    "filename=Zo\xeb (1).txt ; x=y": "Zo\xeb (1).txt",
    'filename="open': '"open',
    r'filename="say \"quoted\".txt"': 'say "quoted".txt',
    'filename="a %22browser%22.txt"': 'a "browser".txt',
    'filename="Zo\xeb \u20ac \U0001f600.txt"': "Zo\xeb \u20ac \U0001f600.txt",
    "filename*=UTF-8''%e2%82%ac%20Zo%C3%AB.txt": "\u20ac Zo\xeb.txt",
    "filename*=UTF-8'en'it's 5%2522.txt; filename=x": "it's 5%22.txt",
    'filename="semi;colon, comma = 100%.txt"': "semi;colon, comma = 100%.txt",
    'filename="<img src=x onerror=alert(1)>"': "<img src=x onerror=alert(1)>",
    'filename="&amp; \' & &lt;"': "&amp; ' & &lt;",
    'filename="../../up.txt"': "up.txt",
    'filename="/etc/absolute"': "absolute",
    r'filename="C:\dir\drive.txt"': "drive.txt",
    "filename*=UTF-8''..%2F..%5Cencoded.txt": "encoded.txt",
    'filename=".hidden"': ".hidden",
    'filename=".."': "..",
    'filename="NUL"': "NUL",
}


@since("s14")
def test_a_file_has_the_name_that_its_sender_gave_it(server):
    """And nothing of the sender's folders (RFC 7578 §4.2)."""
    found = keep(server, *[part(f'name="file"; {says}', says.encode()) for says in NAMES])
    for says, name in NAMES.items():
        assert name in found, f"needed {name} for {says}, in {list(found)}"
        answer = expect(fetch(server, found[name]), 200, body=says.encode(), ending="closed")
        assert saved_as(answer) == name


STRANGE = [
    f'filename="{"long" * 1000}.txt"',
    f'filename="{"../" * 200}x"',
    'filename="/"',
    'filename="tab\t"',
    "filename*=iso-8859-1'en'%A3.txt",
    "filename*=undefined''x",
    "filename*=nothing",
    'filename="two%0D%0AX-Evil: 1"',
    "filename*=UTF-8''two%0D%0AX-Evil:%201",
    "filename*=UTF-8''%00nul",
    "filename*=UTF-8''%ff%fe",
    'filename="CON"; filename="x"',
]


@since("s14")
def test_a_file_is_kept_under_a_name_of_the_servers_own(server, folder):
    parts = [part(f'name="file"; {says}', b"1") for says in (*NAMES, *STRANGE)]
    before = set(folder.parent.rglob("*"))
    expect(server.say(form(*parts)), 303, ending="closed")
    targets = [target for _, target in kept(server)]
    assert len(targets) == len(parts)
    assert all(re.fullmatch("/uploads/[0-9a-f]{16}", target) for target in targets)
    for path in set(folder.parent.rglob("*")) - before:
        place = path.relative_to(folder).parts[0]
        assert f"/uploads/{place}" in targets, f"needed nothing but what is listed, got {path}"


@since("s14")
def test_nobody_can_guess_where_a_file_is_kept(server):
    """Who may see one file would else find the others; a clock can be read by everybody."""
    kept = understood(server, *[file("x", b"1")] * 50)["kept"]
    assert len(set(kept)) == 50, f"needed 50 names, got {sorted(kept)}"
    differ = sum(len(set(letters)) > 1 for letters in zip(*kept, strict=False))
    assert differ >= 10, f"needed names that have nothing in common, got {kept[0]}, {kept[1]}"


@since("s14")
def test_a_name_is_nothing_but_text_on_the_page(server):
    harmless = [tag for tag, _ in listing(server).tags]
    evil = "<script>alert(1)<", "x' onclick='alert(1)", "</a><b>", "<!--"
    expect(server.say(form(*[file(name, b"1") for name in evil])), 303)
    expect(server.say(form(part("name=x; filename*=UTF-8''%22%3E%3Cimg%20src=x%3E", b"1"))), 303)
    page = listing(server)
    added = {tag for tag, _ in page.tags} - set(harmless)
    assert added <= {"a", "li"}, f"needed only links, got {added}"
    assert {attribute for tag, attrs in page.tags if tag == "a" for attribute in attrs} == {"href"}


@since("s14")
def test_a_name_makes_no_header_of_its_own(server):
    for says in STRANGE:
        expect(server.say(form(part(f'name="file"; {says}', b"1"))), 303, ending="closed")
    for name, target in kept(server):
        answer = expect(fetch(server, target), 200, body=b"1", ending="closed")
        assert answer.header("X-Evil") is None
        assert saved_as(answer) == name


@since("s14")
def test_what_is_kept_can_be_had_in_parts(server):
    content = bytes(range(256))
    target = keep(server, file("x.html", content))["x.html"]
    whole = expect(fetch(server, target), 200, body=content)
    assert whole.header("Content-Type") == "application/octet-stream", "nobody shall look at it"
    place = {"Content-Range": "bytes 250-255/256"}
    expect(fetch(server, target, "Range: bytes=-6"), 206, headers=place, body=content[250:])
    expect(fetch(server, target, "Range: bytes=256-"), 416)
    expect(fetch(server, target, f"If-None-Match: {whole.header('ETag')}"), 304, body=b"")
    exchange = server.say(ask(f"HEAD {target} HTTP/1.1") + get("/health"))
    same = "Content-Length", "Content-Disposition", "ETag"
    expect(exchange, 200, headers={name: whole.header(name) for name in same})
    expect_each(exchange, 200, 200, ending="closed")


@since("s14")
def test_what_was_never_kept_is_404(server, folder):
    target = keep(server, file("x", b"1"))["x"]
    name = target.removeprefix("/uploads/")
    beside = folder.parent / ("b" * 16)
    beside.mkdir()
    for path in (folder / name).iterdir():
        (beside / path.name).write_bytes(b"nobody may read this")
    for other in (
        "",
        "0" * 16,
        name[:-1],
        f"{name}0",
        f"{name}/",
        f"{name}/name",
        f"{name}/content",
        name.upper() if name.upper() != name else "A" * 16,
        "name",
        ".",
        "..",
        "%2e%2e",
        f"../uploads/{name}",
        f"%2e%2e/{beside.name}",
        f"..%2f{beside.name}",
        f"../{beside.name}",
        f"x/../{name}",
        f"./{name}",
        f"/{name}",
        beside.as_posix(),
        f"{name}%0a",
        f"*{name[1:]}",
    ):
        exchange = fetch(server, f"/uploads/{other}")
        expect(exchange, 404, ending="closed")
        assert b"nobody may read this" not in exchange.received
    expect(fetch(server, target), 200, body=b"1")


@since("s14")
def test_what_stands_around_the_parts_is_ignored(server):
    padded = file("x", b"1").replace(b"--mark", b"--mark \t ") + END
    for number, body in enumerate(
        [
            b"to whom it may concern\r\n" + FORM,
            b"\r\n" + FORM,
            b"--mar\r\n--" + b"\r\n" + FORM,
            FORM + b"behind\r\n--mark\r\nit\r\n--mark--\r\n" + bytes(MEBIBYTE // 2),
            FORM.removesuffix(b"\r\n"),
            FORM.removesuffix(b"\r\n") + b" \t \r\n",
            padded,
        ],
        start=1,
    ):
        length = f"Content-Length: {len(body)}"
        request = ask("POST /uploads HTTP/1.1", length, TYPE, body=body)
        expect_each(server.say(request + get("/health")), 303, 200, ending="closed")
        count = 2 * number - (body is padded)
        assert len(kept(server)) == count, f"needed {count} files after {body[:99]!a}"


BOUNDARIES = {
    "boundary=x": "x",
    'boundary="mark"': "mark",
    "charset=utf-8; boundary=mark; more=less": "mark",
    "Boundary=mark": "mark",
    'boundary="a b"': "a b",
    'boundary="\'()+_,-./:=?"': "'()+_,-./:=?",
    f"boundary={'x' * 70}": "x" * 70,
    "boundary=----WebKitFormBoundaryABC": "----WebKitFormBoundaryABC",
}


@since("s14")
def test_a_boundary_may_be_what_the_standard_allows(server, folder):
    for says, boundary in BOUNDARIES.items():
        body = (file("x", b"1") + END).replace(b"--mark", b"--" + boundary.encode())
        request = post("/uploads", body, f"Content-Type: Multipart/Form-Data; {says}")
        expect(server.say(request), 303, ending="closed")
    holds(server, folder, *["x"] * len(BOUNDARIES))


@since("s14")
def test_a_boundary_that_is_none_is_400(server, folder):
    kind = "Content-Type: multipart/form-data"
    long = "x" * 71
    none = (
        "",
        ";",
        "; boundary",
        "; boundary=",
        '; boundary=""',
        f"; boundary={long}",
        "; boundary=y",
    )
    for says in none:
        body = FORM.replace(b"mark", long.encode()) if long in says else FORM
        expect(server.say(post("/uploads", body, kind + says)), 400, ending="closed")
    holds(server, folder)


UNREADABLE = [
    "name*=;name*1*",
    'name=x; filename="bell\a, del\x7f"',
    'name=x; filename="half \udcc3 a letter"',
    "name=x; filename*=unicode_escape''%5cud800",
    "filename*0=a; filename*=b",
    "filename*=",
    "filename*='",
    "filename*=''",
    "filename*=UTF-8'",
    "filename*=hex''00",
    "filename*=undefined''x",
    "filename*=idna''%80",
    "filename*=%00''x",
    'filename="open',
    "filename=",
    "filename",
    ";;;",
    '"',
    "\x00",
]


@since("s14")
def test_a_head_that_cannot_be_read_breaks_nothing(server):
    says = [f"--{MARK}\r\nContent-Disposition: form-data; {says}\r\n" for says in UNREADABLE]
    says += [
        f"--{MARK}\r\n{line}\r\n" for line in ("", "nonsense", ": ", "Content-Disposition:", " x")
    ]
    for head in says:
        sent = f"{head}\r\nx\r\n".encode(errors="surrogateescape")
        exchange = server.say(post("/uploads", sent + FORM, TYPE))
        if expect(exchange, ending="closed").status not in (303, 400):
            raise Broken(exchange, f"needed 303 or 400, got {exchange.answer.status}", 9)
    for part_without_a_head in (f"--{MARK}\r\n\r\nx\r\n", f"--{MARK}\r\nX: y\r\n\r\nx\r\n"):
        request = post("/uploads", part_without_a_head.encode() + FORM, TYPE)
        expect(server.say(request), 400, ending="closed")
    expect(server.say(get("/uploads")), 200, ending="closed")


@since("s14")
def test_a_head_of_nothing_but_semicolons_costs_no_time(server):
    """Who looks at the whole for each of its parameters looks at billions of bytes."""
    empty = ";" * 60_000
    types = post("/uploads", FORM, f"Content-Type: multipart/form-data{empty}; boundary={MARK}")
    for request in (types, form(*[part(empty)] * 90)):
        answer = expect(server.say(request), ending="closed")
        assert answer.status in (303, 400, 413), f"needed 303 or a refusal, got {answer.status}"
    keep(server, file("x", b"1"))


@since("s14", MAX_UPLOAD_MIB=1, MAX_BODY=1000)
def test_a_form_with_files_has_a_limit_of_its_own(server, folder):
    keep(server, file("fits", bytes(MEBIBYTE - 1000)))
    large = file("large", bytes(20 * MEBIBYTE))
    pieces = [large[at : at + 50_000] for at in range(0, len(large), 50_000)]
    for request in (form(large), in_chunks(large), in_chunks(*pieces, END)):
        expect(server.say(request), 413, ending="closed")
    expect(server.say(post("/echo", bytes(1001), TYPE)), 413, ending="closed")
    expect(server.say(post("/uploads", bytes(1001), SPELLED)), 413, ending="closed")
    holds(server, folder, "fits")


@since("s14", MAX_LINE=5000)
def test_a_field_beside_files_has_a_limit(server, folder):
    """It is kept in memory, and a file is not."""
    for size, status in ((5000, 303), (5001, 413), (MEBIBYTE, 413)):
        field = part('name="name"', bytes(size))
        expect(server.say(form(file("x", bytes(9999)), field)), status, ending="closed")
    holds(server, folder, "x")


@since("s14", MAX_HEAD=5000, MAX_LINE=5000)
def test_what_is_no_content_has_a_limit_in_a_form_too(server, folder):
    for sized in (
        lambda size: [part(f'name="{"x" * size}"')],
        lambda size: [file("x"), part(f"name=f\r\nX: {'x' * size}")],
        lambda size: [b"x" * size + b"\r\n"],
        lambda size: [part("name=f").replace(b"\r\n", b" " * size + b"\r\n", 1)],
    ):
        expect(server.say(form(*sized(4000), file("y"))), 303, ending="closed")
        for size in (6000, 500_000):
            expect(server.say(form(*sized(size), file("y"))), 413, ending="closed")
    holds(server, folder, "x", *["y"] * 4)


@since("s14", UPLOAD_SECONDS=1)
def test_a_form_with_files_has_to_come_in_time_as_a_whole(server, folder):
    with server.visit() as visitor:
        visitor.send(ask("POST /uploads HTTP/1.1", TYPE, "Content-Length: 99999", body=file("x")))
        expect(drip(visitor, b"x", Witness.patience), 408, ending="closed")
    holds(server, folder)


@since("s14", SEND_SECONDS=1, BODY_SECONDS=1)
def test_who_falls_silent_in_mid_upload_is_shown_out(server, folder):
    with half_a_form(server, folder) as (visitor, _), server.visit() as in_pieces:
        in_pieces.send(in_chunks(FORM)[:-20])
        for silent in (visitor, in_pieces):
            expect(silent.read(), 408, ending="closed")
    holds(server, folder)


@since("s14", BODY_SECONDS=1)
def test_a_form_with_files_may_take_longer_than_another_body(server):
    request = form(file("x", b"1"))
    with server.visit() as visitor:
        visitor.send(request[:-10])
        assert not ready([visitor], within=1 + PAUSE), "it did not wait for a large file"
        visitor.send(request[-10:])
        expect(visitor.read(), 303, ending="closed")


@since("s14", MAX_UPLOAD_MIB=1)
def test_who_waits_to_be_told_may_send_his_form_or_need_not(server, folder):
    line, expects = "POST /uploads HTTP/1.1", "Expect: 100-continue"
    with server.visit() as visitor:
        length = f"Content-Length: {len(FORM)}"
        visitor.send(ask(line, TYPE, length, expects, "Connection: close"))
        told = visitor.read(until=b"\r\n\r\n")
        if not told.received.startswith(b"HTTP/1.1 100 Continue\r\n\r\n"):
            raise Broken(told, "needed 100 Continue before the body", 0)
        visitor.send(FORM)
        expect(visitor.read(), 303, ending="closed")
    large = f"Content-Length: {2 * MEBIBYTE}"
    expect(server.say(ask(line, TYPE, large, expects)), 413, ending="closed")
    holds(server, folder, "one", "two")


@since("s14")
def test_the_connection_goes_on_after_an_upload(server):
    length = f"Content-Length: {len(FORM)}"
    request = ask("POST /uploads HTTP/1.1", length, TYPE, body=FORM)
    expect_each(server.say(request * 3 + get("/health")), 303, 303, 303, 200, ending="closed")
    with server.visit() as visitor:
        for _ in range(2):
            visitor.send(request)
            expect(visitor.read(answers=1), 303, headers={"Connection": "keep-alive"})
    assert len(kept(server)) == 10


@pytest.mark.slow
@since("s14")
def test_an_upload_of_a_gibibyte_needs_no_memory(server):
    head, tail, piece = file("large").removesuffix(b"\r\n"), b"the end\r\n" + END, bytes(MEBIBYTE)
    size = len(head) + 1024 * MEBIBYTE + len(tail)
    request = ask("POST /uploads HTTP/1.1", f"Content-Length: {size}", TYPE, body=head)
    before, answer = memory(server), b""
    asking = socket.create_connection(server.address, timeout=6 * Witness.patience)
    with suppress(OSError), asking as caller:
        caller.sendall(request)
        for count in range(1024):
            caller.sendall(piece)
            if count % 64 == 0:
                more = memory(server) - before
                assert more < FLAT, f"needed flat memory, and it grew by {more / MEBIBYTE:.0f} MiB"
        caller.sendall(tail)
        answer = caller.recv(65536)
    assert answer.startswith(b"HTTP/1.1 303 "), f"needed 303, got {answer[:80]!a}"
    [(_, target)] = kept(server)
    place = {"Content-Range": f"bytes {2**30 - 1}-{2**30 + 6}/{2**30 + 7}"}
    expect(fetch(server, target, "Range: bytes=-8"), 206, headers=place, body=b"\0the end")


def await_the_next_tick(file):
    """Wait until the disk's clock goes on, so that what is written next is seen to be newer."""
    file.touch()
    now = file.stat().st_mtime_ns
    until(lambda: file.touch() or file.stat().st_mtime_ns > now, "the disk's clock goes on")


@since("s14")
def test_the_newest_is_listed_first(server, tmp_path):
    for name in "abcdef":
        keep(server, file(name))
        await_the_next_tick(tmp_path / "clock")
    assert "".join(name for name, _ in kept(server)) == "fedcba"


@since("s14")
def test_the_page_has_a_form_that_needs_no_script(server):
    for target in ("/uploads", "/static/upload.html"):
        tags = Page(expect(server.say(get(target)), 200).body.decode()).tags
        [found] = [attributes for tag, attributes in tags if tag == "form"]
        sent = urljoin("/uploads", found["action"]), found["method"].lower(), found["enctype"]
        assert sent == ("/uploads", "post", "multipart/form-data")
        inputs = [attributes for tag, attributes in tags if tag == "input"]
        assert any(one.get("type") == "file" and one.get("name") for one in inputs)
        assert "script" not in dict(tags)


@since("s14")
def test_clients_that_people_use_can_send_files(server):
    import httpx
    import requests

    files = [("file", (name, name.encode())) for name in ('Zo\xeb "x";.txt', "\u20ac.bin")]
    session = requests.Session()
    session.trust_env = False
    with session, httpx.Client(trust_env=False) as client:
        for sender in (session, client):
            answer = sender.post(f"{server.url}/uploads", files=files, data={"a": "b"})
            assert answer.status_code in (200, 303), answer.text
    found = kept(server)
    assert sorted(name for name, _ in found) == sorted(name for _, (name, _) in files * 2)
    for name, target in found:
        expect(fetch(server, target), 200, body=name.encode())


@since("s14")
def test_a_folder_that_cannot_be_ends_it_with_one_line(implementation, folder):
    folder.write_bytes(b"a file")
    for place in (folder, folder / "inner"):
        rejects_setting(implementation, "UPLOADS", place, PORT=0)


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_FSIZE"), reason="only Linux can bound a file")
@since("s14", python=True)
def test_a_file_that_the_disk_has_no_room_for_is_500_and_not_kept(server, folder):
    for process in family(server):
        process.rlimit(psutil.RLIMIT_FSIZE, (MEBIBYTE, MEBIBYTE))  # as if the disk were full there
    body = file("small", b"1") + file("large", bytes(2 * MEBIBYTE)) + END
    large = ask("POST /uploads HTTP/1.1", f"Content-Length: {len(body)}", TYPE, body=body)
    closes = {"Connection": "close"}  # for what is left of the form is no request
    expect(server.say(large), 500, headers=closes, ending="closed")
    holds(server, folder)
    assert list(keep(server, file("small", b"1"))) == ["small"]
