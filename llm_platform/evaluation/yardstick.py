"""What answers are held against, and its identity: two reports with one id were measured with one yardstick."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from llm_platform.application.model import Application
from llm_platform.evaluation.gate_names import limits
from llm_platform.evaluation.scorers import scorer_of
from llm_platform.evaluation.selection import evaluation_rows, scored_rows, sendable, text_or_none
from llm_platform.records import Score, content_hash

if TYPE_CHECKING:
    import pandas as pd


def evaluated_rows(
    answers: pd.DataFrame, references: pd.DataFrame, scores: Sequence[Score], *, scorer: str
) -> pd.DataFrame:
    """Documents of the evaluation split that have a score by `scorer`; what metrics are computed from."""
    own = [score for score in scores if score.scorer == scorer]
    labelled = scored_rows(evaluation_rows(answers, references), own)
    return labelled.loc[labelled["score"].notna()].reset_index(drop=True)


def evaluation_id(
    documents: pd.DataFrame,
    references: pd.DataFrame,
    *,
    application: Application,
    champion_release_id: str | None = None,
    judges: Mapping[str, str] | None = None,
) -> str:
    """Hash of what answers are held against: it depends on the sendable evaluation documents and on no answer.

    Where the gates ask for no regression, the champion is part of it: evidence against an earlier one is none.
    """
    rows = evaluation_rows(documents, references)
    rows = rows.loc[sendable(rows)]
    columns = (rows[name].tolist() for name in ("document_id", "fingerprint", "reference"))
    return content_hash(
        {
            "scorer": scorer_of(application, judges).name,
            "labels": sorted(application.labels),
            "fields": {name: field.content() for name, field in application.fields.items()},
            "gates": limits(application),
            "slices": application.evaluation.slices,
            "cluster": application.evaluation.cluster,
            "champion": champion_release_id if application.evaluation.gates.regression is not None else None,
            "references": [
                [str(key), str(text), text_or_none(answer)] for key, text, answer in zip(*columns, strict=True)
            ],
        }
    )
