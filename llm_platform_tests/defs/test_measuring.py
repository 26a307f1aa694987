"""Checks that had nothing to measure: neither green nor red, in a run that ends well and in one that does not."""

# Annotations are evaluated here: Dagster reads those of the context of an asset.
from collections.abc import Iterator, Sequence

import dagster as dg
import pytest

from llm_platform.defs.alerts import run_seen
from llm_platform.defs.failures import failing_late, up_to_date_checks
from llm_platform.defs.measuring import (
    Said,
    Unmeasured,
    check_counts,
    checks_of,
    measuring_asset,
    rounded,
    say_unmeasured,
)
from llm_platform.errors import PermanentError
from llm_platform_tests.defs.conftest import QUIET

KEY, OTHER = dg.AssetKey("report"), dg.AssetKey("completions")
HELD, LEFT_OUT, FAILED = (dg.AssetCheckKey(KEY, name) for name in ("held", "left_out", "failed"))


@measuring_asset(
    dg.AssetSpec(KEY), checks=[dg.AssetCheckSpec(one.name, asset=KEY) for one in (HELD, LEFT_OUT, FAILED)], resources=()
)
def report(context: dg.AssetExecutionContext) -> Iterator[Said]:
    yield dg.AssetCheckResult(check_name="held", passed=True)
    yield Unmeasured("left_out", "nothing is published yet")
    yield dg.AssetCheckResult(check_name="failed", passed=False, severity=dg.AssetCheckSeverity.WARN)
    yield dg.MaterializeResult(data_version=dg.DataVersion("1"), metadata={"rows": 3})


@dg.asset(key=OTHER)
def completions(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    def nobody_answers() -> Iterator[dg.MaterializeResult]:
        raise PermanentError("The endpoint is gone.")
        yield

    yield from failing_late(context, nobody_answers())


def run(
    instance: dg.DagsterInstance, *, troubled: bool = False, only: Sequence[dg.AssetCheckKey] | None = None
) -> dg.ExecuteInProcessResult:
    checks = [up_to_date_checks("some", [completions])] if troubled else []
    assets = [report, completions] if troubled else [report]
    defs = dg.Definitions(assets=assets, asset_checks=checks, executor=dg.in_process_executor)
    job = dg.define_asset_job("all_of_it", selection=dg.AssetSelection.all())
    if only is not None:
        job = dg.define_asset_job("all_of_it", selection=dg.AssetSelection.checks(*only))
    made = dg.Definitions.merge(defs, dg.Definitions(jobs=[job])).resolve_job_def("all_of_it")
    return made.execute_in_process(instance=instance, raise_on_error=False, run_config=QUIET)


def stored(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> dg.AssetCheckEvaluation | None:
    """What Dagster's pages show of a check; None where they show that it was skipped."""
    record = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]
    return None if record.status.value == "PLANNED" else record.evaluation


def test_a_check_that_had_nothing_to_measure_is_skipped_and_its_asset_says_why() -> None:
    """Two dozen green ticks of checks that looked at nothing hide the few that looked at something."""
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(instance)
        states = checks_of(instance, result.run_id)
        shown = stored(instance, LEFT_OUT)
    (made,) = result.asset_materializations_for_node("report")

    assert result.success
    assert states == {HELD: True, LEFT_OUT: None, FAILED: False}
    assert shown is None
    assert made.metadata["checks"].value == "1 held, 1 nothing to measure, 1 failed"
    assert "| left_out | nothing is published yet |" in str(made.metadata["nothing_to_measure"].value)
    assert made.metadata["rows"].value == 3


def test_in_a_run_that_fails_it_is_a_warning_and_no_failure() -> None:
    """Of a check without a result, Dagster says in a failed run that it failed; whatever failed was something else."""
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(instance, troubled=True)
        states = checks_of(instance, result.run_id)
        shown = stored(instance, LEFT_OUT)

    assert not result.success
    assert states[LEFT_OUT] is None
    assert shown is not None
    assert (shown.passed, shown.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert str(shown.description).startswith("nothing to measure")


def test_what_can_be_measured_no_longer_ends_its_alert() -> None:
    """Drift of a champion that no longer serves, a queue of a model that rests: nobody has to close them by hand."""
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(instance)
        record = instance.get_run_record_by_id(result.run_id)
        assert record is not None
        seen = {check.check: check.passed for check in run_seen(instance, record).checks}

    assert seen == {"held": True, "left_out": True, "failed": False}


def test_so_it_is_where_a_step_fails_that_says_nothing_itself() -> None:
    """A team's own asset fails as it likes; the daemon and the terminal say it, once, when the run has ended."""

    @dg.asset(key="reader", deps=[KEY])
    def reader() -> None:
        raise ValueError

    job = dg.Definitions([report, reader], jobs=[dg.define_asset_job("both", "*")]).resolve_job_def("both")
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, raise_on_error=False, run_config=QUIET)
        for _ in range(2):
            say_unmeasured(instance, result.run_id)
        states = checks_of(instance, result.run_id)
        history = instance.event_log_storage.get_asset_check_execution_history(LEFT_OUT, limit=9)

    assert not result.success
    assert states == {HELD: True, LEFT_OUT: None, FAILED: False}
    assert [record.status.value for record in history] == ["FAILED", "PLANNED"]


def test_a_single_check_can_be_asked_for() -> None:
    """Dagster's page offers to run one check; what was not asked for is not said."""
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(instance, only=[HELD])

    assert result.success
    assert [one.check_name for one in result.get_asset_check_evaluations()] == ["held"]
    assert not result.asset_materializations_for_node("report")


def test_numbers_are_rounded_where_people_read_them() -> None:
    """Sixteen digits of a share hide the two that count; what is small keeps its own."""
    shown = rounded({"lower": 0.7122587676433947, "p": 0.000012345, "rows": 3, "whole": dg.MetadataValue.float(2 / 3)})

    assert {name: getattr(one, "value", one) for name, one in shown.items()} == {
        "lower": 0.7123, "p": 0.0000123, "rows": 3, "whole": 0.6667,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        pytest.param((15, 23, 1), "15 held, 23 nothing to measure, 1 failed", id="all"),
        pytest.param((15, 0, 0), "15 held", id="held-only"),
        pytest.param((0, 2, 0), "0 held, 2 nothing to measure", id="nothing-held"),
    ],
)
def test_the_account_of_checks(counts: tuple[int, int, int], said: str) -> None:
    """Three numbers that are not mixed up."""
    assert check_counts(*counts) == said
