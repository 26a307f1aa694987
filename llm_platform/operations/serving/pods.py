"""From lock entries to the Kubernetes objects that serve them."""

from __future__ import annotations

from collections.abc import Mapping

from llm_platform.errors import SpecificationError
from llm_platform.models.entries import LockEntry
from llm_platform.nim.manifests.names import owner_label
from llm_platform.nim.manifests.objects import nim_objects
from llm_platform.nim.manifests.pods import Autoscaling, Manifest, PodSettings, ServedModel
from llm_platform.nim.manifests.routes import Gateway, route_object
from llm_platform.settings.settings import Settings


def objects_of(entry: LockEntry, settings: Settings) -> list[Manifest]:
    """All Kubernetes objects that serve an entry, in the order in which they are applied.

    Raises:
        SpecificationError: the entry cannot be served in a cluster, or the settings contradict each other.
    """
    return nim_objects(served_model(entry, settings), pod_settings(settings))


def require_adapter_models(lock: Mapping[str, LockEntry], settings: Settings) -> None:
    """Refuse a list of models with adapters that names one which is not there: it would serve none, and not say so.

    Raises:
        SpecificationError: names what the lock file does not have.
    """
    unknown = [name for name in settings.nim_adapter_models if name not in lock]
    if unknown:
        raise SpecificationError(
            f"LLM_PLATFORM_NIM_ADAPTER_MODELS names {', '.join(map(repr, unknown))}, which models.lock.yaml does not "
            f"have. There are: {', '.join(lock)}."
        )


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
        context_length=entry.context_length,
        profile=entry.profile,
        slots=entry.slots,
        tensor=entry.parallelism.tensor,
        pipeline=entry.parallelism.pipeline,
        adapters=entry.name in settings.nim_adapter_models,
    )


def pod_settings(settings: Settings) -> PodSettings:
    """How pods run in this deployment.

    Raises:
        SpecificationError: the deployment names no Kubernetes namespace for its models.
    """
    namespace = settings.nim_cluster_namespace
    if not namespace:
        raise SpecificationError(
            "Pods of models need a Kubernetes namespace. Name it in LLM_PLATFORM_NIM_CLUSTER_NAMESPACE."
        )
    clients = settings.nim_client_namespaces or (namespace,)
    gateway = (settings.nim_gateway.split("/")[0],) if settings.nim_gateway else ()
    return PodSettings(
        namespace=namespace,
        owner=owner_label(settings.deployment, settings.namespace),
        claim=settings.nim_claim,
        claim_size=settings.nim_claim_size,
        storage_class=settings.nim_storage_class or None,
        pull_secret=settings.nim_pull_secret or None,
        ngc_secret=settings.nim_ngc_secret or None,
        priority_class=settings.nim_priority_class or None,
        autoscaling=autoscaling(settings),
        gpu_resource=settings.nim_gpu_resource,
        memory=settings.nim_memory,
        shared_memory=settings.nim_shared_memory,
        node_labels=dict(label.split("=", 1) for label in settings.nim_node_labels),
        tolerated_taints=settings.nim_tolerated_taints,
        client_namespaces=(*clients, *gateway),
        monitoring_namespace=settings.nim_monitoring_namespace,
        operator_namespace=settings.nim_operator_namespace,
        start_seconds=round(settings.nim_start_minutes * 60),
    )


def autoscaling(settings: Settings) -> Autoscaling:
    """How many replicas a model of this deployment has."""
    return Autoscaling(
        kind=settings.nim_autoscaling,
        replicas=settings.nim_replicas,
        minimum=settings.nim_min_replicas,
        maximum=settings.nim_max_replicas,
        requests_per_replica=settings.nim_requests_per_replica,
        idle_seconds=round(settings.nim_idle_minutes * 60),
        prometheus_url=settings.nim_prometheus_url,
        demand_query=settings.nim_demand_query or None,
    )


def route_of(
    name: str,
    shares: Mapping[str, int],
    *,
    lock: Mapping[str, LockEntry],
    settings: Settings,
    mirror: str | None = None,
    hostname: str | None = None,
) -> Manifest:
    """An HTTPRoute that shares requests between entries which serve under one name.

    Args:
        name: Of the route.
        shares: Lock entry → weight.
        lock: Every entry by name.
        settings: Names the gateway.
        mirror: Entry that gets a copy of every request and whose answers are dropped.
        hostname: Name that clients ask; None: every name of the gateway.

    Raises:
        SpecificationError: no gateway is named, or the entries are not interchangeable for a client.
    """
    if not settings.nim_gateway:
        raise SpecificationError("A route needs a gateway. Name it in LLM_PLATFORM_NIM_GATEWAY, as 'namespace/name'.")
    entries = [lock[entry] for entry in (*shares, *([mirror] if mirror else []))]
    served = {entry.served_name for entry in entries}
    if len(served) > 1:
        raise SpecificationError(
            f"Route {name!r} is over models of different names: {', '.join(sorted(served))}. A request names one of "
            "them, and the others would refuse it. Serve them under one 'served_name'."
        )
    for entry in entries:
        served_model(entry, settings).require_servable()
    services = {name: lock[name].service_name for name in shares}
    if len(set(services.values())) < len(services):
        raise SpecificationError(f"Route {name!r} is over entries of one and the same service: {services}.")
    namespace, gateway = settings.nim_gateway.split("/")
    return route_object(
        name,
        {services[entry]: weight for entry, weight in shares.items()},
        gateway=Gateway(gateway, namespace, hostname),
        pods=pod_settings(settings),
        mirror=lock[mirror].service_name if mirror else None,
    )
