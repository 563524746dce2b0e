"""Asks a server for one page over and over, and prints a line of JSON with counts and latencies.

The load of `bench` where there is no wrk, in a program of its own so that nothing else slows it
down: `python workbench/measure/load.py URL SECONDS CONNECTIONS ['Name: value' …]`, the last being
headers. As with wrk, `requests` are complete responses within the time. `errors` are those among
them with a status other than 200, and requests that got no response.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections import Counter
from typing import Any

import aiohttp
from yarl import URL

LONGEST = 10.0  # seconds for one response
UNSAID = ("Accept", "Accept-Encoding", "User-Agent")  # headers that wrk does not send either


class Load:
    """Clients that ask for a page until their time is over; it counts, and keeps times in ms."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url, self.session = URL(url, encoded=True), session
        self.took: list[float] = []
        self.kinds: Counter[str] = Counter()

    async def client(self) -> None:
        """Ask again and again, each time as soon as the response is there."""
        while True:
            began = time.perf_counter()
            try:
                async with self.session.get(self.url, allow_redirects=False) as response:
                    await response.read()
            except (aiohttp.ClientError, TimeoutError):
                self.kinds["connection"] += 1
                await asyncio.sleep(0)  # or a server that is gone would keep us from the clock
            else:
                self.took.append((time.perf_counter() - began) * 1000)
                self.kinds["status"] += response.status != 200

    def figures(self, seconds: float) -> dict[str, Any]:
        """Return what was counted, the mean of the times and two percentiles."""
        took = sorted(self.took)
        p50, p99 = (took[int(len(took) * share)] if took else 0.0 for share in (0.5, 0.99))
        mean = sum(took) / len(took) if took else 0.0
        counts = {"requests": len(took), "errors": self.kinds.total()}
        times = {"seconds": seconds, "mean": mean, "p50": p50, "p99": p99}
        return counts | times | {"kinds": +self.kinds}


async def run(
    url: str, seconds: float, connections: int, headers: dict[str, str]
) -> dict[str, Any]:
    """Ask for so many seconds, on so many connections at once."""
    connector = aiohttp.TCPConnector(limit=connections)
    limit = aiohttp.ClientTimeout(total=LONGEST)
    async with aiohttp.ClientSession(
        connector=connector, timeout=limit, headers=headers, skip_auto_headers=UNSAID
    ) as session:
        load, began = Load(url, session), time.perf_counter()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(load.client() for _ in range(connections)))
        return load.figures(time.perf_counter() - began)


if __name__ == "__main__":
    url, seconds, connections, *headers = sys.argv[1:]
    said = dict(header.split(": ", 1) for header in headers)
    print(json.dumps(asyncio.run(run(url, float(seconds), int(connections), said))))
