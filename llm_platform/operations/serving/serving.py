"""How a deployment serves models: the values that its operations are handed, since they read no settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from llm_platform.errors import SpecificationError
from llm_platform.nim.manifests.pods import PodSettings
from llm_platform.operations.serving.local_nim import LocalNim
from llm_platform.settings.connection import Connection


@dataclass(frozen=True)
class Serving:
    """How models are served, in a cluster and on this machine.

    Attributes:
        local: The embedded NIM, and where state is kept.
        inside: How endpoints of this machine and its cluster are reached.
        outside: How those of others are.
        cluster_namespace: Kubernetes namespace of the models; None: that of the pod we run in.
        kubeconfig, context: Through which models are brought up; None: as kubectl finds them.
        pods: How pods of models run; None where no namespace is named for them.
        adapter_models: Lock entries whose pods serve adapters.
        gateway: That routes go through, `namespace/name`.
        peft_source: Folder that endpoints other than the embedded NIM watch for adapters.
        peft_mount: The same folder as those endpoints see it; None: under the same path.
        deadline_minutes: How long a model may take to come up.
        idle_down_minutes: A model in a cluster is taken down after this long unused; None: never.
    """

    local: LocalNim
    inside: Connection = field(default_factory=Connection)
    outside: Connection = field(default_factory=Connection)
    cluster_namespace: str | None = None
    kubeconfig: Path | None = None
    context: str | None = None
    pods: PodSettings | None = None
    adapter_models: tuple[str, ...] = ()
    gateway: str | None = None
    peft_source: Path | None = None
    peft_mount: Path | None = None
    deadline_minutes: float = 30.0
    idle_down_minutes: float | None = None

    @property
    def state(self) -> Path:
        """Folder that holds all local state."""
        return self.local.state

    def connection(self, *, external: bool) -> Connection:
        """How endpoints are reached."""
        return self.outside if external else self.inside

    def required_pods(self) -> PodSettings:
        """How pods of models run.

        Raises:
            SpecificationError: the deployment names no Kubernetes namespace for them.
        """
        if self.pods is None:
            raise SpecificationError(
                "Pods of models need a Kubernetes namespace. Name it in LLM_PLATFORM_NIM_CLUSTER_NAMESPACE."
            )
        return self.pods
