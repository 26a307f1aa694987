"""Requests shared by a route, and GPUs shared by quota and priority."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from llm_platform.errors import SpecificationError
from llm_platform.nim.manifests.capacity import DEVELOPMENT, PRODUCTION, GpuPool, pool_objects
from llm_platform.nim.manifests.routes import Gateway, route_object
from llm_platform_tests.nim.manifests.cases import PODS

GATEWAY = Gateway("public", "gateways")


def quotas(pool: GpuPool) -> dict[str, dict[tuple[str, str], int]]:
    """Namespace → (operator, class) → GPUs."""
    found: dict[str, dict[tuple[str, str], int]] = defaultdict(dict)
    for manifest in pool_objects(pool):
        if manifest["kind"] == "ResourceQuota":
            [scope] = manifest["spec"]["scopeSelector"]["matchExpressions"]
            [gpus] = manifest["spec"]["hard"].values()
            found[manifest["metadata"]["namespace"]][scope["operator"], scope["values"][0]] = int(gpus)
    return dict(found)


def test_production_takes_gpus_and_development_does_not() -> None:
    """With preemption on both sides, development's pods would end each other's."""
    classes = {manifest["metadata"]["name"]: manifest for manifest in pool_objects(GpuPool(8, 5))[:2]}

    assert classes[PRODUCTION]["preemptionPolicy"] == "PreemptLowerPriority"
    assert classes[DEVELOPMENT]["preemptionPolicy"] == "Never"
    assert classes[PRODUCTION]["value"] > classes[DEVELOPMENT]["value"] > 0
    assert not any(manifest["globalDefault"] for manifest in classes.values())


def test_development_may_hold_what_production_leaves_and_under_its_own_class_only() -> None:
    """A quota on one class alone would be got around by naming the other, or none."""
    assert quotas(GpuPool(8, 5)) == {
        "nim-production": {("In", PRODUCTION): 8, ("NotIn", PRODUCTION): 0},
        "nim-development": {("In", DEVELOPMENT): 3, ("NotIn", DEVELOPMENT): 0},
    }


@pytest.mark.parametrize(
    ("gpus", "production", "namespaces", "shares"),
    [
        pytest.param(8, 5, ("a", "b"), [2, 1], id="what-is-over-goes-to-the-first"),
        pytest.param(8, 8, ("a",), [0], id="production-has-all"),
        pytest.param(8, 0, ("a", "b"), [4, 4], id="production-is-promised-nothing"),
        pytest.param(8, 5, (), [], id="nobody-else"),
    ],
)
def test_shares_of_development_add_up(
    gpus: int, production: int, namespaces: tuple[str, ...], shares: list[int]
) -> None:
    """Quotas that promise more than there is promise nothing."""
    found = GpuPool(gpus, production, development_namespaces=namespaces).shares()

    assert list(found.values()) == shares


@pytest.mark.parametrize(
    ("pool", "complaint"),
    [
        pytest.param(GpuPool(4, 5), "Cannot guarantee 5 GPUs of a pool of 4", id="more-than-there-are"),
        pytest.param(GpuPool(4, -1), "Cannot guarantee -1", id="less-than-none"),
        pytest.param(GpuPool(0, 0), "a pool of 0", id="no-pool"),
        pytest.param(GpuPool(4, 2, "nim", ("nim",)), "found one twice", id="shared-namespace"),
    ],
)
def test_shares_that_do_not_add_up_are_refused(pool: GpuPool, complaint: str) -> None:
    """The message has the numbers."""
    with pytest.raises(SpecificationError, match=complaint):
        pool_objects(pool)


def test_a_route_shares_requests_by_weight_and_may_copy_them() -> None:
    """The operator's own route has one backend and no weights."""
    [rule] = route_object("chat", {"nim-a": 90, "nim-b": 10}, gateway=GATEWAY, pods=PODS, mirrors={"nim-c": 1.0})[
        "spec"
    ]["rules"]

    assert [(backend["name"], backend["weight"]) for backend in rule["backendRefs"]] == [("nim-a", 90), ("nim-b", 10)]
    assert [copied["requestMirror"]["backendRef"]["name"] for copied in rule["filters"]] == ["nim-c"]


def test_a_route_does_not_cut_long_answers_off() -> None:
    """Gateways have a time limit of their own, of seconds; a long completion takes minutes."""
    [rule] = route_object("chat", {"nim-a": 1}, gateway=GATEWAY, pods=PODS)["spec"]["rules"]

    assert rule["timeouts"] == {"request": "0s"}


@pytest.mark.parametrize(
    ("weights", "mirror", "complaint"),
    [
        pytest.param({"nim-a": 0, "nim-b": 0}, None, "sends no request anywhere", id="no-weight"),
        pytest.param({}, None, "sends no request anywhere", id="no-service"),
        pytest.param({"nim-a": -1, "nim-b": 2}, None, "weights are 0 to", id="negative"),
        pytest.param({"nim-a": 2_000_000}, None, "weights are 0 to", id="too-large"),
        pytest.param({f"nim-{n}": 1 for n in range(17)}, None, "at most 16", id="too-many"),
        pytest.param({"nim-a": 1}, "nim-a", "its own requests twice", id="mirrors-itself"),
    ],
)
def test_a_route_that_makes_no_sense_is_refused(weights: dict[str, int], mirror: Any, complaint: str) -> None:
    """The gateway would take it and answer 500, or double a model's load."""
    with pytest.raises(SpecificationError, match=complaint):
        route_object("chat", weights, gateway=GATEWAY, pods=PODS, mirrors={mirror: 1.0} if mirror else None)
