"""Assets that read the published table: stale when its rows are others, loud when the contract does not carry them."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from llm_platform.application.load import load_application
from llm_platform.contracts.shape import contract_of
from llm_platform.errors import ContractBroken
from llm_platform.operations.release.reading import query_published
from llm_platform.settings.settings import PACKAGE_FOLDER
from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.defs.conftest import QUIET, Ran
from llm_platform_tests.team import NAME, Team
from llm_platform_tests.warehouse.builders import RELEASE_ID, answer_all, fill
from llm_platform_tests.warehouse.conftest import sqlite_location

READER = dg.AssetKey([NAME, "moods"])
PUBLISHED = dg.AssetKey([NAME, "published"])
CODE = """
import dagster as dg

from llm_platform.defs.failures import dagster_failures
from llm_platform.resources.warehouse import WarehouseResource


def assets(published):
    @dg.asset(key=published.key("moods"), deps=[published.asset])
    def moods(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:
        with dagster_failures(context):
            rows = published.query(warehouse, "moods.sql")
            published.write("moods", rows)
        return dg.MaterializeResult(data_version=published.version(rows), metadata={"rows": rows.to_pylist()})

    return [moods]
"""


def with_reader(team: Team, sql: str, **publish: object) -> Team:
    """The team with an asset of its own."""
    (team.folder / "moods.py").write_text(CODE, encoding="utf-8")
    (team.folder / "moods.sql").write_text(sql, encoding="utf-8")
    team.specification["publish"] = {"assets": ["moods:assets"], **publish}
    team.write_specification()
    return team


def read(ran: Ran) -> dg.ExecuteInProcessResult:
    """The reader, and nothing else."""
    job = ran.team.definitions().resolve_job_def(NAME)
    return job.execute_in_process(
        instance=ran.instance, asset_selection=[READER], raise_on_error=False, run_config=QUIET
    )


def is_stale(ran: Ran) -> bool:
    graph = ran.team.definitions().resolve_asset_graph()
    context = LoadingContextForTest(ran.instance)
    return CachingStaleStatusResolver(ran.instance, graph, context).get_status(READER) is StaleStatus.STALE


def test_a_reader_is_stale_when_the_published_rows_are_others(ran_twice: Ran) -> None:
    """A promotion that answers the same, or a second run, makes nobody downstream do anything again."""
    with_reader(ran_twice.team, "SELECT answer, count(*) AS n FROM published_v1 GROUP BY 1 ORDER BY 1")

    result = read(ran_twice)
    before = is_stale(ran_twice)
    version = ran_twice.instance.get_latest_materialization_event(PUBLISHED)
    assert version is not None
    assert version.asset_materialization is not None
    tags = dict(version.asset_materialization.tags or {})
    same = dg.AssetMaterialization(PUBLISHED, tags={"dagster/data_version": tags["dagster/data_version"]})
    ran_twice.instance.report_runless_asset_event(same)
    still = is_stale(ran_twice)
    ran_twice.instance.report_runless_asset_event(
        dg.AssetMaterialization(PUBLISHED, tags={"dagster/data_version": "x"})
    )

    assert result.success
    (made,) = result.asset_materializations_for_node(f"{NAME}__moods")
    assert made.metadata["rows"].value == [{"answer": "HAPPY", "n": 30}, {"answer": "SAD", "n": 30}]
    assert (before, still, is_stale(ran_twice)) == (False, False, True)
    assert (ran_twice.team.settings.cards_folder / NAME / "moods.parquet").is_file()


def test_a_reader_fails_with_the_column_that_the_contract_does_not_have(ran_once: Ran) -> None:
    """A summary of yesterday's columns would be wrong in silence."""
    with_reader(ran_once.team, "SELECT mood FROM published_v1")

    result = read(ran_once)

    assert not result.success
    event = result.failure_data_for_node(f"{NAME}__moods")
    assert event is not None
    assert event.user_failure_data is not None
    said = str(event.user_failure_data.description)
    assert "moods (moods.sql) breaks on published_v1.mood: there is no such column" in said


def test_the_shipped_example_reads_what_the_shipped_contract_has(tmp_path: Path) -> None:
    """Its query is a named consumer, so a change of the file that breaks it is found before anybody runs it."""
    folder = PACKAGE_FOLDER / "applications" / "movie_reviews"
    application = load_application(folder)
    sql = (folder / "daily_summary.sql").read_text(encoding="utf-8")
    with Warehouse.attach(sqlite_location(tmp_path)) as lake:
        store = lake.application("movie_reviews")
        fill(lake, "abc", application="movie_reviews")
        answer_all(lake, application="movie_reviews")
        store.published.publish(RELEASE_ID, [contract_of(application)], variant="sentiment")

        days = query_published(store, application, consumer="daily_summary", name="daily_summary.sql", sql=sql)
        other = application.publish.model_copy(update={"contract": 2, "beside": beside("2026-01-01")})
        retired = application.model_copy(update={"publish": other})
        with pytest.raises(ContractBroken) as raised:
            query_published(store, retired, consumer="daily_summary", name="daily_summary.sql", sql=sql)

    assert days.to_pylist()[0].items() >= {"reviews": 3, "happy": 3, "happy_share": 1.0, "without_an_answer": 0}.items()
    assert "daily_summary (daily_summary.sql) breaks on published_v1: its day has come, it is retired" in str(
        raised.value
    )


def beside(day: str) -> dict[str, object]:
    from datetime import date

    from llm_platform.application.publish import ContractBeside

    return {"1": ContractBeside(retired=date.fromisoformat(day))}


def test_what_is_no_list_of_assets_says_so(team: Team) -> None:
    """The application is told by name, and the others are there."""
    with_reader(team, "SELECT 1")
    (team.folder / "moods.py").write_text("def assets(published):\n    return 3\n", encoding="utf-8")

    graph = team.definitions().resolve_asset_graph()

    assert READER not in graph.get_all_asset_keys()
    assert dg.AssetKey(["movie_reviews", "daily_summary"]) in graph.get_all_asset_keys()
