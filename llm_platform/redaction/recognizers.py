"""Presidio's recognizers, asked one by one: no engine, no model, no network.

Importing Presidio imports spaCy: 3 s and 100 MB, so it is imported where the first text is read, and nowhere else.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from llm_platform.errors import ContractBroken, SpecificationError
from llm_platform.records import RedactionRule
from llm_platform.redaction.kinds import INSTALL, KINDS, installed

if TYPE_CHECKING:
    from presidio_analyzer import RecognizerResult


_AS_ONE = {"Zs": " ", "Pd": "-"}
"""Categories of Unicode of which every character stands for one: blanks, and dashes."""
_WORD = re.compile(r"\w+")
_WORDS, _LOOKED_BACK = 8, 200
"""So many words are context, the finding's own among them, and so many characters are looked through for them."""
_RAISED, _LEAST_RAISED = 0.35, 0.4


@dataclass(frozen=True, slots=True)
class Recognized:
    """Characters `start` to `end` of a text, and what they are."""

    start: int
    end: int
    kind: str


class _SkippedPatterns(logging.Handler):
    """Presidio leaves out a pattern that takes a minute, and says so in its log: here that is an error."""

    def emit(self, record: logging.LogRecord) -> None:
        if "timed out" in str(record.msg):
            raise ContractBroken(
                "A document could not be searched for what is to be taken out of it: a pattern took longer than a "
                "minute. Leave the document out of the source, lower documents.max_characters, or name fewer kinds in "
                "'redaction'."
            )


class Recognizers:
    """Finds what a rule names.

    Raises:
        SpecificationError: Presidio is not installed, or it is not the version that the rule names.
    """

    def __init__(self, rule: RedactionRule) -> None:
        if installed() != rule.recognizers:
            raise SpecificationError(
                f"Cannot take anything out of documents: that needs {rule.recognizers}, and "
                f"{installed() or 'it'} is installed{'' if installed() else ' nowhere'}. Install it: {INSTALL}"
            )
        self._least = rule.minimum_score
        self._recognizers = _made(rule)

    def find(self, text: str) -> list[Recognized]:
        """Everything that is found, in no order; findings may overlap.

        Raises:
            ContractBroken: a pattern took longer than a minute.
        """
        found = self._found(text)
        if text.isascii():
            return found
        plain, places = _plain(text)
        again = self._found(plain) if plain != text else []
        return found + [Recognized(places[one.start], places[one.end - 1] + 1, one.kind) for one in again]

    def _found(self, text: str) -> list[Recognized]:
        return [
            Recognized(one.start, one.end, one.entity_type)
            for recognizer in self._recognizers
            for one in recognizer.analyze(text, recognizer.supported_entities, None)
            if one.score >= self._least or _with_context(one, text, recognizer.context) >= self._least
        ]


def _plain(text: str) -> tuple[str, list[int]]:
    """A text in the characters that patterns know, and where each of them stands in it.

    Patterns want a number to stand by itself, and letters of a script that has no blanks stand right before it.
    """
    shown = [(place, one) for place, character in enumerate(text) if (one := _ascii(character))]
    return "".join(one for _, one in shown), [place for place, _ in shown]


@lru_cache(maxsize=4096)
def _ascii(character: str) -> str:
    """The digit, sign or blank that a character stands for; nothing for an invisible one, a Latin letter as it is."""
    category = unicodedata.category(character)
    if character.isascii() or category == "Cf":
        return character if character.isascii() else ""
    if category in _AS_ONE:
        return _AS_ONE[category]
    if category == "Nd":
        return str(unicodedata.decimal(character))
    narrow = unicodedata.normalize("NFKC", character)
    if narrow.isascii() and len(narrow) == 1:
        return narrow
    is_foreign = category.startswith("L") and not unicodedata.name(character, "").startswith("LATIN")
    return " " if is_foreign else character


def _with_context(found: RecognizerResult, text: str, context: Sequence[str]) -> float:
    """A finding's score where a word such as "passport" stands before it: higher by as much as Presidio has it.

    Its own way needs a model's lemmas; these are the words as they are written.
    """
    before = " ".join(_WORD.findall(text[max(found.start - _LOOKED_BACK, 0) : found.end].casefold())[-_WORDS:])
    is_said = any(word.casefold() in before for word in context)
    return max(found.score + _RAISED, _LEAST_RAISED) if is_said else found.score


def _made(rule: RedactionRule) -> Sequence[Any]:
    import presidio_analyzer.predefined_recognizers as predefined
    from presidio_analyzer import Pattern, PatternRecognizer

    log = logging.getLogger("presidio-analyzer")
    if not any(isinstance(handler, _SkippedPatterns) for handler in log.handlers):
        log.addHandler(_SkippedPatterns(logging.WARNING))
        # It writes values whose check digits it cannot read into its log.
        log.propagate = False
    made: list[Any] = []
    for kind in rule.kinds:
        finder = _email_recognizer() if kind == "EMAIL_ADDRESS" else getattr(predefined, KINDS[kind])
        made.append(finder(supported_regions=rule.phone_regions) if kind == "PHONE_NUMBER" else finder())
    for kind, pattern in rule.patterns.items():
        made.append(PatternRecognizer(kind, patterns=[Pattern(kind, pattern, 1.0)]))
    return made


def _email_recognizer() -> type[Any]:
    """Presidio's own lets go addresses of domains that no public list has, and fetches that list."""
    from presidio_analyzer.predefined_recognizers import EmailRecognizer

    class Addresses(EmailRecognizer):
        def validate_result(self, pattern_text: str) -> bool | None:  # noqa: ARG002
            return None

    return Addresses
