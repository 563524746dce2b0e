"""Read a stage by the names of its pieces, and compare two: in a terminal and in a notebook."""

from __future__ import annotations

import difflib
import html
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, zip_longest
from pathlib import Path

from pygments import formatters, highlight, lexers, style, token
from rich.console import Group
from rich.syntax import Syntax
from rich.text import Text

from workbench.course import catalogue as lessons
from workbench.course import syntax
from workbench.course.catalogue import Lesson
from workbench.errors import Mistake

Place = str | int | Path | Lesson  # a stage by any of its names, or a Python file by its path
CONTEXT_LINES = 3
ALIKE = 0.5  # of the words of two lines must be shared before one counts as the other, changed


class UnreadableFile(Mistake):
    """A file that is not there, or is not Python; the text says which, and where."""


class UnknownPiece(Mistake, ValueError):  # noqa: N818
    """A stage has no such function, class or constant; the text suggests the nearest one."""


@dataclass(frozen=True)
class Source:
    """A text to read: where it is from, the lesson if it is a stage of the course, and the text."""

    label: str
    text: str
    lesson: Lesson | None = None

    @property
    def heading(self) -> str:
        """The number and title of a stage, or the name of any other file."""
        return f"{self.lesson.short} {self.lesson.title}" if self.lesson else self.label


def source(place: Place) -> Source:
    """Read a stage by any of its names, or a Python file by its path.

    Raises UnknownStage or UnreadableFile.
    """
    if _is_path(place):
        return _file(Path(str(place)))
    known = lessons.lesson(place)
    return Source(known.path.name, _text(known.path), known)


def _is_path(place: Place) -> bool:
    """Tell the path of a file from the name of a stage."""
    if isinstance(place, str):
        return bool(re.search(r"[/\\]", place)) or Path(place).is_file()
    return isinstance(place, Path)


def _file(path: Path) -> Source:
    """Read a file, and find its lesson if it is a stage itself and not a copy of one."""
    own = [known for known in lessons.lessons() if known.path == path.resolve()]
    return Source(path.name if own else str(path), _text(path), own[0] if own else None)


def _text(path: Path) -> str:
    """Read a Python file. Raises UnreadableFile with the reason."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UnreadableFile(f"there is no file {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFile(f"cannot read {path}: {error}") from error


@dataclass(frozen=True)
class Code:
    """A piece of source to look at: coloured in a terminal and in a notebook, plain as `str`."""

    title: str
    text: str

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__

    def __rich__(self) -> Group:
        code = Syntax(self.text, "python", theme="ansi_dark", background_color="default")
        return Group(Text(self.title, style="dim"), code)

    def _repr_html_(self) -> str:
        code = highlight(self.text, lexers.PythonLexer(stripnl=False), _FORMATTER)
        caption = f'<div class="wb-dim">{html.escape(self.title)}</div>'
        return f'{_STYLE}<div class="wb">{caption}<pre class="wb-code">{code}</pre></div>'


def show(stage: Place, *names: str, file: str | Path | None = None) -> Code:
    """Return the source of a stage's pieces by their names, or the whole stage.

    A name is a function, a class or a constant; a method goes by `ThreadPool.execute`. With `file`,
    a copy of your own is read in the stage's place. Raises UnknownStage, UnreadableFile or
    UnknownPiece.
    """
    shown = source(Path(file) if file else stage)
    if not names:
        return Code(shown.heading, shown.text)
    found = [_piece(shown, name) for name in names]
    return Code(f"{shown.heading}: {', '.join(names)}", _joined(found))


def _piece(shown: Source, name: str) -> str:
    """Find one piece; a dot leads into a class."""
    outer, _, inner = name.partition(".")
    text = _named(_pieces(shown), outer, shown.label)
    return _named(syntax.members(text), inner, f"{outer} in {shown.label}") if inner else text


def _pieces(shown: Source) -> dict[str, str]:
    """Take a source apart. Raises UnreadableFile for what is not Python."""
    try:
        return syntax.pieces(shown.text)
    except (SyntaxError, ValueError) as error:
        raise UnreadableFile(f"{shown.label} is not Python yet: {error}") from error


def _named(parts: dict[str, str], name: str, where: str) -> str:
    """Look a name up. Raises UnknownPiece with the nearest one, or with all that there are."""
    if name in parts:
        return parts[name]
    close = difflib.get_close_matches(name, parts, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(parts) or 'none'}"
    raise UnknownPiece(f"no piece is called {name!r} in {where}: {hint}")


def _joined(parts: Sequence[str]) -> str:
    """Put pieces under each other, as far apart as in a file: constants close, functions not."""
    text = parts[0]
    for above, below in pairwise(parts):
        short = above.count("\n") == below.count("\n") == 1
        text += below if short else f"\n\n{below}"
    return text


@dataclass(frozen=True)
class Diff:
    """What changes from one source to another: unified as text, side by side in a notebook."""

    before: Source
    after: Source

    @cached_property
    def touched(self) -> tuple[str, ...]:
        """The top-level names that are added or changed. Raises UnreadableFile if not Python."""
        for side in (self.before, self.after):
            _pieces(side)  # says which of the two is not Python
        return syntax.touched(self.before.text, self.after.text)

    @cached_property
    def summary(self) -> str:
        """One line that names what is added, changed and removed, or says why it cannot."""
        try:
            touched, old = self.touched, _pieces(self.before)
        except UnreadableFile as error:
            return str(error)
        groups = {
            "adds": [name for name in touched if name not in old],
            "changes": [name for name in touched if name in old],
            "removes": syntax.removed(self.before.text, self.after.text),
        }
        named = [f"{verb} {', '.join(names)}" for verb, names in groups.items() if names]
        return "; ".join(named) or "no name is touched"

    @property
    def title(self) -> str:
        """Where the change leads from and to, a stage by its number and title."""
        return f"{self.before.heading} \N{RIGHTWARDS ARROW} {self.after.heading}"

    @property
    def unified(self) -> str:
        """The change as `diff -u` tells it; empty if there is none."""
        old, new = (side.text.splitlines(keepends=True) for side in (self.before, self.after))
        lines = difflib.unified_diff(old, new, self.before.label, self.after.label, n=CONTEXT_LINES)
        return "".join(_ended(line) for line in lines)

    def __str__(self) -> str:
        return f"{self.title}\n{self.summary}\n\n{self.unified}"

    __repr__ = __str__

    def __rich__(self) -> Text:
        text = Text.assemble((self.title, "bold"), "\n", self.summary, "\n\n")
        for line in self.unified.splitlines(keepends=True):
            text.append(line, style=_COLOURS.get(line[0], ""))
        return text

    def _repr_html_(self) -> str:
        old, new = self.before.text.splitlines(), self.after.text.splitlines()
        rows = "".join(_html_rows(old, new)) or '<tr><td colspan="4">no difference</td></tr>'
        return (
            f'{_STYLE}<div class="wb"><b>{html.escape(self.title)}</b>'
            f'<div class="wb-dim">{html.escape(self.summary)}</div>'
            f'<table class="wb-diff">{_COLUMNS}<tbody>{rows}</tbody></table></div>'
        )


def diff(before: Place, after: Place | None = None) -> Diff:
    """Compare two stages, two files, or one with the other.

    With one alone, a stage is compared with the stage that it builds on, and a file with the stage
    whose name it has. Raises UnknownStage, UnreadableFile, or Mistake for the first stage alone.
    """
    if after is not None:
        return Diff(source(before), source(after))
    alone = source(before)
    if alone.lesson is None:
        return Diff(source(lessons.lesson(Path(alone.label).name)), alone)
    earlier = lessons.before(alone.lesson)
    if earlier is None:
        slug = alone.lesson.slug
        raise Mistake(f"{slug} builds on no other stage: name two to compare, or show {slug}")
    return Diff(source(earlier), alone)


def _ended(line: str) -> str:
    """Close the last line of a file that does not close it itself, and say so as `diff` does."""
    return line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


Row = tuple[int | None, int | None]  # the line on the left and on the right, counted from 0


def _html_rows(old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    """Write the rows of a table for each part that changes, with some lines around it."""
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for part in matcher.get_grouped_opcodes(CONTEXT_LINES):
        place = f"from line {part[0][1] + 1}", f"from line {part[0][3] + 1}"
        yield '<tr class="wb-gap"><td></td><td>{}</td><td></td><td>{}</td></tr>'.format(*place)
        for tag, *span in part:
            left, right = range(span[0], span[1]), range(span[2], span[3])
            rows = _aligned(old, new, left, right) if tag == "replace" else _beside(left, right)
            for row in rows:
                yield _html_row(old, new, row)


def _beside(left: Sequence[int], right: Sequence[int]) -> list[Row]:
    """Put lines beside each other as they come, and those too many beside nothing."""
    return list(zip_longest(left, right))


def _aligned(
    old: Sequence[str], new: Sequence[str], left: Sequence[int], right: Sequence[int]
) -> list[Row]:
    """Put each line beside the one that it became, in order, so that the most words match."""
    score = _likeness(old, new, left, right)
    best = [[0.0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i in reversed(range(len(left))):
        for j in reversed(range(len(right))):
            best[i][j] = max(best[i + 1][j], best[i][j + 1], best[i + 1][j + 1] + score[i][j])
    return list(_walk(best, score, left, right))


def _likeness(
    old: Sequence[str], new: Sequence[str], left: Sequence[int], right: Sequence[int]
) -> list[list[float]]:
    """Say for every two lines which share of their words is the same, or 0 for too few."""
    lefts = [Counter(_words(old[line])) for line in left]
    rights = [Counter(_words(new[line])) for line in right]
    return [[_share(one, other) for other in rights] for one in lefts]


def _share(one: Counter[str], other: Counter[str]) -> float:
    """Return the share of words that two lines have in common, from 0 to 1; 0 if below ALIKE."""
    share = 2 * (one & other).total() / max(1, one.total() + other.total())
    return share if share >= ALIKE else 0.0


def _walk(
    best: list[list[float]], score: list[list[float]], left: Sequence[int], right: Sequence[int]
) -> Iterator[Row]:
    """Follow the best way through two runs of lines: pairs, and between them all that has none."""
    i = j = 0
    gone: list[int] = []
    come: list[int] = []
    while i < len(left) and j < len(right):
        if score[i][j] and best[i][j] == best[i + 1][j + 1] + score[i][j]:
            yield from [*_beside(gone, come), (left[i], right[j])]
            gone, come, i, j = [], [], i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            gone.append(left[i])
            i += 1
        else:
            come.append(right[j])
            j += 1
    yield from _beside([*gone, *left[i:]], [*come, *right[j:]])


def _html_row(old: Sequence[str], new: Sequence[str], row: Row) -> str:
    """Write one row: two lines, or one beside nothing, with the words marked that differ."""
    left, right = ("" if n is None else lines[n] for n, lines in zip(row, (old, new), strict=True))
    alike = _share(Counter(_words(left)), Counter(_words(right))) > 0
    marked = _marked(left, right) if alike else (html.escape(left), html.escape(right))
    changed = None in row or left != right
    cells = zip("-+", row, marked, strict=True)
    return f"<tr>{''.join(_html_cell(sign, n, text, changed) for sign, n, text in cells)}</tr>"


def _html_cell(sign: str, number: int | None, text: str, changed: bool) -> str:
    """Write one side of a row: its line number, a sign if the line differs, and the line."""
    if number is None:
        return '<td class="wb-n"></td><td class="wb-none"></td>'
    kind, gutter = ({"-": "wb-old", "+": "wb-new"}[sign], sign) if changed else ("", " ")
    return (
        f'<td class="wb-n">{number + 1}</td><td class="wb-line {kind}">'
        f'<span class="wb-sign">{gutter}</span>{text}</td>'
    )


def _marked(old: str, new: str) -> tuple[str, str]:
    """Escape two lines, with the words that differ between marks."""
    left, right = "", ""
    old_words, new_words = _tokens(old), _tokens(new)
    matcher = difflib.SequenceMatcher(None, old_words, new_words, autojunk=False)
    for tag, i, i_end, j, j_end in matcher.get_opcodes():
        left += _mark("".join(old_words[i:i_end]), "del", tag == "equal")
        right += _mark("".join(new_words[j:j_end]), "ins", tag == "equal")
    return left, right


def _mark(text: str, tag: str, same: bool) -> str:
    """Escape a text, and mark it unless it is the same on both sides."""
    escaped = html.escape(text)
    return escaped if same or not text else f"<{tag}>{escaped}</{tag}>"


def _tokens(line: str) -> list[str]:
    """Cut a line into words, runs of space, and single signs."""
    return re.findall(r"\w+|\s+|[^\w\s]", line)


def _words(line: str) -> list[str]:
    """Return what tells lines apart: their words, or their signs if there are none."""
    return re.findall(r"\w+", line) or line.split()


class _Palette(style.Style):
    """Colours by name: the page's own theme, light or dark, gives each its value."""

    styles = {  # noqa: RUF012 - pygments wants a plain class attribute
        token.Comment: "italic var(--wb-comment)",
        token.Keyword: "bold var(--wb-keyword)",
        token.Name.Builtin: "var(--wb-builtin)",
        token.Name.Class: "bold var(--wb-name)",
        token.Name.Decorator: "var(--wb-builtin)",
        token.Name.Function: "bold var(--wb-name)",
        token.Number: "var(--wb-number)",
        token.Operator.Word: "bold var(--wb-keyword)",
        token.String: "var(--wb-string)",
    }


_FORMATTER = formatters.HtmlFormatter(style=_Palette, nowrap=True, classprefix="wb-")
_TOKENS: str = _FORMATTER.get_style_defs(".wb")  # type: ignore[no-untyped-call]
_COLOURS = {"+": "green", "-": "red", "@": "cyan"}
_COLUMNS = '<colgroup><col class="wb-cn"><col><col class="wb-cn"><col></colgroup>'

_LIGHT = """--wb-text: #1f2328; --wb-page: #ffffff; --wb-dim: #59636e; --wb-line: #d1d9e0;
--wb-old: #ffebe9; --wb-old-word: #ff8182; --wb-new: #dafbe1; --wb-new-word: #6fdd8b;
--wb-comment: #59636e; --wb-keyword: #0550ae; --wb-builtin: #6639ba; --wb-name: #7d3c00;
--wb-number: #8a4600; --wb-string: #116329;"""
_DARK = """--wb-text: #e6edf3; --wb-page: #14181d; --wb-dim: #9aa4af; --wb-line: #3d444d;
--wb-old: #4b1c1f; --wb-old-word: #a23139; --wb-new: #14401f; --wb-new-word: #22803a;
--wb-comment: #9aa4af; --wb-keyword: #79c0ff; --wb-builtin: #d2a8ff; --wb-name: #ffb77c;
--wb-number: #f0a35e; --wb-string: #7ee2a0;"""

# JupyterLab says which theme it wears; elsewhere the reader's system decides.
_STYLE = f"""<style>
{_TOKENS}
.wb {{ {_LIGHT} }}
@media (prefers-color-scheme: dark) {{ .wb {{ {_DARK} }} }}
[data-jp-theme-light="true"] .wb {{ {_LIGHT} }}
[data-jp-theme-light="false"] .wb, .vscode-dark .wb {{ {_DARK} }}
.wb {{ color: var(--wb-text); background: var(--wb-page); padding: 0.5em; }}
.wb .wb-dim {{ color: var(--wb-dim); margin-bottom: 0.5em; }}
.wb pre.wb-code, .wb table.wb-diff {{ font: 13px/1.45 ui-monospace, Menlo, Consolas, monospace; }}
.wb pre.wb-code {{ color: inherit; background: none; margin: 0; padding: 0; overflow-x: auto; }}
.wb table.wb-diff {{ color: inherit; width: 100%; table-layout: fixed;
  border-collapse: collapse; margin: 0; }}
.wb table.wb-diff tbody tr:nth-child(n) {{ background: none; }}
.wb .wb-diff td {{ color: inherit; padding: 0 0.4em; text-align: left; vertical-align: top;
  border: none; line-height: inherit; white-space: pre-wrap; overflow-wrap: anywhere; }}
.wb col.wb-cn {{ width: 3.2em; }}
.wb .wb-diff td.wb-n {{ color: var(--wb-dim); text-align: right; user-select: none; }}
.wb .wb-diff td.wb-line {{ padding-left: 1.8em; text-indent: -1.4em; }}
.wb .wb-sign {{ display: inline-block; width: 1.4em; text-indent: 0; user-select: none; }}
.wb .wb-diff td.wb-old {{ background: var(--wb-old); }}
.wb .wb-diff td.wb-new {{ background: var(--wb-new); }}
.wb .wb-diff td del {{ background: var(--wb-old-word); text-decoration: none; }}
.wb .wb-diff td ins {{ background: var(--wb-new-word); text-decoration: none; }}
.wb .wb-diff tr.wb-gap td {{ color: var(--wb-dim); border-top: 1px solid var(--wb-line);
  padding-top: 0.4em; }}
</style>"""
