"""Dagster's pages of a deployment: what viewers may not do, and what nobody may."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster_webserver.app import create_app_from_workspace_process_context
from starlette.testclient import TestClient

from llm_platform.settings.settings import Settings
from llm_platform.workbench.instance import dagster_home
from llm_platform.workbench.webserver import EvidenceOfRuns, WithoutForging

FORGED = {"check_name": "accuracy_at_least_minimum", "passed": True}
ADDRESSES = [
    "/report_asset_check/reviews/report",
    "/%2Freport_asset_check/reviews/report",
    "/report_asset_materialization/reviews/published",
    "/report_asset_observation/models/llama",
    "/report%5Fasset_check/reviews/report",
]


@contextmanager
def opened(
    folder: Path, *, kind: type[WorkspaceProcessContext], read_only: bool = False
) -> Iterator[WorkspaceProcessContext]:
    """Pages over a history without runs."""
    workspace = folder / "workspace.yaml"
    workspace.write_text("load_from: []\n")
    with (
        dg.DagsterInstance.from_config(str(dagster_home(Settings(state=folder, namespace="test")))) as instance,
        kind(instance, WorkspaceFileTarget(paths=[str(workspace)]), version="", read_only=read_only) as found,
    ):
        yield found


@pytest.fixture(scope="module", params=[False, True], ids=["launching", "read-only"])
def context(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkspaceProcessContext]:
    with opened(tmp_path_factory.mktemp("pages"), kind=EvidenceOfRuns, read_only=request.param) as found:
        yield found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("address", ADDRESSES)
def test_nobody_reports_a_check_as_passed_by_a_request(context: WorkspaceProcessContext, address: str) -> None:
    """Dagster's server takes such a request from anybody, and a gate is green."""
    bare = create_app_from_workspace_process_context(context)

    with TestClient(WithoutForging(bare), base_url="http://localhost") as pages:
        refused = pages.post(address, json=FORGED)
        assert refused.status_code == 403
        assert "Evidence comes from runs" in refused.text
        assert pages.get("/server_info").status_code == 200
    assert not context.instance.get_latest_materialization_event(dg.AssetKey(["reviews", "published"]))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", [WorkspaceProcessContext, EvidenceOfRuns])
def test_dagsters_own_server_takes_what_ours_refuses(kind: type[WorkspaceProcessContext], tmp_path: Path) -> None:
    """The day on which Dagster closes it, this fails, and our guards may go; each of both refuses by itself."""
    with opened(tmp_path, kind=kind) as bare:
        with TestClient(create_app_from_workspace_process_context(bare), base_url="http://localhost") as pages:
            taken = pages.post("/report_asset_materialization/reviews/published", json={"data_version": "forged"})
        forged = bare.instance.get_latest_materialization_event(dg.AssetKey(["reviews", "published"]))

    assert (taken.status_code == 200) is (forged is not None)
    assert (forged is None) is (kind is EvidenceOfRuns)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_pages_for_viewers_refuse_what_changes_something(context: WorkspaceProcessContext) -> None:
    """A viewer who can wipe an asset's history is an operator."""
    wipe = "mutation { wipeAssets(assetPartitionRanges: []) { __typename } }"

    with TestClient(
        WithoutForging(create_app_from_workspace_process_context(context)), base_url="http://localhost"
    ) as pages:
        answer = pages.post("/graphql", json={"query": wipe}).json()

    assert (answer["data"]["wipeAssets"]["__typename"] == "UnauthorizedError") is context.read_only


ASSET = 'assetKey: {path: ["reviews", "report"]}'
REPORTS = [
    f'reportAssetCheckEvaluations(eventParams: {{{ASSET}, checkName: "accurate", passed: true}})',
    f"reportRunlessAssetEvents(eventParams: {{{ASSET}, eventType: ASSET_MATERIALIZATION}})",
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("report", REPORTS, ids=["check", "materialization"])
def test_whoever_may_launch_runs_reports_nothing_in_their_place(context: WorkspaceProcessContext, report: str) -> None:
    """The same door once more: GraphQL reports what the closed addresses would have."""
    with TestClient(
        WithoutForging(create_app_from_workspace_process_context(context)), base_url="http://localhost"
    ) as pages:
        answer = pages.post("/graphql", json={"query": f"mutation {{ report: {report} {{ __typename }} }}"}).json()
        rights = pages.post("/graphql", json={"query": "{ permissions { permission value } }"}).json()["data"]

    assert answer["data"]["report"]["__typename"] == "UnauthorizedError"
    may = {one["permission"]: one["value"] for one in rights["permissions"]}
    assert may["launch_pipeline_execution"] is not context.read_only
    assert may["report_runless_asset_events"] is False
