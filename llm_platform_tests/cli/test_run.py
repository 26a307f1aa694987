"""`llm-platform run`: what it does when something beside the champion is wrong, and what its last lines say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml

from llm_platform.errors import ContractBroken, PermanentError
from llm_platform.operations.answering.documents import update_documents
from llm_platform.records import RolloutEvent
from llm_platform.workbench.answering import answer_beside
from llm_platform.workbench.runs import SHOWN
from llm_platform_tests.servers.scripted import ScriptedServer, Seen
from llm_platform_tests.survival.command import Terminal
from llm_platform_tests.survival.ledger import ledger
from llm_platform_tests.team import ENTRY, NAME, Team, answer, right_answer
from llm_platform_tests.warehouse.builders import event

DEAD = "http://127.0.0.1:9"


@pytest.fixture
def model() -> Iterator[ScriptedServer]:
    with ScriptedServer(answer=answer) as server:
        yield server


def add_variant(team: Team, name: str, url: str) -> None:
    """A variant that asks clearly, on a model of its own."""
    lock = yaml.safe_load(team.lock_file.read_text(encoding="utf-8"))
    lock["models"][name] = {**lock["models"][ENTRY], "base_urls": [url]}
    team.lock_file.write_text(yaml.safe_dump(lock), encoding="utf-8")
    team.write_prompt(name, "Say clearly, and think of the team, whether this is HAPPY or SAD: {{ text }} {{ team }}")
    team.specification["variants"][name] = {**team.specification["variants"]["clear"], "model": name, "prompt": name}
    team.write_specification()


def published(team: Team) -> int:
    with team.warehouse.open(read_only=True) as lake:
        return int(lake.application(NAME).published.table(1).num_rows)


@pytest.mark.slow
def test_a_dead_challenger_is_said_and_the_champion_published(tmp_path: Path, model: ScriptedServer) -> None:
    """Exit status and last lines are what scripts and people act on: neither may say that nothing was published."""
    team = Team(tmp_path, model.url, documents=40)
    add_variant(team, "remote", DEAD)
    terminal = Terminal(team)

    first = terminal.run("run", NAME)

    assert first.status == 1, first.said
    assert "40 rows by clear" in first.out
    assert f"{NAME}/completions_remote is not up to date: " in first.err
    assert f"{NAME}/published" not in first.err
    with dg.DagsterInstance.from_config(str(team.settings.dagster_home)) as instance:
        # The filter of the job's page in Dagster's UI.
        shown = instance.get_runs(dg.RunsFilter(job_name=NAME, tags=SHOWN))
        assert [run.status for run in shown] == [dg.DagsterRunStatus.FAILURE]

    team.write_documents({f"{number}": Team.text(number) for number in range(42)})
    asked = model.counts.requests
    only_champion = terminal.run("run", NAME, "--only", "champion")

    assert only_champion.status == 0, only_champion.said
    assert "42 rows by clear" in only_champion.out
    assert model.counts.requests == asked + 2

    only_vague = terminal.run("run", NAME, "--only", "vague")
    unknown = terminal.run("run", NAME, "--only", "nobody")

    assert only_vague.status == 0, only_vague.said
    assert model.counts.requests == asked + 4
    assert unknown.failed_plainly
    assert "clear, vague, remote, champion" in unknown.err


@pytest.mark.slow
def test_an_approved_variant_waits_for_a_person_where_the_application_says_so(
    tmp_path: Path, model: ScriptedServer
) -> None:
    """'No variant passed its gates' is not what an application says whose best variant only waits to be promoted."""
    team = Team(tmp_path, model.url, documents=40)
    team.specification["rollout"] = {"first_champion": "manual"}
    # The first one in the file is good enough, and the second one better.
    team.specification["variants"] = dict(reversed(team.specification["variants"].items()))
    team.specification["evaluation"]["gates"] |= {
        "accuracy": {"minimum": 0.6, "reason": "half of the tickets are of each mood"},
        "regression": {"margin": 0.1, "reason": "nobody would see a smaller difference"},
        "latency_p95_seconds": {"maximum": 1000.0, "reason": "nobody waits for these answers"},
        "confidence": 0.6,
    }

    def mostly_right(seen: Seen) -> str:
        number = int(seen.document_id)
        return right_answer(number if "clearly" in str(seen.body) or number % 5 else number + 1)

    model.answer = mostly_right
    team.write_specification()
    terminal = Terminal(team)

    finished = terminal.run("run", NAME)

    assert finished.status == 0, finished.said
    assert "no variant passed" not in finished.out
    assert f"llm-platform promote {NAME} clear" in finished.out
    assert "nothing to measure" in finished.out
    assert "no_regression_against_champion" not in finished.out
    assert ledger(team).champion is None

    promoted = terminal.run("promote", NAME, "clear")

    assert promoted.status == 0, promoted.said
    assert published(team) == 40

    explained = terminal.run("explain", NAME, "7")

    assert explained.status == 0, explained.said
    assert "latency_p95_seconds: upper bound" in explained.out
    assert "regression: not measured" in explained.out


def test_a_process_that_shares_the_work_goes_on_with_the_other_variants(tmp_path: Path, model: ScriptedServer) -> None:
    """A dead endpoint that stands first in the file must not leave the answers of all others unasked."""
    team = Team(tmp_path, model.url, documents=10)
    add_variant(team, "remote", DEAD)
    team.specification["variants"] = dict(reversed(team.specification["variants"].items()))
    team.write_specification()
    with team.warehouse.open() as lake:
        update_documents(lake, team.loaded)
    answered = answer_beside(team.settings, team.loaded, on_progress=lambda *_: None)

    done = [next(answered).variant, next(answered).variant]
    with pytest.raises(PermanentError, match="remote: "):
        next(answered)

    assert done == ["vague", "clear"]
    assert model.counts.requests == 20


def test_a_process_that_shares_the_work_answers_what_is_published_beside_bad_known_answers(
    tmp_path: Path, model: ScriptedServer
) -> None:
    """What is published goes on; only of new answers nothing could be said."""
    team = Team(tmp_path, model.url, documents=10)
    with team.warehouse.open() as lake:
        update_documents(lake, team.loaded)
        store = lake.application(NAME)
        clear = team.loaded.requesting("clear", store)
        assert clear is not None
        store.releases.put(clear)
        store.rollout.append(promoted(clear.release_id), expected_previous=None)
    team.write_references({"0": "SAD", "1": "MAD"})

    answered = answer_beside(team.settings, team.loaded, on_progress=lambda *_: None)
    done = next(answered)
    with pytest.raises(PermanentError, match=r"known answers: .* not possible answers"):
        next(answered)
    with pytest.raises(ContractBroken, match="not possible answers"):
        next(answer_beside(team.settings, team.loaded, on_progress=lambda *_: None, variant="vague"))

    assert (done.variant, done.sent.run and done.sent.run.stored) == ("champion", 10)
    assert model.counts.requests == 10


def promoted(release_id: str) -> RolloutEvent:
    """That a person has published a release."""
    return event("promotion", release_id=release_id).model_copy(update={"variant": "clear"})
