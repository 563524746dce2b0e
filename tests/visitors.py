"""The raw requests that the sentences send, and the ways in which visitors come in a crowd."""

import re
import selectors
import time
from contextlib import ExitStack, contextmanager

from promises import Witness

from workbench.inside import accepted

GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
HALF = GET[:16]  # a visitor who has begun to ask, and keeps a worker waiting for the rest
REST = GET[16:]
PAUSE = 0.5  # seconds in which a server shows that it is not going to wait


def get(target, *headers):
    """A GET request with further header lines."""
    lines = [f"GET {target} HTTP/1.1", "Host: test", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def post(target, body, *headers):
    """A POST request with a body of the length that it says."""
    lines = [f"POST {target} HTTP/1.1", "Host: test", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def ready(visitors, within=None):
    """The visitors who have heard something, as soon as one has; none if nobody does in time."""
    with selectors.DefaultSelector() as selector:
        for visitor in visitors:
            selector.register(visitor, selectors.EVENT_READ, visitor)
        return [key.data for key, _ in selector.select(within or Witness.patience)]


def patiently(server, *parts):
    """Send the parts of one request, and see after each that the server waits for the next."""
    with server.visit() as visitor:
        for part in parts[:-1]:
            visitor.send(part)
            assert not ready([visitor], within=PAUSE), f"it did not wait for more after {part!r}"
        visitor.send(parts[-1])
        return visitor.read()


def until(condition, what):
    """Look again and again until a condition holds; an AssertionError says what did not happen."""
    deadline = time.monotonic() + Witness.patience
    while not (found := condition()):
        assert time.monotonic() < deadline, f"within {Witness.patience:g} s: {what}"
        time.sleep(0.01)
    return found


@contextmanager
def crowd(server, size, first=b""):
    """So many visitors who are connected, have sent their first bytes, and have been accepted."""
    with ExitStack() as doors:
        visitors = [doors.enter_context(server.visit()) for _ in range(size)]
        for visitor in visitors:
            visitor.send(first)
        until(lambda: accepted(server) >= size, f"{size} visitors are accepted")
        yield visitors


def logged(server, pattern):
    """Wait until a line of what the program prints matches; once it has ended, no line will."""

    def printed():
        return re.search(pattern, server.log, re.MULTILINE)

    until(lambda: printed() or not server.running, f"a line like {pattern}")
    if not server.running:
        server.wait()
    assert printed(), f"it has ended without a line like {pattern}"
