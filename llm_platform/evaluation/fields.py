"""Comparing the typed fields of an `extract` answer with a reference, value by value."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

from llm_platform.application.output import FieldType, OutputField
from llm_platform.evaluation.items import overlap
from llm_platform.tables.money import Money, read_money

NUMBER = re.compile(r"^[+-]?(\d{1,3}(,\d{3})+|\d+)?(\.\d+)?([eE][+-]?\d+)?$")
ISO_DATE = re.compile(r"^(\d{4}-\d{2}-\d{2})([T ].*)?$")
TOLERANCE = 1e-6
TRUTH = {"true": True, "false": False}
HALF_A_CENT = Decimal("0.005")
AMOUNT_ONLY = 0.5
"""Credit for the right amount of money in no or another currency."""


class Grade(NamedTuple):
    """One score in [0, 1], or None with the reason why there is none; `said` is what a team's scorer gave as one."""

    score: float | None
    reason: str | None = None
    said: str | None = None


class FieldsGrade(NamedTuple):
    """The share of fields that are right, and the grade of each."""

    score: float | None
    reason: str | None
    fields: dict[str, Grade]


class Unreadable(NamedTuple):
    """A value that is not of its field's type."""

    expected: FieldType

    @property
    def words(self) -> str:
        """`a number`, for a message."""
        return "one of the values" if self.expected == "enum" else f"a {self.expected}"


Value = str | float | bool | date | Money | tuple[str, ...] | None | Unreadable


def grade_fields(
    answer: str | None,
    reference: str | Mapping[str, Any] | None,
    fields: Mapping[str, OutputField],
) -> FieldsGrade:
    """Mean over the fields of how far each agrees with the reference: three of four right is 0.75.

    A field is right when both sides have the same value of the field's type: numbers within `TOLERANCE` (relative),
    dates as days, strings after Unicode NFKC, case folding and joining white space. Two types earn part of a field: a
    list has the F1 of its items, each taken once and in any order; money with the right amount in no or another
    currency has 0.5. Null, missing, an empty string and an empty list are one value of an optional field: nothing was
    there. A field whose reference is missing though required, or not
    of its type, is ungraded and leaves the share; an answer that cannot be read is wrong.

    Args:
        answer: JSON object; None when there is no valid answer, which gets every field wrong.
        reference: JSON object, as text or as a mapping.
        fields: Names and types.
    """
    expected = _mapping(reference)
    if expected is None:
        return FieldsGrade(None, "the reference is not a JSON object", {})
    given = _mapping(answer) if answer is not None else None
    grades = {name: _grade_field(given, expected.get(name), name=name, field=field) for name, field in fields.items()}
    graded = [grade.score for grade in grades.values() if grade.score is not None]
    if not graded:
        return FieldsGrade(None, "no field of the reference can be read", grades)
    wrong = [name for name, grade in grades.items() if grade.score is not None and grade.score < 1.0]
    reason = f"wrong fields: {', '.join(wrong)}" if wrong else None
    return FieldsGrade(math.fsum(graded) / len(graded), reason, grades)


def read_value(value: object, field: OutputField) -> Value:
    """`value` as its field's type; None where nothing is given, `Unreadable` where it is something else."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if field.type in ("integer", "number"):
        return _number(value, field.type)
    if field.type == "enum":
        return _one_of(value, field.values)
    return READERS[field.type](value)


def normalized(text: str) -> str:
    """Unicode NFKC, case folded, white space joined and stripped."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _grade_field(given: Mapping[str, Any] | None, expected: object, *, name: str, field: OutputField) -> Grade:
    truth = read_value(expected, field)
    if isinstance(truth, Unreadable):
        return Grade(None, f"the reference is not {truth.words}")
    if truth is None and field.required:
        return Grade(None, "the reference has no value")
    if given is None:
        return Grade(0.0, "no valid answer")
    answer = read_value(given.get(name), field)
    if isinstance(answer, Unreadable):
        return Grade(0.0, f"the answer is not {answer.words}")
    score = _agreement(answer, truth)
    return Grade(1.0) if score == 1.0 else Grade(score, "differs from the reference")


def _agreement(answer: Value, truth: Value) -> float:
    if isinstance(answer, Money) and isinstance(truth, Money):
        if abs(answer.amount - truth.amount) > HALF_A_CENT:
            return 0.0
        # A reference that names no currency asks for none.
        return 1.0 if truth.currency in (None, answer.currency) else AMOUNT_ONLY
    if type(answer) is float and type(truth) is float:
        return float(math.isclose(answer, truth, rel_tol=TOLERANCE, abs_tol=1e-9))
    if isinstance(answer, tuple) and isinstance(truth, tuple):
        return overlap(answer, truth)
    return float(answer == truth)


def _mapping(value: object) -> Mapping[str, Any] | None:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return value if isinstance(value, Mapping) else None


def _one_of(value: object, values: Sequence[str]) -> str | Unreadable | None:
    if not isinstance(value, str):
        return Unreadable("enum")
    text = normalized(value)
    return text if text in {normalized(one) for one in values} else Unreadable("enum") if text else None


def _boolean(value: object) -> bool | Unreadable:
    if isinstance(value, bool):
        return value
    found = TRUTH.get(value.strip().lower()) if isinstance(value, str) else None
    return Unreadable("boolean") if found is None else found


def _number(value: object, kind: FieldType) -> float | Unreadable:
    if isinstance(value, bool):
        return Unreadable(kind)
    if isinstance(value, str):
        text = value.strip()
        if not any(character.isdigit() for character in text) or not NUMBER.match(text):
            return Unreadable(kind)
        value = text.replace(",", "")
    elif not isinstance(value, (int, float)):
        return Unreadable(kind)
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return Unreadable(kind)
    if not math.isfinite(number) or (kind == "integer" and not number.is_integer()):
        return Unreadable(kind)
    return number


def _money(value: object) -> Money | Unreadable:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return Unreadable("money")
    return read_money(value if isinstance(value, str) else f"{value:.2f}") or Unreadable("money")


def _list(value: object) -> tuple[str, ...] | Unreadable | None:
    """Distinct items, normalized, sorted; None for an empty list."""
    if not isinstance(value, list):
        return Unreadable("list")
    items = {normalized(item if isinstance(item, str) else json.dumps(item, sort_keys=True)) for item in value}
    return tuple(sorted(items - {""})) or None


def _date(value: object) -> date | Unreadable:
    if isinstance(value, date):
        return date(value.year, value.month, value.day)
    found = ISO_DATE.match(value.strip()) if isinstance(value, str) else None
    if found is None:
        return Unreadable("date")
    try:
        return date.fromisoformat(found.group(1))
    except ValueError:
        return Unreadable("date")


def _string(value: object) -> str | None:
    return normalized(value if isinstance(value, str) else json.dumps(value)) or None


READERS: dict[FieldType, Callable[[object], Value]] = {
    "string": _string,
    "boolean": _boolean,
    "money": _money,
    "list": _list,
    "date": _date,
}
