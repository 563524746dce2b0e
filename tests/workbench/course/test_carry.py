"""A fix made in one stage is brought forward through all that build on it, and nothing is lost."""

import os
import shutil

import pytest
from helpers.commands import workbench
from helpers.git import git

from workbench.course.carry import Clash, NothingToCompare, carry, go_on
from workbench.course.catalogue import UnknownStage, lessons
from workbench.errors import Mistake
from workbench.files import STAGES

FIX = '    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"\n'
FIXED = '    return f"[{host}]:{port:d}" if ":" in host else f"{host}:{port:d}"\n'


def commit(folder):
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "step")


def started(folder):
    """A repository whose first commit is what the folder holds."""
    git(folder.parent, "init", "--quiet")
    commit(folder.parent)
    return folder


@pytest.fixture
def course(tmp_path):
    """The real stages in a repository of their own, all in step."""
    folder = tmp_path / "stages"
    shutil.copytree(STAGES, folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    return started(folder)


@pytest.fixture
def small(tmp_path):
    """A small course that forks: s02 and s03 build on s01, and s04 on s03."""
    folder = tmp_path / "stages"
    folder.mkdir()
    entries = [("s01_a", None), ("s02_b", "s01_a"), ("s03_c", "s01_a"), ("s04_d", "s03_c")]
    toml = ""
    for slug, parent in entries:
        toml += f'[[lesson]]\nslug = "{slug}"\ntitle = "T"\nquestion = "Q?"\nlimitation = "F"\n'
        toml += 'touches = []\nminutes = 1\npoints = 1\ntier = "I"\n'
        toml += f'builds_on = "{parent}"\n' if parent else ""
        (folder / f"{slug}.py").write_bytes(small_stage(slug))
    (folder / "lessons.toml").write_text(toml, encoding="utf-8")
    return started(folder)


TAUGHT = {"s01_a": "", "s02_b": "B", "s03_c": "C", "s04_d": "CD"}


def small_stage(slug):
    """Ten constants, and a remark behind each that the stage, or one that it builds on, teaches."""
    text = f'"""{slug}: its own words."""\n\n'
    for number, name in enumerate("ABCDEFGHIJ", 1):
        remark = f"  # taught with {name}" if name in TAUGHT[slug] else ""
        text += f"{name}{name} = {number}{remark}\n\n"
    return text.encode()


def read(folder, slug):
    return (folder / f"{slug}.py").read_bytes().decode()


def write(folder, slug, text):
    (folder / f"{slug}.py").write_bytes(text.encode())


def replace(folder, slug, old, new):
    text = read(folder, slug)
    assert old in text
    write(folder, slug, text.replace(old, new))


def everything(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def slugs(carried):
    return [known.slug for known in carried.changed]


# The real stages


def test_a_fix_in_a_stage_arrives_in_all_that_build_on_it(course):
    before = everything(course)
    replace(course, "s02_read_request", FIX, FIXED)
    carried = carry("s02", folder=course)
    heirs = [known.slug for known in lessons()[2:]]
    assert slugs(carried) == heirs
    for slug in heirs:
        assert read(course, slug) == before[f"{slug}.py"].decode().replace(FIX, FIXED)
    assert read(course, "s01_bind_and_print").encode() == before["s01_bind_and_print.py"]


def test_a_second_run_changes_nothing(course):
    replace(course, "s02_read_request", FIX, FIXED)
    carry("s02", folder=course)
    after = everything(course)
    assert slugs(carry("s02", folder=course)) == []
    assert slugs(carry("s05", folder=course)) == []
    assert everything(course) == after


def test_a_fix_that_is_already_committed_is_carried_from_a_base(course):
    replace(course, "s02_read_request", FIX, FIXED)
    commit(course)
    assert slugs(carry("s02", folder=course)) == []
    assert len(carry("s02", base="HEAD~1", folder=course).changed) == len(lessons()) - 2
    commit(course)
    assert slugs(carry("s02", base="HEAD~2", folder=course)) == []


def test_in_another_clone_too_what_is_carried_already_changes_nothing(course):
    replace(course, "s02_read_request", FIX, FIXED)
    carry("s02", folder=course)
    commit(course)
    (course.parent / ".git" / "carry.json").unlink()
    after = everything(course)
    assert slugs(carry("s02", base="HEAD~1", folder=course)) == []
    assert everything(course) == after


OWN = "    chunk = connection.recv(1)  # one by one\n"
RIGHT = "    chunk = connection.recv(7)\n"
FAMILY = "    family = socket.AF_INET6 if", "    family = socket.AF_INET6  if"


@pytest.fixture
def torn(course):
    """The text of s05 when two changes meet in it; another change beside them is no clash."""
    replace(course, "s02_read_request", FIX, FIXED)
    replace(course, "s02_read_request", *FAMILY)
    replace(course, "s05_routing", FIX, OWN)
    with pytest.raises(
        Clash, match=r"stages/s05_routing\.py.*python -m workbench carry --continue"
    ):
        carry("s02", folder=course)
    return read(course, "s05_routing")


def test_a_clash_stops_with_markers(course, torn):
    assert "<<<<<<< s05_routing as it is\n" + OWN in torn
    assert FIXED + ">>>>>>> s04_parse_request now\n" in torn
    assert FIX in read(course, "s06_slow_route")
    with pytest.raises(Clash, match=r"stages/s05_routing\.py, line \d+: a clash still"):
        go_on(course)
    assert read(course, "s05_routing") == torn


def test_a_clash_that_is_put_right_goes_on(course, torn):
    start, end = torn.index("<<<<<<<"), torn.index(">>>>>>>")
    answer = torn[:start] + RIGHT + torn[torn.index("\n", end) + 1 :]
    write(course, "s05_routing", answer)
    carried = go_on(course)
    assert slugs(carried) == [known.slug for known in lessons()[5:]]
    assert read(course, "s05_routing") == answer
    for slug in slugs(carried):
        assert RIGHT in read(course, slug)
        assert FAMILY[1] in read(course, slug)
    after = everything(course)
    assert slugs(carry("s02", folder=course)) == []
    assert everything(course) == after


# Small courses, for what is hard to bring about in the real one


def test_carry_follows_the_tree(small):
    replace(small, "s03_c", "HH = 8", "HH = 88")
    assert slugs(carry("s03", folder=small)) == ["s04_d"]
    assert "HH = 88" not in read(small, "s02_b") + read(small, "s01_a")
    replace(small, "s01_a", "JJ = 10", "JJ = 100")
    assert slugs(carry("s01", folder=small)) == ["s02_b", "s03_c", "s04_d"]
    assert read(small, "s04_d") == small_stage("s04_d").decode().replace(
        "HH = 8", "HH = 88"
    ).replace("JJ = 10", "JJ = 100")


def test_what_each_stage_had_changed_itself_and_not_committed_is_kept_and_goes_on(small):
    replace(small, "s03_c", "FF = 6", "FF = 66")
    replace(small, "s01_a", "JJ = 10", "JJ = 100")
    carry("s01", folder=small)
    for slug, sixes in ("s02_b", "FF = 6\n"), ("s03_c", "FF = 66\n"), ("s04_d", "FF = 66\n"):
        assert sixes in read(small, slug)
        assert "JJ = 100\n" in read(small, slug)
        assert f"# taught with {TAUGHT[slug][-1]}" in read(small, slug)


def test_a_docstring_is_a_stages_own(small):
    replace(small, "s01_a", "its own words", "other words,\nand more")
    replace(small, "s01_a", "JJ = 10", "JJ = 100")
    carry("s01", folder=small)
    assert '"""s02_b: its own words."""\n' in read(small, "s02_b")
    assert "JJ = 100" in read(small, "s02_b")


def test_a_fix_mended_again_after_it_was_carried_is_carried_again(small):
    for value in "77", "777", "7":
        write(small, "s01_a", small_stage("s01_a").decode().replace("GG = 7", f"GG = {value}"))
        assert slugs(carry("s01", folder=small)) == ["s02_b", "s03_c", "s04_d"]
        assert all(f"GG = {value}\n" in read(small, slug) for slug in ("s02_b", "s04_d"))


@pytest.mark.parametrize("times", [1, 2])
def test_a_stage_that_was_taken_back_by_hand_gets_the_fix_again(small, times):
    for value in range(times):
        write(small, "s01_a", small_stage("s01_a").decode().replace("GG = 7", f"GG = 7{value}"))
        carry("s01", folder=small)
    git(small, "checkout", "s03_c.py")
    assert slugs(carry("s01", folder=small)) == ["s03_c"]
    assert f"GG = 7{times - 1}\n" in read(small, "s03_c")


def clashing(small):
    """The fix in s01 changes the very line that s03 changes for its lesson."""
    replace(small, "s01_a", "CC = 3", "CC = 33")
    with pytest.raises(Clash, match=r"s03_c\.py"):
        carry("s01", folder=small)


def test_a_clash_keeps_both_versions_and_what_was_before(small):
    clashing(small)
    assert [
        line for line in read(small, "s03_c").splitlines() if line[:2] in ("CC", "<<", ">>")
    ] == [
        "<<<<<<< s03_c as it is",
        "CC = 3  # taught with C",
        "CC = 3",
        "CC = 33",
        ">>>>>>> s01_a now",
    ]
    assert "CC = 33\n" in read(small, "s02_b")
    assert read(small, "s04_d").encode() == small_stage("s04_d")


def test_a_clash_can_be_answered_with_what_the_stage_said_before(small):
    clashing(small)
    write(small, "s03_c", small_stage("s03_c").decode())
    assert slugs(go_on(small)) == []
    assert slugs(carry("s01", folder=small)) == []
    assert read(small, "s04_d").encode() == small_stage("s04_d")


def test_naming_the_stage_again_goes_on_too_even_after_a_commit(small):
    clashing(small)
    write(small, "s03_c", small_stage("s03_c").decode().replace("CC = 3 ", "CC = 34 "))
    commit(small)
    assert slugs(carry("s01", folder=small)) == ["s04_d"]
    assert "CC = 34  # taught with C\n" in read(small, "s04_d")


def test_a_stage_taken_back_after_a_clash_clashes_again_when_named_again(small):
    clashing(small)
    git(small, "checkout", "s03_c.py")
    with pytest.raises(Clash, match=r"s03_c\.py"):
        carry("s01", folder=small)


def test_a_stage_that_is_newer_than_the_base_gets_the_fix(small):
    git(small, "rm", "--quiet", "--cached", "s03_c.py", "s04_d.py")
    git(small, "commit", "--quiet", "--message", "not yet there")
    replace(small, "s01_a", "JJ = 10", "JJ = 100")
    assert slugs(carry("s01", folder=small)) == ["s02_b", "s03_c", "s04_d"]
    assert slugs(carry("s01", folder=small)) == []
    assert "JJ = 100" in read(small, "s04_d")


@pytest.mark.parametrize("odd", ["\r\n", "\n"])
def test_texts_are_kept_to_the_byte(small, odd):
    for path in small.glob("s0*.py"):
        path.write_bytes(path.read_bytes().replace(b"\n", odd.encode()) + b"# caf\xe9\t \x0c end")
    git(small, "config", "core.autocrlf", "false")
    commit(small)
    before = everything(small)
    replace_bytes = (b"JJ = 10", b"JJ = 100")
    first = small / "s01_a.py"
    first.write_bytes(first.read_bytes().replace(*replace_bytes))
    carry("s01", folder=small)
    for slug in "s02_b", "s03_c", "s04_d":
        assert (small / f"{slug}.py").read_bytes() == before[f"{slug}.py"].replace(*replace_bytes)


def test_line_ends_that_git_translates_are_no_change(small):
    git(small, "config", "core.autocrlf", "true")
    for path in small.glob("s0*.py"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert slugs(carry("s01", folder=small)) == []
    replace(small, "s01_a", "JJ = 10", "JJ = 100")
    assert len(carry("s01", folder=small).changed) == 3
    assert b"JJ = 100\r\n" in everything(small)["s04_d.py"]


def test_nobodys_own_git_settings_change_the_outcome(small, tmp_path, monkeypatch):
    settings = tmp_path / "settings"
    settings.write_text(
        "[merge]\nconflictStyle = merge\n[core]\nautocrlf = true\n", encoding="utf-8"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    clashing(small)
    assert "||||||| s01_a before\n" in read(small, "s03_c")


# What cannot be done is told in a line


def test_a_stage_with_markers_in_it_is_not_carried(small):
    replace(small, "s01_a", "CC = 3", "<<<<<<< one\nCC = 3\n=======\nCC = 4\n>>>>>>> two")
    with pytest.raises(Clash, match=r"stages/s01_a\.py, line 7: a clash still to be put right"):
        carry("s01", folder=small)


def test_going_on_without_a_clash_is_told(small):
    for _ in range(2):
        with pytest.raises(Mistake, match="no carry was stopped"):
            go_on(small)
        carry("s01", folder=small)


def test_an_unknown_commit_is_told(small):
    with pytest.raises(NothingToCompare, match="git knows no commit 'v9'"):
        carry("s01", base="v9", folder=small)


def test_an_unknown_stage_is_told(small):
    with pytest.raises(UnknownStage, match="did you mean s04_d"):
        carry("s9", folder=small)


def test_a_stage_that_git_does_not_know_yet_is_told(small):
    git(small, "rm", "--quiet", "--cached", "s01_a.py")
    git(small, "commit", "--quiet", "--message", "not yet there")
    with pytest.raises(NothingToCompare, match=r"s01_a\.py is not in HEAD"):
        carry("s01", folder=small)


def test_a_folder_outside_of_any_repository_is_told(small):
    shutil.rmtree(small.parent / ".git", onerror=writable)
    with pytest.raises(NothingToCompare, match="in no git repository"):
        carry("s01", folder=small)


def writable(remove, path, _):
    """On Windows git's own files are read-only, and cannot be removed."""
    os.chmod(path, 0o700)
    remove(path)


def test_a_missing_file_is_told(small):
    (small / "s03_c.py").unlink()
    with pytest.raises(NothingToCompare, match=r"cannot read .*s03_c\.py"):
        carry("s01", folder=small)


def test_the_last_stages_may_not_be_there_yet(small):
    """As in the repository that a class forks, which ends with the stage that it is to write."""
    for slug in ("s03_c", "s04_d"):
        (small / f"{slug}.py").unlink()
    replace(small, "s01_a", "JJ = 10", "JJ = 100")
    assert slugs(carry("s01", folder=small)) == ["s02_b"]


def test_from_the_command_line(course):
    shutil.copytree(STAGES.parent / "workbench", course.parent / "workbench")
    replace(course, "s02_read_request", FIX, FIXED)
    status, out, err = workbench("carry", "s02", cwd=course.parent)
    assert (status, err) == (0, "")
    assert "s02_read_request is carried forward: s03_static_response," in " ".join(out.split())
    assert FIXED in read(course, "s09_graceful_drop")
