"""The graph of one application, run through Dagster against a scripted model and a real lake."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dagster as dg
import pytest

from llm_platform.operations.release.plan import plan
from llm_platform_tests.defs.conftest import QUIET, Ran
from llm_platform_tests.servers.scripted import ScriptedServer
from llm_platform_tests.team import NAME, Team


def run(team: Team, instance: dg.DagsterInstance, only: Sequence[str] | None = None) -> dg.ExecuteInProcessResult:
    keys = None if only is None else [dg.AssetKey([NAME, *name.split("/")]) for name in only]
    job = team.definitions().resolve_job_def(NAME)
    return job.execute_in_process(instance=instance, asset_selection=keys, raise_on_error=False, run_config=QUIET)


def checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {evaluation.check_name: evaluation.passed for evaluation in result.get_asset_check_evaluations()}


def failure(result: dg.ExecuteInProcessResult) -> str:
    events = [event for event in result.all_node_events if event.is_step_failure]
    data: Any = events[0].step_failure_data
    return str(data.user_failure_data.description)


def test_one_variant_is_published_and_the_other_refused(
    team: Team, model: ScriptedServer, instance: dg.DagsterInstance
) -> None:
    """The main job: both verdicts come from stored evidence, and readers get one row per document."""
    result = run(team, instance)

    assert result.success, failure(result)
    found = checks(result)
    assert found["clear_accuracy_at_least_minimum"]
    assert not found["vague_accuracy_at_least_minimum"]
    assert found["contract_holds"]
    assert found["endpoints_match_lock"]
    assert found["every_document_answered"]
    with team.warehouse.open(read_only=True) as lake:
        store = lake.application(NAME)
        champion, rows = store.rollout.champion(), store.published.table(1).to_pylist()
    assert champion is not None
    assert champion.variant == "clear"
    assert {row["document_id"] for row in rows} == {str(number) for number in range(60)}
    assert {row["release_id"] for row in rows} == {champion.release_id}
    assert model.counts.requests == 120


@pytest.mark.slow
def test_a_second_run_asks_nothing_and_writes_nothing(ran_once: Ran) -> None:
    """Nothing in Dagster prevents a paid re-run; the ledger does."""
    team, model, instance = ran_once
    with team.warehouse.open() as lake:
        snapshot = lake.snapshot()
        assert plan(lake, team.loaded) == []
    asked = model.counts.requests

    assert run(team, instance).success

    assert model.counts.requests == asked
    with team.warehouse.open() as lake:
        assert lake.snapshot() == snapshot


@pytest.mark.slow
def test_a_changed_prompt_pays_only_for_itself(ran_once: Ran) -> None:
    """An edited file is a challenger: the champion goes on serving with what it was approved with."""
    team, model, instance = ran_once
    with team.warehouse.open(read_only=True) as lake:
        before = lake.application(NAME).rollout.champion()
    team.write_prompt("clear", "Say very clearly whether this is HAPPY or SAD: {{ text }}")
    asked = model.counts.requests

    assert run(team, instance).success

    assert model.counts.requests == asked + 60
    with team.warehouse.open(read_only=True) as lake:
        assert lake.application(NAME).rollout.champion() == before


def test_inserts_updates_and_deletes_reach_the_published_table(ran_once: Ran) -> None:
    """A document that leaves the source leaves what readers see; only new texts are paid for."""
    team, model, instance = ran_once
    asked = model.counts.requests
    texts = {f"{number}": team.text(number) for number in range(1, 60)}
    texts["1"] = team.text(1, note="again")
    texts["60"] = team.text(60)
    team.write_documents(texts)

    result = run(team, instance)

    assert result.success, failure(result)
    assert model.counts.requests == asked + 2 * 2
    with team.warehouse.open(read_only=True) as lake:
        rows = lake.application(NAME).published.table(1).to_pylist()
    assert {row["document_id"] for row in rows} == {str(number) for number in range(1, 61)}


@pytest.mark.slow
def test_equal_texts_share_one_answer_and_are_all_published(
    team: Team, model: ScriptedServer, instance: dg.DagsterInstance
) -> None:
    """Ten copies of one text cost one request."""
    team.write_documents({f"{number}": team.text(number % 50) for number in range(60)})

    assert run(team, instance).success

    assert model.counts.requests == 100
    with team.warehouse.open(read_only=True) as lake:
        assert lake.application(NAME).published.table(1).num_rows == 60


@pytest.mark.slow
def test_nothing_is_published_when_every_variant_is_refused(team: Team, instance: dg.DagsterInstance) -> None:
    """A refusal is a finding: the run is green, the table does not exist, the next step is said."""
    team.specification["variants"] = {"vague": team.specification["variants"]["vague"]}
    team.write_specification()

    result = run(team, instance)

    assert result.success
    with team.warehouse.open(read_only=True) as lake:
        assert lake.application(NAME).rollout.champion() is None
        assert lake.application(NAME).published.table(1).num_rows == 0


@pytest.mark.parametrize(
    ("asset", "complaint"),
    [
        pytest.param("published", "has no champion", id="published"),
        pytest.param("rollout", None, id="rollout"),
        pytest.param("completions_champion", None, id="champion"),
    ],
)
def test_an_asset_launched_alone_on_an_empty_lake_verifies_what_it_stands_on(
    team: Team, model: ScriptedServer, instance: dg.DagsterInstance, asset: str, complaint: str | None
) -> None:
    """A check guards only its own run, so each asset refuses by itself, and asks no model for nothing."""
    result = run(team, instance, [asset])

    if complaint is None:
        assert result.success
    else:
        assert complaint in failure(result)
    assert model.counts.requests == 0
    with team.warehouse.open() as lake:
        assert lake.application(NAME).rollout.champion() is None


def test_completions_launched_alone_refuse_a_model_that_moved(
    team: Team, model: ScriptedServer, instance: dg.DagsterInstance
) -> None:
    """The blocking check on the model is not in this run; no document may be sent all the same."""
    assert run(team, instance, ["documents"]).success
    team.lock["context_length"] = 8192
    team.write_lock()

    result = run(team, instance, ["completions_clear"])

    assert not result.success
    assert "context length is 4096, locked 8192" in failure(result)
    assert model.counts.requests == 0


def test_published_launched_alone_refuses_unanswered_documents(ran_once: Ran) -> None:
    """Readers never see a table that is half of one state and half of another."""
    team, _, instance = ran_once
    team.write_documents({f"{number}": team.text(number) for number in range(61)})
    assert run(team, instance, ["documents"]).success

    result = run(team, instance, ["published"])

    assert "1 sendable documents have no answer of the champion" in failure(result)
    with team.warehouse.open(read_only=True) as lake:
        assert lake.application(NAME).published.table(1).num_rows == 60


def test_a_removed_column_fails_its_check_and_changes_nothing(ran_once: Ran) -> None:
    """An upstream change is told where people look, and the documents stay as they were."""
    team, _, instance = ran_once
    team.write_documents({"1": team.text(1)}, columns=("ticket", "body"))

    result = run(team, instance)

    assert not result.success
    assert checks(result)["source_columns_present"] is False
    with team.warehouse.open(read_only=True) as lake:
        assert lake.application(NAME).documents.table(columns=["document_id"]).num_rows == 60


def test_duplicate_keys_fail_their_check_and_change_nothing(team: Team, instance: dg.DagsterInstance) -> None:
    """Two rows for one document would make the published table a matter of luck."""
    with (team.root / "tickets.csv").open("a", encoding="utf-8") as file:
        file.write("7,DOC#7# once more,red\n")

    result = run(team, instance)

    assert not result.success
    assert checks(result)["keys_unique"] is False
    assert "'7'" in failure(result)


def test_metadata_and_logs_hold_no_text_of_a_document(
    team: Team, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    """Documents are sensitive; Dagster's event log is not a place for them."""
    result = run(team, instance)

    said = "".join(str(event) for event in result.all_events) + "".join(capfd.readouterr())
    logged = instance.all_logs(result.run_id)
    assert "printer is on fire" not in said + "".join(str(entry) for entry in logged)
