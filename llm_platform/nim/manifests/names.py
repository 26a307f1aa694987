"""Names and labels of objects: by them the life cycle knows what it made, and Prometheus and policies find pods."""

from __future__ import annotations

import hashlib
import re

from llm_platform.nim.manifests.pods import Manifest, PodSettings, ServedModel

OWNER_LABEL = "llm-platform/owner"
SERVICE_LABEL = "llm-platform/service"
"""On everything that belongs to one model and goes with it; the claim, which all models share, has none."""
ENTRY_LABEL = "llm-platform/entry"
"""Prometheus keeps pods that have it, and copies it to their metrics."""
MAX_LENGTH = 63
"""Of a label's value, and of a name that has to be a DNS label."""


def owner_label(deployment: str, namespace: str) -> str:
    """The label value that says which deployment and namespace of the platform made an object."""
    return label_value(f"{deployment}.{namespace}")


def label_value(text: str) -> str:
    """A text as a label's value; where it cannot be one as it is, a hash keeps two of them apart."""
    value = re.sub(r"[^A-Za-z0-9._-]", "-", text)
    if value == text and len(text) <= MAX_LENGTH and text[:1].isalnum() and text[-1:].isalnum():
        return text
    return _with_hash(value.strip("._-"), text, MAX_LENGTH)


def derived_name(service: str, suffix: str, *, longest: int = MAX_LENGTH) -> str:
    """Name of a further object of a service, at most `longest` characters."""
    name = f"{service}-{suffix}"
    if len(name) <= longest:
        return name
    return f"{_with_hash(service, service, longest - len(suffix) - 1)}-{suffix}"


def pods_service(service: str) -> str:
    """Name of the headless service of a model: its addresses are those of the single pods."""
    return derived_name(service, "pods")


def model_labels(model: ServedModel, pods: PodSettings) -> dict[str, str]:
    """Labels that every pod and every object of a model carries."""
    return {OWNER_LABEL: pods.owner, SERVICE_LABEL: model.service, ENTRY_LABEL: label_value(model.name)}


def selector(model: ServedModel) -> dict[str, str]:
    """Labels by which exactly the serving pods of a model are found."""
    return {SERVICE_LABEL: model.service}


def metadata(model: ServedModel, pods: PodSettings, name: str | None = None) -> Manifest:
    """Metadata of an object of a model, named like its service unless said otherwise."""
    labels = {"app.kubernetes.io/name": model.service, **_part_of(), **model_labels(model, pods)}
    return {"name": name or model.service, "namespace": pods.namespace, "labels": labels}


def shared_metadata(pods: PodSettings, name: str) -> Manifest:
    """Metadata of an object that outlives any one model."""
    return {"name": name, "namespace": pods.namespace, "labels": {**_part_of(), OWNER_LABEL: pods.owner}}


def _part_of() -> dict[str, str]:
    return {"app.kubernetes.io/part-of": "llm-platform", "app.kubernetes.io/component": "model-serving"}


def _with_hash(value: str, whole: str, longest: int) -> str:
    digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
    return f"{value[: longest - 9].rstrip('._-')}-{digest}".lstrip("-")
