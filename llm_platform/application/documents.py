"""What becomes of a row of the source before it is asked about: redaction, and the cuts of long documents."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from llm_platform.application.specification import Specification
from llm_platform.records import FieldChoice, RedactionRule
from llm_platform.redaction.kinds import PACKAGE, installed


class Documents(Specification):
    """How rows of the source become documents."""

    max_characters: int = Field(default=20_000, ge=1)
    buckets: int = Field(default=16, ge=1, le=4096)


class Redaction(Specification):
    """What is taken out of documents before they are stored, and so before anything is made of them.

    Attributes:
        kinds: What Presidio's patterns find, by its names.
        patterns: A kind of the application's own → regular expression, such as that of the numbers of its cases.
        minimum_score: Of a finding, in [0, 1]. Numbers of few digits have less, unless a word such as "passport" stands
            before them.
        phone_regions: Countries whose telephone numbers are found without a country code.
        put_back: Keep what was taken out beside the document, and put it into the answers that readers get. Without it
            it is stored nowhere, and answers keep the placeholders.
    """

    kinds: tuple[str, ...] = ("EMAIL_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD", "IBAN_CODE", "IP_ADDRESS", "US_SSN")
    patterns: dict[str, str] = Field(default_factory=dict)
    minimum_score: float = Field(default=0.35, gt=0.0, le=1.0)
    phone_regions: tuple[str, ...] = ("US", "GB", "DE", "FR")
    put_back: bool = False

    def rule(self) -> RedactionRule:
        """What decides what is taken out, with the version of what finds it."""
        return RedactionRule(
            kinds=self.kinds,
            patterns=self.patterns,
            minimum_score=self.minimum_score,
            phone_regions=self.phone_regions,
            recognizers=installed() or PACKAGE,
        )


class LongDocumentRules(Specification):
    """What is done with a document whose prompt does not fit the model's context; `long_documents: split` for short.

    Attributes:
        policy: `reject` stores a refusal; `truncate` asks about the beginning, and says so on the answer; `split` asks
            about every part, and puts the answers together.
        overlap_tokens: About so many tokens of the end of a part are read again at the start of the next one.
        priority: For `classify`: the answer is the first of these labels that any part got. Without it, the label with
            the highest probability on average, or with decision `text` the commonest.
        fields: For `extract`: which part's value a field takes: the `first` that has one, the `last`, the commonest
            (`most`), or of a list `all`. Without it, the first, and of a list all.
        prompt: Prompt file that makes one answer from `{{ parts }}`, the answers to the parts; `generate` needs it.
    """

    policy: Literal["reject", "truncate", "split"] = "reject"
    overlap_tokens: int = Field(default=64, ge=0, le=4096)
    priority: tuple[str, ...] = ()
    fields: dict[str, FieldChoice] = Field(default_factory=dict)
    prompt: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_one_word(cls, value: Any) -> Any:
        return {"policy": value} if isinstance(value, str) else value

    @field_validator("priority", mode="before")
    @classmethod
    def _of_a_list(cls, value: Any) -> Any:
        # Behind a validator of the whole mapping, strict reading takes no list for a tuple.
        return tuple(value) if isinstance(value, list) else value
