"""Which rows may be evaluated, and what every table that comes in must look like."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, get_args

from llm_platform.errors import ContractBroken
from llm_platform.records import CompletionStatus, DocumentStatus, Score, Split

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 3
NOT_SCORED = "no score for the current text and references"


def require_columns(frame: pd.DataFrame, columns: Iterable[str], *, table: str) -> None:
    """Refuse a table that lacks a column.

    Raises:
        ContractBroken: with the columns that are missing and those that are there.
    """
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        found = ", ".join(map(str, frame.columns)) or "none"
        raise ContractBroken(f"Table {table!r} lacks the columns {', '.join(missing)} (found: {found}).")


def require_unique(frame: pd.DataFrame, *, table: str) -> None:
    """Refuse a table in which a document occurs twice.

    Raises:
        ContractBroken: with the number of such documents and the first ids.
    """
    repeated = frame.loc[frame["document_id"].duplicated(), "document_id"].astype(str).unique().tolist()
    if repeated:
        first = ", ".join(repr(document_id) for document_id in repeated[:SHOWN])
        raise ContractBroken(
            f"Table {table!r} has {len(repeated)} documents more than once (first: {first}). Keep one row each."
        )


def checked_references(references: pd.DataFrame) -> pd.DataFrame:
    """`references` after checking columns, keys and splits.

    Raises:
        ContractBroken: a column is missing, a document occurs twice, or a split has an unknown name.
    """
    require_columns(references, ("document_id", "answer", "split"), table="references")
    require_unique(references, table="references")
    unknown = sorted(set(references["split"].astype(str)) - set(get_args(Split)))
    if unknown:
        raise ContractBroken(f"Table 'references' has the splits {unknown}; allowed are 'train' and 'evaluation'.")
    return references


def sendable(documents: pd.DataFrame) -> pd.Series[bool]:
    """True for each document that could be sent; all of them when there is no column `document_status`."""
    if "document_status" not in documents.columns:
        return documents["document_id"].notna()
    return documents["document_status"] == str(DocumentStatus.SENDABLE)


def training_fingerprints(documents: pd.DataFrame, references: pd.DataFrame) -> set[str]:
    """Texts that the training split has seen."""
    trained = references.loc[references["split"] == "train", "document_id"]
    return set(documents.loc[documents["document_id"].isin(trained), "fingerprint"])


def evaluation_rows(documents: pd.DataFrame, references: pd.DataFrame) -> pd.DataFrame:
    """Documents of the evaluation split whose text is not in the training split, with their `reference`, by id.

    A text that is in both splits has been seen by whatever was chosen, fitted or trained on the training split, under
    another document's id: it would be a leak, so it is left out.

    Args:
        documents: `document_id`, `fingerprint` and any further columns, which are kept.
        references: `document_id`, `answer`, `split`.

    Raises:
        ContractBroken: a table lacks a column or repeats a document.
    """
    require_columns(documents, ("document_id", "fingerprint"), table="documents")
    require_unique(documents, table="documents")
    checked_references(references)
    held_out = references.loc[references["split"] == "evaluation", ["document_id", "answer"]]
    held_out = held_out.rename(columns={"answer": "reference"})
    # An attribute of the same name would make the column ambiguous; slices read attributes by another way.
    rows = documents.drop(columns="reference", errors="ignore").merge(held_out, on="document_id", how="inner")
    seen = rows["fingerprint"].isin(training_fingerprints(documents, references))
    return rows.loc[~seen].sort_values("document_id", ignore_index=True)


def answered_outside_training(answers: pd.DataFrame, references: pd.DataFrame) -> pd.DataFrame:
    """Documents with a completion, labelled or not, whose text is not in the training split."""
    seen = answers["fingerprint"].isin(training_fingerprints(answers, references))
    return answers.loc[answers["status"].notna() & ~seen]


def scored_rows(rows: pd.DataFrame, scores: Sequence[Score]) -> pd.DataFrame:
    """`rows` with three more columns: `score`, why it is missing (`ungraded`), and the valid answer (`predicted`).

    A score counts for the text it was given for: after a document has changed, its old score is passed over.
    """
    import pandas as pd

    by_text = {(score.document_id, score.fingerprint): score for score in scores}
    keys = zip(rows["document_id"].tolist(), rows["fingerprint"].tolist(), strict=True)
    found = [by_text.get(key) for key in keys]
    is_valid = (rows["status"] == str(CompletionStatus.VALID)).tolist()
    given = zip(rows["answer"].tolist(), is_valid, strict=True)
    predicted: list[Any] = [text_or_none(answer) if ok else None for answer, ok in given]
    reasons: list[Any] = [NOT_SCORED if score is None else score.reason for score in found]
    return rows.assign(
        score=[math.nan if score is None or score.score is None else score.score for score in found],
        ungraded=pd.Series(reasons, index=rows.index, dtype=object),
        # The dtype is stated, because a column of nothing but None would become one of numbers.
        predicted=pd.Series(predicted, index=rows.index, dtype=object),
    )


def text_or_none(value: object) -> str | None:
    """The text of a table's cell; None for null, whichever way pandas spells it."""
    return value if isinstance(value, str) else None
