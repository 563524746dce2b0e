"""The servers that `bench` compares stages with: each serves `static/hello.html`, and logs nothing.

`python workbench/measure/peers.py NAME FOLDER` runs one on 127.0.0.1, on a port that the system
chooses, and prints "Listening on http://127.0.0.1:PORT" as a stage does. FOLDER is an empty one for
what the peer has to write. Most are handed a socket that listens already, so that no port has to be
found first and taken afterwards. Every peer answers from memory, except nginx, which serves the
file, and the Rust programs, which read it for each request, as those of the course's sources do.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE_FILE = ROOT / "static" / "hello.html"
PAGE = PAGE_FILE.read_bytes()
RUST_SOURCE = Path(__file__).with_name("peer.rs")
THREADS = 4
BACKLOG = 1024  # connections that may wait to be accepted
MEDIA_TYPE = "text/html; charset=utf-8"
APPLICATION = "workbench.measure.peers:"  # followed by the name of a function below
PROGRAMS = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])  # Debian's nginx is there
EXTRA = 'pip install -e ".[bench]"'
NGINX_CONF = """
daemon off;
worker_processes 1;
{user}
pid pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    default_type "{media_type}";
    server {{
        listen {host}:{port};
        location = / {{ root "{folder}"; try_files /{file} =404; }}
    }}
}}
"""


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Respond with the page, as a WSGI application."""
    start_response("200 OK", [("Content-Type", MEDIA_TYPE), ("Content-Length", str(len(PAGE)))])
    return [PAGE]


async def asgi(
    scope: Mapping[str, Any],
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Respond with the page, as an ASGI application without lifespan."""
    assert scope["type"] == "http"
    length = str(len(PAGE)).encode()
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": PAGE})


class Handler(BaseHTTPRequestHandler):
    """Respond with the page: HTTP/1.1, and head and body in one write."""

    protocol_version = "HTTP/1.1"
    wbufsize = 65536

    def do_GET(self) -> None:
        """Respond to GET."""
        self.send_response(200)
        self.send_header("Content-Type", MEDIA_TYPE)
        self.send_header("Content-Length", str(len(PAGE)))
        if self.close_connection:  # the client asked for it, and wrk must be told (RFC 9112 §9.6)
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class Threaded(ThreadingHTTPServer):
    """A thread for each connection; a client that leaves is not worth a traceback."""

    def handle_error(self, *_: object) -> None:
        """Say nothing."""


def http_server(folder: Path) -> None:
    """Serve with the standard library's http.server, on a socket that listens already."""
    listener = listen()
    with Threaded(listener.getsockname(), Handler, bind_and_activate=False) as server:
        server.socket.close()
        server.socket = listener
        announce(listener)
        server.serve_forever()


def waitress(folder: Path) -> None:
    """Serve with waitress; its warning that requests queue is a log line for each of them."""
    import logging

    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    listener = listen()
    announce(listener)
    importlib.import_module("waitress").serve(wsgi, sockets=[listener], threads=THREADS)


def gunicorn(folder: Path) -> None:
    """Serve with gunicorn's threaded worker; the control socket would be one for all of a user."""
    listener = listen()
    line = [sys.executable, "-P", "-m", "gunicorn", f"--bind=fd://{inherited(listener)}"]
    line += ["--worker-class=gthread", "--workers=1", f"--threads={THREADS}"]
    line += ["--log-level=warning", "--no-control-socket", f"{APPLICATION}wsgi"]
    become(line, listener, PYTHONPATH=str(ROOT))


def uvicorn(folder: Path, http: str = "h11", loop: str = "asyncio") -> None:
    """Serve with uvicorn, its parts in Python only unless told."""
    module = importlib.import_module("uvicorn")
    listener = listen()
    quiet = {"access_log": False, "log_level": "warning", "lifespan": "off", "ws": "none"}
    server = module.Server(module.Config(asgi, http=http, loop=loop, **quiet))
    announce(listener)
    server.run(sockets=[listener])


def uvicorn_fast(folder: Path) -> None:
    """Serve with uvicorn, its parser in C and its event loop in Cython."""
    uvicorn(folder, http="httptools", loop="uvloop")


def hypercorn(folder: Path) -> None:
    """Serve with hypercorn in this process, on asyncio."""
    import asyncio

    config = importlib.import_module("hypercorn.config").Config()
    listener = listen()
    announce(listener)
    config.bind = [f"fd://{listener.detach()}"]
    config.loglevel = "ERROR"  # it warns that the application has no lifespan
    asyncio.run(importlib.import_module("hypercorn.asyncio").serve(asgi, config))


def granian(folder: Path) -> None:
    """Serve with granian, which takes no socket: the system is asked for the port it has got."""
    threading.Thread(target=announce_when_it_listens, daemon=True).start()
    module = importlib.import_module("granian")
    sys.path.insert(0, str(ROOT))
    settings = {"port": 0, "interface": "asginl", "websockets": False, "log_level": "warning"}
    module.Granian(f"{APPLICATION}asgi", **settings).serve()


def nginx(folder: Path) -> None:
    """Serve the file with nginx, which inherits its socket as in an upgrade of its program."""
    listener = listen()
    host, port = listener.getsockname()
    user = "user root;" if os.geteuid() == 0 else ""  # as nobody, it might not read the file
    place = {
        "user": user,
        "folder": PAGE_FILE.parent,
        "file": PAGE_FILE.name,
        "media_type": MEDIA_TYPE,
    }
    text = NGINX_CONF.format(host=host, port=port, **place)
    (folder / "nginx.conf").write_text(text, encoding="utf-8")
    program = shutil.which("nginx", path=PROGRAMS) or "nginx"
    line = [program, "-p", str(folder), "-e", "stderr", "-c", "nginx.conf"]
    become(line, listener, NGINX=f"{inherited(listener)};")


def rust(folder: Path, threads: int = 0) -> None:
    """Compile the Rust server and run it: without threads, it serves one client at a time."""
    program = folder / "peer"
    source = [str(RUST_SOURCE), "-o", str(program)]
    subprocess.run(["rustc", "-O", "--edition=2021", *source], check=True)  # noqa: S603, S607
    os.execv(program, [str(program), str(PAGE_FILE), str(threads)])  # noqa: S606


def rust_pool(folder: Path) -> None:
    """Run the Rust server with a pool of threads."""
    rust(folder, THREADS)


def listen() -> socket.socket:
    """Open a listening socket on a port that the system chooses.

    Opened again by its number, it knows that it speaks TCP (`proto`). Without that asyncio leaves
    Nagle's algorithm on, and a response in two writes waits 40 ms for the client's ACK.
    """
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    return socket.socket(fileno=listener.detach())


def inherited(listener: socket.socket) -> int:
    """Return the number of a socket that the next program inherits."""
    os.set_inheritable(listener.fileno(), True)
    return listener.fileno()


def announce(listener: socket.socket) -> None:
    """Print where the server listens, as a stage does."""
    print("Listening on http://{}:{}".format(*listener.getsockname()), flush=True)


def announce_when_it_listens() -> None:
    """Print the port that this process or a child of it listens on, as soon as one does."""
    import psutil

    program = psutil.Process()
    while True:
        for process in (program, *program.children(recursive=True)):
            for held in process.net_connections("tcp"):
                if held.status == psutil.CONN_LISTEN:
                    print(f"Listening on http://{held.laddr.ip}:{held.laddr.port}", flush=True)
                    return
        time.sleep(0.02)


def become(line: list[str], listener: socket.socket, **variables: str) -> None:
    """Announce the socket, and run another program in place of this one."""
    announce(listener)
    os.execve(line[0], line, os.environ | variables)  # noqa: S606


@dataclass(frozen=True)
class Peer:
    """A server to compare with: how it is set up, what must be there, and how it is run."""

    setup: str
    serve: Callable[[Path], None]
    modules: tuple[str, ...] = ()
    program: str = ""

    @property
    def missing(self) -> str:
        """Say what is not installed and how to get it; an empty text if nothing is missing."""
        lacking = [name for name in self.modules if importlib.util.find_spec(name) is None]
        if lacking:
            return f"not installed ({', '.join(lacking)}): {EXTRA}"
        if self.program and shutil.which(self.program, path=PROGRAMS) is None:
            return f"needs the program {self.program}, which is not on PATH"
        if os.name == "nt" and self.serve in POSIX_ONLY:
            return "does not run on Windows"
        return ""

    @property
    def version(self) -> str:
        """The version of its package or program; Python's own for http.server."""
        if self.modules:
            return version(self.modules[0])
        return _version(self.program) if self.program else platform.python_version()


def _version(program: str) -> str:
    """Ask a program for its version, which nginx writes to standard error."""
    path, option = shutil.which(program, path=PROGRAMS), "-v" if program == "nginx" else "-V"
    ended = subprocess.run([path or program, option], capture_output=True, text=True)  # noqa: S603
    found = re.search(r"\d+(\.\d+)+", ended.stdout + ended.stderr)
    return found[0] if found else ""


POSIX_ONLY = (gunicorn, nginx)
PEERS = {
    "http.server": Peer("a thread per connection", http_server),
    "waitress": Peer(f"{THREADS} threads", waitress, ("waitress",)),
    "gunicorn": Peer(f"1 worker, {THREADS} threads", gunicorn, ("gunicorn",)),
    "uvicorn": Peer("h11 on asyncio", uvicorn, ("uvicorn", "h11")),
    "uvicorn-fast": Peer("httptools on uvloop", uvicorn_fast, ("uvicorn", "httptools", "uvloop")),
    "hypercorn": Peer("h11 on asyncio", hypercorn, ("hypercorn",)),
    "granian": Peer("ASGI, 1 worker", granian, ("granian",)),
    "nginx": Peer("one process, the file", nginx, program="nginx"),
    "rust": Peer("one client at a time, rustc -O", rust, program="rustc"),
    "rust-pool": Peer(f"{THREADS} threads, rustc -O", rust_pool, program="rustc"),
}

if __name__ == "__main__":
    PEERS[sys.argv[1]].serve(Path(sys.argv[2]))
