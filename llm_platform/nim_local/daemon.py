"""The life of one server process: listen, load, serve, drain, exit."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType

import uvicorn

from llm_platform.errors import PlatformError, without_messages
from llm_platform.nim_local.adapters import ServableAdapter
from llm_platform.nim_local.config import EmbeddedConfig
from llm_platform.nim_local.engine import Engine
from llm_platform.nim_local.guard import Guard
from llm_platform.nim_local.registration import Registration
from llm_platform.nim_local.server import Nim, create_app
from llm_platform.nim_local.signals import handlers_kept, leave_signals_alone
from llm_platform.nim_local.vocabulary import Vocabulary
from llm_platform.web.listening import listen
from llm_platform.web.patience import LimitedProtocol

_DRAIN_SECONDS = 20
_POLL_SECONDS = 0.01

log = logging.getLogger(__name__)


class ManyClients(LimitedProtocol):
    """For bulk runs, which keep a connection for each request in flight, and prompts of megabytes."""

    request_seconds = 60.0
    most_connections = 4096


def serve(
    config: EmbeddedConfig,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    state: Path | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> int:
    """Serve until SIGTERM, SIGINT or idleness; the exit code.

    Args:
        config: What to serve.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        state: Folder to register in, so that `connect` finds this server; None registers nowhere.
        on_ready: Called with the base URL once a request can be answered.

    Raises:
        LeaseHeld: another server is registered in `state` for this model.
        StorageError: `state` cannot be written, or the address is taken.
    """
    listener = listen(host, port, serving="the embedded NIM")
    bound_port = listener.getsockname()[1]
    base_url = f"http://{host}:{bound_port}"
    registration = Registration.take(state, config) if state is not None else None
    try:
        with tempfile.TemporaryDirectory(prefix="nim-adapters-") as scratch:
            cache = Path(scratch) if registration is None else registration.folder / "adapters"
            running = _serve(
                config, listener, base_url, host=host, cache=cache, registration=registration, on_ready=on_ready
            )
            return asyncio.run(running)
    finally:
        listener.close()
        if registration is not None:
            registration.release()


class _Server(uvicorn.Server):
    """uvicorn, with a reason for its end."""

    exit_code = 0

    def end(self, reason: str, *, exit_code: int = 0) -> None:
        """Drain and exit."""
        log.info("ending: %s", reason)
        self.exit_code = exit_code
        self.should_exit = True

    def end_by_signal(self, number: int, _: FrameType | None) -> None:
        """Drain and exit; at the second signal exit without draining."""
        self.force_exit = self.should_exit
        self.end(signal.Signals(number).name)


async def _serve(
    config: EmbeddedConfig,
    listener: socket.socket,
    base_url: str,
    *,
    host: str,
    cache: Path,
    registration: Registration | None,
    on_ready: Callable[[str], None] | None,
) -> int:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(initializer=leave_signals_alone))

    async def open_engine(adapters: Sequence[ServableAdapter]) -> Engine:
        with handlers_kept(server.end_by_signal):
            return await asyncio.to_thread(_open_engine, config, adapters)

    nim = Nim(config, cache=cache, open_engine=open_engine)
    guard = Guard(host, registration.token if registration is not None else None)
    server = _Server(
        uvicorn.Config(
            create_app(nim, guard),
            access_log=False,
            log_config=None,
            lifespan="off",
            server_header=False,
            date_header=False,
            backlog=4096,
            http=ManyClients,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=_DRAIN_SECONDS,
        )
    )

    async def prepare() -> None:
        if await _load(nim, server):
            while not server.started:
                await asyncio.sleep(_POLL_SECONDS)
            if registration is not None:
                registration.announce(base_url)
            log.info(
                "ready: %s at %s, %d slots, %d threads", config.model_id, base_url, config.slots, config.thread_count
            )
            if on_ready is not None:
                on_ready(base_url)
            await asyncio.gather(_watch(nim), _exit_when_idle(nim, server))

    preparing = asyncio.create_task(prepare())
    preparing.add_done_callback(_log_failure)
    try:
        await server.serve(sockets=[listener])
    finally:
        preparing.cancel()
        await asyncio.gather(preparing, return_exceptions=True)
        await nim.close()
    return server.exit_code


async def _load(nim: Nim, server: _Server) -> bool:
    """Load the engine beside the event loop, which answers "live" meanwhile; false when that failed."""
    try:
        await nim.shelf.open()
    except PlatformError as error:
        server.end(str(error), exit_code=1)
        return False
    return True


def _open_engine(config: EmbeddedConfig, adapters: Sequence[ServableAdapter]) -> Engine:
    return Engine(config, Vocabulary.read(config.weights), adapters)


def _log_failure(preparing: asyncio.Task[None]) -> None:
    """A fault of ours beside the server: it goes on with what it serves, and the log has the trace."""
    if not preparing.cancelled() and (error := preparing.exception()) is not None:
        log.error("the PEFT folder and idleness are no longer watched", exc_info=error)


async def _watch(nim: Nim) -> None:
    """Look at the PEFT folder again and again."""
    while nim.config.peft_source is not None:
        await asyncio.sleep(nim.config.peft_refresh_seconds)
        await nim.shelf.refresh()


async def _exit_when_idle(nim: Nim, server: _Server) -> None:
    limit = nim.config.idle_exit_seconds
    if limit == 0:
        return
    while (left := limit - nim.idle_seconds()) > 0:
        await asyncio.sleep(max(left, 0.05))
    server.end(f"nobody asked for {limit:g} s")


def log_to_stderr() -> None:
    """Log lines to standard error; they never hold prompts or answers."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format=f"%(asctime)s {os.getpid()} %(levelname)s %(name)s %(message)s"
    )
    for handler in logging.getLogger().handlers:
        handler.addFilter(without_messages)
    # It reports every file it writes.
    logging.getLogger("gguf").setLevel(logging.WARNING)
