"""What objects say about a model, in words: each state that people have met, and what must not be repeated."""

from __future__ import annotations

from typing import Any

import pytest

from llm_platform.nim.plain_words import plain
from llm_platform.nim.pod_states import ClusterState, Phase, state_of


def pod(status: dict[str, Any], *, job: bool = False) -> dict[str, Any]:
    owners = [{"kind": "Job" if job else "ReplicaSet", "name": "owner"}]
    return {"metadata": {"name": "llama-0", "uid": "1", "ownerReferences": owners}, "spec": {}, "status": status}


def event(reason: str, message: str, *, kind: str = "Warning") -> dict[str, Any]:
    about = {"name": "llama-0", "uid": "1"}
    return {"involvedObject": about, "type": kind, "reason": reason, "message": message}


def operator(kind: str, state: str, message: str = "", *, condition: str = "NIM_SERVICE_FAILED") -> dict[str, Any]:
    conditions = [{"type": condition, "status": "True", "message": message}]
    return {"kind": kind, "metadata": {"name": "llama"}, "status": {"state": state, "conditions": conditions}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    container = {"name": "nim", "state": {"waiting": {"reason": reason, "message": message}}, "restartCount": 0}
    return {"phase": "Pending", "containerStatuses": [container]}


READY = operator("NIMService", "Ready")
SCALED = {"kind": "Deployment", "metadata": {"name": "llama"}, "spec": {"replicas": 0}}
SERVING = pod({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})


@pytest.mark.parametrize(
    ("evidence", "phase", "said"),
    [
        pytest.param(ClusterState({"a": READY}, pods=[SERVING]), Phase.READY, "pod llama-0: ready", id="ready"),
        pytest.param(
            ClusterState({"a": operator("NIMService", "Failed", "no GPU driver")}),
            Phase.STUCK,
            "NIMService 'llama': Failed: no GPU driver",
            id="the-operator-gave-up",
        ),
        pytest.param(
            ClusterState({"a": operator("NIMCache", "Failed", "401", condition="NIM_CACHE_FAILED"), "b": READY}),
            Phase.STUCK,
            "NIMCache 'llama': Failed: 401",
            id="the-download-failed",
        ),
        pytest.param(
            ClusterState({"a": {"kind": "NIMService", "metadata": {"name": "llama"}}}),
            Phase.WAITING,
            "NIMService 'llama': no state yet",
            id="no-operator-looks",
        ),
        pytest.param(ClusterState({"NIMService 'llama'": None}), Phase.FAILED, "somebody has deleted it", id="deleted"),
        pytest.param(
            ClusterState({"a": READY}, rollouts=[SCALED]), Phase.WAITING, "scaled to zero; its autoscaler", id="zero"
        ),
        pytest.param(
            ClusterState(
                {"a": operator("NIMService", "NotReady", "Deployment not ready", condition="NIM_SERVICE_READY")},
                pods=[pod({"phase": "Succeeded"}, job=True)],
            ),
            Phase.WAITING,
            "NIMService 'llama': NotReady: Deployment not ready",
            id="downloaded-and-not-started",
        ),
        pytest.param(
            ClusterState(
                {"a": READY},
                pods=[pod(waiting("ImagePullBackOff", "Back-off pulling image"))],
                events=[event("Failed", 'Failed to pull image "nvcr.io/x": 403 Forbidden')],
            ),
            Phase.FAILED,
            'ImagePullBackOff: Failed to pull image "nvcr.io/x": 403 Forbidden',
            id="the-event-has-the-registrys-words",
        ),
        pytest.param(
            ClusterState(
                {"a": operator("NIMCache", "Ready"), "b": READY}, pods=[pod({"phase": "Failed"}, job=True), SERVING]
            ),
            Phase.READY,
            "pod llama-0: ready",
            id="a-download-that-failed-once",
        ),
        pytest.param(
            ClusterState({"a": READY}, pods=[pod(waiting("ErrImagePull", "dial tcp: i/o timeout"))]),
            Phase.STUCK,
            "ErrImagePull: dial tcp: i/o timeout",
            id="a-registry-that-may-come-back",
        ),
        pytest.param(
            ClusterState(
                {"a": READY},
                pods=[pod(waiting("ContainerCreating"))],
                events=[event("FailedMount", "Unable to attach or mount volumes: unmounted volumes=[model-store]")],
            ),
            Phase.WAITING,
            "FailedMount: Unable to attach or mount volumes",
            id="a-volume-does-not-come",
        ),
        pytest.param(
            ClusterState(
                {"a": READY},
                pods=[pod(waiting("ContainerCreating"))],
                events=[event("Pulling", 'Pulling image "nvcr.io/x"', kind="Normal")],
            ),
            Phase.WAITING,
            'Pending: Pulling image "nvcr.io/x"',
            id="a-large-image",
        ),
        pytest.param(
            ClusterState({"a": READY}, pods=[{**SERVING, "metadata": {"name": "old", "deletionTimestamp": "now"}}]),
            Phase.WAITING,
            "no pod was made yet",
            id="only-pods-that-end",
        ),
    ],
)
def test_a_state_names_its_cause_and_whether_waiting_helps(evidence: ClusterState, phase: Phase, said: str) -> None:
    """Half an hour of "not ready" is what people are to be spared."""
    state = state_of(evidence)

    assert (state.phase, said in state.text) == (phase, True), state


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("GET https://r.io/token?account=me&service=x: 401", "GET https://r.io/token 401", id="query"),
        pytest.param("https://me:hunter2@r.io/v2", "https://r.io/v2", id="user"),
        pytest.param("key nvapi-0123456789abcdef given", "key (secret) given", id="key-of-a-registry"),
        pytest.param("Authorization: Bearer abc.def.ghijk", "Authorization: Bearer (secret)", id="bearer"),
        pytest.param('{"password": "hunter2", "n": 1}', '{"password": "(secret)", "n": 1}', id="json"),
        pytest.param("NGC_API_KEY=abcdef next", "NGC_API_KEY=(secret) next", id="variable"),
        pytest.param("\x1b[31mred\x1b[0m\n  two", "red two", id="colours-and-lines"),
        pytest.param("x" * 1000, "x" * 399 + "…", id="long"),
        pytest.param("tokens: 4096 of max_tokens", "tokens: 4096 of max_tokens", id="tokens-of-a-model"),
    ],
)
def test_messages_of_others_are_repeated_without_secrets(text: str, expected: str) -> None:
    """Registries put credentials into the addresses that they complain about, and engines print their environment."""
    assert plain(text) == expected
