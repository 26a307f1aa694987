from __future__ import annotations

import pyarrow as pa
import pytest

from llm_platform.application.model import Application
from llm_platform.documents.references import references_table
from llm_platform.errors import ContractBroken

APPLICATION = Application.model_validate(
    {
        "name": "receipts",
        "title": "Receipts",
        "task": "extract",
        "fields": {"total": {"type": "string"}, "date": {"type": "string"}},
        "source": {"url": "r.jsonl", "key": "id", "text": "text"},
        "references": {"url": "r.jsonl", "key": "id", "answer": "truth"},
        "variants": {"first": {"prompt": "first", "model": "tiny"}},
        "evaluation": {"gates": {}},
    }
)
DOCUMENTS = pa.table({"document_id": ["a"], "fingerprint": ["f"]})


@pytest.mark.parametrize(
    "truth",
    [
        pytest.param(pa.array([{"total": "9.00", "date": None}]), id="struct-column"),
        pytest.param(pa.array(['{"total": "9.00", "date": null}']), id="json-text"),
    ],
)
def test_answers_that_are_objects_are_stored_as_canonical_json(truth: pa.Array) -> None:
    """They are compared with answers field by field, and equal objects need equal text."""
    table, _ = references_table(pa.table({"id": ["a"], "truth": truth}), DOCUMENTS, APPLICATION)

    assert table.column("answer").to_pylist() == ['{"date":null,"total":"9.00"}']


@pytest.mark.parametrize("truth", ["9.00", "[1]", "{'total': '9.00'}"])
def test_an_answer_that_is_no_object_is_refused(truth: str) -> None:
    """Every answer would be graded as wrong against it."""
    with pytest.raises(ContractBroken, match="1 of 1 references of receipts are not possible answers"):
        references_table(pa.table({"id": ["a"], "truth": [truth]}), DOCUMENTS, APPLICATION)
