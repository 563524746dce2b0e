"""A whole class on one machine, as on a hub: nobody meets anybody else's server, or his to-dos."""

import os
import subprocess
import sys
from contextlib import ExitStack

CLASS = 12
STUDENT = """\
import sys
from workbench.server.launch import launch
from workbench.course.workspace import mine

sys.stdin.readline()
with launch("s15", file=mine("s15")) as server:
    todo = b'{"title": "%s"}' % sys.argv[1].encode()
    line = b"POST /todos HTTP/1.1\\r\\nHost: class\\r\\nConnection: close\\r\\n"
    head = b"Content-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(todo)
    server.say(line + head + todo)
    print(server.port, flush=True)
    sys.stdin.readline()
    print(*(kept["title"] for kept in server.get("/todos").answer.json()["todos"]))
"""


def test_a_whole_class_starts_the_same_stage_at_once_and_each_has_a_port_and_a_list_of_his_own(
    tmp_path,
):
    names = [f"student{number}" for number in range(CLASS)]
    with ExitStack() as stack:
        students = [stack.enter_context(student(name, tmp_path / name)) for name in names]
        say(students)
        ports = [one.stdout.readline() for one in students]
        assert len({port for port in ports if port}) == CLASS
        say(students)
        assert [one.stdout.readline().strip() for one in students] == names
    assert [one.returncode for one in students] == [0] * CLASS


def student(name, folder):
    """Start a student's kernel, which waits for a word, with a folder of his own for copies."""
    environment = {key: os.environ[key] for key in os.environ if key not in ("UPLOADS", "DATABASE")}
    return subprocess.Popen(
        [sys.executable, "-c", STUDENT, name],
        env=environment | {"WORKBENCH_MINE": str(folder), "PORT": "7878"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def say(students):
    """Say the word to all."""
    for one in students:
        one.stdin.write("\n")
        one.stdin.flush()
