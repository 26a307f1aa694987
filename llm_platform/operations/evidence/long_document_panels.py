"""What the report card says of documents that do not fit a model's context."""

from __future__ import annotations

from collections.abc import Sequence

from llm_platform.evaluation.panel import Panel
from llm_platform.operations.evidence.evaluation import judged_releases
from llm_platform.operations.releases import LoadedApplication, requesting
from llm_platform.warehouse.completions import LongDocumentCounts
from llm_platform.warehouse.store import ApplicationStore

_COLUMNS = ("Variant", "Cut off", "Tokens not read", "In parts", "Parts", "In parts, without an answer")


def long_document_panels(store: ApplicationStore, loaded: LoadedApplication) -> Sequence[Panel]:
    """One panel, where any variant has cut or split a document."""
    found = {
        variant: store.completions.long_documents(requesting(release).release_id)
        for variant, release in judged_releases(store, loaded).items()
    }
    rows = [_row(variant, counts) for variant, counts in found.items() if counts.cut or counts.split]
    if not rows:
        return []
    note = (
        "Documents that do not fit the model's context beside the answer. Where the end was cut off, the answer rests "
        "on what comes before it; the stored row says how much is missing."
    )
    return [Panel(title="Long documents", note=note, columns=_COLUMNS, rows=tuple(rows))]


def _row(variant: str, counts: LongDocumentCounts) -> tuple[str, ...]:
    numbers = (counts.cut, counts.cut_tokens, counts.split, counts.parts, counts.split_failed)
    return variant, *(f"{number:,}" for number in numbers)
