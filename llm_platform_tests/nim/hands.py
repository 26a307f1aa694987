"""The hands of a cluster in tests: what controllers, nodes and other people do to objects, through its API."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llm_platform.nim.cluster import Cluster, Object, Ref
from llm_platform.nim.lifecycle import BroughtUp, bring_up
from llm_platform.nim.waiting import Waiting

NAMESPACE = "models"
OWNER = "local.test"
MODEL = "llama"
DIGEST = f"sha256:{'ab' * 32}"
IMAGE = f"nvcr.io/nim/llama:2.1.5@{DIGEST}"
GPU_MESSAGE = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."

Action = Callable[[], None]


def model_objects() -> list[Object]:
    """A shared claim, and a deployment and a service of one model."""
    labels = {"llm-platform/owner": OWNER, "app.kubernetes.io/part-of": "llm-platform"}
    own = {**labels, "llm-platform/entry": MODEL, "llm-platform/service": MODEL}
    selector = {"llm-platform/service": MODEL}
    container = {"name": "nim", "image": IMAGE, "env": [{"name": "NIM_SERVED_MODEL_NAME", "value": "llama"}]}
    template = {"metadata": {"labels": own}, "spec": {"containers": [container]}}
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "llm-platform-nim", "namespace": NAMESPACE, "labels": labels},
            "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": MODEL, "namespace": NAMESPACE, "labels": own},
            "spec": {"replicas": 1, "selector": {"matchLabels": selector}, "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": MODEL, "namespace": NAMESPACE, "labels": own},
            "spec": {"selector": selector, "ports": [{"port": 8000, "protocol": "TCP", "targetPort": 8000}]},
        },
    ]


DEPLOYMENT = Ref("apps/v1", "Deployment", NAMESPACE, MODEL)
SERVICE = Ref("v1", "Service", NAMESPACE, MODEL)
CLAIM = Ref("v1", "PersistentVolumeClaim", NAMESPACE, "llm-platform-nim")
POD = Ref("v1", "Pod", NAMESPACE, "llama-0")


class Hands:
    """Acts on the objects of one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def pod(self, status: Mapping[str, Any], *, name: str = "llama-0", image: str = IMAGE) -> None:
        """A pod of the model in this state; made where it is not there yet."""
        ref = Ref("v1", "Pod", NAMESPACE, name)
        if self.cluster.get(ref) is None:
            labels = {"llm-platform/entry": MODEL, "llm-platform/service": MODEL}
            self.cluster.create(
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
                    "spec": {"containers": [{"name": "nim", "image": image}]},
                }
            )
        self.status(ref, status)

    def ready(self, *, image_id: str = f"nvcr.io/nim/llama@{DIGEST}", image: str = IMAGE) -> None:
        """The deployment is rolled out, and its pod is ready."""
        container = {"name": "nim", "image": image, "imageID": image_id, "ready": True, "restartCount": 0}
        container["state"] = {"running": {"startedAt": "2026-11-27T00:00:00Z"}}
        conditions = [{"type": "Ready", "status": "True"}]
        self.pod({"phase": "Running", "conditions": conditions, "containerStatuses": [container]}, image=image)
        generation = self.object(DEPLOYMENT)["metadata"]["generation"]
        counts = {"replicas": 1, "readyReplicas": 1, "updatedReplicas": 1, "availableReplicas": 1}
        self.status(DEPLOYMENT, {"observedGeneration": generation, **counts})

    def status(self, ref: Ref, status: Mapping[str, Any]) -> None:
        """Write the status of an object, as a controller does."""
        self._patch(ref, {"status": dict(status)}, part="/status")

    def change(self, ref: Ref, change: Mapping[str, Any], *, manager: str = "somebody") -> None:
        """Change an object, as people do with `kubectl edit`; None takes a field away."""
        self._patch(ref, change, query=f"?fieldManager={manager}")

    def delete(self, ref: Ref) -> None:
        """Delete an object, whatever it is."""
        found = self.object(ref)["metadata"]
        self.cluster.delete(ref, uid=found["uid"], resource_version=found["resourceVersion"])

    def event(self, reason: str, message: str, *, about: Ref = POD, kind: str = "Warning", count: int = 1) -> None:
        """Something that a controller has to say about an object."""
        found = self.cluster.get(about)
        involved = {"kind": about.kind, "name": about.name, "namespace": about.namespace}
        involved |= {"uid": found["metadata"]["uid"]} if found else {}
        self.cluster.create(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": f"{about.name}.{reason.lower()}", "namespace": about.namespace},
                "involvedObject": involved,
                "type": kind,
                "reason": reason,
                "message": message,
                "count": count,
                "lastTimestamp": "2026-11-27T00:00:00Z",
            }
        )

    def object(self, ref: Ref) -> Object:
        """An object that is there."""
        found = self.cluster.get(ref)
        assert found is not None, ref
        return found

    def has(self, ref: Ref) -> bool:
        """Whether it is there."""
        return self.cluster.get(ref) is not None

    def _patch(self, ref: Ref, change: Mapping[str, Any], *, part: str = "", query: str = "") -> None:
        plurals = {"Deployment": "deployments", "Service": "services", "Pod": "pods"}
        plurals |= {"PersistentVolumeClaim": "persistentvolumeclaims", "NIMService": "nimservices"}
        root = f"/apis/{ref.api_version}" if "/" in ref.api_version else f"/api/{ref.api_version}"
        path = f"{root}/namespaces/{ref.namespace}/{plurals[ref.kind]}/{ref.name}{part}{query}"
        kind = "application/merge-patch+json"
        status, body = self.cluster.send("PATCH", path, body=copy.deepcopy(dict(change)), content_type=kind)
        assert status == 200, body


class Steps(Waiting):
    """Waits by doing the next step of a story; each pause takes a second of a clock of its own.

    Attributes:
        said: What was reported.
    """

    def __init__(self, *steps: Action, deadline_seconds: float = 30.0, stuck_seconds: float = 5.0) -> None:
        self.said: list[str] = []
        self._steps = list(steps)
        self._now = 0.0
        super().__init__(
            "NIM 'llama'",
            deadline_seconds,
            stuck_seconds=stuck_seconds,
            report=self.said.append,
            clock=lambda: self._now,
            sleep=self._next,
        )

    def _next(self, _: float) -> None:
        self._now += 1.0
        if self._steps:
            self._steps.pop(0)()


def nothing() -> None:
    """A step in which nothing happens."""


def answers(_: Sequence[Object]) -> None:
    """An endpoint that generates at once."""


def raising(error: BaseException) -> Callable[[Sequence[Object]], None]:
    """An endpoint that never does."""

    def connect(_: Sequence[Object]) -> None:
        raise error

    return connect


def up(cluster: Cluster, waiting: Steps, **options: Any) -> BroughtUp:
    """Bring the model up, as the `up` called `first` if not said otherwise."""
    arguments: dict[str, Any] = {"connect": answers, "image_digest": DIGEST, "up_id": "first", **options}
    return bring_up(cluster, arguments.pop("manifests", model_objects()), waiting, **arguments)
