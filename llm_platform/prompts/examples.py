"""Pools of few-shot examples: JSON Lines files that are frozen with the prompt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from llm_platform.application.model import Application
from llm_platform.application.yaml.mistakes import Mistake, listed, nearest, read_text, wording
from llm_platform.errors import ContractBroken
from llm_platform.tables.forms import one_form, storable
from llm_platform.tables.json_rows import NameTwice, json_value


def read_examples(
    path: Path, count: int, application: Application, mistakes: list[Mistake]
) -> tuple[dict[str, str], ...]:
    """The first `count` rows of a pool; rows with mistakes are left out after adding them to `mistakes`.

    Every row is a JSON object of texts with an `answer`: a label for `classify`, an object of fields (or its JSON text)
    for `extract`, text for `generate`.
    """
    text = read_text(path, mistakes)
    examples = []
    for line, row in islice(_rows(text or ""), count):
        problem, example = _example(row, application)
        if problem is None:
            examples.append(example)
        else:
            mistakes.append(Mistake(str(path), line, problem))
    return tuple(examples)


def _rows(text: str) -> Iterator[tuple[int, str]]:
    return ((n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip())


def _example(row: str, application: Application) -> tuple[str | None, dict[str, str]]:
    problem, value = _parsed(row)
    if problem is not None:
        return problem, {}
    if "answer" not in value:
        return wording("no 'answer'", "a row with 'answer' and the columns that the template reads"), {}
    answer = one_form(value["answer"]) if isinstance(value["answer"], str) else value["answer"]
    if application.task == "extract":
        problem, answer = _fields_answer(answer, application)
        if problem is not None:
            return problem, {}
    elif application.task == "classify" and answer not in application.labels:
        suggestion = nearest(str(answer), application.labels)
        return wording(f"answer {answer!r}", listed(application.labels), suggestion), {}
    example = {**value, "answer": answer}
    other = next((key for key, item in example.items() if not (isinstance(item, str) and storable(item))), None)
    return (None, example) if other is None else (wording(f"{other!r} that is not text", "text in every column"), {})


def _parsed(row: str) -> tuple[str | None, dict[str, Any]]:
    try:
        value = json_value(row, "the line")
    except NameTwice as error:
        return wording(f"{error.name!r} twice in one row", "each name once"), {}
    except ContractBroken:
        return wording("a line that is not JSON", "one JSON object a line"), {}
    if not isinstance(value, dict):
        return wording("a line that is not a JSON object", "one JSON object a line"), {}
    return None, value


def _fields_answer(answer: Any, application: Application) -> tuple[str | None, str]:
    try:
        fields = json_value(answer, "the answer") if isinstance(answer, str) else answer
    except NameTwice as error:
        return wording(f"field {error.name!r} twice in the answer", "each field once"), ""
    except ContractBroken:
        fields = None
    if not isinstance(fields, dict):
        return wording("an answer that is not a JSON object", f"an object of {listed(application.fields)}"), ""
    unknown = next((name for name in fields if name not in application.fields), None)
    if unknown is not None:
        known = list(application.fields)
        return wording(f"field {unknown!r} in the answer", listed(known), nearest(unknown, known)), ""
    missing = next((name for name, field in application.fields.items() if field.required and name not in fields), None)
    if missing is not None:
        return wording(f"no field {missing!r} in the answer", "every required field"), ""
    # In the order of the specification, which is the order that guided decoding produces.
    ordered = {name: fields[name] for name in application.fields if name in fields}
    return None, json.dumps(ordered, ensure_ascii=False)
