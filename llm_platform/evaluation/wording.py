"""Numbers as people read them in reasons and on cards."""

from __future__ import annotations

from llm_platform.records import Interval

DIGITS = range(3, 6)
"""Three, as the bounds of gates have: a headline and the table below it are one number."""


def figure(value: float, *, against: float | None = None) -> str:
    """A share with three digits, or as many more (up to five) as it takes not to look like what it is not.

    That is 0, 1 and `against`: 2,999 of 3,000 is 0.9997 and never 1.000, and 0.5997 is not the minimum 0.600.
    """
    others = [other for other in (0.0, 1.0, against) if other is not None and other != value]
    for digits in DIGITS:
        text = f"{value:.{digits}f}"
        if all(float(text) != round(other, digits) for other in others):
            return text
    return f"{value:.{DIGITS[-1]}f}"


def minimum_figure(minimum: float) -> str:
    """A minimum as it was written, with three digits at least."""
    return f"{minimum:.3f}" if round(minimum, 3) == minimum else f"{minimum:g}"


def interval_text(interval: Interval, *, against: float | None = None) -> str:
    """`0.750 [0.686, 0.805]`."""
    value, lower, upper = (
        figure(number, against=against) for number in (interval.value, interval.lower, interval.upper)
    )
    return f"{value} [{lower}, {upper}]"


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
