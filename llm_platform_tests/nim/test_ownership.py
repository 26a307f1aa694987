"""What `up` and `down` touch in a cluster: what they have made themselves, at every moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from llm_platform.errors import ClusterRefused, EndpointMismatch, EndpointUnavailable, ForeignObject
from llm_platform.nim.cluster import Cluster, Object
from llm_platform.nim.lifecycle import look, rehearse, take_down
from llm_platform.nim.ownership import UP_ANNOTATION
from llm_platform_tests.nim.conftest import connected
from llm_platform_tests.nim.hands import (
    CLAIM,
    DEPLOYMENT,
    POD,
    SERVICE,
    Hands,
    Steps,
    model_objects,
    raising,
    up,
)
from llm_platform_tests.servers.kubernetes_api import KubernetesApi


def test_a_second_up_that_fails_leaves_what_the_first_has_made(cluster: Cluster, hands: Hands) -> None:
    """Who joins may be interrupted without taking the model from the one who made it."""
    up(cluster, Steps(hands.ready))

    with pytest.raises(EndpointMismatch):
        up(cluster, Steps(), up_id="second", connect=raising(EndpointMismatch("another model")))

    assert hands.has(DEPLOYMENT)
    assert hands.has(SERVICE)


class Racing(Cluster):
    """A cluster in which somebody acts right before each request of one kind."""

    moments: Mapping[str, Callable[[], None]]

    def send(self, method: str, path: str, query: Any = None, **more: Any) -> tuple[int, bytes]:
        for start, act in list(self.moments.items()):
            if f"{method} {path}".startswith(start):
                self.moments = {key: value for key, value in self.moments.items() if key != start}
                act()
        return super().send(method, path, query, **more)


def racing(cluster: Cluster, **moments: Callable[[], None]) -> Racing:
    """The same cluster, with what happens right before a creation (`post`) or a deletion (`delete`)."""
    found = Racing(cluster._api, cluster.namespace)
    starts = {
        "post": "POST /apis/apps/v1/namespaces/models/deployments",
        "patch": "PATCH /apis/apps/v1/namespaces/models/deployments",
        "delete": "DELETE /apis/apps/v1/namespaces/models/deployments",
    }
    found.moments = {starts[key]: act for key, act in moments.items()}
    return found


def test_two_at_the_same_instant_make_one_model(cluster: Cluster, hands: Hands) -> None:
    """Between a look and a creation there is time for another one; the API decides who makes it."""
    others = model_objects()[1]
    others["metadata"]["annotations"] = {UP_ANNOTATION: "the other one"}

    brought = up(racing(cluster, post=lambda: hands.cluster.create(others) and None), Steps(hands.ready))

    assert DEPLOYMENT in [*brought.applied.joined, *brought.applied.changed]
    assert hands.object(DEPLOYMENT)["metadata"]["annotations"][UP_ANNOTATION] == "the other one"


def test_an_object_of_somebody_else_stops_it_before_anything_is_made(cluster: Cluster, hands: Hands) -> None:
    """A chart's model has the same name in the same namespace; it must not notice."""
    foreign = model_objects()[2]
    foreign["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "Helm"}
    made = hands.cluster.create(foreign)

    with pytest.raises(ForeignObject, match=r"Service 'llama' exists in namespace 'models' and is not ours.*'Helm'"):
        up(cluster, Steps())

    assert not hands.has(DEPLOYMENT)
    assert not hands.has(CLAIM)
    assert hands.object(SERVICE)["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


def test_an_object_that_somebody_else_makes_in_the_meantime_is_left_too(cluster: Cluster, hands: Hands) -> None:
    """The look at the start is old by the time that the object would be made."""
    foreign = model_objects()[1]
    foreign["metadata"]["labels"] = {"team": "other"}

    with pytest.raises(ForeignObject, match="Deployment 'llama'"):
        up(racing(cluster, post=lambda: hands.cluster.create(foreign) and None), Steps())

    assert hands.object(DEPLOYMENT)["metadata"]["labels"] == {"team": "other"}
    assert UP_ANNOTATION not in hands.object(DEPLOYMENT)["metadata"].get("annotations", {})


def test_what_models_share_is_used_whoever_has_made_it(cluster: Cluster, hands: Hands) -> None:
    """Two branches in one namespace have one claim, and so has a namespace whose claim came with a chart."""
    claim = model_objects()[0]
    claim["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "Helm"}
    made = hands.cluster.create(claim)

    brought = up(cluster, Steps(hands.ready))
    removed = take_down(cluster, model_objects(), Steps(lambda: hands.delete(POD)), delete_cache=True)

    assert brought.applied.used == [CLAIM]
    assert removed.deleted == [SERVICE, DEPLOYMENT]
    assert hands.object(CLAIM)["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


def test_a_changed_manifest_changes_only_what_it_says(cluster: Cluster, hands: Hands) -> None:
    """A new pin rolls the model; what an autoscaler or a person set beside it stays, and what is gone goes."""
    up(cluster, Steps(hands.ready))
    hands.change(DEPLOYMENT, {"spec": {"minReadySeconds": 7}})
    manifests = model_objects()
    manifests[1]["spec"]["revisionHistoryLimit"] = 2
    container = manifests[1]["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [{"name": "OTHER", "value": "1"}]

    rehearsed = rehearse(cluster, manifests).applied
    before = hands.object(DEPLOYMENT)["spec"]
    brought = up(cluster, Steps(hands.ready), manifests=manifests, up_id="second")

    spec = hands.object(DEPLOYMENT)["spec"]
    assert rehearsed.changed == brought.applied.changed == [DEPLOYMENT]
    assert before.get("revisionHistoryLimit") != 2
    assert (spec["minReadySeconds"], spec["revisionHistoryLimit"]) == (7, 2)
    assert [one["name"] for one in spec["template"]["spec"]["containers"][0]["env"]] == ["OTHER"]


def test_fields_that_others_have_set_are_taken_over_only_when_told(cluster: Cluster, hands: Hands) -> None:
    """Somebody scaled the model by hand; a second `up` must not undo that silently."""
    up(cluster, Steps(hands.ready))
    hands.change(DEPLOYMENT, {"spec": {"replicas": 3}}, manager="kubectl-scale")

    with pytest.raises(ClusterRefused, match=r"conflict with \"kubectl-scale\"(.|\n)*add --force"):
        up(cluster, Steps(), up_id="second")
    kept = hands.object(DEPLOYMENT)["spec"]["replicas"]
    up(cluster, Steps(hands.ready), up_id="third", force=True)

    assert kept == 3
    assert hands.object(DEPLOYMENT)["spec"]["replicas"] == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"labels": {"llm-platform/owner": None}}, "its label llm-platform/owner is None", id="no-label"),
        pytest.param({"labels": {"llm-platform/owner": "other"}}, "is 'other', ours would be", id="other-owner"),
        pytest.param({"annotations": {UP_ANNOTATION: None}}, "no annotation llm-platform/up", id="no-mark"),
    ],
)
def test_down_leaves_what_is_not_ours_any_more(
    cluster: Cluster, hands: Hands, change: dict[str, Any], reason: str
) -> None:
    """Somebody has taken it over; that is respected, and said."""
    up(cluster, Steps(hands.ready))
    hands.change(DEPLOYMENT, {"metadata": change})

    removed = take_down(cluster, model_objects(), Steps())

    assert removed.deleted == [SERVICE]
    assert [ref for ref, _ in removed.left] == [DEPLOYMENT, CLAIM]
    assert reason in removed.left[0][1]
    assert hands.has(DEPLOYMENT)


def recreated(hands: Hands, **metadata: Any) -> None:
    """Delete the deployment, and make another one of the same name."""
    hands.delete(DEPLOYMENT)
    manifest = model_objects()[1]
    manifest["metadata"] |= metadata
    hands.cluster.create(manifest)


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param({"labels": {"team": "other"}}, id="foreign"),
        pytest.param({}, id="with-our-labels-copied"),
        pytest.param({"annotations": {UP_ANNOTATION: "another"}}, id="by-another-up"),
    ],
)
def test_down_leaves_an_object_that_was_made_anew_meanwhile(
    cluster: Cluster, hands: Hands, metadata: dict[str, Any]
) -> None:
    """Same name, another object: between the look and the deletion somebody was quicker."""
    up(cluster, Steps(hands.ready))

    removed = take_down(racing(cluster, delete=lambda: recreated(hands, **metadata)), model_objects(), Steps())

    assert DEPLOYMENT in [ref for ref, _ in removed.left]
    assert hands.has(DEPLOYMENT)


def test_clean_up_leaves_what_another_up_has_made_anew(cluster: Cluster, hands: Hands) -> None:
    """A failed `up` deletes its own object, not the one that a colleague's `up` has made since under the same name."""
    mark = {UP_ANNOTATION: "the other one"}

    with pytest.raises(EndpointMismatch, match="made anew by another `nim up`"):
        up(
            cluster,
            Steps(hands.ready, lambda: recreated(hands, annotations=mark), hands.ready),
            connect=raising_once_recreated(hands),
        )

    assert hands.object(DEPLOYMENT)["metadata"]["annotations"][UP_ANNOTATION] == "the other one"


def raising_once_recreated(hands: Hands) -> Callable[[Sequence[Object]], None]:
    def connect(_: Sequence[Object]) -> None:
        made_by = hands.object(DEPLOYMENT)["metadata"]["annotations"][UP_ANNOTATION]
        raise EndpointUnavailable("not yet") if made_by == "first" else EndpointMismatch("another model")

    return connect


def test_down_deletes_what_up_has_made_and_keeps_caches_unless_asked(cluster: Cluster, hands: Hands) -> None:
    """Weights took an hour to download, and adapters were trained: they outlive the pods."""
    manifests = model_objects()
    cache = model_objects()[0]
    cache["metadata"] |= {"name": "llama-cache", "labels": manifests[1]["metadata"]["labels"]}
    manifests.insert(1, cache)
    up(cluster, Steps(hands.ready), manifests=manifests)

    rehearsed = take_down(cluster, manifests, Steps(), dry_run=True)
    kept = hands.has(DEPLOYMENT)
    removed = take_down(cluster, manifests, Steps(lambda: hands.delete(POD)))
    down = look(cluster, manifests).state
    emptied = take_down(cluster, manifests, Steps(), delete_cache=True)

    assert kept
    assert rehearsed.deleted == removed.deleted == [SERVICE, DEPLOYMENT]
    assert down is None
    assert "nim down --delete-cache" in str(removed)
    assert [ref.name for ref in emptied.deleted] == ["llama-cache"]
    assert [(ref.name, reason) for ref, reason in emptied.left] == [
        ("llm-platform-nim", "it is shared by the models of the namespace")
    ]


class Deaf(Cluster):
    """A cluster that makes services, and whose answer to that is lost."""

    def create(self, manifest: Any, *, dry_run: bool = False) -> Object:
        made = super().create(manifest, dry_run=dry_run)
        if made["kind"] == "Service":
            raise EndpointUnavailable("the answer did not come")
        return made


def test_an_object_whose_creation_was_not_answered_is_taken_back_too(cluster: Cluster, hands: Hands) -> None:
    """A connection that breaks right after the request has made the object all the same; its mark says by whom."""
    with pytest.raises(EndpointUnavailable, match="the answer did not come"):
        up(Deaf(cluster._api, cluster.namespace), Steps())

    assert not hands.has(SERVICE)
    assert not hands.has(DEPLOYMENT)


def test_what_cannot_be_taken_back_is_named(api: KubernetesApi) -> None:
    """A role that may make and not delete: somebody has to know what is left."""
    api.refusals["DELETE"] = (403, "role 'maker' may not")

    with connected(api.url) as cluster:
        hands = Hands(cluster)
        with pytest.raises(EndpointMismatch, match=r"Left: Service 'llama': it could not be deleted: .*may not"):
            up(cluster, Steps(hands.ready), connect=raising(EndpointMismatch("another model")))
