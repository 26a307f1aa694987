"""What the objects of a model say: pins, adapters, replicas, who reaches whom, and no secret."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from llm_platform.errors import SpecificationError
from llm_platform.models.manifests import fields_of_manifest
from llm_platform.nim.manifests.objects import nim_objects
from llm_platform.nim.manifests.pods import Autoscaling, ServedModel
from llm_platform_tests.nim.manifests.cases import DIGEST, LLAMA, PODS, PROFILE, SCALINGS, VERIFYING, one, table

NIMS = ("nim-1.x", "nim-2.x", "nim-2.x-sglang")
VLLM = replace(LLAMA, dialect="vllm")
WITH_ADAPTERS = replace(LLAMA, adapters=True)


def kinds(model: ServedModel, **pods: Any) -> list[str]:
    return [manifest["kind"] for manifest in nim_objects(model, replace(PODS, **pods))]


def environment(model: ServedModel) -> dict[str, str]:
    """Variables of the container that serves."""
    objects = nim_objects(model, PODS)
    if model.is_nim:
        variables = one(objects, "NIMService")["spec"]["env"]
    else:
        [container] = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
        variables = container["env"]
    return {variable["name"]: variable["value"] for variable in variables}


def test_objects_come_in_the_order_in_which_they_are_applied() -> None:
    """A pod that starts before its policy has a way out, and one before its claim does not start."""
    assert kinds(LLAMA, autoscaling=SCALINGS["keda"]) == [
        "PersistentVolumeClaim",
        "NetworkPolicy",
        "Service",
        "NIMCache",
        "NIMService",
        "ScaledObject",
        "PodDisruptionBudget",
    ]
    assert kinds(VLLM, autoscaling=SCALINGS["hpa"]) == [
        "PersistentVolumeClaim",
        "NetworkPolicy",
        "Service",
        "Service",
        "Deployment",
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
    ]


@pytest.mark.parametrize("dialect", NIMS)
def test_a_nim_service_says_what_the_lock_file_pins(dialect: Any) -> None:
    """What is rendered from an entry, read back, is the entry again: digest, profile, names, length, GPUs."""
    model = replace(LLAMA, dialect=dialect, tensor=2, pipeline=2)

    manifest = one(nim_objects(model, PODS), "NIMService")
    found = fields_of_manifest(manifest)

    length = {} if dialect == "nim-2.x-sglang" else {"context_length": 8192}
    assert found == {
        "image": {"repository": LLAMA.repository, "tag": "2.1.5", "digest": DIGEST},
        "service": "nim-llama-8b",
        "served_name": "meta/llama-3.1-8b-instruct",
        "profile": PROFILE,
        "parallelism": {"tensor": 2},
        **length,
    }
    assert manifest["spec"]["resources"]["limits"] == {"nvidia.com/gpu": "4"}


def test_sglang_gets_its_context_length_as_an_argument() -> None:
    """Its profiles may refuse NIM_MAX_MODEL_LEN."""
    found = environment(replace(LLAMA, dialect="nim-2.x-sglang"))

    assert found["NIM_PASSTHROUGH_ARGS"] == "--context-length=8192"
    assert "NIM_MAX_MODEL_LEN" not in found


@pytest.mark.parametrize("dialect", [*NIMS, "vllm"])
def test_adapters_have_a_folder_of_their_model_that_is_there_before_it_starts(dialect: Any) -> None:
    """An engine that is told of a missing folder does not start, and one of another base must not see it."""
    model = replace(WITH_ADAPTERS, dialect=dialect)

    objects = nim_objects(model, PODS)
    spec = (
        one(objects, "NIMService")["spec"] if model.is_nim else one(objects, "Deployment")["spec"]["template"]["spec"]
    )
    [maker] = spec["initContainers"]

    folder = "/model-store/adapters/nim-llama-8b"
    assert folder in environment(model).values()
    assert maker["command"][-1] == folder
    assert environment(replace(model, adapters=False)).keys() < environment(model).keys()


@pytest.mark.parametrize("dialect", [*NIMS, "vllm"])
def test_a_pod_verifies_its_adapters_before_it_serves(dialect: Any) -> None:
    """By the image of the platform, pinned as it was named; one that fails keeps the pod from starting."""
    model = replace(WITH_ADAPTERS, dialect=dialect)

    objects = nim_objects(model, VERIFYING)
    spec = (
        one(objects, "NIMService")["spec"] if model.is_nim else one(objects, "Deployment")["spec"]["template"]["spec"]
    )
    maker, verifier = spec["initContainers"]

    assert maker["name"] == "adapters"
    assert verifier["command"][-2:] == [model.adapters_folder, VERIFYING.adapter_keys]
    image = verifier["image"]
    named = f"{image['repository']}:{image['tag']}" if model.is_nim else image
    assert named == VERIFYING.verifier_image
    assert not [one for one in nim_objects(LLAMA, VERIFYING) if "verify" in str(one)]


def test_both_lines_of_nim_have_the_same_limits_on_adapters() -> None:
    """1.x reads variables and 2.x arguments; an adapter that can be published can be served by either."""
    old, new = (environment(replace(WITH_ADAPTERS, dialect=dialect)) for dialect in ("nim-1.x", "nim-2.x"))

    limits = {"NIM_MAX_GPU_LORAS": "8", "NIM_MAX_CPU_LORAS": "16", "NIM_MAX_LORA_RANK": "32"}
    assert limits.items() <= old.items()
    assert limits.items() <= new.items()
    assert "NIM_PASSTHROUGH_ARGS" not in old
    assert new["NIM_PASSTHROUGH_ARGS"] == "--enable-lora --max-loras=8 --max-cpu-loras=16 --max-lora-rank=32"


@pytest.mark.parametrize(
    ("dialect", "running", "waiting"),
    [
        pytest.param("nim-1.x", "num_requests_running", "num_requests_waiting", id="1.x-has-no-prefix"),
        pytest.param("nim-2.x", "vllm:num_requests_running", "vllm:num_requests_waiting", id="2.x-is-vllm"),
        pytest.param("nim-2.x-sglang", "sglang:num_running_reqs", "sglang:num_queue_reqs", id="sglang"),
        pytest.param("vllm", "vllm:num_requests_running", "vllm:num_requests_waiting", id="vllm"),
    ],
)
def test_replicas_are_counted_by_what_the_dialect_calls_its_queue(dialect: Any, running: str, waiting: str) -> None:
    """An autoscaler with a metric that nobody publishes never scales, and does not say so."""
    model = replace(LLAMA, dialect=dialect, slots=64)

    by_hpa = nim_objects(model, replace(PODS, autoscaling=SCALINGS["hpa"]))
    by_keda = nim_objects(model, replace(PODS, autoscaling=SCALINGS["keda"]))
    hpa = (
        one(by_hpa, "NIMService")["spec"]["scale"]["hpa"]
        if model.is_nim
        else one(by_hpa, "HorizontalPodAutoscaler")["spec"]
    )
    [trigger] = one(by_keda, "ScaledObject")["spec"]["triggers"]

    assert [metric["pods"]["metric"]["name"] for metric in hpa["metrics"]] == [running, waiting]
    assert {metric["pods"]["target"]["averageValue"] for metric in hpa["metrics"]} == {"48"}
    assert trigger["metadata"]["query"] == f'sum({{__name__=~"{running}|{waiting}",namespace="nim",entry="llama-8b"}})'
    assert trigger["metadata"]["threshold"] == "48"


@pytest.mark.parametrize(
    ("scaling", "fields"),
    [
        pytest.param("three", {"replicas"}, id="a-number"),
        pytest.param("hpa", {"scale"}, id="the-operators-autoscaler"),
        pytest.param("keda", set(), id="nobody-counts-against-keda"),
    ],
)
def test_one_party_counts_replicas(scaling: str, fields: set[str]) -> None:
    """The CRD refuses two, and with `replicas` set the operator takes back what KEDA has scaled."""
    spec = one(nim_objects(LLAMA, replace(PODS, autoscaling=SCALINGS[scaling])), "NIMService")["spec"]

    assert {"replicas", "scale"} & spec.keys() == fields


def test_a_model_scaled_to_zero_is_woken_by_a_metric_that_outlives_it() -> None:
    """With its last pod a model's own metrics are gone, so its own queue can never wake it."""
    objects = nim_objects(LLAMA, replace(PODS, autoscaling=SCALINGS["keda-to-zero"]))

    spec = one(objects, "ScaledObject")["spec"]

    assert [trigger["name"] for trigger in spec["triggers"]] == ["queue", "demand"]
    assert (spec["minReplicaCount"], spec["cooldownPeriod"], spec["fallback"]["replicas"]) == (0, 1800, 0)


@pytest.mark.parametrize(("scaling", "expected"), [("keda", ["false"]), ("keda-to-zero", ["true", "true"])])
def test_a_scrape_that_fails_is_no_empty_queue(scaling: str, expected: list[str]) -> None:
    """Taken for zero, missing metrics would send replicas away while they work; only at zero there are none."""
    spec = one(nim_objects(LLAMA, replace(PODS, autoscaling=SCALINGS[scaling])), "ScaledObject")["spec"]

    assert [trigger["metadata"]["ignoreNullValues"] for trigger in spec["triggers"]] == expected
    assert spec["fallback"]["behavior"] == "currentReplicasIfHigher"


@pytest.mark.parametrize(
    ("scaling", "complaint"),
    [
        pytest.param(Autoscaling("hpa", minimum=0), "cannot scale to zero", id="hpa-to-zero"),
        pytest.param(Autoscaling("keda", minimum=0), "LLM_PLATFORM_NIM_DEMAND_QUERY", id="nothing-wakes-it"),
        pytest.param(Autoscaling("keda", minimum=3, maximum=2), "between 3 and 2 replicas", id="turned-round"),
        pytest.param(Autoscaling("hpa", minimum=0, maximum=0), "between 0 and 0 replicas", id="never-any"),
    ],
)
def test_impossible_bounds_are_refused_before_a_cluster_sees_them(scaling: Autoscaling, complaint: str) -> None:
    """The message says which setting to change."""
    with pytest.raises(SpecificationError, match=complaint):
        nim_objects(LLAMA, replace(PODS, autoscaling=scaling))


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        pytest.param(replace(LLAMA, dialect="hosted"), "'hosted' is an endpoint of somebody else", id="hosted"),
        pytest.param(replace(LLAMA, service="n" * 60), "at most 59", id="no-room-for-the-operators-suffix"),
    ],
)
def test_a_model_that_cannot_run_here_is_refused(model: ServedModel, complaint: str) -> None:
    """It would be refused by the cluster later, in a pod's events."""
    with pytest.raises(SpecificationError, match=complaint):
        nim_objects(model, PODS)


def test_serving_pods_reach_nobody_and_are_reached_by_those_named() -> None:
    """The operator asks a NIM for its model before it calls it ready: shut out, the NIM would never be."""
    policies = {
        dialect: one(nim_objects(replace(LLAMA, dialect=dialect), PODS), "NetworkPolicy")["spec"]
        for dialect in ("nim-2.x", "vllm")
    }

    for policy in policies.values():
        assert policy["egress"] == []
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        assert policy["podSelector"] == {"matchLabels": {"llm-platform/service": "nim-llama-8b"}}
    named = {
        dialect: policy["ingress"][0]["from"][0]["namespaceSelector"]["matchExpressions"][0]["values"]
        for dialect, policy in policies.items()
    }
    assert named == {
        "nim-2.x": ["llm-platform", "monitoring", "nim-operator"],
        "vllm": ["llm-platform", "monitoring"],
    }


def test_only_the_download_knows_the_key() -> None:
    """A NIM with a key asks NVIDIA's registry at its start, which the policy does not let it reach."""
    objects = nim_objects(LLAMA, PODS)

    assert one(objects, "NIMCache")["spec"]["source"]["ngc"]["authSecret"] == "ngc-api-secret"
    assert "ngc-api-secret" not in json.dumps(one(objects, "NIMService"))


def test_no_object_holds_a_secret() -> None:
    """Manifests are in Git: they name secrets, and set no variable that is called like one."""
    for objects in table().values():
        assert "Secret" not in {manifest["kind"] for manifest in objects}
        assert not re.search(r'"[A-Z_]*(KEY|TOKEN|PASSWORD)[A-Z_]*"', json.dumps(objects))


@pytest.mark.parametrize(
    "change", [{"digest": "sha256:" + "2f" * 32}, {"profile": "4a" * 32}], ids=["digest", "profile"]
)
def test_another_build_is_another_download(change: dict[str, str]) -> None:
    """A NIMCache cannot be changed: applied under the same name, an upgrade would be refused by the webhook."""
    before = one(nim_objects(LLAMA, PODS), "NIMCache")
    after = one(nim_objects(replace(LLAMA, **change), PODS), "NIMCache")  # type: ignore[arg-type]
    service = one(nim_objects(replace(LLAMA, **change), PODS), "NIMService")  # type: ignore[arg-type]

    assert before["metadata"]["name"] != after["metadata"]["name"]
    assert service["spec"]["storage"]["nimCache"]["name"] == after["metadata"]["name"]
    assert one(nim_objects(LLAMA, PODS), "NIMCache") == before


def test_without_a_key_the_weights_are_on_the_claim() -> None:
    """A site without a way out loads the claim by hand; there is nothing to download with."""
    objects = nim_objects(LLAMA, replace(PODS, ngc_secret=None))

    assert "NIMCache" not in {manifest["kind"] for manifest in objects}
    assert one(objects, "NIMService")["spec"]["storage"]["pvc"] == {"name": "llm-platform-nim"}


def test_the_label_of_a_service_is_on_all_but_what_models_share() -> None:
    """Taking one model away must not take the claim with everybody's weights."""
    objects = nim_objects(LLAMA, replace(PODS, autoscaling=SCALINGS["hpa"]))

    without = [manifest["kind"] for manifest in objects if "llm-platform/service" not in manifest["metadata"]["labels"]]

    assert without == ["PersistentVolumeClaim"]
    assert {manifest["metadata"]["labels"]["llm-platform/owner"] for manifest in objects} == {"prod.main"}


def test_nodes_are_chosen_by_affinity() -> None:
    """The operator's template writes the values of a node selector bare: `true` is then no text, and no pod is made."""
    spec = one(nim_objects(LLAMA, replace(PODS, node_labels={"nvidia.com/gpu.present": "true"})), "NIMService")["spec"]

    [term] = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [{"key": "nvidia.com/gpu.present", "operator": "In", "values": ["true"]}]
    assert "nodeSelector" not in spec


def test_a_bare_vllm_runs_without_privileges_from_weights_it_cannot_change() -> None:
    """No operator stands between this pod and the cluster, so it says all of it itself."""
    pod = one(nim_objects(VLLM, PODS), "Deployment")["spec"]["template"]["spec"]
    [container] = pod["containers"]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert {"name": "model-store", "mountPath": "/model-store", "readOnly": True} in container["volumeMounts"]
    assert container["image"] == f"{LLAMA.repository}:2.1.5@{DIGEST}"
    assert container["args"][0] == "/model-store/models/llama-8b"
    # Images of vLLM have no entry for the user of these pods, and PyTorch asks for a name when it is imported.
    assert environment(VLLM)["USER"]


@pytest.mark.parametrize("scaling", SCALINGS)
def test_a_budget_is_there_where_two_replicas_can_be(scaling: str) -> None:
    """For a single replica it would either do nothing or keep its node from being drained."""
    found = kinds(LLAMA, autoscaling=SCALINGS[scaling])

    assert ("PodDisruptionBudget" in found) == (scaling != "one")
