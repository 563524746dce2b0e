"""The named pieces that a stage is made of, as its syntax tree has them."""

from __future__ import annotations

import ast
import io
from collections.abc import Iterator, Sequence


def pieces(source: str) -> dict[str, str]:
    """Map every top-level name of a module to its exact source text, in order.

    Functions and classes come with their decorators and the comment lines directly above them,
    constants with their trailing comment. Raises SyntaxError for what is not Python.
    """
    return _pieces(source, ast.parse(source).body)


def members(source: str) -> dict[str, str]:
    """Map every name in the first class of a source to its exact text, in order; else likewise."""
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    return _pieces(source, classes[0].body) if classes else {}


def _pieces(source: str, statements: Sequence[ast.stmt]) -> dict[str, str]:
    """Map the names that statements bind to the lines of the source that hold them."""
    lines = list(io.StringIO(source))  # by line feeds only, as the parser counts
    texts: dict[str, str] = {}
    for name, statement in _named(statements):
        first = _first_line(statement, lines)
        texts[name] = texts.get(name, "") + "".join(lines[first : statement.end_lineno])
    return texts


def touched(before: str, after: str) -> tuple[str, ...]:
    """Name what is added or changed at the top level between two sources, in the order of `after`.

    Syntax trees are compared: a moved line, a comment or a line break changes nothing. Raises
    SyntaxError for what is not Python.
    """
    old, new = _trees(before), _trees(after)
    return tuple(name for name, tree in new.items() if old.get(name) != tree)


def removed(before: str, after: str) -> tuple[str, ...]:
    """Name what is no longer there, in the order of `before`. Raises SyntaxError likewise."""
    kept = _trees(after)
    return tuple(name for name in _trees(before) if name not in kept)


def _trees(source: str) -> dict[str, list[str]]:
    """Map every top-level name to the syntax trees that bind it, written without positions."""
    trees: dict[str, list[str]] = {}
    for name, statement in _named(ast.parse(source).body):
        trees.setdefault(name, []).append(ast.dump(statement))
    return trees


def _named(statements: Sequence[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """Yield each name with the top-level statement that binds it, imports apart."""
    for statement in statements:
        for name in dict.fromkeys(_bound(statement)):
            yield name, statement


def _bound(node: ast.AST) -> Iterator[str]:
    """Yield the names that a statement binds, those inside an `if` or a `try` among them."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name
        case ast.Name(ctx=ast.Store()):
            yield node.id
        case ast.Lambda() | ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            return  # these bind names of their own
        case _:
            for child in ast.iter_child_nodes(node):
                yield from _bound(child)


def _first_line(statement: ast.stmt, lines: Sequence[str]) -> int:
    """Find the index of a statement's first line, counting decorators and comments above it."""
    first: int = min(node.lineno for node in (statement, *getattr(statement, "decorator_list", ())))
    while first > 1 and lines[first - 2].lstrip().startswith("#"):
        first -= 1
    return first - 1
