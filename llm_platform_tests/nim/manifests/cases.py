"""Models and settings that manifests are rendered for in tests."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

from llm_platform.nim.manifests.objects import nim_objects
from llm_platform.nim.manifests.pods import Autoscaling, Manifest, PodSettings, ServedModel

DIGEST = "sha256:" + "1e" * 32
PROFILE = "36" * 32

LLAMA = ServedModel(
    name="llama-8b",
    service="nim-llama-8b",
    dialect="nim-2.x",
    served_name="meta/llama-3.1-8b-instruct",
    repository="nvcr.io/nim/meta/llama-3.1-8b-instruct",
    tag="2.1.5",
    digest=DIGEST,
    context_length=8192,
    profile=PROFILE,
)
PODS = PodSettings(namespace="nim", owner="prod.main", client_namespaces=("llm-platform",))
VERIFYING = replace(
    PODS,
    verifier_image=f"registry:5000/llm-platform:1.0@{DIGEST}",
    adapter_keys="-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----\n",
)
SCALINGS = {
    "one": Autoscaling(),
    "three": Autoscaling(replicas=3),
    "hpa": Autoscaling("hpa", minimum=1, maximum=4),
    "keda": Autoscaling("keda", minimum=2, maximum=6),
    "keda-to-zero": Autoscaling("keda", minimum=0, maximum=2, demand_query='sum(runs{phase="Running"})'),
}


def table() -> dict[str, list[Manifest]]:
    """Objects of every dialect, with and without adapters, on one GPU and on several, by each way of scaling."""
    dialects = ("nim-1.x", "nim-2.x", "nim-2.x-sglang", "vllm")
    found = {}
    for dialect, adapters, gpus, scaling in product(dialects, (False, True), ((1, 1), (4, 2)), SCALINGS):
        model = replace(LLAMA, dialect=dialect, adapters=adapters, tensor=gpus[0], pipeline=gpus[1])
        name = f"{dialect}-{'adapters' if adapters else 'base'}-{model.gpus}gpu-{scaling}"
        found[name] = nim_objects(model, replace(PODS, autoscaling=SCALINGS[scaling]))
    bare = replace(LLAMA, profile=None, slots=64)
    lean = replace(PODS, ngc_secret=None, pull_secret=None, tolerated_taints=())
    rich = replace(PODS, storage_class="nfs", priority_class="llm-platform-production", node_labels={"gpu": "true"})
    for dialect in ("nim-2.x", "vllm"):
        found[f"{dialect}-without-secrets"] = nim_objects(replace(bare, dialect=dialect), lean)
        found[f"{dialect}-placed"] = nim_objects(replace(bare, dialect=dialect), rich)
        found[f"{dialect}-verified"] = nim_objects(replace(bare, dialect=dialect, adapters=True), VERIFYING)
    return found


def one(objects: list[Manifest], kind: str) -> Any:
    """The only object of a kind."""
    [found] = [manifest for manifest in objects if manifest["kind"] == kind]
    return found
