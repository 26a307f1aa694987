"""Where things stand: one read model, as a page, as lines and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from llm_platform.application.budget import Budget, MonthlyBudget
from llm_platform.inference.policy import EnginePolicy
from llm_platform.operations.answering.spending import budget_line, spent_by, within_budget
from llm_platform.operations.reviewing.review import ReviewDesk
from llm_platform.operations.reviewing.status import application_status, platform_status
from llm_platform.records import InferenceRun, TokenUsage
from llm_platform.review.app import review_app
from llm_platform.review.guard import CARD_POLICY
from llm_platform.review.people import Access, Person
from llm_platform.review.status import ApplicationStatus, MeasuredShare, NamespaceStatus, lines_of
from llm_platform.warehouse.alerts import Event
from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.review.cases import NOON, Clock, filled, judged, open_lake
from llm_platform_tests.team import ENTRY, NAME, Team, right_answer

DOCUMENTS = 60


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Team:
    team = Team(tmp_path_factory.mktemp("status"), "http://127.0.0.1:9", documents=DOCUMENTS)
    team.lock["price_per_million_input_tokens_usd"] = 10.0
    team.write_lock()
    return team


@pytest.fixture(scope="module")
def cards(team: Team) -> Path:
    return team.settings.cards_folder


@pytest.fixture(scope="module")
def lake(team: Team, cards: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """Both variants answered and judged: `clear` serves, `vague` is refused; one document is missing of it."""
    loaded = team.loaded
    with open_lake(tmp_path_factory.mktemp("lake")) as lake:
        right = {str(number): right_answer(number) for number in range(DOCUMENTS)}
        wrong = dict.fromkeys(list(right)[:-1], "SAD")
        filled(lake, loaded, {"clear": right, "vague": wrong})
        store = lake.application(NAME)
        judged(lake, loaded, cards_folder=cards / NAME)
        release = loaded.release("clear", store)
        assert release is not None
        for days, tokens in ((0, 1_000), (3, 20_000), (70, 300_000)):
            store.runs.append(
                InferenceRun(
                    run_id=f"run-{days}", release_id=release.release_id, started_at=NOON - timedelta(days=days),
                    seconds=10.0, sent=60, stored=60, reused=0, failed=2, retries=0,
                    usage=TokenUsage(prompt_tokens=tokens), causes={"timeout": 2},
                )
            )  # fmt: skip
        event = Event("endpoint_healthy", NAME, "", failing=True, message="scripted does not answer")
        lake.alerts.note(event, now=NOON, quiet=timedelta(hours=1))
        yield lake


@pytest.fixture(scope="module")
def status(lake: Warehouse, team: Team, cards: Path) -> ApplicationStatus:
    return application_status(lake, team.loaded, cards_folder=cards / NAME, now=NOON + timedelta(days=5))


def test_it_says_who_serves_since_when_by_whom_and_on_what_evidence(status: ApplicationStatus) -> None:
    """Whoever answers for an application has to answer this first."""
    serving = status.serving

    assert serving is not None
    assert (serving.variant, serving.missing) == ("clear", 0)
    assert "first run" in serving.by
    assert serving.accuracy is not None
    assert serving.accuracy.value == 1.0
    assert any(gate.startswith("accuracy: ") for gate in serving.gates)
    assert serving.holds == "its newest report says that it may serve"


def test_who_does_not_serve_is_told_with_the_reason(status: ApplicationStatus) -> None:
    """A variant that is refused and one that is not there yet are different things to do."""
    [vague] = status.challengers

    assert (vague.variant, vague.state, vague.missing) == ("vague", "refused", 1)
    assert vague.why.startswith("accuracy: lower bound")


def test_tokens_and_money_are_of_today_and_of_this_month(lake: Warehouse, team: Team, cards: Path) -> None:
    """Runs of earlier months are paid; runs of today can still be stopped."""
    same_day = application_status(lake, team.loaded, cards_folder=cards, now=NOON + timedelta(hours=1)).spending
    in_march = application_status(lake, team.loaded, cards_folder=cards, now=NOON + timedelta(days=5)).spending

    assert same_day.today.tokens == same_day.month.tokens == 1_000  # the first of March
    assert (in_march.today.tokens, in_march.month.tokens) == (0, 1_000)
    assert same_day.today.cost_usd == pytest.approx(0.01)


def test_what_the_month_has_used_stands_beside_its_budget(lake: Warehouse, team: Team, cards: Path) -> None:
    """What a month may cost is agreed on once; the owner sees it coming, and nothing is sent beyond it."""
    loaded, now = team.loaded, NOON + timedelta(days=5)
    month = MonthlyBudget(tokens=10_000, cost_usd=0.01)
    loaded = replace(loaded, application=loaded.application.model_copy(update={"budget": Budget(month=month)}))

    found = application_status(lake, loaded, cards_folder=cards / NAME, now=now)
    spent = spent_by(lake.application(NAME), loaded, "run-of-now", now=now)
    policy = within_budget(EnginePolicy(), loaded.application.budget, loaded.lock[ENTRY], spent=spent)

    assert found.spending.month_budget == "1,000 of 10,000 tokens, 0.01 of 0.01 USD"
    assert found.spending.month_over
    assert (policy.budget_tokens, policy.budget_usd) == (9_000, pytest.approx(0.0))
    assert "wait for the next month" in str(budget_line(loaded.application.budget, spent, waiting=3))
    page = ReviewDesk(lake, loaded, cards_folder=cards / NAME)
    app = review_app({NAME: page}, Access(local=Person("ada", "reviewer")), hosts=("testserver",), clock=lambda: now)
    assert "1,000 of 10,000 tokens" in TestClient(app).get("/").text


def test_a_share_that_is_not_one_is_not_shown_as_one() -> None:
    """2,999 of 3,000 are as the report card says, too."""
    assert MeasuredShare(value=2999 / 3000, lower=0.998, upper=0.99994, count=3000).text == (
        "0.9997 [0.998, 0.9999] of 3,000"
    )


@pytest.mark.parametrize(
    ("who", "what"),
    [("the next run", "1 document without an answer"), ("the operator", "scripted does not answer")],
    ids=["missing", "alert"],
)
def test_what_waits_says_for_whom(status: ApplicationStatus, who: str, what: str) -> None:
    """Nobody reads ten numbers to find the one thing that only they can do."""
    assert [one.who for one in status.waiting if what in one.what] == [who]


def test_lines_and_json_say_what_the_page_says(lake: Warehouse, team: Team, cards: Path) -> None:
    """Three answers to one question would be two too many."""
    given = {
        "namespace": "test",
        "broken": {"other": "application.yaml:3: no title"},
        "cards_folder": cards,
        "progress_folder": cards,
    }
    status = platform_status(lake, {NAME: team.loaded}, now=NOON, **given)  # type: ignore[arg-type]
    desk = ReviewDesk(lake, team.loaded, cards_folder=cards / NAME)
    app = review_app(
        {NAME: desk},
        Access(local=Person("vic", "viewer")),
        hosts=("127.0.0.1",),
        platform=lambda: status.platform,
        clock=Clock(),
    )

    lines = "\n".join(lines_of(status))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        page = client.get("/").text
    told = type(status).model_validate_json(status.model_dump_json())

    assert told == status
    for words in ("clear", "refused", "scripted does not answer", "no title", "1 document without an answer"):
        assert words in lines, words
        assert words in page, words
    assert "printer" not in page + lines  # no text of a document


def test_cards_are_served_to_everybody_who_is_known_and_run_no_script(lake: Warehouse, team: Team, cards: Path) -> None:
    """A card is a file that a run wrote; a link to a file opens in no browser, and its page may do nothing."""
    desk = ReviewDesk(lake, team.loaded, cards_folder=cards / NAME)
    app = review_app({NAME: desk}, Access(local=Person("vic", "viewer")), hosts=("127.0.0.1",), clock=Clock())
    with TestClient(app, base_url="http://127.0.0.1") as client:
        card = client.get(f"/{NAME}/cards/card")
        missing = [
            client.get(f"/{NAME}/cards/{name}").status_code for name in ("drift", "published_v1.parquet", "card.html")
        ]

    assert card.status_code == 200
    assert f'<a href="/{NAME}/answers?id=' in card.text
    assert "Now: clear serves since" in card.text
    assert "Report card" in card.text
    assert card.headers["content-security-policy"] == CARD_POLICY
    assert missing == [404, 404, 404]


def test_an_application_that_never_ran_waits_for_its_first_run(team: Team, tmp_path: Path) -> None:
    """The page is there before the first answer, and says what to do."""
    with open_lake(tmp_path) as lake:
        status = application_status(lake, team.loaded, cards_folder=tmp_path, now=NOON)
        app = review_app(
            {NAME: ReviewDesk(lake, team.loaded)}, Access(local=Person("ada", "reviewer")), hosts=("127.0.0.1",)
        )
        with TestClient(app, base_url="http://127.0.0.1") as client:
            answers = client.get(f"/{NAME}/answers").text

    assert f"llm-platform run {NAME}" in answers
    assert status.serving is None
    assert [one.command for one in status.waiting if one.who == "the next run"] == [f"llm-platform run {NAME}"]
    assert status.drift is None
    assert NamespaceStatus().alerts == ()
