"""One pool of GPUs for production and development: who has how many, and who makes room for whom.

Development cannot hold more than production leaves it, so production's share is always there. Beyond its share
production takes GPUs from development by priority: Kubernetes ends development's pods.
"""

from __future__ import annotations

from dataclasses import dataclass

from llm_platform.errors import SpecificationError
from llm_platform.nim.manifests.pods import Manifest

PRODUCTION = "llm-platform-production"
DEVELOPMENT = "llm-platform-development"
PRODUCTION_PRIORITY = 1_000_000
DEVELOPMENT_PRIORITY = 1_000
"""Above 0, the priority of pods that name no class: those make room for either."""


@dataclass(frozen=True)
class GpuPool:
    """GPUs of one cluster, and how they are shared.

    Attributes:
        gpus: All of them.
        production_gpus: Those that production always has.
        production_namespace: Kubernetes namespace of production's models.
        development_namespaces: Those of everybody else's.
        gpu_resource: What a node calls its GPUs.
    """

    gpus: int
    production_gpus: int
    production_namespace: str = "nim-production"
    development_namespaces: tuple[str, ...] = ("nim-development",)
    gpu_resource: str = "nvidia.com/gpu"

    def shares(self) -> dict[str, int]:
        """Development namespace → GPUs it may hold; what cannot be divided goes to the first ones.

        Raises:
            SpecificationError: production's share is not within the pool, or a namespace stands twice.
        """
        if self.gpus < 1 or not 0 <= self.production_gpus <= self.gpus:
            raise SpecificationError(
                f"Cannot guarantee {self.production_gpus} GPUs of a pool of {self.gpus}. "
                "Name a pool of at least 1, and for production 0 to all of it."
            )
        everybody = (self.production_namespace, *self.development_namespaces)
        if len(set(everybody)) < len(everybody):
            raise SpecificationError(
                f"A namespace has one share of the pool; found one twice in {', '.join(everybody)}. "
                "Give production a namespace of its own: quotas count by namespace."
            )
        left, namespaces = self.gpus - self.production_gpus, self.development_namespaces
        return {
            name: left // len(namespaces) + (position < left % len(namespaces))
            for position, name in enumerate(namespaces)
        }


def pool_objects(pool: GpuPool) -> list[Manifest]:
    """PriorityClasses, and the namespaces of the models with their quotas.

    In each namespace one class may hold GPUs: else a pod of development could give itself production's.

    Raises:
        SpecificationError: the shares do not add up.
    """
    shares = pool.shares()
    objects = [
        _priority_class(PRODUCTION, PRODUCTION_PRIORITY, "PreemptLowerPriority", "Takes GPUs from development."),
        _priority_class(
            DEVELOPMENT, DEVELOPMENT_PRIORITY, "Never", "Makes room for production, and takes from nobody."
        ),
    ]
    objects += _namespace_objects(pool.production_namespace, PRODUCTION, pool.gpus, pool)
    for namespace, gpus in shares.items():
        objects += _namespace_objects(namespace, DEVELOPMENT, gpus, pool)
    return objects


def _priority_class(name: str, value: int, preemption: str, description: str) -> Manifest:
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": name, "labels": _labels()},
        "value": value,
        "globalDefault": False,
        "preemptionPolicy": preemption,
        "description": description,
    }


def _namespace_objects(namespace: str, priority_class: str, gpus: int, pool: GpuPool) -> list[Manifest]:
    # The operator's pods do not set what the level 'restricted' asks for; of 'baseline' they break nothing.
    labels = {**_labels(), "pod-security.kubernetes.io/enforce": "baseline"}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}},
        _quota(namespace, "gpus", gpus, operator="In", priority_class=priority_class, pool=pool),
        # Also matches pods that name no class.
        _quota(namespace, "gpus-of-others", 0, operator="NotIn", priority_class=priority_class, pool=pool),
    ]


def _quota(namespace: str, name: str, gpus: int, *, operator: str, priority_class: str, pool: GpuPool) -> Manifest:
    scope = {"scopeName": "PriorityClass", "operator": operator, "values": [priority_class]}
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": f"llm-platform-{name}", "namespace": namespace, "labels": _labels()},
        "spec": {
            "hard": {f"requests.{pool.gpu_resource}": str(gpus)},
            "scopeSelector": {"matchExpressions": [scope]},
        },
    }


def _labels() -> dict[str, str]:
    return {"app.kubernetes.io/part-of": "llm-platform", "app.kubernetes.io/component": "capacity"}
