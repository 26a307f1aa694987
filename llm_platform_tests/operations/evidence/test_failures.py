"""Stored failures, made missing again: nothing doubled, nothing lost, nobody in the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_platform.errors import LeaseHeld, SpecificationError
from llm_platform.inference.parts import parts_release
from llm_platform.operations.evidence.evaluation import judged_releases, score_releases
from llm_platform.operations.evidence.failures import FailuresOf, ask_again, stored_failures
from llm_platform.operations.release.branches import make_branch
from llm_platform.records import CompletionStatus
from llm_platform.workbench.prompt_work import ask_judge
from llm_platform_tests.kept import KeptTeam
from llm_platform_tests.operations.answering.test_long_documents import LONG, SHORT, LongTeam, answered, said
from llm_platform_tests.operations.prompt_team import team_that_has_run, verdict
from llm_platform_tests.servers.faults import Fault, Status
from llm_platform_tests.servers.scripted import ScriptedServer, Seen
from llm_platform_tests.team import NAME, Team


def fails(seen: Seen) -> Fault | None:
    if seen.document_id == "1":
        return Status(500)
    if seen.document_id == "2":
        return Status(400, "no")
    return Status(500) if "DOC#long-2000#" in said(seen) else None


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[KeptTeam[LongTeam], ScriptedServer]]:
    """Four short documents, two of which fail, and two in parts, one of which has a part that fails."""
    with ScriptedServer(answer=lambda _: "HAPPY", script=fails) as server:
        team = LongTeam(tmp_path_factory.mktemp("broken") / "team", server.url, "split")
        answered(team)
        yield KeptTeam(team), server


@pytest.fixture
def broken(kept: tuple[KeptTeam[LongTeam], ScriptedServer]) -> tuple[LongTeam, ScriptedServer]:
    """The same at the beginning of every test."""
    team, server = kept
    server.script = fails
    return team.put_back(), server


def retry(team: Team, **chosen: object) -> dict[str, int]:
    with team.warehouse.open() as lake:
        store = lake.application(NAME)
        found = stored_failures(store, team.loaded, **chosen)  # type: ignore[arg-type]
        journals = team.settings.namespace_folder / "journal"
        return {one.name: one.documents for one in ask_again(store, found, journals=journals, holder="test")}


def failures(team: LongTeam, **chosen: object) -> dict[str, str]:
    with team.warehouse.open() as lake:
        (found,) = stored_failures(lake.application(NAME), team.loaded, **chosen)  # type: ignore[arg-type]
        return {failure.document_id: failure.status for failure in found.failures}


def test_failures_are_listed_by_what_is_known_of_them(broken: tuple[LongTeam, ScriptedServer]) -> None:
    """Who mends a filter wants those that it refused, and no others."""
    team, _ = broken

    assert failures(team) == {"1": "failed", "2": "rejected", "long": "failed"}
    assert failures(team, statuses=["rejected"]) == {"2": "rejected"}
    assert failures(team, reason="HTTP 500") == {"1": "failed", "long": "failed"}
    assert failures(team, variant="clear", statuses=["failed"], reason="of 3 parts") == {"long": "failed"}
    with pytest.raises(SpecificationError, match="no status 'broken'"):
        failures(team, statuses=["broken"])
    with pytest.raises(SpecificationError, match="has no variant 'loud'"):
        failures(team, variant="loud")


def test_what_failed_is_asked_again_and_nothing_else(broken: tuple[LongTeam, ScriptedServer]) -> None:
    """A document in parts would fail for the stored part; a part that was answered is paid for."""
    team, server = broken
    before = server.counts.asked.copy()
    server.script = lambda seen: None

    counts = retry(team)
    answered(team)

    rows, parts = team.rows(), team.rows(parts_release(team.release))
    again = server.counts.asked - before
    assert counts == {"clear": 3}
    assert {row.status for row in (*rows.values(), *parts.values())} == {CompletionStatus.VALID}
    assert len(rows) == SHORT + len(LONG)
    assert again.total() == 3
    assert {document.partition("-")[0] for document in again} == {"1", "2", "long"}
    with team.warehouse.open() as lake:
        session = lake.application(NAME)._session
        kept = session.rows(f"SELECT status FROM {session.relation(NAME, 'retried_completions')} ORDER BY 1")
        doubled = session.rows(
            f"SELECT fingerprint, position FROM {session.relation(NAME, 'made_of')} GROUP BY ALL HAVING count(*) > 1"
        )
    assert [row[0] for row in kept] == ["failed", "failed", "failed", "rejected"]
    assert doubled == []


def test_failures_that_are_still_in_a_journal_do_not_come_back(broken: tuple[LongTeam, ScriptedServer]) -> None:
    """A process that died between its commit and its clean-up leaves rows that are stored already."""
    team, _ = broken
    row = team.rows()["1"]
    folder = team.settings.namespace_folder / "journal" / NAME / team.release.release_id
    (folder / "dead.journal").write_text(json.dumps(json.loads(row.model_dump_json())) + "\n")

    assert retry(team, statuses=["failed"], reason="requests in") == {"clear": 2}
    with team.warehouse.open() as lake:
        missing = lake.application(NAME).completions.missing(team.release.release_id)["document_id"].to_pylist()

    assert sorted(missing) == ["1", "long"]
    assert list(folder.iterdir()) == []


def test_nobody_asks_again_while_others_answer(broken: tuple[LongTeam, ScriptedServer]) -> None:
    """Rows that leave the ledger under a run that has looked would be stored by it twice, or never."""
    team, _ = broken

    with team.warehouse.open() as lake:
        store = lake.application(NAME)
        with (
            store.completions.lease(team.release.release_id, holder="another run"),
            pytest.raises(LeaseHeld, match="another run"),
        ):
            retry(team)

    assert set(failures(team)) == {"1", "2", "long"}


def test_retry_that_finds_nothing_changes_nothing(broken: tuple[LongTeam, ScriptedServer]) -> None:
    """A snapshot for nothing is a run for nothing: sensors look at snapshots."""
    team, _ = broken
    with team.warehouse.open() as lake:
        before = lake.snapshot()

    assert retry(team, statuses=["truncated"]) == {"clear": 0}
    with team.warehouse.open() as lake:
        assert lake.snapshot() == before


@pytest.mark.slow
def test_verdicts_that_failed_are_asked_again_and_count(tmp_path: Path) -> None:
    """A grade that says 'no verdict' stands for the answer that was judged: it has to go with the verdict."""
    with team_that_has_run(tmp_path) as (team, model):
        team.specification["evaluation"]["scorers"] = ["exact", "judge:right"]
        team.write_specification()
        ask_judge(NAME, "right", settings=team.settings)
        scored = scores_of_the_judge(team)
        stored = {one.name: one.failures for one in failures_of(team)}["judge right"]
        silent, before = model.answer, model.counts.requests
        model.answer = lambda seen: (
            verdict("right") if "Grade this" in str(seen.body) and int(seen.document_id) % 10 == 3 else silent(seen)
        )

        counts = retry(team)
        left = scores_of_the_judge(team)
        judged = ask_judge(NAME, "right", settings=team.settings)
        again = scores_of_the_judge(team)

    assert counts["judge right"] == len(stored) == judged.sent == model.counts.requests - before > 0
    assert {failure.status for failure in stored} == {"invalid"}
    assert None in scored.values()
    assert None not in again.values()
    assert set(again) == set(scored)
    assert {key: score for key, score in scored.items() if score is not None}.items() <= left.items()
    assert not judged.agreement.ungraded


@pytest.mark.parametrize("own", [False, True])
def test_failures_of_the_upstream_are_listed_and_stay(tmp_path: Path, *, own: bool) -> None:
    """A branch reads its upstream's answers, and may change none of them; its own it asks again."""
    refusing = {"1"}

    def script(seen: Seen) -> Fault | None:
        return Status(400, "no") if seen.document_id in refusing else None

    with ScriptedServer(answer=lambda _: "HAPPY", script=script) as server:
        team = LongTeam(tmp_path, server.url, "split")
        answered(team)
        production = team.settings
        make_branch(production.state, "branch", production.namespace)
        team.settings = production.in_namespace("branch")
        if own:
            refusing.add("new")
            team.write_documents({"1": Team.text(1), "new": "DOC#new# of the branch"})
        answered(team)
        asked = server.counts.requests

        with team.warehouse.open() as lake:
            store = lake.application(NAME)
            found = stored_failures(store, team.loaded)
            (retried,) = ask_again(store, found, journals=None, holder="test")
            missing = store.completions.missing(team.release.release_id)["document_id"].to_pylist()
        team.settings = production
        with team.warehouse.open() as lake:
            kept = lake.application(NAME).completions.of_release(team.release.release_id)["status"].to_pylist()

    assert {failure.document_id: failure.is_ours for failure in found[0].failures} == (
        {"1": False, "new": True} if own else {"1": False}
    )
    assert (retried.documents, retried.upstream) == (int(own), 1)
    assert missing == (["new"] if own else [])
    assert kept.count("rejected") == 1
    assert server.counts.requests == asked


def failures_of(team: Team) -> list[FailuresOf]:
    with team.warehouse.open() as lake:
        return stored_failures(lake.application(NAME), team.loaded)


def scores_of_the_judge(team: Team) -> dict[tuple[str, str], float | None]:
    """(release, document) → what the judge's verdict came to, as it is stored."""
    with team.warehouse.open() as lake:
        store = lake.application(NAME)
        score_releases(lake, team.loaded)
        version = store.references.version()
        return {
            (release.release_id, row["document_id"]): row["score"]
            for release in judged_releases(store, team.loaded).values()
            for row in store.scores.of_release(release.release_id, version).to_pylist()
            if row["scorer"].startswith("judge:right/")
        }
