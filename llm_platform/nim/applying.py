"""Applying a model's objects: what is missing is made, and what is ours is brought to its manifest."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from llm_platform.errors import ClusterRefused
from llm_platform.nim.cluster import MANAGER, AlreadyThere, Changed, Cluster, Object, Ref
from llm_platform.nim.ownership import ATTEMPTS, UP_ANNOTATION, foreign, is_shared, owner_of, require_ours

Pause = Callable[[str], None]
"""Waits a little, and says for what; raises at the deadline."""

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
        if (found := cluster.get(ref)) is not None and not is_shared(manifest):
            require_ours(found, ref, owner)
    for manifest in manifests:
        _apply(cluster, manifest, applied, owner, pause, force=force, dry_run=dry_run)


def _apply(
    cluster: Cluster, manifest: Object, applied: Applied, owner: str, pause: Pause, *, force: bool, dry_run: bool
) -> None:
    ref = cluster.ref(manifest)
    for _ in range(ATTEMPTS):
        while (found := cluster.get(ref)) is not None and "deletionTimestamp" in found["metadata"]:
            pause(f"the {ref} of before is still being deleted")
        try:
            if found is None:
                applied.asked.append(ref)
                made = cluster.create(_marked(manifest, applied.up_id), dry_run=dry_run)
                applied.created.append(ref)
                if not dry_run:
                    _hold_as_applied(cluster, made)
            elif is_shared(manifest) and foreign(found, owner) is not None:
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
    raise ClusterRefused(f"{ref} was changed by somebody else {ATTEMPTS} times while it was applied. Try again.")


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


def _content(found: Object) -> Object:
    """What people mean by an object: without its status, and who set which field when."""
    metadata = {name: value for name, value in found["metadata"].items() if name not in _BOOKKEEPING}
    return {**found, "metadata": metadata, "status": None}


def _marked(manifest: Object, up_id: str) -> Object:
    metadata = manifest["metadata"]
    annotations = {**(metadata.get("annotations") or {}), UP_ANNOTATION: up_id}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}
