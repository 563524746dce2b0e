"""What a broken sentence says: the words, the bytes with a caret, the last words, one hint."""

import itertools
from pathlib import Path

from suite.requirements import Witness

from workbench.client.client import Answer, Exchange
from workbench.client.render import caret, visible
from workbench.practice.hints import hints

LONGEST = 600  # characters of the line that asks again
ENDINGS = {
    "refused": "Nobody listens there any more: look for the error that ended the program.",
    "reset": "It hung up while bytes of ours were still unread: read all before you close.",
    "closed": "It hung up without a whole answer: has `handle_connection` failed on the way?",
    "timeout": "It neither answered nor hung up: does it wait for bytes that nobody announced?",
}


class Broken(AssertionError):  # noqa: N818 - what it says of the promise
    """An exchange that breaks a promise: what was needed, and the first byte that is wrong."""

    def __init__(self, exchange: Exchange, needed: str, offset: int) -> None:
        super().__init__(needed)
        self.exchange = exchange
        self.offset = offset


def expect(exchange, status=None, *, headers=None, body=None, ending=None) -> Answer:
    """Hold the first answer of an exchange to what is given, and return it; raise Broken."""
    if not exchange.answers:
        raise Broken(
            exchange, f"needed an answer, got none: {exchange.ending}", len(exchange.received)
        )
    answer = exchange.answers[0]
    if answer.fault:
        raise Broken(exchange, answer.fault, answer.fault_at or 0)
    start, end = answer.span
    head = exchange.received[start : end - len(answer.body)]
    if status is not None and answer.status != status:
        raise Broken(exchange, f"needed status {status}, got {answer.status}", start + 9)
    for name, value in (headers or {}).items():
        if answer.header(name) != value:
            found = head.lower().find(f"\n{name}: ".lower().encode()) + 1
            place = start + (found + len(name) + 2 if found else len(head) - 2)
            needed = f"needed {name}: {value}, got {answer.header(name)}"
            raise Broken(exchange, needed, place)
    if body is not None and answer.body != body:
        same = (one == other for one, other in zip(answer.body, body, strict=False))
        at = len(list(itertools.takewhile(bool, same)))
        needed = f"needed a body of {len(body)} bytes, got {len(answer.body)}; byte {at} differs"
        raise Broken(exchange, needed, start + len(head) + at)
    if ending is not None and exchange.ending != ending:
        raise Broken(exchange, f"needed the connection {ending}, it was {exchange.ending}", end)
    return answer


def expect_each(exchange, *statuses, ending=None) -> list[Answer]:
    """Hold an exchange to whole answers with just these statuses, and return them; raise Broken."""
    expect(exchange, statuses[0], ending=ending)
    for answer in exchange.answers:
        if answer.fault:
            raise Broken(exchange, answer.fault, answer.fault_at or 0)
    found = [answer.status for answer in exchange.answers]
    if found != list(statuses):
        raise Broken(exchange, f"needed answers {statuses}, got {found}", len(exchange.received))
    return exchange.answers


def describe(item, excinfo) -> str:
    """Write a failure for the student whose program it is."""
    error, name = excinfo.value, item.originalname
    server = Witness.latest
    parts = [
        ("Sentence", name.removeprefix("test_").replace("_", " ")),
        ("Stage", item.funcargs["case"].lesson.slug),
        ("Wrong", (str(error) or "an assertion without words").splitlines()[0]),
    ]
    hint = hints().get(name, ("",))[0]
    if isinstance(error, Broken):
        exchange = error.exchange
        parts += [("Try", exchange.curl[:LONGEST]), ("We sent", spelled(exchange.sent))]
        parts += [("It sent", caret(exchange.received, error.offset))]
        hint = hint if exchange.answers else ENDINGS.get(exchange.ending, hint)
    if server is not None:
        parts.append(("Last words", "\n".join(server.log.splitlines()[-12:]) or "(none)"))
    place = [entry for entry in excinfo.traceback if Path(entry.path) == item.path][-1]
    parts += [("Hint", hint), ("Test", f"{Path(place.path).name}:{place.lineno + 1}")]
    return "\n".join(f"{title:12}{indent(text)}" for title, text in parts)


def spelled(data: bytes) -> str:
    """Write the beginning of some bytes line by line, with CR LF visible."""
    text = "\n".join(map(visible, data[:500].splitlines(keepends=True)))
    return text + (f" and {len(data) - 500:,} bytes more" if len(data) > 500 else "")


def indent(text: str) -> str:
    """Set the lines of a text below each other, behind its title."""
    return text.replace("\n", "\n" + " " * 12)
