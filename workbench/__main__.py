"""python -m workbench: start a stage, speak to it, watch it, read it, and carry a fix forward."""

from __future__ import annotations

import io
import os
import re
import runpy
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from workbench.course.catalogue import lesson
from workbench.errors import Mistake
from workbench.files import STAGES

if TYPE_CHECKING:
    from workbench.client.client import Address
    from workbench.measure.benchmark import Benchmark
    from workbench.server.launch import Server

EPILOG = r"""
A STAGE goes by any of its names: s5, s05, 5, routing, s05_routing. WHERE is a stage, which is
started for the occasion, or the address of a server that runs already: 127.0.0.1:7878, or :7878.

\b
Examples:
  python -m workbench run s05
  python -m workbench say s05 'GET /about HTTP/1.1\r\nHost: here\r\n\r\n'
  python -m workbench timeline s06,s07 '/sleep?seconds=2' / / --save waiting.svg
  python -m workbench show s08 ThreadPool.execute serve
  python -m workbench diff s05 s06
  python -m workbench carry s02
  python -m workbench check s05
  python -m workbench watch s05
  python -m workbench hint s05
  python -m workbench solution s05
  python -m workbench hunt s08
  python -m workbench starter s05 --to ../class
  python -m workbench grade forks/* --stages s01-s09 --jobs 2
  python -m workbench colab s05 --repository URL --to FILE
  python -m workbench bench s10 s12 --peers waitress,gunicorn
  python -m workbench scope s06 s08
"""
UNWRAPPED = "\b\n"  # click keeps the lines below as they are


app = typer.Typer(
    name="python -m workbench",
    help="What a web server is put on to be started, spoken to, watched and read.",
    epilog=EPILOG.replace("\\b\n", UNWRAPPED),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Stage = Annotated[str, typer.Argument(metavar="STAGE", show_default=False)]
Where = Annotated[str, typer.Argument(metavar="WHERE", show_default=False)]
OwnFile = Annotated[
    Path | None, typer.Option("--file", help="A copy of your own, in the stage's place.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A setting of the stage, such as WORKERS=2."),
]


def show_in_terminal(thing: object) -> None:
    """Print in colour, or as plain text what a file or another program is to read."""
    console = Console()
    console.print(thing if console.is_terminal else Text(str(thing)), soft_wrap=True)


def settings(given: list[str] | None) -> dict[str, str]:
    """Read NAME=VALUE pairs. Raises Mistake for one that has no name or no '='."""
    for pair in given or []:
        if not re.fullmatch(r"[A-Za-z_]\w*=.*", pair, re.DOTALL):
            raise Mistake(f"needed NAME=VALUE after --set, got {pair!r}")
    return dict(pair.split("=", 1) for pair in given or [])


def address(where: str) -> Address | None:
    """Read the address of a running server, or None for the name of a stage. Raises Mistake."""
    host, colon, port = where.removeprefix("http://").rstrip("/").rpartition(":")
    if not colon:
        return None
    if not re.fullmatch("[0-9]{1,5}", port):
        raise Mistake(f"needed an address like 127.0.0.1:7878, got {where!r}")
    return host or "127.0.0.1", int(port)


@contextmanager
def serving(where: str, file: Path | None, given: list[str] | None) -> Iterator[Server | Address]:
    """Lend the server at an address, or a stage that is started now and stopped afterwards."""
    if (running := address(where)) is not None:
        yield running
        return
    from workbench.server.launch import launch

    with launch(where, file=file, **settings(given)) as server:
        yield server


def unescaped(text: str) -> bytes:
    r"""Turn what can be typed into bytes: \r, \n, \t, \0, \\ and \x41 as in Python, the rest UTF-8.

    Raises Mistake for any other backslash.
    """
    return b"".join(map(_piece, re.findall(r"\\x[0-9a-fA-F]{2}|\\.|[^\\]+|\\", text, re.DOTALL)))


def _piece(piece: str) -> bytes:
    """Turn one escape, or a run of plain text, into bytes."""
    known = {r"\r": b"\r", r"\n": b"\n", r"\t": b"\t", r"\0": b"\0", r"\\": b"\\"}
    if piece.startswith(r"\x") and len(piece) == 4:
        return bytes.fromhex(piece[2:])
    if piece.startswith("\\") and piece not in known:
        raise Mistake(rf"needed \r, \n, \t, \0, \\ or \xNN, got {piece}")
    return known.get(piece, piece.encode(errors="surrogateescape"))


Command = TypeVar("Command", bound=Callable[..., None])


def command(example: str, name: str | None = None) -> Callable[[Command], Command]:
    """Make a function a command of the workbench, with an example below its help."""
    return app.command(name, epilog=f"{UNWRAPPED}Example:\n  python -m workbench {example}")


@command("list", name="list")
def list_() -> None:
    """List the course, and the line that runs each stage."""
    from stages.__main__ import listing

    typer.echo(listing())


@command("run s08 --set PORT=8000 --set WORKERS=2")
def run(stage: Stage, file: OwnFile = None, given: Settings = None) -> None:
    """Run a stage here until Ctrl-C."""
    known = lesson(stage)
    path = str(file or known.path)
    if not Path(path).is_file():
        raise Mistake(f"there is no file {path}")
    os.environ.update(settings(given))
    sys.argv = [path]
    runpy.run_path(path, run_name="__main__")


@command(r"say s05 'GET / HTTP/1.1\r\nHost: here\r\n\r\n'")
def say(
    where: Where,
    chunks: Annotated[
        list[str], typer.Argument(metavar="TEXT", help=r"What to send; \r\n ends a line.")
    ],
    answers: Annotated[
        int | None, typer.Option(help="Listen for so many answers, not until the server ends.")
    ] = None,
    finish: Annotated[bool, typer.Option("--finish", help="Say no more: a half close.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to listen at most.")] = 10.0,
    file: OwnFile = None,
    given: Settings = None,
) -> None:
    """Send raw bytes, and show both directions.

    Each further TEXT is sent on its own, after the one before.
    """
    from workbench.client import client as wire

    words = [unescaped(chunk) for chunk in chunks]
    with serving(where, file, given) as server:
        show_in_terminal(wire.say(server, *words, answers=answers, finish=finish, timeout=timeout))


@command("timeline s06 '/sleep?seconds=2' / / --save waiting.svg")
def timeline(
    where: Where,
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help="One for each visitor.")],
    gap: Annotated[float, typer.Option(help="Seconds between one visitor and the next.")] = 0.0,
    save: Annotated[Path | None, typer.Option(help="Draw it into this file, SVG or PNG.")] = None,
    given: Settings = None,
) -> None:
    """Send visitors at once, and tell who waited.

    Several stages, named as s06,s07,s08, are drawn above each other.
    """
    from workbench.measure import timeline as drawing

    drawn: dict[str, Any] = {}
    for name in where.split(","):
        with serving(name, None, given) as server:
            drawn[name] = drawing.timeline(server, paths, gap=gap, title=_title(name))
        show_in_terminal(drawn[name])
    if save:
        titled = {part.title: part for part in drawn.values()}
        picture = drawing.timelines(titled) if len(drawn) > 1 else drawn[where]
        picture.save(save)
        typer.echo(f"drawn in {save}")


def _title(where: str) -> str:
    """Name what is drawn: a stage by its number and title, a server by its address."""
    known = None if address(where) else lesson(where)
    return f"{known.short} {known.title}" if known else where


@command("show s08 ThreadPool.execute serve")
def show(
    stage: Stage,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Functions, classes, constants.")
    ] = None,
    file: OwnFile = None,
) -> None:
    """Show the source of a stage, or of its pieces."""
    from workbench.course import source as reading

    show_in_terminal(reading.show(stage, *names or [], file=file))


@command("diff s05 s06")
def diff(
    before: Annotated[str, typer.Argument(metavar="STAGE|FILE", show_default=False)],
    after: Annotated[str | None, typer.Argument(metavar="STAGE|FILE")] = None,
) -> None:
    """Compare two stages, or a stage and a file.

    A stage alone is compared with the one that it builds on; a copy of your own is named by its
    path: diff s05 mine/s05_routing.py.
    """
    from workbench.course import source as reading

    show_in_terminal(reading.diff(before, after))


@command("carry s02 --base HEAD~1")
def carry(
    stage: Annotated[str | None, typer.Argument(metavar="STAGE", show_default=False)] = None,
    base: Annotated[
        str | None, typer.Option(help="The commit to compare with, HEAD unless told.")
    ] = None,
    go_on: Annotated[bool, typer.Option("--continue", help="Go on after a clash.")] = False,
) -> None:
    """Bring a fix forward through all later stages.

    The fix is what changed since --base, committed or not. Where it meets what a later stage
    changes itself, both are left in the file; put it right, then: carry --continue.
    """
    from workbench.course import carry as carrying

    if go_on == (stage is not None) or (go_on and base):
        raise Mistake("needed the name of a stage, or --continue alone")
    carried = carrying.carry(stage, base, STAGES) if stage else carrying.go_on(STAGES)
    typer.echo(carried)


@command("check s05 --file mine/s05_routing.py")
def check(stage: Stage, file: OwnFile = None) -> None:
    """Say a stage's sentences of your copy, up to the first that fails.

    Your copy is the one in notebooks/mine; where there is none, it is the stage. The status is 1
    unless all sentences hold.
    """
    from workbench.practice import check as checking

    with Console(stderr=True).status(f"checking {stage}") as status:
        verdict = checking.check(stage, file, heard=lambda heard: status.update(heard.said))
    show_in_terminal(verdict)
    raise typer.Exit(not verdict)


@command("watch s05")
def watch(stage: Stage, file: OwnFile = None) -> None:
    """Check your copy at each save, until all sentences hold.

    It is the file that check takes, with its pages. Enter then goes on to the next stage; q leaves.
    """
    from workbench.practice import watch as watching

    watching.watch(stage, file)


@command("hint s05")
def hint(stage: Stage) -> None:
    """Give a hint on the sentence that the last check found broken.

    There are three on each sentence, from a nudge to nearly the answer: ask again for the next.
    """
    from workbench.practice import hints

    show_in_terminal(hints.hint(stage))


@command("solution s05")
def solution(
    stage: Stage,
    file: OwnFile = None,
    course: Annotated[
        Path | None, typer.Option(help="A folder with the whole course, where this has a part.")
    ] = None,
) -> None:
    """Show how the course has written a stage, once all of yours holds.

    Your copy, or a --file, is compared with the stage's own text after a check that has passed. The
    repository that a class forked has no solution: --course names one that does.
    """
    from workbench.practice import solution as solving

    show_in_terminal(solving.solution(stage, file, course=course))


@command("hunt s08 --number 3")
def hunt(
    stage: Stage,
    number: Annotated[
        int | None, typer.Option(help="Which fault: the same for a whole class.")
    ] = None,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Tell what is wrong on the bench.")
    ] = False,
) -> None:
    """Put a wrong file on the bench, to be found out by what it does.

    It is a stage with a fault that students really make: one that you have not hunted, or the one
    of a --number. What you wrote on the bench before is kept beside it. --reveal shows the fault as
    a diff, and says whether you have repaired it.
    """
    from workbench.practice import hunt as hunting

    if reveal and number is not None:
        raise Mistake("needed --number or --reveal, not both")
    if not reveal:
        show_in_terminal(hunting.hunt(stage, number))
        return
    under_way = hunting.on_bench(stage)
    with Console(stderr=True).status("looking at your file") as status:
        revealed = under_way.reveal(heard=lambda heard: status.update(heard.said))
    show_in_terminal(revealed)


@command("starter s05 --to ../class")
def starter(
    to: Annotated[Path, typer.Option(help="A new or empty folder.", show_default=False)],
    stages: Annotated[list[str] | None, typer.Argument(metavar="STAGE")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All stages of the course.")] = False,
    course: Annotated[
        str, typer.Option(metavar="OWNER/NAME@COMMIT", help="Have it grade each push.")
    ] = "",
) -> None:
    """Make the repository that a class forks, with what a stage teaches left to be written.

    The stages before are whole, and those behind are left out; no file holds an answer. With --all
    no stage has a body left, and the class brings what it writes from one to the next by carry.
    """
    from workbench.course import starter as starting
    from workbench.course.catalogue import lessons

    if bool(stages) == all_:
        raise Mistake("needed the names of stages, or --all")
    typer.echo(starting.starter(stages or lessons(), to, course))


@command("grade forks/* --stages s01-s09 --jobs 2")
def grade(
    folders: Annotated[list[Path] | None, typer.Argument(metavar="FOLDER", help="Forks.")] = None,
    forks: Annotated[
        Path | None, typer.Option(metavar="CSV", help="A list: name, folder or address, revision.")
    ] = None,
    stages: Annotated[str, typer.Option(help="Such as s05, s01,s05 or s01-s09.")] = "",
    to: Annotated[Path, typer.Option(help="The folder for the results.")] = Path("grades"),
    jobs: Annotated[int, typer.Option(help="How many forks at once.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with unfinished forks.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Grade again what has a mark.")] = False,
    seed: Annotated[int | None, typer.Option(help="Of what is sent; else each its own.")] = None,
    require_isolation: Annotated[
        bool, typer.Option("--require-isolation", help="Give no mark where a wall is missing.")
    ] = False,
    dask: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Grade on the cluster of this scheduler.")
    ] = "",
) -> None:
    """Grade forks with the suite of this checkout: a fork's own tests and settings are not read.

    Each fork has a folder with grade.json, a page for the student and reports for other programs;
    grades.csv and index.html beside them show the class. A fork with the same revision, suite and
    stages as its last mark is not graded again. A list has a line for each fork: its name, a folder
    or an address for git (https, ssh), and for git a branch, tag or full commit. The status is 1
    unless every fork has a mark, however low.

    With --dask, each worker needs this very checkout, and no folder of this machine.
    """
    from workbench.grading import batch as marking
    from workbench.grading.submissions import Fork, chosen, listed

    class_ = [*map(Fork.at, folders or ()), *(listed(forks) if forks else ())]
    if not class_:
        raise Mistake("needed the folder of a fork, or --forks with a list of them")
    if jobs < 1:
        raise Mistake(f"--jobs must be at least 1, not {jobs}")
    terms = marking.Terms(chosen(stages), seed, require_isolation, resume, fresh)
    try:
        marks = marking.mark_class(class_, to, terms, jobs=jobs, dask=dask, console=Console())
    except KeyboardInterrupt:
        typer.echo("\nstopped: the same command with --resume goes on from here", err=True)
        raise typer.Exit(130) from None
    except OSError as error:
        raise Mistake(f"the results cannot be kept in {to}: {error}") from error
    raise typer.Exit(len(marks.marked) < len(class_))


@command("colab s05 --repository URL --to s05.ipynb")
def colab(
    stage: Stage,
    repository: Annotated[
        str, typer.Option(metavar="URL", help="What `git clone` takes.", show_default=False)
    ],
    to: Annotated[Path, typer.Option(help="A new file.", show_default=False)],
) -> None:
    """Write a lesson's notebook for Colab, where its first cell fetches the course."""
    from workbench.course import colab as form

    typer.echo(f"Open {form.colab(stage, repository, to)} in Colab, and run its first cell.")


@command("bench s10 s12 --peers waitress,gunicorn,http.server --connections 4,64 --save speed.svg")
def bench(
    where: Annotated[
        list[str] | None,
        typer.Argument(metavar="WHERE", help="Stages or addresses; s12,WORKERS=64 has its own."),
    ] = None,
    peers: Annotated[
        str, typer.Option(metavar="NAMES", help="Other servers with the same page; see below.")
    ] = "",
    baseline: Annotated[
        str | None, typer.Option(metavar="NAME", help="Compare with this row, not with the first.")
    ] = None,
    path: Annotated[str, typer.Option(help="What to ask for.")] = "/",
    rounds: Annotated[int, typer.Option(help="How often each is measured.")] = 5,
    seconds: Annotated[int, typer.Option(help="How long a round takes.")] = 2,
    connections: Annotated[str, typer.Option(help="How many ask at once: 4, or 4,64.")] = "4",
    close: Annotated[
        bool, typer.Option("--close", help="Make a new connection for each request.")
    ] = False,
    pin: Annotated[
        bool, typer.Option("--pin", help="One core for the servers, another for the client.")
    ] = False,
    load: Annotated[
        str | None, typer.Option(metavar="wrk|aiohttp", help="The client; wrk if installed.")
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Draw it into this file, SVG or PNG.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Write the tables into this page, a new one or a section.")
    ] = None,
    section: Annotated[
        str, typer.Option(help="The section of that page, as in <!-- bench NAME -->.")
    ] = "keep-alive",
    given: Settings = None,
) -> None:
    """Measure how fast servers are, in turn, round after round.

    Each figure is the median of the rounds, with the least and the greatest below it. The ratios to
    the first server, or to the --baseline, are taken round by round: requests per second (more is
    better) and CPU time per request (less is better). Access logs are off. Of a server that runs
    already, CPU time and memory are not known.

    Peers: http.server, waitress, gunicorn, uvicorn, uvicorn-fast, hypercorn, granian, nginx, and
    two small programs in Rust, rust and rust-pool. Some need pip install -e ".[bench]".
    """
    from workbench.measure import performance
    from workbench.measure.bench import Benchmarks

    asked: dict[str, Any] = {"path": path, "rounds": rounds, "seconds": seconds, "load": load}
    asked |= {"close": close, "pin": pin, "settings": settings(given), "baseline": baseline}
    asked["peers"] = [name for name in peers.split(",") if name]
    if markdown:
        performance.around(markdown, section)  # a page that cannot be used is told at once
    machine = performance.machine()  # before the run makes it busy
    figures = Benchmarks(tuple(_benchmarks(where or [], connections, asked)))
    typer.echo(f"Machine: {machine}")
    if save:
        figures.save(save)
        typer.echo(f"drawn in {save}")
    if markdown:
        line = shlex.join(["python", "-m", "workbench", *sys.argv[1:]])
        performance.put(markdown, section, performance.section(figures.parts, line, machine))
        typer.echo(f"written to {markdown}")


def _benchmarks(where: list[str], connections: str, asked: dict[str, Any]) -> Iterator[Benchmark]:
    """Measure with each number of connections, and show each table. Raises Mistake."""
    from workbench.measure import bench as measuring

    if not re.fullmatch(r"[0-9]{1,6}(,[0-9]{1,6})*", connections):
        raise Mistake(f"needed numbers of connections like 4 or 4,64, got {connections!r}")
    servers = [address(name) or name for name in where]
    for count in map(int, connections.split(",")):
        with Console(stderr=True).status("starting") as status:
            figures = measuring.bench(*servers, **asked, connections=count, heard=status.update)
        show_in_terminal(figures)
        yield figures


@command("scope s06 s08")
def scope(
    stages: Annotated[list[str], typer.Argument(metavar="STAGE", show_default=False)],
    port: Annotated[int, typer.Option(help="Where the page is; 0 for any free port.")] = 0,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Only print the page's address.")
    ] = False,
    given: Settings = None,
) -> None:
    """Show running stages in a browser while a class uses them, until Ctrl-C.

    The class visits the addresses that the page shows. Several stages stand side by side.
    """
    from workbench.live import scope as scoping

    scoping.scope(stages, port=port, settings=settings(given), browser=not no_browser)


def main() -> None:
    """Do what the command line says; a slip is one line on stderr and status 1."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a pipe on Windows knows no arrow
    try:
        app()
    except Mistake as mistake:
        sys.exit(str(mistake))


if __name__ == "__main__":
    main()
