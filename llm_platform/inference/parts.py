"""One answer to a document out of the answers to its parts, where no model is needed for it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from llm_platform.inference.answers import AnswerReader, ReadAnswer
from llm_platform.inference.calibration import calibrated
from llm_platform.records import (
    Completion,
    CompletionStatus,
    FieldChoice,
    LongDocuments,
    Release,
    TokenUsage,
    canonical_json,
)

_SMALLEST_PROBABILITY = 1e-13
"""Log-probabilities stay finite, so that a calibration can be applied; e^-30, as for a label that is not listed."""

_OF_A_READING = ("status", "answer", "confidence", "label_logprobs", "raw", "said", "reason", "finish_reason")


def parts_release(release: Release) -> Release:
    """What asks about the parts of documents; every setting of how they are put together shares its answers.

    A field of `extract` that a document must have may be in another part, so a part may say null.
    """
    schema = release.output_schema
    if schema is not None:
        properties = {name: _nullable(shape) for name, shape in schema["properties"].items()}
        schema = {**schema, "properties": properties, "required": list(properties)}
    return release.model_copy(
        update={"long_documents": None, "calibration": None, "serves": "parts", "output_schema": schema}
    )


def together_release(release: Release) -> Release | None:
    """What makes one answer of those to the parts; None where the rules of the application do."""
    rules = release.long_documents
    if rules is None or rules.prompt is None:
        return None
    return release.model_copy(
        update={"long_documents": None, "calibration": None, "serves": "together", "prompt": rules.prompt}
    )


def failed_parts(parts: Sequence[Completion]) -> ReadAnswer | None:
    """Why a document has no answer: some of its parts have none; None when all have one.

    An answer from the other parts would say nothing about what stands in these.
    """
    failed = [part for part in parts if part.status is not CompletionStatus.VALID]
    if not failed:
        return None
    first = failed[0]
    reason = f"{len(failed)} of {len(parts)} parts have no valid answer (the first is {first.status}: {first.reason})"
    return ReadAnswer(first.status, reason=reason)


def put_together(release: Release, parts: Sequence[Completion]) -> ReadAnswer:
    """The answer to a document by the rules of its release, given valid answers to its parts in order."""
    rules = release.long_documents
    assert rules is not None  # only such releases have parts
    if release.task == "extract":
        return _merged(release, rules, [json.loads(part.answer or "{}") for part in parts])
    scores = [part.label_logprobs for part in parts if part.label_logprobs is not None]
    if len(scores) == len(parts):
        average = _average(scores, list(release.prompt.answers))
        label, confidence = calibrated(average, release.calibration)
        return ReadAnswer(CompletionStatus.VALID, answer=label, confidence=confidence, label_logprobs=average)
    return ReadAnswer(
        CompletionStatus.VALID, answer=_chosen_label(release, rules, [part.answer or "" for part in parts])
    )


def document_completion(
    release: Release,
    template: Completion,
    reading: ReadAnswer,
    *,
    parts: int,
    made_of: Sequence[Completion],
    paid: Sequence[Completion],
) -> Completion:
    """The row of a document that was asked about in parts.

    Args:
        template: Any row of the same document and run: what it says beside the answer is taken over.
        made_of: Every answer that this one rests on; equal parts have one.
        paid: Those of them that were asked for this release and this document. Their tokens are the row's; where there
            are none, it is `reused`, with the tokens of all.
    """
    counted = {(one.release_id, one.fingerprint): one for one in paid or made_of}.values()
    asked_together = [one.latency_seconds for one in made_of[parts:]]
    update: dict[str, Any] = {
        **{name: getattr(reading, name) for name in _OF_A_READING},
        **{name: sum(getattr(one, name) or 0 for one in counted) for name in TokenUsage.model_fields},
        "release_id": release.release_id,
        "request_id": release.request_id,
        # Parts are asked at once: the slowest of them is what one waits for.
        "latency_seconds": max((one.latency_seconds for one in made_of[:parts]), default=0.0) + sum(asked_together),
        "attempts": max((one.attempts for one in made_of), default=0),
        "reused": bool(made_of) and not paid,
        "parts": parts,
    }
    return template.model_copy(update=update)


def _nullable(shape: Mapping[str, Any]) -> dict[str, Any]:
    kinds = shape["type"] if isinstance(shape["type"], list) else [shape["type"]]
    if "null" in kinds:
        return dict(shape)
    # A closed set of values is one more rule that null would break.
    values = {"enum": [*shape["enum"], None]} if "enum" in shape else {}
    return {**shape, "type": [*kinds, "null"], **values}


def _average(scores: Sequence[Mapping[str, float]], labels: Sequence[str]) -> dict[str, float]:
    """Log of the mean probability of each label: every part counts the same, and one sure part cannot veto."""
    means = {label: math.fsum(math.exp(one[label]) for one in scores) / len(scores) for label in labels}
    return {label: math.log(max(mean, _SMALLEST_PROBABILITY)) for label, mean in means.items()}


def _chosen_label(release: Release, rules: LongDocuments, answers: Sequence[str]) -> str:
    if rules.priority:
        return min(answers, key=rules.priority.index)
    counts = Counter(answers)
    order = list(release.prompt.answers)
    return max(counts, key=lambda label: (counts[label], -order.index(label)))


def _merged(release: Release, rules: LongDocuments, found: Sequence[Mapping[str, Any]]) -> ReadAnswer:
    assert release.output_schema is not None  # the task is `extract`
    properties: Mapping[str, Any] = release.output_schema["properties"]
    merged = {}
    for name, shape in properties.items():
        may_be_null = "null" in shape["type"]
        default: FieldChoice = "all" if "array" in shape["type"] else "first"
        value = _value([one.get(name) for one in found], rules.fields.get(name, default))
        if value is not None or may_be_null:
            merged[name] = value
    answer, reason = AnswerReader(release).accepted(canonical_json(merged))
    if answer is None:
        return ReadAnswer(CompletionStatus.INVALID, reason=f"put together from {len(found)} parts, {reason}")
    return ReadAnswer(CompletionStatus.VALID, answer=answer)


def _value(values: Sequence[Any], choice: FieldChoice) -> Any:
    given = [value for value in values if value is not None and value != []]
    if not given:
        # An empty list is an answer, null is none.
        return next((value for value in values if value is not None), None)
    if choice == "all":
        return list({canonical_json(item): item for value in given for item in value}.values())
    if choice == "most":
        counts = Counter(map(canonical_json, given))
        return json.loads(max(counts, key=lambda text: counts[text]))
    return given[-1] if choice == "last" else given[0]
