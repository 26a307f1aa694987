"""How a cluster is found: by a kubeconfig file, as kubectl does, else by the pod that this process runs in."""

from __future__ import annotations

from pathlib import Path

from llm_platform.errors import ClusterRefused
from llm_platform.nim.cluster import Cluster

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def connect_cluster(
    *, namespace: str | None = None, kubeconfig: Path | None = None, context: str | None = None
) -> Cluster:
    """The cluster of the kubeconfig file, else the one that this process runs in. Nothing is asked of it yet.

    Args:
        namespace: Of our objects; None for that of the context, or of the pod we run in.
        kubeconfig: Such a file; None for the one that kubectl would take.
        context: Of the kubeconfig file; None for its current one.

    Raises:
        ClusterRefused: neither is there.
    """
    from kubernetes import client, config

    configuration = client.Configuration()
    file = str(kubeconfig) if kubeconfig is not None else None
    try:
        config.load_kube_config(file, context=context, client_configuration=configuration)
    except config.ConfigException as outside:
        try:
            config.load_incluster_config(client_configuration=configuration)
        except config.ConfigException as inside:
            raise ClusterRefused(
                f"No Kubernetes cluster is configured: {str(outside).rstrip('.')}, and this is not a pod. "
                "Name a file in LLM_PLATFORM_NIM_KUBECONFIG, and a context in LLM_PLATFORM_NIM_KUBE_CONTEXT. "
                "To run the model on this machine instead, add --local."
            ) from inside
        return Cluster(client.ApiClient(configuration), namespace or _own_namespace(), is_inside=True)
    return Cluster(client.ApiClient(configuration), namespace or _namespace_of(file, context) or "default")


def _namespace_of(file: str | None, context: str | None) -> str | None:
    """Namespace of a context of the kubeconfig file, of the current one if it is not named."""
    from kubernetes import config

    every, current = config.list_kube_config_contexts(file)
    chosen = current if context is None else next(one for one in every if one["name"] == context)
    found: str | None = chosen["context"].get("namespace")
    return found


def _own_namespace() -> str:
    return _NAMESPACE_FILE.read_text(encoding="utf-8").strip() if _NAMESPACE_FILE.is_file() else "default"
