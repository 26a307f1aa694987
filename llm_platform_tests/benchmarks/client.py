"""One client in a process of its own, pinned to one core: `python -m … JSON` prints what it measured as JSON.

`ours` is the whole path: documents out of a DuckLake, answers into it. `sdk` is what most people write, without any
storage. `ceiling` only counts, and shows how much the endpoint could serve.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from llm_platform_tests.benchmarks import server

SYSTEM = (
    "You read letters of customers. Answer with one JSON object of the fields reference, topic, sentiment, score and "
    "summary. The reference is the number between the # signs. The score is from 0 to 10."
)


@dataclass
class Job:
    """What to run.

    Attributes:
        mode: `ours`, `sdk` or `ceiling`.
        limit: Requests in flight; None lets the engine find it.
        gauges: Whether the endpoint's metrics are read.
        lake: Folder with the documents.
        journal: Whether answers go to a journal and are committed many at a time.
        policy: Fields of EnginePolicy.
    """

    mode: str
    urls: list[str]
    rows: int
    limit: int | None = None
    gauges: bool = False
    lake: str = ""
    label: bool = False
    journal: bool = True
    core: int = -1
    policy: dict[str, Any] = field(default_factory=dict)

    def argument(self) -> str:
        """The same on the command line."""
        return json.dumps(asdict(self))


@dataclass
class Measured:
    """What one client did; `cpu_seconds` is user and system time of all its threads over the timed part.

    Attributes:
        sound: Distinct rows whose answer belongs to their document.
        limits: Seconds since the start, limit, requests in flight.
    """

    rows: int
    sound: int
    wall_seconds: float
    cpu_seconds: float
    peak_mib: float
    growth_mib: float = 0.0
    sent: int = 0
    limits: list[tuple[float, int, int]] = field(default_factory=list)
    causes: dict[str, int] = field(default_factory=dict)
    failed: str | None = None

    @property
    def cpu_ms(self) -> float:
        """CPU per row."""
        return 1000 * self.cpu_seconds / max(self.rows, 1)


def text_of(number: int) -> str:
    """Document `number`: its id, and about two kilobytes that differ from those of others."""
    words = f"Letter {number} says the parcel came late, the box was fine, and asks about the postage. "
    return f"DOC#{number:08d}# " + words * 24


class Watch:
    """Wall, CPU and memory between two points of one process."""

    def __init__(self) -> None:
        self._wall, self._cpu, self._mib = time.perf_counter(), _cpu_seconds(), _peak_mib()

    def measured(self, rows: int, sound: int, **more: Any) -> Measured:
        """What it took until now."""
        wall, cpu, peak = time.perf_counter() - self._wall, _cpu_seconds() - self._cpu, _peak_mib()
        return Measured(rows, sound, wall, cpu, peak, peak - self._mib, **more)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _peak_mib() -> float:
    # ru_maxrss of a child begins at what its parent had.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def ours(job: Job) -> Measured:
    from llm_platform.errors import PlatformError
    from llm_platform.inference.engine import EndpointTarget, EnginePolicy, Progress
    from llm_platform.nim.metrics import read_metrics
    from llm_platform.operations.answering.completions import answer
    from llm_platform.operations.answering.sending import Asking
    from llm_platform.settings.connection import Connection
    from llm_platform.warehouse.lake import Warehouse
    from llm_platform_tests.benchmarks.lake import NAME, application, location, release

    targets = [
        EndpointTarget(
            url,
            metrics_path="/metrics" if job.gauges else None,
            read_metrics=read_metrics if job.gauges else None,
        )
        for url in job.urls
    ]
    limits: list[tuple[float, int, int]] = []

    def note(progress: Progress) -> None:
        limits.append((round(progress.seconds, 2), progress.limit, progress.in_flight))

    policy = EnginePolicy(limit=job.limit, progress_seconds=0.25, **job.policy)
    asking = Asking(
        lambda: targets,
        policy,
        Connection(),
        run_id="bench",
        git_commit="",
        snapshot=1,
        on_progress=note,
        journal=Path(job.lake) / "journal" if job.journal else None,
    )
    asked = release(label=job.label)
    with Warehouse.attach(location(Path(job.lake)), threads=1) as lake:
        store = lake.application(NAME)
        watch = Watch()
        try:
            run = answer(store, asked, application=application(), calibrate=False, asking=asking).run
        except PlatformError as error:
            return watch.measured(0, 0, limits=limits, failed=f"{type(error).__name__}: {error}")
        stored = run.stored if run else 0
        measured = watch.measured(stored, 0, limits=limits)
        if run is not None:
            measured.sent, measured.causes = run.sent, run.causes
        measured.sound = _sound(store.completions.of_release(asked.release_id, ["document_id", "answer"]), job.label)
    return measured


def _sound(table: Any, label: bool) -> int:
    pairs = set(zip(table["document_id"].to_pylist(), table["answer"].to_pylist(), strict=True))
    if len(pairs) != table.num_rows:
        raise AssertionError(f"{table.num_rows} rows, {len(pairs)} distinct: an answer is stored twice")
    return sum(1 for document, said in pairs if said and (label or json.loads(said)["reference"] == document))


def sdk(job: Job) -> Measured:
    from openai import AsyncOpenAI, OpenAIError

    sound = 0

    async def ask(client: AsyncOpenAI, room: asyncio.Semaphore, number: int) -> bool:
        async with room:
            reply = await client.chat.completions.create(
                model=server.MODEL,
                messages=[{"role": "system", "content": SYSTEM}, {"role": "user", "content": text_of(number)}],
                max_tokens=256,
                temperature=0.0,
                seed=0,
            )
        content = reply.choices[0].message.content or ""
        return job.label or json.loads(content)["reference"] == f"{number:08d}"

    async def run() -> None:
        nonlocal sound
        room = asyncio.Semaphore(job.limit or 1)
        async with AsyncOpenAI(base_url=f"{job.urls[0]}/v1", api_key="none") as client:
            asks = (ask(client, room, number) for number in range(job.rows))
            results = await asyncio.gather(*asks, return_exceptions=True)
        unexpected = [one for one in results if isinstance(one, BaseException) and not isinstance(one, OpenAIError)]
        if unexpected:
            raise unexpected[0]
        sound = sum(one is True for one in results)

    watch = Watch()
    asyncio.run(run())
    return watch.measured(job.rows, sound)


def ceiling(job: Job) -> Measured:
    """As many replies as one connection per slot gets, each looked at no closer than its length."""
    body = json.dumps({"model": server.MODEL, "messages": [{"role": "user", "content": text_of(0)}]}).encode()
    request = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    content = "positive" if job.label else json.dumps(server.ANSWER)
    size = len(server.completion(content, chat=True))
    host, _, port = job.urls[0].removeprefix("http://").partition(":")
    received = 0

    async def run() -> Watch:
        ended = asyncio.Event()

        class Counting(asyncio.Protocol):
            got = 0

            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                assert isinstance(transport, asyncio.WriteTransport)
                self.transport = transport

            def data_received(self, data: bytes) -> None:
                nonlocal received
                self.got += len(data)
                if self.got >= size:
                    self.got = 0
                    received += 1
                    if received >= job.rows:
                        ended.set()
                    else:
                        self.transport.write(request)

        loop = asyncio.get_running_loop()
        made = [await loop.create_connection(Counting, host, int(port)) for _ in range(job.limit or 1)]
        watch = Watch()
        for transport, _ in made:
            transport.write(request)
        await ended.wait()
        for transport, _ in made:
            transport.abort()
        return watch

    return asyncio.run(run()).measured(received, received)


MODES = {"ours": ours, "sdk": sdk, "ceiling": ceiling}


def main() -> None:
    job = Job(**json.loads(sys.argv[1]))
    if job.core >= 0:
        os.sched_setaffinity(0, {job.core})
    sys.stdout.write(json.dumps(asdict(MODES[job.mode](job))))


if __name__ == "__main__":
    main()
