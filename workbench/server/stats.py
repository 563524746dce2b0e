"""What a running server holds, as the system sees it: connections, threads, memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psutil

from workbench.errors import Mistake
from workbench.server.launch import Server

INSIDE = (psutil.CONN_ESTABLISHED, psutil.CONN_CLOSE_WAIT)


def family(server: Server) -> Iterator[psutil.Process]:
    """Yield the program and its children: a command may have started the server for us.

    Raises Mistake if it has ended, as all below do.
    """
    if not server.running:
        raise Mistake(f"{server.title} has ended: launch it again")
    program = psutil.Process(server.process.pid)
    yield program
    yield from program.children(recursive=True)


def listens(server: Server) -> bool:
    """Tell whether the program itself, or a child of it, listens on the port that it names."""
    with contextlib.suppress(Mistake, psutil.Error):  # it may just have ended
        return psutil.CONN_LISTEN in _states(server)
    return False


def accepted(server: Server) -> int:
    """Count the connections that the program itself holds on its port, as the system sees it."""
    return sum(state in INSIDE for state in _states(server))


def _states(server: Server) -> Iterator[str]:
    """Yield the state of each socket that the program holds on its port."""
    for process in family(server):
        with contextlib.suppress(psutil.AccessDenied):  # a supervisor around it lets nobody look
            for connection in process.net_connections("tcp"):
                if connection.laddr.port == server.port:
                    yield connection.status


def threads(server: Server) -> int:
    """Count the threads of the program and its children."""
    return sum(process.num_threads() for process in family(server))


def memory(server: Server) -> int:
    """Return the resident size of the program and its children, in bytes."""
    return sum(process.memory_info().rss for process in family(server))
