"""Scorers that compare whole answers: equal, equal but for case and space, the same items, a pattern, a schema."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from llm_platform.evaluation.fields import Grade, normalized
from llm_platform.evaluation.items import overlap

NO_VALID_ANSWER = "no valid answer"
SEPARATORS = re.compile(r"[,;\n|]")


def exact(answer: str | None, reference: str, *, labels: Collection[str] = (), normalize: bool = False) -> Grade:
    """1.0 when the answer is the reference, else 0.0.

    Args:
        answer: None when there is no valid answer, which is wrong.
        reference: The right answer.
        labels: If given, a reference that is none of them is ungraded.
        normalize: Ignore case, white space and Unicode forms.
    """
    if labels and reference not in labels:
        return Grade(None, "the reference is not one of the labels")
    if answer is None:
        return Grade(0.0, NO_VALID_ANSWER)
    same = normalized(answer) == normalized(reference) if normalize else answer == reference
    return Grade(1.0 if same else 0.0)


def same_items(answer: str | None, reference: str) -> Grade:
    """F1 of the items of both, in any order: a JSON list, or text parted by commas, semicolons, bars and line ends.

    Items are compared without regard to case, white space and Unicode forms.
    """
    truth = _items(reference)
    if not truth:
        return Grade(None, "the reference names no item")
    if answer is None:
        return Grade(0.0, NO_VALID_ANSWER)
    score = overlap(_items(answer), truth)
    return Grade(score, None if score == 1.0 else "items are missing or too many")


def pattern_scorer(pattern: str | None) -> Callable[[str | None, str], Grade]:
    """A scorer by regular expression: the answer has to match `pattern`, or the reference where it is None.

    The whole answer has to match, apart from white space around it.
    """

    def grade(answer: str | None, reference: str) -> Grade:
        try:
            wanted = re.compile(pattern if pattern is not None else reference, flags=re.DOTALL)
        except re.error as error:
            return Grade(None, f"the reference is not a regular expression, at character {error.pos}")
        if answer is None:
            return Grade(0.0, NO_VALID_ANSWER)
        return Grade(1.0) if wanted.fullmatch(answer.strip()) else Grade(0.0, "does not match the pattern")

    return grade


def schema_scorer(schema: Mapping[str, Any]) -> Callable[[str | None, str], Grade]:
    """A scorer by JSON schema: 1.0 when the answer is JSON of this shape. It says nothing of the values."""
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(schema)

    def grade(answer: str | None, _reference: str) -> Grade:
        if answer is None:
            return Grade(0.0, NO_VALID_ANSWER)
        try:
            value = json.loads(answer)
        except ValueError:
            return Grade(0.0, "the answer is not JSON")
        broken = next(validator.iter_errors(value), None)
        # The rule that is broken, never the value that breaks it.
        return Grade(1.0) if broken is None else Grade(0.0, f"breaks the schema's {broken.validator!r}")

    return grade


def _items(text: str) -> set[str]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    listed = value if isinstance(value, list) else SEPARATORS.split(text)
    return {normalized(item if isinstance(item, str) else json.dumps(item, sort_keys=True)) for item in listed} - {""}
