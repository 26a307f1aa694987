"""How long a row waits before it is sent again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from llm_platform.inference.endpoint import RowInFlight
from llm_platform.inference.policy import EnginePolicy
from llm_platform.inference.requests import PreparedRequest
from llm_platform.inference.retries import LONGEST_WAIT_SECONDS, Retries, retry_after_seconds


def row() -> RowInFlight:
    return RowInFlight(PreparedRequest("1", "f", "/v1/completions", b"{}"))


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        pytest.param("7", 7.0, id="seconds"),
        pytest.param("0.2", 0.2, id="fraction"),
        pytest.param("86400", LONGEST_WAIT_SECONDS, id="a-day"),
        pytest.param("inf", LONGEST_WAIT_SECONDS, id="for-ever"),
        pytest.param("-5", 0.0, id="negative"),
        pytest.param("nan", 0.0, id="not-a-number"),
        pytest.param("soon", 0.0, id="words"),
        pytest.param("Thu, 01 Jan 1970 00:00:00 GMT", 0.0, id="a-date-that-has-been"),
        pytest.param("Thu, 31 Dec 2099 00:00:00 GMT", LONGEST_WAIT_SECONDS, id="a-date-in-a-lifetime"),
    ],
)
def test_an_endpoint_is_waited_for_as_it_asks_and_not_for_ever(said: str, seconds: float) -> None:
    """A gateway that says a day must not hold a run for a day, and a row that waits for NaN never comes up again."""
    assert retry_after_seconds({"retry-after": said}) == seconds


def test_a_date_is_a_time_from_now() -> None:
    """The other form that the header has."""
    said = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)

    assert 30.0 < retry_after_seconds({"retry-after": said}) <= 60.0


def test_a_row_waits_no_shorter_than_the_endpoint_asked_for() -> None:
    """And no longer, where its own backoff is shorter."""
    retries = Retries(EnginePolicy(backoff_seconds=1.0, backoff_cap_seconds=8.0))
    waiting = row()
    retries.put_after(waiting, now=100.0, failures=1, asked_seconds=7.0)

    assert retries.pop(106.9) is None
    assert retries.pop(107.0) is waiting


@pytest.mark.parametrize(("failures", "longest"), [(1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (5, 8.0), (40, 8.0)])
def test_the_backoff_doubles_up_to_its_cap_and_half_of_it_is_chance(failures: int, longest: float) -> None:
    """Rows that failed together must not come back together, nor after hours."""
    retries = Retries(EnginePolicy(backoff_seconds=1.0, backoff_cap_seconds=8.0))

    waits = [retries.backoff_seconds(failures) for _ in range(200)]

    assert longest / 2 <= min(waits) < longest * 0.6
    assert longest * 0.9 < max(waits) <= longest
