"""Readings over time: counters that reset, histograms that are differences, queues that grow."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from llm_platform.nim.metrics import EndpointMetrics, Histogram
from llm_platform.nim.series import EndpointReading, merged, queue_grows, stretches, together

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BOUNDS = (0.1, 1.0, math.inf)


def latencies(quick: float, slow: float) -> Histogram:
    """So many answers under a tenth of a second, and so many in a tenth to a second."""
    return Histogram(bounds=BOUNDS, counts=(quick, quick + slow, quick + slow), sum=0.05 * quick + 0.5 * slow)


def reading(minutes: float, url: str = "http://a", **metrics: Any) -> EndpointReading:
    return EndpointReading(
        base_url=url,
        scraped_at=NOON + timedelta(minutes=minutes),
        healthy=True,
        metrics=EndpointMetrics(**metrics),
    )


def test_counters_become_rates_and_histograms_those_of_the_time_between() -> None:
    """What was slow this morning must not be in the percentile of this afternoon."""
    found = stretches(
        [
            reading(0, requests=1000, generation_tokens=5000, end_to_end=latencies(0, 1000)),
            reading(5, requests=1300, generation_tokens=6500, end_to_end=latencies(300, 1000)),
        ]
    )

    assert len(found) == 1
    assert found[0].rate("requests") == 1.0
    assert found[0].rate("generation_tokens") == 5.0
    assert found[0].quantile("end_to_end", 0.95) == pytest.approx(0.095)


def test_after_a_restart_everything_counts_from_zero() -> None:
    """Also a counter that has passed its old value since: one fallen counter says it of all."""
    found = stretches(
        [
            reading(0, requests=1000, prompt_tokens=50, end_to_end=latencies(900, 100)),
            reading(5, requests=30, prompt_tokens=80, end_to_end=latencies(30, 0)),
        ]
    )

    assert found[0].restarted
    assert found[0].counters["requests"] == 30
    assert found[0].counters["prompt_tokens"] == 80
    assert found[0].histograms["end_to_end"].count == 30


def test_endpoints_of_one_model_are_added_up() -> None:
    """Two replicas share the work; their rates and queues add, and a restart of one is seen."""
    found = stretches(
        [
            reading(0, "http://a", requests=10, waiting=1),
            reading(0, "http://b", requests=500, waiting=0),
            reading(1, "http://a", requests=70, waiting=4),
            reading(1, "http://b", requests=60, waiting=3),
        ]
    )

    assert len(found) == 1
    assert found[0].counters["requests"] == 120
    assert found[0].waiting == 7
    assert found[0].restarted


def test_a_look_that_found_nothing_makes_a_longer_stretch() -> None:
    """An endpoint that was away for a while has not served nothing since its start."""
    found = stretches([reading(0, requests=10), reading(5), reading(10, requests=70)])

    assert len(found) == 1
    assert found[0].seconds == 600
    assert found[0].counters["requests"] == 60


def test_stretches_of_an_hour_are_one_hour() -> None:
    """Points of a chart are parts of a day; nothing may be counted twice or lost."""
    parts = stretches([reading(5 * n, requests=10.0 * n, waiting=n, finished={"stop": 10.0 * n}) for n in range(13)])

    hour = together(parts)

    assert hour.seconds == 3600
    assert hour.counters["requests"] == 120
    assert hour.finished == {"stop": 120}
    assert hour.waiting == 12


def test_errors_are_what_the_endpoint_is_to_blame_for() -> None:
    """A client that goes away is counted as `abort` by vLLM, and is nobody's fault here."""
    found = stretches(
        [
            reading(0, requests=10, failed=1, finished={"stop": 9, "error": 0, "abort": 0}),
            reading(5, requests=40, failed=3, finished={"stop": 30, "error": 4, "abort": 5}),
        ]
    )

    assert found[0].counters["errors"] == 6


def test_what_an_endpoint_does_not_count_is_absent_and_not_zero() -> None:
    """A profile that publishes no queue has no queue of zero."""
    found = stretches([reading(0, prompt_tokens=1), reading(5, prompt_tokens=2)])

    assert found[0].waiting is None
    assert found[0].rate("requests") is None
    assert "errors" not in found[0].counters


def test_histograms_of_different_bounds_meet_at_the_bounds_of_both() -> None:
    """Replicas of two engine versions have other buckets."""
    other = Histogram(bounds=(1.0, 10.0, math.inf), counts=(5.0, 6.0, 6.0), sum=9.0)

    found = merged([latencies(2, 3), other])

    assert found.bounds == (1.0, math.inf)
    assert found.counts == (10.0, 11.0)


@pytest.mark.parametrize(
    ("waiting", "grows"),
    [
        pytest.param([0, 2, 5, 9, 14, 20], True, id="steady"),
        pytest.param([3, 8, 6, 9, 12, 11, 15, 18, 17, 22, 25, 24], True, id="with-noise"),
        pytest.param([5, 3, 8, 2, 6, 4, 7, 3], False, id="up-and-down"),
        pytest.param([20, 14, 9, 5, 2, 1], False, id="shrinking"),
        pytest.param([0, 0, 0, 0, 0, 0], False, id="empty"),
        pytest.param([1, 4, 9, 16, 25, 0], False, id="worked-off"),
        pytest.param([50, 50, 50, 50, 50, 50], False, id="long-and-steady"),
    ],
)
def test_a_queue_grows_when_it_does(waiting: list[float], grows: bool) -> None:
    """A long queue is a busy endpoint; a growing one is too small an endpoint."""
    assert queue_grows(waiting, alpha=0.01) is grows
