"""Whether a document, the set-up or the endpoint is at fault, counted on the endpoint's side."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from llm_platform.errors import EndpointMismatch, EndpointUnavailable
from llm_platform.inference import endpoint
from llm_platform.inference.descriptors import RESERVED, connections_allowed
from llm_platform.inference.policy import EndpointTarget, EnginePolicy
from llm_platform.inference.requests import probe_of
from llm_platform.records import CompletionStatus
from llm_platform_tests.inference.cases import QUICK, ask, release
from llm_platform_tests.servers.faults import Drip, Fault, Late, NeverAnswer, Replace, Status
from llm_platform_tests.servers.scripted import ScriptedServer, Seen

ROWS = 60
SLOW_TO_GIVE_UP = replace(QUICK, unavailable_after_seconds=1.5, request_timeout_seconds=60.0)


def coded(status: int, code: str) -> Fault:
    """A refusal with the code of the field, and a message that repeats the document."""
    return Replace(json.dumps({"error": {"message": "DOC#1# no", "code": code, "type": code}}).encode(), status)


def from_the(number: int, fault: Fault) -> Callable[[Seen], Fault | None]:
    """Everything fails from that request on, probes included."""
    return lambda seen: fault if seen.number >= number else None


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        pytest.param(Status(402, "Payment required"), "no quota or credit", id="402"),
        pytest.param(Status(401, "Unauthorized"), "the key is not accepted", id="401"),
        pytest.param(Status(403, "Forbidden"), "may not ask for this", id="403"),
        pytest.param(Status(404, "Not Found"), "does not have this path", id="404-of-a-path"),
        pytest.param(Status(413, "Request Entity Too Large"), "larger than it takes", id="413"),
        pytest.param(coded(400, "unsupported_parameter"), "does not take a parameter", id="400-parameter"),
        pytest.param(Status(400, "something else"), "HTTP 400", id="400"),
        pytest.param(Status(422, "Unprocessable"), "HTTP 422", id="422"),
        pytest.param(coded(429, "insufficient_quota"), "no quota or credit", id="429-quota"),
        pytest.param(coded(200, "insufficient_quota"), "no quota or credit", id="error-with-200"),
        pytest.param(Replace(b'{"error": {"code": 402, "message": "DOC"}}'), "no quota or credit", id="402-with-200"),
    ],
)
@pytest.mark.parametrize("number", [0, 25])
def test_what_refuses_the_set_up_ends_the_run_and_stores_none_of_it(fault: Fault, said: str, number: int) -> None:
    """A top-up of the account must make the next run ask again: nothing may stand in the table for good."""
    with ScriptedServer(script=from_the(number, fault)) as server:
        outcome = ask(server, ROWS)

    error = outcome.result.error
    assert isinstance(error, EndpointMismatch)
    assert said in str(error)
    assert server.url in str(error)
    assert "DOC" not in str(error)
    assert {row.status for row in outcome.rows} <= {CompletionStatus.VALID}
    assert len(outcome.rows) == server.counts.answered.total()
    assert server.counts.requests + server.counts.probes <= number + 2 * (QUICK.limit or 0)
    kept = f"{len(outcome.rows)} of {ROWS} documents are done and kept." if outcome.rows else "Nothing was stored."
    assert str(error).endswith(kept)


@pytest.mark.parametrize("status", [400, 403, 409, 413, 422])
def test_refusal_that_others_do_not_share_is_the_documents_own(status: int) -> None:
    """A filter before the endpoint refuses one text for ever; it must not end every run for all others."""

    def some(seen: Seen) -> Fault | None:
        return Status(status, "no") if seen.document_id in ("0", "7", "30", "59") else None

    with ScriptedServer(script=some) as server:
        outcome = ask(server, ROWS)

    rejected = {row.document_id for row in outcome.rows if row.status is CompletionStatus.REJECTED}
    assert outcome.result.error is None
    assert outcome.stored_once(ROWS)
    assert rejected == {"0", "7", "30", "59"}
    assert set(server.counts.asked.values()) == {1}


def test_document_that_is_alone_is_refused_for_itself_when_the_same_about_nothing_is_answered() -> None:
    """The last document of a table, or one that is asked again, has no others beside it."""
    with ScriptedServer(
        script=lambda seen: Status(400, "no") if seen.document_id else None, keep_bodies=True
    ) as server:
        outcome = ask(server, 1)

    (row,) = outcome.rows
    probe = json.loads(server.bodies[-1])
    assert row.status is CompletionStatus.REJECTED
    assert probe == {**json.loads(server.bodies[0]), "messages": [{"role": "user", "content": "1"}]}


def test_many_documents_refused_alike_and_none_ever_answered_is_the_set_up() -> None:
    """A system prompt that a gateway filters passes no document, and a question about nothing does."""
    with ScriptedServer(script=lambda seen: Status(400, "no") if seen.document_id else None) as server:
        outcome = ask(server, ROWS)

    assert isinstance(outcome.result.error, EndpointMismatch)
    assert outcome.rows == []


def test_tail_of_documents_that_are_too_long_is_stored_though_nothing_else_is_left() -> None:
    """A day's increment of nothing but too long documents must not end every run of that day."""
    too_long = Status(400, "This model's maximum context length is 4096 tokens.")
    with ScriptedServer(script=lambda seen: too_long if seen.document_id else None) as server:
        outcome = ask(server, 12)

    assert outcome.result.error is None
    assert {row.status for row in outcome.rows} == {CompletionStatus.REJECTED}
    assert outcome.stored_once(12)


def test_endpoint_that_can_say_nothing_now_is_asked_again_whose_fault_it_was() -> None:
    """An outage between a refusal and the question about it must lose neither the row nor the run."""
    asked: list[int] = []

    def script(seen: Seen) -> Fault | None:
        if seen.document_id:
            return Status(400, "no")
        asked.append(seen.number)
        return Status(503) if len(asked) <= 2 else None

    with ScriptedServer(script=script) as server:
        outcome = ask(server, 1)

    assert [row.status for row in outcome.rows] == [CompletionStatus.REJECTED]
    assert len(asked) >= 3


def test_second_question_that_is_refused_leaves_the_first_answer() -> None:
    """It was paid for, and says what the model does; `too long` would say something about another request."""

    def script(seen: Seen) -> Fault | None:
        return Status(400, "maximum context length") if seen.times else None

    with ScriptedServer(script=script, answer=lambda seen: "perhaps") as server:
        outcome = ask(server, 3, asked=release("classify"))

    assert {(row.status, row.raw) for row in outcome.rows} == {(CompletionStatus.INVALID, "perhaps")}
    assert outcome.result.error is None


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Status(500), id="500"),
        pytest.param(Replace(b'{"error": {"message": "boom"}}'), id="error-with-200"),
        pytest.param(Replace(b"<html>"), id="page"),
        pytest.param(NeverAnswer(), id="hangs"),
    ],
)
def test_tail_of_failing_documents_is_no_outage_while_probes_are_answered(fault: Fault) -> None:
    """`No endpoint has answered for 120 s` sends people to an endpoint that answers."""
    policy = replace(QUICK, unavailable_after_seconds=0.6, request_timeout_seconds=0.5, attempts=3)
    poison = {"57", "58", "59"}

    with ScriptedServer(script=lambda seen: fault if seen.document_id in poison else None) as server:
        outcome = ask(server, ROWS, policy=policy)

    failed = {row.document_id for row in outcome.rows if row.status is CompletionStatus.FAILED}
    assert outcome.result.error is None
    assert failed == poison
    assert outcome.stored_once(ROWS)


def test_two_long_failures_are_enough() -> None:
    """A document on which the model hangs would cost five times the longest time that a request may take."""
    policy = replace(QUICK, request_timeout_seconds=0.3, give_up_seconds=0.5, attempts_seconds=30.0)

    with ScriptedServer(script=lambda seen: NeverAnswer() if seen.document_id == "3" else None) as server:
        outcome = ask(server, 20, policy=policy)

    assert outcome.stored_once(20)
    assert server.counts.asked["3"] == 2


def test_last_attempt_waits_until_a_passing_fault_has_passed() -> None:
    """Five attempts within a second are one: what a restart of a replica takes is longer."""
    policy = replace(QUICK, attempts_seconds=1.0)
    began, at = time.monotonic(), list[float]()

    def script(seen: Seen) -> Fault | None:
        if seen.document_id == "3":
            at.append(time.monotonic())
            return Status(500) if len(at) < policy.attempts else None
        return None

    with ScriptedServer(script=script) as server:
        outcome = ask(server, 20, policy=policy)

    assert {row.status for row in outcome.rows} == {CompletionStatus.VALID}
    assert len(at) == policy.attempts
    assert at[-1] - began >= policy.attempts_seconds


def test_slow_model_that_lives_is_no_outage() -> None:
    """One failure, and then answers that take longer than an outage may last."""
    policy = replace(QUICK, unavailable_after_seconds=0.6, limit=4)

    def script(seen: Seen) -> Fault | None:
        if not seen.document_id:
            return None
        return Status(500) if seen.document_id == "0" and not seen.times else Late(2.0)

    with ScriptedServer(script=script) as server:
        outcome = ask(server, 6, policy=policy)

    assert outcome.result.error is None
    assert outcome.stored_once(6)


@pytest.mark.parametrize(
    "fault",
    [pytest.param(NeverAnswer(), id="accepts-and-stays-silent"), pytest.param(Drip(every_seconds=0.2), id="trickles")],
)
def test_half_open_endpoint_ends_the_run_within_its_time(fault: Fault) -> None:
    """It held runs for as long as a request may take, and an outage on top: 420 s of 15."""
    began = time.monotonic()
    with ScriptedServer(script=from_the(20, fault)) as server:
        outcome = ask(server, ROWS, policy=replace(SLOW_TO_GIVE_UP, drain_seconds=0.2))

    error = outcome.result.error
    assert isinstance(error, EndpointUnavailable)
    assert "LLM_PLATFORM_OUTAGE_SECONDS" in str(error)
    assert str(error).endswith(f"{len(outcome.rows)} of {ROWS} documents are done and kept.")
    assert time.monotonic() - began < 20
    assert server.counts.requests <= 20 + (QUICK.limit or 0)


def test_machine_that_accepts_everything_and_answers_nothing_is_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen process, or a firewall that swallows: not even what needs no model is answered."""
    # A server that answers without its model is given many times as long: were this one taken for such, for minutes.
    monkeypatch.setattr(endpoint, "_SLOW", 1000.0)
    with ScriptedServer() as server:

        def script(seen: Seen) -> Fault | None:
            server.silent = seen.number >= 20
            return NeverAnswer() if server.silent else None

        server.script = script
        outcome = ask(server, ROWS, policy=replace(SLOW_TO_GIVE_UP, drain_seconds=0.2))

    assert isinstance(outcome.result.error, EndpointUnavailable)
    assert outcome.result.seconds < 100 * SLOW_TO_GIVE_UP.unavailable_after_seconds


def test_slow_model_whose_probes_wait_behind_its_answers_is_no_outage() -> None:
    """With one slot a probe is the last in the queue; its server says that it is there."""
    policy = replace(QUICK, unavailable_after_seconds=0.9, limit=2)

    with ScriptedServer(script=lambda seen: Late(1.5)) as server:
        outcome = ask(server, 4, policy=policy)

    assert outcome.result.error is None
    assert outcome.stored_once(4)


def test_what_a_half_open_endpoint_holds_is_answered_by_the_other() -> None:
    """One silent replica of two must not hold its share of the documents for five minutes."""
    with (
        ScriptedServer(script=from_the(5, NeverAnswer())) as silent,
        ScriptedServer(latency_seconds=0.02) as alive,
    ):
        outcome = ask([silent, alive], 200, policy=SLOW_TO_GIVE_UP)

    assert outcome.result.error is None
    assert outcome.stored_once(200)
    assert outcome.result.seconds < 20


def test_nothing_stored_is_said() -> None:
    """`7 of 12 are done and kept` was said of documents that nobody had stored."""
    with ScriptedServer(script=lambda seen: Status(503)) as server:
        outcome = ask(server, 12, policy=replace(QUICK, unavailable_after_seconds=0.5))

    assert str(outcome.result.error).endswith("Nothing was stored.")
    assert "done and kept" not in str(outcome.result.error)


def test_permanent_429_is_asked_now_and_then() -> None:
    """200 documents made 15,500 requests in 45 s: that is how one gets a key blocked."""
    policy = replace(EnginePolicy(seed=1), limit=16, unavailable_after_seconds=6.0, drain_seconds=0.1)

    with ScriptedServer(script=lambda seen: Status(429)) as server:
        outcome = ask(server, 200, policy=policy)

    assert isinstance(outcome.result.error, EndpointUnavailable)
    assert "HTTP 429" in str(outcome.result.error)
    assert server.counts.requests + server.counts.probes <= 16 + 20


def test_endpoint_that_refuses_for_a_while_is_met_gently() -> None:
    """Behind a quota of requests a minute everything is refused, and then nothing."""
    opened: list[float] = []

    def script(seen: Seen) -> Fault | None:
        opened.append(time.monotonic())
        return Status(429, headers={"Retry-After": "0.3"}) if opened[-1] - opened[0] < 1.0 else None

    with ScriptedServer(script=script) as server:
        outcome = ask(server, ROWS)

    assert outcome.stored_once(ROWS)
    assert outcome.result.meter.failed == {}
    assert outcome.result.meter.retries["http_429"] <= (QUICK.limit or 0) + 20


@pytest.mark.parametrize("api", ["chat", "completion"])
def test_probe_takes_the_path_of_the_prompts(api: str) -> None:
    """An endpoint of one path is no rarity: a probe of the other one said that it was down."""
    asked = release(api=api)  # type: ignore[arg-type]
    path = probe_of(asked).path

    def script(seen: Seen) -> Fault | None:
        if seen.path != path:
            return Status(404, "Not Found")
        return Status(500) if seen.document_id in ("18", "19") else None

    with ScriptedServer(script=script) as server:
        outcome = ask(server, 20, asked=asked, policy=replace(QUICK, unavailable_after_seconds=1.0))

    assert outcome.result.error is None
    assert outcome.stored_once(20)
    assert outcome.result.meter.failed == {"gave_up_http_500": 2}


@pytest.fixture
def few_files() -> Iterator[int]:
    """A process that may open few files, and no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = 256
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    try:
        yield allowed
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_limit_of_open_files_is_raised_as_far_as_it_may(few_files: int) -> None:
    """1,024 is what most shells give, and a tenth of what they would."""
    assert connections_allowed() > few_files
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > few_files


def test_run_stays_below_the_files_that_it_may_open(few_files: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that opens the last file cannot store what it was answered."""
    monkeypatch.setattr(resource, "setrlimit", lambda *_: (_ for _ in ()).throw(ValueError))
    targets: list[EndpointTarget] = []

    with ScriptedServer(latency_seconds=0.05) as server:
        targets = [EndpointTarget(server.url)]
        outcome = ask(server, 400, policy=replace(QUICK, limit=1000), targets=targets)

    assert outcome.stored_once(400)
    assert outcome.result.error is None
    assert outcome.result.meter.retries == {}
    assert outcome.result.concurrency <= few_files - RESERVED
