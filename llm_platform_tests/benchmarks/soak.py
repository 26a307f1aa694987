"""A wire for an hour and a million requests, with connections that come and go.

    python -m llm_platform_tests.benchmarks.soak [--requests 1000000] [--seconds 3600] [--wire http|rust]

The endpoint closes every connection after 50 answers and drops one request in 1,000 without an answer. Every reply has
to be that of its own request; every dropped request has to come back as a failure, and nothing else; memory and open
files must not grow.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path

from llm_platform.inference.wire import Wire
from llm_platform.inference.wire_http import HttpWire
from llm_platform.inference.wire_rust import RustWire
from llm_platform.settings.connection import Connection
from llm_platform_tests.benchmarks import server
from llm_platform_tests.benchmarks.bench import serving

IN_FLIGHT = 64
CLOSE_EVERY, DROP_EVERY = 50, 1000
WIRES = {"http": lambda: HttpWire(Connection()), "rust": lambda: RustWire(Connection(), timeout_seconds=30.0)}


class Soak:
    """What has come back so far."""

    def __init__(self, wire: Wire, url: str) -> None:
        self._wire, self._url = wire, f"{url}/v1/chat/completions"
        self.done = self.foreign = 0
        self.failures: Counter[str] = Counter()

    async def ask(self, number: int) -> None:
        """One request, and a look at whose answer came."""
        marker = f"{number % 100_000_000:08d}"
        body = json.dumps({"model": server.MODEL, "messages": [{"role": "user", "content": f"DOC#{marker}#"}]}).encode()
        reply = await self._wire.post(self._url, body, timeout_seconds=30.0)
        self.done += 1
        if reply.status != 200:
            self.failures[reply.failure or str(reply.status)] += 1
        elif marker.encode() not in reply.body:
            self.foreign += 1


def state() -> dict[str, float]:
    """Memory in MiB, and open files."""
    status = Path("/proc/self/status").read_text()
    return {
        "rss_mib": round(int(status.partition("VmRSS:")[2].split()[0]) / 1024, 1),
        "open_files": len(os.listdir("/proc/self/fd")),
    }


async def soak(url: str, *, wire: str, requests: int, seconds: float) -> dict[str, object]:
    """Spread the requests evenly over the time, at most `IN_FLIGHT` at once."""
    client = WIRES[wire]()
    work, room = Soak(client, url), asyncio.Semaphore(IN_FLIGHT)
    states: list[dict[str, float]] = []
    began = time.monotonic()

    async def one(number: int) -> None:
        try:
            await work.ask(number)
        finally:
            room.release()

    async with asyncio.TaskGroup() as tasks:
        for number in range(requests):
            late = began + number * seconds / requests - time.monotonic()
            if late > 0.02:
                await asyncio.sleep(late)
            await room.acquire()
            tasks.create_task(one(number))
            if number % max(1, requests // 20) == requests // 40:
                states.append({"done": work.done, **state()})
                sys.stderr.write(f"{states[-1]} {dict(work.failures)}\n")
    await client.close()
    return {
        "wire": wire,
        "requests": work.done,
        "seconds": round(time.monotonic() - began, 1),
        "answers_of_another_request": work.foreign,
        "failures": dict(work.failures),
        "states": states,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--wire", choices=list(WIRES), default="http")
    given = parser.parse_args()
    with serving(latency=0.01, close_every=CLOSE_EVERY, drop_every=DROP_EVERY) as endpoint:
        figures = asyncio.run(soak(endpoint.url, wire=given.wire, requests=given.requests, seconds=given.seconds))
        counts = endpoint.counts()
    seen = {name: counts[name] for name in ("requests", "answered", "dropped", "connections")}
    sys.stdout.write(json.dumps({**figures, "endpoint": seen}, indent=1) + "\n")


if __name__ == "__main__":
    main()
