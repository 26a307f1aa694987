"""Times as cron writes them: minute, hour, day of the month, month, day of the week."""

from __future__ import annotations

import re

FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of the month", 1, 31), ("month", 1, 12), ("day of the week", 0, 7))
LONGEST = dict(enumerate((31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31), start=1))
"""Month → the most days that it can have."""
PART = re.compile(r"(?:\*|(\d{1,2})(?:-(\d{1,2}))?)(?:/(\d{1,2}))?")


def cron_mistake(text: str) -> str | None:
    """Why a text is no time of cron, in words; None where it is one. Names of days and months are not read."""
    parts = text.split()
    if len(parts) != len(FIELDS):
        return f"{len(parts)} fields; cron has five: {', '.join(name for name, _, _ in FIELDS)}"
    for part, (name, least, most) in zip(parts, FIELDS, strict=True):
        for one in part.split(","):
            found = PART.fullmatch(one)
            bounds = [int(number) for number in found.groups()[:2] if number is not None] if found else []
            fits = found is not None and all(least <= number <= most for number in bounds) and found[3] != "0"
            if not fits or bounds != sorted(bounds):
                return f"{one!r} for the {name}; write *, numbers from {least} to {most}, ranges 1-5, steps */2"
    days, months = _numbers(parts[2], 1, 31), _numbers(parts[3], 1, 12)
    if min(days) > max(LONGEST[month] for month in months):
        return f"{parts[2]!r} for the day of the month, which no month of {parts[3]!r} has"
    return None


def _numbers(part: str, least: int, most: int) -> set[int]:
    """The numbers that a part stands for."""
    found: set[int] = set()
    for one in part.split(","):
        first, last, step = PART.fullmatch(one).groups()  # type: ignore[union-attr]
        start = least if first is None else int(first)
        end = int(last) if last is not None else most if first is None or step is not None else start
        found |= set(range(start, end + 1, int(step or 1)))
    return found
