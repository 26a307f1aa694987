"""From lock entries to the Kubernetes objects that serve them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llm_platform.errors import SpecificationError
from llm_platform.models.entries import LockEntry
from llm_platform.nim.manifests.objects import nim_objects
from llm_platform.nim.manifests.pods import Manifest, ServedModel
from llm_platform.nim.manifests.rewrites import rewrite_object
from llm_platform.nim.manifests.routes import Gateway, route_object
from llm_platform.operations.serving.serving import Serving


def objects_of(entry: LockEntry, serving: Serving) -> list[Manifest]:
    """All Kubernetes objects that serve an entry, in the order in which they are applied.

    Raises:
        SpecificationError: the entry cannot be served in a cluster, or the deployment's values contradict each other.
    """
    return nim_objects(served_model(entry, serving.adapter_models), serving.required_pods())


def require_adapter_models(lock: Mapping[str, LockEntry], serving: Serving) -> None:
    """Refuse a list of models with adapters that names one which is not there: it would serve none, and not say so.

    Raises:
        SpecificationError: names what the lock file does not have.
    """
    unknown = [name for name in serving.adapter_models if name not in lock]
    if unknown:
        raise SpecificationError(
            f"LLM_PLATFORM_NIM_ADAPTER_MODELS names {', '.join(map(repr, unknown))}, which models.lock.yaml does not "
            f"have. There are: {', '.join(lock)}."
        )


def served_model(entry: LockEntry, adapter_models: Sequence[str] = ()) -> ServedModel:
    """A lock entry as its pods need to know it; `adapter_models` are the entries that serve adapters.

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
        adapters=entry.name in adapter_models,
    )


def rewrite_of(name: str, weights: Mapping[str, int], *, entry: LockEntry, serving: Serving, pool: str) -> Manifest:
    """An InferenceModelRewrite that shares requests for an entry between it and adapters on it.

    Args:
        weights: Served name → weight.
        pool: InferencePool of the entry's pods.

    Raises:
        SpecificationError: the pods' Kubernetes namespace is not known.
    """
    return rewrite_object(name, weights, asked=entry.served_name, pool=pool, pods=serving.required_pods())


def route_of(
    name: str,
    shares: Mapping[str, int],
    *,
    lock: Mapping[str, LockEntry],
    serving: Serving,
    mirror: str | None = None,
    hostname: str | None = None,
) -> Manifest:
    """An HTTPRoute that shares requests between entries which serve under one name.

    Args:
        name: Of the route.
        shares: Lock entry → weight.
        lock: Every entry by name.
        serving: Names the gateway.
        mirror: Entry that gets a copy of every request and whose answers are dropped.
        hostname: Name that clients ask; None: every name of the gateway.

    Raises:
        SpecificationError: no gateway is named, or the entries are not interchangeable for a client.
    """
    if not serving.gateway:
        raise SpecificationError("A route needs a gateway. Name it in LLM_PLATFORM_NIM_GATEWAY, as 'namespace/name'.")
    entries = [lock[entry] for entry in (*shares, *([mirror] if mirror else []))]
    served = {entry.served_name for entry in entries}
    if len(served) > 1:
        raise SpecificationError(
            f"Route {name!r} is over models of different names: {', '.join(sorted(served))}. A request names one of "
            "them, and the others would refuse it. Serve them under one 'served_name'."
        )
    for entry in entries:
        served_model(entry).require_servable()
    services = {name: lock[name].service_name for name in shares}
    if len(set(services.values())) < len(services):
        raise SpecificationError(f"Route {name!r} is over entries of one and the same service: {services}.")
    namespace, gateway = serving.gateway.split("/")
    return route_object(
        name,
        {services[entry]: weight for entry, weight in shares.items()},
        gateway=Gateway(gateway, namespace, hostname),
        pods=serving.required_pods(),
        mirror=lock[mirror].service_name if mirror else None,
    )
