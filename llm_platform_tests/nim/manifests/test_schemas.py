"""Clusters accept what is rendered: by Kubernetes' schemas, by the CRDs, and by a check of ours that always runs."""

from __future__ import annotations

import copy
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from llm_platform.nim.manifests.capacity import GpuPool, pool_objects
from llm_platform.nim.manifests.pods import Manifest
from llm_platform.nim.manifests.rewrites import rewrite_object
from llm_platform.nim.manifests.routes import Gateway, route_object
from llm_platform_tests.nim.manifests.cases import PODS, one, table
from llm_platform_tests.nim.manifests.structural import (
    FILES,
    Schema,
    crd_schema,
    disagreements,
    mistakes,
    written_schemas,
)

CRDS = os.environ.get("LLM_PLATFORM_TEST_CRDS")
GATEWAY = Gateway("public", "gateways", "models.example.org")
OBJECTS = table()
ROUTES = {
    "route-to-one": [route_object("chat", {"nim-a": 1}, gateway=GATEWAY, pods=PODS)],
    "route-by-weight": [route_object("chat", {"nim-a": 90, "nim-b": 10}, gateway=GATEWAY, pods=PODS)],
    "route-with-mirror": [
        route_object("chat", {"nim-a": 1, "nim-b": 0}, gateway=Gateway("g", "n"), pods=PODS, mirrors={"nim-b": 1.0})
    ],
    "route-with-shares-of-mirrors": [
        route_object("chat", {"nim-a": 1}, gateway=GATEWAY, pods=PODS, mirrors={"nim-b": 0.25, "nim-c": 0.0001})
    ],
    "rewrite-between-adapters": [
        rewrite_object("tickets", "tickets", {"base": 9500, "tickets-1": 500, "tickets-2": 0}, pool="nim-a", pods=PODS)
    ],
}
ALL = {**OBJECTS, **ROUTES, "pool": pool_objects(GpuPool(8, 5, development_namespaces=("nim-dev", "nim-team")))}
REMOVED = object()

# (kind, field, what is written there instead, whether the CRD knows it; the rest is the webhook's or ours)
SPOILT: list[tuple[str, tuple[str | int, ...], Any, bool]] = [
    ("NIMService", ("spec", "image"), REMOVED, True),
    ("NIMService", ("spec", "image", "tag"), REMOVED, True),
    ("NIMService", ("spec", "image", "tag"), "latest", False),
    ("NIMService", ("spec", "replicas"), "2", True),
    ("NIMService", ("spec", "replicas"), -1, True),
    ("NIMService", ("spec", "router"), {}, True),
    ("NIMService", ("spec", "scale"), {"enabled": True, "hpa": {"maxReplicas": 2}}, True),
    ("NIMService", ("spec", "expose", "service", "port"), 70000, True),
    ("NIMService", ("spec", "expose", "service", "port"), REMOVED, False),
    ("NIMService", ("spec", "env", 0, "value"), 1, True),
    ("NIMService", ("spec", "env", 0, "name"), REMOVED, True),
    ("NIMService", ("spec", "storage", "pvc"), {"name": "second"}, False),
    ("NIMService", ("spec", "storage", "nimCache"), REMOVED, False),
    ("NIMService", ("spec", "storage", "sharedMemorySizeLimit"), "16 GB", True),
    ("NIMService", ("spec", "resources", "limits", "nvidia.com/gpu"), "two", True),
    ("NIMService", ("spec", "startupProbe", "probe", "httpGet", "port"), REMOVED, True),
    ("NIMService", ("spec", "tolerations", 0, "operator"), 1, True),
    ("NIMCache", ("spec", "source", "ngc"), REMOVED, True),
    ("NIMCache", ("spec", "source", "hf"), {}, True),
    ("NIMCache", ("spec", "source", "ngc", "authSecret"), REMOVED, True),
    ("NIMCache", ("spec", "source", "ngc", "model", "profiles"), "all", True),
    ("NIMCache", ("spec", "storage"), REMOVED, True),
    ("NIMCache", ("spec", "storage", "pvc"), {}, False),
    ("ScaledObject", ("spec", "minReplicaCount"), 9, True),
    ("ScaledObject", ("spec", "maxReplicaCount"), 0, True),
    ("ScaledObject", ("spec", "scaleTargetRef", "name"), REMOVED, True),
    ("ScaledObject", ("spec", "triggers"), REMOVED, True),
    ("ScaledObject", ("spec", "triggers", 0, "metadata", "threshold"), 24, True),
    ("ScaledObject", ("spec", "fallback", "behavior"), "none", True),
    ("ScaledObject", ("spec", "advanced", "horizontalPodAutoscalerConfig", "name"), "n" * 64, False),
    ("HTTPRoute", ("spec", "rules", 0, "backendRefs", 0, "weight"), -1, True),
    ("HTTPRoute", ("spec", "rules", 0, "backendRefs", 0, "weight"), 1_000_001, True),
    ("HTTPRoute", ("spec", "rules", 0, "backendRefs", 0, "port"), REMOVED, True),
    ("HTTPRoute", ("spec", "rules", 0, "filters", 0, "requestMirror"), REMOVED, True),
    ("HTTPRoute", ("spec", "rules", 0, "filters", 0, "requestMirror", "backendRef", "port"), REMOVED, True),
    ("HTTPRoute", ("spec", "rules", 0, "filters", 0, "type"), "Mirror", True),
    ("HTTPRoute", ("spec", "rules", 0, "filters", 0, "requestMirror", "fraction"), {"numerator": -1}, True),
    ("HTTPRoute", ("spec", "rules", 0, "timeouts", "request"), "1 minute", True),
    ("InferenceModelRewrite", ("spec", "poolRef", "name"), REMOVED, True),
    ("InferenceModelRewrite", ("spec", "rules", 0, "targets"), REMOVED, False),
    ("InferenceModelRewrite", ("spec", "rules", 0, "targets", 0, "modelRewrite"), REMOVED, True),
    ("InferenceModelRewrite", ("spec", "rules", 0, "targets", 0, "weight"), 1_000_001, True),
    ("InferenceModelRewrite", ("spec", "rules", 0, "matches", 0, "model", "type"), "Prefix", True),
    ("HTTPRoute", ("spec", "parentRefs", 0, "name"), REMOVED, True),
]


def their_schema(kind: str) -> Schema:
    """The CRD of a kind, or a skip that says what is missing."""
    if CRDS is None:
        pytest.skip(
            "no CRDs of the NIM operator, KEDA and the Gateway API: put them into a folder, then "
            "LLM_PLATFORM_TEST_CRDS=folder make test-all"
        )
    schema = crd_schema(Path(CRDS), kind)
    if schema is None:
        pytest.skip(f"the folder LLM_PLATFORM_TEST_CRDS has no {FILES[kind]}")
    return schema


def spoilt(kind: str, path: tuple[str | int, ...], value: Any) -> Manifest:
    """A good object of a kind with one field changed."""
    good = {
        "NIMService": one(OBJECTS["nim-2.x-adapters-8gpu-one"], "NIMService"),
        "NIMCache": one(OBJECTS["nim-2.x-adapters-8gpu-one"], "NIMCache"),
        "ScaledObject": one(OBJECTS["nim-2.x-base-1gpu-keda"], "ScaledObject"),
        "HTTPRoute": ROUTES["route-with-mirror"][0],
        "InferenceModelRewrite": ROUTES["rewrite-between-adapters"][0],
    }
    manifest: Any = copy.deepcopy(good[kind])
    place = manifest
    for key in path[:-1]:
        place = place[key]
    if value is REMOVED:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return dict(manifest)


@cache
def validate_once(manifest: str) -> None:
    """Hold an object against Kubernetes' schema of its kind; most cases share most of their objects."""
    kubernetes_validate.validate(json.loads(manifest), "1.34", strict=True)


def name_of(case: Any) -> str:
    """Name of a spoilt case."""
    if isinstance(case, tuple):
        return ".".join(map(str, case))
    return "removed" if case is REMOVED else str(case)[:20]


@pytest.mark.parametrize("case", ALL)
def test_kubernetes_accepts_every_object_of_its_own_kinds(case: str) -> None:
    """Unknown fields are refused here: a server drops a field that stands in the wrong place, and says nothing."""
    builtin = [manifest for manifest in ALL[case] if manifest["kind"] not in FILES]

    for manifest in builtin:
        validate_once(json.dumps(manifest))


@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_older_and_newer_versions_accept_them_too(version: str) -> None:
    """The oldest is the first in which every field that we write is stable."""
    for manifest in [*ALL["vllm-adapters-8gpu-hpa"], *ALL["vllm-placed"], *ALL["pool"]]:
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("case", ALL)
def test_custom_objects_have_the_fields_that_are_written_down_and_no_others(case: str) -> None:
    """This check needs no third party's file, so it runs everywhere."""
    for manifest in ALL[case]:
        if manifest["kind"] in FILES:
            assert mistakes(written_schemas()[manifest["kind"]], manifest) == []


@pytest.mark.parametrize("kind", written_schemas())
def test_the_crds_accept_every_custom_object(kind: str) -> None:
    """Structure, defaults and CEL rules of the projects themselves."""
    schema = their_schema(kind)
    objects = [manifest for case in ALL.values() for manifest in case if manifest["kind"] == kind]

    found = [line for manifest in objects for line in mistakes(schema, manifest)]

    assert objects
    assert found == []


@pytest.mark.parametrize("kind", written_schemas())
def test_what_is_written_down_agrees_with_the_crds(kind: str) -> None:
    """A field that a project renames, types anew or makes mandatory shows up here, by its path."""
    assert list(disagreements(written_schemas()[kind], their_schema(kind))) == []


@pytest.mark.parametrize(("kind", "path", "value", "known"), SPOILT, ids=name_of)
def test_a_spoilt_object_is_refused(kind: str, path: tuple[str | int, ...], value: Any, known: bool) -> None:
    """A check that accepts everything would pass every other test of this module."""
    assert mistakes(written_schemas()[kind], spoilt(kind, path, value)) != []


@pytest.mark.parametrize(("kind", "path", "value", "known"), SPOILT, ids=name_of)
def test_the_crds_refuse_the_same_spoilt_objects(
    kind: str, path: tuple[str | int, ...], value: Any, known: bool
) -> None:
    """Both checks give one verdict, except where only a webhook knows better."""
    assert bool(mistakes(their_schema(kind), spoilt(kind, path, value))) == known
