"""The raw requests that the sentences send, and the ways in which visitors come in a crowd."""

import os
import re
import selectors
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest
from suite.chance import CHANCE
from suite.requirements import ENDS_WITHIN, Witness

from workbench.server.stats import accepted

GET = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
HALF = GET[:16]  # a visitor who has begun to ask, and keeps a worker waiting for the rest
REST = GET[16:]
MEBIBYTE = 2**20
FIRST = CHANCE.randrange(90_000)
TEXT = b"".join(b"%05d\n" % number for number in range(FIRST, FIRST + 1000))  # 6000 bytes
FLAT = 20 * MEBIBYTE  # how much more memory a server may need, whatever is sent
PAUSE = 0.5  # seconds in which a server shows that it is not going to wait
signals = pytest.mark.skipif(os.name == "nt", reason="Windows cannot send a signal to one program")
DRIVER = """
import importlib.util, os, sys, threading
spec = importlib.util.spec_from_file_location("stage", sys.argv[1])
sys.modules["stage"] = stage = importlib.util.module_from_spec(spec)
spec.loader.exec_module(stage)
{}
sys.stdout.flush()
os._exit(0)
"""


def ask(line, *headers, body=b"", host="Host: test"):
    """A request from its first line on; it leaves open whether the connection is to go on."""
    lines = [line, *([host] if host else []), *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def get(target, *headers):
    """The only GET request of a connection, with further header lines."""
    return ask(f"GET {target} HTTP/1.1", *headers, "Connection: close")


def fetch(server, name, *headers):
    """Ask for a file of the folder that is served, as the only request of a connection."""
    return server.say(get(f"/static/{name}", *headers))


def post(target, body, *headers):
    """The only POST request of a connection, with a body of the length that it says."""
    length = f"Content-Length: {len(body)}"
    return ask(f"POST {target} HTTP/1.1", length, *headers, "Connection: close", body=body)


def chunked(target, *chunks, end=b"0\r\n\r\n"):
    """A POST request whose body comes in chunks; it leaves open whether the connection goes on."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return ask(f"POST {target} HTTP/1.1", "Transfer-Encoding: chunked", body=body + end)


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


def drip(visitor, data, seconds):
    """Send a byte now and then, for so long at the most, until there is an answer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not ready([visitor], within=0.1):
        visitor.send(data)
    return visitor.read(None if ready([visitor], within=0.1) else 0)


def rejects_setting(program, name, value, **settings):
    """Hold a program to status 1, and one line that names the setting and its value."""
    status, words = program.refuse(**settings, **{name: value})
    assert status == 1, f"{name}={value} needed status 1, got {status}: {words}"
    assert len(words.splitlines()) == 1, f"needed one line on stderr, got: {words}"
    assert f"{name}={value}" in words, f"needed {name}={value} in the line: {words}"


def refuses(server):
    """Whether a new visitor finds nobody there."""
    return server.say(finish=True, timeout=0.2).ending == "refused"


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


def drive(implementation, script):
    """Run a script beside parts of the stage, in a process of its own; return its words."""
    words = (sys.executable, "-c", DRIVER.format(script), str(implementation.file))
    line = replace(implementation, argv=words).line
    ended = subprocess.run(line, capture_output=True, text=True, timeout=ENDS_WITHIN)
    return ended.stdout + ended.stderr
