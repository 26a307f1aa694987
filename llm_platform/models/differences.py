"""How two lock entries differ, and which of it decides answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_platform.models.entries import LockEntry
from llm_platform.models.lock import pin
from llm_platform.records import ModelPin, Record


class FieldChange(Record):
    """One field that two entries give different values.

    Attributes:
        field: With dots where it is inside another.
        decides: Whether answers depend on it; what does not decide makes nothing stale.
    """

    field: str
    before: str
    after: str
    decides: bool


# Where the fields of a pin come from, as far as they are named otherwise there.
_PINNED_FROM = {"image": "image", "weights_sha256": "weights.sha256"}


def entry_changes(before: LockEntry | None, after: LockEntry) -> list[FieldChange]:
    """Fields in which two entries differ, in the order of the file; of a new entry, those that it sets."""
    old = _flat(before.model_dump(mode="json")) if before is not None else {}
    new = _flat(after.model_dump(mode="json", exclude_unset=before is None))
    moved = (
        deciding_changes(before, after)
        if before is not None
        else [_PINNED_FROM.get(name, name) for name in ModelPin.model_fields]
    )
    return [
        FieldChange(
            field=field,
            before=_shown(old.get(field)),
            after=_shown(new.get(field)),
            decides=any(field == one or field.startswith(f"{one}.") for one in moved),
        )
        for field in dict.fromkeys([*old, *new])
        if old.get(field) != new.get(field)
    ]


def deciding_changes(before: LockEntry, after: LockEntry) -> list[str]:
    """Names of the fields that decide answers and differ: with none, what was approved on one holds on the other."""
    return pin_changes(pin(before), pin(after))


def pin_changes(before: ModelPin, after: ModelPin) -> list[str]:
    """The same of two pins, e.g. of a stored release and of the file as it is now; the entry's name does not count."""
    old, new = (one.model_dump(mode="json", exclude={"entry"}) for one in (before, after))
    return [_PINNED_FROM.get(name, name) for name in old if old[name] != new[name]]


def _flat(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return ", ".join(map(repr, value)) if isinstance(value, list) else str(value)
