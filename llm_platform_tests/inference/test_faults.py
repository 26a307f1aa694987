"""What the engine does when endpoints fail, counted on the endpoint's side."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from llm_platform.errors import EndpointMismatch, EndpointUnavailable, PermanentError
from llm_platform.inference.meter import Progress
from llm_platform.inference.policy import EndpointTarget
from llm_platform.records import CompletionStatus
from llm_platform.records.refusals import Refusal
from llm_platform_tests.inference.cases import QUICK, ask, release
from llm_platform_tests.servers.faults import (
    Drip,
    Fault,
    Hangup,
    Late,
    NeverAnswer,
    Replace,
    ResetMidBody,
    Status,
    TruncatedJson,
)
from llm_platform_tests.servers.scripted import ScriptedServer, Seen

ROWS = 200
CONTEXT_MESSAGE = "This model's maximum context length is 4096 tokens. However, your prompt contains 9000 input tokens."


def first_time(fault: Fault, *, every: int = 3) -> Callable[[Seen], Fault | None]:
    """The first request of every third document fails."""
    return lambda seen: fault if seen.document_id and int(seen.document_id) % every == 0 and not seen.times else None


def dies_at(server: ScriptedServer, number: int) -> None:
    """The endpoint goes away with that request: a moment of the run, and none of the clock."""

    def script(seen: Seen) -> None:
        if seen.number == number:
            server.die_now()

    server.script = script


def always(fault: Fault, *documents: str) -> Callable[[Seen], Fault | None]:
    return lambda seen: fault if seen.document_id in documents else None


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        pytest.param(Status(500), "http_500", id="500"),
        pytest.param(Status(503), "http_503", id="503"),
        pytest.param(Status(503, headers={"Retry-After": "0.2"}), "http_503", id="503-with-retry-after"),
        pytest.param(Status(408), "http_408", id="408"),
        pytest.param(ResetMidBody(), "reset", id="reset-in-the-body"),
        pytest.param(Hangup(), "reset", id="hang-up"),
        pytest.param(TruncatedJson(), "unreadable", id="half-json"),
        pytest.param(Replace(b"<html>bad gateway</html>"), "unreadable", id="garbage"),
        pytest.param(Replace(b""), "unreadable", id="empty-body"),
        pytest.param(Drip(every_seconds=0.1), "timeout", id="slow-drip"),
        pytest.param(NeverAnswer(), "timeout", id="accepts-and-never-answers"),
    ],
)
def test_passing_fault_loses_nothing_and_doubles_nothing(fault: Fault, cause: str) -> None:
    """Every document ends with one answer, and each fault costs exactly one more request."""
    rows = 30 if cause == "timeout" else ROWS
    policy = replace(QUICK, request_timeout_seconds=0.5 if cause == "timeout" else 60.0)

    with ScriptedServer(script=first_time(fault)) as server:
        outcome = ask(server, rows, policy=policy)

    faults, retries = (rows + 2) // 3, outcome.result.meter.retries
    assert outcome.stored_once(rows)
    assert outcome.result.error is None
    assert retries.keys() == {cause}
    # On a busy machine an answer that nothing is wrong with may take half a second, too.
    assert retries[cause] == faults or (cause == "timeout" and retries[cause] > faults)
    assert server.counts.requests == rows + retries[cause]


def test_document_that_always_fails_uses_up_its_attempts_and_is_stored_as_failed() -> None:
    """One poisonous document must neither run for ever, nor be paid for in every run, nor block all others."""
    with ScriptedServer(script=always(Status(500, "boom in DOC"), "7", "50")) as server:
        outcome = ask(server, ROWS)

    failed = [row for row in outcome.rows if row.status is CompletionStatus.FAILED]
    assert server.counts.asked["7"] == server.counts.asked["50"] == QUICK.attempts
    assert outcome.stored_once(ROWS)
    assert {row.document_id for row in failed} == {"7", "50"}
    for row in failed:
        assert row.answer is None
        assert row.attempts == QUICK.attempts
        assert row.reason is not None
        assert row.reason.startswith("5 requests in ")
        assert row.reason.endswith("failed while the endpoint answered others, the last with: HTTP 500")
        assert "boom in DOC" in (row.said or "")
    assert outcome.result.meter.failed == {"gave_up_http_500": 2}
    assert outcome.result.error is None


def test_poisonous_documents_alone_at_the_end_do_not_look_like_an_outage() -> None:
    """With nothing else in flight a probe decides whether the document or the endpoint is at fault."""
    poison = tuple(str(number) for number in range(ROWS - 12, ROWS))

    with ScriptedServer(script=always(Status(500), *poison)) as server:
        outcome = ask(server, ROWS)

    assert outcome.result.meter.failed == {"gave_up_http_500": len(poison)}
    assert all(server.counts.asked[document] == QUICK.attempts for document in poison)
    assert server.counts.probes >= 1


@pytest.mark.parametrize(
    "fault",
    [pytest.param(Status(503), id="503"), pytest.param(Hangup(), id="hang-up"), pytest.param(Status(500), id="500")],
)
def test_outage_costs_no_row_an_attempt(fault: Fault) -> None:
    """Rows lost in an outage would be lost for nothing: the endpoint comes back, and a probe finds out."""
    down = {"probes": 0}

    def outage(seen: Seen) -> Fault | None:
        # Down from the 60th request on, for longer than any row's attempts would last; ends with the 25th probe.
        if not seen.document_id and seen.number > 60:
            down["probes"] += 1
        return fault if seen.number >= 60 and down["probes"] < 25 else None

    with ScriptedServer(script=outage) as server:
        outcome = ask(server, ROWS)

    assert outcome.stored_once(ROWS)
    assert outcome.result.meter.failed == {}
    # What was in flight when it went down fails once, and the few rows that were retried before the breaker opened.
    assert server.counts.requests <= ROWS + 3 * (QUICK.limit or 0)
    assert server.counts.probes >= 25


def test_answers_of_before_an_outage_do_not_start_it_again() -> None:
    """What was in flight when an endpoint went down may still be answered; only a probe tells whether it is back."""
    limit, probed_at = 16, []

    def outage(seen: Seen) -> Fault | None:
        if not seen.document_id:
            probed_at.append(time.monotonic())
            return Late(0.03, Status(503)) if len(probed_at) < 6 else None
        if seen.number < limit:
            return Late(0.05 + 0.01 * seen.number)
        return Status(503) if len(probed_at) < 6 else None

    with ScriptedServer(script=outage) as server:
        outcome = ask(server, ROWS)

    assert outcome.stored_once(ROWS)
    assert server.counts.requests <= ROWS + QUICK.breaker_failures
    # One examination: with several of them, probes would come at any time.
    assert min(later - sooner for sooner, later in pairwise(probed_at)) >= QUICK.probe_seconds


def test_probe_that_waits_behind_long_answers_does_not_stop_the_run() -> None:
    """An endpoint with a long queue answers no probe in time; its answers are proof enough."""
    policy = replace(QUICK, probe_timeout_seconds=0.4)
    poison = frozenset(str(number) for number in range(policy.breaker_failures))
    answered_at, asked_at = [], []

    def busy(seen: Seen) -> Fault | None:
        if not seen.document_id:
            return Late(5.0)
        if seen.document_id in poison:
            return Status(500) if not seen.times else None
        asked_at.append(time.monotonic())
        late = 0.1 * (int(seen.document_id) - len(poison))
        answered_at.append(asked_at[-1] + late)
        return Late(late)

    with ScriptedServer(script=busy) as server:
        outcome = ask(server, 24, policy=policy)

    in_flight = (QUICK.limit or 0) - len(poison)
    assert outcome.stored_once(24)
    assert server.counts.probes == 1
    assert asked_at[in_flight] < max(answered_at[:in_flight])


def test_process_that_dies_and_comes_back_loses_nothing() -> None:
    """A restarted endpoint refuses connections for a while; what was in flight is asked again."""
    returned: list[bool] = []

    with ScriptedServer(latency_seconds=0.01) as server:
        dies_at(server, 100)

        def come_back(progress: Progress) -> bool:
            if "connect" in progress.retries and not returned:
                returned.append(True)
                server.later(0.0, server.open_now)
            return False

        outcome = ask(server, 500, stop_when=come_back)

    assert outcome.stored_once(500)
    assert outcome.result.error is None
    assert server.counts.requests <= 500 + 3 * (QUICK.limit or 0)
    assert "connect" in outcome.result.meter.retries


def test_endpoint_that_never_comes_back_ends_the_run_with_its_name() -> None:
    """A run that waits for ever holds a slot of the scheduler and tells nobody."""
    policy = replace(QUICK, unavailable_after_seconds=0.5)

    with ScriptedServer(latency_seconds=0.01) as server:
        dies_at(server, 200)
        outcome = ask(server, 2000, policy=policy)

    error = outcome.result.error
    assert isinstance(error, EndpointUnavailable)
    assert server.url in str(error)
    assert "refused" in str(error)
    assert len(outcome.rows) == len(set(outcome.ids)) == outcome.result.stored > 0
    assert server.counts.answered.total() - len(outcome.rows) <= (QUICK.limit or 0)


def test_endpoint_that_was_never_there_is_named() -> None:
    """The commonest mistake is a wrong port."""
    policy = replace(QUICK, unavailable_after_seconds=0.3)

    with ScriptedServer() as server:
        nobody = EndpointTarget("http://127.0.0.1:1")
        outcome = ask(server, 10, policy=policy, targets=[nobody])

    assert isinstance(outcome.result.error, EndpointUnavailable)
    assert "http://127.0.0.1:1" in str(outcome.result.error)


def test_document_the_endpoint_refuses_is_stored_and_asked_once() -> None:
    """A 400 on one document is an answer about that document: it is kept with its reason, and never sent again."""
    fault = Status(400, CONTEXT_MESSAGE, param="input_tokens")

    with ScriptedServer(script=always(fault, "3", "150")) as server:
        outcome = ask(server, ROWS)

    rejected = [row for row in outcome.rows if row.status is CompletionStatus.REJECTED]
    assert outcome.stored_once(ROWS)
    assert {row.document_id for row in rejected} == {"3", "150"}
    assert all(row.reason == f"HTTP 400: {Refusal.TOO_LONG}" and row.answer is None for row in rejected)
    assert all(CONTEXT_MESSAGE in (row.said or "") for row in rejected)
    assert server.counts.asked["3"] == server.counts.asked["150"] == 1


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        pytest.param(
            Status(404, "The model `scripted-model` does not exist."), "does not know the model", id="unknown-model"
        ),
        pytest.param(Status(401, "Unauthorized"), "HTTP 401", id="wrong-key"),
        pytest.param(Status(302, headers={"Location": "http://login/"}), "sends to another address", id="redirect"),
    ],
)
def test_refusal_of_every_request_ends_the_run_at_once(fault: Fault, said: str) -> None:
    """A wrong key or model name must not become a million refused rows."""
    with ScriptedServer(script=lambda seen: fault) as server:
        outcome = ask(server, ROWS)

    assert isinstance(outcome.result.error, EndpointMismatch)
    assert said in str(outcome.result.error)
    assert server.counts.requests <= (QUICK.limit or 0)
    assert outcome.rows == []


def test_endpoint_that_refuses_above_a_capacity_is_kept_just_below_it() -> None:
    """429 means the limit was too high; pausing the endpoint or charging the rows would be wrong."""
    policy = replace(QUICK, limit=64)

    with ScriptedServer(capacity=16, latency_seconds=0.02) as server:
        outcome = ask(server, 1000, policy=policy)

    assert outcome.stored_once(1000)
    assert outcome.result.meter.failed == {}
    assert outcome.progress[-1].limit < 32


def test_retry_after_delays_only_its_own_row() -> None:
    """Pausing a whole endpoint on one Retry-After costs ten times the run."""
    an_hour = Status(429, headers={"Retry-After": "3600"})

    with ScriptedServer(script=first_time(an_hour, every=100), latency_seconds=0.005) as server:
        outcome = ask(server, ROWS, stop_when=lambda progress: progress.done == ROWS - 2)

    assert set(outcome.ids) == {str(number) for number in range(ROWS)} - {"0", "100"}
    assert set(server.counts.asked.values()) == {1}


def test_row_that_was_told_to_wait_is_asked_again_no_sooner() -> None:
    """Who asks sooner is refused again, and longer."""
    fault = Status(429, headers={"Retry-After": "1"})

    with ScriptedServer(script=first_time(fault, every=100), latency_seconds=0.005) as server:
        outcome = ask(server, ROWS)

    assert outcome.stored_once(ROWS)
    assert outcome.result.meter.retries == {"http_429": 2}
    assert outcome.result.seconds > 1.0


def test_one_of_two_endpoints_down_for_good_costs_nothing_but_speed() -> None:
    """Rows that failed on the dead one are answered by the other."""
    with ScriptedServer(latency_seconds=0.005) as alive, ScriptedServer(latency_seconds=0.005) as dead:
        dies_at(dead, 100)
        outcome = ask([alive, dead], 1000)

    assert outcome.stored_once(1000)
    assert outcome.result.error is None
    assert alive.counts.answered.total() + dead.counts.answered.total() == 1000 or (
        # An answer that was on its way when the connection broke was paid for and has to be asked again.
        alive.counts.answered.total() + dead.counts.answered.total() <= 1000 + (QUICK.limit or 0)
    )


def test_endpoint_that_is_never_reachable_beside_one_that_is() -> None:
    """A list of endpoints with a typing error in it still works."""
    with ScriptedServer() as server:
        targets = [EndpointTarget("http://127.0.0.1:1"), EndpointTarget(server.url)]
        outcome = ask(server, ROWS, targets=targets)

    assert outcome.stored_once(ROWS)
    assert {row.endpoint for row in outcome.rows} == {server.url}


def test_too_many_failed_documents_end_the_run_with_counts() -> None:
    """A broken prompt must not be paid for a million times."""
    policy = replace(QUICK, max_failed_share=0.2)

    with ScriptedServer(answer=lambda seen: "neither") as server:
        outcome = ask(server, 5000, asked=release("classify"), policy=policy)

    error = outcome.result.error
    assert isinstance(error, PermanentError)
    assert "max_failed_share" in str(error)
    assert "invalid" in str(error)
    assert server.counts.requests < 500
    assert len(outcome.rows) == outcome.result.meter.done


def test_a_few_failures_early_do_not_end_a_run() -> None:
    """Three failures among the first five documents say nothing yet."""
    policy = replace(QUICK, max_failed_share=0.1)

    with ScriptedServer(script=always(Status(400, "no"), "0", "1", "2")) as server:
        outcome = ask(server, ROWS, policy=policy)

    assert outcome.result.error is None
    assert outcome.stored_once(ROWS)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_everything_at_once_loses_nothing_and_doubles_nothing(seed: int) -> None:
    """Real outages come as a mixture, and the parts of the engine that handle them meet each other."""
    draw = random.Random(seed)
    faults: list[Fault] = [
        Status(500),
        Status(503, headers={"Retry-After": "0.05"}),
        Status(429),
        ResetMidBody(),
        Hangup(),
        TruncatedJson(),
        Replace(b"<html>"),
        Drip(every_seconds=0.2),
    ]

    def storm(seen: Seen) -> Fault | None:
        # Passing for every document: after two failures it is left in peace.
        return draw.choice(faults) if seen.document_id and seen.times < 2 and draw.random() < 0.2 else None

    policy = replace(QUICK, request_timeout_seconds=0.4)
    with (
        ScriptedServer(script=storm, latency_seconds=0.005) as first,
        ScriptedServer(script=storm, latency_seconds=0.01) as second,
    ):
        second.later(0.3, second.die_now)
        second.later(1.0, second.open_now)
        first.later(0.6, first.die_now)
        first.later(1.2, first.open_now)
        outcome = ask([first, second], 600, policy=policy)

    assert outcome.stored_once(600)
    assert (outcome.result.error, outcome.result.meter.failed) == (None, {})
    # No request that the account does not know of; refused connections are attempts that no server saw.
    assert all((first.counts.asked + second.counts.asked)[row.document_id] <= row.attempts for row in outcome.rows)
