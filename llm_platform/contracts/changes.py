"""How one contract differs from another: a promise may become stronger within a major version, never weaker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from llm_platform.records.contracts import Column, Contract, Mask

ChangeKind = Literal["breaking", "compatible", "words"]


@dataclass(frozen=True)
class Change:
    """One difference.

    Attributes:
        column: The column that it is about; None for the table as a whole.
        kind: `breaking` for a weaker promise, `compatible` for a stronger one or a new column, `words` for the rest.
    """

    column: str | None
    kind: ChangeKind
    text: str


def changes(before: Contract, after: Contract) -> tuple[Change, ...]:
    """Every difference that a reader of `before` meets in `after`, whatever their numbers."""
    return tuple(_changes(before.for_readers(), after.for_readers()))


def _changes(before: Contract, after: Contract) -> Iterator[Change]:
    # Names of columns are one in any case, as in every SQL.
    now = {one.name.lower(): one for one in after.columns}
    for column in before.columns:
        other = now.pop(column.name.lower(), None)
        if other is None:
            yield Change(column.name, "breaking", "is gone")
        else:
            yield from _of_column(column, other)
    for column in now.values():
        yield Change(column.name, "compatible", f"is new, a {column.type}")
    if before.mask_key != after.mask_key and None not in (before.mask_key, after.mask_key):
        for name in (one.name for one in before.columns if one.mask == "hash"):
            yield Change(name, "breaking", "is hashed with another key")
    if before.key != after.key:
        yield Change(None, "breaking", f"the key is {after.key!r}, and was {before.key!r}")
    if before.source_key != after.source_key and None not in (before.source_key, after.source_key):
        yield Change(after.key, "breaking", f"is {after.source_key!r} of the source, and was {before.source_key!r}")
    yield from _limit(before.freshness_hours, after.freshness_hours, "freshness_hours", smaller_is_stronger=True)
    yield from _limit(before.completeness, after.completeness, "completeness", smaller_is_stronger=False)
    for name in ("title", "description", "owner", "source"):
        if getattr(before, name) != getattr(after, name):
            yield Change(None, "words", f"{name} is another one")


def _of_column(before: Column, after: Column) -> Iterator[Change]:
    name = before.name
    if before.name != after.name:
        yield Change(name, "breaking", f"is called {after.name!r}")
    if before.mask != after.mask:
        # A text for the word that stood in its place takes nothing from readers; a hash is what they join on.
        lifted = before.mask == "redact" and after.mask is None
        yield Change(name, "compatible" if lifted else "breaking", _masked(before.mask, after.mask))
        if not lifted:
            return
    if before.type != after.type:
        yield Change(name, "breaking", f"is a {after.type}, and was a {before.type}")
    if before.answered and not after.answered:
        yield Change(name, "breaking", "may be NULL beside a valid answer, which it never was")
    elif after.answered and not before.answered:
        yield Change(name, "compatible", "is never NULL beside a valid answer")
    yield from _values(before, after)
    yield from _limit(before.max_length, after.max_length, "max_length", smaller_is_stronger=True, column=name)
    if before.deprecated != after.deprecated:
        yield Change(name, "compatible", "is deprecated" if after.deprecated else "is not deprecated any more")
    if before.description != after.description:
        yield Change(name, "words", "is described in other words")


def _masked(before: Mask | None, after: Mask | None) -> str:
    words = {None: "shown", "hash": "hashed", "redact": "redacted", "drop": "dropped"}
    return f"is {words[after]}, and was {words[before]}"


def _values(before: Column, after: Column) -> Iterator[Change]:
    if before.values == after.values or before.type != after.type:
        return
    if before.values and not after.values:
        yield Change(before.name, "breaking", f"may have any value, and had {', '.join(before.values)}")
    elif new := [value for value in after.values if before.values and value not in before.values]:
        yield Change(before.name, "breaking", f"may have the values {', '.join(map(repr, new))}, which it never had")
    elif set(before.values) != set(after.values):
        yield Change(before.name, "compatible", f"has only the values {', '.join(after.values)}")


def _limit(
    before: float | None, after: float | None, name: str, *, smaller_is_stronger: bool, column: str | None = None
) -> Iterator[Change]:
    if before == after:
        return
    if before is None:
        yield Change(column, "compatible", f"{name} is promised: {after:g}")
    elif after is None:
        yield Change(column, "breaking", f"{name} {before:g} is promised no more")
    else:
        weaker = (after > before) is smaller_is_stronger
        yield Change(column, "breaking" if weaker else "compatible", f"{name} is {after:g}, and was {before:g}")


def parts(version: str) -> tuple[int, int, int]:
    """Major, minor and patch of a version."""
    major, minor, patch = (int(part) for part in version.split("."))
    return major, minor, patch


def next_version(before: Contract, found: Sequence[Change]) -> str:
    """The least version that a contract with these differences may have."""
    major, minor, patch = parts(before.version)
    kinds = {one.kind for one in found}
    if "breaking" in kinds:
        return f"{major + 1}.0.0"
    if "compatible" in kinds:
        return f"{major}.{minor + 1}.0"
    return f"{major}.{minor}.{patch + 1}" if kinds else before.version
