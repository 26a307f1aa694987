"""Dagster's instance as this checkout sets it up, and what it must not be told."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster_shared.serdes import serialize_value
from dagster_shared.utils.warnings import BetaWarning, PreviewWarning, SupersessionWarning

from llm_platform.definitions import build_definitions
from llm_platform.defs.runs import PROCESS_TAG
from llm_platform.errors import SpecificationError, StorageError, TransientError
from llm_platform.resources.dagster_storage import PostgresStorage
from llm_platform.resources.nim import resource_key
from llm_platform.resources.pools import apply_pool_limits
from llm_platform.settings.settings import Settings
from llm_platform.warehouse.holders import node
from llm_platform.workbench.instance import dagster_home, prepared_dagster_home, recorded
from llm_platform_tests.team import ENTRY, NAME, Team

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def test_the_instance_frees_pool_slots_of_ended_runs_and_repeats_no_failed_gate(tmp_path: Path) -> None:
    """Dagster reads dagster.yaml only inside DAGSTER_HOME, and keeps a crashed run's slot for ever by default."""
    settings = Settings(state=tmp_path, namespace="test")

    with dg.DagsterInstance.from_config(str(dagster_home(settings))) as instance:
        pools = instance.get_concurrency_config().pool_config
        monitoring = instance.run_monitoring_settings
        retries = instance.run_retries_enabled
        telemetry = instance.telemetry_enabled

    assert pools.default_pool_limit == 1
    assert monitoring["enabled"]
    assert monitoring["free_slots_after_run_end_seconds"] > 0
    assert not retries
    assert not telemetry


def test_a_deployment_adds_its_launcher_to_the_shipped_instance(tmp_path: Path) -> None:
    """An installed package brings retention, monitoring and pools; the launcher is the chart's."""
    own = tmp_path / "instance.yaml"
    own.write_text("run_retries: {enabled: true, max_retries: 3}\n")
    settings = Settings(state=tmp_path / "state", namespace="test", dagster_instance=own)

    with dg.DagsterInstance.from_config(str(dagster_home(settings))) as instance:
        assert instance.run_retries_enabled
        assert instance.get_concurrency_config().pool_config.default_pool_limit == 1
        assert not instance.telemetry_enabled

    own.write_text("- no\n")
    with pytest.raises(SpecificationError, match="is no YAML of named keys"):
        dagster_home(settings)


def test_no_preview_beta_superseded_or_deprecated_api_is_on_the_path(tmp_path: Path) -> None:
    """Such an API may break in any release of Dagster, and a platform is upgraded by people who did not write it."""
    with warnings.catch_warnings():
        for kind in (PreviewWarning, BetaWarning, SupersessionWarning, DeprecationWarning):
            warnings.simplefilter("error", kind)
        definitions = build_definitions(Settings(state=tmp_path, namespace="test"))
        dg.Definitions.validate_loadable(definitions)


def test_nothing_of_the_environment_is_in_the_snapshot_that_the_ui_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a resource takes from the environment when it is made is stored with every snapshot of the graph."""
    monkeypatch.setenv("LLM_PLATFORM_NIM_API_KEY", "key-that-nobody-may-see")
    monkeypatch.setenv("PGPASSWORD", "password-that-nobody-may-see")
    team = Team(tmp_path, "http://127.0.0.1:9")

    definitions = build_definitions(Settings(state=tmp_path, namespace="test", models_lock=team.lock_file))
    with warnings.catch_warnings():
        # Dagster's snapshot of a schedule reads a property that Dagster calls deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        snapshot = serialize_value(RepositorySnap.from_def(definitions.get_repository_def()))

    assert "that-nobody-may-see" not in snapshot
    assert resource_key(ENTRY) in snapshot


def test_pools_have_the_limits_of_the_deployment_and_all_of_them_exist(tmp_path: Path) -> None:
    """A queue that does not know a pool starts everything at once; a limit is a value of the deployment."""
    team = Team(tmp_path, "http://127.0.0.1:9", nim_pool_limits={ENTRY: 3})
    home = prepared_dagster_home(team.settings)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        before = {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits()}
        apply_pool_limits(instance, {ENTRY: 2}, entries=[ENTRY])
        after = {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits()}

        with pytest.raises(SpecificationError, match=r"NIM_POOL_LIMITS names 'typo', .+ There are: scripted\."):
            apply_pool_limits(instance, {"typo": 2}, entries=[ENTRY])

    assert before == {f"nim-{ENTRY}": 3, "nim-smollm2-135m": 1}
    assert after == {**before, f"nim-{ENTRY}": 2}


def test_a_storage_of_dagsters_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is called at night asks the command line first, and was told that this was not foreseen."""
    # Dagster tries for six seconds.
    monkeypatch.setattr("dagster_postgres.utils.calculate_delay", lambda **_: 0.0)

    with pytest.raises(TransientError, match=r"storage at postgresql://dagster@127\.0\.0\.1:1/dagster does not answer"):
        PostgresStorage.from_config_value(None, {"address": "postgresql://dagster@127.0.0.1:1/dagster"})


# No process has this id: it is above the largest that Linux gives.
DEAD = 2**22 + 1


def test_a_run_ends_those_whose_process_was_killed_and_gives_their_pool_slots_back(tmp_path: Path) -> None:
    """A killed run stays started and keeps the model's only slot: whoever comes next would wait for ever."""
    team = Team(tmp_path, "http://127.0.0.1:9")
    job, pool = team.definitions().resolve_job_def(NAME), f"nim-{ENTRY}"
    with dg.DagsterInstance.from_config(str(dagster_home(team.settings))) as instance:
        tags = {PROCESS_TAG: json.dumps([node(), DEAD, "1"])}
        killed = instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.STARTED)
        assert instance.event_log_storage.initialize_concurrency_limit_to_default(pool)
        assert instance.event_log_storage.claim_concurrency_slot(pool, killed.run_id, "step").is_claimed
        assert not instance.event_log_storage.claim_concurrency_slot(pool, "next", "step").is_claimed

        done = job.execute_in_process(
            instance=instance, asset_selection=[dg.AssetKey([NAME, "documents"])], run_config=QUIET
        )

        assert done.success
        assert [run.status for run in instance.get_runs()] == [
            dg.DagsterRunStatus.SUCCESS,
            dg.DagsterRunStatus.FAILURE,
        ]
        assert instance.event_log_storage.claim_concurrency_slot(pool, "next", "step").is_claimed


@pytest.mark.parametrize("damaged", ["history/runs.db", "history/runs/index.db", "schedules/schedules.db"])
def test_a_damaged_history_is_named_with_the_way_out(tmp_path: Path, damaged: str) -> None:
    """It stopped every run, and the advice was to free space and fix permissions."""
    settings = Settings(state=tmp_path / "state", namespace="test")
    with recorded(settings):
        pass
    path = settings.dagster_home / damaged
    assert path.is_file()
    path.write_bytes(b"garbage" * 999)

    with pytest.raises(StorageError, match="is damaged") as refused, recorded(settings):
        pass

    assert "move it away and run again" in str(refused.value)


def test_history_that_dagster_wrote_itself_goes_on_in_the_same_files(tmp_path: Path) -> None:
    """A namespace of an older version keeps its runs, and what reads the files by Dagster's own class sees the new."""
    settings = Settings(state=tmp_path, namespace="test")
    home = dagster_home(settings)

    @dg.asset
    def letters() -> None:
        return None

    with dg.DagsterInstance.local_temp(str(home)) as own:
        first = dg.materialize([letters], instance=own, run_config=QUIET).run_id
    with recorded(settings) as instance:
        second = dg.materialize([letters], instance=instance, run_config=QUIET).run_id
        storage = type(instance.event_log_storage).__module__, type(instance.run_storage).__module__
        found = [record.run_id for record in instance.fetch_materializations(letters.key, limit=9).records]
    with dg.DagsterInstance.local_temp(str(home)) as own:
        read = [run.run_id for run in own.get_runs()]
        ended = [record.event_log_entry.dagster_event_type for record in own.get_records_for_run(second).records]

    assert set(storage) == {"llm_platform.resources.dagster_sqlite"}
    assert found == [second, first]
    assert read == [second, first]
    assert dg.DagsterEventType.RUN_SUCCESS in ended


def test_a_deployment_that_names_its_own_storage_keeps_it(tmp_path: Path) -> None:
    """Dagster takes one storage, not two."""
    own = tmp_path / "instance.yaml"
    own.write_text(f"storage: {{sqlite: {{base_dir: {tmp_path / 'own'}}}}}\n")
    settings = Settings(state=tmp_path / "state", namespace="test", dagster_instance=own)

    with recorded(settings) as instance:
        assert type(instance.run_storage).__module__.startswith("dagster.")
    assert (tmp_path / "own" / "history" / "runs.db").is_file()


def test_one_block_inside_another_has_the_same_instance(tmp_path: Path) -> None:
    """To open Dagster's history costs as much as a step of a small run."""
    settings = Settings(state=tmp_path, namespace="test")

    with recorded(settings) as outer, recorded(settings) as inner:
        assert inner is outer
        with recorded(Settings(state=tmp_path, namespace="other")) as other:
            assert other is not outer
        with recorded(settings) as again:
            assert again is outer
