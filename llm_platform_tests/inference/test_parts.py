"""Answers to the parts of a document, put together by rules."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest

from llm_platform.inference.answers import AnswerReader
from llm_platform.inference.parts import (
    document_completion,
    failed_parts,
    parts_release,
    put_together,
    together_release,
)
from llm_platform.records import Completion, CompletionStatus, LongDocuments, Prompt, PromptMessage, Release
from llm_platform_tests.inference.cases import release

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SPLIT = LongDocuments(policy="split", overlap_tokens=8)
TOGETHER = Prompt(name="joint", api="chat", messages=(PromptMessage(role="user", template="{{ parts }}"),))
FIELDS = {
    "type": "object",
    "properties": {
        "total": {"type": "number"},
        "note": {"type": ["string", "null"]},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["total", "tags"],
    "additionalProperties": False,
}


def part(answer: str | None = None, **values: Any) -> Completion:
    given = {"status": CompletionStatus.VALID if answer else CompletionStatus.INVALID, "answer": answer, **values}
    return Completion(
        **{
            "release_id": "parts",
            "request_id": "parts",
            "fingerprint": "p",
            "document_id": "1",
            "created_at": NOON,
            **given,
        }
    )


def asked(**more: Any) -> Release:
    return release("classify", long_documents=SPLIT, **more)


def extracting(**rules: Any) -> Release:
    return release("extract", long_documents=SPLIT.model_copy(update=rules)).model_copy(
        update={"output_schema": FIELDS}
    )


def test_releases_without_long_documents_keep_their_ids() -> None:
    """Answers that are stored must not be asked for again because the platform has learned something."""
    assert release("classify").release_id == "7892d49a232350cd"


def test_every_setting_of_long_documents_is_another_release_and_shares_the_answers_to_parts() -> None:
    """What decides an answer makes it another one; what only puts parts together asks no part again."""
    settings = [
        None,
        LongDocuments(policy="truncate"),
        SPLIT,
        SPLIT.model_copy(update={"overlap_tokens": 9}),
        SPLIT.model_copy(update={"priority": ("SAD", "HAPPY")}),
        SPLIT.model_copy(update={"prompt": TOGETHER}),
    ]
    releases = [release("classify", long_documents=one) for one in settings]

    assert len({one.release_id for one in releases}) == len({one.request_id for one in releases}) == len(settings)
    assert len({parts_release(one).release_id for one in releases[2:]}) == 1
    assert parts_release(releases[2]).release_id != releases[0].release_id
    assert [together_release(one) is None for one in releases] == [True] * 5 + [False]


def test_probabilities_of_parts_are_averaged_before_they_decide() -> None:
    """One part that is sure must not be outvoted by two that are not, nor decide by itself."""
    parts = [
        part("SAD", label_logprobs={"HAPPY": math.log(0.01), "SAD": math.log(0.99)}),
        part("HAPPY", label_logprobs={"HAPPY": math.log(0.6), "SAD": math.log(0.4)}),
        part("HAPPY", label_logprobs={"HAPPY": math.log(0.6), "SAD": math.log(0.4)}),
    ]

    reading = put_together(asked(decision="logprobs"), parts)

    assert reading.answer == "SAD"
    assert reading.confidence == pytest.approx((0.99 + 0.4 + 0.4) / 3)
    assert reading.label_logprobs is not None
    assert math.exp(reading.label_logprobs["HAPPY"]) == pytest.approx((0.01 + 0.6 + 0.6) / 3)


@pytest.mark.parametrize(
    ("answers", "priority", "expected"),
    [
        pytest.param(["SAD", "SAD", "HAPPY"], (), "SAD", id="the-commonest"),
        pytest.param(["SAD", "HAPPY"], (), "HAPPY", id="a-tie-goes-to-the-first-label"),
        pytest.param(["SAD", "SAD", "HAPPY"], ("HAPPY", "SAD"), "HAPPY", id="priority"),
        pytest.param(["SAD", "SAD"], ("HAPPY", "SAD"), "SAD", id="priority-that-no-part-has"),
    ],
)
def test_labels_of_parts_are_counted_or_ordered(answers: list[str], priority: tuple[str, ...], expected: str) -> None:
    """Which of the two is right depends on the question, so the application says it."""
    rules = SPLIT.model_copy(update={"priority": priority})

    reading = put_together(release("classify", long_documents=rules), [part(answer) for answer in answers])

    assert (reading.status, reading.answer, reading.confidence) == (CompletionStatus.VALID, expected, None)


def test_a_field_is_the_first_value_that_a_part_has_or_what_the_application_says() -> None:
    """A total stands on the last page, a customer on the first."""
    parts = [
        part(json.dumps({"total": None, "note": None, "tags": ["a"]})),
        part(json.dumps({"total": 5, "note": "x", "tags": ["b", "a"]})),
        part(json.dumps({"total": 7, "note": "y", "tags": []})),
        part(json.dumps({"total": 7, "note": None, "tags": None})),
    ]

    by_default = put_together(extracting(), parts)
    by_rule = put_together(extracting(fields={"total": "most", "note": "last", "tags": "first"}), parts)

    assert json.loads(by_default.answer or "") == {"total": 5, "note": "x", "tags": ["a", "b"]}
    assert json.loads(by_rule.answer or "") == {"total": 7, "note": "y", "tags": ["a"]}


def test_a_part_may_lack_what_the_document_must_have() -> None:
    """A model that has to name a total on a page without one invents it."""
    schema = parts_release(extracting()).output_schema
    assert schema is not None

    missing = put_together(extracting(), [part('{"total":null,"note":"x","tags":[]}')] * 2)

    assert [shape["type"][-1] for shape in schema["properties"].values()] == ["null"] * 3
    assert missing.status is CompletionStatus.INVALID
    assert missing.reason == "put together from 2 parts, the answer lacks 'total'"


def test_a_part_may_lack_a_value_of_a_closed_set() -> None:
    """A page without the payment would be answered with an invented one, or with nothing at all."""
    whole = release("extract").model_copy(
        update={
            "output_schema": {
                "type": "object",
                "properties": {"paid": {"type": "string", "enum": ["CASH", "CARD"]}},
                "required": ["paid"],
                "additionalProperties": False,
            },
            "long_documents": SPLIT,
        }
    )

    of_a_part = parts_release(whole)
    merged = put_together(whole, [part('{"paid":null}'), part('{"paid":"CARD"}')])

    assert AnswerReader(of_a_part).accepted('{"paid":null}')[0] == '{"paid":null}'
    assert AnswerReader(of_a_part).accepted('{"paid":"CHEQUE"}')[0] is None
    assert merged.answer == '{"paid":"CARD"}'


def test_one_part_without_an_answer_is_a_document_without_one() -> None:
    """An answer from the rest would claim to know what stands there."""
    cut = part(status=CompletionStatus.TRUNCATED, reason="cut at max_tokens=16")

    reading = failed_parts([part("HAPPY"), cut, part(reason="not an answer text")])

    assert reading is not None
    assert reading.status is CompletionStatus.TRUNCATED
    assert reading.reason == ("2 of 3 parts have no valid answer (the first is truncated: cut at max_tokens=16)")
    assert failed_parts([part("HAPPY")]) is None


def test_tokens_are_counted_for_the_document_that_paid_for_them() -> None:
    """The sum over documents is what was spent, whoever shares a part with whom."""
    parts = [part("HAPPY", fingerprint=f"{n}", prompt_tokens=100 * n, latency_seconds=n) for n in (1, 2, 3)]
    asked_release = asked()
    answer = put_together(asked_release, parts)

    row, reused = (
        document_completion(asked_release, parts[0], answer, parts=4, made_of=[*parts, parts[0]], paid=paid)
        for paid in ([*parts[1:], parts[1]], [])
    )

    assert (row.prompt_tokens, row.reused, row.parts, row.latency_seconds) == (500, False, 4, 3)
    assert (reused.prompt_tokens, reused.reused) == (600, True)
    assert row.release_id == asked_release.release_id
