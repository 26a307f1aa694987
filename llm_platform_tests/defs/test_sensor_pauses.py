"""How long the sensor waits after a run that failed: numbers, without a run."""

from __future__ import annotations

import pytest

from llm_platform.defs.runs import Attempts
from llm_platform.defs.sensors import LONGEST_PAUSE_SECONDS, MOST_FAILURES, why_not_again

INTERVAL = 30.0


def waits(failed: int, *, seconds: float) -> bool:
    """Whether a state with so many failed runs is left alone so long after the last one."""
    past = Attempts(ended=failed, failed=failed, permanent=False, last_run_id="r", last_ended=1000.0)
    return why_not_again(past, "tickets", now=1000.0 + seconds, interval=INTERVAL) is not None


@pytest.mark.parametrize(
    ("failed", "pause"),
    [(1, 60.0), (2, 120.0), (3, 240.0), (6, 1920.0), (7, LONGEST_PAUSE_SECONDS), (9, LONGEST_PAUSE_SECONDS)],
)
def test_the_pause_doubles_up_to_an_hour(failed: int, pause: float) -> None:
    """Without a cap the tenth failure of a night is asked for again the next evening; without growth, 1,200 times."""
    assert waits(failed, seconds=pause - 1.0)
    assert not waits(failed, seconds=pause + 1.0)


def test_a_state_that_never_failed_is_asked_for_at_once() -> None:
    """The usual tick."""
    assert not waits(0, seconds=0.0)


def test_a_clock_that_was_ahead_is_not_waited_for() -> None:
    """A run that ended next year would be asked for again the year after."""
    assert waits(1, seconds=-1e-3)
    assert not waits(1, seconds=-86_400.0)


def test_after_enough_failures_a_person_is_asked() -> None:
    """However long ago the last one was."""
    assert not waits(MOST_FAILURES - 1, seconds=LONGEST_PAUSE_SECONDS + 1.0)
    assert waits(MOST_FAILURES, seconds=1e9)
