"""Ratios with margins wide enough for a busy machine; the figures themselves are printed and written to JSON."""

from __future__ import annotations

import pytest

from llm_platform_tests.benchmarks.__main__ import measure
from llm_platform_tests.benchmarks.measures import MEASURES, Figures

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def figures(pytestconfig: pytest.Config) -> dict[str, Figures]:
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        return measure(list(MEASURES), full=False)


def test_endpoint_is_not_the_bottleneck(figures: dict[str, Figures]) -> None:
    """Otherwise everything below measures the endpoint."""
    assert figures["endpoint_ceiling"]["endpoint_cpu_ms"] < 0.5 * figures["cpu_per_row"]["ours_256_cpu_ms"]


@pytest.mark.parametrize("in_flight", [64, 256])
def test_whole_path_costs_a_fifth_of_the_sdk_alone(figures: dict[str, Figures], in_flight: int) -> None:
    """The client's CPU is what ends a bulk run's speed; storage is included on our side only."""
    assert figures["cpu_per_row"][f"ratio_{in_flight}"] <= 0.2


def test_nothing_is_lost(figures: dict[str, Figures]) -> None:
    """In every measure: each document has one answer, and it is its own."""
    lost = {
        f"{measure}.{name}": value
        for measure, measured in figures.items()
        for name, value in measured.items()
        if "lost" in name and not name.startswith("sdk")
    }

    assert len(lost) > 8
    assert set(lost.values()) == {0}, lost


def test_memory_does_not_grow_with_the_table(figures: dict[str, Figures]) -> None:
    """Peers keep 7 to 20 KB per row."""
    assert figures["memory"]["kib_per_row"] < 0.5


def test_outage_wastes_few_requests(figures: dict[str, Figures]) -> None:
    """A breaker with a one-token probe, not every row, finds out when the endpoint is back."""
    assert figures["outage"]["extra_requests_share"] < 0.05


def test_killed_run_sends_little_again(figures: dict[str, Figures]) -> None:
    """What was in flight, and what came back since the journal was last synced; twice that, for a busy machine."""
    killed = figures["killed"]

    assert killed["sent_again"] <= 2 * killed["in_flight_and_one_interval"]


def test_two_endpoints_share_by_capacity(figures: dict[str, Figures]) -> None:
    """Four to one in slots is four to one in rows, give or take half."""
    assert 2.0 <= figures["two_endpoints"]["large_to_small"] <= 8.0


def test_found_limit_stays_near_the_slots(figures: dict[str, Figures]) -> None:
    """A queue that grows past the slots adds latency and nothing else."""
    assert 0.5 <= figures["found_limit"]["gauges_limit_over_slots"] <= 2.0


def test_second_run_sends_nothing(figures: dict[str, Figures]) -> None:
    """Resume is a query, not a run."""
    assert figures["nothing_to_do"]["sent"] == 0
