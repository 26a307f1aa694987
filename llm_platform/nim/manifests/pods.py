"""What a model's objects are rendered from: the model, and how pods run in this deployment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from llm_platform.errors import SpecificationError
from llm_platform.records import Dialect

Manifest = dict[str, Any]
"""One Kubernetes object."""

AutoscalingKind = Literal["none", "hpa", "keda"]

PORT = 8000
STORE = "/model-store"
"""Where the operator mounts the volume of a NIM; the pods of a bare vLLM have it in the same place."""
UNKNOWN_SLOTS = 32
"""Requests that a replica runs at once, where the lock file does not say it."""
MAX_SERVICE_LENGTH = 59
"""The operator names a container `<service>-ctr`, and no container's name has more than 63 characters."""


@dataclass(frozen=True)
class ServedModel:
    """One model, as far as its pods need to know it.

    Attributes:
        name: Of the lock entry.
        service: Name of the Kubernetes service, and of every object of the model.
        repository: Image without tag.
        digest: `sha256:` and 64 hex digits.
        context_length: Tokens of prompt and answer together.
        profile: NIM profile id.
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
    context_length: int
    profile: str | None = None
    slots: int | None = None
    tensor: int = 1
    pipeline: int = 1
    adapters: bool = False

    @property
    def is_nim(self) -> bool:
        """Whether the NIM operator runs it; a bare vLLM is a Deployment of our own."""
        return self.dialect != "vllm"

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

    @property
    def adapters_folder(self) -> str:
        """Where its pods see their adapters: a folder a model, since an adapter fits one base only."""
        return f"{STORE}/adapters/{self.service}"

    def require_servable(self) -> None:
        """Refuse a model that nobody can run in a cluster of their own.

        Raises:
            SpecificationError: it is a hosted endpoint, or its service has too long a name.
        """
        if self.dialect == "hosted":
            raise SpecificationError(
                f"Cannot make pods for {self.name!r}: dialect 'hosted' is an endpoint of somebody else. "
                "Give it the dialect of an image that runs in your cluster, or use it with mode 'external'."
            )
        if len(self.service) > MAX_SERVICE_LENGTH:
            raise SpecificationError(
                f"Cannot make pods for {self.name!r}: its service {self.service!r} has {len(self.service)} characters, "
                f"and the operator needs at most {MAX_SERVICE_LENGTH}. Give the entry a shorter 'service'."
            )


@dataclass(frozen=True)
class Autoscaling:
    """How many replicas a model has.

    Attributes:
        kind: `hpa` asks the cluster's metrics API, `keda` asks Prometheus; only KEDA can scale to zero.
        replicas: Without autoscaling.
        minimum: Fewest replicas.
        maximum: Most replicas.
        requests_per_replica: Running and waiting requests that a replica should have; None: most of its slots.
        idle_seconds: KEDA takes the last replica away after this long without requests.
        prometheus_url: Where KEDA asks.
        demand_query: PromQL that counts work for the models while no pod of them runs.
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
    def most(self) -> int:
        """Replicas there are at most."""
        return self.replicas if self.kind == "none" else self.maximum

    def require_possible(self) -> None:
        """Refuse bounds that the autoscaler cannot keep.

        Raises:
            SpecificationError: the bounds contradict each other, or nothing could wake the model from zero.
        """
        if self.kind == "none":
            return
        if not 0 <= self.minimum <= self.maximum or self.maximum < 1:
            raise SpecificationError(
                f"Cannot scale between {self.minimum} and {self.maximum} replicas. Set LLM_PLATFORM_NIM_MIN_REPLICAS "
                "to at most LLM_PLATFORM_NIM_MAX_REPLICAS, and that to at least 1."
            )
        if self.minimum == 0 and self.kind == "hpa":
            raise SpecificationError(
                "A HorizontalPodAutoscaler cannot scale to zero. Set LLM_PLATFORM_NIM_MIN_REPLICAS to 1, or "
                "LLM_PLATFORM_NIM_AUTOSCALING to 'keda'."
            )
        if self.minimum == 0 and not self.demand_query:
            raise SpecificationError(
                "Scaling to zero needs a sign of work that is there while no pod is: a model that does not run "
                "publishes no metrics. Name a PromQL query in LLM_PLATFORM_NIM_DEMAND_QUERY, e.g. one that counts "
                "the pods of running jobs, or set LLM_PLATFORM_NIM_MIN_REPLICAS to 1."
            )

    def target(self, slots: int | None) -> int:
        """Requests that one replica should have: below its slots, so that a full one is a reason for another."""
        return self.requests_per_replica or max(1, (slots or UNKNOWN_SLOTS) * 3 // 4)


@dataclass(frozen=True)
class PodSettings:
    """How pods of models run in one deployment.

    Attributes:
        namespace: Kubernetes namespace of the models.
        owner: Who made the objects: deployment and namespace of the platform, as a label's value.
        claim: Volume claim with weights and adapters, shared by the models of the namespace.
        claim_size: A Kubernetes quantity.
        storage_class: None: the cluster's default. It has to allow many writers.
        pull_secret: Secret that image pulls use; None for a registry that asks for none.
        ngc_secret: Secret with the key `NGC_API_KEY`; only the download sees it. None: the weights are on the claim.
        priority_class: PriorityClass of serving pods; None: the cluster's default.
        autoscaling: How many replicas there are.
        gpu_resource: What a node calls its GPUs.
        cpu: Cores that a replica asks for, a Kubernetes quantity.
        memory: Main memory that a replica asks for, a Kubernetes quantity.
        shared_memory: Size of `/dev/shm`, a Kubernetes quantity.
        node_labels: Labels that a node must have.
        tolerated_taints: Keys of taints that GPU nodes have.
        client_namespaces: Kubernetes namespaces whose pods may ask the models.
        monitoring_namespace: That of Prometheus.
        operator_namespace: That of the NIM operator, which asks a NIM for its model before it calls it ready.
        start_seconds: How long a replica may take from its start until it is ready.
        refresh_seconds: How often a NIM looks for new adapters.
        user_id: User that containers run as.
        group_id: Their group, which may write to the claim.
        verifier_image: Image of the platform, which verifies adapters before a pod serves; None: nobody does there.
        adapter_keys: Public keys in PEM that may have signed them.
    """

    namespace: str
    owner: str
    claim: str = "llm-platform-nim"
    claim_size: str = "500Gi"
    storage_class: str | None = None
    pull_secret: str | None = "ngc-secret"
    ngc_secret: str | None = "ngc-api-secret"
    priority_class: str | None = None
    autoscaling: Autoscaling = field(default_factory=Autoscaling)
    gpu_resource: str = "nvidia.com/gpu"
    cpu: str = "4"
    memory: str = "32Gi"
    shared_memory: str = "16Gi"
    node_labels: Mapping[str, str] = field(default_factory=dict)
    tolerated_taints: tuple[str, ...] = ("nvidia.com/gpu",)
    client_namespaces: tuple[str, ...] = ()
    monitoring_namespace: str = "monitoring"
    operator_namespace: str = "nim-operator"
    start_seconds: int = 1800
    refresh_seconds: int = 60
    user_id: int = 1000
    group_id: int = 2000
    verifier_image: str | None = None
    adapter_keys: str = ""
