"""Pods as assets: what materializing one does, and that nothing else does it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from llm_platform.defs.nim_pods import JOB
from llm_platform_tests.operations.cluster_team import DIGEST, SERVICE, ClusterTeam, Operator, cluster, kinds
from llm_platform_tests.servers.kubernetes_api import KubernetesApi
from llm_platform_tests.team import ENTRY, NAME

KEY = dg.AssetKey(["models", f"nim_pods_{ENTRY}"])
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture
def operator() -> Operator:
    return Operator()


@pytest.fixture
def api(operator: Operator) -> Iterator[KubernetesApi]:
    with cluster(operator) as running:
        yield running


def materialize(team: ClusterTeam) -> dg.ExecuteInProcessResult:
    job = team.definitions().resolve_implicit_global_asset_job_def()
    return job.execute_in_process(asset_selection=[KEY], run_config=QUIET, raise_on_error=False)


def test_materializing_it_brings_the_model_up_and_reports_what_runs(tmp_path: Path, api: KubernetesApi) -> None:
    """The same effect as `nim up`, with a record of which build came up and how long that took."""
    result = materialize(ClusterTeam(tmp_path, api))

    (event,) = result.asset_materializations_for_node(f"models__nim_pods_{ENTRY}")
    assert event.metadata["endpoint"].value == f"http://{SERVICE}.models:8000"
    assert event.metadata["image_digest"].value == DIGEST
    assert event.metadata["seconds_to_token"].value >= 0
    assert "NIMService" in kinds(api)


def test_another_digest_than_the_pinned_one_fails_the_run_and_takes_the_pods_back(
    tmp_path: Path, api: KubernetesApi, operator: Operator
) -> None:
    """A green asset over a build that nobody has evaluated would be worse than none."""
    operator.digest = f"sha256:{'cd' * 32}"

    result = materialize(ClusterTeam(tmp_path, api))

    assert not result.success
    assert "the lock file pins" in str(result.failure_data_for_node(f"models__nim_pods_{ENTRY}"))
    assert "NIMService" not in kinds(api)


def test_no_everyday_job_starts_or_ends_a_pod(tmp_path: Path, api: KubernetesApi) -> None:
    """Pods are long-lived: runs use them, and an operation of its own owns them."""
    definitions = ClusterTeam(tmp_path, api).definitions()
    application = definitions.resolve_job_def(NAME)
    schedules = {schedule.job_name: schedule.default_status for schedule in definitions.schedules or []}

    assert KEY not in application.asset_layer.executable_asset_keys
    assert schedules[JOB] == dg.DefaultScheduleStatus.STOPPED


def test_the_job_that_scales_to_zero_runs_without_anything_to_do(tmp_path: Path, api: KubernetesApi) -> None:
    """Switched on with the setting unset, it must not fail every five minutes."""
    job = ClusterTeam(tmp_path, api).definitions().resolve_job_def(JOB)

    assert job.execute_in_process(run_config=QUIET).success
    assert api.requests == []
