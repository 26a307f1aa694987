"""Every way around the gates that we know of, tried: what publishes reads the stored evidence itself.

Dagster's checks guard only their own run, a warning never blocks, a check that emits nothing fails open, and anybody
who may write to Dagster's history may write a passing check into it. None of that may publish anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

import dagster as dg
import pytest

from llm_platform.errors import EvidenceMissing
from llm_platform.operations.release.publishing import publish
from llm_platform.operations.release.rollout import decide, promote
from llm_platform.operations.releases import LoadedApplication
from llm_platform.records import RolloutEvent
from llm_platform.warehouse.session import Session
from llm_platform.warehouse.store import ApplicationStore
from llm_platform_tests.servers.scripted import ScriptedServer
from llm_platform_tests.team import NAME, Team, answer

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
REPORT = dg.AssetKey([NAME, "report"])


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedServer]:
    """A model that answers right when asked clearly."""
    with ScriptedServer(answer=answer) as server:
        yield server


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    """Dagster's history, in memory."""
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, model: ScriptedServer, instance: dg.DagsterInstance) -> Team:
    """A team whose two variants have reports, one good and one bad, and nothing published."""
    team = Team(tmp_path_factory.mktemp("team"), model.url)
    team.specification["rollout"] = {"first_champion": "manual"}
    team.write_specification()
    assert run(team, instance).success
    return team


@pytest.fixture
def team(evaluated: Team) -> Iterator[Team]:
    """The evaluated team; whatever a test writes into its files is undone."""
    files = [path for path in evaluated.root.rglob("*") if path.is_file() and path.suffix in (".yaml", ".md", ".csv")]
    before = {path: path.read_bytes() for path in files if "state" not in path.parts}
    specification, lock = dict(evaluated.specification), dict(evaluated.lock)
    yield evaluated
    for path, content in before.items():
        path.write_bytes(content)
    evaluated.specification, evaluated.lock = specification, lock


def run(team: Team, instance: dg.DagsterInstance, only: Sequence[str] | None = None) -> dg.ExecuteInProcessResult:
    keys = None if only is None else [dg.AssetKey([NAME, *name.split("/")]) for name in only]
    job = team.definitions().resolve_job_def(NAME)
    return job.execute_in_process(instance=instance, asset_selection=keys, raise_on_error=False, run_config=QUIET)


def refusal(team: Team, variant: str) -> str:
    """Why a variant may not be promoted with the files as they are now."""
    loaded = team.loaded
    with team.warehouse.open() as lake:
        store = lake.application(NAME)
        with pytest.raises(EvidenceMissing) as raised:
            attempt(store, loaded, variant)
        assert store.rollout.champion() is None
    return str(raised.value)


def attempt(store: ApplicationStore, loaded: LoadedApplication, variant: str) -> None:
    release = loaded.release(variant, store)
    assert release is not None
    promote(store, loaded, variant, release=release, by="somebody")


def published(team: Team) -> int:
    with team.warehouse.open(read_only=True) as lake:
        return lake.application(NAME).published.table(1).num_rows


def test_a_failed_gate_is_a_warning_and_refuses_all_the_same(team: Team, instance: dg.DagsterInstance) -> None:
    """The check of a challenger never blocks a run; the promotion looks at the report."""
    record = instance.get_latest_asset_check_evaluation_record(
        dg.AssetCheckKey(REPORT, "vague_accuracy_at_least_minimum")
    )

    assert record is not None
    evaluation = record.event.dagster_event.event_specific_data  # type: ignore[union-attr]
    assert isinstance(evaluation, dg.AssetCheckEvaluation)
    assert not evaluation.passed
    assert evaluation.severity is dg.AssetCheckSeverity.WARN
    assert "accuracy: lower bound" in refusal(team, "vague")


def test_every_declared_check_of_the_report_is_emitted(team: Team, instance: dg.DagsterInstance) -> None:
    """A declared check that emits nothing would look like one that has nothing to say."""
    graph = team.definitions().resolve_asset_graph()
    declared = {key for key in graph.asset_check_keys if key.asset_key == REPORT}

    emitted = {key for key in declared if instance.get_latest_asset_check_evaluation_record(key) is not None}

    assert emitted == declared
    assert dg.AssetCheckKey(REPORT, "champion_every_evaluation_document_answered") in declared


def test_a_forged_passing_check_publishes_nothing(team: Team, instance: dg.DagsterInstance) -> None:
    """Whoever may report events to Dagster may report this one; nobody reads it to decide."""
    for check in ("accuracy_at_least_minimum", "valid_rate_at_least_minimum"):
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(asset_key=REPORT, check_name=f"vague_{check}", passed=True)
        )

    run(team, instance, ["rollout", "published"])

    assert "accuracy: lower bound" in refusal(team, "vague")
    assert published(team) == 0


def test_a_run_without_any_check_publishes_nothing(team: Team, instance: dg.DagsterInstance) -> None:
    """`published` launched alone meets no check; it asks for evidence itself."""
    done = run(team, instance, ["published"])

    assert not done.success
    assert not done.get_asset_check_evaluations()
    assert published(team) == 0


def test_a_report_without_its_gate_is_no_evidence(team: Team) -> None:
    """A check that emits nothing fails open in Dagster; here a gate that was never held leaves another evaluation."""
    gates = team.specification["evaluation"]["gates"]
    team.specification["evaluation"] = {
        **team.specification["evaluation"],
        "gates": {**gates, "latency_p95_seconds": {"maximum": 60.0, "reason": "nobody waits longer than a minute"}},
    }
    team.write_specification()

    assert "has no report on the present evaluation" in refusal(team, "clear")


def other_prompt(team: Team) -> None:
    team.write_prompt("clear", "Say very clearly whether this is HAPPY or SAD: {{ text }}")


def other_lock(team: Team) -> None:
    team.lock = {**team.lock, "context_length": 2048}
    team.write_lock()


def other_sampling(team: Team) -> None:
    variants = team.specification["variants"]
    team.specification["variants"] = {**variants, "clear": {**variants["clear"], "sampling": {"max_tokens": 9}}}
    team.write_specification()


def other_minimum(team: Team) -> None:
    gates = team.specification["evaluation"]["gates"]
    lower = {"minimum": 0.51, "reason": "half of the tickets are of each mood"}
    team.specification["evaluation"] = {
        **team.specification["evaluation"], "gates": {**gates, "accuracy": lower}
    }  # fmt: skip
    team.write_specification()


def other_scorer(team: Team) -> None:
    team.specification["evaluation"] = {**team.specification["evaluation"], "scorers": ["normalized"]}
    team.write_specification()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(other_prompt, id="prompt"),
        pytest.param(other_lock, id="lock-entry"),
        pytest.param(other_sampling, id="sampling"),
        pytest.param(other_minimum, id="lowered-minimum"),
        pytest.param(other_scorer, id="scorer"),
    ],
)
def test_an_old_report_is_no_evidence_for_changed_files(team: Team, change: Callable[[Team], None]) -> None:
    """What was measured is a release on an evaluation; with either changed, nothing was measured."""
    change(team)

    assert "has no report on the present evaluation" in refusal(team, "clear")


def test_an_old_report_is_no_evidence_on_another_evaluation_set(team: Team, instance: dg.DagsterInstance) -> None:
    """New labels, or other documents, and the report is of the past."""
    team.write_references({f"{number}": "SAD" for number in range(60)})
    assert run(team, instance, ["references"]).success
    try:
        assert "has no report on the present evaluation" in refusal(team, "clear")
    finally:
        team.write_references({f"{number}": "HAPPY" if number % 2 else "SAD" for number in range(60)})
        assert run(team, instance, ["references"]).success


def test_a_flag_beside_failed_gates_approves_nothing(team: Team) -> None:
    """The verdict is taken from the gates that were held, not from a column that says how they ended."""
    loaded = team.loaded
    with team.warehouse.open() as lake:
        store = lake.application(NAME)
        release = loaded.release("vague", store)
        assert release is not None
        stored = store.reports.latest(release.release_id)
        assert stored is not None
        store.reports.append(**{**vars(stored), "report_id": "forged", "passed": True, "created_at": datetime.now(UTC)})

    assert "accuracy: lower bound" in refusal(team, "vague")


def test_a_champion_promoted_on_a_report_that_did_not_pass_publishes_nothing(team: Team) -> None:
    """A decision written past `promote` names a report; publishing reads that report again."""
    loaded = team.loaded
    with team.warehouse.open() as lake:
        store = lake.application(NAME)
        release = loaded.release("vague", store)
        assert release is not None
        stored = store.reports.latest(release.release_id)
        assert stored is not None
        event = forged_event(stored.report_id, release.release_id, stored.evaluation_id)
        store.rollout.append(event, expected_previous=None)
        with pytest.raises(EvidenceMissing, match="not a passing report"):
            publish(store, loaded, export_folder=team.root / "out")
        withdraw(store)


def forged_event(report_id: str, release_id: str, evaluation_id: str) -> RolloutEvent:
    return RolloutEvent(
        application=NAME, event_id="forged", action="promote", variant="vague", release_id=release_id,
        report_id=report_id, evaluation_id=evaluation_id, by="nobody", at=datetime.now(UTC), evidence=(),
    )  # fmt: skip


def withdraw(store: ApplicationStore) -> None:
    """Take the forged decision out again, so that the next test finds nothing published."""
    session: Session = store.rollout._session
    session.write(NAME, lambda transaction: transaction.run(f"DELETE FROM {transaction.target('rollout')}"))


def test_the_gates_let_through_what_they_should(team: Team) -> None:
    """The other direction: a lock that nothing opens proves as little as one that everything does."""
    loaded = team.loaded
    with team.warehouse.open() as lake:
        store = lake.application(NAME)
        attempt(store, loaded, "clear")
        champion = store.rollout.champion()
        withdraw(store)

    assert champion is not None
    assert champion.variant == "clear"
    assert all(gate.passed for gate in champion.evidence)


def test_evidence_against_a_former_champion_promotes_nothing(team: Team, instance: dg.DagsterInstance) -> None:
    """Where no regression may happen, a report made before there was a champion says nothing of the present one."""
    evaluation = team.specification["evaluation"]
    regression = {"margin": 0.05, "reason": "readers notice one ticket in twenty"}
    team.specification["evaluation"] = {**evaluation, "gates": {**evaluation["gates"], "regression": regression}}
    team.write_specification()
    assert run(team, instance, ["report"]).success
    loaded = team.loaded
    with team.warehouse.open() as lake:
        store = lake.application(NAME)
        attempt(store, loaded, "clear")

        decision = decide(store, loaded)

        assert "has no report on the present evaluation documents, gates and champion" in decision.refused["vague"]
    assert run(team, instance, ["report"]).success
    with team.warehouse.open() as lake:
        store = lake.application(NAME)
        report = store.reports.for_variant("vague")[0]
        refused = decide(store, loaded).refused["vague"]
        withdraw(store)
    assert "regression: lower bound -0." in refused
    assert not report.passed
