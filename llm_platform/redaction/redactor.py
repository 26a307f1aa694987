"""Placeholders in the place of what is found, equal ones for equal values of one document, and the way back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_platform.records import RedactionRule, canonical_json
from llm_platform.redaction.recognizers import Recognized, Recognizers

_PIECE = re.compile(r"\w+|\W")
"""A word or a sign: where a value can begin."""
_IN_WORD = re.compile(r"\w")
PLACEHOLDER = re.compile(r"<([A-Z][A-Z0-9_]*)_(\d+)>")


@dataclass(frozen=True, slots=True)
class Redacted:
    """Texts with placeholders, and placeholder → what it stands for."""

    texts: tuple[str | None, ...]
    withheld: Mapping[str, str]


class Redactor:
    """Takes out of texts what a rule names. Presidio, which takes seconds to import, is imported for its first text.

    What stands in the place of a value looks like no value, so texts from which everything is taken out stay as they
    are.
    """

    def __init__(self, rule: RedactionRule) -> None:
        self.rule = rule
        self._recognizers: Recognizers | None = None

    def load(self) -> Recognizers:
        """Have it ready before a text comes.

        Raises:
            SpecificationError: what finds values is not installed.
        """
        if self._recognizers is None:
            self._recognizers = Recognizers(self.rule)
        return self._recognizers

    def redact(self, texts: Sequence[str | None], *, known: Mapping[str, str] | None = None) -> Redacted:
        """The texts of one document with placeholders, `<KIND_1>` and on in the order in which values are found.

        A value that is found once is taken out wherever it stands in the texts. A placeholder that a text has already
        is nobody's: its number is passed over.

        Args:
            texts: Those of one document; None stays None.
            known: Placeholder → value of texts of the same document that were redacted before.

        Raises:
            SpecificationError: what finds them is not installed.
            ContractBroken: a text could not be searched.
        """
        recognizers = self.load()
        spans = [[] if text is None else _merged(recognizers.find(text)) for text in texts]
        taken = {match[0] for text in texts for match in PLACEHOLDER.finditer(text or "")}
        names = _Names(known or {}, taken)
        for text, found in zip(texts, spans, strict=True):
            for one in found:
                names.of((text or "")[one.start : one.end], one.kind)
        beginnings = names.beginnings()
        replaced = [
            text if text is None or not beginnings else "".join(_pieces(text, found, names, beginnings))
            for text, found in zip(texts, spans, strict=True)
        ]
        return Redacted(tuple(replaced), names.values)

    def redact_json(self, answer: str, *, known: Mapping[str, str] | None = None) -> str:
        """An answer that is a JSON object, with placeholders in the texts of its values."""
        value = json.loads(answer)
        redacted = self.redact(list(_strings(value)), known=known)
        return canonical_json(_with_strings(value, iter(redacted.texts)))


def put_back(answer: str, withheld: Mapping[str, str], *, is_json: bool) -> str:
    """An answer with the values that its placeholders stand for; of JSON, in the texts of its values."""
    if not any(placeholder in answer for placeholder in withheld):
        return answer
    if not is_json:
        return PLACEHOLDER.sub(lambda match: withheld.get(match[0], match[0]), answer)
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return put_back(answer, withheld, is_json=False)
    said = [put_back(text, withheld, is_json=False) for text in _strings(value)]
    return canonical_json(_with_strings(value, iter(said)))


class _Names:
    """Value → placeholder, of one document."""

    def __init__(self, known: Mapping[str, str], taken: Iterable[str]) -> None:
        self._names = {value: placeholder for placeholder, value in known.items()}
        self._taken = {*taken, *known}
        self._next: dict[str, int] = {}

    @property
    def values(self) -> dict[str, str]:
        return {placeholder: value for value, placeholder in self._names.items()}

    def of(self, value: str, kind: str) -> str:
        if value not in self._names:
            number = self._next.get(kind, 1)
            while (placeholder := f"<{kind}_{number}>") in self._taken:
                number += 1
            self._next[kind] = number + 1
            self._names[value] = placeholder
        return self._names[value]

    def beginnings(self) -> dict[str, list[str]]:
        """First word or sign → the values that begin with it, a longer one before its beginning."""
        found: dict[str, list[str]] = {}
        for value in sorted(self._names, key=len, reverse=True):
            found.setdefault(_PIECE.findall(value)[0], []).append(value)
        return found


def _merged(found: Sequence[Recognized]) -> list[Recognized]:
    """Findings that overlap as one, of the kind of the longest, so that no end of one is left."""
    merged: list[Recognized] = []
    longest = 0
    for one in sorted(found, key=lambda one: (one.start, -one.end)):
        if not merged or one.start >= merged[-1].end:
            merged.append(one)
            longest = one.end - one.start
            continue
        last = merged[-1]
        kind = last.kind if longest >= one.end - one.start else one.kind
        longest = max(longest, one.end - one.start)
        merged[-1] = Recognized(last.start, max(last.end, one.end), kind)
    return merged


def _pieces(
    text: str, found: Sequence[Recognized], names: _Names, beginnings: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    at = 0
    for one in found:
        yield from _replaced(text[at : one.start], names, beginnings)
        yield names.of(text[one.start : one.end], one.kind)
        at = one.end
    yield from _replaced(text[at:], names, beginnings)


def _replaced(text: str, names: _Names, beginnings: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """A piece in which nothing was found, without the values that were found elsewhere.

    One pattern of all values would be tried at every character: a table of thousands of addresses took minutes.
    """
    at = 0
    for piece in _PIECE.finditer(text):
        start = piece.start()
        values = beginnings.get(piece[0], ()) if start >= at else ()
        value = next((one for one in values if _stands(one, text, start)), None)
        if value is not None:
            yield text[at:start]
            yield names.of(value, "")
            at = start + len(value)
    yield text[at:]


def _stands(value: str, text: str, start: int) -> bool:
    """Whether a text has a value at a place, and no word goes on behind it."""
    end = start + len(value)
    goes_on = _IN_WORD.match(value[-1]) and _IN_WORD.match(text[end : end + 1])
    return text.startswith(value, start) and not goes_on


def _strings(value: Any) -> Iterator[str]:
    """The texts of a JSON value in their order, keys left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _strings(one)


def _with_strings(value: Any, texts: Iterator[str | None]) -> Any:
    """A JSON value with other texts, in the order of `_strings`."""
    if isinstance(value, str):
        return next(texts)
    if isinstance(value, dict):
        return {name: _with_strings(one, texts) for name, one in value.items()}
    return [_with_strings(one, texts) for one in value] if isinstance(value, list) else value
