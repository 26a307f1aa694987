"""Adapters as folders: where they are kept, that they are whole, who serves them, and when one may go."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from llm_platform.errors import EndpointUnavailable, PermanentError, RequestRejected, SpecificationError, StorageError
from llm_platform.finetuning.adapter import verify
from llm_platform.models.entries import LockEntry
from llm_platform.nim.adapters import load, publish, retire, unload, wait_served
from llm_platform.nim.dialects import form
from llm_platform.nim.http import EndpointClient
from llm_platform.operations.releases import LoadedApplication
from llm_platform.operations.serving.endpoints import LocalNim, base_urls
from llm_platform.records import AdapterManifest, ModelPin, adapter_name
from llm_platform.settings.settings import Settings
from llm_platform.warehouse.store import ApplicationStore

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

SERVED_WITHIN_SECONDS = 120.0
"""A refresh interval of an endpoint, and the time it takes to load."""


@dataclass(frozen=True)
class AdapterFolders:
    """Where adapters are kept: in this namespace's folder, and in the object store if the deployment has one."""

    settings: Settings

    def path(self, adapter_id: str) -> Path:
        """Where an adapter of this namespace is, or will be."""
        return self.settings.adapters_folder / adapter_id

    def find(self, adapter_id: str, base: ModelPin) -> Path:
        """The folder of an adapter, here or brought here, after its files have been held against its manifest.

        Raises:
            StorageError: it is nowhere, or a file is not the one that the manifest names.
            EndpointMismatch: it was trained on another base.
        """
        for folder in self._places(adapter_id):
            if folder.is_dir():
                break
        else:
            folder = self._fetched(adapter_id)
        verify(folder, base)
        return folder

    def keep(self, folder: Path, base: ModelPin) -> Path:
        """Move a finished adapter here under its id, and copy it to the object store; its folder.

        Raises:
            StorageError: a file is not the one that the manifest names, or it cannot be written.
        """
        manifest = verify(folder, base)
        target = self.path(manifest.adapter_id)
        if not target.is_dir():
            target.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(target)
        self.store(manifest.adapter_id)
        return target

    def _places(self, adapter_id: str) -> list[Path]:
        """Ours, then the upstream's: a branch on the same machine serves production's adapters."""
        upstream = self.settings.upstream_namespace
        names = [self.settings.namespace, *([upstream] if upstream else [])]
        return [self.settings.state / "namespaces" / name / "adapters" / adapter_id for name in names]

    def store(self, adapter_id: str) -> None:
        """Copy an adapter of ours to the object store, if the deployment has one."""
        if (remote := self._remote(self.settings.namespace)) is None:
            return
        from pyarrow import fs

        system, root = remote
        folder = self.path(adapter_id)
        # The manifest comes last: who sees it sees a whole adapter.
        for path in sorted(folder.iterdir(), key=lambda path: path.name == "manifest.json"):
            fs.copy_files(
                str(path),
                f"{root}/{folder.name}/{path.name}",
                source_filesystem=fs.LocalFileSystem(),
                destination_filesystem=system,
            )

    def _fetched(self, adapter_id: str) -> Path:
        """The adapter's folder, copied from the object store."""
        from pyarrow import fs

        names = [self.settings.namespace, *filter(None, [self.settings.upstream_namespace])]
        for remote in filter(None, map(self._remote, names)):
            system, root = remote
            if system.get_file_info(f"{root}/{adapter_id}/manifest.json").type != fs.FileType.File:
                continue
            target = self.path(adapter_id)
            aside = target.with_name(f".{adapter_id}.{os.getpid()}")
            aside.mkdir(parents=True, exist_ok=True)
            fs.copy_files(
                f"{root}/{adapter_id}",
                str(aside),
                source_filesystem=system,
                destination_filesystem=fs.LocalFileSystem(),
            )
            if target.is_dir():  # somebody else was quicker
                shutil.rmtree(aside)
            else:
                aside.rename(target)
            return target
        raise StorageError(
            f"Adapter {adapter_id} is not in {self.settings.adapters_folder}"
            f"{'' if self.settings.data_root is None else f' or {self.settings.data_root}'}. Train or import it again."
        )

    def _remote(self, namespace: str) -> tuple[FileSystem, str] | None:
        """The object store and the prefix of a namespace's adapters in it; None without one."""
        root = self.settings.data_root
        if root is None or not root.startswith("s3://"):
            return None
        from pyarrow import fs

        settings = self.settings
        given = {
            "access_key": settings.s3_key_id,
            "secret_key": settings.s3_secret.get_secret_value() if settings.s3_secret else None,
            "region": settings.s3_region or None,
            "endpoint_override": settings.s3_endpoint or None,
        }
        system = fs.S3FileSystem(
            scheme="https" if settings.s3_use_ssl else "http",
            force_virtual_addressing=settings.s3_url_style == "vhost",
            **{key: value for key, value in given.items() if value},
        )
        return system, f"{root.removeprefix('s3://').rstrip('/')}/{namespace}/adapters"


def peft_source(settings: Settings, entry: LockEntry) -> Path:
    """Folder that the endpoints of an entry watch for adapters; each model in a cluster has one of its own.

    Raises:
        SpecificationError: nobody said which.
    """
    if entry.mode == "embedded":
        return settings.peft_source
    if settings.nim_peft_source is None:
        raise SpecificationError(
            f"The endpoints of {entry.name!r} watch a folder for adapters (their NIM_PEFT_SOURCE), and nobody said "
            "which. Mount it here and name it in LLM_PLATFORM_NIM_PEFT_SOURCE."
        )
    return _of_entry(settings.nim_peft_source, entry)


def _of_entry(source: Path, entry: LockEntry) -> Path:
    """As `nim.manifests` lays out the claim: an adapter must not be offered to pods of another base."""
    return source / entry.service_name if entry.mode == "kubernetes" else source


def serve_adapter(
    settings: Settings, entry: LockEntry, *, name: str, adapter_id: str, base: ModelPin, base_urls: Sequence[str]
) -> None:
    """Publish an adapter under a name to the endpoints of an entry, and wait until each has answered with it.

    Raises:
        StorageError: the adapter is nowhere, or its files are not what its manifest says.
        EndpointMismatch: it was trained on another base; the message has both hashes.
        EndpointUnavailable: an endpoint does not serve it in time.
    """
    folder = AdapterFolders(settings).find(adapter_id, base)
    published = publish(folder, peft_source(settings, entry), name)
    with _client(settings, entry) as client:
        for url in base_urls if _takes_calls(entry) else ():
            mount = settings.nim_peft_mount
            seen_as = (_of_entry(mount, entry) if mount else published.parent) / name
            _called(entry, partial(load, url, name, str(seen_as), client))
        wait_served(base_urls, name, client, deadline_seconds=SERVED_WITHIN_SECONDS)


def _client(settings: Settings, entry: LockEntry) -> EndpointClient:
    return EndpointClient(settings.connection(external=entry.mode == "external"))


def _takes_calls(entry: LockEntry) -> bool:
    """Whether adapters are loaded by a call, too; the embedded NIM looks at its folder every second."""
    return entry.mode != "embedded" and form(entry.dialect).loads_adapters


def _called(entry: LockEntry, call: Callable[[], object]) -> None:
    """Make a call about adapters. A NIM that has such calls switched off looks at its folder itself; others do not."""
    try:
        call()
    except RequestRejected:
        if not form(entry.dialect).has_nim_paths:
            raise


def uses(store: ApplicationStore, loaded: LoadedApplication) -> dict[str, list[str]]:
    """Adapter id → who still needs it, in words: the champion, the one before it, and what the files point at."""
    found: dict[str, list[str]] = {}
    served = store.rollout.champion()
    if served is not None:
        history = store.rollout.history()
        earlier = [event for event in history if event.release_id != served.release_id]
        roles = {"the champion": served.release_id, "the rollback target": earlier[-1].release_id if earlier else None}
        for role, release_id in roles.items():
            release = store.releases.get(release_id) if release_id else None
            if release is not None and release.adapter is not None:
                found.setdefault(release.adapter, []).append(f"{role}, release {release.release_id}")
    for variant in loaded.application.variants:
        asking = loaded.requesting(variant, store)
        if asking is not None and asking.adapter is not None:
            release_id = asking.release_id
            found.setdefault(asking.adapter, []).append(f"variant {variant!r}, release {release_id}")
    return found


def retire_adapter(
    store: ApplicationStore,
    loaded: LoadedApplication,
    manifest: AdapterManifest,
    *,
    settings: Settings,
    entry: LockEntry,
) -> bool:
    """Take an adapter from the endpoints; whether it was there. Its folder and its record stay.

    Raises:
        PermanentError: a release in use is served by it; the message names the release.
    """
    users = uses(store, loaded).get(manifest.adapter_id)
    if users:
        raise PermanentError(
            f"Adapter {manifest.adapter_id} of {loaded.application.name} is not retired: it serves "
            f"{'; '.join(users)}. Promote another release, or let the variant point at another adapter, first."
        )
    return withdraw_adapter(settings, entry, adapter_name(loaded.application.name, manifest.adapter_id))


def withdraw_adapter(settings: Settings, entry: LockEntry, name: str) -> bool:
    """Remove an adapter from the folder that the endpoints of `entry` look at, and from those; whether it was there."""
    gone = retire(peft_source(settings, entry), name)
    with _client(settings, entry) as client:
        for url in _running(entry, settings) if gone and _takes_calls(entry) else ():
            _called(entry, partial(unload, url, name, client))
    return gone


def _running(entry: LockEntry, settings: Settings) -> tuple[str, ...]:
    try:
        return base_urls(entry, LocalNim.of(settings), cluster_namespace=settings.nim_cluster_namespace)
    except EndpointUnavailable:
        return ()  # a model that is down holds no adapter


def published_names(settings: Settings, lock: Mapping[str, LockEntry]) -> set[str]:
    """Names of the adapters in the folders that endpoints watch."""
    names: set[str] = set()
    for entry in lock.values():
        if entry.mode != "embedded" and settings.nim_peft_source is None:
            continue
        source = peft_source(settings, entry)
        names |= {path.name for path in source.iterdir() if path.is_dir()} if source.is_dir() else set()
    return names
