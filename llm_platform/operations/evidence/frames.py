"""A release's answers as the tables that are judged: of all documents, of those with a known answer, and in sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llm_platform.application.model import Application
from llm_platform.evaluation.clusters import CLUSTER, RightSums, cluster_of, clusters_of, text_cluster
from llm_platform.evaluation.selection import training_fingerprints
from llm_platform.evaluation.whole import Whole
from llm_platform.records import CompletionStatus, DocumentStatus, Release, TokenUsage
from llm_platform.warehouse.store import ApplicationStore

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def with_clusters(answers: pd.DataFrame, clusters: Mapping[str, str], application: Application) -> pd.DataFrame:
    """`answers` with a column `cluster`: equal where documents are not independent, null where nothing is known.

    Args:
        answers: As `answers_frame` gives them.
        clusters: As `text_clusters` gives them, of the documents that have a reference.
        application: Names an attribute in `evaluation.cluster`, or none: then near-equal texts are one cluster.
    """
    by = application.evaluation.cluster
    if by is None:
        found = [clusters.get(document_id) for document_id in answers["document_id"].tolist()]
    else:
        found = [cluster_of(None, attributes, by=by) for attributes in answers["attributes"].tolist()]
    return _with_column(answers, CLUSTER, found)


def text_clusters(documents: pd.DataFrame) -> dict[str, str]:
    """Document → cluster by what its text says, of documents with a `text`."""
    both = zip(documents["document_id"].tolist(), documents["text"].tolist(), strict=True)
    return {key: text_cluster(text) for key, text in both if isinstance(text, str)}


def _with_column(frame: pd.DataFrame, name: str, values: list[Any]) -> pd.DataFrame:
    import pandas as pd

    copied = frame.copy()
    # The dtype is stated, because a column of nothing but None would become one of numbers.
    copied[name] = pd.Series(values, index=frame.index, dtype=object)
    return copied


def answers_frame(store: ApplicationStore, release: Release) -> pd.DataFrame:
    """One row per document: its answer by `release`, or null columns where there is none."""
    columns = ["document_id", "fingerprint", "attributes", "status"]
    return _with_answers(store, release, store.documents.table(columns=columns), among_them=False)


def known_answers_frame(store: ApplicationStore, release: Release) -> pd.DataFrame:
    """The same of documents with a known answer only: all that is graded."""
    columns = ["document_id", "fingerprint", "attributes", "status"]
    return _with_answers(store, release, store.documents.known(columns), among_them=True)


def _with_answers(store: ApplicationStore, release: Release, found: pa.Table, *, among_them: bool) -> pd.DataFrame:
    documents = found.to_pandas().rename(columns={"status": "document_status"})
    keys = found["document_id"].to_pylist() if among_them else None
    answered = store.completions.answered(release.release_id, document_ids=keys).to_pandas()
    answered = answered.drop(columns=["fingerprint", "attributes", "bucket"])
    # An answer derived from a stored one did cost what the stored one cost: the reader compares variants, not runs.
    answered["reused"] = False
    frame: pd.DataFrame = documents.merge(answered, on="document_id", how="left")
    return frame


def whole_of_answers(
    store: ApplicationStore,
    application: Application,
    release: Release,
    known: pd.DataFrame,
    references: pd.DataFrame,
    *,
    answered_only: bool,
) -> Whole:
    """All documents in sums, from what the store keeps of them.

    Args:
        known: Documents with a known answer, as `with_clusters` gives them.
        answered_only: Whether documents without an answer are left out.
    """
    tally, documents = store.completions.tally(release.release_id), store.documents.counts()
    numbers, sendable = tally.texts.numbers, documents.get(DocumentStatus.SENDABLE, 0)
    return Whole(
        documents=numbers["answered"] if answered_only else sum(documents.values()),
        sendable=numbers["answered"] if answered_only else sendable,
        answered=numbers["answered"],
        valid=numbers["valid"],
        outside=_outside(store, application, release, known, trained=training_fingerprints(known, references)),
        usage=TokenUsage(**{name: numbers[f"text_{name}"] for name in TokenUsage.model_fields}),
        latencies=tally.texts.counts["latency"],
    )


def _outside(
    store: ApplicationStore,
    application: Application,
    release: Release,
    known: pd.DataFrame,
    *,
    trained: set[str],
) -> RightSums:
    """Validity of answered documents outside the training split: all of them, less those, with the clusters of `known`.

    Documents without a known answer stand for their own text, so their clusters are texts, whose sums the store keeps.
    """
    if application.evaluation.cluster is not None:
        by = application.evaluation.cluster
        return RightSums(*store.completions.outside(release.release_id, by=by, without=sorted(trained)))
    numbers = store.completions.tally(release.release_id).texts.numbers
    sums = RightSums(
        numbers["answered"],
        numbers["valid"],
        numbers["texts"],
        numbers["answered_squares"],
        numbers["valid_squares"],
        numbers["valid_squares"],
    )
    answered = known.loc[known["status"].notna()]
    is_valid = {
        text: status == str(CompletionStatus.VALID)
        for text, status in zip(answered["fingerprint"].tolist(), answered["status"].tolist(), strict=True)
    }
    labelled = Counter(answered["fingerprint"].tolist())
    for text, count in store.documents.shared(is_valid.keys()).items():
        sums = sums.with_cluster(count, count * is_valid[text], times=-1)
        if (rest := count - labelled[text]) and text not in trained:
            sums = sums.with_cluster(rest, rest * is_valid[text])
    held_out = answered.loc[~answered["fingerprint"].isin(trained)]
    clusters, texts = clusters_of(held_out), held_out["fingerprint"].tolist()
    right = Counter(cluster for cluster, text in zip(clusters, texts, strict=True) if is_valid[text])
    for cluster, count in Counter(clusters).items():
        sums = sums.with_cluster(count, right[cluster])
    return sums
