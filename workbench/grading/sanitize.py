"""What may be a fork's text, made harmless: no control character, bounded, in one line if asked."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

REASON = 4000  # characters of a failure
MOST = REASON + 100  # characters of any text
LINE = 300  # characters of a fork's words in a line of ours

T = TypeVar("T")


def quoted(text: str) -> str:
    """Make a fork's text harmless: no control character but line feeds, and shortened."""
    plain = "".join(
        char if char == "\n" or char.isprintable() else f"\\x{ord(char):02x}" for char in text
    )
    return shortened(plain, REASON)


def shortened(text: str, most: int) -> str:
    """Leave out the middle of a text that has more characters than that; its end has the hint."""
    last = most // 4
    if len(text) <= most:
        return text
    return f"{text[: most - last]}\n... {len(text) - most} more\n{text[-last:]}"


def harmless(grade: T) -> T:
    """Return a grade in which every text is harmless and bounded."""
    return cast(T, _harmless(grade))


def _harmless(found: object) -> object:
    """Go through the parts of a grade."""
    match found:
        case str():
            return _plain(found)
        case tuple():
            return tuple(map(_harmless, found))
        case dict():
            return {name: _harmless(value) for name, value in found.items()}
    if is_dataclass(found) and not isinstance(found, type):
        parts = {part.name: _harmless(getattr(found, part.name)) for part in fields(found)}
        return replace(found, **cast(dict[str, Any], parts))
    return found


def _plain(text: str) -> str:
    """Quote a text line by line; one that is quoted already stays as it is."""
    plain = "\n".join(map(quoted, text[:MOST].split("\n")))
    whole = len(text) <= MOST and len(plain) <= MOST
    return plain if whole else f"{plain[: MOST - 20]}\n... and more"


def line(text: str) -> str:
    """Put a text into one line, and shorten it."""
    joined = " ".join(text.split())
    return joined if len(joined) <= LINE else f"{joined[:LINE]}..."
