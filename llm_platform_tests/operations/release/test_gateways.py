"""A gateway is told what the rollouts are, in weights that add up."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_platform.errors import SpecificationError
from llm_platform.nim.manifests.rewrites import rewrite_object
from llm_platform.operations.release.gateways import WHOLE, gateway_shares
from llm_platform.warehouse.lake import LakeLocation, Warehouse
from llm_platform_tests.nim.manifests.cases import PODS
from llm_platform_tests.operations.test_live import started
from llm_platform_tests.warehouse.builders import event, release


def test_weights_follow_the_canaries_and_a_shadow_is_mirrored(tmp_path: Path) -> None:
    """A repository that a cluster follows must not be kept in step by hand."""
    location = LakeLocation(f"sqlite:{tmp_path / 'catalog.sqlite'}", str(tmp_path / "data"))
    with Warehouse.attach(location, threads=2) as lake:
        store = lake.application("reviews")
        with pytest.raises(SpecificationError, match="has no champion"):
            gateway_shares(store)
        champion = release()
        canary = champion.model_copy(update={"model": champion.model.model_copy(update={"entry": "large"})})
        canary = canary.model_copy(update={"sampling": canary.sampling.model_copy(update={"seed": 1})})
        shadow = canary.model_copy(update={"model": canary.model.model_copy(update={"entry": "other", "image": "x"})})
        for one in (champion, canary, shadow):
            store.releases.put(one)
        store.rollout.append(event("first", release_id=champion.release_id), expected_previous=None)
        started(lake, "canary", stage=1, release_id=canary.release_id)
        started(lake, "shade", stage=0, release_id=shadow.release_id)

        found = gateway_shares(store)

    assert found.entries == {"small": 8000, "large": 2000}
    assert found.mirror == "other"
    assert found.models == {}
    assert sum(found.entries.values()) == WHOLE


def test_adapters_of_one_base_are_told_apart_by_their_names(tmp_path: Path) -> None:
    """A route sees one service for both."""
    location = LakeLocation(f"sqlite:{tmp_path / 'catalog.sqlite'}", str(tmp_path / "data"))
    with Warehouse.attach(location, threads=2) as lake:
        store = lake.application("reviews")
        champion = release()
        tuned = champion.model_copy(update={"adapter": "a1"})
        for one in (champion, tuned):
            store.releases.put(one)
        store.rollout.append(event("first", release_id=champion.release_id), expected_previous=None)
        started(lake, "tuned", stage=2, release_id=tuned.release_id)

        found = gateway_shares(store)

    assert found.models == {"small": 4000, "reviews-a1": 6000}
    rewrite = rewrite_object("chat", found.models, asked="small", pool="small-pool", pods=PODS)
    assert rewrite["spec"]["rules"] == [
        {
            "matches": [{"model": {"type": "Exact", "value": "small"}}],
            "targets": [{"modelRewrite": "small", "weight": 4000}, {"modelRewrite": "reviews-a1", "weight": 6000}],
        }
    ]
