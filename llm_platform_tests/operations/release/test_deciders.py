"""Who is said to have decided."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from llm_platform.records import RolloutEvent
from llm_platform.records.evaluation import AUTOMATIC, FIRST_CHAMPION


@pytest.mark.parametrize(
    ("by", "authenticated", "said"),
    [
        pytest.param("ann", True, "ann", id="with a token"),
        pytest.param("root", False, "root (not authenticated)", id="a login"),
        pytest.param("root", None, "root", id="before that was asked"),
        pytest.param(AUTOMATIC, False, AUTOMATIC, id="the policy"),
        pytest.param(FIRST_CHAMPION, False, FIRST_CHAMPION, id="the first run"),
    ],
)
def test_a_login_that_nobody_vouches_for_is_said_to_be_one(by: str, authenticated: bool | None, said: str) -> None:
    """A rollback by whoever had a shell looks like one by a person with a token otherwise."""
    event = RolloutEvent(
        application="tickets",
        event_id="e",
        action="rollback",
        variant="clear",
        release_id="release",
        report_id="report",
        evaluation_id="evaluation",
        by=by,
        at=datetime(2026, 11, 30, tzinfo=UTC),
        evidence=(),
        authenticated=authenticated,
    )

    assert event.decider == said
