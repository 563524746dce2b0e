"""A folder is served, and nothing outside of it: whole, in parts, or only what the caller lacks."""

import os
import socket
import time
from contextlib import suppress
from email import message_from_bytes
from email.utils import formatdate

import pytest
from suite.clients import FLAT, MEBIBYTE, TEXT, ask, fetch, get, ready
from suite.report import Broken, expect, expect_each
from suite.requirements import Witness, since

from workbench.server.stats import memory

SECRET = b"nobody may read this"


@pytest.fixture
def folder(tmp_path):
    """A folder to serve, with a secret beside it, and one in a folder whose name begins alike."""
    served, beside = tmp_path / "served", tmp_path / "served-not"
    for place in (served / "inner folder", beside):
        place.mkdir(parents=True)
    (served / "text.txt").write_bytes(TEXT)
    (served / "inner folder" / "index.html").write_bytes(b"<p>inside")
    (served / "inner folder" / "Zo\xeb.html").write_bytes(b"<p>Zo\xc3\xab")
    for place in (tmp_path, beside):
        (place / "secret.txt").write_bytes(SECRET)
    return served


@pytest.fixture
def files(implementation, folder):
    """The program, serving that folder."""
    with implementation.start(DOCUMENT_ROOT=folder) as server:
        yield server


@since("s13")
def test_the_files_of_a_folder_are_served(files):
    expect(fetch(files, "text.txt"), 200, body=TEXT, ending="closed")
    expect(fetch(files, "inner%20folder/Zo%C3%AB.html"), 200, body=b"<p>Zo\xc3\xab")
    expect(fetch(files, "text.txt?version=2"), 200, body=TEXT)
    for name in (
        "nothing",
        "text.txt/",
        "text",
        "TEXT.TXT/x",
        "inner%20folder/nothing",
        "a" * 3000,
    ):
        expect(fetch(files, name), 404, ending="closed")


@since("s13", new=False)
def test_a_file_that_the_server_may_not_read_is_not_there(files, folder):
    (folder / "closed.txt").write_bytes(SECRET)
    (folder / "closed.txt").chmod(0)
    if os.access(folder / "closed.txt", os.R_OK):
        pytest.skip("whoever runs this may read everything")
    expect(fetch(files, "closed.txt"), 404, ending="closed")


@since("s13", new=False)
def test_the_pages_stay_where_they_are(files, implementation):
    page = (implementation.static / "hello.html").read_bytes()
    expect(files.say(get("/")), 200, body=page)


@since("s13")
def test_a_file_says_what_it_holds(files, folder):
    kinds = {
        "a.html": "text/html; charset=utf-8",
        "a.css": "text/css; charset=utf-8",
        "a.txt": "text/plain; charset=utf-8",
        "a.png": "image/png",
        "a.jpg": "image/jpeg",
        "a.pdf": "application/pdf",
        "a.tar.gz": "application/octet-stream",
        "a.unknown": "application/octet-stream",
        "a": "application/octet-stream",
    }
    for name, kind in kinds.items():
        (folder / name).write_bytes(b"")
        expect(fetch(files, name), 200, headers={"Content-Type": kind}, body=b"")


OUTSIDE = [
    "../secret.txt",
    "..%2fsecret.txt",
    "%2e%2e/secret.txt",
    "%2e%2e%2fsecret.txt",
    "%252e%252e/secret.txt",
    "./../secret.txt",
    "inner%20folder/../../secret.txt",
    "../served-not/secret.txt",
    "%2e%2e/served-not/secret.txt",
    "..%5csecret.txt",
    "..%5c..%5csecret.txt",
    "/etc/hostname",
    "%2fetc%2fhostname",
    "//etc/hostname",
    "C:/secret.txt",
    "C:%5csecret.txt",
    "secret.txt%00.html",
    "text.txt%00",
    "text.txt:stream",
    "..",
    "../",
    "%2e%2e",
    "../served-not",
]


@since("s13")
def test_nothing_outside_the_folder_is_served(files, folder):
    expect(fetch(files, "text.txt"), 200, body=TEXT)
    for name in [*OUTSIDE, folder.parent.joinpath("secret.txt").as_posix()]:
        exchange = fetch(files, name)
        if exchange.answer.status not in (400, 404):
            raise Broken(exchange, f"needed 404 for {name}, got {exchange.answer.status}", 9)
        assert SECRET not in exchange.received


@since("s13")
def test_no_link_leads_out_of_the_folder(files, folder):
    try:
        (folder / "out.txt").symlink_to(folder.parent / "secret.txt")
        (folder / "away").symlink_to(folder.parent, target_is_directory=True)
        (folder / "round").symlink_to(folder / "round")
        (folder / "in.txt").symlink_to(folder / "text.txt")
    except OSError:
        pytest.skip("this system lets nobody make a link")
    expect(fetch(files, "in.txt"), 200, body=TEXT)
    for name in ("out.txt", "away/secret.txt", "away", "round"):
        expect(fetch(files, name), 404, ending="closed")


@since("s13")
def test_a_folder_is_asked_for_with_a_slash(files):
    for name in ("inner%20folder", "inner%20folder?a=b"):
        answer = expect(fetch(files, name), 301)
        assert answer.header("Location") == "/static/" + name.replace("folder", "folder/")
    expect(fetch(files, "inner%20folder/"), 200, body=b"<p>inside")
    expect(fetch(files, ""), 404)


@since("s13")
def test_only_what_can_be_read_is_offered(files):
    answer = expect(files.say(ask("POST /static/text.txt HTTP/1.1", "Connection: close")), 405)
    assert "GET" in answer.header("Allow")
    whole = fetch(files, "text.txt").answer
    exchange = files.say(ask("HEAD /static/text.txt HTTP/1.1") + get("/health"))
    expect(exchange, 200, headers={name: whole.header(name) for name in ("Content-Length", "ETag")})
    expect_each(exchange, 200, 200, ending="closed")


@since("s13")
def test_who_has_it_already_is_told_so(files):
    """304, with the validators and without a body (RFC 9110 §13.1.2)."""
    whole = expect(fetch(files, "text.txt"), 200)
    etag = whole.header("ETag")
    assert etag.startswith('"'), "needed a strong ETag"
    for tags in (etag, f"W/{etag}", f'"other", {etag}', f'W/"a,b" ,{etag}', "*"):
        same = ask("GET /static/text.txt HTTP/1.1", f"If-None-Match: {tags}")
        exchange = files.say(same + get("/health"))
        expect(exchange, 304, headers={"ETag": etag}, body=b"")
        expect_each(exchange, 304, 200, ending="closed")
    for tags in ('"other"', etag.strip('"'), f'"{etag[1:-2]}"', '"*"'):
        expect(fetch(files, "text.txt", f"If-None-Match: {tags}"), 200, body=TEXT)


@since("s13")
def test_a_date_does_where_there_is_no_tag(files):
    date = expect(fetch(files, "text.txt"), 200).header("Last-Modified")
    long_ago = "Sun, 06 Nov 1994 08:49:37 GMT"
    for since_then in (date, formatdate(time.time() + 3600, usegmt=True)):
        expect(fetch(files, "text.txt", f"If-Modified-Since: {since_then}"), 304, body=b"")
    for since_then in (long_ago, "yesterday", "", "Sun, 99 Nov 9999999 08:49:37 GMT", "0"):
        expect(fetch(files, "text.txt", f"If-Modified-Since: {since_then}"), 200, body=TEXT)
    tag = 'If-None-Match: "other"'
    expect(fetch(files, "text.txt", f"If-Modified-Since: {date}", tag), 200, body=TEXT)


DATED = 784_111_777  # seconds since 1970: Sun, 06 Nov 1994 08:49:37 GMT
FORMS = "%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"
NO_DATES = [
    "Wed, 06 Nov 2030 08:49:37",
    "Wed, 06 Nov 2030 08:49:37 EST",
    "Wed, 06 Nov 2030 08:49:37 +0000",
    "Wed, 06 Nov 2030 08:49:37 GMT; length=10",
    "Wed, 06 Nov 2030 08:49:37 GMT, Wed, 06 Nov 2030 08:49:37 GMT",
    "06 Nov 2030 08:49:37 GMT",
    "Wed, 6 Nov 2030 08:49:37 GMT",
    "Wed,  06 Nov 2030 08:49:37 GMT",
    "Wed, 06 Nov 30 08:49:37 GMT",
    "wed, 06 nov 2030 08:49:37 gmt",
    "Wed, 31 Nov 2030 08:49:37 GMT",
    "Wed, 06 Nov 2030 8:49:37 GMT",
    "Wed, 06 Nov 2030 25:49:37 GMT",
    "Wed Nov 6 08:49:37 2030",
    "Wed Nov  6 08:49:37 2030 GMT",
    "2030-11-06T08:49:37Z",
    "1920185377",
]


@since("s13")
def test_a_date_has_three_forms_and_is_always_in_utc(implementation, folder):
    """What has none of them is ignored (RFC 9110 §5.6.7, §13.1.3)."""
    os.utime(folder / "text.txt", (DATED, DATED))
    with implementation.start(DOCUMENT_ROOT=folder, TZ="America/New_York") as files:
        for form in FORMS:
            for seconds, status in ((DATED, 304), (DATED + 3600, 304), (DATED - 1, 200)):
                date = time.strftime(form, time.gmtime(seconds))
                expect(fetch(files, "text.txt", f"If-Modified-Since: {date}"), status)
        for text in NO_DATES:
            expect(fetch(files, "text.txt", f"If-Modified-Since: {text}"), 200, body=TEXT)


@since("s13")
def test_who_wants_only_the_file_that_he_knows_is_told_if_it_is_another(files, folder):
    """412, by strong comparison, whatever else is asked (RFC 9110 §13.1.1, §13.1.4, §13.2.2)."""
    os.utime(folder / "text.txt", (DATED, DATED))
    etag = expect(fetch(files, "text.txt"), 200).header("ETag")
    earlier, same, later = (formatdate(DATED + more, usegmt=True) for more in (-1, 0, 1))
    others = "Range: bytes=0-9", f"If-None-Match: {etag}", f"If-Modified-Since: {same}"
    for failed in (
        ['If-Match: "other"'],
        [f"If-Match: W/{etag}"],
        [f"If-Match: {etag.strip(chr(34))}"],
        ["If-Match: "],
        [f"If-Unmodified-Since: {earlier}"],
        ['If-Match: "other"', f"If-Unmodified-Since: {same}"],
    ):
        for more in ([], *([header] for header in others)):
            expect(fetch(files, "text.txt", *failed, *more), 412, ending="closed")
    for holds in (
        [f"If-Match: {etag}"],
        [f'If-Match: "other" ,{etag}'],
        ["If-Match: *"],
        [f"If-Unmodified-Since: {same}"],
        [f"If-Unmodified-Since: {later}"],
        ["If-Unmodified-Since: yesterday"],
        [f"If-Match: {etag}", f"If-Unmodified-Since: {earlier}"],
    ):
        expect(fetch(files, "text.txt", *holds), 200, body=TEXT)
        expect(fetch(files, "text.txt", *holds, others[0]), 206, body=TEXT[:10])
        expect(fetch(files, "text.txt", *holds, others[1]), 304, body=b"")
    expect(fetch(files, "nothing", "If-Match: *"), 404)


@since("s13")
def test_what_was_written_anew_is_sent_anew(files, folder):
    etag = expect(fetch(files, "text.txt"), 200).header("ETag")
    status = (folder / "text.txt").stat()
    (folder / "text.txt").write_bytes(TEXT[::-1])
    os.utime(folder / "text.txt", ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))
    expect(fetch(files, "text.txt", f"If-None-Match: {etag}"), 200, body=TEXT[::-1])


RANGES = {
    "0-0": (0, 1),
    "0-99": (0, 100),
    "100-199": (100, 200),
    "5990-": (5990, 6000),
    "5990-9999999": (5990, 6000),
    "-1": (5999, 6000),
    "-9999": (0, 6000),
    "0-": (0, 6000),
}


@since("s13")
def test_a_part_of_a_file_can_be_had(files):
    for spelled, (start, stop) in RANGES.items():
        place = {"Content-Range": f"bytes {start}-{stop - 1}/6000"}
        exchange = fetch(files, "text.txt", f"Range: bytes={spelled}")
        expect(exchange, 206, headers=place, body=TEXT[start:stop], ending="closed")


@since("s13")
def test_a_part_that_is_not_there_is_416(files):
    for spelled in ("6000-", "6000-7000", "-0", "7000-8000, 9000-"):
        exchange = fetch(files, "text.txt", f"Range: bytes={spelled}")
        expect(exchange, 416, headers={"Content-Range": "bytes */6000"}, ending="closed")


@since("s13")
def test_an_empty_file_has_a_last_byte_for_nobody_and_is_sent_as_it_is(files, folder):
    """A suffix can be had of any file; it is all of one that has less (RFC 9110 §14.1.2)."""
    (folder / "empty.txt").write_bytes(b"")
    for spelled in ("-1", "-1, -2", "-9999"):
        expect(fetch(files, "empty.txt", f"Range: bytes={spelled}"), 200, body=b"")


@since("s13")
def test_a_range_that_cannot_be_read_is_ignored(files):
    for spelled in ("bytes=a-b", "bytes=5-2", "bytes=-", "bytes=", "lines=0-1", "0-1", "bytes=1"):
        expect(fetch(files, "text.txt", f"Range: {spelled}"), 200, body=TEXT)
    expect(fetch(files, "text.txt", f"Range: bytes=0-{'9' * 5000}"), 200, body=TEXT)
    of_head = files.say(
        ask("HEAD /static/text.txt HTTP/1.1", "Range: bytes=0-1", "Connection: close")
    )
    expect(of_head, 200, headers={"Content-Length": "6000"})


@since("s13")
def test_several_parts_come_in_one_body(files):
    answer = expect(fetch(files, "text.txt", "Range: bytes=0-4, 12-16,-6"), 206, ending="closed")
    kind = answer.header("Content-Type")
    parts = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + answer.body)
    assert parts.get_content_type() == "multipart/byteranges"
    assert parts.is_multipart(), "needed parts between boundaries"
    assert not parts.defects, f"needed a boundary at the end, got {parts.defects}"
    found = [(part["Content-Range"], part.get_payload(decode=True)) for part in parts.get_payload()]
    assert found == [
        ("bytes 0-4/6000", TEXT[:5]),
        ("bytes 12-16/6000", TEXT[12:17]),
        ("bytes 5994-5999/6000", TEXT[-6:]),
    ]


@since("s13")
def test_each_body_of_several_parts_has_a_boundary_of_its_own(files):
    """One that is known beforehand can be in a file, and ends a part of it too early."""
    request = ask("GET /static/text.txt HTTP/1.1", "Range: bytes=0-4, 12-16")
    answers = expect_each(files.say(request * 20 + get("/health")), *[206] * 20, 200)
    kinds = [answer.header("Content-Type") for answer in answers[:20]]
    assert len(set(kinds)) == 20, f"needed 20 boundaries, got {len(set(kinds))}, such as {kinds[0]}"


@since("s13")
def test_who_asks_for_too_many_parts_has_the_whole(files):
    expect(fetch(files, "text.txt", "Range: bytes=0-0"), 206)
    many = ",".join(f"{number}-{number}" for number in range(500))
    for spelled in (many, "0-,0-,0-", "0-5999,0-0"):
        expect(fetch(files, "text.txt", f"Range: bytes={spelled}"), 200, body=TEXT)


@since("s13")
def test_a_part_is_only_sent_of_what_the_caller_knows(files):
    whole = expect(fetch(files, "text.txt"), 200)
    etag, date = whole.header("ETag"), whole.header("Last-Modified")
    for known in (etag, date):
        exchange = fetch(files, "text.txt", "Range: bytes=0-9", f"If-Range: {known}")
        expect(exchange, 206, body=TEXT[:10])
    for other in (f"W/{etag}", '"other"', "Sun, 06 Nov 1994 08:49:37 GMT", "yesterday"):
        exchange = fetch(files, "text.txt", "Range: bytes=0-9", f"If-Range: {other}")
        expect(exchange, 200, body=TEXT)


@since("s13", costly=True)
def test_a_file_of_a_gibibyte_needs_no_memory(files, folder):
    with (folder / "large").open("wb") as file:
        file.truncate(2**30)
    before, most, count, taken = memory(files), 0, 0, bytearray(MEBIBYTE)
    asking = socket.create_connection(files.address, timeout=Witness.patience)
    with suppress(TimeoutError), asking as caller:
        caller.sendall(get("/static/large"))
        while came := caller.recv_into(taken):
            if count >> 26 != (count + came) >> 26:  # every 64 MiB
                most = max(most, memory(files) - before)
            count += came
    assert count > 2**30, f"needed a gibibyte, got {count} bytes"
    assert most < FLAT, f"needed flat memory, and it grew by {most / MEBIBYTE:.0f} MiB"


@since("s13")
def test_a_file_that_changes_breaks_its_own_answer_and_nothing_else(files, folder):
    large = folder / "large"
    with large.open("wb") as file:
        file.truncate(64 * MEBIBYTE)
    with files.visit(timeout=Witness.patience) as visitor:
        visitor.send(get("/static/large"))
        assert ready([visitor])
        os.truncate(large, MEBIBYTE)
        exchange = visitor.read()
        assert exchange.answers, "needed an answer, and part of a file"
        assert exchange.answers[0].fault, "needed an answer that is seen not to be whole"
    expect(fetch(files, "text.txt"), 200, body=TEXT)


@pytest.mark.skipif(os.name == "nt", reason="Windows replaces no file that is open")
@since("s13")
def test_no_response_mixes_a_file_with_the_one_that_replaced_it(files, folder, tmp_path):
    """Of several parts, each is one of the file that the ETag names, or it does not come."""
    large, other, size, mark = folder / "large", tmp_path / "other", 48 * MEBIBYTE, b"replaced"
    for second, file in enumerate((large, other)):
        file.touch()
        os.truncate(file, size)
        os.utime(file, (second, second))
    with other.open("r+b") as file:
        file.seek(size - len(mark))
        file.write(mark)
    half = size // 2  # far more than a connection holds that nobody reads from
    with socket.create_connection(files.address, timeout=Witness.patience) as client:
        client.sendall(get("/static/large", f"Range: bytes=0-{half - 1}, {half}-"))
        received = bytearray()
        while len(received) < MEBIBYTE and (more := client.recv(MEBIBYTE)):
            received += more
        came = len(received)
        assert came >= MEBIBYTE, f"needed parts of a file, got {received[:80]!a}"
        other.replace(large)
        with suppress(OSError):
            while more := client.recv(MEBIBYTE):
                received += more
    mixed = mark in received  # an assertion would show all 48 MiB
    assert not mixed, "the first part is of the old file, the second of the new one"
    expect(fetch(files, "large", f"Range: bytes=-{len(mark)}"), 206, body=mark)
