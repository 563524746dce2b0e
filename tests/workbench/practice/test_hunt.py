"""A bug hunt: a wrong file on the bench that does not tell what is wrong, until it is asked to."""

import pytest
from helpers.commands import told
from helpers.stages import source

from workbench.course.catalogue import UnknownStage, lesson
from workbench.course.mutants import mutants
from workbench.errors import Mistake
from workbench.practice import hunt as hunting
from workbench.practice.hunt import hunt, on_bench

pytestmark = pytest.mark.usefixtures("workspace")


def faults(stage):
    return [fault for fault in mutants() if fault.stage == lesson(stage).slug]


def on_the_bench(file):
    """The place among its stage's faults of the one that gives this very text."""
    found = [fault.source() for fault in faults("s08")]
    return found.index(file.read_text(encoding="utf-8")) + 1


# The bench


def test_a_wrong_file_is_put_beside_your_copies_with_its_pages(workspace):
    file = hunt("s08").file
    assert file == workspace / "stages" / "hunt_s08.py"
    assert on_the_bench(file) in range(1, 9)
    assert (workspace / "static" / "hello.html").is_file()


def test_nothing_tells_the_fault_before_it_is_asked_for(workspace):
    for number, fault in enumerate(faults("s08"), 1):
        status, out = told("hunt", "s08", "--number", str(number))
        put = on_bench("s08")
        names = [path.name for path in workspace.rglob("*") if "static" not in path.parts]
        record = hunting.record().read_text(encoding="utf-8")
        shown = "".join([out, str(put), repr(put), put._repr_html_(), record, *names])
        assert status == 0
        assert not any(word in shown for word in (fault.name, fault.story, fault.caught_by))
        assert fault.name not in put.file.read_text(encoding="utf-8")


def test_each_fault_comes_before_any_comes_again():
    numbers = [on_the_bench(hunt("s08").file) for _ in range(16)]
    assert sorted(numbers[:8]) == sorted(numbers[8:]) == list(range(1, 9))


def test_a_number_gives_a_whole_class_the_same():
    assert on_the_bench(hunt("s08", number=3).file) == 3
    assert on_the_bench(hunt("s08", number=3).file) == 3


def test_what_you_wrote_is_kept_and_what_was_put_there_is_not():
    file = hunt("s08", number=1).file
    hunt("s08", number=2)
    assert not list(file.parent.glob("*.before*"))
    file.write_text("# mine\n", encoding="utf-8")
    hunt("s08", number=3)
    assert file.with_name("hunt_s08.py.before").read_text(encoding="utf-8") == "# mine\n"
    assert on_the_bench(file) == 3


def test_it_says_what_to_do(workspace):
    _, out = told("hunt", "s08")
    file = (workspace / "stages" / "hunt_s08.py").as_posix()
    for line in (
        f"python -m workbench run s08 --file {file}",
        "python -m workbench run s08 --set PORT=7879",
        f"python -m workbench check s08 --file {file}",
        "python -m workbench hunt s08 --reveal",
    ):
        assert f"{line}\n" in out
    page = hunt("s08")._repr_html_()
    assert all(f".{name}()" in page for name in ("launch", "check", "reveal"))


def test_it_runs_as_its_stage_does_and_finds_its_pages():
    with hunt("s05", number=1).launch() as server:
        assert b"hello.html" not in server.get("/").received
        assert server.get("/").answers[0].status == 200
        assert "hunt_s05.py" in server.title


def test_the_sentence_that_fails_is_said_when_it_is_asked_for():
    verdict = hunt("s01", number=1).check()
    assert not verdict
    assert verdict.broken.text == "its first line says where it listens"


# What was wrong


def test_the_fault_is_revealed_with_its_story_and_its_diff():
    hunt("s08", number=3)
    fault = faults("s08")[2]
    status, out = told("hunt", "s08", "--reveal")
    assert status == 0
    assert "The file is as it was put there." in out
    assert f"3 of 8: {fault.story}" in out
    assert fault.sentence == "every worker has a name and gets work"
    assert fault.sentence in out
    assert '\n-        names = [f"worker-{number}" for number in range(1, size + 1)]' in out
    assert '\n+        names = [f"worker-{number}" for number in range(1, size)]' in out


def test_in_a_notebook_the_story_is_escaped_and_the_diff_side_by_side():
    page = hunt("s08", number=8).reveal()._repr_html_()
    assert "int() fails on a number that is not whole" in page
    assert "<table" in page


def test_a_file_that_is_the_stages_own_again_is_repaired():
    put = hunt("s08", number=3)
    put.file.write_text(source("s08"), encoding="utf-8")
    out = told("hunt", "s08", "--reveal")[1]
    assert "Repaired: the file is the stage's own again." in out
    assert faults("s08")[2].story in out


def test_a_repair_of_your_own_is_one_when_every_promise_is_kept():
    put = hunt("s01", number=1)
    put.file.write_text(source("s01") + "\n# my own way\n", encoding="utf-8")
    assert "Repaired: the file keeps every promise of its stage." in str(put.reveal())


def test_a_repair_that_repairs_nothing_is_told_by_the_sentence():
    put = hunt("s01", number=1)
    with put.file.open("a", encoding="utf-8") as stream:
        stream.write("# I have looked here\n")
    heard = []
    revealed = put.reveal(heard=heard.append)
    assert "Not repaired yet: its first line says where it listens (" in str(revealed)
    assert heard


# What cannot be done is told in a line


def test_a_number_out_of_range_is_told():
    for number in (0, 9, -1):
        with pytest.raises(Mistake, match=f"needed a number from 1 to 8 .* s08.*got {number}"):
            hunt("s08", number=number)


def test_an_unknown_stage_is_told():
    for ask in (hunt, on_bench):
        with pytest.raises(UnknownStage, match="did you mean s08_thread_pool"):
            ask("s08_thread_pol")


def test_a_stage_without_faults_is_told(monkeypatch):
    monkeypatch.setattr(hunting, "mutants", lambda: tuple(faults("s01")))
    with pytest.raises(Mistake, match=r"no faults to hunt in s08_thread_pool: there are in s01$"):
        hunt("s08")


def test_a_folder_of_faults_that_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(hunting, "MUTANTS", tmp_path / "mutants")
    with pytest.raises(Mistake, match=r"there is no folder .*mutants, where the faults are kept"):
        hunt("s08")


def test_a_fault_that_does_not_fit_is_told_without_its_name(monkeypatch):
    """A stage that was changed where it stands."""
    fault = faults("s08")[2]
    monkeypatch.setattr("workbench.course.mutants.lesson", lambda _: lesson("s01"))
    with pytest.raises(
        Mistake, match=r"once in s01_bind_and_print\.py, found it 0 times"
    ) as raised:
        fault.source()
    assert fault.name not in str(raised.value)


@pytest.mark.parametrize("gone", ["all", "the file", "the record", "the fault"])
def test_an_empty_bench_is_told(gone):
    if gone != "all":
        put = hunt("s08")
        hunt("s05")
    if gone == "the file":
        put.file.unlink()
    if gone == "the record":
        hunting.record().unlink()
    if gone == "the fault":
        hunting.record().write_text("s08_thread_pool no-longer\n", encoding="utf-8")
    status, out = told("hunt", "s08", "--reveal")
    assert status == 1
    assert "nothing of s08_thread_pool is on the bench" in out


def test_a_number_is_for_what_is_put_there():
    status, out = told("hunt", "s08", "--number", "1", "--reveal")
    assert status == 1
    assert "needed --number or --reveal, not both" in out
