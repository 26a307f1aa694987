"""What several engine runs of one process took, told as one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from llm_platform.operations.answering.account import SUMS, Account, joined
from llm_platform.records import InferenceRun, TokenUsage

START = datetime(2026, 1, 1, tzinfo=UTC)


def run(**fields: Any) -> InferenceRun:
    given = dict.fromkeys(SUMS, 0) | {"run_id": "r", "release_id": "own", "started_at": START}
    return InferenceRun.model_validate({**given, "usage": TokenUsage(), **fields})


@pytest.mark.parametrize("name", SUMS)
def test_what_was_done_is_the_sum(name: str) -> None:
    """A row of `inference_runs` that leaves out one of two runs hides what was paid, or what failed."""
    assert getattr(joined([run(**{name: 2}), run(**{name: 3}), run(**{name: 5})]), name) == 10


@pytest.mark.parametrize("name", TokenUsage.model_fields)
def test_tokens_are_the_sum(name: str) -> None:
    """Money is counted from them."""
    parts = [run(usage=TokenUsage(**{name: count})) for count in (2, 3)]

    assert joined(parts).usage == TokenUsage(**{name: 5})


def test_causes_and_endpoints_are_those_of_all_runs() -> None:
    """Why rows failed in the smaller run is what somebody looks for."""
    large = run(sent=9, causes={"refusal": 1, "retry_http_500": 2}, endpoints=("http://a", "http://b"))
    small = run(sent=1, causes={"refusal": 4, "stopped_tokens": 1}, endpoints=("http://b", "http://c"))

    found = joined([large, small])

    assert found.causes == {"refusal": 5, "retry_http_500": 2, "stopped_tokens": 1}
    assert found.endpoints == ("http://a", "http://b", "http://c")


def test_what_cannot_be_added_is_of_the_run_that_sent_most() -> None:
    """The latency of three leftover documents says nothing of the million before them."""
    later = START + timedelta(minutes=1)
    large = run(sent=9, started_at=later, latency_p50_seconds=0.5, limits={"a": 8}, idle_share=0.1, concurrency=2)
    small = run(run_id="s", release_id="o", sent=1, latency_p50_seconds=9.0, limits={}, idle_share=0.9, concurrency=4)

    found = joined([small, large])

    assert (found.latency_p50_seconds, found.limits, found.idle_share) == (0.5, {"a": 8}, 0.1)
    assert (found.run_id, found.release_id, found.started_at, found.concurrency) == ("s", "o", START, 4)


def test_documents_that_were_asked_about_in_parts_are_counted_once() -> None:
    """Five parts are one document: parts cost tokens and requests, and are not documents that were stored or failed."""
    own = run(sent=4, stored=4, failed=1, reused=1, causes={"refusal": 1})
    parts = run(release_id="parts", sent=5, stored=5, failed=2, reused=3, causes={"refusal": 2, "retry_http_500": 1})

    found = Account([own, parts], stored=2, failed=1).run

    assert (found.sent, found.stored, found.failed, found.reused) == (9, 6, 2, 1)
    assert found.causes == {"refusal": 1, "part_refusal": 2, "retry_http_500": 1}
    assert found.release_id == "own"
