"""`source.text` as one column, several, or a template: what becomes the text, and what stays as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm_platform.application.documents import Documents
from llm_platform.application.source import Source
from llm_platform.documents.prepare import prepare
from llm_platform.errors import ContractBroken
from llm_platform.evaluation.baseline import baseline_of
from llm_platform.operations.answering.columns import source_reader
from llm_platform.records import content_hash
from llm_platform.warehouse.sample_source import write_table
from llm_platform_tests.evaluation.builders import application_of

ROWS: list[dict[str, Any]] = [
    {"id": "a", "title": "Broken", "full text": "the door", "n": 7},
    {"id": "b", "title": None, "full text": "no title", "n": 8},
    {"id": "c", "title": "  ", "full text": "blank title", "n": 9},
    {"id": "d", "title": "", "full text": None, "n": None},
    {"id": "e", "title": None, "full text": None, "n": None},
    {"id": "f", "title": "{{ n }} braces", "full text": "stay {{ title }}", "n": 1},
]


def prepared(source: Source, rows: list[dict[str, Any]] = ROWS) -> dict[str, dict[str, Any]]:
    (batch,) = pa.Table.from_pylist(rows).to_batches()
    return {row["document_id"]: row for made in prepare([batch], source, Documents()) for row in made.to_pylist()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            ("title", "full text"),
            ["Broken\n\nthe door", "no title", "blank title", "", "", "{{ n }} braces\n\nstay {{ title }}"],
            id="several",
        ),
        pytest.param(
            "{{title}} ({{ n }}): {{ full text }}",
            [
                "Broken (7): the door",
                "(8): no title",
                "(9): blank title",
                "",
                "",
                "{{ n }} braces (1): stay {{ title }}",
            ],
            id="template",
        ),
        pytest.param(("full text",), ["the door", "no title", "blank title", "", "", "stay {{ title }}"], id="one"),
    ],
)
def test_a_text_may_be_made_of_several_columns(text: str | tuple[str, ...], expected: list[str]) -> None:
    """A title says what a body leaves out; braces in a document are the document's own."""
    documents = prepared(Source(url="t.csv", key="id", text=text))

    assert [" ".join(row["text"].split(" ")).strip() for row in documents.values()] == [
        " ".join(one.split(" ")).strip() for one in expected
    ]


def test_a_row_of_which_no_column_says_anything_is_empty_and_not_a_template_without_words() -> None:
    """`Title: , body: ` would be sent, paid for and answered."""
    documents = prepared(Source(url="t.csv", key="id", text="Title: {{ title }}, body: {{ full text }}"))

    assert [documents[key]["status"] for key in "abcdef"] == ["sendable"] * 3 + ["empty", "empty", "sendable"]
    assert documents["e"]["reason"] == "the text is null"


def test_bytes_that_are_no_text_in_one_of_the_columns_make_the_document_undecodable() -> None:
    """Half a text must not be sent as if it were whole."""
    batch = pa.record_batch({"id": ["a"], "title": pa.array([b"caf\xe9"]), "body": pa.array([b"fine"])})

    (made,) = prepare([batch], Source(url="t.csv", key="id", text=("title", "body")), Documents())

    assert made.to_pylist()[0]["status"] == "undecodable"


def test_one_column_has_the_fingerprints_and_the_rules_that_it_always_had() -> None:
    """Another fingerprint would ask about every document of every application again, and pay for it."""
    source = Source(url="a.csv", key="id", text="body", attributes=("team",))
    (row,) = prepared(source, [{"id": "a", "body": "the door", "team": "red"}]).values()

    assert row["fingerprint"] == "95a6a50238874d420bffb9e50b6dc3fe"
    assert content_hash(Source(url="a.csv", key="id", text="body").model_dump(mode="json")) == "21b9e183c6b880fe"


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "ducklake"])
def test_every_kind_of_table_gives_the_columns_of_a_text(tmp_path: Path, kind: str) -> None:
    """Each has a reader of its own, and a column that one of them leaves out is lost without a word."""
    rows = [{"id": "a", "title": "Broken", "full text": "the door"}, {"id": "b", "title": "Café", "full text": "shut"}]
    source = Source(url=str(tmp_path / f"t.{kind}"), key="id", text="{{ title }}: {{ full text }}")
    warehouses = {"crm": f"ducklake:sqlite:{tmp_path}/crm.sqlite?data_path={tmp_path}/crm"}
    if kind == "ducklake":
        write_table(warehouses["crm"], "t", pa.Table.from_pylist(rows), "id")
        source = source.model_copy(update={"url": None, "warehouse": "crm", "table": "t"})
    else:
        write_file(tmp_path / f"t.{kind}", rows)

    with source_reader(warehouses) as reader:
        changes = reader.changes(source, None)
        documents = [row for made in prepare(changes.rows, source, Documents()) for row in made.to_pylist()]

    assert {row["document_id"]: row["text"] for row in documents} == {"a": "Broken: the door", "b": "Café: shut"}


def test_the_baseline_reads_what_the_model_reads() -> None:
    """A bar that reads half of the document is one that any model clears."""
    moods = {"HAPPY": "wonderful", "SAD": "tedious"}
    known = [("HAPPY", "SAD")[number % 2] for number in range(200)]
    rows = [{"id": f"d{n:03d}", "title": f"{moods[mood]} {n}", "body": f"a film {n}"} for n, mood in enumerate(known)]
    splits = ["train" if number < 100 else "evaluation" for number in range(200)]
    references = pd.DataFrame({"document_id": [row["id"] for row in rows], "answer": known, "split": splits})

    def bar(text: str | tuple[str, ...]) -> float:
        documents = pd.DataFrame(prepared(Source(url="t.csv", key="id", text=text), rows).values())
        baseline = baseline_of(documents, references, application=application_of())
        assert baseline is not None
        assert baseline.accuracy is not None
        return baseline.accuracy.value

    assert bar("body") < 0.7
    assert bar(("title", "body")) > 0.95
    assert bar("{{ title }}: {{ body }}") > 0.95


def write_file(path: Path, rows: list[dict[str, Any]]) -> None:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_a_missing_column_of_a_text_is_named(tmp_path: Path) -> None:
    """The run ends before anything is sent, with the name that is wrong."""
    (tmp_path / "t.csv").write_text("id,title\na,Broken\n")
    source = Source(url=str(tmp_path / "t.csv"), key="id", text="{{ title }}: {{ body }}")

    with source_reader({}) as reader, pytest.raises(ContractBroken, match="no column 'body'"):
        reader.changes(source, None)
