"""Numbers as people read them in reasons and on cards."""

from __future__ import annotations

from llm_platform.records import Interval
from llm_platform.records.figures import bounded


def interval_text(interval: Interval, *, against: float | None = None) -> str:
    """`0.750 [0.686, 0.805]`."""
    return bounded(interval.value, interval.lower, interval.upper, against=against)


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """`1 document`, `1,200 documents`."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def probability(value: float) -> str:
    """A p-value as papers write it."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def amount(value: float) -> str:
    """A quantity of any size with three significant digits: `0.00312`, `1.5`, `12,300`."""
    if value >= 1000:
        return f"{value:,.0f}"
    text = f"{value:.3g}"
    return f"{value:.10f}".rstrip("0").rstrip(".") if "e" in text else text
