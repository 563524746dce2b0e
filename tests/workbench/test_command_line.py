"""What the workbench offers from a terminal: every command, and every slip in one line."""

import os
import re
import subprocess

import pytest
from helpers.commands import WORKBENCH, told, workbench
from helpers.stages import source

from workbench.__main__ import address, app, settings, unescaped
from workbench.course.catalogue import lessons
from workbench.errors import Mistake
from workbench.files import ROOT
from workbench.server.launch import launch


def commands():
    return [known.name or known.callback.__name__ for known in app.registered_commands]


def test_help_names_every_command_with_examples():
    status, out, err = workbench("--help")
    assert (status, err) == (0, "")
    assert all(f"\n  {name} " in out for name in commands())
    assert "\n    python -m workbench diff s05 s06\n" in out


@pytest.mark.parametrize("name", commands())
def test_every_command_explains_itself_with_an_example(name):
    assert re.search(rf"Example:\n    python -m workbench {name}", told(name, "--help")[1])


def test_list_tells_every_stage():
    _, out = told("list")
    assert all(known.title in out and known.question in out for known in lessons())


def test_show_prints_a_piece_by_its_name():
    assert "def respond(request: Request) -> Response:" in told("show", "5", "respond")[1]


def test_show_reads_a_copy_of_ones_own(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("def respond():\n    return 1\n", encoding="utf-8")
    assert "return 1" in told("show", "s05", "respond", "--file", mine)[1]


def test_diff_is_unified_and_keeps_long_lines_whole():
    _, out = told("diff", "s05", "s06")
    assert out.startswith("s05 Routing → s06 A slow route\n")
    lines = source("s06").splitlines()
    assert all(line[1:] in lines for line in out.splitlines() if line.startswith("+    "))
    assert told("diff", "s06") == (0, out)


def test_what_a_pipe_cannot_say_stops_nothing():
    command, old = [*WORKBENCH, "diff", "s06"], os.environ | {"PYTHONIOENCODING": "cp1252"}
    result = subprocess.run(command, cwd=ROOT, capture_output=True, env=old)
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.startswith(b"s05 Routing ? s06 A slow route")


def test_say_shows_both_directions_of_a_talk_with_a_stage():
    _, out = told("say", "s05", r"GET /health HTTP/1.1\r\nHost: here\r\n", r"\r\n")
    assert "GET /health HTTP/1.1" in out
    assert '{"status": "ok"}' in out


def test_say_speaks_to_a_server_that_runs_already():
    with launch("s05") as server:
        _, out = told("say", f"{server.host}:{server.port}", r"GET /health HTTP/1.1\r\n\r\n")
    assert '{"status": "ok"}' in out


def test_timeline_tells_of_every_visitor_and_draws_them(tmp_path):
    picture = tmp_path / "waiting.svg"
    _, out = told("timeline", "s06", "/sleep?seconds=0.2", "/about", "--save", picture)
    assert "/sleep?seconds=0.2" in out
    assert "/about" in out
    assert "<svg" in picture.read_text(encoding="utf-8")


def test_timeline_draws_several_stages_in_one_picture(tmp_path):
    picture = tmp_path / "both.svg"
    told("timeline", "s06,s07", "/sleep?seconds=0.1", "/", "--save", picture)
    assert "<svg" in picture.read_text(encoding="utf-8")


def test_run_serves_with_its_settings_until_it_is_interrupted():
    process = started("run", "s08", "--set", "PORT=0", "--set", "WORKERS=1")
    try:
        where = re.fullmatch(r"Listening on http://(\S+)\n", process.stdout.readline())
        assert '{"status": "ok"}' in told("say", where[1], r"GET /health HTTP/1.1\r\n\r\n")[1]
        if os.name == "posix":
            process.send_signal(2)
            assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.communicate()


def started(*words):
    return subprocess.Popen(
        [*WORKBENCH, *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
    )


def test_run_ends_as_the_stage_ends():
    status, _, err = workbench("run", "s05", "--set", "PORT=70000")
    assert (status, err.count("\n")) == (1, 1)
    assert "70000" in err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["run", "s5x"], "no stage is called 's5x'"),
        (["run", "s05", "--file", "none.py"], "there is no file none.py"),
        (["run", "s05", "--set", "PORT"], "needed NAME=VALUE after --set, got 'PORT'"),
        (["say", "s99", "x"], "did you mean s"),
        (["say", "s05", r"\q"], r"needed \r, \n, \t, \0, \\ or \xNN, got \q"),
        (["say", "here:x", "x"], "needed an address like 127.0.0.1:7878, got 'here:x'"),
        (["say", "s05", "x", "--set", "PORT=70000"], "70000"),
        (["show", "s05", "rout"], "did you mean route?"),
        (["diff", "s01"], "s01_bind_and_print builds on no other stage"),
        (["diff", "s05", "no/such.py"], "there is no file no/such.py"),
        (["carry"], "needed the name of a stage, or --continue alone"),
        (["carry", "s02", "--continue"], "needed the name of a stage, or --continue alone"),
    ],
)
def test_a_slip_is_one_line_and_no_traceback(words, line):
    status, out, err = workbench(*words)
    assert status == 1
    assert line in err.replace("\n", " ")
    assert "Traceback" not in out + err


# The small readers


@pytest.mark.parametrize(
    ("text", "data"),
    [
        (r"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\n"),
        (r"\\r\0\t\x41\xff", b"\\r\0\tA\xff"),
        ("é", "é".encode()),
        ("two\nlines", b"two\nlines"),
        ("", b""),
    ],
)
def test_what_is_typed_becomes_bytes(text, data):
    assert unescaped(text) == data


@pytest.mark.parametrize("text", [r"\q", r"\x4", "\\"])
def test_an_escape_that_nobody_knows_is_told(text):
    with pytest.raises(Mistake, match="needed"):
        unescaped(text)


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        (":7878", ("127.0.0.1", 7878)),
        ("http://127.0.0.1:7878/", ("127.0.0.1", 7878)),
        ("s05", None),
    ],
)
def test_an_address_is_told_from_a_stage(where, found):
    assert address(where) == found


def test_settings_are_read_up_to_the_first_equals_sign():
    assert settings(["A=b=c", "D="]) == {"A": "b=c", "D": ""}
    assert settings(None) == {}
