"""A right answer that a person types, read into the form in which answers are stored."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import date
from typing import Any

from llm_platform.application.model import Application
from llm_platform.application.output import OutputField
from llm_platform.errors import ContractBroken
from llm_platform.records import canonical_json
from llm_platform.tables.forms import one_form, stored

FIELD_PREFIX = "field."
TRUTH = {"true": True, "yes": True, "false": False, "no": False}
LONGEST_ANSWER = 20_000


def corrected_answer(form: Mapping[str, str], application: Application) -> str:
    """The answer of a correction form: key `label`, `text`, or one `field.<name>` per field.

    Raises:
        ContractBroken: it is not a possible answer; the message names the field and what is allowed, not the value.
    """
    if application.task == "classify":
        label = one_form(form.get("label", ""))
        if label not in application.labels:
            raise ContractBroken(f"The right label is missing. Choose one of: {', '.join(application.labels)}.")
        return label
    if application.task == "generate":
        text = stored(one_form(form.get("text", ""))).replace("\r\n", "\n").strip()
        if not text or len(text) > LONGEST_ANSWER:
            raise ContractBroken(f"The right answer has {len(text)} characters; write 1 to {LONGEST_ANSWER}.")
        return text
    fields = {
        name: field_value(form.get(FIELD_PREFIX + name, ""), name, field) for name, field in application.fields.items()
    }
    return one_form(canonical_json(fields))


def field_value(text: str, name: str, field: OutputField) -> Any:
    """One typed value; None for an empty one.

    Raises:
        ContractBroken: the text is not of the field's type, is too long, or is missing though the field is required.
    """
    cleaned = text.strip()
    if not cleaned:
        if field.required:
            raise ContractBroken(f"Field {name!r} is empty, and every answer has it. Fill it in.")
        return None
    if field.max_length is not None and len(cleaned) > field.max_length:
        raise ContractBroken(f"Field {name!r} has {len(cleaned)} characters; at most {field.max_length} are allowed.")
    if field.type == "enum" and cleaned not in field.values:
        raise ContractBroken(f"Field {name!r} is none of its values. Choose one of: {', '.join(field.values)}.")
    try:
        return _read(cleaned, field.type)
    except (ValueError, KeyError) as error:
        raise ContractBroken(f"Field {name!r} is not of type {field.type}; {EXPECTED.get(field.type, '')}.") from error


EXPECTED = {
    "integer": "write a whole number such as 42",
    "number": "write a number such as 12.5",
    "boolean": "write yes or no",
    "date": "write a date such as 2026-03-31",
    "list": "write one item a line",
}


def _read(text: str, kind: str) -> Any:
    if kind == "integer":
        return int(text)
    if kind == "number":
        number = float(text)
        if not math.isfinite(number):
            raise ValueError(text)
        return number
    if kind == "boolean":
        return TRUTH[text.lower()]
    if kind == "date":
        return date.fromisoformat(text).isoformat()
    if kind == "list":
        return [line.strip() for line in text.splitlines() if line.strip()]
    return text


def shown_fields(answer: str | None, application: Application) -> dict[str, str]:
    """Field → value as a person reads it, for every field of the application; empty where there is none."""
    values = json.loads(answer) if answer is not None else {}
    return {name: shown_value(values.get(name)) for name in application.fields}


def shown_value(value: Any) -> str:
    """One value as a person reads and types it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return "\n".join(shown_value(item) for item in value)
    return value if isinstance(value, str) else canonical_json(value)
