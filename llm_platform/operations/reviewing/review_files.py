"""Verdicts from files into the lake."""

from __future__ import annotations

from pathlib import Path

from llm_platform.application.model import Application
from llm_platform.review.files import Importing, read_annotations
from llm_platform.warehouse.lake import Warehouse


def import_annotations(
    lake: Warehouse, application: Application, file: Path, *, importing: Importing
) -> tuple[int, int]:
    """(rows that are new, rows in the file) after storing the annotations of a file, all of them or none.

    Raises:
        ContractBroken: the file has mistakes; lists them by line.
        StorageError: the file cannot be read.
    """
    store = lake.application(application.name)
    documents = store.documents.table(columns=["document_id", "fingerprint"])
    known = dict(zip(documents["document_id"].to_pylist(), documents["fingerprint"].to_pylist(), strict=True))
    rows = read_annotations(file, application, known=known, importing=importing)
    return (store.annotations.append(rows) if rows else 0), len(rows)
