"""The service as a process: one socket, one event loop, one lake, until it is stopped."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from llm_platform.errors import PlatformError, without_messages
from llm_platform.inference.threads import step_aside
from llm_platform.online.app import online_app
from llm_platform.online.callers import Callers
from llm_platform.operations.online.desk import AskingOf, DeskPlace, OnlineDesk
from llm_platform.operations.online.open_lake import Opening, OpenLake
from llm_platform.operations.releases import LoadedApplication
from llm_platform.web.listening import LOCAL_NAMES, listen
from llm_platform.web.patience import LimitedProtocol

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
"""So often the decision is read: a promotion reaches callers within it."""
COMMIT_SECONDS = 5.0
"""So long an answer is on the disk only. A commit keeps the disk busy, and whoever waits for a sync meanwhile waits."""
ACCOUNT_SECONDS = 300.0
"""So often what was sent and paid is put on record."""
CUT_OFF_TICKS = 5
"""After so many ticks without the lake it is opened anew."""
# The threads of the sinks and the loop take turns on one core: with Python's 5 ms, a reply waits for that long.
_SWITCH_SECONDS = 0.0005


class PatientProtocol(LimitedProtocol):
    """Programs keep more connections than browsers."""

    most_connections = 2000


def serve_online(
    opening: Opening,
    applications: Mapping[str, Callable[[], LoadedApplication]],
    callers: Callers,
    *,
    host: str,
    port: int,
    journals: Path,
    asking_of: Callable[[str], AskingOf],
    deadline_seconds: float,
    most_queued: int,
    ready: Callable[[str], None],
) -> None:
    """Serve until the process is asked to stop; then what is in flight is waited for, and everything is stored.

    Args:
        opening: Opens the lake.
        applications: Name → what reads its files.
        asking_of: Application → how its releases are asked.
        ready: Called with the address once callers may come.

    Raises:
        StorageError: the address is in use or may not be listened on.
    """
    listening = listen(host, port, serving="answers", waiting=1024)
    lake = OpenLake(opening)
    # Reads and commits come in bursts; callers go first.
    threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="llm-platform-lake", initializer=step_aside)
    place = DeskPlace(lake, journals, run_id=f"serve-{uuid.uuid4().hex}", most_queued=most_queued)
    desks = {
        name: OnlineDesk(name, loading, asking_of=asking_of(name), place=place, threads=threads)
        for name, loading in applications.items()
    }

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        ticking = [asyncio.create_task(follow(desks, callers, lake)), asyncio.create_task(_commit(desks))]
        try:
            yield
        finally:
            for task in ticking:
                task.cancel()
            await asyncio.gather(*ticking, return_exceptions=True)
            await asyncio.gather(*(desk.close() for desk in desks.values()))
            await asyncio.to_thread(lake.close)
            threads.shutdown()

    app = online_app(
        desks,
        callers,
        hosts=("*",) if callers.by_token else LOCAL_NAMES,
        deadline_seconds=deadline_seconds,
        lifespan=lifespan,
    )
    server = _server(app, deadline_seconds=deadline_seconds)
    sys.setswitchinterval(_SWITCH_SECONDS)
    name = f"[{host}]" if ":" in host else host
    # uvicorn ends in order and then raises the signal again, which is an interrupt like Ctrl-C, and no failure.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    ready(f"http://{name}:{listening.getsockname()[1]}")
    try:
        server.run(sockets=[listening])
    finally:
        signal.signal(signal.SIGTERM, before)


def _server(app: Starlette, *, deadline_seconds: float) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        http=PatientProtocol,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(deadline_seconds),
    )
    # A fault of ours is logged with its trace, and that ends with what the error says.
    for of in ("uvicorn.error", "asyncio"):
        logging.getLogger(of).addFilter(without_messages)
    return uvicorn.Server(config)


def _keep_out_of_sight() -> None:
    """Let the garbage collector pass over what there is: it lives as long as the service.

    That is some 200,000 objects, of modules above all; each full collection held every caller up for a tenth of a
    second.
    """
    gc.freeze()


async def follow(desks: Mapping[str, OnlineDesk], callers: Callers, lake: OpenLake) -> None:
    """Follow what is stored, what the files say, and who may call, until it is cancelled."""
    cut_off, is_first = 0, True
    while True:
        for desk in desks.values():
            await desk.refresh()
        callers.refresh()
        if is_first:
            # Once: to ask the collector whether it was done would count all of it, in every second.
            _keep_out_of_sight()
            is_first = False
        cut_off = cut_off + 1 if any(desk.is_cut_off for desk in desks.values()) else 0
        if cut_off and cut_off % CUT_OFF_TICKS == 0:
            with suppress(PlatformError):
                await asyncio.to_thread(lake.give_up)
        await asyncio.sleep(TICK_SECONDS)


async def _commit(desks: Mapping[str, OnlineDesk]) -> None:
    recorded_at, is_first = time.monotonic(), True
    while True:
        await asyncio.sleep(COMMIT_SECONDS)
        for desk in desks.values():
            await desk.commit()
        if is_first:
            # Libraries that are loaded when something is stored for the first time.
            _keep_out_of_sight()
            is_first = False
        if time.monotonic() - recorded_at >= ACCOUNT_SECONDS:
            recorded_at = time.monotonic()
            for desk in desks.values():
                await desk.put_on_record()
