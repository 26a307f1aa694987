"""What is counted while a run goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llm_platform.inference.meter import Occupancy
from llm_platform.inference.policy import EndpointTarget
from llm_platform_tests.inference.cases import QUICK, ask
from llm_platform_tests.servers.scripted import ScriptedServer


@pytest.mark.parametrize(
    ("slots", "running", "idle"),
    [
        pytest.param(10, [10, 10, 10, 10], 0.0, id="always-full"),
        pytest.param(10, [0, 5, 5, 5], 0.5, id="half-full"),
        pytest.param(None, [8, 8, 4, 4], 1 / 3, id="slots-seen-at-their-most"),
        pytest.param(4, [0, 9, 9, 9], 0.0, id="more-at-work-than-slots"),
        pytest.param(10, [3], None, id="one-look-is-no-time"),
        pytest.param(None, [0, 0, 0], None, id="never-at-work"),
    ],
)
def test_idle_share_of_an_endpoint(slots: int | None, running: list[float], idle: float | None) -> None:
    """What an idle GPU costs is the first thing to know of a run that was slow."""
    occupancy = Occupancy(slots)

    for second, at_work in enumerate(running):
        occupancy.add(float(second), at_work)

    assert occupancy.idle_share == (idle if idle is None else pytest.approx(idle))


def test_run_tells_how_idle_its_endpoint_was() -> None:
    """Four requests at once on eight slots leave half of them without work."""
    with ScriptedServer(slots=8, latency_seconds=0.02) as server:
        target = EndpointTarget(server.url, slots=8)
        outcome = ask(server, 200, policy=replace(QUICK, limit=4, poll_seconds=0.02), targets=[target])

    (endpoint,) = outcome.result.endpoints
    assert endpoint.limit == 4
    assert endpoint.idle_share == pytest.approx(0.5, abs=0.1)
