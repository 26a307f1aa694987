"""The published asset fills every table, writes copies and contracts, and says what waits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import psycopg2
import pyarrow.parquet as pq
import pytest

from llm_platform_tests.defs.conftest import QUIET, Ran
from llm_platform_tests.team import NAME, right_answer

PUBLISHED = dg.AssetKey([NAME, "published"])


def run(ran: Ran, *only: str) -> dg.ExecuteInProcessResult:
    """The job, or some of its assets."""
    keys = [dg.AssetKey([NAME, name]) for name in only] or None
    job = ran.team.definitions().resolve_job_def(NAME)
    return job.execute_in_process(instance=ran.instance, asset_selection=keys, raise_on_error=False, run_config=QUIET)


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {one.check_name: one for one in result.get_asset_check_evaluations() if one.asset_key == PUBLISHED}


def write(ran: Ran, **publish: Any) -> None:
    ran.team.specification["publish"] = publish
    ran.team.write_specification()


@pytest.mark.slow
def test_a_second_contract_stands_beside_the_first_with_its_copies(
    ran_once: Ran, tmp_path: Path, postgres_dsn: str
) -> None:
    """From the file to every place that readers have, by the asset that a run materializes."""
    folder = tmp_path / "readers"
    write(ran_once, contract=2, completeness=0.9, copies=[str(folder), f"postgres:{postgres_dsn}"])

    result = run(ran_once, "published")

    assert result.success
    made = result.asset_materializations_for_node(f"{NAME}__published")[0].metadata
    assert made["contracts"].value == "published_v2 2.0.0, published_v1 1.0.0"
    assert {name: one.passed for name, one in checks(result).items()} == {
        "contract_holds": True,
        "contract_follows": True,
        "promises_kept": True,
    }
    reports = ran_once.team.settings.cards_folder / NAME
    for place in (reports, folder / "test" / NAME):
        assert {path.name for path in place.glob("published_v*")} == {
            f"published_v{n}.{ending}" for n in (1, 2) for ending in ("parquet", "schema.json", "odcs.yaml")
        }
    assert pq.read_table(folder / "test" / NAME / "published_v1.parquet").num_rows == 60
    connection = psycopg2.connect(postgres_dsn)
    with connection.cursor() as cursor:
        cursor.execute(f'SELECT count(*), count(DISTINCT variant) FROM "test_{NAME}".published_v2')
        assert cursor.fetchone() == (60, 1)
    connection.close()


def test_files_that_break_the_contract_are_a_warning_and_readers_go_on(ran_once: Ran) -> None:
    """What a team writes into a file must not be what readers notice first."""
    write(ran_once, version="1.0.0", columns={"answer": {"deprecated": True}}, freshness_hours=24)

    result = run(ran_once, "published")

    assert result.success
    follows = checks(result)["contract_follows"]
    assert (follows.passed, follows.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "version 1.0.0 is stated, and 1.1.0 is due" in str(follows.description)
    with ran_once.team.warehouse.open(read_only=True) as lake:
        assert lake.application(NAME).contracts.published()[1].freshness_hours is None


@pytest.mark.slow
def test_what_is_deleted_upstream_leaves_every_table(ran_once: Ran) -> None:
    """The whole job, from the source to both tables."""
    write(ran_once, contract=2)
    left = {f"{number}": ran_once.team.text(number) for number in range(58)}
    ran_once.team.write_documents(left)
    ran_once.team.write_references({key: right_answer(int(key)) for key in left})

    result = run(ran_once)

    assert result.success
    with ran_once.team.warehouse.open(read_only=True) as lake:
        published = lake.application(NAME).published
        assert [set(published.table(n)["document_id"].to_pylist()) for n in (1, 2)] == [set(left), set(left)]
