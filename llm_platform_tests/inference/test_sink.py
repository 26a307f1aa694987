"""The thread that stores answers, and who goes first on its core."""

from __future__ import annotations

import os
import threading

import pytest

from llm_platform.inference.live import live_policy
from llm_platform.inference.policy import EnginePolicy
from llm_platform.inference.sink import SinkWriter


@pytest.mark.parametrize(
    ("policy", "steps_aside"),
    [
        pytest.param(EnginePolicy(), True, id="a run sends meanwhile"),
        pytest.param(live_policy(EnginePolicy()), False, id="a caller waits"),
    ],
)
def test_storing_goes_behind_sending_and_not_behind_other_programs_where_somebody_waits(
    policy: EnginePolicy, steps_aside: bool
) -> None:
    """An answer online is given when it is on the disk: whatever else wants the core would come before it."""
    found: list[int] = []

    def store(_: list[bytes]) -> None:
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    writer = SinkWriter(store, timeout_seconds=60.0, steps_aside=policy.sink_steps_aside)
    writer.put([b"{}"])
    writer.close()

    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert [one > own for one in found] == [steps_aside]
