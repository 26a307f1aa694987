"""Training examples: what the model is asked, as an endpoint sees it, and what it is to answer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, Protocol

from llm_platform.application.variants import Finetuning
from llm_platform.finetuning.split import Chosen, LabelledDocument, balance
from llm_platform.records import ID_LENGTH, Prompt, Record, TrainingData

SHOWN = 5


class ExamplePrompt(Protocol):
    """A prompt with its document filled in (`llm_platform.prompts.render.RenderedPrompt`)."""

    @property
    def messages(self) -> list[dict[str, str]] | None:
        """Chat messages, or None for a text completion."""

    @property
    def text(self) -> str | None:
        """Text to be continued, or None for chat."""


class TrainingExample(Record):
    """One example: chat messages or the text of a completion, and the exact text to be answered."""

    document_id: str
    part: Literal["train", "validation"]
    messages: tuple[dict[str, str], ...] | None = None
    text: str | None = None
    answer: str


def make_examples(
    chosen: Chosen, *, render: Callable[[LabelledDocument], ExamplePrompt], prompt: Prompt
) -> list[TrainingExample]:
    """Every chosen document as an example, training before validation.

    Args:
        render: The application's own renderer, so that training asks exactly what the endpoint will be asked.
        prompt: For `classify`, its `answers` give the word that stands for a label.
    """
    parts: list[tuple[Literal["train", "validation"], tuple[LabelledDocument, ...]]] = [
        ("train", chosen.train),
        ("validation", chosen.validation),
    ]
    examples = []
    for part, documents in parts:
        for document in documents:
            rendered = render(document)
            examples.append(
                TrainingExample(
                    document_id=document.document_id,
                    part=part,
                    messages=None if rendered.messages is None else tuple(rendered.messages),
                    text=rendered.text,
                    answer=prompt.answers.get(document.answer, document.answer),
                )
            )
    return examples


def examples_hash(examples: Iterable[TrainingExample]) -> str:
    """Identity of examples in their order: equal hashes train equally."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(example.model_dump_json().encode() + b"\n")
    return digest.hexdigest()[:ID_LENGTH]


def describe(
    examples: Sequence[TrainingExample],
    chosen: Chosen,
    spec: Finetuning,
    *,
    labels: Sequence[str] = (),
    references_version: str,
    documents_snapshot: int | None,
) -> TrainingData:
    """The examples in numbers, with the hash that identifies them."""
    return TrainingData(
        content_hash=examples_hash(examples),
        train=len(chosen.train),
        validation=len(chosen.validation),
        evaluation=chosen.evaluation,
        balance=balance([document.answer for document in chosen.train]) if labels else {},
        duplicates=chosen.duplicates,
        near_evaluation=chosen.near_evaluation,
        conflicting=chosen.conflicting,
        split_seed=spec.seed,
        references_version=references_version,
        documents_snapshot=documents_snapshot,
    )
