"""Which objects of a cluster are ours: applied with a mark, deleted only with it.

An object is ours when it has the owner's label and the annotation that `apply_all` writes when it makes one. Everything
else, whatever its name, was made by somebody else: it is named in a message and left as it is. Between a look and what
follows from it, the object may change hands; so an object is made by a request that fails if there is one, and changed
or deleted by a request that names the `uid` and the `resourceVersion` of the look.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llm_platform.errors import ClusterRefused, ForeignObject, PlatformError
from llm_platform.nim.cluster import MANAGER, AlreadyThere, Changed, Cluster, Object, Ref
from llm_platform.nim.manifests.names import OWNER_LABEL, SERVICE_LABEL

UP_ANNOTATION = "llm-platform/up"
"""Holds the id of the `up` that made the object."""

CACHE_KINDS = frozenset({"PersistentVolumeClaim", "NIMCache"})
"""Hold what took hours to download or to train; they go only when that is asked for."""

_ATTEMPTS = 8
_BOOKKEEPING = frozenset({"managedFields", "resourceVersion", "generation"})


@dataclass
class Applied:
    """What one `up` has done so far, kept while it goes on: an interruption must find it.

    Attributes:
        up_id: Written on every object that it makes.
        asked: Objects it has asked the API to make, whether or not the answer has come.
        joined: Objects of ours that were as they should be.
        used: Objects of others that models share.
    """

    up_id: str
    asked: list[Ref] = field(default_factory=list)
    created: list[Ref] = field(default_factory=list)
    changed: list[Ref] = field(default_factory=list)
    joined: list[Ref] = field(default_factory=list)
    used: list[Ref] = field(default_factory=list)


@dataclass
class Removed:
    """What was deleted, and what was left, with the reason."""

    deleted: list[Ref] = field(default_factory=list)
    left: list[tuple[Ref, str]] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [f"Deleted: {', '.join(map(str, self.deleted))}."] if self.deleted else []
        return " ".join([*parts, *(f"Left: {ref}: {reason}." for ref, reason in self.left)])


Pause = Callable[[str], None]
"""Waits a little, and says for what; raises at the deadline."""


def owner_of(manifests: Sequence[Mapping[str, Any]]) -> str:
    """The owner that all manifests of a model name.

    Raises:
        ClusterRefused: one names none, or another: it could never be told whose it is.
    """
    owners = {str(_labels(manifest).get(OWNER_LABEL) or "") for manifest in manifests}
    if len(owners) != 1 or "" in owners:
        raise ClusterRefused(f"Every manifest of a model needs one label {OWNER_LABEL!r}; found {sorted(owners)}.")
    return owners.pop()


def apply_all(
    cluster: Cluster,
    manifests: Sequence[Object],
    applied: Applied,
    *,
    pause: Pause,
    force: bool = False,
    dry_run: bool = False,
) -> None:
    """Make what is missing and bring to its manifest what is ours, in the order given.

    All objects are looked at before the first is touched. One that models share and somebody else has made, say the
    claim of a namespace, is used as it is.

    Args:
        cluster: Where they are to be.
        manifests: In order of application.
        applied: Is told what was done, as it happens.
        pause: Called while an object of before is still being deleted.
        force: Whether to take over fields of our objects that others have set since.
        dry_run: Let the API check everything and change nothing.

    Raises:
        ForeignObject: one exists and is not ours; nothing was touched.
        ClusterRefused: the API does not take one.
    """
    owner = owner_of(manifests)
    for manifest in manifests:
        ref = cluster.ref(manifest)
        if (found := cluster.get(ref)) is not None and not _is_shared(manifest):
            require_ours(found, ref, owner)
    for manifest in manifests:
        _apply(cluster, manifest, applied, owner, pause, force=force, dry_run=dry_run)


def require_ours(found: Mapping[str, Any], ref: Ref, owner: str) -> None:
    """Refuse to go on with an object that somebody else has made.

    Raises:
        ForeignObject: says by what that is seen.
    """
    if (reason := foreign(found, owner)) is not None:
        raise ForeignObject(
            f"{ref} exists in namespace {ref.namespace!r} and is not ours: {reason}. It was left as it is. "
            "Ask its owner, or give the lock entry another name in 'service'."
        )


def foreign(found: Mapping[str, Any], owner: str) -> str | None:
    """Why an object is not ours, in words; None when it is."""
    labels, annotations = _labels(found), found["metadata"].get("annotations") or {}
    if labels.get(OWNER_LABEL) != owner:
        manager = labels.get("app.kubernetes.io/managed-by")
        said = f"its label {OWNER_LABEL} is {labels.get(OWNER_LABEL)!r}, ours would be {owner!r}"
        return f"{said}; it is managed by {manager!r}" if manager else said
    if UP_ANNOTATION not in annotations:
        return f"it has no annotation {UP_ANNOTATION}, so no `nim up` has made it"
    return None


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


def _apply(
    cluster: Cluster, manifest: Object, applied: Applied, owner: str, pause: Pause, *, force: bool, dry_run: bool
) -> None:
    ref = cluster.ref(manifest)
    for _ in range(_ATTEMPTS):
        while (found := cluster.get(ref)) is not None and "deletionTimestamp" in found["metadata"]:
            pause(f"the {ref} of before is still being deleted")
        try:
            if found is None:
                applied.asked.append(ref)
                made = cluster.create(_marked(manifest, applied.up_id), dry_run=dry_run)
                applied.created.append(ref)
                if not dry_run:
                    _hold_as_applied(cluster, made)
            elif _is_shared(manifest) and foreign(found, owner) is not None:
                applied.used.append(ref)
            else:
                require_ours(found, ref, owner)
                changed = _bring_to(cluster, manifest, found, force=force, dry_run=dry_run)
                (applied.changed if changed else applied.joined).append(ref)
            return
        except AlreadyThere:
            applied.asked.remove(ref)
        except Changed:
            # Somebody was quicker, perhaps another `up` of ours: look again at what there is now.
            continue
    raise ClusterRefused(f"{ref} was changed by somebody else {_ATTEMPTS} times while it was applied. Try again.")


def _bring_to(cluster: Cluster, manifest: Object, found: Object, *, force: bool, dry_run: bool) -> bool:
    """Apply a manifest over an object of ours; whether that changed it."""
    if not dry_run:
        found = _as_applied(cluster, found)
    before = found["metadata"]
    marked = _marked(manifest, before["annotations"][UP_ANNOTATION])
    marked["metadata"] |= {"uid": before["uid"], "resourceVersion": before["resourceVersion"]}
    return _content(cluster.apply(marked, force=force, dry_run=dry_run)) != _content(found)


def _hold_as_applied(cluster: Cluster, made: Object) -> None:
    # A controller that was quicker is no harm: the next `up` does it.
    with contextlib.suppress(Changed):
        _as_applied(cluster, made)


def _is_shared(manifest: Mapping[str, Any]) -> bool:
    """Whether an object belongs to no one model."""
    return SERVICE_LABEL not in _labels(manifest)


def _content(found: Object) -> Object:
    """What people mean by an object: without its status, and who set which field when."""
    metadata = {name: value for name, value in found["metadata"].items() if name not in _BOOKKEEPING}
    return {**found, "metadata": metadata, "status": None}


def _as_applied(cluster: Cluster, found: Object) -> Object:
    """Hold the fields that we set on creation as applied ones.

    Only a create fails when there is an object already, and its fields are held by an update: applying would conflict
    with ourselves, and fields that a manifest has no more would stay.
    """
    fields = found["metadata"].get("managedFields") or []
    ours = [one for one in fields if one.get("manager") == MANAGER and not one.get("subresource")]
    if [one.get("operation") for one in ours] != ["Update"]:
        return found
    held = [{**one, "operation": "Apply"} if one is ours[0] else one for one in fields]
    version = found["metadata"]["resourceVersion"]
    operations = [
        {"op": "replace", "path": "/metadata/managedFields", "value": held},
        # Makes the API refuse the patch when the object has changed since.
        {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
    ]
    return cluster.patch(cluster.ref(found), operations)


def _marked(manifest: Object, up_id: str) -> Object:
    metadata = manifest["metadata"]
    annotations = {**(metadata.get("annotations") or {}), UP_ANNOTATION: up_id}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


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
    for _ in range(_ATTEMPTS):
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
    removed.left.append((ref, f"it was changed {_ATTEMPTS} times while it was to be deleted"))


def _kept(found: Mapping[str, Any], ref: Ref, owner: str, *, delete_cache: bool, up_id: str | None) -> str | None:
    """Why an object is not deleted, in words; None when it is."""
    if (reason := foreign(found, owner)) is not None:
        return reason
    made_by = found["metadata"]["annotations"][UP_ANNOTATION]
    if up_id is not None and made_by != up_id:
        return "it was made anew by another `nim up`"
    if _is_shared(found):
        return "it is shared by the models of the namespace"
    if ref.kind in CACHE_KINDS and not delete_cache:
        return "what it holds took long to make; `nim down --delete-cache` deletes it"
    return None


def _labels(found: Mapping[str, Any]) -> Mapping[str, Any]:
    return found["metadata"].get("labels") or {}
