"""The same promises, kept by another program: asyncio and dictionaries, no line of the stages.

Started by a command, `python server.py STAGE`, as a server in any other language would be. It
proves that the suite judges what a server does on its socket, and not how it is written.
"""

import asyncio
import json
import os
import signal
import sys
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

PAGES = Path(__file__).resolve().parents[3] / "static"
HTML, TEXT = "text/html; charset=utf-8", "text/plain; charset=utf-8"
GETS = {
    "/": lambda query: (200, HTML, (PAGES / "hello.html").read_bytes()),
    "/about": lambda query: (200, HTML, (PAGES / "about.html").read_bytes()),
    "/favicon.ico": lambda query: (200, "image/svg+xml", (PAGES / "icon.svg").read_bytes()),
    "/health": lambda query: (200, "application/json", b'{"status":"ok"}'),
    "/hello": lambda query: (
        200,
        "application/json",
        json.dumps({"message": f"Hello, {query.get('name', ['world'])[0]}!"}).encode(),
    ),
}


class Refusal(Exception):  # noqa: N818
    """A status and a reason."""


async def read(stream):
    """Read one request; return method, path, query and body."""
    head = (await stream.readuntil(b"\r\n\r\n"))[:-4].decode("latin-1").split("\r\n")
    words = head[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1.") or not words[1].isascii():
        raise Refusal(400, "this is not the first line of a request")
    if not all(words[:2]) or not words[1].isprintable():
        raise Refusal(400, "this is not the first line of a request")
    length = "0"
    for line in head[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name.strip() != name:
            raise Refusal(400, "this is not the line of a header")
        if name.lower() == "content-length":
            length = value.strip() if length == "0" else "twice"
    if not length.isdecimal():
        raise Refusal(400, "a body has a length in digits")
    if len(length) > 12 or int(length) > 2**20:
        raise Refusal(413, "a body has at most one mebibyte")
    target = urlsplit("http://any" + words[1])
    body = await stream.readexactly(int(length))
    return words[0], unquote(target.path), parse_qs(target.query, keep_blank_values=True), body


async def decide(method, path, query, body):
    """Return status, media type, body and further headers."""
    if path == "/echo":
        return (200, "application/octet-stream", body) if method == "POST" else denied("POST")
    if path == "/sleep" and method == "GET":
        seconds = query.get("seconds", ["5"])[0]
        digits = seconds.replace(".", "", 1)
        if not digits.isdecimal() or not 0 <= float(seconds) <= 60:
            raise Refusal(400, "seconds are a number from 0 to 60")
        await asyncio.sleep(float(seconds))
        return 200, TEXT, b"slept\n"
    if path not in GETS:
        return 404, HTML, (PAGES / "404.html").read_bytes()
    return GETS[path](query) if method == "GET" else denied("GET")


def denied(allowed):
    """Return a 405 that says what would be allowed."""
    return 405, TEXT, b"not by this method\n", f"Allow: {allowed}\r\n"


async def converse(crew, stream, writer):
    """Answer one request, and hang up."""
    try:
        async with crew:
            try:
                answer = await decide(*await read(stream))
            except Refusal as refusal:
                answer = refusal.args[0], TEXT, refusal.args[1].encode()
            status, media, body, *more = answer
            head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {media}\r\n"
            head += f"Content-Length: {len(body)}\r\nConnection: close\r\n{''.join(more)}\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


def number(name, default, least, most):
    """Read a setting, or end with what is wrong with it."""
    text = os.environ.get(name, default)
    if not text.isdecimal() or not least <= int(text) <= most:
        sys.exit(f"{name}={text} is not a number from {least} to {most}")
    return int(text)


def stop_at_a_signal(stop, loop):
    """Have the first signal set an event; a second one ends the program at once."""

    def heard(number, frame):
        signal.signal(number, signal.SIG_DFL)
        loop.call_soon_threadsafe(stop.set)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, heard)


async def main():
    """Serve until a signal comes; then close the door, and wait for those inside."""
    host, port = os.environ.get("HOST", "127.0.0.1"), number("PORT", "7878", 0, 65535)
    crew = asyncio.Semaphore(number("WORKERS", "4", 1, 1000))
    grace = number("GRACE_SECONDS", "10", 0, 3600)
    inside, stop = set(), asyncio.Event()

    async def visitor(stream, writer):
        inside.add(asyncio.current_task())
        await converse(crew, stream, writer)
        inside.discard(asyncio.current_task())

    try:
        server = await asyncio.start_server(visitor, host, port, limit=2**20, backlog=512)
    except OSError as error:
        sys.exit(f"HOST={host} PORT={port} cannot be had: {error}")
    stop_at_a_signal(stop, asyncio.get_running_loop())
    host, port, *_ = server.sockets[0].getsockname()
    host = f"[{host}]" if ":" in host else host
    print(f"Listening on http://{host}:{port}", flush=True)
    await stop.wait()
    server.close()
    if inside:
        await asyncio.wait(inside, timeout=grace)
    os._exit(0)


asyncio.run(main())
