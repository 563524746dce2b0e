"""The line for a POSIX shell that sends the same: `curl`, or `nc` for what curl would not say."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from workbench.client.responses import messages

Fields = list[tuple[str, str]]

HEAD = re.compile(rb"[!-~]+ [!-~]+ HTTP/1\.[01]\r\n([\w!#$%&'*+.^`|~-]+:[ -~]*\r\n)*\r\n")
EASY_TARGET = re.compile(r"/[\w.~!$&'()*+,;=:@%/?-]*", re.ASCII)
LENGTH = "content-length"


def command(sent: bytes, address: tuple[str, int]) -> str:
    """Return the command line; to the bytes sent, curl adds only a `User-Agent` and an `Accept`."""
    found = messages(sent)
    if len(found) == 1 and HEAD.fullmatch(found[0][0]):
        line, *lines = found[0][0].decode("ascii").split("\r\n")[:-2]
        fields = [(name, value.strip()) for name, _, value in (x.partition(":") for x in lines)]
        body = found[0][1]
        if _framed(fields, body) and _is_argument(body):
            where = "{}:{}".format(*address)
            return shlex.join(["curl", "-i", *_words(line, fields, body.decode(), where)])
    return _netcat(sent, *address)


def _words(line: str, fields: Fields, body: str, where: str) -> Iterator[str]:
    """Yield the words of the command line after `curl -i`."""
    method, target, version = line.split(" ")
    if version == "HTTP/1.0":
        yield "--http1.0"
    if method == "HEAD":
        yield "--head"
    elif method != ("POST" if body else "GET"):
        yield from ("-X", method)
    yield from _headers(fields, body, where)
    if body:
        yield from ("--data-raw", body)
    if not EASY_TARGET.fullmatch(target):
        yield from ("--request-target", target)
    elif "/." in target:
        yield "--path-as-is"
    yield f"http://{where}{target if EASY_TARGET.fullmatch(target) else '/'}"


def _headers(fields: Fields, body: str, where: str) -> Iterator[str]:
    """Yield `-H` for each header that curl would not write, or must not."""
    names = {name.lower() for name, _ in fields}
    for name, value in fields:
        if (name.lower(), value) != ("host", where) and not (body and name.lower() == LENGTH):
            yield from ("-H", f"{name}: {value}" if value else f"{name};")
    for name in ("Host", *(["Content-Type"] if body else [])):
        if name.lower() not in names:
            yield from ("-H", f"{name}:")


def _framed(fields: Fields, body: bytes) -> bool:
    """Say whether the head announces its body as curl would."""
    names = [name.lower() for name, _ in fields]
    lengths = [value for name, value in fields if name.lower() == LENGTH]
    plain = "transfer-encoding" not in names and names.count("host") <= 1
    return plain and lengths in ([str(len(body))], [])


def _is_argument(body: bytes) -> bool:
    """Say whether a shell can hand the body over in a command line: as text without NUL."""
    try:
        return "\0" not in body.decode()
    except UnicodeDecodeError:
        return False


def _netcat(sent: bytes, host: str, port: int) -> str:
    """Return a line that sends any bytes at all."""
    if not sent:
        return f"nc {host} {port} < /dev/null"
    return f"printf '{''.join(_escaped(byte) for byte in sent)}' | nc {host} {port}"


def _escaped(byte: int) -> str:
    r"""Write a byte for a quoted `printf`: all shells know `\NNN` in octal."""
    match chr(byte):
        case "\r":
            return r"\r"
        case "\n":
            return r"\n"
        case "%":
            return "%%"
        case "'" | "\\" | "-":
            return f"\\{byte:03o}"
        case letter:
            return letter if 32 <= byte < 127 else f"\\{byte:03o}"
