"""Dagster's pages of a deployment: what viewers may not do, and what nobody may."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster_webserver.app import create_app_from_workspace_process_context
from starlette.testclient import TestClient

from llm_platform.settings.settings import Settings
from llm_platform.workbench.instance import dagster_home
from llm_platform.workbench.webserver import WithoutForging

FORGED = {"check_name": "accuracy_at_least_minimum", "passed": True}
ADDRESSES = [
    "/report_asset_check/reviews/report",
    "/%2Freport_asset_check/reviews/report",
    "/report_asset_materialization/reviews/published",
    "/report_asset_observation/models/llama",
    "/report%5Fasset_check/reviews/report",
]


@pytest.fixture(scope="module", params=[False, True], ids=["launching", "read-only"])
def context(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkspaceProcessContext]:
    tmp_path = tmp_path_factory.mktemp("pages")
    workspace = tmp_path / "workspace.yaml"
    workspace.write_text("load_from: []\n")
    with (
        dg.DagsterInstance.from_config(str(dagster_home(Settings(state=tmp_path, namespace="test")))) as instance,
        WorkspaceProcessContext(
            instance, WorkspaceFileTarget(paths=[str(workspace)]), version="", read_only=request.param
        ) as found,
    ):
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
def test_dagsters_own_server_takes_what_ours_refuses(context: WorkspaceProcessContext) -> None:
    """The day on which Dagster closes it, this fails, and our guard may go."""
    with TestClient(create_app_from_workspace_process_context(context), base_url="http://localhost") as pages:
        taken = pages.post("/report_asset_materialization/reviews/published", json={"data_version": "forged"})

    forged = context.instance.get_latest_materialization_event(dg.AssetKey(["reviews", "published"]))
    assert (taken.status_code == 200) is (forged is not None)
    assert (forged is None) is context.read_only


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_pages_for_viewers_refuse_what_changes_something(context: WorkspaceProcessContext) -> None:
    """A viewer who can wipe an asset's history is an operator."""
    wipe = "mutation { wipeAssets(assetPartitionRanges: []) { __typename } }"

    with TestClient(
        WithoutForging(create_app_from_workspace_process_context(context)), base_url="http://localhost"
    ) as pages:
        answer = pages.post("/graphql", json={"query": wipe}).json()

    assert (answer["data"]["wipeAssets"]["__typename"] == "UnauthorizedError") is context.read_only
