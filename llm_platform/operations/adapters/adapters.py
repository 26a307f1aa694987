"""Adapters as folders: where they are kept, that they are whole, who serves them, and when one may go."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_platform.errors import (
    EndpointMismatch,
    EndpointUnavailable,
    PermanentError,
    RequestRejected,
    SpecificationError,
    StorageError,
)
from llm_platform.finetuning.adapter import load_manifest, verify
from llm_platform.finetuning.signature import sign_adapter, signed_by, trusted_keys, verify_signature
from llm_platform.models.entries import LockEntry
from llm_platform.nim.adapters import load, publish, retire, seen, unload, wait_served
from llm_platform.nim.dialects import form
from llm_platform.nim.http import EndpointClient
from llm_platform.operations.release.attestation import read_keys
from llm_platform.operations.release.rollout import before_champion
from llm_platform.operations.releases import LoadedApplication
from llm_platform.operations.serving.endpoints import base_urls
from llm_platform.operations.serving.serving import Serving
from llm_platform.records import AdapterManifest, ModelPin, adapter_name
from llm_platform.warehouse.object_store import S3Access
from llm_platform.warehouse.store import ApplicationStore

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

    from llm_platform.signing.keys import SigningKey

SERVED_WITHIN_SECONDS = 120.0
"""A refresh interval of an endpoint, and the time it takes to load."""


@dataclass(frozen=True)
class AdapterFolders:
    """Where adapters are kept: in this namespace's folder, and in the object store if the deployment has one.

    Attributes:
        namespaces: Folder with a folder for each namespace of this machine.
        namespace: Whose adapters are written.
        upstream: Whose adapters are read, too.
        data_root: The deployment's object store, `s3://bucket/prefix`, or a folder; None without one.
        s3: How that store is reached.
        signing_key: The deployment's key, which signs what is published here.
        trusted: Public keys, a file or a folder: an adapter that none of them has signed is not used. Without, a
            signature by our own key has to hold, and one by others, or none, is not looked at.
        may_store: Raises where nothing may be put into that store; asked before training, too.
    """

    namespaces: Path
    namespace: str
    upstream: str | None = None
    data_root: str | None = None
    s3: S3Access = field(default_factory=S3Access)
    signing_key: Path | None = None
    trusted: Path | None = None
    may_store: Callable[[], None] = lambda: None

    @property
    def folder(self) -> Path:
        """Folder of this namespace's adapters."""
        return self._of(self.namespace)

    def path(self, adapter_id: str) -> Path:
        """Where an adapter of this namespace is, or will be."""
        return self.folder / adapter_id

    def _of(self, namespace: str) -> Path:
        return self.namespaces / namespace / "adapters"

    @property
    def _names(self) -> list[str]:
        """Ours, then the upstream's: a branch on the same machine serves production's adapters."""
        return [self.namespace, *([self.upstream] if self.upstream else [])]

    def find(self, adapter_id: str, base: ModelPin) -> Path:
        """The folder of an adapter, here or brought here, after its files have been held against its manifest.

        And against its signature; see `trusted`.

        Raises:
            StorageError: it is nowhere, a file is not the one that the manifest names, or its signature does not hold.
            EndpointMismatch: it was trained on another base.
        """
        for folder in (self._of(name) / adapter_id for name in self._names):
            if folder.is_dir():
                break
        else:
            folder = self._fetched(adapter_id)
        verify(folder, base)
        self._verify_signature(folder)
        return folder

    def _verify_signature(self, folder: Path) -> None:
        if self.trusted is not None:
            verify_signature(folder, trusted_keys("\n".join(one.decode() for one in read_keys(self.trusted))))
            return
        signer, ours = signed_by(folder), self._own_key()
        if ours is not None and signer == ours.key_id:
            verify_signature(folder, trusted_keys(ours.public_pem))

    def sign(self, adapter_id: str, *, key: Path | None = None) -> None:
        """Sign an adapter of ours; `store` puts the signature into the object store, too.

        Args:
            key: Another one than the deployment's.

        Raises:
            StorageError: it is not here, or cannot be written.
            SpecificationError: there is no such key.
        """
        path = key if key is not None else self.signing_key
        if path is None:
            return
        from llm_platform.signing.keys import signing_key

        sign_adapter(self.path(adapter_id), signing_key(path, make=key is None), at=datetime.now(UTC))

    def _own_key(self) -> SigningKey | None:
        if self.signing_key is None or not self.signing_key.exists():
            return None
        from llm_platform.signing.keys import signing_key

        return signing_key(self.signing_key)

    def keep(self, folder: Path, base: ModelPin) -> Path:
        """Move a finished adapter here under its id, and copy it to the object store; its folder.

        Raises:
            StorageError: a file is not the one that the manifest names, or it cannot be written.
        """
        self.may_store()
        manifest = verify(folder, base)
        target = self.path(manifest.adapter_id)
        if not target.is_dir():
            target.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(target)
        self.sign(manifest.adapter_id)
        self.store(manifest.adapter_id)
        return target

    def store(self, adapter_id: str) -> None:
        """Copy an adapter of ours to the object store, if the deployment has one."""
        if (remote := self._remote(self.namespace)) is None:
            return
        self.may_store()
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

        for remote in filter(None, map(self._remote, self._names)):
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
            f"Adapter {adapter_id} is not in {self.folder}"
            f"{'' if self.data_root is None else f' or {self.data_root}'}. Train or import it again."
        )

    def _remote(self, namespace: str) -> tuple[FileSystem, str] | None:
        """The object store and the prefix of a namespace's adapters in it; None without one."""
        root = self.data_root
        if root is None or not root.startswith("s3://"):
            return None
        return self.s3.file_system(), f"{root.removeprefix('s3://').rstrip('/')}/{namespace}/adapters"


def peft_source(serving: Serving, entry: LockEntry) -> Path:
    """Folder that the endpoints of an entry watch for adapters; each model in a cluster has one of its own.

    Raises:
        SpecificationError: nobody said which.
    """
    if entry.mode == "embedded":
        return serving.local.peft_source
    if serving.peft_source is None:
        raise SpecificationError(
            f"The endpoints of {entry.name!r} watch a folder for adapters (their NIM_PEFT_SOURCE), and nobody said "
            "which. Mount it here and name it in LLM_PLATFORM_NIM_PEFT_SOURCE."
        )
    return _of_entry(serving.peft_source, entry)


def _of_entry(source: Path, entry: LockEntry) -> Path:
    """As `nim.manifests` lays out the claim: an adapter must not be offered to pods of another base."""
    return source / entry.service_name if entry.mode == "kubernetes" else source


def serve_adapter(
    entry: LockEntry,
    *,
    serving: Serving,
    folders: AdapterFolders,
    name: str,
    adapter_id: str,
    base: ModelPin,
    base_urls: Sequence[str],
) -> None:
    """Publish an adapter under a name to the endpoints of an entry, and wait until each has answered with it.

    Raises:
        StorageError: the adapter is nowhere, or its files are not what its manifest says.
        EndpointMismatch: it was trained on another base; the message has both hashes.
        EndpointUnavailable: an endpoint does not serve it in time.
    """
    folder = folders.find(adapter_id, base)
    published = publish(folder, peft_source(serving, entry), name, shared=entry.mode != "embedded")
    with _client(serving, entry) as client:
        for url in base_urls if _takes_calls(entry) else ():
            mount = serving.peft_mount
            seen_as = (_of_entry(mount, entry) if mount else published.parent) / name
            _called(entry, partial(load, url, name, str(seen_as), client))
        wait_served(base_urls, name, client, deadline_seconds=SERVED_WITHIN_SECONDS)


class ServedAdapter:
    """Holds what endpoints serve under an adapter's name against its manifest, and against what they served before.

    Answers under a release are answers of its weights. Whoever can reach an endpoint may be able to give the name other
    ones, for a moment too.
    """

    def __init__(
        self,
        entry: LockEntry,
        *,
        serving: Serving,
        folders: AdapterFolders,
        name: str,
        adapter_id: str,
        base: ModelPin,
    ) -> None:
        self._entry, self._serving, self._folders = entry, serving, folders
        self._name, self._adapter_id, self._base = name, adapter_id, base
        self._before: dict[str, dict[str, Any]] = {}

    def serve(self, base_urls: Sequence[str]) -> None:
        """Have it served, and remember what the endpoints say of it.

        Raises:
            EndpointMismatch: an endpoint serves other files under the name.
            And as `serve_adapter`.
        """
        serve_adapter(
            self._entry,
            serving=self._serving,
            folders=self._folders,
            name=self._name,
            adapter_id=self._adapter_id,
            base=self._base,
            base_urls=base_urls,
        )
        files = load_manifest(self._folders.find(self._adapter_id, self._base)).files
        now = self._seen(base_urls)
        for url, said in now.items():
            if said.get("files", files) != files:
                raise EndpointMismatch(
                    f"{url} serves other files under {self._name!r} than those of adapter {self._adapter_id}. Nothing "
                    f"was sent to it. Unload the name there, then run again."
                )
        self._before |= now

    def verify(self) -> None:
        """Refuse what was answered since `serve` where the endpoints do not say the same now.

        Raises:
            EndpointMismatch: one serves something else, or did meanwhile.
            EndpointUnavailable: one does not answer.
        """
        now = self._seen(tuple(self._before))
        if changed := [url for url, said in self._before.items() if now[url] != said]:
            raise EndpointMismatch(
                f"{', '.join(changed)} served something else under {self._name!r} while documents were answered by "
                f"adapter {self._adapter_id}."
            )

    def _seen(self, base_urls: Sequence[str]) -> dict[str, dict[str, Any]]:
        with _client(self._serving, self._entry) as client:
            return seen(base_urls, self._name, client)


def _client(serving: Serving, entry: LockEntry) -> EndpointClient:
    return EndpointClient(serving.connection(external=entry.mode == "external"))


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
        earlier = before_champion(store.rollout.history())
        roles = {"the champion": served.release_id, "the rollback target": earlier.release_id if earlier else None}
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
    serving: Serving,
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
    return withdraw_adapter(serving, entry, adapter_name(loaded.application.name, manifest.adapter_id))


def withdraw_adapter(serving: Serving, entry: LockEntry, name: str) -> bool:
    """Remove an adapter from the folder that the endpoints of `entry` look at, and from those; whether it was there."""
    gone = retire(peft_source(serving, entry), name)
    with _client(serving, entry) as client:
        for url in _running(entry, serving) if gone and _takes_calls(entry) else ():
            _called(entry, partial(unload, url, name, client))
    return gone


def _running(entry: LockEntry, serving: Serving) -> tuple[str, ...]:
    try:
        return base_urls(entry, serving.local, cluster_namespace=serving.cluster_namespace)
    except EndpointUnavailable:
        return ()  # a model that is down holds no adapter


def published_names(serving: Serving, lock: Mapping[str, LockEntry]) -> set[str]:
    """Names of the adapters in the folders that endpoints watch."""
    names: set[str] = set()
    for entry in lock.values():
        if entry.mode != "embedded" and serving.peft_source is None:
            continue
        source = peft_source(serving, entry)
        names |= {path.name for path in source.iterdir() if path.is_dir()} if source.is_dir() else set()
    return names
