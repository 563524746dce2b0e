"""The repository that a class forks: the stages so far, the chosen ones with bodies left blank.

Blank is each function and each method that the lesson adds or changes: signature, decorators and
docstring stay, and in place of the body stands NotImplementedError with a sentence to make true:
the suite's, where a fault is known that would break it there, or else the docstring's first. What
is no function stays, as a file without its constants could not be imported, and so does a function
that is called while it is imported (`setting`).

A stage holds all that the ones below it have: the course's s06 is the answer to s05. So what a
chosen lesson teaches is blank in every stage that builds on it, too, and with all of them chosen
there is no body left in any stage. Equal definitions are blank in equal words: what a student has
written in s05, `carry` brings to s06, where he changes what that lesson changes.

Stages behind the last chosen one are left out, and from the first chosen one on the suite's faults.
There is no git in it, and so no history: the teacher's first commit is the first.
"""

from __future__ import annotations

import ast
import functools
import io
import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.course import catalogue as lessons
from workbench.course.catalogue import Lesson, Stage
from workbench.course.mutants import mutants
from workbench.errors import Mistake
from workbench.files import NOTEBOOKS, ROOT, SUITE

WORKFLOW = ROOT / ".github" / "workflows" / "grade.yml"
TELLING = 25  # characters: a shorter line of a body gives nothing away
WIDTH = 100  # characters in a line
WHOLE = (
    *(".gitattributes", ".gitignore", "LICENSE", "constraints.txt", "pyproject.toml"),
    *(".binder/*", "stages/__*.py", "stages/lessons.toml", "static/**/*", "workbench/**/*.*"),
    *("tests/conftest.py", "tests/suite/*.*"),
)
NEXT = """
What to do next, in that folder:
  git init -b main
  git add .
  git commit -m "The start"
  python -m workbench check {short}
Push it to where your class forks from. README.md there tells the class how to begin.
"""
README = """# A web server, from a raw socket: yours to write

Each file in `stages/` is a web server in plain Python. What is yours to write says
`raise NotImplementedError`, and beside it the sentence that it shall make true:

{blank}

Set up once, with Python 3.11 or later (on Windows: `py -m venv .venv`, `.venv\\Scripts\\activate`):

```sh
python3 -m venv .venv
. .venv/bin/activate
pip install -c constraints.txt -e ".[lab]"
```

Then read `notebooks/{slug}.ipynb` (`jupyter lab`), write in `stages/{slug}.py`, and ask

```sh
python -m workbench check {short}
```

It says which sentences hold, and shows for the first that does not what came, and a hint.
"""
ON = """
When all of a stage holds, `python -m workbench carry {short}` takes what you wrote to the next.
It stops in the first that changes the same definitions, with both in the file: that is what to
write next. Then go on with `python -m workbench carry --continue`.
"""
YOURS = (
    "**Yours to write**, in `stages/{slug}.py`: {names}. Until you have, the cells that need them"
    " say `NotImplementedError`. Where a cell of this notebook would give an answer away, its"
    " definition is blank as well."
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Starter:
    """Where it was made, and the names that are blank, stage by stage."""

    folder: Path
    blank: dict[str, tuple[str, ...]]

    @property
    def first(self) -> Lesson:
        """The first stage that is to be written."""
        return lessons.lesson(next(iter(self.blank)))

    def __str__(self) -> str:
        told = [f"{slug}: {', '.join(names)}" for slug, names in self.blank.items()]
        told = [textwrap.fill(line, WIDTH, subsequent_indent="    ") for line in told]
        whole = f"\nThe stages before {self.first.short} are whole." * (self.first.number > 1)
        head = f"Made in {self.folder}. Blank are, with a sentence to make true in each:"
        return "\n".join([head, *told]) + whole + "\n" + NEXT.format(short=self.first.short)


def starter(stages: Iterable[Stage], folder: Path, course: str = "") -> Starter:
    """Make the repository for some stages in a new or empty folder, and say what is in it.

    Where the `course` is told, as OWNER/NAME@COMMIT, forks are graded by it at each push. Raises
    UnknownStage, or Mistake for a folder that holds something, for no stage, or no such course.
    """
    chosen = sorted({lessons.lesson(stage) for stage in stages}, key=lambda known: known.number)
    if not chosen:
        raise Mistake("needed the names of stages, or --all")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise Mistake(f"needed a new or empty folder, and {folder} is there and holds something")
    earlier = [known for known in lessons.lessons() if known.number <= chosen[-1].number]
    blank = {known.slug: names for known in earlier if (names := _to_write(known, chosen))}
    workflow = _workflow(course) if course else {}
    for name, text in (*_files(earlier, chosen[0], blank), *workflow.items()):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text)
    return Starter(folder, blank)


def _files(
    course: Sequence[Lesson], first: Lesson, blank: dict[str, tuple[str, ...]]
) -> Iterator[tuple[str, bytes]]:
    """Yield the name of each file, and what is in it."""
    whole = [file for pattern in WHOLE for file in _files_of(pattern)]
    faults = SUITE / "mutants"
    whole += [faults / f"{known.slug}.toml" for known in course if known.number < first.number]
    for file in whole:
        yield _name(file), file.read_bytes()
    yield f"{_name(faults)}/.gitkeep", b""  # git keeps no empty folder
    for known in course:
        notebook = NOTEBOOKS / f"{known.slug}.ipynb"
        stage, lesson = known.path.read_bytes(), notebook.read_bytes()
        if names := blank.get(known.slug):
            stage = _blanked(stage.decode(), names, known).encode()
            lesson = _lesson(json.loads(lesson), names, known).encode()
        yield _name(known.path), stage
        yield _name(notebook), lesson
    told = "\n".join(f"- `{slug}`: {_listed(names)}" for slug, names in blank.items())
    known = lessons.lesson(next(iter(blank)))
    readme = README + ON * (tuple(blank) == tuple(known.slug for known in lessons.lessons()))
    yield "README.md", readme.format(blank=told, slug=known.slug, short=known.short).encode()


def _files_of(pattern: str) -> Iterator[Path]:
    """Yield the files that a pattern names, in order, but for what Python has compiled."""
    for file in sorted(ROOT.glob(pattern)):
        if file.is_file() and file.parent.name != "__pycache__":
            yield file


def _workflow(course: str) -> dict[str, bytes]:
    """Return the workflow that grades a fork, by a commit of the course. Raises Mistake."""
    found = re.fullmatch(r"([\w.-]+/[\w.-]+)@([0-9a-f]{40})", course)
    if not found:
        raise Mistake(f"needed --course OWNER/NAME@COMMIT, a commit of 40 digits, got {course!r}")
    text = WORKFLOW.read_text(encoding="utf-8")
    for setting, value in zip(("COURSE_REPOSITORY", "COURSE_REF"), found.groups(), strict=True):
        text = re.sub(rf'{setting}: "".*', f'{setting}: "{value}"', text)
    return {_name(WORKFLOW): text.encode()}


def _name(file: Path) -> str:
    """Name a file as it is called in the repository."""
    return file.relative_to(ROOT).as_posix()


def _listed(names: Sequence[str]) -> str:
    """Put names in a row, with an 'and' before the last."""
    *others, last = (f"`{name}`" for name in names)
    return " and ".join(filter(None, [", ".join(others), last]))


# What is to be written


def _to_write(known: Lesson, chosen: Iterable[Lesson]) -> tuple[str, ...]:
    """Name what a stage has of that which chosen lessons teach, in the order of its file."""
    teachers = [lesson for lesson in chosen if _is_on(known, lesson)]
    taught = set().union(*map(_taught, teachers))
    source = _text(known)
    taught -= set(_called(ast.parse(source)))
    return tuple(name for name in _functions(source) if name in taught)


@functools.cache
def _taught(known: Lesson) -> frozenset[str]:
    """Name the functions and methods that a lesson adds or changes."""
    earlier = lessons.before(known)
    old = _functions(_text(earlier)) if earlier else {}
    new = _functions(_text(known))
    return frozenset(
        name
        for name, node in new.items()
        if name.partition(".")[0] in known.touches
        and (name not in old or ast.dump(old[name]) != ast.dump(node))
    )


@functools.cache
def _functions(source: str) -> dict[str, Function]:
    """Map the name of each function, and of each method as in `ThreadPool.work`, to its syntax."""
    found: dict[str, Function] = {}
    for node in ast.parse(source).body:
        inside = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        found |= {prefix + part.name: part for part in inside if isinstance(part, Function)}
    return found


def _called(node: ast.AST) -> Iterator[str]:
    """Name what is called while a module is imported: not in bodies, nor below `if __name__`."""
    if isinstance(node, Function | ast.Lambda | ast.If):
        return
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        yield node.func.id
    for child in ast.iter_child_nodes(node):
        yield from _called(child)


@functools.cache
def _text(known: Lesson) -> str:
    """Read a stage."""
    return known.path.read_text(encoding="utf-8")


@functools.cache
def _is_on(known: Lesson, lesson: Lesson) -> bool:
    """Tell whether a stage is a lesson's own, or builds on it."""
    return known in lessons.heirs(lesson)


# How it is blanked


def _blanked(source: str, names: Iterable[str], known: Lesson) -> str:
    """Take the bodies of functions out of a source, and put a sentence in the place of each."""
    lines, functions = list(io.StringIO(source)), _functions(source)
    for name in sorted(names, key=lambda name: -functions[name].lineno):
        node = functions[name]
        lines[_after_docstring(node) : node.end_lineno] = [_task(name, node.col_offset + 4, known)]
    return "".join(lines)


def _after_docstring(node: Function) -> int:
    """Count the lines of a source up to where a function's body begins."""
    if ast.get_docstring(node) is None:
        return node.body[0].lineno - 1
    return node.body[0].end_lineno or 0


@functools.cache
def _body(source: str, name: str) -> str:
    """Return the lines of a function's body, without its docstring; none for a name not there."""
    node = _functions(source).get(name)
    return "".join(
        list(io.StringIO(source))[_after_docstring(node) : node.end_lineno] if node else []
    )


def _task(name: str, margin: int, known: Lesson) -> str:
    """Write the lines that stand for a body, as `ruff format` would."""
    indent, sentence = " " * margin, json.dumps(_sentence(name, known), ensure_ascii=False)
    line = f"{indent}raise NotImplementedError({sentence})\n"
    if len(line) <= WIDTH + 1:
        return line
    return f"{indent}raise NotImplementedError(\n{indent}    {sentence}\n{indent})\n"


def _sentence(name: str, known: Lesson) -> str:
    """Choose the sentence that a definition of a stage shall make true."""
    body = _body(_text(known), name)
    for fault in mutants():
        stage = lessons.lesson(fault.stage)
        if fault.find in body and fault.find in _body(_text(stage), name) and _is_on(known, stage):
            return fault.sentence
    words = ast.get_docstring(_functions(_text(known))[name]) or name
    return words.splitlines()[0]


# Its notebook


def _lesson(notebook: dict[str, Any], names: Sequence[str], known: Lesson) -> str:
    """Say below a notebook's title what is to be written, and blank what would give it away."""
    yours = YOURS.format(slug=known.slug, names=_listed(names))
    cell = {"cell_type": "markdown", "id": f"{known.short}-yours", "metadata": {}}
    notebook["cells"].insert(1, cell | {"source": [yours]})
    for cell in notebook["cells"]:
        magic, _, source = "".join(cell["source"]).partition("\n")
        if magic.startswith("%%mine"):
            given_away = [name for name in names if _gives_away(source, name, known)]
            text = f"{magic}\n{_blanked(source, given_away, known)}"
            cell["source"] = list(io.StringIO(text))
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _gives_away(source: str, name: str, known: Lesson) -> bool:
    """Tell whether a source's definition has a line of the stage's own."""
    answers = map(str.strip, _body(_text(known), name).splitlines())
    return any(len(line) >= TELLING and line in _body(source, name) for line in answers)
