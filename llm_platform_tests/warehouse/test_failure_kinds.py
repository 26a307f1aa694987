"""Why documents have no answer, counted by kind."""

from __future__ import annotations

from llm_platform.inference.reasons import gave_up
from llm_platform.warehouse.failures import by_kind


def test_what_was_measured_of_one_document_makes_no_kind_of_its_own() -> None:
    """A hundred timeouts after other seconds are one cause; another status of HTTP is another one."""
    timeouts = [("failed", gave_up("timeout", attempts=3, seconds=30 + second), 1) for second in range(100)]
    unavailable = [
        ("failed", gave_up("http_503", attempts=2, seconds=9), 40),
        ("failed", gave_up("http_500", attempts=2, seconds=9), 7),
    ]

    kinds = by_kind([*unavailable, *timeouts, ("rejected", "too long", 7)])

    assert [(status, count) for status, _, count in kinds] == [
        ("failed", 100),
        ("failed", 40),
        ("failed", 7),
        ("rejected", 7),
    ]
    assert "no whole reply in time" in kinds[0][1]
    assert "HTTP 503" in kinds[1][1]
    assert "HTTP 500" in kinds[2][1]
