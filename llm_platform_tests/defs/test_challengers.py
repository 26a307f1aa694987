"""What readers get depends on the champion's path, and on nothing that goes wrong beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml

from llm_platform.defs.failures import UP_TO_DATE
from llm_platform.operations.releases import champion_release
from llm_platform_tests.defs.conftest import QUIET
from llm_platform_tests.servers.scripted import ScriptedServer
from llm_platform_tests.team import ENTRY, NAME, Team, answer, right_answer

OTHER = "other"
JUDGE = """---
api: chat
model: other
---
# user

Is {{ answer }} right for {{ text }}? Say right or wrong.
"""


@pytest.fixture
def other() -> Iterator[ScriptedServer]:
    """An endpoint that only a challenger and a judge use."""
    with ScriptedServer(answer=lambda seen: "right" if "Say right" in str(seen.body) else answer(seen)) as server:
        yield server


@pytest.fixture
def two_models(tmp_path: Path, model: ScriptedServer, other: ScriptedServer) -> Team:
    """A champion on one model, and on another one a challenger and a judge."""
    team = Team(tmp_path, model.url, documents=40)
    lock = yaml.safe_load(team.lock_file.read_text(encoding="utf-8"))
    lock["models"][OTHER] = {**lock["models"][ENTRY], "base_urls": [other.url]}
    team.lock_file.write_text(yaml.safe_dump(lock), encoding="utf-8")
    team.specification["variants"][OTHER] = {**team.specification["variants"].pop("vague"), "model": OTHER}
    team.specification["evaluation"]["scorers"] = ["exact", "judge:strict"]
    (team.folder / "judges").mkdir()
    (team.folder / "judges" / "strict.md").write_text(JUDGE, encoding="utf-8")
    team.write_specification()
    return team


def run(team: Team, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    job = team.definitions().resolve_job_def(NAME)
    return job.execute_in_process(instance=instance, raise_on_error=False, run_config=QUIET)


def failed_steps(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    return {
        event.step_key or "": event.step_failure_data.user_failure_data.description or ""
        for event in result.all_events
        if event.is_step_failure and event.step_failure_data.user_failure_data
    }


def not_up_to_date(result: dg.ExecuteInProcessResult) -> set[str]:
    evaluations = result.get_asset_check_evaluations()
    failed = [one for one in evaluations if one.check_name == UP_TO_DATE and not one.passed]
    return {one.asset_key.to_user_string() for one in failed}


def published(team: Team) -> set[str]:
    with team.warehouse.open(read_only=True) as lake:
        return set(lake.application(NAME).published.table(1)["document_id"].to_pylist())


@pytest.mark.slow
def test_what_goes_wrong_beside_the_champion_does_not_keep_its_answers_from_readers(
    two_models: Team, other: ScriptedServer, instance: dg.DagsterInstance
) -> None:
    """The champion's answers are paid; an endpoint that only a challenger and a judge need is no reason to hold them.

    The run is a failed one, and says of each what is not up to date and why: so does the report card.
    """
    team = two_models
    assert run(team, instance).success
    team.write_documents({f"{number}": Team.text(number) for number in range(41)})
    # Another rubric, so that the judge has something to say, too.
    (team.folder / "judges" / "strict.md").write_text(JUDGE.replace("Is ", "Is the answer "), encoding="utf-8")
    (team.root / "known.csv").unlink()
    other.die()

    result = run(team, instance)

    assert published(team) == {f"{number}" for number in range(41)}
    assert not result.success
    # Without known answers nothing could be said of a challenger's answers, so none is paid for.
    troubled = {
        f"{NAME}/completions_clear",
        f"{NAME}/completions_{OTHER}",
        f"{NAME}/judgements_strict",
        f"{NAME}/references",
        f"models/model_{OTHER}",
    }
    assert not_up_to_date(result) == troubled
    assert set(failed_steps(result)) == {f"{NAME}_{UP_TO_DATE}", f"models_{UP_TO_DATE}"}
    assert f"completions_{OTHER} is not up to date: " in failed_steps(result)[f"{NAME}_{UP_TO_DATE}"]
    card = (team.settings.cards_folder / NAME / "card.html").read_text(encoding="utf-8")
    assert "Not brought up to date" in card
    assert f"completions_{OTHER}" in card

    other.come_back()
    team.write_references({f"{number}": right_answer(number) for number in range(41)})
    after = run(team, instance)

    assert after.success, failed_steps(after)
    assert not_up_to_date(after) == set()


@pytest.mark.slow
def test_a_scorer_that_raises_keeps_no_answers_from_readers(
    two_models: Team, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A team's own code may be wrong in any way; its documents are published, and its message is not repeated."""
    team = two_models
    assert run(team, instance).success
    (team.root / "broken_grading.py").write_text("raise RuntimeError('printer is on fire')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(team.root))
    team.specification["evaluation"]["scorers"] = ["exact", "broken_grading:strict"]
    team.write_specification()
    team.write_documents({f"{number}": Team.text(number) for number in range(41)})

    result = run(team, instance)

    assert published(team) == {f"{number}" for number in range(41)}
    assert not result.success
    assert f"{NAME}/scores" in not_up_to_date(result)
    assert "on fire" not in "".join(failed_steps(result).values())


@pytest.mark.slow
def test_a_champion_that_cannot_answer_is_not_published_and_others_are_judged(
    two_models: Team, model: ScriptedServer, instance: dg.DagsterInstance
) -> None:
    """Readers never see half a table; and what was learned about challengers is not lost with it."""
    team = two_models
    assert run(team, instance).success
    team.write_documents({f"{number}": Team.text(number) for number in range(41)})
    model.die()

    result = run(team, instance)

    assert published(team) == {f"{number}" for number in range(40)}
    assert "1 sendable documents have no answer of the champion" in failed_steps(result)[f"{NAME}__published"]
    with team.warehouse.open(read_only=True) as lake:
        store = lake.application(NAME)
        champion = champion_release(store)
        challenger = team.loaded.release(OTHER, store)
        assert challenger is not None
        assert champion is not None
        assert store.completions.missing_count(challenger.release_id) == 0
        assert store.completions.missing_count(champion.release_id) == 1
