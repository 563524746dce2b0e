"""What a running server holds, as the system sees it: connections, threads, memory."""

from __future__ import annotations

import psutil

from workbench.launch import Server
from workbench.lessons import Mistake

INSIDE = (psutil.CONN_ESTABLISHED, psutil.CONN_CLOSE_WAIT)


def family(server: Server) -> list[psutil.Process]:
    """Return the program and its children: a command may have started the server for us.

    Raises Mistake if it has ended, as all below do.
    """
    if not server.running:
        raise Mistake(f"{server.title} has ended: launch it again")
    program = psutil.Process(server.process.pid)
    return [program, *program.children(recursive=True)]


def accepted(server: Server) -> int:
    """Count the connections that the program itself holds on its port, as the system sees it."""
    return sum(
        connection.status in INSIDE and connection.laddr.port == server.port
        for process in family(server)
        for connection in process.net_connections("tcp")
    )


def threads(server: Server) -> int:
    """Count the threads of the program and its children."""
    return sum(process.num_threads() for process in family(server))


def memory(server: Server) -> int:
    """Return the resident size of the program and its children, in bytes."""
    return sum(process.memory_info().rss for process in family(server))
