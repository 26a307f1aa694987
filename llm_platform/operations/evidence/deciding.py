"""What people's labels say so far of two releases, on every text that both have answered."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from llm_platform.documents.references import drawn_split
from llm_platform.evaluation.deciding_labels import AnsweredText, LabelledDifference, labelled_difference
from llm_platform.evaluation.pairing import Rules
from llm_platform.evaluation.wording import counted
from llm_platform.operations.evidence.comparing import Side, answers_to, grade, named_release
from llm_platform.operations.releases import LoadedApplication
from llm_platform.warehouse.store import ApplicationStore

CANNOT_TELL = "no answer"
TABLE = "table"


@dataclass(frozen=True)
class Decided:
    """Two releases as they were named, and what is known of them."""

    a: str
    b: str
    labelled: LabelledDifference

    @property
    def sentence(self) -> str:
        """What was asked for, and what it says."""
        found = self.labelled
        answered = (
            f"{counted(found.answered, 'text')} outside the training split {'have' if found.answered != 1 else 'has'}"
        )
        asked = f"{answered} an answer of both, and {counted(found.differing, 'answer')} differ."
        if found.difference is None:
            return f'{asked} Nothing is labelled yet: begin with the queue "Different answers" of the review page.'
        labels = f"{counted(found.labels, 'label')} say how {counted(found.texts, 'text')} differ"
        return (
            f"{asked} {labels}. Difference {self.b} - {self.a}: {found.difference.difference_text}. "
            f"{found.difference.sentence(self.a, self.b)}"
        )


def decided_so_far(store: ApplicationStore, loaded: LoadedApplication, names: tuple[str, str]) -> Decided:
    """Compare two releases on live texts, with the labels there are.

    Texts of the training split are left out, labelled or not: a release may have been made from them.

    Raises:
        SpecificationError: a name is unknown or ambiguous.
    """
    texts = _with_labels(store, loaded)
    a, b = (_side(store, loaded, texts, name) for name in names)
    return Decided(*names, labelled_difference(_rows(texts, a, b), rules=Rules.of(loaded.application)))


def difference_so_far(
    store: ApplicationStore, loaded: LoadedApplication, names: tuple[str, str], *, rules: Rules
) -> tuple[LabelledDifference, int]:
    """The same with the known answers of the table first, and how many of these texts have a label.

    Nobody chose the texts of that table by how they were answered, so each of them counts as it is; the rest follows in
    its random order, up to the first that still waits for its label.
    """
    texts = _with_labels(store, loaded)
    a, b = (_side(store, loaded, texts, name) for name in names)
    given = store.references.table().to_pylist()
    tabled = {row["document_id"] for row in given if row["provenance"] == TABLE}
    documents = zip(texts["fingerprint"].to_pylist(), texts["document_id"].to_pylist(), strict=True)
    first = {key for key, document_id in documents if document_id in tabled}
    rows = sorted(_rows(texts, a, b), key=lambda row: row.text not in first)
    found = labelled_difference(rows, rules=rules)
    return found, sum(row.judged for row in rows[: found.texts])


def _with_labels(store: ApplicationStore, loaded: LoadedApplication) -> pa.Table:
    """Texts outside the training split in their order, with `reference` and `judged`."""
    rows = store.annotations.texts_in_order().to_pylist()
    decisions = {row["fingerprint"]: row for row in store.annotations.decisions().to_pylist()}
    known = {row["document_id"]: row for row in store.references.table().to_pylist()}
    spec = loaded.application.references
    kept = []
    for row in rows:
        stated, said = known.get(row["document_id"]), decisions.get(row["fingerprint"])
        # What a verdict would make of the text: a label must not take it out of the comparison once it is given.
        drawn = drawn_split(row["fingerprint"], seed=spec.seed, train_share=spec.train_share) if spec else None
        if (stated["split"] if stated else drawn) == "train":
            continue
        answer = said["answer"] if said and said["answer"] is not None else stated["answer"] if stated else None
        unsure = said is not None and said["basis"] == CANNOT_TELL
        kept.append({**row, "reference": answer, "judged": answer is not None or unsure})
    names = ("fingerprint", "document_id", "text", "attributes", "reference")
    fields = [(name, pa.string()) for name in names] + [("checked", pa.bool_()), ("judged", pa.bool_())]
    return pa.Table.from_pylist(kept, schema=pa.schema(fields))


def _side(store: ApplicationStore, loaded: LoadedApplication, texts: pa.Table, name: str) -> Side:
    release = named_release(store, loaded, name)
    return grade(
        answers_to(texts, store.completions.of_release(release.release_id)),
        texts,
        application=loaded.application,
        name=name,
        release=release,
        references_version=store.references.version(),
        split="evaluation",
    )


def _rows(texts: pa.Table, a: Side, b: Side) -> list[AnsweredText]:
    columns = (texts[name].to_pylist() for name in ("fingerprint", "checked", "judged"))
    rows = []
    for key, checked, judged in zip(*columns, strict=True):
        first, second = a.graded.get(key), b.graded.get(key)
        if first is None or second is None:
            continue
        differs = first.answer != second.answer
        rows.append(AnsweredText(key, first.cluster, differs, checked, judged, first.score, second.score))
    return rows
