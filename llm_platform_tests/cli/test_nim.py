"""Bringing models up and down at a terminal."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_platform_tests.operations.cluster_team import SERVICE, ClusterTeam, Operator, cluster, end_pods, kinds
from llm_platform_tests.servers.kubernetes_api import KubernetesApi
from llm_platform_tests.survival.command import Running, Terminal
from llm_platform_tests.team import ENTRY

LOADING = {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}
CACHES = ["NIMCache", "PersistentVolumeClaim"]


@pytest.fixture
def operator() -> Operator:
    return Operator()


@pytest.fixture
def api(operator: Operator) -> Iterator[KubernetesApi]:
    with cluster(operator) as running:
        yield running


@pytest.fixture
def terminal(tmp_path: Path, api: KubernetesApi) -> Terminal:
    team = ClusterTeam(tmp_path, api)
    return Terminal(team, **team.variables)


def test_a_model_in_a_cluster_goes_up_and_down(terminal: Terminal, api: KubernetesApi) -> None:
    """The whole of it at a terminal, in the words that people read."""
    rehearsed = terminal.run("nim", "up", ENTRY, "--dry-run")
    up = terminal.run("nim", "up", ENTRY)
    status = terminal.run("nim", "status", ENTRY)
    end_pods(api)
    down = terminal.run("nim", "down", ENTRY)

    assert rehearsed.out.startswith(f"{ENTRY}: would be made: PersistentVolumeClaim"), rehearsed.said
    assert f"{ENTRY}: up at http://{SERVICE}.models:8000" in up.out, up.said
    assert f"pod {SERVICE}-0: ready" in status.out
    assert f"Deleted: NIMService '{SERVICE}'" in down.out
    assert "`nim down --delete-cache` deletes it" in down.out
    assert kinds(api) == CACHES


def wait_until_asked(api: KubernetesApi, run: Running) -> None:
    """Until the command has looked at pods."""
    while not any(request.endswith("/pods") for request in api.requests):
        assert run.is_alive, run.finished().said
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "terminated"])
def test_an_interrupted_up_takes_back_what_it_made(
    terminal: Terminal, api: KubernetesApi, operator: Operator, number: int
) -> None:
    """GPUs of a model that nobody waits for any more are gone until somebody notices the bill."""
    operator.pod = LOADING
    run = terminal.start("nim", "up", ENTRY)
    wait_until_asked(api, run)

    run.signal(number)
    finished = run.finished()

    assert finished.status != 0
    assert kinds(api) == CACHES
    assert f"Deleted: NIMService '{SERVICE}'" in finished.out
    assert "Traceback" not in finished.said


def test_two_ups_at_once_make_one_model(terminal: Terminal, api: KubernetesApi) -> None:
    """Whoever comes second waits for the same pods."""
    runs = [terminal.start("nim", "up", ENTRY) for _ in range(2)]

    finished = [run.finished() for run in runs]

    assert [one.status for one in finished] == [0, 0], [one.said for one in finished]
    assert sum(request.startswith("POST") and request.endswith("/nimservices") for request in api.requests) in (1, 2)
    assert kinds(api).count("NIMService") == 1


def test_a_model_that_does_not_come_up_is_an_error_in_words(
    terminal: Terminal, api: KubernetesApi, operator: Operator
) -> None:
    """The state, the account of what was taken back, and no traceback."""
    operator.pod = LOADING

    finished = terminal.run("nim", "up", ENTRY, "--deadline-minutes", "0.001")

    assert finished.failed_plainly, finished.said
    assert f"Last state: pod {SERVICE}-0: running, not ready" in finished.err
    assert "What this attempt had done: Deleted: NIMService" in finished.err


def test_the_embedded_model_has_the_same_commands(terminal: Terminal) -> None:
    """One way to ask, wherever a model runs."""
    status = terminal.run("nim", "status", "smollm2-135m")
    down = terminal.run("nim", "down", "smollm2-135m")

    assert "not running; it starts on use" in status.out
    assert down.out.strip() == "smollm2-135m: was not running"
