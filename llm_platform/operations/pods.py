"""From a lock entry to the Kubernetes objects that serve it."""

from __future__ import annotations

from llm_platform.errors import SpecificationError
from llm_platform.models.entries import LockEntry
from llm_platform.nim.manifests.objects import nim_objects
from llm_platform.nim.manifests.pods import Manifest, PodSettings, ServedModel, owner_label
from llm_platform.settings import Settings


def served_model(entry: LockEntry, settings: Settings) -> ServedModel:
    """A lock entry as its pods need to know it.

    Raises:
        SpecificationError: the entry is not served in a cluster, or pins no image.
    """
    if entry.mode != "kubernetes" or entry.image is None:
        raise SpecificationError(
            f"Cannot make pods for {entry.name!r}: its mode is {entry.mode!r}. "
            "Give the entry mode 'kubernetes' and an image in models.lock.yaml."
        )
    return ServedModel(
        name=entry.name,
        service=entry.service_name,
        dialect=entry.dialect,
        served_name=entry.served_name,
        repository=entry.image.repository,
        tag=entry.image.tag,
        digest=entry.image.digest,
        model=entry.model,
        context_length=entry.context_length,
        profile=entry.profile,
        slots=entry.slots,
        tensor=entry.parallelism.tensor,
        pipeline=entry.parallelism.pipeline,
    )


def pod_settings(settings: Settings) -> PodSettings:
    """How pods run in this deployment.

    Raises:
        SpecificationError: the deployment names no Kubernetes namespace for its models.
    """
    if settings.nim_cluster_namespace is None:
        raise SpecificationError(
            "Pods of models need a Kubernetes namespace. Name it in LLM_PLATFORM_NIM_CLUSTER_NAMESPACE."
        )
    return PodSettings(
        namespace=settings.nim_cluster_namespace, owner=owner_label(settings.deployment, settings.namespace)
    )


def objects_of(entry: LockEntry, settings: Settings) -> list[Manifest]:
    """All Kubernetes objects that serve an entry, in the order in which they are applied.

    Raises:
        SpecificationError: the entry cannot be served in a cluster, or the settings contradict each other.
    """
    return nim_objects(served_model(entry, settings), pod_settings(settings))
