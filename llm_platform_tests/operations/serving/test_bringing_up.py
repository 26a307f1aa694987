"""A model of the lock file brought up in a cluster and taken down, as the command and the asset do it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_platform.errors import EndpointMismatch, EndpointUnavailable, PodsFailed, SpecificationError
from llm_platform.operations.serving.bringing_up import bring_model_up, rehearse_up, take_model_down
from llm_platform.operations.serving.endpoints import base_urls
from llm_platform.operations.serving.model_states import model_states
from llm_platform.resources.handed import local_nim, serving_of
from llm_platform_tests.operations.cluster_team import (
    DIGEST,
    REPOSITORY,
    SERVICE,
    ClusterTeam,
    Operator,
    cluster,
    end_pods,
    kinds,
)
from llm_platform_tests.servers.kubernetes_api import KubernetesApi

ALL = ["NIMCache", "NIMService", "NetworkPolicy", "PersistentVolumeClaim", "Service"]


@pytest.fixture
def operator() -> Operator:
    return Operator()


@pytest.fixture
def api(operator: Operator) -> Iterator[KubernetesApi]:
    with cluster(operator) as running:
        yield running


@pytest.fixture
def team(tmp_path: Path, api: KubernetesApi) -> ClusterTeam:
    return ClusterTeam(tmp_path, api)


def quiet(_: str) -> None:
    """Nobody listens."""


def no_sleep(_: float) -> None:
    """The operator has done everything already."""


def test_up_serves_what_is_pinned_and_says_so(team: ClusterTeam, api: KubernetesApi) -> None:
    """From a laptop, through a forwarded port: objects made, pods ready, one real token, the pinned digest."""
    said: list[str] = []

    up = bring_model_up(team.entry, serving_of(team.settings), report=said.append, sleep=no_sleep)

    assert up.image_digest == DIGEST
    assert up.endpoint == f"http://{SERVICE}.models:8000"
    assert up.done.startswith("made: PersistentVolumeClaim 'llm-platform-nim'")
    assert kinds(api) == ALL
    assert said == [f"cluster {api.url}, namespace models"]
    assert any(request.endswith("/portforward") for request in api.requests)


def test_pods_of_another_digest_are_refused_and_taken_back(
    team: ClusterTeam, api: KubernetesApi, operator: Operator
) -> None:
    """A mirror that rewrites images would serve what nobody has evaluated; HTTP does not tell."""
    operator.digest = f"sha256:{'cd' * 32}"

    with pytest.raises(EndpointMismatch, match=f"run {REPOSITORY}@sha256:cdcd.*lock file pins {DIGEST}"):
        bring_model_up(team.entry, serving_of(team.settings), report=quiet, sleep=no_sleep)

    assert kinds(api) == ["NIMCache", "PersistentVolumeClaim"]


def test_an_endpoint_that_is_another_model_is_taken_back(team: ClusterTeam, api: KubernetesApi) -> None:
    """Ready pods prove nothing about what they answer."""
    team.lock["context_length"] = 8192
    team.write_lock()

    with pytest.raises(EndpointMismatch, match="context length is 4096, locked 8192"):
        bring_model_up(team.entry, serving_of(team.settings), report=quiet, sleep=no_sleep)

    assert kinds(api) == ["NIMCache", "PersistentVolumeClaim"]


def test_a_pod_that_does_not_answer_is_waited_for_until_the_deadline(team: ClusterTeam, api: KubernetesApi) -> None:
    """A pod may be ready by its probe and refuse connections; that is waited for, and then told."""
    api.endpoints.clear()

    with pytest.raises(EndpointUnavailable, match=r"the pod does not answer .connection refused"):
        bring_model_up(team.entry, serving_of(team.settings), report=quiet, deadline_minutes=0.001, sleep=no_sleep)

    assert kinds(api) == ["NIMCache", "PersistentVolumeClaim"]


def test_the_log_of_a_crash_is_kept_in_a_file_and_not_quoted(
    team: ClusterTeam, api: KubernetesApi, operator: Operator
) -> None:
    """The pod is deleted, so its log would be lost; in an error it would go wherever errors go."""
    ended = {"terminated": {"reason": "Error", "exitCode": 1}}
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    container = {"name": "nim", "ready": False, "restartCount": 4, "state": waiting, "lastState": ended}
    operator.pod = {"phase": "Running", "containerStatuses": [container]}
    api.logs[f"{SERVICE}-0", True] = "no profile fits this GPU"

    with pytest.raises(PodsFailed, match=r"(?s)restarted 4 times.*log is in.*pod\.log.*Deleted: NIMService") as caught:
        bring_model_up(team.entry, serving_of(team.settings), report=quiet, sleep=no_sleep)

    (log,) = team.settings.state.rglob("pod.log")
    assert log.read_text(encoding="utf-8") == "no profile fits this GPU\n"
    assert "no profile" not in str(caught.value)


def test_a_rehearsal_changes_nothing(team: ClusterTeam, api: KubernetesApi) -> None:
    """Reviewers and CI want to know what would happen."""
    said = rehearse_up(team.entry, serving_of(team.settings))

    assert said.startswith("would be made: PersistentVolumeClaim")
    assert kinds(api) == []


def test_down_takes_the_model_and_leaves_what_is_shared(team: ClusterTeam, api: KubernetesApi) -> None:
    """Weights stay unless asked; a foreign object stays always."""
    bring_model_up(team.entry, serving_of(team.settings), report=quiet, sleep=no_sleep)
    policy = api.objects["networking.k8s.io/v1", "networkpolicies", "models", SERVICE]
    del policy["metadata"]["labels"]["llm-platform/owner"]

    said = take_model_down(team.entry, serving_of(team.settings), report=quiet, sleep=lambda _: end_pods(api))
    kept = kinds(api)
    end_pods(api)
    emptied = take_model_down(team.entry, serving_of(team.settings), report=quiet, delete_cache=True)

    assert said.startswith(f"Deleted: NIMService '{SERVICE}'")
    assert f"Left: NetworkPolicy '{SERVICE}': its label llm-platform/owner is None" in said
    assert kept == ["NIMCache", "NetworkPolicy", "PersistentVolumeClaim"]
    assert "Deleted: NIMCache" in emptied
    assert kinds(api) == ["NetworkPolicy", "PersistentVolumeClaim"]


def test_status_tells_how_every_model_is(team: ClusterTeam, api: KubernetesApi) -> None:
    """Up, down, or not to be looked at: one line each, and looking starts nothing."""
    before = {one.state for one in model_states([team.entry], serving_of(team.settings))}
    bring_model_up(team.entry, serving_of(team.settings), report=quiet, sleep=no_sleep)
    after = [one.state for one in model_states([team.entry], serving_of(team.settings))]
    nowhere = team.settings.model_copy(update={"nim_kubeconfig": team.root / "nothing"})
    lost = [one.state for one in model_states([team.entry], serving_of(nowhere))]

    assert before == {"down; bring it up with: llm-platform nim up scripted"}
    assert f"pod {SERVICE}-0: ready" in after
    assert lost[0].startswith("No Kubernetes cluster is configured")


def test_status_of_what_somebody_else_runs_is_its_health(team: ClusterTeam, api: KubernetesApi) -> None:
    """An endpoint that answers, and one that does not."""
    port = api.endpoints[f"{SERVICE}-0"]
    urls = (f"http://127.0.0.1:{port}", "http://127.0.0.1:9")
    external = team.entry.model_copy(update={"mode": "external", "base_urls": urls})

    well, ill = model_states([external], serving_of(team.settings))

    assert (well.where, well.state) == (urls[0], "ready")
    assert (ill.where, "Is the endpoint running" in ill.state) == (urls[1], True)


def test_a_run_that_finds_a_model_down_says_how_to_bring_it_up(team: ClusterTeam) -> None:
    """A resource starts no pod; what it says must not need a search."""
    with pytest.raises(EndpointUnavailable, match=r"Model 'scripted' is not up: .*llm-platform nim up scripted"):
        base_urls(team.entry, local_nim(team.settings), cluster_namespace="nowhere.invalid")


def test_what_somebody_else_runs_is_not_brought_up(team: ClusterTeam) -> None:
    """An external endpoint has an owner; the message names both ways out."""
    external = team.entry.model_copy(update={"mode": "external", "base_urls": ("http://127.0.0.1:9",)})

    with pytest.raises(SpecificationError, match=r"somebody else runs it\. To run it on this machine, add --local"):
        bring_model_up(external, serving_of(team.settings), report=quiet)
