"""Settings of the pods that serve models in a cluster; part of `settings.Settings`, which reads them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints, field_validator
from pydantic_settings import NoDecode

Names = Annotated[tuple[str, ...], NoDecode]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
NameOrNone = Annotated[str, StringConstraints(pattern=r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?$")]
Cores = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*m?$")]
Quantity = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*(M|G|T|Mi|Gi|Ti)?$")]


class PodFields(BaseModel):
    """How pods of models run. An empty text where a name is optional means that there is none."""

    nim_adapter_models: Names = Field(
        default=(), description="Lock entries whose pods serve LoRA adapters, separated by commas."
    )
    nim_claim: Name = Field(
        default="llm-platform-nim", description="Volume claim with weights and adapters, shared by the models."
    )
    nim_claim_size: Quantity = Field(default="500Gi", description="Its size.")
    nim_storage_class: NameOrNone | None = Field(
        default=None, description="Its storage class, one that allows many writers; unset: the cluster's default."
    )
    nim_pull_secret: NameOrNone = Field(
        default="ngc-secret", description="Secret that pulls images; empty: none is needed."
    )
    nim_ngc_secret: NameOrNone = Field(
        default="ngc-api-secret",
        description="Secret with NGC_API_KEY, for downloads; empty: the weights are on the claim already.",
    )
    nim_priority_class: NameOrNone | None = Field(
        default=None, description="PriorityClass of serving pods, e.g. llm-platform-production (`nim pool` makes it)."
    )
    nim_replicas: int = Field(default=1, ge=0, description="Replicas of a model without autoscaling.")
    nim_autoscaling: Literal["none", "hpa", "keda"] = Field(default="none", description="Who counts replicas.")
    nim_min_replicas: int = Field(default=1, ge=0, description="Fewest replicas; 0 only with KEDA.")
    nim_max_replicas: int = Field(default=4, ge=1, description="Most replicas.")
    nim_requests_per_replica: int | None = Field(
        default=None, ge=1, description="Requests that one replica should have; unset: three quarters of its slots."
    )
    nim_prometheus_url: str = Field(
        default="http://prometheus-operated.monitoring:9090", description="The Prometheus that KEDA asks."
    )
    nim_demand_query: str | None = Field(
        default=None, description="PromQL that counts work for the models while none runs; what wakes them from zero."
    )
    nim_cpu: Cores = Field(default="4", description="Cores that a replica asks for, e.g. 4 or 500m.")
    nim_memory: Quantity = Field(default="32Gi", description="Main memory that a replica asks for.")
    nim_shared_memory: Quantity = Field(default="16Gi", description="Size of a replica's /dev/shm.")
    nim_start_minutes: float = Field(
        default=30.0, gt=0, description="How long a replica may take until it is ready; then it is started again."
    )
    nim_node_labels: Names = Field(
        default=(), description="Labels of the nodes that models run on, `key=value`, separated by commas."
    )
    nim_tolerated_taints: Names = Field(
        default=("nvidia.com/gpu",), description="Keys of taints of those nodes, separated by commas."
    )
    nim_gpu_resource: str = Field(default="nvidia.com/gpu", description="What a node calls its GPUs.")
    nim_client_namespaces: Names = Field(
        default=(), description="Kubernetes namespaces that may ask the models; unset: that of the models."
    )
    nim_monitoring_namespace: Name = Field(default="monitoring", description="Kubernetes namespace of Prometheus.")
    nim_operator_namespace: Name = Field(default="nim-operator", description="Kubernetes namespace of the operator.")
    nim_gateway: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9.-]+/[a-z0-9.-]+$",
        description="Gateway of `nim route`, `namespace/name`; its namespace may then ask the models, too.",
    )

    @field_validator(
        "nim_adapter_models", "nim_node_labels", "nim_tolerated_taints", "nim_client_namespaces", mode="before"
    )
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("nim_node_labels")
    @classmethod
    def _pairs(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not key or not separator for key, separator, _ in (part.partition("=") for part in value)):
            raise ValueError("each label is key=value")
        return value
