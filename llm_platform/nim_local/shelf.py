"""Which adapters are served: those of the PEFT folder, and those that were loaded through the API.

A folder that cannot be served is skipped with a reason and looked at again when it changes; nothing about it touches
the base model or the other adapters. llama.cpp takes adapters only when it starts, so a new one means a new engine,
which is opened beside the old one and takes over when it is ready. An adapter that leaves needs no new engine: its name
is gone, its requests finish.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from llm_platform.errors import PlatformError, SpecificationError
from llm_platform.nim_local.adapters import BaseWeights, ServableAdapter, prepare
from llm_platform.nim_local.config import EmbeddedConfig
from llm_platform.nim_local.engine import Engine
from llm_platform.nim_local.gguf_header import read_header
from llm_platform.nim_local.peft import CONFIG_FILE, MANIFEST_FILE, WEIGHTS_FILE

OpenEngine = Callable[[Sequence[ServableAdapter]], Awaitable[Engine]]
Signature = tuple[tuple[int, int, int] | None, ...]

log = logging.getLogger(__name__)


class Shelf:
    """The adapters of one server. Used in its event loop; the work is done in threads."""

    def __init__(
        self, config: EmbeddedConfig, *, cache: Path, open_engine: OpenEngine, install: Callable[[Engine], None]
    ) -> None:
        """Nothing is read before the first `refresh`.

        Args:
            config: Names the folder and the base.
            cache: Folder for converted adapters.
            open_engine: Loads the weights with these adapters.
            install: Makes an engine the one that answers; called in the event loop.
        """
        self._config = config
        self._cache = cache
        self._open_engine = open_engine
        self._install = install
        self._lock = asyncio.Lock()
        self._base: BaseWeights | None = None
        self._seen: dict[str, Signature] = {}
        self.served: Mapping[str, ServableAdapter] = {}
        self.refused: dict[str, str] = {}
        self.loads: dict[str, int] = {}

    async def open(self) -> None:
        """Open the first engine, with the adapters that are there.

        Raises:
            EndpointUnavailable: the base model cannot be loaded.
        """
        async with self._lock:
            fresh = await self._fresh()
            if not await self._serve({**fresh}, fresh):
                await self._serve({}, {})

    async def refresh(self) -> None:
        """Look at the folder, and serve what is there now."""
        async with self._lock:
            if fresh := await self._fresh():
                await self._serve({**self.served, **fresh}, fresh)

    async def load(self, name: str, folder: Path) -> None:
        """Serve the adapter of a folder under a name, replacing what it stood for.

        Raises:
            SpecificationError: it cannot be served.
            EndpointUnavailable: the engine did not take it.
        """
        async with self._lock:
            fresh = {name: await self._prepare(name, folder)}
            if not await self._serve({**self.served, **fresh}, fresh):
                raise SpecificationError(self.refused.pop(name))
            self.refused.pop(name, None)

    def unload(self, name: str) -> bool:
        """Stop serving an adapter; whether it was served. One of the folder comes back when its files change."""
        was_served = name in self.served
        self.served = {other: adapter for other, adapter in self.served.items() if other != name}
        return was_served

    async def _fresh(self) -> dict[str, ServableAdapter]:
        """What the folder holds that is not served yet; forgets what it no longer holds."""
        found = await asyncio.to_thread(_scan, self._config.peft_source)
        if found is None:
            # A folder that cannot be read is not an empty one.
            return {}
        for name in self._seen.keys() - found.keys():
            self._forget(name)
        fresh = {}
        for name, (folder, signature) in found.items():
            if self._seen.get(name) == signature:
                continue
            self._seen[name] = signature
            try:
                adapter = await self._prepare(name, folder)
            except PlatformError as error:
                self._refuse(name, str(error))
                continue
            self.refused.pop(name, None)
            if adapter != self.served.get(name):
                fresh[name] = adapter
        return fresh

    async def _prepare(self, name: str, folder: Path) -> ServableAdapter:
        if name == self._config.model_id:
            raise SpecificationError(f"{name!r} is the name of the base model. Give the adapter another one.")
        if self._base is None:
            self._base = BaseWeights(
                self._config.weights_sha256, await asyncio.to_thread(read_header, self._config.weights)
            )
        return await asyncio.to_thread(
            prepare, name, folder, self._base, cache=self._cache, max_rank=self._config.max_lora_rank
        )

    async def _serve(self, wanted: dict[str, ServableAdapter], fresh: Mapping[str, ServableAdapter]) -> bool:
        """Open an engine with the wanted adapters and let it answer; false when the fresh ones broke it."""
        try:
            engine = await self._open_engine(tuple(wanted.values()))
        except PlatformError as error:
            if not fresh:
                raise
            for name in fresh:
                self._refuse(name, str(error))
            return False
        self._install(engine)
        self.served = wanted
        for name, adapter in fresh.items():
            self.loads[name] = self.loads.get(name, 0) + 1
            log.info("adapter %s: served, rank %d, content %s", name, adapter.rank, adapter.content)
        self._sweep()
        return True

    def _refuse(self, name: str, reason: str) -> None:
        self.refused[name] = reason
        log.warning("adapter %s: not served: %s", name, reason)

    def _forget(self, name: str) -> None:
        del self._seen[name]
        self.refused.pop(name, None)
        if self.unload(name):
            log.info("adapter %s: retired", name)

    def _sweep(self) -> None:
        """Remove conversions that nobody serves; an engine that still runs with one has read it."""
        kept = {adapter.file for adapter in self.served.values()}
        for file in self._cache.iterdir() if self._cache.exists() else ():
            if file not in kept:
                file.unlink(missing_ok=True)


def _scan(source: Path | None) -> dict[str, tuple[Path, Signature]] | None:
    """Sub-folders by name, with what tells that their files changed; None when the folder cannot be read.

    Hidden ones are being written: publishing ends with a rename.
    """
    if source is None:
        return {}
    try:
        folders = [path for path in sorted(source.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    except FileNotFoundError:
        return {}
    except OSError as error:
        log.warning("PEFT folder %s cannot be read: %s", source, error.strerror)
        return None
    return {folder.name: (folder, _signature(folder)) for folder in folders}


def _signature(folder: Path) -> Signature:
    return tuple(_stamp(folder / name) for name in (CONFIG_FILE, WEIGHTS_FILE, MANIFEST_FILE))


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
