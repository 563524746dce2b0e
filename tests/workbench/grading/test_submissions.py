"""Where the forks of a class come from: what counts of each is fetched, and nothing of it runs."""

import base64
import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from helpers.git import git

from workbench.course.catalogue import lesson, lessons
from workbench.errors import Mistake
from workbench.grading import submissions as forks
from workbench.grading.submissions import Fork, NotFetched, chosen, fetched, listed

SOURCE = lesson("s01").path.read_bytes()
NAME = "stages/s01_bind_and_print.py"
needs_links = pytest.mark.skipif(os.name == "nt", reason="Windows lets few people make links")


@pytest.fixture
def folder(tmp_path):
    """A small fork in a folder."""
    fork = tmp_path / "forks" / "ada"
    for name, data in ((NAME, SOURCE), ("static/hello.html", b"hello")):
        (fork / name).parent.mkdir(parents=True, exist_ok=True)
        (fork / name).write_bytes(data)
    return fork


def committed(folder):
    """Make a repository of a folder, on the branch main; return its commit."""
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "mine")
    return git(folder, "rev-parse", "HEAD")


def by_git(folder, revision="main"):
    return fetched(Fork("ada", folder.as_uri(), revision))


def revision(folder):
    return fetched(Fork.at(folder)).revision


def text(parcel, name):
    return base64.b64decode(parcel.files[name])


# Folders


def test_the_revision_of_a_folder_is_of_what_counts_and_of_nothing_else(folder):
    before = revision(folder)
    for name in ("README.md", "tests/test_mine.py", "stages/__pycache__/x.pyc", "conftest.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine", encoding="utf-8")
    assert revision(folder) == before
    (folder / "static" / "hello.html").write_bytes(b"hallo")
    assert revision(folder) != before
    (folder / "static" / "hello.html").write_bytes(b"hello")
    (folder / NAME).write_bytes(SOURCE + b"\n")
    assert revision(folder) != before


def test_a_repository_has_its_commit_before_that_and_one_around_it_says_nothing(folder):
    plain = revision(folder)
    git(folder.parent, "init", "-q")
    git(folder.parent, "commit", "-q", "--allow-empty", "-m", "the class's")
    assert revision(folder) == plain
    commit = committed(folder)
    assert revision(folder) == f"{commit}+{plain}"


def test_a_parcel_unpacks_to_what_counts_and_the_names_beside_it(folder, tmp_path):
    (folder / "stages" / "s2_read_request.py").write_text("", encoding="utf-8")
    (folder / "mine.txt").write_text("mine", encoding="utf-8")
    fetched(Fork.at(folder)).unpack(tmp_path / "out")
    files = {
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")
    }
    assert files == {"stages", "static", NAME, "static/hello.html", "stages/s2_read_request.py"}
    assert (tmp_path / "out" / NAME).read_bytes() == SOURCE


@needs_links
def test_links_are_not_followed_and_leave_a_note(folder, tmp_path):
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    (folder / NAME).unlink()
    (folder / NAME).symlink_to(tmp_path / "secret")
    (folder / "static" / "secret.txt").symlink_to(tmp_path / "secret")
    for parcel in (fetched(Fork.at(folder)), committed(folder) and by_git(folder)):
        assert list(parcel.files) == ["static/hello.html"]
        assert [note.partition(" ")[0] for note in parcel.notes] == [NAME, "static/secret.txt"]


def test_a_folder_that_is_not_there_is_said_in_a_line(tmp_path):
    with pytest.raises(NotFetched, match="there is no folder"):
        fetched(Fork("ada", str(tmp_path / "nobody")))


# git


def test_a_branch_a_tag_and_a_commit_are_fetched_and_the_whole_commit_is_the_revision(folder):
    commit = committed(folder)
    git(folder, "tag", "-a", "v1", "-m", "handed in")
    (folder / NAME).write_bytes(b"later")
    git(folder, "commit", "-qam", "later")
    later = git(folder, "rev-parse", "HEAD")
    assert [by_git(folder, name).revision for name in ("v1", commit)] == [commit, commit]
    assert text(by_git(folder, "v1"), NAME) == SOURCE
    assert text(by_git(folder, "main"), NAME) == b"later"
    assert by_git(folder, "").revision == later
    assert fetched(Fork("ada", str(folder), "v1")).revision == commit


def test_only_what_counts_is_checked_out_and_a_fork_without_it_is_empty(folder):
    (folder / "huge.bin").write_bytes(b"x")
    committed(folder)
    assert set(by_git(folder).files) == {NAME, "static/hello.html"}
    git(folder, "rm", "-rq", "stages", "static")
    git(folder, "commit", "-qm", "nothing")
    assert by_git(folder).files == {}


def test_nothing_of_a_repository_runs(folder, tmp_path, monkeypatch):
    """Hooks, filters and settings of the fork, of the user and of the system stay unread."""
    trace, script = tmp_path / "trace", tmp_path / "evil.py"
    script.write_text(f"open({str(trace)!r}, 'w')", encoding="utf-8")
    evil = f"{Path(sys.executable).as_posix()} {script.as_posix()}"
    settings = tmp_path / "home" / ".gitconfig"
    settings.parent.mkdir()
    settings.write_text(
        f'[filter "evil"]\n smudge = {evil}\n[core]\n fsmonitor = {evil}\n'
        f" hooksPath = {folder / 'hooks'}\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("HOME", str(settings.parent))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    (folder / "hooks").mkdir()
    (folder / "hooks" / "post-checkout").write_text(f"#!/bin/sh\n{evil}\n", encoding="utf-8")
    (folder / "hooks" / "post-checkout").chmod(0o755)
    (folder / "stages" / ".gitattributes").write_text("* filter=evil\n", encoding="utf-8")
    committed(folder)
    git(folder, "config", "core.fsmonitor", evil)
    settled = os.environ | {"GIT_CONFIG_NOSYSTEM": "1"}  # and the user's settings are heard
    subprocess.run(["git", "status"], cwd=folder, env=settled, check=True, capture_output=True)
    trace.unlink()  # so any git that heard them would run it
    assert text(by_git(folder), NAME) == SOURCE
    assert revision(folder)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("source", "revision", "why"),
    [
        ("ext::sh -c touch% pwned", "", "transport 'ext' not allowed"),
        ("http://127.0.0.1:1/ada.git", "", "transport 'http' not allowed"),
        ("{uri}", "nowhere", "couldn't find remote ref nowhere"),
        ("{uri}", "--upload-pack=touch pwned", "needed a branch, a tag or a commit"),
        ("{uri}", "a\nb", "needed a branch, a tag or a commit"),
        ("{uri}/not", "main", "does not"),
        ("https://ada:secret@127.0.0.1:1/ada.git", "main", "unable to access"),
    ],
)
def test_what_cannot_be_fetched_is_said_in_a_line_without_a_secret(folder, source, revision, why):
    committed(folder)
    with pytest.raises(NotFetched) as raised:
        fetched(Fork("ada", source.format(uri=folder.as_uri()), revision))
    assert why in str(raised.value)
    assert "secret" not in str(raised.value)
    assert not list(folder.rglob("pwned"))


def test_one_who_never_answers_is_given_up_and_no_git_is_left(monkeypatch):
    monkeypatch.setattr(forks, "FETCH_SECONDS", 0.5)
    late = pytest.raises(NotFetched, match=r"not done after 0\.5 s")
    with socket.create_server(("127.0.0.1", 0)) as silent, late:
        fetched(Fork("ada", f"https://127.0.0.1:{silent.getsockname()[1]}/ada.git", "main"))
    family = psutil.Process().children(recursive=True)
    assert not [child for child in family if "git" in child.name()]


def test_one_who_sends_too_much_is_given_up(folder, monkeypatch):
    (folder / "huge.bin").write_bytes(os.urandom(2**23))
    committed(folder)
    monkeypatch.setattr(forks, "FETCHED", 2**12)
    monkeypatch.setattr(forks, "LOOK", 0.001)
    with pytest.raises(NotFetched, match="more than 4,096 bytes"):
        by_git(folder)


# Lists and choices


def test_a_list_has_folders_and_addresses_with_or_without_headings(tmp_path):
    lines = 'Ada,ada\n"Grace, H.",https://example.org/g.git,main\n\nIda,repositories/ida,v1\n'
    expected = [
        Fork("Ada", str(tmp_path / "ada")),
        Fork("Grace, H.", "https://example.org/g.git", "main"),
        Fork("Ida", str(tmp_path / "repositories" / "ida"), "v1"),
    ]
    for heading in ("", "\ufeffname,source,revision\n", "Name,Folder\n"):
        (tmp_path / "list.csv").write_text(heading + lines, encoding="utf-8")
        assert listed(tmp_path / "list.csv") == expected


@pytest.mark.parametrize("line", [b"Ada", b"Ada,", b",ada", b"a,b,c,d", b"\xff,ada"])
def test_a_line_that_is_no_fork_is_told(tmp_path, line):
    (tmp_path / "list.csv").write_bytes(b"Ida,ida\n" + line + b"\n")
    with pytest.raises(Mistake, match=r"list\.csv"):
        listed(tmp_path / "list.csv")


def test_stages_are_chosen_by_name_and_by_range():
    slugs = [known.slug for known in lessons()]
    assert chosen("s01-s03") == slugs[:3]
    assert chosen("s05,routing,1-2") == ["s05_routing", "s05_routing", *slugs[:2]]
    assert chosen("slow-route") == ["s06_slow_route"]
    assert chosen("") == []
    for wrong in ("s03-s01", "s01-nothing", "nothing"):
        with pytest.raises(Mistake):
            chosen(wrong)
