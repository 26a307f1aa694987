"""A team whose model runs in an emulated cluster, with an operator that brings pods up at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from llm_platform.models.entries import LockEntry
from llm_platform.models.lock import load_lock
from llm_platform_tests.servers.kubernetes_api import KubernetesApi, Object
from llm_platform_tests.servers.scripted import ScriptedServer
from llm_platform_tests.team import ENTRY, Team, answer

NAMESPACE = "models"
DIGEST = f"sha256:{'ab' * 32}"
REPOSITORY = "nvcr.io/nim/meta/llama"
SERVICE = "nim-scripted"


@contextmanager
def cluster(operator: Operator | None = None) -> Iterator[KubernetesApi]:
    """An emulated cluster in which a scripted model answers behind the service of the team."""
    with KubernetesApi(controller=operator or Operator()) as running, ScriptedServer(answer=answer) as model:
        running.endpoints[f"{SERVICE}-0"] = model.port
        yield running


class Operator:
    """Does what the NIM operator and a node do, once something is made.

    Attributes:
        digest: Of the image that nodes find under the name they are told.
        pod: Status of each pod; None: ready.
    """

    def __init__(self) -> None:
        self.digest = DIGEST
        self.pod: dict[str, Any] | None = None

    def __call__(self, api: KubernetesApi, made: Object) -> None:
        if made["kind"] == "NIMCache":
            made["status"] = {"state": "Ready"}
            self._make_download(api, made)
        if made["kind"] == "NIMService":
            made["status"] = {"state": "Ready" if self.pod is None else "NotReady"}
            image = made["spec"]["image"]
            self._make_pod(api, made, f"{image['repository']}:{image['tag']}")

    def _make_download(self, api: KubernetesApi, cache: Object) -> None:
        """A download that failed once, and then ended well; both pods stay."""
        name, namespace = cache["metadata"]["name"], cache["metadata"]["namespace"]
        for number, phase in enumerate(("Failed", "Succeeded")):
            metadata = {
                "name": f"{name}-job-{number}",
                "namespace": namespace,
                "labels": {"job-name": f"{name}-job"},
                "ownerReferences": [{"kind": "Job", "name": f"{name}-job"}],
            }
            api.put("v1", "pods", {"kind": "Pod", "metadata": metadata, "spec": {}, "status": {"phase": phase}})

    def _make_pod(self, api: KubernetesApi, service: Object, image: str) -> None:
        name, namespace = f"{service['metadata']['name']}-0", service["metadata"]["namespace"]
        running = {"name": "nim", "image": image, "imageID": f"{REPOSITORY}@{self.digest}", "ready": True}
        running |= {"restartCount": 0, "state": {"running": {}}}
        ready = {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [running],
        }
        pod = {
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": service["spec"]["labels"]},
            "spec": {"containers": [{"name": "nim", "image": image}]},
            "status": ready if self.pod is None else self.pod,
        }
        api.put("v1", "pods", pod)


class ClusterTeam(Team):
    """A team whose lock entry is of mode `kubernetes`."""

    def __init__(self, root: Path, api: KubernetesApi, **settings: Any) -> None:
        self.kubeconfig = root / "kubeconfig"
        cluster = {"name": "test", "cluster": {"server": api.url}}
        context = {"name": "test", "context": {"cluster": "test", "user": "me", "namespace": NAMESPACE}}
        self.kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [cluster],
                    "users": [{"name": "me", "user": {}}],
                    "contexts": [context],
                    "current-context": "test",
                }
            ),
            encoding="utf-8",
        )
        super().__init__(
            root,
            "http://127.0.0.1:9",
            documents=10,
            nim_cluster_namespace=NAMESPACE,
            nim_kubeconfig=self.kubeconfig,
            **settings,
        )
        del self.lock["base_urls"]
        self.lock |= {
            "mode": "kubernetes",
            "image": {"repository": REPOSITORY, "tag": "2.1.5", "digest": DIGEST},
        }
        self.write_lock()
        self.variables = {
            "LLM_PLATFORM_NIM_CLUSTER_NAMESPACE": NAMESPACE,
            "LLM_PLATFORM_NIM_KUBECONFIG": str(self.kubeconfig),
        }

    @property
    def entry(self) -> LockEntry:
        """The entry of the lock file."""
        return load_lock(self.lock_file)[ENTRY]


def kinds(api: KubernetesApi) -> list[str]:
    """Kinds of the objects that there are, pods aside: no controller ends them here."""
    return sorted(found["kind"] for key, found in api.objects.items() if key[1] not in ("pods", "events"))


def end_pods(api: KubernetesApi) -> None:
    """What the kubelet does once nothing wants the pods that serve."""
    for key in [key for key in api.objects if key[1] == "pods" and key[3] == f"{SERVICE}-0"]:
        del api.objects[key]
