"""What an endpoint's reply means.

Whatever was asked for, the answer is validated here: an endpoint may ignore a constraint and still say 200. Validation
messages name fields and rules, never values, because they are stored and logged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import jsonschema_rs
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from pydantic_core import from_json

from llm_platform.errors import ContractBroken, SpecificationError
from llm_platform.inference import reasons
from llm_platform.inference.bodies import MALFORMED, NoCompletion, Said, said, unpacked, whole_text
from llm_platform.inference.calibration import calibrated, fit_calibration
from llm_platform.inference.reasons import NotACompletion, NoText
from llm_platform.inference.replies import storable
from llm_platform.inference.thoughts import Spoken, divided, unfenced
from llm_platform.inference.usage import read_usage
from llm_platform.records import Completion, CompletionStatus, Release, canonical_json
from llm_platform.tables.forms import one_form, stored

__all__ = ["AnswerReader", "ReadAnswer", "fit_calibration", "recalibrate"]

# vLLM gives -9999 to tokens that a constraint forbids.
_FORBIDDEN = -1000.0
# Of a probability of 1, with a server's rounding.
_CERTAIN = 0.1
# For a label none of whose tokens is among those listed: below anything that is listed in practice, and finite, so
# that a calibration can still be applied.
_UNLISTED = -30.0


# An answer that was cut may be half of one.
NO_LABEL = "the answer is none of the prompt's answer texts"
NOT_JSON = "the answer is not JSON"

_CUT = frozenset({"length", "content_filter"})
# Ends of requests that say nothing about the document.
_BROKEN_OFF = frozenset({"abort", "error"})


@dataclass(slots=True)
class ReadAnswer:
    """One reply, read.

    Attributes:
        reason: Why there is no answer, in our own words: see `inference.reasons`.
        said: What the endpoint said instead of an answer; for the table of answers only.
        thought: What the model said before its answer; a part of `raw`.
        may_be_repaired: Whether asking once more may give an answer.
        cause: Of a document that was given up: what its last request failed with.
    """

    status: CompletionStatus
    answer: str | None = None
    reason: str | None = None
    raw: str = ""
    said: str | None = None
    confidence: float | None = None
    label_logprobs: dict[str, float] | None = None
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    thought: str = ""
    may_be_repaired: bool = True
    cause: str | None = None


@dataclass(slots=True)
class _Verdict:
    answer: str | None = None
    reason: str | None = None
    confidence: float | None = None
    label_logprobs: dict[str, float] | None = field(default=None)


class AnswerReader:
    """Reads the replies to the requests of one release."""

    def __init__(self, release: Release) -> None:
        self._release = release
        self._chat = release.prompt.api == "chat"
        self._text = "content" if self._chat else "text"
        self._labels = _label_index(release) if release.task == "classify" else {}
        self._schema = _schema(release) if release.task == "extract" else {}
        # Compiled: 0.5 µs an answer, where the library that explains what is wrong takes 30.
        self._fits = jsonschema_rs.validator_for(self._schema).is_valid
        self._integers = _integer_fields(release)
        if release.calibration is not None and set(release.calibration.labels) != set(release.prompt.answers):
            raise SpecificationError(
                f"The calibration of {release.application!r} is for labels {', '.join(release.calibration.labels)}; "
                f"the prompt {release.prompt.name!r} has {', '.join(release.prompt.answers)}. Fit it again."
            )

    @property
    def can_repair(self) -> bool:
        """Whether a second question can help: the distribution over labels would only be the same again."""
        return self._release.decision == "text"

    def accepted(self, raw: str) -> tuple[str | None, str | None]:
        """(answer, why there is none) of a whole text that is to have the form of an answer."""
        verdict = self._validated(raw, cut=False)
        return verdict.answer, verdict.reason

    def read(self, body: bytes) -> ReadAnswer:
        """The meaning of a reply with status 200, whatever it says.

        Raises:
            NoCompletion: the body is not a completion, for example because half of it is missing.
        """
        try:
            reply = from_json(body)
            choice = reply["choices"][0]
            message = choice["message"] if self._chat else choice
            text = message[self._text]
        except MALFORMED:
            reply = unpacked(body)
            choice = reply["choices"][0]
            message = choice.get("message") if self._chat else choice
            if not isinstance(message, dict):
                raise NoCompletion(NotACompletion.OTHER) from None
            text = message.get(self._text)
            if text is None and not self._chat and "text" not in message:
                raise NoCompletion(NotACompletion.OTHER) from None
        finish_reason = reasons.finish_reason(choice.get("finish_reason"))
        if finish_reason in _BROKEN_OFF:
            raise NoCompletion(NotACompletion.BROKEN_OFF, body=body)
        # Most replies are a text and nothing else.
        found = None
        if type(text) is not str or message.get("reasoning_content") or message.get("reasoning"):
            found = said(message, text)
            text = whole_text(found)
        if "\0" in text:
            text = storable(text)
        reading = self._reading(choice, text, found, finish_reason)
        usage = read_usage(reply.get("usage"))
        reading.prompt_tokens, reading.completion_tokens, reading.cached_tokens, reading.reasoning_tokens = usage
        if reading.thought and not reading.reasoning_tokens:
            # Most endpoints do not count it by itself; its share of the text is what is known.
            reading.reasoning_tokens = round(usage.completion_tokens * len(reading.thought) / max(len(text), 1))
        return reading

    def _reading(self, choice: dict[str, Any], text: str, found: Said | None, finish_reason: str | None) -> ReadAnswer:
        if self._release.decision == "logprobs":
            verdict = self._scored(choice)
            status = CompletionStatus.INVALID if verdict.answer is None else CompletionStatus.VALID
            spoken = Spoken(text)
        else:
            cut = finish_reason in _CUT
            verdict, spoken = self._found(text, cut=cut)
            status = CompletionStatus.INVALID if verdict.answer is None else CompletionStatus.VALID
            if verdict.answer is None and finish_reason == "length":
                status = CompletionStatus.TRUNCATED
                verdict.reason = self._cut_reason(spoken)
        reading = ReadAnswer(
            status=status,
            answer=verdict.answer,
            reason=verdict.reason,
            raw=text,
            confidence=verdict.confidence,
            label_logprobs=verdict.label_logprobs,
            finish_reason=finish_reason,
            thought=spoken.thought,
        )
        if status is CompletionStatus.INVALID:
            _explain(reading, found, spoken)
        return reading

    def _cut_reason(self, spoken: Spoken) -> str:
        most = self._release.sampling.max_tokens
        if not spoken.answer.strip() and (spoken.thought or not spoken.is_whole):
            return reasons.THOUGHT_ONLY.format(max_tokens=most)
        return f"cut at max_tokens={most}; raise it in the variant's sampling"

    def _found(self, text: str, *, cut: bool) -> tuple[_Verdict, Spoken]:
        """The answer in a text, behind a thought and in a fence if there are any: see `Release.reading`."""
        free = self._release.task == "generate"
        if not free:
            verdict = self._validated(text, cut=cut)
            if verdict.answer is not None:
                return verdict, Spoken(text)
        spoken = divided(text)
        bare = spoken.answer if free else unfenced(spoken.answer)
        if free or bare != text:
            verdict = self._validated(bare, cut=cut)
        return verdict, spoken

    def _validated(self, raw: str, *, cut: bool) -> _Verdict:
        if self._release.task == "classify":
            text = one_form(raw.strip()).casefold()
            # Cut right behind a whole answer is no loss, unless it might have become a longer one.
            longer = cut and any(other != text and other.startswith(text) for other in self._labels)
            label = None if longer else self._labels.get(text)
            return _Verdict(answer=label, reason=None if label else NO_LABEL)
        if self._release.task == "extract":
            return self._parsed(raw)
        text = "" if cut else stored(one_form(raw.strip()))
        return _Verdict(answer=text or None, reason=None if text else "the answer is empty")

    def _parsed(self, raw: str) -> _Verdict:
        try:
            value = from_json(raw, allow_inf_nan=False)
            if not raw.isascii() or "\\u" in raw:
                value = from_json(one_form(canonical_json(value)))
            if not self._fits(value):
                broken = best_match(Draft202012Validator(self._schema).iter_errors(value))
                return _Verdict(reason=_broken_rule(broken, self._schema))
            for name in self._integers:
                if isinstance(value.get(name), float):
                    value[name] = int(value[name])
            return _Verdict(answer=canonical_json(value))
        except MALFORMED:
            # Also numbers that have no end, and nesting that has none.
            return _Verdict(reason=NOT_JSON)

    def _scored(self, choice: dict[str, Any]) -> _Verdict:
        try:
            listed = _first_position(choice, chat=self._chat)
            scores = _label_scores(listed, self._release.prompt.answers)
            thinks = scores is None and any(token.lstrip().startswith("<think") for token, _ in listed)
        except MALFORMED:
            scores, thinks = None, False
        if scores is None:
            none = "no label starts with any of the tokens that the endpoint listed"
            return _Verdict(reason=reasons.THINKS_FIRST if thinks else none)
        label, confidence = calibrated(scores, self._release.calibration)
        return _Verdict(answer=label, confidence=confidence, label_logprobs=scores)


def recalibrate(completion: Completion, release: Release) -> Completion:
    """The row that `release` would have stored, derived from a stored row with equal `request_id`; nothing is sent.

    Raises:
        ContractBroken: the two send different requests.
    """
    if completion.request_id != release.request_id:
        raise ContractBroken(
            f"Release {release.release_id} cannot reuse an answer of {completion.release_id}: they send different "
            f"requests ({release.request_id} and {completion.request_id})."
        )
    update: dict[str, Any] = {"release_id": release.release_id, "reused": True, "created_at": datetime.now(UTC)}
    if completion.label_logprobs is not None:
        update["answer"], update["confidence"] = calibrated(completion.label_logprobs, release.calibration)
    return completion.model_copy(update=update)


def _explain(reading: ReadAnswer, found: Said | None, spoken: Spoken) -> None:
    """Say why there is no answer where that is not the answer's form; then it is not worth a second question."""
    if not spoken.is_whole:
        reading.reason = reasons.THOUGHT_HAS_NO_END
    nothing = found is not None and not found.text
    if reading.finish_reason == "content_filter":
        reading.reason, reading.may_be_repaired = NoText.FILTERED, False
    elif found is not None and nothing:
        kind = NoText.REFUSED if found.refusal else NoText.TOOL if found.calls_a_tool else NoText.NOTHING
        reading.reason, reading.may_be_repaired = kind, False
        reading.said = storable(found.refusal[: reasons.LONGEST_SAID]) or None


def _label_index(release: Release) -> dict[str, str]:
    index: dict[str, str] = {}
    for label, answer in release.prompt.answers.items():
        text = one_form(answer.strip()).casefold()
        if text in index or not text:
            raise SpecificationError(
                f"Prompt {release.prompt.name!r}: the answer of label {label!r} is "
                + (f"the same as that of {index[text]!r}" if text else "empty")
                + " (case and outer spaces do not count). Give every label an answer of its own."
            )
        index[text] = label
    if not index:
        raise SpecificationError(f"Prompt {release.prompt.name!r} has no answers; task 'classify' needs one per label.")
    return index


def _schema(release: Release) -> dict[str, Any]:
    if release.output_schema is None:
        raise SpecificationError(f"Application {release.application!r} extracts fields and has no output schema.")
    return release.output_schema


def _integer_fields(release: Release) -> tuple[str, ...]:
    """Fields in which JSON schema accepts 3.0 for 3; stored as 3, so that equal answers are equal texts."""
    properties = (release.output_schema or {}).get("properties", {})
    return tuple(name for name, shape in properties.items() if "integer" in _types(shape))


def _types(shape: dict[str, Any]) -> list[str]:
    types = shape.get("type", [])
    return types if isinstance(types, list) else [types]


def _broken_rule(error: ValidationError | None, schema: dict[str, Any]) -> str:
    """Which rule is broken where, without the value, or a name that the answer has made up."""
    if error is None:
        return "the answer does not fit the schema"
    named = set(_names(schema))
    path = [str(part) if isinstance(part, int) or part in named else "…" for part in error.absolute_path]
    where = ".".join(path) or "the answer"
    rule: Any = error.validator_value
    if error.validator == "required" and isinstance(error.instance, dict):
        missing = [name for name in rule if name not in error.instance]
        return f"{where} lacks {', '.join(repr(name) for name in missing)}"
    if error.validator == "additionalProperties":
        return f"{where} has fields that were not asked for"
    return f"{where} breaks the rule {error.validator}: {canonical_json(rule)}"


def _names(schema: Any) -> Iterator[str]:
    """Names of all fields of a schema."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _names(part)


def _first_position(choice: dict[str, Any], *, chat: bool) -> list[tuple[str, float]]:
    """Tokens and log-probabilities listed for the first generated token; empty where the endpoint gives none."""
    logprobs = choice.get("logprobs") or {}
    if chat:
        content = logprobs.get("content") or []
        listed = content[0]["top_logprobs"] if content else []
        return [(item["token"], float(item["logprob"])) for item in listed]
    top = logprobs.get("top_logprobs") or []
    return [(token, float(value)) for token, value in (top[0] or {}).items()] if top else []


def _label_scores(listed: list[tuple[str, float]], answers: dict[str, str]) -> dict[str, float] | None:
    """Label → log-probability, normalized over the labels.

    A token counts for a label when the label's answer starts with it and no other's does: a constraint lets through
    every token that begins an answer ("p", "po" and "positive"), and their probabilities add up.
    """
    texts = {label: answer.lstrip() for label, answer in answers.items()}
    mass: dict[str, list[float]] = {label: [] for label in texts}
    for token, logprob in listed:
        start = token.lstrip()
        # Also what is no number.
        if not start or not _FORBIDDEN <= logprob <= _CERTAIN:
            continue
        owners = [label for label, text in texts.items() if text.startswith(start)]
        if len(owners) == 1:
            mass[owners[0]].append(logprob)
    if not any(mass.values()):
        return None
    scores = {label: _log_sum(values) if values else _UNLISTED for label, values in mass.items()}
    total = _log_sum(list(scores.values()))
    return {label: score - total for label, score in scores.items()}


def _log_sum(values: list[float]) -> float:
    largest = max(values)
    return largest + math.log(sum(math.exp(value - largest) for value in values))
