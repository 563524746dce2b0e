"""Benchmarks as a page keeps them: in Markdown, with the machine and the command that printed them.

A page holds a section for each command, between two comments: `<!-- bench NAME -->` and
`<!-- end of bench NAME -->`. `put` replaces what is between them.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from workbench.errors import Mistake
from workbench.files import write
from workbench.measure.benchmark import Benchmark, Row, short

BUSY = 0.3  # of the cores, on average over the last minute: more spoils the figures
CPU_INFO = Path("/proc/cpuinfo")
SPREAD = 4  # columns of ratios and what they are made of, shown with their least and greatest


def machine() -> str:
    """Describe the machine: processor, cores, system and Python, and whether it is busy."""
    cores = os.cpu_count() or 1
    words = f"{_processor()}, {cores} cores, {platform.system()} {platform.release()}"
    words += f", {platform.python_implementation()} {platform.python_version()}"
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return f"{words}; {_state(load, cores)}"


def _state(load: float, cores: int) -> str:
    """Say whether other work disturbs the figures."""
    if load < BUSY * cores:
        return f"quiet before the run (load average {load:.1f})"
    return f"busy before the run (load average {load:.1f}), so measure again on a quiet one"


def _processor() -> str:
    """Name the processor as the system does: Linux in a file, macOS by a command."""
    if CPU_INFO.exists():
        lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
        named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    elif platform.system() == "Darwin":
        line = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        named = [subprocess.run(line, capture_output=True, text=True).stdout.strip()]  # noqa: S603
    else:
        named = []
    return next(filter(None, named), platform.processor() or platform.machine())


def section(parts: Sequence[Benchmark], command: str, where: str) -> str:
    """Write benchmarks as Markdown, below the command and the machine that they come from."""
    lines = ["```sh", command, "```", "", f"Machine: {where}.", ""]
    for part in parts:
        lines += [f"**{part.title}**", "", *_table(part), "", *_notes(part), ""]
    return "\n".join(lines).rstrip() + "\n"


def _table(part: Benchmark) -> Iterator[str]:
    """Write a row for each server."""
    yield "| " + " | ".join(["server", *part.headings]) + " |"
    yield "|---" + "|--:" * len(part.headings) + "|"
    for row in part.rows:
        yield "| " + " | ".join([_cell(row.title), *_figures(part, row)]) + " |"


def _figures(part: Benchmark, row: Row) -> Iterator[str]:
    """Write the medians, with the least and the greatest of the rounds where it matters."""
    columns = part.columns(row)
    if row.errors:
        yield f"no figure: {row.errors} errors"
        columns = columns[1:]
    for number, values in enumerate(columns):
        text = short(median(values)) if values else ""
        if number < SPREAD and len(set(values)) > 1:
            text += f" ({short(min(values))}\N{EN DASH}{short(max(values))})"
        yield text


def _notes(part: Benchmark) -> Iterator[str]:
    return (f"- {_cell(note)}" for note in part.remarks)


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;")


def markers(name: str) -> tuple[str, str]:
    """Return the comments around a section."""
    return f"<!-- bench {name} -->", f"<!-- end of bench {name} -->"


def put(page: Path, name: str, text: str) -> None:
    """Replace a section of a page, or write a new page with that section alone.

    Raises Mistake for a page that has no such section, and leaves it as it is.
    """
    begin, end = markers(name)
    before, after = around(page, name)
    write(page, f"{before}{begin}\n\n{text}\n{end}{after}".encode())


def around(page: Path, name: str) -> tuple[str, str]:
    """Return what stands before and after a section; Mistake if the page has no such section."""
    begin, end = markers(name)
    text = page.read_text(encoding="utf-8") if page.exists() else f"{begin}\n{end}\n"
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise Mistake(f"{page} has no lines {begin} and {end} to put the tables between")
    return before, after
