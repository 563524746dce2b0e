"""Bytes made visible: CR LF shown, head and body told apart, long ones shortened, others in hex.

Text is a list of segments (what kind it is, and the text), so that a terminal, a notebook and a
plain file show the same.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from itertools import accumulate

from rich.text import Text

from workbench.client.responses import Length, body_length, messages

Segment = tuple[str, str]

SHOWN_LINES = 30  # of a head
SHOWN_LINE = 200  # bytes of one of these
SHOWN_TEXT = 1200  # bytes of a body
SHOWN_HEX = 128  # bytes of a body that is not text
SHOWN_MESSAGES = 8  # of one direction
CARET_WIDTH = 96  # columns of the line that a caret points into
NEAR = 4096  # bytes before and behind it that are looked at: there may be any number of lines
STYLES = {  # kind: in a terminal, in HTML
    "start": ("bold", "font-weight:bold"),
    "head": ("", ""),
    "body": ("cyan", "color:var(--jp-info-color0,#0072b2)"),
    "eol": ("dim", "opacity:.45"),
    "note": ("italic", "font-style:italic;opacity:.8"),
    "wrong": ("bold red", "font-weight:bold;color:var(--jp-error-color1,#c00)"),
}
CR, LF = r"\r", r"\n"  # as Python spells them: signs of their own are missing in many fonts
MONOSPACE = "font-family:var(--jp-code-font-family, ui-monospace, Menlo, Consolas, monospace)"
PAGE = f"{MONOSPACE};margin:.4em 0;line-height:1.35;white-space:pre-wrap;overflow-wrap:anywhere"
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def plain(segments: Sequence[Segment]) -> str:
    """Join the segments' text."""
    return "".join(text for _, text in segments)


def rich_text(segments: Sequence[Segment]) -> Text:
    """Colour the segments for a terminal."""
    return Text.assemble(*((text, STYLES[kind][0]) for kind, text in segments))


def html_text(segments: Sequence[Segment]) -> str:
    """Return the segments as one HTML element that needs no style sheet."""
    spans = (
        f'<span style="{STYLES[kind][1]}">{html.escape(text)}</span>' for kind, text in segments
    )
    return f'<pre style="{PAGE}">{"".join(spans)}</pre>'


def visible(data: bytes) -> str:
    r"""Show every byte: printable ASCII as it is, CR and LF as \r and \n, anything else as \xNN."""
    return "".join(_symbol(byte) for byte in data)


def _symbol(byte: int) -> str:
    match byte:
        case 10:
            return LF
        case 13:
            return CR
        case _:
            return chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}"


def caret(data: bytes, offset: int) -> str:
    """Show the line around byte `offset` with its neighbours, and a caret under that byte.

    An offset at or past the end points behind the last byte.
    """
    offset = min(offset, len(data))
    first = max(offset - NEAR, 0)
    lines = list(_lines(data[first : offset + NEAR])) or [b""]
    starts = list(accumulate(map(len, lines[:-1]), initial=first))
    at = max(index for index, start in enumerate(starts) if start <= offset)
    pointed, pointer = _pointed(lines[at], offset - starts[at])
    around = [visible(line)[:CARET_WIDTH] for line in lines[max(at - 2, 0) : at + 2]]
    around[min(at, 2)] = pointed
    around.insert(min(at, 2) + 1, f"{pointer} byte {offset}")
    return "\n".join(around)


def _pointed(line: bytes, column: int) -> tuple[str, str]:
    """Return the part of a line about the column, and the line with the caret below it."""
    first = max(column - CARET_WIDTH // 2, 0)
    before = ("…" if first else "") + visible(line[first:column])
    after = visible(line[column : column + CARET_WIDTH // 2])
    return before + after, " " * len(before) + "^"


def both_ways(data: bytes, length: Length = body_length) -> Iterator[Segment]:
    """Yield the segments of all the messages of one direction, whose bodies `length` measures."""
    found = messages(data, length)
    for head, body in found[:SHOWN_MESSAGES]:
        yield from _head(head)
        if body:
            yield from _body(body)
    if left := sum(len(head) + len(body) for head, body in found[SHOWN_MESSAGES:]):
        yield "note", f"… {len(found) - SHOWN_MESSAGES:,} more messages, {left:,} bytes\n"


def _head(head: bytes) -> Iterator[Segment]:
    kind = "start"
    for line in _lines(head)[:SHOWN_LINES]:
        text = line.rstrip(b"\r\n")
        yield kind, visible(text[:SHOWN_LINE])
        if len(text) > SHOWN_LINE:
            yield "note", f" … {len(text) - SHOWN_LINE:,} bytes left out "
        yield "eol", visible(line[len(text) :]) + "\n"
        kind = "head"
    yield from _left_out(sum(map(len, _lines(head)[SHOWN_LINES:])))


def _body(body: bytes) -> Iterator[Segment]:
    yield "note", f"┄ body, {len(body):,} bytes\n"
    text = _as_text(body)
    if text is None:
        yield from _hex(body[:SHOWN_HEX])
        yield from _left_out(len(body) - SHOWN_HEX)
        return
    shown = body[:SHOWN_TEXT].decode(errors="ignore")
    for part in re.findall(r"[\r\n]+|[^\r\n]+", shown):
        yield ("eol", _breaks(part)) if part[0] in "\r\n" else ("body", part)
    yield "eol", "" if shown.endswith("\n") else "\n"
    yield from _left_out(len(body) - SHOWN_TEXT)


def _breaks(text: str) -> str:
    return text.replace("\r", CR).replace("\n", f"{LF}\n")


def _as_text(body: bytes) -> str | None:
    """Return the body as text, or None if it is not UTF-8 or holds control characters."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    return None if CONTROLS.search(text) else text


def _hex(data: bytes) -> Iterator[Segment]:
    """Yield sixteen bytes a line: where, in hex, and in ASCII where they are."""
    for start in range(0, len(data), 16):
        row = data[start : start + 16]
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield "eol", f"{start:04x}  "
        yield "body", f"{row.hex(' '):47}  {letters}\n"


def _left_out(count: int) -> Iterator[Segment]:
    if count > 0:
        yield "note", f"… {count:,} bytes left out\n"


def _lines(data: bytes) -> list[bytes]:
    """Split after each LF, and nowhere else."""
    return re.findall(rb"[^\n]*\n|[^\n]+", data)
