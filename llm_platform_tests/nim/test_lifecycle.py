"""Bringing a model up and down in a cluster: what is waited for, what is said, and what is taken back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from llm_platform.errors import ClusterRefused, EndpointMismatch, EndpointUnavailable, PodsFailed
from llm_platform.nim.cluster import Cluster, Object
from llm_platform.nim.lifecycle import take_down
from llm_platform.nim.ownership import UP_ANNOTATION
from llm_platform_tests.nim.conftest import connected
from llm_platform_tests.nim.hands import (
    CLAIM,
    DEPLOYMENT,
    GPU_MESSAGE,
    IMAGE,
    POD,
    SERVICE,
    Hands,
    Steps,
    model_objects,
    nothing,
    raising,
    up,
)
from llm_platform_tests.nim.real_api import WHY_NOT
from llm_platform_tests.servers.kubernetes_api import KubernetesApi


def waiting_container(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    container = {"name": "nim", "image": IMAGE, "imageID": "", "ready": False, "restartCount": 0, **more}
    container["state"] = {"waiting": {"reason": reason, "message": message}}
    return {"phase": "Pending", "containerStatuses": [container]}


@pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or "")
def test_the_same_holds_on_a_real_api_server(real_api: object) -> None:
    """Every test that takes `cluster` runs on it, too; where there is none, this one says so."""


def test_a_model_comes_up_and_says_on_the_way_how_far_it_is(cluster: Cluster, hands: Hands) -> None:
    """Minutes pass until a model serves; whoever waits wants to know for what."""
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": GPU_MESSAGE}
    waiting = Steps(
        lambda: hands.pod({"phase": "Pending", "conditions": [unschedulable]}),
        lambda: hands.pod(waiting_container("ContainerCreating")),
        hands.ready,
    )

    brought = up(cluster, waiting)

    assert [str(ref) for ref in brought.applied.created] == [
        "PersistentVolumeClaim 'llm-platform-nim'", "Deployment 'llama'", "Service 'llama'",
    ]  # fmt: skip
    assert [pod["metadata"]["name"] for pod in brought.pods] == ["llama-0"]
    assert any(GPU_MESSAGE in line for line in waiting.said), waiting.said
    assert brought.seconds == 3.0


def test_a_second_up_joins_the_first_and_changes_nothing(cluster: Cluster, hands: Hands) -> None:
    """Two people, or a person and an asset, may ask for the same model."""
    up(cluster, Steps(hands.ready))
    before = hands.object(DEPLOYMENT)["metadata"]

    second = up(cluster, Steps(), up_id="second")

    assert not second.applied.created
    assert not second.applied.changed
    assert hands.object(DEPLOYMENT)["metadata"]["uid"] == before["uid"]
    assert hands.object(DEPLOYMENT)["metadata"]["annotations"][UP_ANNOTATION] == "first"


OOM = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
CRASHED = {"terminated": {"reason": "Error", "exitCode": 1}}
TERMINAL = [
    pytest.param(
        waiting_container("ErrImagePull", 'rpc error: "nvcr.io/nim/llama": not found'),
        r"ErrImagePull: rpc error: \"nvcr.io/nim/llama\": not found", id="image-not-there",
    ),
    pytest.param(
        waiting_container("ErrImagePull", "failed to authorize: GET https://auth.nvcr.io/token?account=me&key=x: 401"),
        r"failed to authorize: GET https://auth.nvcr.io/token", id="no-login",
    ),
    pytest.param(waiting_container("InvalidImageName", "bad reference"), "InvalidImageName", id="no-image-name"),
    pytest.param(
        waiting_container("CrashLoopBackOff", "back-off", restartCount=3, lastState=CRASHED),
        r"CrashLoopBackOff: exit status 1, restarted 3 times", id="crash-loop",
    ),
    pytest.param(
        waiting_container("CrashLoopBackOff", "back-off", restartCount=2, lastState=OOM),
        r"CrashLoopBackOff: OOMKilled, restarted 2 times", id="out-of-memory",
    ),
    pytest.param(
        waiting_container("CreateContainerConfigError", 'secret "ngc-api-secret" not found'),
        r"CreateContainerConfigError: secret \"ngc-api-secret\" not found", id="secret-missing",
    ),
    pytest.param(
        {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."},
        r"Evicted: The node was low on resource", id="evicted",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("status", "said"), TERMINAL)
def test_what_cannot_come_up_is_named_and_taken_back(
    cluster: Cluster, hands: Hands, status: dict[str, Any], said: str
) -> None:
    """Waiting for half an hour tells nobody why; the state does, and the GPUs are free again."""
    waiting = Steps(lambda: hands.pod(status), deadline_seconds=1000)

    with pytest.raises(PodsFailed, match=said) as caught:
        up(cluster, waiting)

    assert waiting.seconds < 20
    assert "account=me" not in str(caught.value)
    assert not hands.has(DEPLOYMENT)
    assert not hands.has(SERVICE)
    assert "Left: PersistentVolumeClaim 'llm-platform-nim'" in str(caught.value)
    assert hands.has(CLAIM)


@pytest.mark.parametrize(
    ("act", "said"),
    [
        pytest.param(
            lambda hands: hands.pod(
                {
                    "phase": "Pending",
                    "conditions": [{"type": "PodScheduled", "status": "False", "message": GPU_MESSAGE}],
                }
            ),
            GPU_MESSAGE,
            id="no-gpu",
        ),
        pytest.param(
            lambda hands: (
                hands.pod({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}),
                hands.event("Unhealthy", "Startup probe failed: HTTP probe failed with statuscode: 503", count=12),
            ),
            r"running, not ready; Startup probe failed: HTTP probe failed with statuscode: 503 \(12 times\)",
            id="probe",
        ),
        pytest.param(lambda hands: None, "Deployment 'llama' is yet to be rolled out", id="nobody-makes-pods"),
    ],
)
def test_the_deadline_names_the_last_state(
    cluster: Cluster, hands: Hands, act: Callable[[Hands], None], said: str
) -> None:
    """A GPU may come in a minute or never: only the deadline ends that."""
    with pytest.raises(EndpointUnavailable, match=f"(?s)not up after 10 s. Last state: .*{said}"):
        up(cluster, Steps(lambda: act(hands), deadline_seconds=10))

    assert not hands.has(DEPLOYMENT)


def test_a_quota_is_named(cluster: Cluster, hands: Hands) -> None:
    """Without a pod there is no pod to ask."""
    quota = 'pods "llama-6d4" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=4, used: 6'
    refused = {"type": "ReplicaFailure", "status": "True", "message": quota}

    with pytest.raises(PodsFailed, match="exceeded quota: gpus, requested"):
        up(cluster, Steps(lambda: hands.status(DEPLOYMENT, {"conditions": [refused]})))


def test_a_model_that_somebody_deletes_meanwhile_is_not_waited_for(cluster: Cluster, hands: Hands) -> None:
    """It cannot come up any more; the deadline would be half an hour away."""
    with pytest.raises(PodsFailed, match="Deployment 'llama' is not there any more"):
        up(cluster, Steps(lambda: hands.delete(DEPLOYMENT), deadline_seconds=1000))


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        pytest.param(EndpointMismatch("it serves 'gpt'"), EndpointMismatch, id="another-model"),
        pytest.param(EndpointUnavailable("it generates nothing"), EndpointUnavailable, id="dead-engine"),
        pytest.param(KeyboardInterrupt(), KeyboardInterrupt, id="interrupted"),
    ],
)
def test_a_model_that_does_not_answer_is_taken_back(
    cluster: Cluster, hands: Hands, error: BaseException, raised: type[BaseException]
) -> None:
    """Pods that are ready and no use keep GPUs; whoever presses Ctrl-C must not have to clean up by hand."""
    with pytest.raises(raised):
        up(cluster, Steps(hands.ready), connect=raising(error))

    assert not hands.has(DEPLOYMENT)
    assert not hands.has(SERVICE)
    assert hands.has(CLAIM)


def test_an_endpoint_is_asked_again_until_it_generates(cluster: Cluster, hands: Hands) -> None:
    """Ready pods take a moment until the service knows them."""
    tries = iter([EndpointUnavailable("no endpoints"), EndpointUnavailable("no endpoints"), None])

    def connect(_: Sequence[Object]) -> None:
        if (error := next(tries)) is not None:
            raise error

    assert up(cluster, Steps(hands.ready), connect=connect).seconds == 3.0


def test_pods_of_before_do_not_count(cluster: Cluster, hands: Hands) -> None:
    """While a new pin is rolled out, the old pods are ready, and are the wrong ones."""
    up(cluster, Steps(hands.ready))
    manifests = model_objects()
    new = f"sha256:{'cd' * 32}"
    manifests[1]["spec"]["template"]["spec"]["containers"][0]["image"] = f"nvcr.io/nim/llama:2.1.6@{new}"
    waiting = Steps(hands.ready, nothing, deadline_seconds=6)

    with pytest.raises(EndpointUnavailable, match="still runs the image of before"):
        up(cluster, waiting, manifests=manifests, image_digest=new, up_id="second")

    assert hands.has(DEPLOYMENT)


def test_down_waits_until_the_gpus_are_free(cluster: Cluster, hands: Hands) -> None:
    """The next model needs them; an object that is gone has pods that are still ending."""
    up(cluster, Steps(hands.ready))
    waiting = Steps(nothing, lambda: hands.delete(POD))

    take_down(cluster, model_objects(), waiting)

    assert waiting.said[0].startswith("1 pods are still ending")
    assert waiting.seconds == 2.0


def test_an_up_right_after_a_down_waits_for_it(cluster: Cluster, hands: Hands) -> None:
    """An object that is being deleted takes no changes any more."""
    up(cluster, Steps(hands.ready))
    hands.change(DEPLOYMENT, {"metadata": {"finalizers": ["example.org/wait"]}})
    hands.delete(DEPLOYMENT)
    waiting = Steps(lambda: hands.change(DEPLOYMENT, {"metadata": {"finalizers": None}}), hands.ready)

    brought = up(cluster, waiting, up_id="second")

    assert brought.applied.created == [DEPLOYMENT]
    assert waiting.said[0].startswith("the Deployment 'llama' of before is still being deleted")


@pytest.mark.parametrize("kept", [True, False])
def test_the_log_of_a_crash_is_named_and_kept_without_secrets(
    api: KubernetesApi, tmp_path: Path, *, kept: bool
) -> None:
    """Why an engine does not start stands in its log, and a log may hold keys, and prompts."""
    api.logs["llama-0", True] = "NGC_API_KEY=nvapi-abcdefgh12345678\n\n\x1b[31mCUDA out of memory while Mueller"
    status = waiting_container("CrashLoopBackOff", restartCount=3, lastState=CRASHED)
    log_file = tmp_path / "logs" / "pod.log"

    with connected(api.url) as cluster, pytest.raises(PodsFailed) as caught:
        up(cluster, Steps(lambda: Hands(cluster).pod(status)), log_file=log_file if kept else None)

    assert "Mueller" not in str(caught.value)
    if kept:
        assert f"The end of its log is in {str(log_file)!r}." in str(caught.value)
        assert log_file.read_text(encoding="utf-8") == "NGC_API_KEY=(secret)\nCUDA out of memory while Mueller\n"
        assert log_file.stat().st_mode & 0o077 == 0
    else:
        assert "kubectl --namespace models logs llama-0 --container" in str(caught.value)


@pytest.mark.parametrize(
    "step", ["GET", "POST /api/v1/namespaces/models/services", "GET /api/v1/namespaces/models/pods"]
)
def test_a_failure_at_any_step_is_taken_back(api: KubernetesApi, step: str) -> None:
    """The role may read and not write, or write and not list pods: what was made before is deleted."""
    api.refusals[step] = (403, "role 'reader' may not")

    with connected(api.url) as cluster, pytest.raises(ClusterRefused, match="role 'reader' may not"):
        up(cluster, Steps())

    assert [key[1] for key in api.objects] in ([], ["persistentvolumeclaims"])


def test_an_api_that_is_away_for_a_moment_ends_nothing(api: KubernetesApi) -> None:
    """A control plane is upgraded while a model loads for twenty minutes."""
    with connected(api.url) as cluster:
        hands = Hands(cluster)
        away = {"GET /api/v1/namespaces/models/pods": (503, "the server is currently unable to handle the request")}
        waiting = Steps(lambda: api.refusals.update(away), nothing, api.refusals.clear, hands.ready)

        up(cluster, waiting)

    assert any("HTTP 503" in line for line in waiting.said)


def test_a_kind_that_the_cluster_does_not_have_is_named() -> None:
    """Without the operator there is no NIMService, and no error of the API says so plainly."""
    manifest = {**model_objects()[1], "apiVersion": "apps.nvidia.com/v1alpha1", "kind": "NIMService"}

    with (
        KubernetesApi(missing=frozenset({"NIMService", "NIMCache"})) as api,
        connected(api.url) as cluster,
        pytest.raises(ClusterRefused, match=r"no kind 'NIMService' of apps\.nvidia\.com/v1alpha1\. Install"),
    ):
        up(cluster, Steps(), manifests=[manifest])
