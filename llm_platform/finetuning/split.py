"""Which labelled documents train, which validate, and which must do neither.

Near-duplicates are one document here: of a group at most one trains or validates, and a group that touches the
evaluation split does neither. So the three parts share no document and no near-duplicate, whatever the references say.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llm_platform.application.variants import Finetuning
from llm_platform.errors import SpecificationError
from llm_platform.finetuning.duplicates import near_duplicate_groups
from llm_platform.records import Record, Split

MINIMUM_EXAMPLES = 20
MINIMUM_PER_LABEL = 4
"""With fewer of a label, training or validation is likely to be without it."""

Strata = dict[str, list["LabelledDocument"]]


class LabelledDocument(Record):
    """A document with its known answer, from references or from an approved human verdict."""

    document_id: str
    fingerprint: str
    text: str
    answer: str
    split: Split


@dataclass(frozen=True)
class Chosen:
    """What trains and what validates, and how many were left out; see `TrainingData` for the counts."""

    train: tuple[LabelledDocument, ...]
    validation: tuple[LabelledDocument, ...]
    evaluation: int
    duplicates: int
    near_evaluation: int
    conflicting: int


def choose(documents: Sequence[LabelledDocument], spec: Finetuning, *, labels: Sequence[str] = ()) -> Chosen:
    """Draw training and validation examples from the training split; nothing of the evaluation split enters.

    A smaller `spec.examples` takes a part of what a larger one takes.

    Args:
        documents: Every labelled document of the application, the evaluation split included: its near-duplicates are
            kept out of training.
        labels: The application's labels, for `classify`: both parts are stratified by them.

    Raises:
        SpecificationError: too few documents, or one label only; says how many of what to add.
    """
    groups = near_duplicate_groups({document.document_id: document.text for document in documents})
    held_out = {groups[document.document_id] for document in documents if document.split == "evaluation"}
    training = sorted(
        (document for document in documents if document.split == "train"), key=lambda one: one.document_id
    )
    near = [document for document in training if groups[document.document_id] in held_out]
    clean = [document for document in training if groups[document.document_id] not in held_out]
    conflicts = _conflicting(clean, groups) if labels else set()
    usable = [document for document in clean if groups[document.document_id] not in conflicts]
    single = list({groups[document.document_id]: document for document in reversed(usable)}.values())
    strata = _strata(single, seed=spec.seed, labels=labels)
    _require(strata, labels, dropped=len(training) - len(single))
    train, validation = _drawn(strata, spec)
    return Chosen(
        train=tuple(train),
        validation=tuple(validation),
        evaluation=sum(document.split == "evaluation" for document in documents),
        duplicates=len(usable) - len(single),
        near_evaluation=len(near),
        conflicting=len(clean) - len(usable),
    )


def rank(seed: int, name: str) -> bytes:
    """A key that shuffles names: equal for equal seed and name, on every machine."""
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


def _conflicting(documents: Sequence[LabelledDocument], groups: Mapping[str, str]) -> set[str]:
    """Groups whose members have different labels: at least one of them is wrong, and nobody knows which."""
    answers: dict[str, set[str]] = {}
    for document in documents:
        answers.setdefault(groups[document.document_id], set()).add(document.answer)
    return {group for group, found in answers.items() if len(found) > 1}


def _strata(documents: Sequence[LabelledDocument], *, seed: int, labels: Sequence[str]) -> Strata:
    strata: Strata = {label: [] for label in labels} if labels else {"": []}
    for document in sorted(documents, key=lambda one: rank(seed, one.document_id)):
        strata[document.answer if labels else ""].append(document)
    return strata


def _require(strata: Strata, labels: Sequence[str], *, dropped: int) -> None:
    counts = {label: len(documents) for label, documents in strata.items()}
    total = sum(counts.values())
    aside = f" ({dropped} more are near-duplicates or contradict each other)" if dropped else ""
    if total < MINIMUM_EXAMPLES:
        raise SpecificationError(
            f"Fine-tuning needs at least {MINIMUM_EXAMPLES} labelled documents in the training split, and there are "
            f"{total}{aside}. Label {MINIMUM_EXAMPLES - total} more; a few hundred are where it begins to pay."
        )
    missing = {label: MINIMUM_PER_LABEL - count for label, count in counts.items() if count < MINIMUM_PER_LABEL}
    if labels and missing:
        wanted = ", ".join(f"{more} of {label!r}" for label, more in missing.items())
        found = ", ".join(f"{count} of {label!r}" for label, count in counts.items())
        one = "one label only" if sum(count > 0 for count in counts.values()) == 1 else "too few of a label"
        raise SpecificationError(
            f"The training split has {one}: {found}{aside}. A model would learn to say one thing always. "
            f"Add at least {wanted}."
        )


def _drawn(strata: Strata, spec: Finetuning) -> tuple[list[LabelledDocument], list[LabelledDocument]]:
    """Training and validation, each with its share of every stratum, mixed."""
    sizes = {label: len(documents) for label, documents in strata.items()}
    taken = _shares(sizes, min(spec.examples or sum(sizes.values()), sum(sizes.values())))
    held = {label: max(1, round(spec.validation_share * count)) for label, count in taken.items() if count > 1}
    train: list[LabelledDocument] = []
    validation: list[LabelledDocument] = []
    for label, documents in strata.items():
        # Drawn by a key of its own: by the order in which documents are taken, the first ones would always validate.
        part = documents[: taken[label]]
        order = sorted(part, key=lambda one: rank(spec.seed, f"validation:{one.document_id}"))
        chosen = {document.document_id for document in order[: held.get(label, 0)]}
        train += [document for document in part if document.document_id not in chosen]
        validation += [document for document in part if document.document_id in chosen]
    return _mixed(train, spec.seed), _mixed(validation, spec.seed)


def _shares(sizes: Mapping[str, int], total: int) -> dict[str, int]:
    """`total` divided in proportion to `sizes`: rounded down, then the largest remainders first."""
    whole = sum(sizes.values())
    exact = {label: total * size / whole for label, size in sizes.items()}
    shares = {label: int(share) for label, share in exact.items()}
    by_remainder = sorted(sizes, key=lambda label: (shares[label] - exact[label], label))
    for label in by_remainder[: total - sum(shares.values())]:
        shares[label] += 1
    return shares


def _mixed(documents: list[LabelledDocument], seed: int) -> list[LabelledDocument]:
    return sorted(documents, key=lambda one: rank(seed, f"order:{one.document_id}"))


def balance(answers: Sequence[str]) -> dict[str, int]:
    """Answer → how often, by answer."""
    return dict(sorted(Counter(answers).items()))
