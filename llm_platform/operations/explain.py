"""The chain behind one published row, for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_platform.application import Application
from llm_platform.warehouse.lake import Warehouse


def explain_document(
    lake: Warehouse, application: Application, document_id: str, *, texts: bool = False
) -> dict[str, Mapping[str, Any]]:
    """Everything that made one document's published answer, by table: row, document, completion, release, prompt,
    model pin, run, decision and report.

    Args:
        lake: The lake.
        application: The application.
        document_id: Key of the document.
        texts: Include the document's text and what the model said.

    Raises:
        ContractBroken: there is no such document.
    """
    store = lake.application(application.name)
    chain = store.published.explain(document_id, contract=application.publish.contract, with_texts=texts)
    return {section: values for section, values in chain.items() if isinstance(values, Mapping)}
