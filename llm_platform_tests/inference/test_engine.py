"""What the engine does when endpoints behave."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import replace

import pytest

from llm_platform.errors import EndpointMismatch, StorageError, TransientError
from llm_platform.inference.core import complete
from llm_platform.inference.meter import Progress
from llm_platform.inference.policy import EndpointTarget
from llm_platform.inference.wire import Reply
from llm_platform.inference.wire_http import HttpWire
from llm_platform.records import Completion, CompletionStatus, Prices, from_json_lines, json_lines
from llm_platform.settings.connection import Connection
from llm_platform_tests.inference.cases import QUICK, ask, release, requests
from llm_platform_tests.servers.faults import Held
from llm_platform_tests.servers.scripted import ScriptedServer, Seen


def test_every_document_is_asked_once_and_stored_once() -> None:
    """The one promise everything else rests on."""
    with ScriptedServer() as server:
        outcome = ask(server, 1000)

    assert outcome.stored_once(1000)
    assert server.counts.requests == 1000
    assert set(server.counts.asked.values()) == {1}


def test_rows_carry_what_was_paid_and_where() -> None:
    """Cost and lineage are read from the rows, not from the run."""
    asked = release()

    with ScriptedServer() as server:
        row = ask(server, 1, asked=asked).rows[0]

    assert (row.release_id, row.request_id) == (asked.release_id, asked.request_id)
    assert (row.prompt_tokens, row.completion_tokens, row.cached_tokens) == (40, 5, 16)
    assert (row.endpoint, row.attempts, row.fingerprint) == (server.url, 1, "f0")
    assert (row.answer, row.finish_reason) == ("answer to 0", "stop")
    assert 0 < row.latency_seconds < 5


def test_no_documents_is_a_run_that_sends_nothing() -> None:
    """A second run of an unchanged application must end at once."""
    with ScriptedServer() as server:
        outcome = ask(server, 0)

    assert (server.counts.requests, outcome.rows, outcome.result.error) == (0, [], None)


def test_limit_is_never_exceeded_and_is_used() -> None:
    """Too many in flight starves others of the endpoint; too few leaves the GPU idle."""
    with ScriptedServer(latency_seconds=0.02) as server:
        ask(server, 500, policy=replace(QUICK, limit=12))

    assert server.counts.peak_in_flight == 12


def test_connections_are_kept_and_reused() -> None:
    """A new connection for every request costs a round trip, and ports."""
    with ScriptedServer() as server:
        ask(server, 500, policy=replace(QUICK, limit=8))

    assert server.counts.connections < 40


def test_invalid_answer_is_asked_for_once_more() -> None:
    """One repair often helps; more would be paying for hope."""

    def second_time_right(seen: Seen) -> str:
        wrong_for_good = seen.document_id == "5"
        return '{"name": "x"}' if seen.times and not wrong_for_good else '{"name": 1}'

    with ScriptedServer(answer=second_time_right) as server:
        outcome = ask(server, 20, asked=release("extract"))

    bad = next(row for row in outcome.rows if row.document_id == "5")
    assert outcome.stored_once(20)
    assert set(server.counts.asked.values()) == {2}
    assert outcome.result.meter.failed == {"invalid": 1}
    assert (bad.status, bad.attempts) == (CompletionStatus.INVALID, 2)
    assert bad.reason == 'name breaks the rule type: "string"'
    assert outcome.result.meter.wasted_tokens == 20 * 45


def test_repair_can_be_switched_off() -> None:
    """Some teams would rather see the failure than pay for a second question."""
    with ScriptedServer(answer=lambda seen: "neither") as server:
        outcome = ask(server, 10, asked=release("classify"), policy=replace(QUICK, repair=False))

    assert server.counts.requests == 10
    assert {row.status for row in outcome.rows} == {CompletionStatus.INVALID}


def test_label_scores_are_not_repaired() -> None:
    """The same prompt gives the same distribution: asking again is money for nothing."""
    with ScriptedServer(logprobs={"maybe": -0.1}) as server:
        outcome = ask(server, 10, asked=release("classify", decision="logprobs"))

    assert server.counts.requests == 10
    assert {row.status for row in outcome.rows} == {CompletionStatus.INVALID}


def test_sink_that_fails_ends_the_run_with_its_reason() -> None:
    """A full disk must stop the spending, not be found out at the end."""

    def full(lines: list[bytes]) -> None:
        raise OSError(28, "No space left on device")

    policy = replace(QUICK, max_backlog_rows=100)

    with ScriptedServer(latency_seconds=0.005) as server:
        outcome = ask(server, 5000, on_lines=full, policy=policy)

    assert isinstance(outcome.result.error, StorageError)
    assert "No space left on device" in str(outcome.result.error)
    # However late its failure is seen: what waits for the sink is bounded, and what failed there is stored nowhere.
    assert server.counts.requests <= policy.max_backlog_rows + (QUICK.limit or 0)


def test_error_of_the_platform_raised_by_the_sink_is_passed_on() -> None:
    """A lost lease is transient; wrapping it in a storage error would stop the scheduler from trying again."""

    def lost(lines: list[bytes]) -> None:
        raise TransientError("the lease went to another run")

    with ScriptedServer() as server:
        outcome = ask(server, 100, on_lines=lost)

    assert isinstance(outcome.result.error, TransientError)


def test_sink_that_hangs_ends_the_run() -> None:
    """A lake locked by another process must not hold the run for ever."""
    released = threading.Event()

    with ScriptedServer() as server:
        outcome = ask(
            server,
            100,
            on_lines=lambda lines: released.wait(60) and None,
            policy=replace(QUICK, sink_timeout_seconds=0.3, drain_seconds=0.2),
        )
        released.set()

    assert isinstance(outcome.result.error, StorageError)
    assert "locks the lake" in str(outcome.result.error)
    # The sink hangs for sixty.
    assert outcome.result.seconds < 50


def test_slow_sink_holds_the_engine_back() -> None:
    """Answers that pile up in memory are lost in a crash, and memory is not endless."""
    waiting: list[int] = []
    stored: list[bytes] = []

    with ScriptedServer() as server:

        def slow(lines: list[bytes]) -> None:
            waiting.append(server.counts.answered.total() - len(stored))
            time.sleep(0.02)  # a slow disk
            stored.extend(lines)

        outcome = ask(server, 1500, on_lines=slow, policy=replace(QUICK, max_backlog_rows=100, batch_rows=20))

    assert len(stored) == 1500
    assert outcome.result.error is None
    assert max(waiting) <= 100 + 16


def test_rows_have_all_fields_of_a_completion() -> None:
    """The ledger reads columns: a field that is left out would be NULL instead of its default."""
    rows: list[bytes] = []

    with ScriptedServer() as server:
        ask(server, 3, on_lines=rows.extend)

    assert [list(json.loads(row)) for row in rows] == [list(Completion.model_fields)] * 3
    assert json_lines(from_json_lines(Completion, rows)) == rows


def test_answers_are_handed_over_in_batches_and_without_long_waiting() -> None:
    """Each commit costs tens of milliseconds; a crash costs what was not committed."""
    full, waited = list[int](), list[int]()
    an_hour = replace(QUICK, batch_rows=100, flush_seconds=3600.0)
    until_stored = Held(lambda: bool(waited))

    with ScriptedServer() as server:
        ask(server, 1000, on_lines=lambda lines: full.append(len(lines)), policy=an_hour)
    with ScriptedServer(script=lambda seen: until_stored if seen.document_id == "99" else None) as server:
        ask(server, 100, on_lines=lambda lines: waited.append(len(lines)), policy=replace(QUICK, batch_rows=100))

    # What came meanwhile is handed over together.
    assert sum(full) == 1000
    assert {size % 100 for size in full} == {0}
    assert sum(waited) == 100


def test_stopped_run_stores_what_came_back() -> None:
    """A termination must not throw away answers that were paid for."""
    with ScriptedServer(latency_seconds=0.02) as server:
        outcome = ask(server, 100_000, stop_when=lambda progress: progress.done > 50)

    assert outcome.result.stopped == "asked"
    assert outcome.result.error is None
    assert len(outcome.rows) == outcome.result.stored == server.counts.answered.total() < 10_000


def test_stopped_run_does_not_wait_for_an_endpoint_that_hangs() -> None:
    """A termination has seconds, then the process is killed."""
    with ScriptedServer(latency_seconds=0.005) as server:
        server.later(0.2, lambda: setattr(server, "latency_seconds", 3600.0))
        outcome = ask(
            server,
            100_000,
            policy=replace(QUICK, drain_seconds=0.3, request_timeout_seconds=60),
            stop_when=lambda progress: progress.seconds > 0.5,
        )

    assert outcome.result.stopped == "asked"
    # The endpoint hangs for an hour, and its requests have sixty seconds.
    assert outcome.result.seconds < 50
    assert len(outcome.rows) == server.counts.answered.total()


def test_progress_tells_how_far_how_fast_and_how_long() -> None:
    """A bar that jumps from nothing to done helps nobody."""
    shown: list[int] = []
    halfway = Held(lambda: any(done > 0 for done in shown[:-1]))

    def look(progress: Progress) -> bool:
        shown.append(progress.done)
        return False

    with ScriptedServer(latency_seconds=0.01, script=lambda seen: halfway if seen.number >= 300 else None) as server:
        outcome = ask(server, 600, stop_when=look)

    middle, last = next(one for one in outcome.progress[1:] if one.done), outcome.progress[-1]
    latencies = sorted(row.latency_seconds for row in outcome.rows)
    assert 0 < middle.done < 600
    assert middle.seconds_left is not None
    assert middle.tokens_per_second > 0
    assert middle.latency_p50_seconds is not None
    assert middle.latency_p50_seconds > 0.0095
    # Buckets are five percent apart.
    assert last.latency_p50_seconds == pytest.approx(latencies[299], rel=0.05)
    assert (last.done, last.total, last.stored, last.in_flight) == (600, 600, 600, 0)
    assert last.usage.prompt_tokens == 600 * 40


def test_two_endpoints_share_the_work() -> None:
    """The slower one gets less, and none waits for the other: it answers once the other has done all that is left."""
    limit = QUICK.limit or 0
    with ScriptedServer() as fast:
        done = Held(lambda: fast.counts.answered.total() >= 600 - limit)
        with ScriptedServer(script=lambda seen: done if seen.document_id else None) as slow:
            outcome = ask([fast, slow], 600, policy=replace(QUICK, request_timeout_seconds=120.0))

    assert outcome.stored_once(600)
    assert 0 < slow.counts.requests <= limit
    assert fast.counts.requests == 600 - slow.counts.requests


def test_prompts_that_begin_alike_go_to_one_endpoint() -> None:
    """Its cache has their beginning; another one would compute it again."""
    count, groups = 240, 12
    with ScriptedServer(slots=8, latency_seconds=0.01) as one, ScriptedServer(slots=8, latency_seconds=0.01) as two:
        prepared = [
            replace(each, prefix=number // 2 % groups) for number, each in enumerate(requests(release(), count))
        ]
        outcome = ask([one, two], count, policy=replace(QUICK, limit=16), prepared=prepared)
        asked = [{int(key) // 2 % groups: 0 for key in server.counts.asked} for server in (one, two)]
        shares = [server.counts.requests / count for server in (one, two)]

    assert outcome.stored_once(count)
    assert len(asked[0].keys() & asked[1].keys()) <= groups // 3
    assert min(shares) >= 0.25


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        pytest.param({"budget_tokens": 45 * 200}, "budget_tokens", id="tokens"),
        pytest.param({"budget_seconds": 0.3}, "budget_seconds", id="seconds"),
    ],
)
def test_used_up_budget_stops_the_run_in_order(budget: dict[str, float], reason: str) -> None:
    """Someone who gave a limit wants what it bought, and no error."""
    with ScriptedServer(latency_seconds=0.01) as server:
        outcome = ask(server, 100_000, policy=replace(QUICK, **budget))  # type: ignore[arg-type]

    assert (outcome.result.stopped, outcome.result.error) == (reason, None)
    assert len(outcome.rows) == server.counts.answered.total() > 0
    if reason == "budget_tokens":
        assert 150 <= len(outcome.rows) <= 200


@pytest.mark.parametrize("tokens", [1, 100, 1000, 5000])
def test_a_budget_is_a_bound(tokens: int) -> None:
    """What is in flight when a budget is used up is paid, too: with hundreds in flight, three times the budget."""
    with ScriptedServer(latency_seconds=0.02) as server:
        outcome = ask(server, 2000, policy=replace(QUICK, limit=512, budget_tokens=tokens))

    assert outcome.result.stopped == "budget_tokens"
    assert outcome.result.meter.usage.total == 45 * server.counts.requests <= tokens
    assert tokens < 1000 or outcome.result.meter.usage.total > tokens / 2


def test_a_budget_holds_for_answers_that_are_asked_for_again() -> None:
    """A second question is paid like the first, and asked only while there is room for it."""
    with ScriptedServer(answer=lambda _: "neither", latency_seconds=0.005) as server:
        outcome = ask(server, 500, policy=replace(QUICK, limit=64, budget_tokens=2000))

    assert outcome.result.stopped == "budget_tokens"
    assert 1000 < 45 * server.counts.requests <= 2000


def test_a_budget_in_money_counts_tokens_at_their_price() -> None:
    """An endpoint that is paid by the token costs the same whether it is fast or slow."""
    prices = Prices(usd_per_million_prompt_tokens=100.0, usd_per_million_completion_tokens=1000.0)
    with ScriptedServer(latency_seconds=0.005) as server:
        outcome = ask(server, 500, policy=replace(QUICK, limit=64, budget_usd=0.9, prices=prices))

    assert outcome.result.stopped == "budget_usd"
    assert 0.45 < server.counts.requests * (40 * 100 + 5 * 1000) / 1e6 <= 0.9


def test_a_dead_endpoint_is_waited_for_at_nobodys_cost() -> None:
    """Money and speed are of the time in which somebody worked; an outage is told apart."""
    away_seconds, returned = 1.0, list[float]()

    with ScriptedServer() as server:
        server.die()

        def come_back(progress: Progress) -> bool:
            if progress.seconds > away_seconds and not returned:
                returned.append(progress.seconds)
                server.later(0.0, server.open_now)
            return False

        began = time.monotonic()
        outcome = ask(server, 50, stop_when=come_back)
        took = time.monotonic() - began

    assert outcome.stored_once(50)
    assert outcome.result.waited_seconds > away_seconds
    assert outcome.result.seconds < took - away_seconds


def test_cancelled_run_stores_what_came_back() -> None:
    """A notebook's stop button cancels the task."""
    rows: list[bytes] = []

    async def run(url: str) -> None:
        async with HttpWire(Connection()) as wire:
            task = asyncio.create_task(
                complete(
                    requests(release(), 100_000),
                    release=release(),
                    endpoints=[EndpointTarget(url)],
                    wire=wire,
                    policy=QUICK,
                    on_lines=rows.extend,
                )
            )
            while len(rows) < 50:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with ScriptedServer(latency_seconds=0.01) as server:
        asyncio.run(run(server.url))

    assert len(rows) == server.counts.answered.total()


def test_certificate_nobody_knows_ends_the_run_at_once() -> None:
    """Waiting five minutes for a certificate to become trusted helps nobody."""

    class Distrusting:
        async def post(self, url: str, body: bytes, *, timeout_seconds: float) -> Reply:
            return Reply(0, failure="connect", detail="invalid peer certificate: UnknownIssuer")

        async def get(self, url: str, *, timeout_seconds: float) -> Reply:
            return Reply(404)

        async def close(self) -> None:
            pass

    result = asyncio.run(
        complete(
            requests(release(), 10),
            release=release(),
            endpoints=[EndpointTarget("https://e")],
            wire=Distrusting(),
            policy=QUICK,
            on_lines=lambda lines: None,
        )
    )

    assert isinstance(result.error, EndpointMismatch)
    assert "UnknownIssuer" in str(result.error)


def test_endpoints_join_and_leave_while_a_run_goes_on() -> None:
    """An autoscaler adds replicas under load and takes them away again; nobody restarts the run for it."""
    with (
        ScriptedServer(latency_seconds=0.01) as first,
        ScriptedServer(latency_seconds=0.01) as second,
        ScriptedServer(latency_seconds=0.01) as third,
    ):
        lists = [[first, second], [second, third], TransientError("no name server"), [], [third]]
        asked: list[int] = []
        for server in (first, second, third):
            # The documents last until every list has been taken in.
            server.script = lambda seen: Held(lambda: len(asked) >= int(seen.document_id or 0) // 400)

        def discover() -> list[EndpointTarget]:
            asked.append(first.counts.requests)
            listed = lists[min(len(asked), len(lists)) - 1]
            if isinstance(listed, Exception):
                raise listed
            return [EndpointTarget(server.url) for server in listed]

        policy = replace(QUICK, discover_seconds=0.15)
        outcome = ask([first], 3000, policy=policy, discover=discover)

    assert outcome.stored_once(3000)
    assert sum(server.counts.requests for server in (first, second, third)) == 3000
    assert min(server.counts.requests for server in (first, second, third)) > 0
    # Once the list without it was taken in, before the next one was asked for, the first one got nothing more.
    assert first.counts.requests <= asked[2] + (QUICK.limit or 0)
    assert [one.base_url for one in outcome.progress[-1].endpoints] == [third.url]
