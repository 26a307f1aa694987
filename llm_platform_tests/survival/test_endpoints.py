"""Endpoints that go away, talk nonsense, or refuse one document."""

from __future__ import annotations

import time

import pytest

from llm_platform.records.refusals import Refusal
from llm_platform_tests.servers.faults import Fault, Hangup, Replace, ResetMidBody, Status, TruncatedJson
from llm_platform_tests.servers.scripted import Seen
from llm_platform_tests.survival.command import Moment
from llm_platform_tests.survival.conftest import MakeDesk
from llm_platform_tests.survival.ledger import ledger
from llm_platform_tests.team import ENTRY, NAME

IN_FLIGHT = 16
OUTAGE_SECONDS = 3.0
CONTEXT_MESSAGE = "This model's maximum context length is 4096 tokens. However, your prompt contains 9000 input tokens."
FAULTS: tuple[Fault, ...] = (
    Status(500),
    Status(503, headers={"Retry-After": "0.2"}),
    ResetMidBody(),
    TruncatedJson(),
    Replace(b"<html>bad gateway</html>"),
    Replace(b""),
    Hangup(),
)


@pytest.mark.slow
def test_endpoint_that_dies_and_comes_back_costs_time_only(desk: MakeDesk) -> None:
    """A restarted model is the commonest failure there is; a run that loses rows over it has to be watched."""
    terminal, model = desk(200, latency_seconds=0.05)

    def restart() -> None:
        model.later(0.0, model.die_now)
        model.later(1.0, model.open_now)

    Moment(model, 100, restart)

    finished = terminal.run("run", NAME)

    assert finished.status == 0, finished.said
    assert ledger(terminal.team).is_whole(200)
    assert 400 <= model.counts.requests <= 400 + 3 * IN_FLIGHT
    assert model.counts.connections > IN_FLIGHT


@pytest.mark.slow
def test_endpoint_that_stays_away_ends_the_run_and_nothing_is_lost(desk: MakeDesk) -> None:
    """The run says which endpoint is gone instead of waiting for ever; the next one goes on from what is stored."""
    terminal, model = desk(200, latency_seconds=0.05, variables={"LLM_PLATFORM_OUTAGE_SECONDS": str(OUTAGE_SECONDS)})
    died: list[float] = []

    def die() -> None:
        died.append(time.monotonic())
        model.later(0.0, model.die_now)

    Moment(model, 100, die)
    finished = terminal.run("run", NAME)
    waited = time.monotonic() - died[0]
    stored = ledger(terminal.team).stored["clear"]

    assert finished.failed_plainly, finished.said
    assert "No endpoint has answered" in finished.err
    assert model.url in finished.err
    # How long the rest of the run takes is the machine's matter; that the outage itself has an end is held by
    # `inference/test_whose_fault.py`.
    assert waited >= OUTAGE_SECONDS
    assert stored == set(model.counts.answered)
    assert len(stored) >= 100 - IN_FLIGHT

    model.come_back()
    again = terminal.run("run", NAME)

    assert again.status == 0, again.said
    assert ledger(terminal.team).is_whole(200)
    assert {model.counts.asked[document] for document in stored} == {2}


@pytest.mark.slow
def test_nonsense_on_the_first_attempt_costs_one_more_request_each(desk: MakeDesk) -> None:
    """500, 503, half a body, half of the JSON, an error page, nothing, a hang-up: each is asked again, once."""

    def first_time(seen: Seen) -> Fault | None:
        if seen.times or not seen.document_id or int(seen.document_id) % 3:
            return None
        return FAULTS[int(seen.document_id) // 3 % len(FAULTS)]

    terminal, model = desk(63, script=first_time)

    finished = terminal.run("run", NAME)

    assert finished.status == 0, finished.said
    assert ledger(terminal.team).is_whole(63)
    # Two variants; the faults meet the first one.
    assert {document: times - 2 for document, times in model.counts.asked.items()} == {
        str(number): int(number % 3 == 0) for number in range(63)
    }


@pytest.mark.slow
def test_document_longer_than_the_context_is_a_row_with_its_reason(desk: MakeDesk) -> None:
    """Found here by the endpoint's own tokenizer, or said by the endpoint: one document, never a failed run."""

    def too_long(seen: Seen) -> Fault | None:
        return Status(400, CONTEXT_MESSAGE, param="input_tokens") if seen.document_id == "15" else None

    terminal, model = desk(60, script=too_long)
    team = terminal.team
    (team.folder / "prompts" / "clear.md").write_text(
        "---\napi: completion\nanswers: {HAPPY: HAPPY, SAD: SAD}\n---\nSay clearly, HAPPY or SAD: {{ text }}\n",
        encoding="utf-8",
    )
    team.specification["variants"] = {"clear": {"prompt": "clear", "model": ENTRY, "sampling": {"max_tokens": 8}}}
    team.write_specification()
    texts = {str(number): team.text(number) for number in range(60)}
    # Without the mark, since its tokens are counted and it is never asked for.
    team.write_documents({**texts, "13": "w " * 6000})

    finished = terminal.run("run", NAME)

    found = ledger(team)
    counted, refused = found.published["13"], found.published["15"]
    assert finished.status == 0, finished.said
    assert found.is_whole(60)
    assert counted["status"] == refused["status"] == "rejected"
    assert counted["answer"] is refused["answer"] is None
    assert "tokens and the model has room for" in counted["reason"]
    assert refused["reason"] == f"HTTP 400: {Refusal.TOO_LONG}"
    assert model.counts.requests == 59
