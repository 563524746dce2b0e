"""Asks a server for one page over and over, and prints in a line of JSON how it was answered.

The load of `bench` where there is no wrk, in a program of its own so that nothing else slows it
down: `python workbench/measure/load.py URL SECONDS CONNECTIONS ['Name: value' …]`, the last being
headers. It counts as wrk does: whole answers within the time, those of 400 and above among the
errors too.
"""

import asyncio
import contextlib
import json
import sys
import time

import aiohttp
from yarl import URL

LONGEST = 10.0  # seconds for one answer
UNSAID = ("Accept", "Accept-Encoding", "User-Agent")  # headers that wrk does not send either


async def load(
    url: str, seconds: float, connections: int, headers: dict[str, str]
) -> dict[str, float]:
    """Ask for so many seconds, on so many connections at once; return the figures, times in ms."""
    took: list[float] = []
    errors = 0

    async def visitor() -> None:
        nonlocal errors
        while True:
            began = time.perf_counter()
            try:
                async with session.get(page, allow_redirects=False) as answer:
                    await answer.read()
            except (aiohttp.ClientError, TimeoutError):
                errors += 1
                await asyncio.sleep(0)  # or a server that is gone would keep us from the clock
            else:
                took.append((time.perf_counter() - began) * 1000)
                errors += answer.status >= 400

    page, limit = URL(url, encoded=True), aiohttp.ClientTimeout(total=LONGEST)
    doors = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(
        connector=doors, timeout=limit, headers=headers, skip_auto_headers=UNSAID
    ) as session:
        began = time.perf_counter()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(visitor() for _ in range(connections)))
        elapsed = time.perf_counter() - began
    took.sort()
    p50, p99 = (took[int(len(took) * share)] if took else 0.0 for share in (0.5, 0.99))
    return {"requests": len(took), "seconds": elapsed, "p50": p50, "p99": p99, "errors": errors}


if __name__ == "__main__":
    url, seconds, connections, *headers = sys.argv[1:]
    said = dict(header.split(": ", 1) for header in headers)
    print(json.dumps(asyncio.run(load(url, float(seconds), int(connections), said))))
