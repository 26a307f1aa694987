"""What the service adds to a call: the load, as a process of its own.

Requests come at fixed times, whether earlier ones have been answered or not. In turns, one goes through the service and
one goes to the endpoint itself; what the service takes longer is what it adds. Every document is a new one.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from llm_platform.inference.wire import Wire
from llm_platform.inference.wire_http import HttpWire
from llm_platform.settings.connection import Connection
from llm_platform_tests.benchmarks.server import MODEL

PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Plan:
    """How callers come.

    Attributes:
        rate: Requests a second through the service, and as many beside it.
        warm_up: Requests that are not counted.
    """

    service: str
    endpoint: str
    application: str
    rate: float = 200.0
    requests: int = 2000
    warm_up: int = 200
    first: int = 0
    core: int = -1


@dataclass(frozen=True)
class Timed:
    """Milliseconds from the moment a request was due to its whole reply."""

    service: list[float]
    direct: list[float]
    failed: int

    def figures(self) -> dict[str, float]:
        """What the service adds, beside the direct call in the same run."""
        service, direct = sorted(self.service), sorted(self.direct)
        usual = statistics.median(direct)
        return {
            "direct_p50_ms": round(usual, 2),
            "direct_p99_ms": round(_percentile(direct, 0.99), 2),
            "service_p50_ms": round(statistics.median(service), 2),
            "service_p99_ms": round(_percentile(service, 0.99), 2),
            "added_p50_ms": round(statistics.median(service) - usual, 2),
            "added_p99_ms": round(_percentile(service, 0.99) - usual, 2),
            # What the machine does to any call at all is in both.
            "added_p99_to_direct_p99_ms": round(_percentile(service, 0.99) - _percentile(direct, 0.99), 2),
            "slowest_ms": round(service[-1], 1),
            "failed": self.failed,
        }


async def load(plan: Plan) -> Timed:
    """Send what the plan says."""
    asked = f"{plan.service}/v1/applications/{plan.application}/answers"
    direct = f"{plan.endpoint}/v1/chat/completions"
    took: dict[str, list[float]] = {asked: [], direct: []}
    failed = 0

    async def one(wire: Wire, url: str, body: bytes, due: float, *, counts: bool) -> None:
        nonlocal failed
        reply = await wire.post(url, body, timeout_seconds=PATIENCE_SECONDS)
        if counts:
            took[url].append(1000 * (time.perf_counter() - due))
            failed += reply.status != 200

    async with HttpWire(Connection()) as wire:
        began, tasks = time.perf_counter() + 0.1, []
        for number in range(plan.warm_up + plan.requests):
            for half, (url, body) in enumerate(((asked, _document(plan, number)), (direct, _chat(plan, number)))):
                due = began + (number + half / 2) / plan.rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                tasks.append(asyncio.create_task(one(wire, url, body, due, counts=number >= plan.warm_up)))
        await asyncio.gather(*tasks)
    return Timed(took[asked], took[direct], failed)


def _text(number: int) -> str:
    words = "The parcel came two days late and one of the items in it was damaged. " * 12
    return f"DOC#{number:08d}# {words}"


def _document(plan: Plan, number: int) -> bytes:
    return json.dumps({"document_id": str(number), "text": _text(plan.first + number)}).encode()


def _chat(plan: Plan, number: int) -> bytes:
    said = [{"role": "user", "content": _text(50_000_000 + plan.first + number)}]
    return json.dumps({"model": MODEL, "messages": said, "max_tokens": 8}).encode()


def _percentile(values: Sequence[float], share: float) -> float:
    return values[min(len(values) - 1, int(share * len(values)))]


def main(argument: str) -> None:
    plan = Plan(**json.loads(argument))
    if plan.core >= 0:
        os.sched_setaffinity(0, {plan.core})
    timed = asyncio.run(load(plan))
    sys.stdout.write(json.dumps(asdict(timed)))


if __name__ == "__main__":
    main(sys.argv[1])
