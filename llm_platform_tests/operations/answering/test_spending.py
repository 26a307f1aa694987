"""What a run will take, said before it takes it, and where a budget ends one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from llm_platform.application.budget import Budget, MonthlyBudget
from llm_platform.definitions import build
from llm_platform.errors import SpecificationError
from llm_platform.inference.policy import EnginePolicy
from llm_platform.operations.answering.documents import update_documents
from llm_platform.operations.answering.spending import (
    Estimate,
    Spent,
    against_budget,
    budget_line,
    estimates,
    month_used_up,
    within_budget,
)
from llm_platform.operations.releases import load_applications, loaded_application
from llm_platform.records import InferenceRun, TokenUsage
from llm_platform_tests.servers.scripted import ScriptedServer
from llm_platform_tests.team import ENTRY, NAME, Team, answer

DOCUMENTS = 60


@pytest.fixture
def model() -> Iterator[ScriptedServer]:
    with ScriptedServer(answer=answer) as server:
        yield server


def run_job(team: Team) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        return team.definitions().resolve_job_def(NAME).execute_in_process(instance=instance, raise_on_error=False)


def estimated(team: Team) -> dict[str, Estimate]:
    with team.warehouse.open() as lake:
        update_documents(lake, team.loaded)
        return {one.variant: one for one in estimates(lake.application(NAME), team.loaded)}


def runs(team: Team) -> list[InferenceRun]:
    with team.warehouse.open() as lake:
        store = lake.application(NAME)
        releases = [team.loaded.requesting(name, store) for name in team.loaded.application.variants]
        return [run for release in releases if release for run in store.runs.of_release(release.release_id)]


def test_estimate_before_the_first_answer_counts_bytes_and_asks_nobody(tmp_path: Path, model: ScriptedServer) -> None:
    """The first question about a new table is what it will cost; it must not cost anything."""
    team = Team(tmp_path, model.url, documents=DOCUMENTS)

    found = estimated(team)

    assert set(found) == {"clear", "vague"}
    assert found["clear"].documents == DOCUMENTS
    texts = sum(len(Team.text(number)) for number in range(DOCUMENTS))
    assert found["clear"].prompt_tokens >= texts * 0.25
    assert found["clear"].completion_tokens == DOCUMENTS * 8
    assert found["clear"].seconds is None
    assert "assumed" in found["clear"].line
    assert model.counts.asked.total() == 0


@pytest.mark.slow
def test_estimate_of_new_documents_follows_what_was_measured(tmp_path: Path, model: ScriptedServer) -> None:
    """After a run, the same application's own tokens and speed are known; a guess would be worse."""
    team = Team(tmp_path, model.url, documents=DOCUMENTS)
    team.lock["price_per_gpu_hour_usd"] = 3.6
    team.lock["parallelism"] = {"tensor": 2}
    team.write_lock()
    assert run_job(team).success
    paid = {run.release_id: run for run in runs(team)}
    team.write_documents({f"{number}": Team.text(number) for number in range(2 * DOCUMENTS)})

    found = estimated(team)["clear"]

    run = paid[found.release_id]
    assert found.documents == DOCUMENTS
    assert found.prompt_tokens == pytest.approx(run.usage.prompt_tokens, rel=0.25)
    assert found.completion_tokens == pytest.approx(run.usage.completion_tokens, rel=0.25)
    assert found.seconds is not None
    assert found.gpu_hours == pytest.approx(2 * found.seconds / 3600)
    assert found.cost_usd == pytest.approx(3.6 * 2 * found.seconds / 3600)


def test_nothing_missing_costs_nothing(tmp_path: Path, model: ScriptedServer) -> None:
    """An estimate of a finished application is zero, and says so."""
    team = Team(tmp_path, model.url, documents=DOCUMENTS)
    assert run_job(team).success

    found = estimated(team)["clear"]

    assert (found.documents, found.prompt_tokens, found.completion_tokens) == (0, 0, 0)
    assert found.line == "clear: nothing is missing"


@pytest.mark.slow
def test_a_token_budget_stops_a_run_and_the_next_one_goes_on(tmp_path: Path) -> None:
    """A budget that loses answers, or pays twice for them, would cost more than it saves."""
    with ScriptedServer(answer=answer, latency_seconds=0.03, slots=2) as model:
        team = Team(tmp_path, model.url, documents=DOCUMENTS)
        team.specification["budget"] = {"tokens": 200}
        del team.specification["variants"]["vague"]
        team.write_specification()

        run_job(team)
        first = model.counts.asked.total()
        left = estimated(team)["clear"].documents
        team.specification["budget"] = {}
        team.write_specification()
        assert run_job(team).success

    assert 0 < first < DOCUMENTS
    assert left == DOCUMENTS - first
    assert max(model.counts.asked.values()) == 1
    assert runs(team)[0].causes["stopped_budget_tokens"] == 1


def test_money_is_time_at_the_price_of_the_lock_file(tmp_path: Path) -> None:
    """GPUs are paid by the hour, so that is what a budget in money limits."""
    team = Team(tmp_path, "http://127.0.0.1:9")
    team.lock |= {"price_per_gpu_hour_usd": 2.0, "parallelism": {"tensor": 4}}
    team.write_lock()
    entry = team.loaded.lock[ENTRY]

    spent = Spent(tokens=3, seconds=60.0, cost_usd=0.25)
    policy = within_budget(EnginePolicy(), Budget(cost_usd=1.0, minutes=30, tokens=7), entry, spent=spent)

    assert policy.budget_usd == pytest.approx(0.75)
    assert policy.prices.cost_usd(3600 / 8, TokenUsage()) == pytest.approx(1.0)
    assert policy.budget_seconds == pytest.approx(29 * 60)
    assert policy.budget_tokens == 4


def test_a_budget_in_money_without_a_price_is_refused(tmp_path: Path) -> None:
    """Silence would mean no budget at all."""
    team = Team(tmp_path, "http://127.0.0.1:9")

    for budget in (Budget(cost_usd=1.0), Budget(month=MonthlyBudget(cost_usd=1.0))):
        with pytest.raises(SpecificationError, match="price_per_gpu_hour_usd"):
            within_budget(EnginePolicy(), budget, team.loaded.lock[ENTRY])


def test_the_tighter_of_a_runs_and_a_months_budget_holds(tmp_path: Path) -> None:
    """A run may not use what the month has no more, nor the month's rest what one run may not."""
    entry = Team(tmp_path, "http://127.0.0.1:9").loaded.lock[ENTRY]
    budget = Budget(tokens=50, month=MonthlyBudget(tokens=100))

    left = [
        within_budget(EnginePolicy(), budget, entry, spent=Spent(tokens=10, month_tokens=used)).budget_tokens
        for used in (20, 95, 130)
    ]

    assert left == [40, 5, -30]
    assert budget_line(budget, Spent(tokens=10, month_tokens=20), waiting=0) == (
        "10 of 50 tokens, 20 of 100 tokens this month used"
    )


@pytest.mark.parametrize(
    ("month", "said"),
    [
        pytest.param({"tokens": 9_000}, "6,000 of 9,000 tokens left this month: enough", id="enough"),
        pytest.param(
            {"tokens": 4_000},
            "1,000 of 4,000 tokens left this month, and what is missing takes about 2,500: the rest waits",
            id="too-little",
        ),
        pytest.param({"tokens": 2_000}, "0 of 2,000 tokens left this month", id="overdrawn"),
        pytest.param(
            {"cost_usd": 2.0}, "1.5 of 2 USD left this month; what is missing takes an unknown number", id="unknown"
        ),
    ],
)
def test_an_estimate_says_what_the_month_has_left(month: dict[str, float], said: str) -> None:
    """Who is about to pay for a table asks whether the month still has room for it."""
    missing = Estimate("clear", "r", 50, 0, "reject", 2_000, 500, "assumed", None, None, None, None)
    spent = Spent(month_tokens=3_000, month_usd=0.5)

    line = against_budget([missing], Budget(month=MonthlyBudget.model_validate(month)), spent=spent)

    assert line is not None
    assert line.startswith(f"budget: {said}")


@pytest.mark.parametrize(
    ("used", "stopped", "is_over"),
    [(960, True, True), (960, False, False), (1_000, False, True), (500, True, False)],
    ids=["too-little-for-a-request", "nobody-was-stopped", "nothing-left", "raised-since"],
)
def test_a_month_is_used_up_where_its_rest_pays_for_no_request(used: int, stopped: bool, is_over: bool) -> None:
    """Requests reserve what they may take, so no month is ever used to its last token."""
    run = InferenceRun(
        run_id="r", release_id="r", started_at=datetime(2026, 3, 1, tzinfo=UTC), seconds=1.0, sent=10, stored=10,
        reused=0, failed=0, retries=0, usage=TokenUsage(prompt_tokens=450),
        causes={"stopped_budget_tokens": 1} if stopped else {},
    )  # fmt: skip

    assert month_used_up(MonthlyBudget(tokens=1_000), Spent(month_tokens=used), run) is is_over


@pytest.mark.slow
def test_a_budget_is_that_of_the_whole_run(tmp_path: Path, model: ScriptedServer) -> None:
    """Each variant of it with a budget of its own is a multiple of what somebody agreed to; and it is said."""
    team = Team(tmp_path, model.url, documents=20)
    team.specification["budget"] = {"tokens": 1000}
    team.write_specification()
    before = against_budget(list(estimated(team).values()), team.loaded.application.budget)
    used, reached = [], []

    for _ in range(3):
        asked = model.counts.requests
        result = run_job(team)
        used.append(45 * (model.counts.requests - asked))
        found = {
            one.asset_key.path[-1]: one for one in result.get_asset_check_evaluations() if "budget" in one.check_name
        }
        reached.append(not all(one.passed for one in found.values()))

    assert before is not None
    assert before.startswith("budget: 1,000 tokens a run: ")
    assert all(0 < tokens <= 1000 for tokens in used[:2])
    assert sum(used) == 20 * 2 * 45
    assert reached == [True, used[2] > 0 and reached[1], False]
    after = against_budget(list(estimated(team).values()), team.loaded.application.budget)
    assert after is not None
    assert "enough" in after


@pytest.mark.parametrize(
    ("own", "of_deployment", "expected"),
    [
        pytest.param(None, None, None, id="neither"),
        pytest.param(None, 900, 900, id="of-the-deployment-alone"),
        pytest.param(500, 900, 500, id="the-files-is-less"),
        pytest.param(5000, 900, 900, id="the-deployments-is-less"),
        pytest.param(5000, None, 5000, id="of-the-file-alone"),
    ],
)
def test_a_deployment_bounds_the_month_of_every_application(
    tmp_path: Path, own: int | None, of_deployment: int | None, expected: int | None
) -> None:
    """A branch takes production's files, and its budget is not production's."""
    team = Team(tmp_path, "http://127.0.0.1:9")
    if own is not None:
        team.specification["budget"] = {"month": {"tokens": own}}
        team.write_specification()
    settings = team.settings.model_copy(update={"budget_month_tokens": of_deployment})

    assert loaded_application(*settings.application_files, NAME).application.budget.month.tokens == expected
    assert build(settings).applications[NAME].application.budget.month.tokens == expected


def test_a_budget_that_no_answer_fits_is_a_mistake_of_the_file(tmp_path: Path) -> None:
    """A run that can never send anything would say so every night."""
    team = Team(tmp_path, "http://127.0.0.1:9")
    team.specification["budget"] = {"tokens": 8, "cost_usd": 1.0}
    team.write_specification()

    with pytest.raises(SpecificationError) as raised:
        _ = load_applications(*team.settings.application_files).named(NAME)

    assert "found a budget of 8 tokens; allowed: more than 8" in str(raised.value)
    assert "has no price" in str(raised.value)


def test_a_budget_that_is_too_small_for_one_request_is_said(tmp_path: Path, model: ScriptedServer) -> None:
    """ "Used up, the rest waits for the next run" is no truth where each further run sends nothing, too."""
    team = Team(tmp_path, model.url, documents=2)
    team.specification["budget"] = {"tokens": 9}
    team.write_specification()
    budget = team.loaded.application.budget

    before = against_budget(list(estimated(team).values()), budget)
    result = run_job(team)
    said = [
        str(one.description)
        for one in result.get_asset_check_evaluations()
        if "budget" in one.check_name and not one.passed
    ]

    assert before is not None
    assert "9 tokens a run: too little for one request of" in before
    assert model.counts.requests == 0
    assert "0 of 9 tokens used; too little for one request, and" in said[0]
    line = budget_line(budget, Spent(tokens=5), waiting=3)
    assert line == "5 of 9 tokens used; used up, and 3 answers wait for the next run"


def test_tokens_have_a_price_of_their_own(tmp_path: Path, model: ScriptedServer) -> None:
    """An endpoint of somebody else is paid by the token, however long it takes."""
    team = Team(tmp_path, model.url, documents=DOCUMENTS)
    team.lock |= {"price_per_million_input_tokens_usd": 2.0, "price_per_million_output_tokens_usd": 10.0}
    team.write_lock()

    found = estimated(team)["clear"]

    assert found.seconds is None
    assert found.cost_usd == pytest.approx((found.prompt_tokens * 2 + found.completion_tokens * 10) / 1e6)
