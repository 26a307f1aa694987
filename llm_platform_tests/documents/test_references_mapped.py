"""Known answers whose labels, splits and columns have other names than ours."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from llm_platform.application.model import Application
from llm_platform.documents.references import references_table
from llm_platform.errors import ContractBroken

CLASSIFY = {"task": "classify", "labels": ["HAPPY", "SAD"]}
EXTRACT = {
    "task": "extract",
    "fields": {
        "company": {"type": "string"},
        "paid": {"type": "enum", "values": ["CASH", "CARD"], "required": False},
    },
}
DOCUMENTS = pa.table({"document_id": ["a", "b", "c", "d"], "fingerprint": ["1", "2", "3", "4"]})


def application(task: dict[str, Any], **references: Any) -> Application:
    return Application.model_validate(
        {
            "name": "known",
            "title": "Known",
            **task,
            "source": {"url": "r.csv", "key": "id", "text": "text"},
            "references": {"url": "r.csv", "key": "id", **references},
            "variants": {"first": {"prompt": "first", "model": "tiny"}},
            "evaluation": {"gates": {}},
        }
    )


def known(table: dict[str, Any], spec: Application) -> list[tuple[str, str, str]]:
    rows = references_table(pa.table(table), DOCUMENTS, spec)[0].to_pylist()
    return [(row["document_id"], row["answer"], row["split"]) for row in rows]


def test_labels_and_splits_are_read_under_the_names_of_the_table() -> None:
    """Public data sets say pos and neg, train, val and test; nobody should have to write a second table."""
    spec = application(
        CLASSIFY,
        answer="mood",
        labels={"pos": "HAPPY", "neg": "SAD"},
        split="part",
        splits={"test": "evaluation", "val": "train", "dev": "unused"},
    )
    table = {"id": list("abcd"), "mood": ["pos", "neg", "HAPPY", "?"], "part": ["test", "val", "train", "dev"]}

    assert known(table, spec) == [("a", "HAPPY", "evaluation"), ("b", "SAD", "train"), ("c", "HAPPY", "train")]


def test_labels_that_are_numbers_are_read_too() -> None:
    """1 and 0 are the commonest labels there are."""
    spec = application(CLASSIFY, answer="y", labels={"1": "HAPPY", "0": "SAD"})

    answers = [answer for _, answer, _ in known({"id": ["a", "b"], "y": pa.array([1, 0])}, spec)]

    assert answers == ["HAPPY", "SAD"]


@pytest.mark.parametrize(
    ("splits", "found"),
    [
        pytest.param({}, "neither 'train' nor 'evaluation': 'test' \\(2\\)", id="no-mapping"),
        pytest.param({"test": "evaluation"}, "neither 'train' nor 'evaluation': 'val' \\(1\\)", id="one-is-left"),
    ],
)
def test_a_split_without_a_meaning_is_refused_by_name(splits: dict[str, str], found: str) -> None:
    """A row that is silently in no split is neither trained on nor evaluated."""
    spec = application(CLASSIFY, answer="mood", split="part", splits=splits)
    parts = ["test", "test", "val", "train"] if splits else ["test", "test", "train", "train"]

    with pytest.raises(ContractBroken, match=found):
        known({"id": list("abcd"), "mood": ["SAD"] * 4, "part": parts}, spec)


def test_a_column_of_texts_taken_for_a_split_is_not_quoted() -> None:
    """Documents appear in no message."""
    spec = application(CLASSIFY, answer="mood", split="text")
    texts = [f"a secret {number}" for number in range(30)]

    with pytest.raises(ContractBroken, match="30 different values") as raised:
        known({"id": texts, "mood": ["SAD"] * 30, "text": texts}, spec)

    assert "secret" not in str(raised.value)


def test_fields_are_read_from_columns_of_other_names() -> None:
    """The table of an accounting system has `vendor`, and the application asks for `company`."""
    spec = application(EXTRACT, fields={"vendor": "company"})

    rows = known({"id": ["a", "b"], "vendor": ["ACME", "Initech"], "paid": ["CASH", None]}, spec)

    assert [answer for _, answer, _ in rows] == [
        '{"company":"ACME","paid":"CASH"}',
        '{"company":"Initech","paid":null}',
    ]


def test_keys_of_an_object_are_renamed_as_columns_are() -> None:
    """The same known answers, one column a field or one object a row."""
    spec = application(EXTRACT, answer="truth", fields={"vendor": "company"})

    rows = known({"id": ["a"], "truth": pa.array([{"vendor": "ACME", "paid": "CARD"}])}, spec)

    assert rows[0][1] == '{"company":"ACME","paid":"CARD"}'


def test_a_field_that_is_mapped_from_a_missing_column_is_named() -> None:
    """The column is what is missing, not the field."""
    spec = application(EXTRACT, fields={"vendor": "company"})

    with pytest.raises(ContractBroken, match="have no column 'vendor'"):
        known({"id": ["a"], "company": ["ACME"], "paid": ["CASH"]}, spec)


def test_a_known_value_outside_a_closed_set_is_refused() -> None:
    """No answer could agree with it, so every one would be graded as wrong."""
    spec = application(EXTRACT)

    with pytest.raises(ContractBroken, match="1 of 2 references of known have a 'paid' that is none of its values"):
        known({"id": ["a", "b"], "company": ["A", "B"], "paid": ["CASH", "CHEQUE"]}, spec)
