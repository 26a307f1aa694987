"""Objects by which a gateway follows a rollout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_platform.errors import EvidenceMissing, SpecificationError
from llm_platform.models.entries import LockEntry
from llm_platform.nim.manifests.pods import PodSettings
from llm_platform.operations.live import Challenger, LiveRollouts, ServingRelease
from llm_platform.operations.release.gateways import GatewayObjects, gateway_objects
from llm_platform.operations.serving.local_nim import LocalNim
from llm_platform.operations.serving.serving import Serving as Deployment
from llm_platform.records.rollout import RolloutStage
from llm_platform.settings.connection import Connection
from llm_platform.warehouse.lake import LakeLocation, Warehouse
from llm_platform_tests.nim.manifests.structural import mistakes, written_schemas
from llm_platform_tests.warehouse.builders import release

BASE = {
    "mode": "kubernetes",
    "dialect": "nim-2.x",
    "served_name": "small",
    "image": {"repository": "nvcr.io/nim/meta/small", "tag": "2.1.5", "digest": "sha256:" + "0" * 64},
    "model": "meta/small",
    "licence": "llama3.1",
    "context_length": 2048,
}


def entry(name: str, **values: Any) -> LockEntry:
    return LockEntry(name=name, **{**BASE, **values})


LOCK = {name: entry(name) for name in ("small", "next", "third")} | {"other": entry("other", served_name="large")}


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Warehouse]:
    with Warehouse.attach(LakeLocation(f"sqlite:{tmp_path / 'catalog.sqlite'}", str(tmp_path / "data"))) as found:
        yield found


def stored(lake: Warehouse, model: str, adapter: str | None = None, temperature: float = 0.0) -> str:
    """A release on an entry of the lock; the id of it."""
    base = release(temperature=temperature)
    served = LOCK[model].served_name
    made = base.model_copy(
        update={"model": base.model.model_copy(update={"entry": model, "served_name": served}), "adapter": adapter}
    )
    # Of models with one name, what is pinned tells releases apart.
    made = made.model_copy(update={"model": made.model.model_copy(update={"model": f"meta/{model}"})})
    lake.application("reviews").releases.put(made)
    return made.release_id


def challenger(name: str, release_id: str, stage: str, share: float) -> Challenger:
    return Challenger(name, f"variant {name}", release_id, RolloutStage(stage=stage, share=share), is_held=False)  # type: ignore[arg-type]


def rendered(lake: Warehouse, tmp_path: Path, champion: str, *challengers: Challenger, **values: Any) -> GatewayObjects:
    serving = Deployment(
        local=LocalNim(tmp_path),
        inside=Connection(),
        outside=Connection(),
        pods=PodSettings(namespace="nim-production", owner="test"),
        gateway="gateways/public",
    )
    live = LiveRollouts(ServingRelease("plain", champion), challengers)
    found = gateway_objects(lake.application("reviews"), live, lock=LOCK, serving=serving, **values)
    for manifest in found.objects:
        assert mistakes(written_schemas()[manifest["kind"]], manifest) == []
    return found


def test_a_route_has_the_shares_of_the_rollout_and_copies_what_shadows_answer(lake: Warehouse, tmp_path: Path) -> None:
    """Weights that somebody types beside the rollout are wrong from its next stage on."""
    champion, canary, shadow = stored(lake, "small"), stored(lake, "next"), stored(lake, "third")

    found = rendered(
        lake, tmp_path, champion, challenger("a", canary, "canary", 0.05), challenger("b", shadow, "shadow", 0.5)
    )

    [rule] = found.objects[0]["spec"]["rules"]
    weights = {one["name"]: one["weight"] for one in rule["backendRefs"]}
    assert weights == {LOCK["small"].service_name: 9500, LOCK["next"].service_name: 500}
    [mirror] = rule["filters"]
    assert mirror["requestMirror"] == {
        "backendRef": {"name": LOCK["third"].service_name, "port": 8000},
        "fraction": {"numerator": 5000, "denominator": 10_000},
    }
    assert found.left_out == ()
    assert found.objects[0]["metadata"]["name"] == "reviews"


def test_what_a_gateway_cannot_tell_apart_is_one_target(lake: Warehouse, tmp_path: Path) -> None:
    """A challenger with another prompt on the same model gets the same requests as the champion."""
    champion, prompt, canary = stored(lake, "small"), stored(lake, "small", temperature=0.5), stored(lake, "next")

    found = rendered(
        lake, tmp_path, champion, challenger("a", prompt, "canary", 0.3), challenger("b", canary, "canary", 0.5)
    )

    [rule] = found.objects[0]["spec"]["rules"]
    assert sorted(one["weight"] for one in rule["backendRefs"]) == [3500, 6500]


def test_adapters_of_one_base_share_requests_by_the_name_that_they_carry(lake: Warehouse, tmp_path: Path) -> None:
    """A route knows services; which adapter is asked stands in the body, which a scheduler rewrites."""
    champion = stored(lake, "small", adapter="aaaa")
    canary, shadow = stored(lake, "small", adapter="bbbb"), stored(lake, "small", adapter="cccc")

    found = rendered(
        lake,
        tmp_path,
        champion,
        challenger("a", canary, "canary", 0.25),
        challenger("b", shadow, "shadow", 1.0),
        pool="engines",
    )

    [manifest] = found.objects
    assert (manifest["kind"], manifest["apiVersion"]) == ("InferenceModelRewrite", "llm-d.ai/v1alpha2")
    assert manifest["spec"]["poolRef"]["name"] == "engines"
    [rule] = manifest["spec"]["rules"]
    assert rule["matches"] == [{"model": {"type": "Exact", "value": "reviews"}}]
    assert {one["modelRewrite"]: one["weight"] for one in rule["targets"]} == {
        "reviews-aaaa": 7500,
        "reviews-bbbb": 2500,
    }
    assert "reviews-cccc" in found.left_out[0]


def test_a_champion_alone_has_everything(lake: Warehouse, tmp_path: Path) -> None:
    """After a promotion, and after a withdrawal, the same command takes the challenger out."""
    found = rendered(lake, tmp_path, stored(lake, "small"))

    [rule] = found.objects[0]["spec"]["rules"]
    assert [one["weight"] for one in rule["backendRefs"]] == [10_000]
    assert "filters" not in rule


def test_what_no_object_can_share_is_refused(lake: Warehouse, tmp_path: Path) -> None:
    """A request names one model, and the others would refuse it."""
    champion, canary = stored(lake, "small"), stored(lake, "other")

    with pytest.raises(SpecificationError, match=r"several names \(large, small\)"):
        rendered(lake, tmp_path, champion, challenger("a", canary, "canary", 0.5))
    with pytest.raises(SpecificationError, match=r"'unknown', which models.lock.yaml does not have"):
        rendered(lake, tmp_path, "a release that is gone")
    with pytest.raises(EvidenceMissing, match="has no champion"):
        gateway_objects(
            lake.application("reviews"),
            LiveRollouts(None),
            lock=LOCK,
            serving=Deployment(local=LocalNim(tmp_path), inside=Connection(), outside=Connection()),
        )
