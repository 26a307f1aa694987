"""What a reply means."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest

from llm_platform.errors import ContractBroken, EndpointUnavailable, SpecificationError
from llm_platform.inference.answers import AnswerReader, recalibrate
from llm_platform.records import Calibration, Completion, CompletionStatus, Release, Sampling
from llm_platform_tests.inference.cases import release

CALIBRATION = Calibration(labels=("HAPPY", "SAD"), scale=1.0, bias=(0.0, 3.0), examples=100, references_version="v")


def chat(content: str | None, *, finish: str = "stop", top: dict[str, float] | None = None) -> bytes:
    choice: dict[str, Any] = {"message": {"content": content}, "finish_reason": finish, "logprobs": None}
    if top is not None:
        listed = [{"token": token, "logprob": value} for token, value in top.items()]
        choice["logprobs"] = {"content": [{"token": "x", "logprob": 0.0, "top_logprobs": listed}]}
    usage = {"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
    return json.dumps({"choices": [choice], "usage": usage}).encode()


def completion(top: dict[str, float] | None) -> bytes:
    logprobs = {"top_logprobs": [top]} if top is not None else None
    return json.dumps(
        {"choices": [{"text": " po", "finish_reason": "length", "logprobs": logprobs}], "usage": None}
    ).encode()


@pytest.mark.parametrize(
    ("said", "finish", "status", "answer"),
    [
        pytest.param("positive", "stop", "valid", "HAPPY", id="answer-text"),
        pytest.param("  Positive\n", "stop", "valid", "HAPPY", id="case-and-outer-space-do-not-count"),
        pytest.param("positive!", "stop", "invalid", None, id="anything-else-is-invalid"),
        pytest.param("HAPPY", "stop", "invalid", None, id="the-label-is-not-the-answer-text"),
        pytest.param("", "stop", "invalid", None, id="empty"),
        pytest.param(None, "stop", "invalid", None, id="null"),
        pytest.param("posi", "length", "truncated", None, id="cut"),
        pytest.param("negative", "length", "valid", "SAD", id="cut-right-behind-the-answer"),
    ],
)
def test_label_is_accepted_only_as_its_exact_answer_text(
    said: str, finish: str, status: str, answer: str | None
) -> None:
    """An endpoint may ignore the constraint; a near miss counted as an answer would be a guess of ours."""
    reading = AnswerReader(release("classify")).read(chat(said, finish=finish))

    assert (reading.status, reading.answer) == (status, answer)


@pytest.mark.parametrize("said", ["caf\u00e9", "cafe\u0301", "CAFE\u0301"])
@pytest.mark.parametrize("asked", ["caf\u00e9", "cafe\u0301"])
def test_a_label_is_the_same_in_any_form(said: str, asked: str) -> None:
    """A model that writes an accent by itself was "not possible", printed as two words that look the same."""
    reader = AnswerReader(release("classify", answers={"caf\u00e9": asked, "bar": "bar"}))

    assert reader.read(chat(said)).answer == "caf\u00e9"


@pytest.mark.parametrize("said", ["caf\u00e9", "cafe\u0301", "cafe\\u0301"])
def test_a_field_is_stored_in_one_form(said: str) -> None:
    """It is compared with a known answer character by character."""
    reading = AnswerReader(release("extract")).read(chat(f'{{"name": "{said}"}}'))

    assert reading.answer == '{"name":"caf\u00e9"}'


def test_answer_that_may_have_become_a_longer_one_is_truncated() -> None:
    """Cut at 'no', it might have been 'no idea'."""
    reader = AnswerReader(release("classify", answers={"NO": "no", "UNSURE": "no idea"}))

    assert reader.read(chat("no", finish="length")).status is CompletionStatus.TRUNCATED
    assert reader.read(chat("no")).answer == "NO"


@pytest.mark.parametrize(
    ("said", "answer", "reason"),
    [
        pytest.param('{"count": 3.0, "name": "x"}', '{"count":3,"name":"x"}', None, id="canonical-and-typed"),
        pytest.param('{"name": "x"', None, "the answer is not JSON", id="half"),
        pytest.param('```json\n{"name":"x"}\n```', '{"name":"x"}', None, id="fenced"),
        pytest.param('{"name": "x", "count": 1e999}', None, 'count breaks the rule type: "integer"', id="infinite"),
        pytest.param(
            '{"name": "x", "count": 1' + "0" * 5000 + "}", None, "the answer is not JSON", id="endless-number"
        ),
        pytest.param("[" * 5000, None, "the answer is not JSON", id="endless-nesting"),
        pytest.param('{"name": NaN}', None, "the answer is not JSON", id="nan"),
        pytest.param('{"count": 1}', None, "the answer lacks 'name'", id="missing-field"),
        pytest.param('{"name": "x", "b": 1}', None, "the answer has fields that were not asked for", id="extra-field"),
        pytest.param('{"name": 12345}', None, 'name breaks the rule type: "string"', id="wrong-type"),
        pytest.param('{"name": "' + "secret" * 9 + '"}', None, "name breaks the rule maxLength: 20", id="too-long"),
        pytest.param('["x"]', None, 'the answer breaks the rule type: "object"', id="not-an-object"),
    ],
)
def test_fields_are_validated_and_the_reason_names_no_value(said: str, answer: str | None, reason: str | None) -> None:
    """Reasons are stored, logged and sent back in a repair; the extracted values may be personal."""
    reading = AnswerReader(release("extract")).read(chat(said))

    assert (reading.answer, reading.reason) == (answer, reason)


def test_free_text_that_was_cut_is_no_answer() -> None:
    """Half a summary reads like a whole one downstream."""
    reader = AnswerReader(release(sampling=Sampling(max_tokens=9)))

    assert reader.read(chat(" a text ")).answer == "a text"
    cut = reader.read(chat("half a te", finish="length"))
    assert (cut.status, cut.answer) == (CompletionStatus.TRUNCATED, None)
    assert cut.reason is not None
    assert "max_tokens=9" in cut.reason


def test_usage_is_read_with_cached_tokens() -> None:
    """Costs and the effect of prefix caching are read from these three numbers."""
    reading = AnswerReader(release()).read(chat("x"))

    assert (reading.prompt_tokens, reading.completion_tokens, reading.cached_tokens) == (7, 2, 4)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"{}", b'{"choices":[]}', b'{"choices":[{"message":', b"[1]", b"null", b"\xff"]
)
def test_body_that_is_no_completion_is_transient(body: bytes) -> None:
    """Half bodies and proxy pages say nothing about the document: it must be asked again."""
    with pytest.raises(EndpointUnavailable, match="not a completion"):
        AnswerReader(release()).read(body)


def test_label_probability_adds_up_over_all_tokens_that_begin_its_answer() -> None:
    """Under a constraint vLLM lets through "p", "po" and "positive": each carries a part of the label's probability."""
    half, quarter = math.log(0.5), math.log(0.25)
    top = {" po": quarter, " p": quarter, " neg": half, " ": -1.0, "<|im_end|>": -9999.0}

    for api, body in (("chat", chat("x", top=top)), ("completion", completion(top))):
        reading = AnswerReader(release("classify", api=api, decision="logprobs")).read(body)
        assert reading.label_logprobs == pytest.approx({"HAPPY": half, "SAD": half})
        assert reading.confidence == pytest.approx(0.5)
        assert reading.status is CompletionStatus.VALID


def test_label_that_is_not_listed_gets_a_tiny_finite_probability() -> None:
    """A calibration multiplies it, so it must not be minus infinity."""
    reading = AnswerReader(release("classify", decision="logprobs")).read(chat("x", top={" positive": -0.1}))

    assert reading.answer == "HAPPY"
    assert reading.label_logprobs is not None
    assert -40 < reading.label_logprobs["SAD"] < -20
    assert math.exp(reading.label_logprobs["HAPPY"]) + math.exp(reading.label_logprobs["SAD"]) == pytest.approx(1.0)


@pytest.mark.parametrize("top", [None, {}, {"maybe": -0.1}, {" ": -0.1}])
def test_scores_without_any_label_are_invalid(top: dict[str, float] | None) -> None:
    """An endpoint that ignores the constraint or gives no log-probabilities must not turn into a default label."""
    reading = AnswerReader(release("classify", decision="logprobs")).read(chat("maybe", finish="length", top=top))

    assert (reading.status, reading.answer) == (CompletionStatus.INVALID, None)


def test_calibration_moves_the_decision() -> None:
    """A model that says one label too often is corrected by the bias fitted on training examples."""
    top = {" positive": math.log(0.8), " negative": math.log(0.2)}
    calibrated_release = release("classify", decision="logprobs", calibration=CALIBRATION)

    reading = AnswerReader(calibrated_release).read(chat("x", top=top))

    assert reading.answer == "SAD"
    assert reading.confidence == pytest.approx(0.2 * math.exp(3) / (0.2 * math.exp(3) + 0.8))
    assert reading.label_logprobs == pytest.approx({"HAPPY": math.log(0.8), "SAD": math.log(0.2)})


def test_calibration_for_other_labels_is_an_error() -> None:
    """It would be applied to the wrong label, silently."""
    other = CALIBRATION.model_copy(update={"labels": ("GOOD", "SAD")})

    with pytest.raises(SpecificationError, match="GOOD, SAD"):
        AnswerReader(release("classify", decision="logprobs", calibration=other))


def test_answers_that_differ_only_in_case_are_an_error() -> None:
    """Reading such an answer back would be a coin toss."""
    with pytest.raises(SpecificationError, match="same as that of 'A'"):
        AnswerReader(release("classify", answers={"A": "Yes", "B": " yes"}))


def stored(of: Release) -> Completion:
    return Completion(
        release_id=of.release_id,
        request_id=of.request_id,
        fingerprint="f",
        document_id="d",
        status=CompletionStatus.VALID,
        answer="HAPPY",
        confidence=0.8,
        label_logprobs={"HAPPY": math.log(0.8), "SAD": math.log(0.2)},
        raw=" positive",
        prompt_tokens=40,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def test_another_calibration_reuses_stored_answers() -> None:
    """Fitting a calibration again must not cost a single request."""
    plain = release("classify", decision="logprobs")
    corrected = release("classify", decision="logprobs", calibration=CALIBRATION)

    row = recalibrate(stored(plain), corrected)

    assert (row.release_id, row.answer, row.reused) == (corrected.release_id, "SAD", True)
    assert (row.raw, row.prompt_tokens, row.document_id) == (" positive", 40, "d")


def test_answers_to_other_requests_are_not_reused() -> None:
    """Another prompt asks something else, even if the labels are the same."""
    other = release("classify", decision="logprobs", sampling=Sampling(seed=1))

    with pytest.raises(ContractBroken, match="different requests"):
        recalibrate(stored(release("classify", decision="logprobs")), other)
