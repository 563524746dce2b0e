"""The life of the port: where a program listens, how it says so, and how it ends."""

import os
import re
import socket

import pytest
from suite.clients import GET, crowd, logged, rejects_setting, until
from suite.report import expect
from suite.requirements import Witness, since

from workbench.server.launch import DEFAULTS, DidNotStart

posix = pytest.mark.skipif(os.name == "nt", reason="Windows cannot send Ctrl-C to one program")


@since("s01")
def test_its_first_line_says_where_it_listens(server):
    assert server.stdout.splitlines()[0] == f"Listening on http://{DEFAULTS['HOST']}:{server.port}"
    assert server.port > 0, "needed the port that the system chose, got 0"


@since("s01", python=True)
def test_every_caller_is_printed_with_his_number_and_address(server):
    for number in (1, 2, 3):
        with server.visit():
            logged(server, rf"connection {number} from 127\.0\.0\.1:\d+$")


@since("s01")
def test_port_0_lets_the_system_choose_a_free_port(server, implementation):
    with implementation.start(PORT=0) as second:
        assert 0 < server.port != second.port > 0


@since("s01")
def test_a_port_is_chosen_by_its_number(server, implementation):
    number = server.port
    server.stop()
    until(lambda: server.say(finish=True).ending == "refused", "the port is free again")
    with implementation.start(PORT=number) as second:
        assert second.port == number


@since("s01")
def test_a_port_that_is_taken_ends_it_with_one_line(server, implementation):
    rejects_setting(implementation, "PORT", server.port)


@since("s01")
def test_a_port_that_cannot_be_ends_it_with_one_line(implementation):
    for port in ("abc", "70000", "-1", "80.5"):
        rejects_setting(implementation, "PORT", port)


@since("s01")
def test_a_host_that_is_not_ours_ends_it_with_one_line(implementation):
    rejects_setting(implementation, "HOST", "192.0.2.1", PORT=0)


@since("s01")
def test_it_listens_on_ipv6_too(implementation):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    try:
        server = implementation.start(HOST="::1")
    except DidNotStart as error:
        raise AssertionError(str(error)) from error
    with server:
        line = server.stdout.splitlines()[0]
        assert re.fullmatch(r"Listening on http://\[::1\]:[1-9][0-9]*", line), line
        port = int(line.rpartition(":")[2])
        socket.create_connection(("::1", port), timeout=Witness.patience).close()


@since("s01", new=False)
def test_localhost_is_a_host(implementation):
    with implementation.start(HOST="localhost") as server:
        socket.create_connection(server.address, timeout=Witness.patience).close()


@since("s01", until="s02")
def test_a_connection_is_closed_at_once(server):
    with server.visit() as visitor:
        ending = visitor.read().ending
        assert ending in ("closed", "reset"), f"needed the end, it was {ending}"


@since("s06")
def test_a_log_level_that_does_not_exist_ends_it_with_one_line(implementation):
    rejects_setting(implementation, "LOG_LEVEL", "LOUD", PORT=0)


@since("s08")
def test_a_crew_that_cannot_be_ends_it_with_one_line(implementation):
    for workers in ("0", "-1", "abc", "2.5", "1000000"):
        rejects_setting(implementation, "WORKERS", workers, PORT=0)


@since("s09")
def test_a_grace_that_cannot_be_ends_it_with_one_line(implementation):
    for seconds in ("-1", "soon"):
        rejects_setting(implementation, "GRACE_SECONDS", seconds, PORT=0)


@posix
@since("s01")
def test_ctrl_c_ends_it_with_status_0_and_no_traceback(server):
    server.say(GET)
    server.interrupt()
    assert server.wait() == 0
    assert "Traceback" not in server.log


@posix
@since("s01", GRACE_SECONDS=0)
def test_ctrl_c_ends_it_while_a_caller_is_silent(server):
    with crowd(server, 1) if server.title > "s02" else server.visit():
        server.interrupt()
        assert server.wait() == 0
    assert "Traceback" not in server.log


@since("s01", python=True)
def test_it_runs_as_a_module_too(implementation):
    with implementation.module().start(cwd=implementation.file.parent.parent) as server:
        assert server.port


@since("s03", python=True)
def test_it_finds_its_pages_from_any_folder(implementation, tmp_path):
    with implementation.start(cwd=tmp_path) as server:
        expect(server.say(GET), 200)


@since("s06", python=True)
def test_only_the_first_line_is_on_stdout(server):
    server.say(GET)
    logged(server, "GET / 200")
    assert len(server.stdout.splitlines()) == 1
