"""What a model's pods are rendered from: the model, and how pods run in this deployment."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from llm_platform.errors import SpecificationError
from llm_platform.records import Dialect

Manifest = dict[str, Any]
"""One Kubernetes object."""

AutoscalingKind = Literal["none", "hpa", "keda"]

PORT = 8000
STORE = "/model-store"
"""Where the operator mounts the volume of a NIM; the pods of a bare engine have it in the same place."""
OWNER_LABEL = "llm-platform/owner"
MODEL_LABEL = "llm-platform/model"
SERVICE_LABEL = "llm-platform/service"
MAX_LABEL_LENGTH = 63


@dataclass(frozen=True)
class ServedModel:
    """One model, as far as its pods need to know it.

    Attributes:
        name: Of the lock entry.
        service: Name of the Kubernetes service, and of every object of the model.
        repository: Image without tag.
        digest: `sha256:` and 64 hex digits.
        profile: NIM profile id.
        model: Name of the weights at their publisher.
        context_length: Tokens of prompt and answer together.
        slots: Requests that one replica runs at once, where that is known.
        tensor: GPUs that share each layer.
        pipeline: Groups of layers, each on GPUs of its own.
        adapters: Whether it serves LoRA adapters from the claim.
    """

    name: str
    service: str
    dialect: Dialect
    served_name: str
    repository: str
    tag: str
    digest: str
    model: str
    context_length: int
    profile: str | None = None
    slots: int | None = None
    tensor: int = 1
    pipeline: int = 1
    adapters: bool = False

    @property
    def gpus(self) -> int:
        """GPUs of one replica, all on one node."""
        return self.tensor * self.pipeline

    @property
    def pinned_tag(self) -> str:
        """Tag and digest: the operator writes `repository:tag`, which makes this a reference by digest."""
        return f"{self.tag}@{self.digest}"

    @property
    def image(self) -> str:
        """The whole reference."""
        return f"{self.repository}:{self.pinned_tag}"


@dataclass(frozen=True)
class Autoscaling:
    """How many replicas a model has.

    Attributes:
        kind: `hpa` counts through the cluster's metrics API, `keda` asks Prometheus; only KEDA can scale to zero.
        replicas: Without autoscaling.
        minimum: Smallest number of replicas.
        maximum: Largest number of replicas.
        requests_per_replica: Running and waiting requests that one replica should have; None: three quarters of its slots.
        idle_seconds: KEDA takes the last replica away after this long without requests.
        prometheus_url: Where KEDA asks.
        demand_query: PromQL that counts work waiting for the model while no pod of it runs.
    """

    kind: AutoscalingKind = "none"
    replicas: int = 1
    minimum: int = 1
    maximum: int = 4
    requests_per_replica: int | None = None
    idle_seconds: int = 1800
    prometheus_url: str = "http://prometheus-operated.monitoring:9090"
    demand_query: str | None = None

    @property
    def fewest(self) -> int:
        """Replicas there are at least."""
        return self.replicas if self.kind == "none" else self.minimum

    @property
    def most(self) -> int:
        """Replicas there are at most."""
        return self.replicas if self.kind == "none" else self.maximum


@dataclass(frozen=True)
class PodSettings:
    """How pods of models run in one deployment.

    Attributes:
        namespace: Kubernetes namespace of the models.
        owner: Who made the objects: deployment and namespace of the platform.
        claim: Volume claim with weights and adapters, shared by the models of the namespace.
        claim_size: A Kubernetes quantity.
        storage_class: None: the cluster's default. It has to allow many writers where pods run on several nodes.
        pull_secret: Secret that image pulls use; None for a registry that asks for none.
        ngc_secret: Secret with the key `NGC_API_KEY`; only the download sees it. None: weights are on the claim already.
        priority_class: PriorityClass of serving pods.
        autoscaling: How many replicas there are.
        gpu_resource: What a node calls its GPUs.
        node_selector: Labels that a node must have.
        tolerated_taints: Keys of taints that GPU nodes have.
        shared_memory: Size of `/dev/shm`, a Kubernetes quantity.
        client_namespaces: Kubernetes namespaces whose pods may ask the models.
        monitoring_namespace: That of Prometheus.
        operator_namespace: That of the NIM operator, which reads the name of the model from the endpoint.
        monitor_labels: Labels by which Prometheus finds its ServiceMonitors.
        refresh_seconds: How often a NIM looks for new adapters.
        user_id: User that containers run as.
        group_id: Their group, which owns the claim.
    """

    namespace: str
    owner: str
    claim: str = "llm-platform-nim"
    claim_size: str = "500Gi"
    storage_class: str | None = None
    pull_secret: str | None = "ngc-secret"
    ngc_secret: str | None = "ngc-api-secret"
    priority_class: str = "llm-platform-development"
    autoscaling: Autoscaling = field(default_factory=Autoscaling)
    gpu_resource: str = "nvidia.com/gpu"
    node_selector: dict[str, str] = field(default_factory=dict)
    tolerated_taints: tuple[str, ...] = ("nvidia.com/gpu",)
    shared_memory: str = "16Gi"
    client_namespaces: tuple[str, ...] = ()
    monitoring_namespace: str = "monitoring"
    operator_namespace: str = "nim-operator"
    monitor_labels: dict[str, str] = field(default_factory=dict)
    refresh_seconds: int = 60
    user_id: int = 1000
    group_id: int = 2000


def owner_label(deployment: str, namespace: str) -> str:
    """The label value that says which deployment and namespace of the platform made an object.

    A name that a label cannot hold is shortened, and a hash of the whole keeps two of them apart.
    """
    whole = f"{deployment}.{namespace}"
    value = re.sub(r"[^A-Za-z0-9._-]", "-", whole).strip("._-")
    if value == whole and len(value) <= MAX_LABEL_LENGTH:
        return value
    digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
    return f"{value[: MAX_LABEL_LENGTH - 9].rstrip('._-')}-{digest}".lstrip("-")


def labels(pods: PodSettings, model: ServedModel | None = None) -> dict[str, str]:
    """Labels of an object: who made it, and for which model."""
    own = {"app.kubernetes.io/part-of": "llm-platform", OWNER_LABEL: pods.owner}
    if model is None:
        return own
    return {
        "app.kubernetes.io/name": model.service,
        "app.kubernetes.io/component": "model",
        **own,
        MODEL_LABEL: label_value(model.name),
        SERVICE_LABEL: model.service,
    }


def label_value(text: str) -> str:
    """A text as a label value: what labels do not allow becomes a hyphen."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)[:MAX_LABEL_LENGTH].strip("._-")


def selector(model: ServedModel) -> dict[str, str]:
    """Labels that exactly the serving pods of a model have."""
    return {SERVICE_LABEL: model.service}


def metadata(pods: PodSettings, model: ServedModel, name: str | None = None) -> Manifest:
    """Metadata of an object of a model, named like its service unless said otherwise."""
    return {"name": name or model.service, "namespace": pods.namespace, "labels": labels(pods, model)}


def require_servable(model: ServedModel) -> None:
    """Refuse a model that nobody can run in a cluster of their own.

    Raises:
        SpecificationError: its dialect is that of hosted endpoints.
    """
    if model.dialect == "hosted":
        raise SpecificationError(
            f"Cannot make pods for {model.name!r}: dialect 'hosted' is an endpoint of somebody else. "
            "Give it the dialect of an image that runs in your cluster, or use it with mode 'external'."
        )
