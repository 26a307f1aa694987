"""Source tables that are files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm_platform.application.model import Source, TableRef
from llm_platform.errors import ContractBroken, PlatformError, SpecificationError, TransientError
from llm_platform.warehouse.lake import Warehouse


def source(path: Path, **values: Any) -> Source:
    """A file of documents with the columns id and body."""
    return Source(url=str(path), key="id", text="body", **values)


def delivered(lake: Warehouse, ref: Source) -> list[dict[str, Any]]:
    """All rows of a file."""
    return [row for part in lake.sources.changes(ref, None).rows for row in part.to_pylist()]


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        pytest.param("a.csv", b"id,body\n1,one\n2,two\n", [("1", b"one"), ("2", b"two")], id="csv"),
        pytest.param("a.csv", b"\xef\xbb\xbfid,body\r\n1,one\r\n", [("1", b"one")], id="csv-from-a-spreadsheet"),
        pytest.param(
            "a.csv", b'id,body\n1,"two\nlines, quoted"\n', [("1", b"two\nlines, quoted")], id="csv-with-line-ends"
        ),
        pytest.param("a.csv", b"id,body\n1,caf\xe9\n2,two\n", [("1", b"caf\xe9"), ("2", b"two")], id="csv-not-utf-8"),
        pytest.param("a.csv", b"id,body\n1,a\0b\n", [("1", b"a\0b")], id="csv-with-nul"),
        pytest.param("a.csv", b"id,body\n1\n\n2,\n", [("1", None), ("2", b"")], id="csv-short-and-empty-lines"),
        pytest.param("a.csv", b"id,body\n", [], id="csv-without-rows"),
        pytest.param("a.tsv", b"id\tbody\n1\tone, two\n", [("1", b"one, two")], id="tsv"),
        pytest.param(
            "a.jsonl", b'{"id": 1, "body": "one"}\n\n{"id": 2}\n', [("1", b"one"), ("2", None)], id="json-lines"
        ),
        pytest.param("a.jsonl", b'{"id": 1, "body": "\xff"}\n', [("1", b"\xff")], id="json-not-utf-8"),
        pytest.param("a.jsonl", b'{"id": 1, "body": "\\ud800"}\n', [("1", b"\xed\xa0\x80")], id="json-lone-surrogate"),
        pytest.param(
            "a.jsonl", b'{"id": 1, "body": {"b": 1, "a": [2]}}\n', [("1", b'{"a":[2],"b":1}')], id="json-nested"
        ),
    ],
)
def test_rows_are_delivered_with_the_bytes_of_their_text(
    local_lake: Warehouse, tmp_path: Path, name: str, content: bytes, rows: list[tuple[str, bytes | None]]
) -> None:
    """One text in a wrong encoding is a document to be marked, not a file that cannot be read."""
    (tmp_path / name).write_bytes(content)

    assert [(row["id"], row["body"]) for row in delivered(local_lake, source(tmp_path / name))] == rows


def test_parquet_is_delivered_with_invalid_text_as_bytes(local_lake: Warehouse, tmp_path: Path) -> None:
    """Writers of Parquet do not always check what they call a string."""
    body = pa.array([b"one", b"caf\xe9", None], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"id": [1, 2, 3], "body": body}), tmp_path / "a.parquet")

    rows = delivered(local_lake, source(tmp_path / "a.parquet"))

    assert [row["body"] for row in rows] == [b"one", b"caf\xe9", None]
    assert local_lake.sources.columns(source(tmp_path / "a.parquet")) == {"id": "int64", "body": "string"}


def test_a_text_of_ten_megabytes_is_one_row(local_lake: Warehouse, tmp_path: Path) -> None:
    """Python's reader of CSV stops at 128 KiB a field unless told otherwise."""
    (tmp_path / "a.csv").write_bytes(b"id,body\n1," + b"x" * 10_000_000 + b"\n2,two\n")

    rows = delivered(local_lake, source(tmp_path / "a.csv"))

    assert [len(row["body"]) for row in rows] == [10_000_000, 3]


def test_the_token_is_of_the_content(local_lake: Warehouse, tmp_path: Path) -> None:
    """A checkout touches every file; only another content is news."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,body\n1,one\n")
    before = local_lake.sources.state(source(path))

    os.utime(path, (1, 1))
    touched = local_lake.sources.state(source(path))
    path.write_bytes(b"id,body\n1,two\n")
    changes = local_lake.sources.changes(source(path), before)

    assert touched == before
    assert changes.state != before
    assert changes.full
    same = local_lake.sources.changes(source(path), changes.state)
    assert (same.full, same.deleted, list(same.rows)) == (False, [], [])


@pytest.mark.parametrize(
    ("name", "content", "error", "said"),
    [
        ("gone.csv", None, TransientError, "No such file"),
        ("a.xlsx", b"", SpecificationError, "must end in one of .csv"),
        ("a.csv", b"key,body\n1,one\n", ContractBroken, r"no column 'id'.*It has: key, body"),
        ("a.csv", b"id,text\n1,one\n", ContractBroken, "no column 'body'"),
        ("a.csv", b"", ContractBroken, "no column 'id'"),
        ("a.csv", b"id,body\n1,one,two\n", ContractBroken, "Line 2 of .+ has 3 fields and the header 2"),
        ("a.jsonl", b'{"id": 1, "body": "one"}\n{"id": \n', ContractBroken, "Line 2 of .+ is not JSON"),
        ("a.jsonl", b"[1]\n", ContractBroken, "is not a JSON object but list"),
        ("a.parquet", b"not parquet", TransientError, "Cannot read the file"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_and_never_empty(
    local_lake: Warehouse, tmp_path: Path, *, name: str, content: bytes | None, error: type[PlatformError], said: str
) -> None:
    """Taken for empty, it would delete every document; the message names file, line and what is there."""
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(error, match=said):
        delivered(local_lake, source(tmp_path / name))


def test_a_file_elsewhere_is_refused(local_lake: Warehouse) -> None:
    """Only what is said to work is tried."""
    with pytest.raises(SpecificationError, match="files are read from this machine"):
        local_lake.sources.state(Source(url="s3://bucket/a.csv", key="id", text="body"))


def test_references_keep_the_types_of_json_lines(local_lake: Warehouse, tmp_path: Path) -> None:
    """An extracted number is compared as a number."""
    (tmp_path / "a.jsonl").write_text('{"id": "a", "total": 1.5}\n{"id": "b"}\n')
    (tmp_path / "a.csv").write_text("id,label\na,HAPPY\n")

    assert local_lake.sources.read(TableRef(url=str(tmp_path / "a.jsonl")), ["id", "total"]).to_pylist() == [
        {"id": "a", "total": 1.5},
        {"id": "b", "total": None},
    ]
    assert local_lake.sources.read(TableRef(url=str(tmp_path / "a.csv")), ["label"]).to_pydict() == {"label": ["HAPPY"]}
