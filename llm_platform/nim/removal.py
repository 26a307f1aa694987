"""Deleting a model's objects: those that are ours, as they were looked at, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llm_platform.errors import PlatformError
from llm_platform.nim.applying import Applied
from llm_platform.nim.cluster import Changed, Cluster, Ref
from llm_platform.nim.ownership import ATTEMPTS, UP_ANNOTATION, foreign, is_shared

CACHE_KINDS = frozenset({"PersistentVolumeClaim", "NIMCache"})
"""Hold what took hours to download or to train; they go only when that is asked for."""


@dataclass
class Removed:
    """What was deleted, and what was left, with the reason."""

    deleted: list[Ref] = field(default_factory=list)
    left: list[tuple[Ref, str]] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [f"Deleted: {', '.join(map(str, self.deleted))}."] if self.deleted else []
        return " ".join([*parts, *(f"Left: {ref}: {reason}." for ref, reason in self.left)])


def delete_created(cluster: Cluster, applied: Applied, owner: str) -> Removed:
    """Take back what one `up` has made, last first, and nothing else.

    That an answer did not come does not say that the object was not made; its mark says so. Caches stay, and so do
    objects that models share, since another one may have joined them by now.
    """
    removed = Removed()
    for ref in reversed(applied.asked):
        try:
            _delete(cluster, ref, removed, owner=owner, up_id=applied.up_id, delete_cache=False)
        except PlatformError as error:
            removed.left.append((ref, f"it could not be deleted: {error}"))
    return removed


def delete_owned(
    cluster: Cluster, refs: Sequence[Ref], owner: str, *, delete_cache: bool = False, dry_run: bool = False
) -> Removed:
    """Delete those objects that are ours and belong to one model, in the order given."""
    removed = Removed()
    for ref in refs:
        _delete(cluster, ref, removed, owner=owner, delete_cache=delete_cache, dry_run=dry_run)
    return removed


def _delete(
    cluster: Cluster,
    ref: Ref,
    removed: Removed,
    *,
    owner: str,
    delete_cache: bool,
    up_id: str | None = None,
    dry_run: bool = False,
) -> None:
    first_uid = None
    for _ in range(ATTEMPTS):
        found = cluster.get(ref)
        if found is None:
            return
        first_uid = first_uid or found["metadata"]["uid"]
        reason = _kept(found, ref, owner, delete_cache=delete_cache, up_id=up_id)
        if reason is None and found["metadata"]["uid"] != first_uid:
            reason = "it was made anew in this very moment"
        if reason is not None:
            removed.left.append((ref, reason))
            return
        metadata = found["metadata"]
        try:
            cluster.delete(ref, uid=metadata["uid"], resource_version=metadata["resourceVersion"], dry_run=dry_run)
            removed.deleted.append(ref)
            return
        except Changed:
            # Controllers write the status of what is just starting.
            continue
    removed.left.append((ref, f"it was changed {ATTEMPTS} times while it was to be deleted"))


def _kept(found: Mapping[str, Any], ref: Ref, owner: str, *, delete_cache: bool, up_id: str | None) -> str | None:
    """Why an object is not deleted, in words; None when it is."""
    if (reason := foreign(found, owner)) is not None:
        return reason
    made_by = found["metadata"]["annotations"][UP_ANNOTATION]
    if up_id is not None and made_by != up_id:
        return "it was made anew by another `nim up`"
    if is_shared(found):
        return "it is shared by the models of the namespace"
    if ref.kind in CACHE_KINDS and not delete_cache:
        return "what it holds took long to make; `nim down --delete-cache` deletes it"
    return None
