"""The objects that are really rendered, applied: taken as they are, and found unchanged when applied again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llm_platform.nim.applying import Applied, apply_all
from llm_platform.nim.cluster import Cluster
from llm_platform.nim.lifecycle import rehearse
from llm_platform.nim.manifests.objects import nim_objects
from llm_platform.nim.ownership import owner_of
from llm_platform.nim.removal import delete_owned
from llm_platform_tests.nim.hands import NAMESPACE, Steps
from llm_platform_tests.nim.manifests.cases import LLAMA, PODS
from llm_platform_tests.nim.real_api import HAS_CRDS, WHY_NOT


@pytest.mark.parametrize("dialect", ["vllm", "nim-2.x"])
def test_what_is_rendered_is_applied_once_and_then_as_it_should_be(
    cluster: Cluster, request: pytest.FixtureRequest, dialect: str
) -> None:
    """Defaults that the API fills in, and fields that it orders anew, must not look like somebody's change."""
    if dialect == "nim-2.x" and "kube-apiserver" in request.node.name and not HAS_CRDS:
        pytest.skip("the API server has no NIMService: LLM_PLATFORM_TEST_CRDS=its-folder make test-all")
    pods = replace(PODS, namespace=NAMESPACE, priority_class=None)
    manifests = nim_objects(replace(LLAMA, dialect=dialect), pods)

    rehearsed = rehearse(cluster, manifests).applied
    first, second, third = (Applied(name) for name in ("first", "second", "third"))
    for applied in (first, second, third):
        apply_all(cluster, manifests, applied, pause=Steps().pause)
    refs = [cluster.ref(manifest) for manifest in reversed(manifests)]
    removed = delete_owned(cluster, refs, owner_of(manifests), delete_cache=True)

    assert rehearsed.created == first.created == second.joined == third.joined
    assert not [*second.changed, *third.changed]
    assert [ref for ref, _ in removed.left] == [cluster.ref(manifests[0])]
    assert len(removed.deleted) == len(manifests) - 1


@pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or "")
def test_rendered_objects_are_taken_by_a_real_api_server(real_api: object) -> None:
    """The test above says so on one; where there is none, this one says why."""
