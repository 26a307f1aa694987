"""Which objects of a cluster are ours.

An object is ours when it has the owner's label and the annotation that an `up` writes on what it makes. Everything
else, whatever its name, was made by somebody else: it is named in a message and left as it is. Between a look and what
follows from it, the object may change hands; so an object is made by a request that fails if there is one, and changed
or deleted by a request that names the `uid` and the `resourceVersion` of the look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_platform.errors import ClusterRefused, ForeignObject
from llm_platform.nim.cluster import Ref
from llm_platform.nim.manifests.names import OWNER_LABEL, SERVICE_LABEL

UP_ANNOTATION = "llm-platform/up"
"""Holds the id of the `up` that made the object."""

ATTEMPTS = 8
"""Times that an object is looked at again because it has changed since the last look."""


def owner_of(manifests: Sequence[Mapping[str, Any]]) -> str:
    """The owner that all manifests of a model name.

    Raises:
        ClusterRefused: one names none, or another: it could never be told whose it is.
    """
    owners = {str(labels_of(manifest).get(OWNER_LABEL) or "") for manifest in manifests}
    if len(owners) != 1 or "" in owners:
        raise ClusterRefused(f"Every manifest of a model needs one label {OWNER_LABEL!r}; found {sorted(owners)}.")
    return owners.pop()


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
    labels, annotations = labels_of(found), found["metadata"].get("annotations") or {}
    if labels.get(OWNER_LABEL) != owner:
        manager = labels.get("app.kubernetes.io/managed-by")
        said = f"its label {OWNER_LABEL} is {labels.get(OWNER_LABEL)!r}, ours would be {owner!r}"
        return f"{said}; it is managed by {manager!r}" if manager else said
    if UP_ANNOTATION not in annotations:
        return f"it has no annotation {UP_ANNOTATION}, so no `nim up` has made it"
    return None


def is_shared(manifest: Mapping[str, Any]) -> bool:
    """Whether an object belongs to no one model."""
    return SERVICE_LABEL not in labels_of(manifest)


def labels_of(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """Labels of an object."""
    return found["metadata"].get("labels") or {}
