"""Shares as people read them, on every page, in every line and in every reason alike."""

from __future__ import annotations

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
    """A minimum as it was written, with three digits at least; with three where it was measured, as a constant's is."""
    is_written = round(minimum, DIGITS[-1]) == minimum
    return f"{minimum:g}" if is_written and round(minimum, DIGITS[0]) != minimum else f"{minimum:.3f}"


def bounded(value: float, lower: float, upper: float, *, against: float | None = None) -> str:
    """`0.750 [0.686, 0.805]`."""
    shown, *bounds = (figure(number, against=against) for number in (value, lower, upper))
    return f"{shown} [{', '.join(bounds)}]"
