"""Documents that the endpoint cannot or will not answer: named, published as holes, asked again on request."""

from __future__ import annotations

import json

import pytest

from llm_platform_tests.servers.faults import Fault, Replace, Status
from llm_platform_tests.servers.scripted import Seen
from llm_platform_tests.survival.command import Terminal
from llm_platform_tests.survival.conftest import MakeDesk
from llm_platform_tests.survival.ledger import ledger
from llm_platform_tests.team import ENTRY, NAME, Team

POISON = ("3", "11", "58", "59")
BROKEN = Status(500, "boom: the printer is on fire")


def one_variant(team: Team) -> None:
    team.specification["variants"] = {"clear": {"prompt": "clear", "model": ENTRY, "sampling": {"max_tokens": 8}}}
    team.specification["evaluation"]["gates"]["valid_rate"]["minimum"] = 0.5
    team.write_specification()


def poisonous(seen: Seen) -> Fault | None:
    return BROKEN if seen.document_id in POISON else None


def listed(terminal: Terminal, *arguments: str) -> list[dict[str, object]]:
    finished = terminal.run("failures", NAME, "--json", *arguments)
    assert finished.status == 0, finished.said
    found: list[dict[str, object]] = json.loads(finished.out)
    return found


@pytest.mark.slow
def test_documents_that_always_fail_are_published_as_holes_and_named(desk: MakeDesk) -> None:
    """They blocked publishing and its gate for ever, were paid for in every run, and named nowhere."""
    terminal, model = desk(60, script=poisonous)
    one_variant(terminal.team)

    finished = terminal.run("run", NAME)
    asked = model.counts.requests
    again = terminal.run("run", NAME)

    found = ledger(terminal.team)
    assert finished.status == again.status == 0, finished.said
    assert model.counts.requests == asked
    assert all(model.counts.asked[document] == 5 for document in POISON)
    assert found.is_whole(60)
    assert found.champion == "clear"
    for document in POISON:
        row = found.published[document]
        assert (row["status"], row["answer"]) == ("failed", None)
        assert "failed while the endpoint answered others, the last with: HTTP 500" in row["reason"]

    failures = listed(terminal)
    assert {row["document_id"] for row in failures} == set(POISON)
    assert {(row["variant"], row["status"], row["attempts"]) for row in failures} == {("clear", "failed", 5)}
    shown = terminal.run("failures", NAME)
    explained = terminal.run("explain", NAME, POISON[0])
    assert all(f"│ {document} " in shown.out or f" {document} " in shown.out for document in POISON)
    assert "failed after 5 requests" in explained.out
    assert "printer" not in finished.said + shown.said + explained.said + json.dumps(failures)
    assert "boom" in terminal.run("explain", NAME, POISON[0], "--texts").out


@pytest.mark.slow
def test_failures_are_asked_again_when_they_are_mended(desk: MakeDesk) -> None:
    """The ledger keeps one row a document, whatever was there before; and what was there is kept, too."""
    terminal, model = desk(60, script=poisonous)
    one_variant(terminal.team)
    assert terminal.run("run", NAME).status == 0
    model.script = lambda seen: None
    before = dict(model.counts.asked)

    nothing = terminal.run("retry", NAME, "--status", "rejected")
    other = terminal.run("retry", NAME, "--reason", "no such words")
    retried = terminal.run("retry", NAME, "--status", "failed", "--reason", "http 500")
    finished = terminal.run("run", NAME)

    assert [nothing.status, other.status, retried.status, finished.status] == [0, 0, 0, 0], retried.said
    assert "There is nothing to ask again." in nothing.out
    assert "There is nothing to ask again." in other.out
    assert "clear: 4 documents are asked again" in retried.out
    assert {
        key: count - before[key] for key, count in model.counts.asked.items() if count != before[key]
    } == dict.fromkeys(POISON, 1)
    found = ledger(terminal.team)
    assert found.is_whole(60)
    assert {row["status"] for row in found.published.values()} == {"valid"}
    assert listed(terminal) == []
    with terminal.team.warehouse.open(read_only=True) as lake:
        session = lake.application(NAME)._session
        kept = session.rows(f"SELECT document_id, status, said FROM {session.relation(NAME, 'retried_completions')}")
        scored = session.rows(
            f"SELECT document_id, count(*) FROM {session.relation(NAME, 'scores')} GROUP BY 1 HAVING count(*) > 1"
        )
    assert sorted(row[0] for row in kept) == sorted(POISON)
    assert {row[1] for row in kept} == {"failed"}
    assert scored == []


@pytest.mark.slow
def test_account_without_credit_ends_the_run_and_the_next_one_asks_the_rest(desk: MakeDesk) -> None:
    """402 in the middle became 40 rejected rows that nobody asked again when the account was topped up."""
    empty = True

    def script(seen: Seen) -> Fault | None:
        return Status(402, "Payment required") if empty and seen.number >= 20 else None

    terminal, model = desk(60, script=script)
    one_variant(terminal.team)

    first = terminal.run("run", NAME)
    stored = ledger(terminal.team).stored["clear"]
    listed_then = terminal.run("failures", NAME).out
    empty = False
    second = terminal.run("run", NAME)

    assert first.failed_plainly, first.said
    assert "the account has no quota or credit left. Top the account up" in first.err
    assert f"{len(stored)} of 60 documents are done and kept." in first.err
    assert 15 <= len(stored) <= 20
    assert f"clear: {60 - len(stored)} texts have not been answered yet: llm-platform run {NAME}" in listed_then
    assert "No answer that is stored is a failure." in listed_then
    assert second.status == 0, second.said
    assert ledger(terminal.team).is_whole(60)
    assert {row["status"] for row in ledger(terminal.team).published.values()} == {"valid"}
    assert all(model.counts.asked[document] == 1 for document in stored)


@pytest.mark.slow
def test_usage_that_makes_no_sense_ends_neither_this_run_nor_the_next(desk: MakeDesk) -> None:
    """ZeroDivisionError in every later run and in `estimate`; a journal line that no run could store."""
    usages: list[object] = [None, "n/a", [1], {"prompt_tokens": 2**70, "completion_tokens": -1}]

    def script(seen: Seen) -> Fault | None:
        choice = {"index": 0, "message": {"content": "HAPPY"}, "finish_reason": "stop"}
        usage = usages[int(seen.document_id) % len(usages)] if seen.document_id else None
        return Replace(json.dumps({"choices": [choice], "usage": usage}).encode()) if seen.document_id else None

    terminal, _ = desk(60, script=script)
    one_variant(terminal.team)

    first = terminal.run("run", NAME)
    terminal.team.write_documents({f"{number}": Team.text(number) for number in range(80)})
    estimated = terminal.run("estimate", NAME)
    second = terminal.run("run", NAME)

    for finished in (first, estimated, second):
        assert finished.status == 0, finished.said
        assert "Traceback" not in finished.said
    assert len(ledger(terminal.team).stored["clear"]) == 80


@pytest.mark.slow
def test_journal_line_that_no_run_could_store_is_set_aside_by_the_next_run(desk: MakeDesk) -> None:
    """An application that an older version has wedged is mended by its next run, and the answer is named."""
    terminal, model = desk(60)
    one_variant(terminal.team)
    assert terminal.run("run", NAME).status == 0
    team = terminal.team
    with team.warehouse.open(read_only=True) as lake:
        store = lake.application(NAME)
        release = team.loaded.requesting("clear", store)
        assert release is not None
        (row, *_) = store.completions.records(
            release.release_id, store.completions.of_release(release.release_id)["fingerprint"].to_pylist()[:1]
        )
    line = json.loads(row.model_dump_json())
    folder = team.settings.namespace_folder / "journal" / NAME / release.release_id
    folder.mkdir(parents=True, exist_ok=True)
    written = [
        {**line, "fingerprint": "wedged", "document_id": "w", "prompt_tokens": 2**64},
        {**line, "fingerprint": "good", "document_id": "g"},
    ]
    (folder / "dead.journal").write_text("".join(json.dumps(one) + "\n" for one in written))
    team.write_documents({f"{number}": Team.text(number) for number in range(61)})

    finished = terminal.run("run", NAME)

    assert finished.status == 0, finished.said
    assert "'wedged'" in finished.said
    assert json.loads((folder / "set_aside.lines").read_text())["fingerprint"] == "wedged"
    assert {"60", "g"} <= ledger(team).stored["clear"]
    assert model.counts.asked["60"] == 1
