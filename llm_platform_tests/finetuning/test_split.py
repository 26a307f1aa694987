from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_platform.application.variants import Finetuning
from llm_platform.errors import SpecificationError
from llm_platform.finetuning.duplicates import NEAR, near_duplicate_groups, shingles_of
from llm_platform.finetuning.split import LabelledDocument, choose

LABELS = ("HAPPY", "SAD")
VOCABULARY = [f"word{number}" for number in range(40)]


def spec(**changes: object) -> Finetuning:
    return Finetuning.model_validate({"prompt": "p", "model": "m", **changes})


def document(number: int, text: str, *, answer: str = "", split: str = "train") -> LabelledDocument:
    return LabelledDocument.model_validate(
        {
            "document_id": f"d{number:04d}",
            "fingerprint": f"f{number}",
            "text": text,
            "answer": answer or LABELS[number % 2],
            "split": split,
        }
    )


def plain(count: int, *, start: int = 0, split: str = "train") -> list[LabelledDocument]:
    """Documents that have nothing in common."""
    return [
        document(number, " ".join(f"{number}x{place}" for place in range(12)), split=split)
        for number in range(start, start + count)
    ]


def similarity(a: str, b: str) -> float:
    one, other = shingles_of(a), shingles_of(b)
    return len(one & other) / len(one | other)


@st.composite
def collections(draw: st.DrawFn) -> list[LabelledDocument]:
    """Labelled documents among which some were copied with a word or two changed, into whatever split."""
    chance = random.Random(draw(st.integers(0, 10**6)))
    texts = [" ".join(chance.choices(VOCABULARY, k=chance.randint(1, 25))) for _ in range(draw(st.integers(30, 60)))]
    for _ in range(draw(st.integers(0, 25))):
        words = chance.choice(texts).split()
        for _ in range(chance.randint(0, 3)):
            words[chance.randrange(len(words))] = chance.choice(VOCABULARY)
        texts.append(" ".join(words[: chance.randint(max(1, len(words) - 2), len(words))]))
    splits = [chance.choice(["train", "train", "train", "evaluation"]) for _ in texts]
    found = [
        document(number, text, split=split) for number, (text, split) in enumerate(zip(texts, splits, strict=True))
    ]
    return [*found, *plain(24, start=1000)]


@settings(max_examples=40, deadline=None)
@given(collections(), st.integers(0, 5))
def test_the_parts_share_no_document_and_no_near_duplicate(documents: list[LabelledDocument], seed: int) -> None:
    """What is trained on must not be measured on under another id, or every figure downstream is flattery."""
    chosen = choose(documents, spec(seed=seed), labels=LABELS)

    held_out = [one for one in documents if one.split == "evaluation"]
    parts = {"train": chosen.train, "validation": chosen.validation, "evaluation": held_out}
    for part, other in itertools.combinations(parts.values(), 2):
        assert not {one.document_id for one in part} & {one.document_id for one in other}
        assert all(similarity(one.text, two.text) < NEAR for one in part for two in other)
    assert chosen.validation
    assert len(chosen.train) + len(chosen.validation) + chosen.duplicates + chosen.near_evaluation + (
        chosen.conflicting
    ) == len(documents) - len(held_out)


@settings(max_examples=40, deadline=None)
@given(collections())
def test_no_near_duplicate_is_missed_and_none_invented(documents: list[LabelledDocument]) -> None:
    """The quick search must find what comparing all with all finds."""
    texts = {one.document_id: one.text for one in documents}
    found = near_duplicate_groups(texts)

    group = {key: key for key in texts}
    for a, b in itertools.combinations(sorted(texts), 2):
        if similarity(texts[a], texts[b]) >= NEAR and group[a] != group[b]:
            keep, gone = sorted((group[a], group[b]))
            group = {key: keep if value == gone else value for key, value in group.items()}
    assert found == group


def test_both_parts_have_the_labels_in_proportion() -> None:
    """A validation part of one label would choose a step that always says it."""
    documents = plain(200)
    documents = [one.model_copy(update={"answer": LABELS[0 if n % 4 else 1]}) for n, one in enumerate(documents)]

    chosen = choose(documents, spec(validation_share=0.2), labels=LABELS)

    assert Counter(one.answer for one in chosen.train) == {"HAPPY": 120, "SAD": 40}
    assert Counter(one.answer for one in chosen.validation) == {"HAPPY": 30, "SAD": 10}


def test_fewer_examples_are_a_part_of_more_and_the_order_of_rows_does_not_matter() -> None:
    """A learning curve compares sizes, not draws."""
    documents = plain(100)
    few, many = (choose(documents, spec(examples=count), labels=LABELS) for count in (40, 80))
    shuffled = choose(random.Random(3).sample(documents, len(documents)), spec(examples=40), labels=LABELS)

    def ids(one: object) -> set[str]:
        return {document.document_id for document in (*one.train, *one.validation)}  # type: ignore[attr-defined]

    assert len(ids(few)) == 40
    assert ids(few) < ids(many)
    assert shuffled == few


def test_a_near_duplicate_of_an_evaluation_document_is_dropped_and_counted() -> None:
    """The reader of the training set should see how much of it was a leak."""
    documents = plain(40)
    copied = documents[0].model_copy(
        update={"document_id": "held", "split": "evaluation", "text": documents[0].text + " indeed"}
    )

    chosen = choose([*documents, copied], spec(), labels=LABELS)

    assert chosen.near_evaluation == 1
    assert "d0000" not in {one.document_id for one in (*chosen.train, *chosen.validation)}


def test_near_duplicates_with_different_labels_are_both_left_out() -> None:
    """At least one of them is labelled wrongly, and nobody here knows which."""
    documents = plain(40)
    opposite = documents[0].model_copy(update={"document_id": "again", "answer": "SAD"})

    chosen = choose([*documents, opposite], spec(), labels=LABELS)

    assert chosen.conflicting == 2
    assert chosen.duplicates == 0


@pytest.mark.parametrize(
    ("documents", "said"),
    [
        pytest.param(plain(12), "there are 12. Label 8 more", id="too-few"),
        pytest.param(
            [one.model_copy(update={"answer": "SAD"}) for one in plain(30)],
            "one label only: 0 of 'HAPPY', 30 of 'SAD'.*Add at least 4 of 'HAPPY'",
            id="one-label",
        ),
        pytest.param(plain(30, split="evaluation"), "there are 0. Label 20 more", id="evaluation-only"),
        pytest.param(
            plain(12) + [one.model_copy(update={"document_id": f"copy-{one.document_id}"}) for one in plain(12)],
            r"there are 12 \(12 more are near-duplicates",
            id="copies-do-not-count",
        ),
    ],
)
def test_examples_that_cannot_train_are_refused_with_what_to_add(documents: list[LabelledDocument], said: str) -> None:
    """ "Not enough data" sends a team away; a number sends it to label."""
    with pytest.raises(SpecificationError, match=said):
        choose(documents, spec(), labels=LABELS)
