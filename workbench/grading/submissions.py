"""The forks of a class: where each is, and what counts of it, fetched so that nothing of it runs.

A fork is a folder, or an address for git and a revision. What counts, its stages and `static/`,
becomes a parcel: text that can be sent to another process or machine and unpacked there.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import re
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from workbench.course.catalogue import UnknownStage, lesson, lessons
from workbench.errors import Mistake
from workbench.files import STAGES
from workbench.grading.sanitize import quoted
from workbench.sandbox.isolation import furnish
from workbench.server.processes import descendants, kill

MEBIBYTE = 2**20
FILES, FILE, ALL = 200, 4 * MEBIBYTE, 32 * MEBIBYTE  # of static/: how many, and bytes
SOURCE = MEBIBYTE  # bytes of a stage
NAMES, DEEP = 1000, 10  # of a fork's folder: how many are looked at, and how deep
FETCH_SECONDS = 120
FETCHED = 512 * 2**20  # bytes that may come with what counts
LOOK = 0.2  # seconds between two looks at what git has fetched
PARTS = ("stages", "static")
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:(//|:)|[\w.-]+@[\w.-]+:")
REVISION = re.compile(r"[A-Za-z0-9][\w./+@-]*")
PASSED_ON = {"PATH", "SYSTEMROOT", "TMPDIR", "TEMP", "TMP", "SSH_AUTH_SOCK"}
PASSED_ON |= {"HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"}
ALONE = {  # git by itself: nobody's settings, nobody to ask, nothing that is run
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "SSH_ASKPASS": "",
    "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "LC_ALL": "C",
}
SETTINGS = (f"core.hooksPath={os.devnull}", "core.fsmonitor=false", "maintenance.auto=false")
COLUMNS = "needed NAME,FOLDER or NAME,ADDRESS or NAME,ADDRESS,REVISION"


Parts = tuple[str, ...]


class NotFetched(Mistake):
    """A fork cannot be had; the text says why, and holds nothing of it that is not quoted."""


@dataclass(frozen=True)
class Fork:
    """A name, a folder or an address for git, and for the latter a branch, tag or commit."""

    name: str
    source: str
    revision: str = ""

    @classmethod
    def at(cls, folder: Path) -> Fork:
        """Return the fork in a folder, under the folder's name. Raises Mistake if there is none."""
        if not folder.is_dir():
            raise Mistake(f"needed the folder of a fork, and {quoted(str(folder))} is none")
        place = Path(os.path.abspath(folder))
        return cls(place.name.encode(errors="backslashreplace").decode(), str(place))

    @property
    def by_git(self) -> bool:
        """Whether git is to fetch it."""
        return bool(self.revision or ADDRESS.match(self.source))


@dataclass(frozen=True)
class Parcel:
    """What counts of a fork at a revision: its files in base64, by their paths.

    With it go the other names beside the stages, and a note for each file that was not taken.
    """

    revision: str
    files: dict[str, str]
    others: Sequence[str]
    notes: Sequence[str]

    def unpack(self, to: Path) -> None:
        """Write the files into a new folder; the others are empty there."""
        for name, data in self.files.items():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            (to / name).write_bytes(base64.b64decode(data))
        (to / "stages").mkdir(parents=True, exist_ok=True)
        for name in self.others:
            with suppress(OSError):
                (to / "stages" / name).touch()


def listed(file: Path) -> list[Fork]:
    """Read a list of forks: CSV, a fork a line, with or without a line of headings.

    Folders are found from where the file is. Raises Mistake, with the line.
    """
    try:
        rows = list(csv.reader(io.StringIO(file.read_text(encoding="utf-8-sig"), newline="")))
    except (OSError, ValueError, csv.Error) as error:
        raise Mistake(f"cannot read the list {file}: {error}") from error
    rows = [[cell.strip() for cell in row] for row in rows if any(row)]
    if rows and rows[0][0].lower() == "name":
        del rows[0]
    for row in rows:
        if len(row) not in (2, 3) or not all(row[:2]):
            raise Mistake(f"{file}: {COLUMNS}, got {','.join(row)!r}")
    return [_found(Fork(*row), file.absolute().parent) for row in rows]


def _found(fork: Fork, folder: Path) -> Fork:
    """Find a fork's folder, if it is one, from another."""
    local = not ADDRESS.match(fork.source)
    return replace(fork, source=str(folder / fork.source)) if local else fork


def chosen(text: str) -> list[str]:
    """Read a choice of stages, such as s01-s09 or s01,s05, as slugs. Raises Mistake."""
    slugs: list[str] = []
    for part in filter(None, text.split(",")):
        first, dash, last = part.partition("-")
        try:
            slugs.append(lesson(part).slug)
        except UnknownStage:
            if not dash:
                raise
            numbers = range(lesson(first).number, lesson(last).number + 1)
            if not numbers:
                raise Mistake(f"needed stages such as s01-s09, got {part!r}") from None
            slugs += [known.slug for known in lessons() if known.number in numbers]
    return slugs


def fetched(fork: Fork) -> Parcel:
    """Fetch what counts of a fork. Raises NotFetched."""
    try:
        if not fork.by_git:
            return parcel(Path(fork.source))
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            commit = _checked_out(fork, Path(folder))
            return parcel(Path(folder, "fork"), commit)
    except OSError as error:
        raise NotFetched(f"it cannot be read: {quoted(str(error))}") from error


def parcel(folder: Path, revision: str = "") -> Parcel:
    """Pack what counts of a folder. Raises NotFetched for one that is not there, and OSError.

    Its revision, unless given, is a digest of what counts, behind the commit if git knows one.
    """
    if not folder.is_dir():
        raise NotFetched(f"there is no folder {quoted(str(folder))}")
    with tempfile.TemporaryDirectory() as scratch:
        copy = furnish(Path(scratch)) / "fork"
        notes = tuple(collected(folder, copy, [known.slug for known in lessons()]))
        (copy / "stages" / "__init__.py").unlink()  # the course's own
        files = {
            file.relative_to(copy).as_posix(): base64.b64encode(file.read_bytes()).decode()
            for file in sorted(copy.rglob("*"))
            if file.is_file()
        }
    digest = hashlib.sha256(json.dumps([files, notes]).encode()).hexdigest()[:16]
    revision = revision or "+".join(filter(None, (_commit(folder), digest)))
    return Parcel(revision, files, tuple(_others(folder / "stages", files)), notes)


def collected(fork: Path, to: Path, slugs: Iterable[str]) -> Iterator[str]:
    """Copy the files of stages and `static/` of a fork; yield a note for each that was not taken.

    Links are not followed, and nothing but regular files is opened.
    """
    for slug in slugs:
        name = f"{slug}.py"
        if reason := taken(fork, ("stages", name), to / "stages" / name, SOURCE):
            yield f"stages/{name} was not taken: {reason}"
    shutil.copy(STAGES / "__init__.py", to / "stages")
    count, room = 0, ALL
    for parts, entry in _entries(fork, ("static",)):
        count, place = count + 1, quoted("/".join(parts))
        if count > FILES or entry.st_size > room:
            yield f"{place} and what comes behind it was not taken: static/ is too large"
            return
        if stat.S_ISDIR(entry.st_mode):
            continue
        target = to.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        if reason := taken(fork, parts, target, FILE):
            yield f"{place} was not taken: {reason}"
        else:
            room -= entry.st_size


def _entries(fork: Path, parts: Parts) -> Iterator[tuple[Parts, os.stat_result]]:
    """Yield the names below a folder, in order, but not many too many; links are not followed."""
    folder = fork.joinpath(*parts)
    if folder.is_symlink() or not folder.is_dir() or len(parts) > DEEP:
        return
    for entry in sorted(islice(os.scandir(folder), NAMES), key=lambda entry: entry.name):
        yield (*parts, entry.name), entry.stat(follow_symlinks=False)
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(fork, (*parts, entry.name))


def taken(fork: Path, parts: Sequence[str], to: Path, most: int) -> str:
    """Copy one file of a fork; return why not, if not. One that is not there needs no reason."""
    for depth in range(1, len(parts)):
        if fork.joinpath(*parts[:depth]).is_symlink():
            return "its folder is a link"
    try:
        if not stat.S_ISREG(fork.joinpath(*parts).lstat().st_mode):
            return "it is no regular file"
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        flags |= getattr(os, "O_BINARY", 0)
        with open(os.open(fork.joinpath(*parts), flags), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):  # it was another one a moment ago
                return "it is no regular file"
            if found.st_size > most:
                return f"it has {found.st_size:,} bytes, and may have {most:,}"
            to.write_bytes(file.read(most))
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        return quoted(getattr(error, "strerror", None) or str(error))
    return ""


def _others(stages: Path, files: dict[str, str]) -> Iterator[str]:
    """Yield the names beside the stages: one of them may nearly be a stage's."""
    if stages.is_dir() and not stages.is_symlink():
        for entry in islice(os.scandir(stages), FILES):
            if f"stages/{entry.name}" not in files and not entry.name.startswith("__"):
                yield entry.name


def _commit(folder: Path) -> str:
    """Return the commit of a folder that is a repository itself, or nothing."""
    with suppress(NotFetched), tempfile.TemporaryDirectory() as home:
        above = {"GIT_CEILING_DIRECTORIES": str(folder.resolve().parent)}
        at = ("-C", str(folder.resolve()))
        return _git(
            Path(home), *at, "rev-parse", "--verify", "-q", "HEAD", protocols="none", **above
        )
    return ""


def _checked_out(fork: Fork, home: Path) -> str:
    """Check out what counts of a fork's revision into `home/fork`; return its commit."""
    revision = fork.revision or "HEAD"
    if not REVISION.fullmatch(revision):
        raise NotFetched(f"needed a branch, a tag or a commit, got {quoted(revision)}")
    _git(home, "init", "-q", "--template=", "fork")
    at = ("-C", str(home / "fork"))
    quietly = ("-q", "--depth=1", "--no-tags", "--no-recurse-submodules")
    _git(home, *at, "fetch", *quietly, "--", fork.source, revision)
    commit = _git(home, *at, "rev-parse", "--verify", "-q", "FETCH_HEAD^{commit}")
    there = _git(home, *at, "ls-tree", "-z", "--name-only", commit, *PARTS).split("\0")
    if parts := [part for part in PARTS if part in there]:
        _git(home, *at, "checkout", "-q", "-f", commit, "--", *parts)
    return commit


def _git(home: Path, *words: str, protocols: str = "https:ssh:file", **more: str) -> str:
    """Run git alone, for a bounded time and size; return what it says. Raises NotFetched."""
    own = {"HOME": str(home), "USERPROFILE": str(home), "GIT_ALLOW_PROTOCOL": protocols}
    kept = {name: value for name, value in os.environ.items() if name.upper() in PASSED_ON}
    settings = [word for setting in SETTINGS for word in ("-c", setting)]
    try:
        process = subprocess.Popen(  # noqa: S603 - no text of a fork but behind `--`
            ["git", *settings, *words],  # noqa: S607 - as installed
            cwd=home,
            env=kept | ALONE | own | more,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except FileNotFoundError as error:
        raise NotFetched("needed git, which is not installed") from error
    with process:
        try:
            said, complaint = _bounded(process, home)
        finally:
            kill(descendants(process.pid))
            process.kill()
    if process.returncode:
        raise NotFetched(_why(complaint) or f"git has ended with {process.returncode}")
    return said.decode("utf-8", "surrogateescape").strip()


def _bounded(process: subprocess.Popen[bytes], home: Path) -> tuple[bytes, bytes]:
    """Return what git says and complains of. Raises NotFetched if it takes or brings too much."""
    deadline = time.monotonic() + FETCH_SECONDS
    while True:
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=LOOK)
        if time.monotonic() > deadline:
            raise NotFetched(f"git was not done after {FETCH_SECONDS} s")
        if _size(home) > FETCHED:
            raise NotFetched(f"it has more than {FETCHED:,} bytes")


def _size(folder: Path) -> int:
    """Return the bytes of all files below a folder, some of which may be about to go."""
    size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                size += os.lstat(os.path.join(place, name)).st_size
    return size


def _why(complaint: bytes) -> str:
    """Return the line of a complaint that says why, quoted; git keeps a password to itself."""
    lines = complaint.decode(errors="replace").splitlines() or [""]
    return quoted(next((line for line in lines if line.startswith("fatal: ")), lines[-1]))
