"""Times as cron writes them: minute, hour, day of the month, month, day of the week."""

from __future__ import annotations

import re

FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of the month", 1, 31), ("month", 1, 12), ("day of the week", 0, 7))
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
    return None
