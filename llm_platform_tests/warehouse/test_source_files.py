"""Source tables that are files."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm_platform.application.source import Source, TableRef
from llm_platform.errors import ContractBroken, PlatformError, SpecificationError, TransientError
from llm_platform.warehouse.lake import Warehouse


def zstd(data: bytes) -> bytes:
    """Data packed with zstd."""
    packed: bytes = pa.compress(data, "zstd", asbytes=True)
    return packed


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
        pytest.param("a.csv", b"\n\nid,body\n1,\n\n2,two\n  \n", [("1", b""), ("2", b"two")], id="csv-empty-lines"),
        pytest.param(
            "a.csv", b"id,body,\n1,one,\n2,two\n", [("1", b"one"), ("2", b"two")], id="csv-trailing-delimiter"
        ),
        pytest.param("a.csv", b",id,body\n0,1,one\n", [("1", b"one")], id="csv-with-an-unnamed-column"),
        pytest.param("a.csv", b"id;body\r\n1;one, two\r\n", [("1", b"one, two")], id="csv-with-semicolons"),
        pytest.param("a.csv", b"sep=|\nid|body\n1|one\n", [("1", b"one")], id="csv-that-says-its-delimiter"),
        pytest.param(
            "a.csv", "id,body\n1,caf\u00e9\n".encode("utf-16"), [("1", "caf\u00e9".encode())], id="csv-in-utf-16"
        ),
        pytest.param("a.csv.gz", gzip.compress(b"id,body\n1,one\n"), [("1", b"one")], id="csv-packed"),
        pytest.param("a.csv.zst", zstd(b"id,body\n1,one\n"), [("1", b"one")], id="csv-packed-with-zstd"),
        pytest.param(
            "a.jsonl.zst", zstd(b'{"id": 1, "body": "one"}\n') * 2, [("1", b"one")] * 2, id="zstd-of-two-frames"
        ),
        pytest.param("a.csv", b"id,body\n007,one\n 7,two\n", [("007", b"one"), (" 7", b"two")], id="keys-as-they-are"),
        pytest.param("a.csv", b"id,body\n", [], id="csv-without-rows"),
        pytest.param("a.tsv", b"id\tbody\n1\tone, two\n", [("1", b"one, two")], id="tsv"),
        pytest.param(
            "a.jsonl", b'{"id": 1, "body": "one"}\n\n{"id": 2}\n', [("1", b"one"), ("2", None)], id="json-lines"
        ),
        pytest.param(
            "a.jsonl", b'\xef\xbb\xbf{"id": 1, "body": "one"}\n', [("1", b"one")], id="json-lines-with-a-mark"
        ),
        pytest.param(
            "a.json", b'[{"id": 1.0, "body": "one"}, {"id": 7.5}]', [("1", b"one"), ("7.5", None)], id="json-list"
        ),
        pytest.param(
            "a.jsonl", b'{"id": 18446744073709551616, "body": NaN}\n', [("18446744073709551616", None)], id="json-big"
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
        ("a.xlsx", b"", SpecificationError, "Save its sheet as CSV.* must end in one of .csv"),
        ("a.csv", b"key,body\n1,one\n", ContractBroken, r"no column 'id'.*It has: key, body"),
        ("a.csv", b"id,text\n1,one\n", ContractBroken, "no column 'body'"),
        ("a.csv", b"", ContractBroken, "no column 'id'"),
        ("a.csv", b"id,body\n1,one,two\n", ContractBroken, "Line 2 of .+ has 3 fields and the header 2"),
        ("a.csv", b"id,body\n1,first\nsecond line\n", ContractBroken, "Line 3 of .+ has 1 fields and the header 2"),
        ("a.csv", b'id,body\n1,one\n2,"two\n3,three\n', ContractBroken, "lines 3 to 4 of .+ quote that is not closed"),
        ("a.csv", b'id,body\n1,"one\n2,"two"\n', ContractBroken, "lines 2 to 3 of .+ closed too early"),
        ("a.csv", b"id,body,body\n1,one,two\n", ContractBroken, "more than one column 'body'"),
        ("a.csv", b"PK\x03\x04\x14\0\x06\0\xb5", ContractBroken, "is a spreadsheet or a zip file. Save its sheet"),
        ("a.tsv", b"\xd0\xcf\x11\xe0\xa1\xb1", ContractBroken, "is a spreadsheet. Save its sheet as CSV"),
        ("a.jsonl", b"PAR1\x15\0", ContractBroken, "is a Parquet file"),
        ("a.csv", b"\x1f\x8b\x08\0", ContractBroken, "is packed with gzip. Let its name end in .gz"),
        ("a.csv", b"id,caf\xe9,body\n1,one,two\n", ContractBroken, "header of .+ is not UTF-8"),
        ("a.csv", b"id,body\ncaf\xe9,one\n", ContractBroken, "key in line 2 of .+ is not valid text"),
        ("a.csv", "id,body\n1,one\n".encode("utf-16-le"), ContractBroken, "UTF-16 without its mark"),
        ("a.csv", "id,body\n1,one\n".encode("utf-32"), ContractBroken, "is in UTF-32"),
        ("a.csv", b"ID,Body\n1,one\n", ContractBroken, r"no column 'id' \(nearest: 'ID'\), 'body' \(nearest: 'Body'\)"),
        ("a.jsonl", b'{"id": [1], "body": "one"}\n', ContractBroken, "key in line 1 of .+ is a list or an object"),
        ("a.csv.gz", gzip.compress(b"id,body\n1,one\n" * 99, mtime=0)[:-9], ContractBroken, "ends in the middle"),
        ("a.csv.gz", b"id,body\n1,one\n", ContractBroken, "is not packed with gzip, though"),
        ("a.csv.zst", zstd(b"id,body\n1,one\n" * 99)[:-9], ContractBroken, "ends in the middle"),
        ("a.csv.zst", b"id,body\n1,one\n", ContractBroken, "is not packed with zstd, though"),
        ("a.csv.zst", b"", ContractBroken, "is not packed with zstd, though"),
        ("a.csv", zstd(b"id,body\n1,one\n"), ContractBroken, "is packed with zstd. Let its name end in .zst"),
        ("a.jsonl", b'{"id": 1, "body": "one", "id": 2}\n', ContractBroken, "has 'id' twice"),
        ("a.jsonl", b'{"id": "\\ud800", "body": "one"}\n', ContractBroken, "key in line 1 of .+ is not valid text"),
        ("a.jsonl", b'{"id": 1, "body": Infinity}\n', ContractBroken, "Line 1 of .+ is not JSON"),
        ("a.jsonl", b"", ContractBroken, "no column 'id'.*it is empty"),
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


def test_a_pipe_is_refused_and_not_waited_for(local_lake: Warehouse, tmp_path: Path) -> None:
    """Whoever opens one waits for its writer: a sensor would stand still for ever."""
    os.mkfifo(tmp_path / "a.csv")

    with pytest.raises(SpecificationError, match="is a pipe or a device"):
        local_lake.sources.state(source(tmp_path / "a.csv"))


def test_a_file_elsewhere_is_refused(local_lake: Warehouse) -> None:
    """Only what is said to work is tried."""
    with pytest.raises(SpecificationError, match="files are read from this machine and from s3://"):
        local_lake.sources.state(Source(url="gs://bucket/a.csv", key="id", text="body"))


def test_references_keep_the_types_of_json_lines(local_lake: Warehouse, tmp_path: Path) -> None:
    """An extracted number is compared as a number."""
    (tmp_path / "a.jsonl").write_text('{"id": "a", "total": 1.5}\n{"id": "b"}\n')
    (tmp_path / "a.csv").write_text("id,label\na,HAPPY\n")

    assert local_lake.sources.read(TableRef(url=str(tmp_path / "a.jsonl")), ["id", "total"]).to_pylist() == [
        {"id": "a", "total": 1.5},
        {"id": "b", "total": None},
    ]
    assert local_lake.sources.read(TableRef(url=str(tmp_path / "a.csv")), ["label"]).to_pydict() == {"label": ["HAPPY"]}


def test_parquet_with_one_name_twice_is_refused(local_lake: Warehouse, tmp_path: Path) -> None:
    """Which of the two is meant cannot be told; readers took the last one."""
    table = pa.Table.from_arrays([pa.array(["1"]), pa.array(["one"]), pa.array(["two"])], ["id", "body", "body"])
    pq.write_table(table, tmp_path / "a.parquet")

    with pytest.raises(ContractBroken, match="more than one column 'body'"):
        delivered(local_lake, source(tmp_path / "a.parquet"))


def test_columns_have_any_name(local_lake: Warehouse, tmp_path: Path) -> None:
    """Exports call their columns what people call them; a dot is no step into a structure."""
    pq.write_table(pa.table({"id": ["1"], "a.b": ["dotted"], "a": [{"b": "nested"}]}), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("the id,meta.text of it\n1,one\n")

    parquet = local_lake.sources.changes(Source(url=str(tmp_path / "a.parquet"), key="id", text="a.b"), None)
    delimited = local_lake.sources.changes(
        Source(url=str(tmp_path / "a.csv"), key="the id", text="meta.text of it"), None
    )

    assert [part.to_pydict() for part in parquet.rows] == [{"id": ["1"], "a.b": [b"dotted"]}]
    assert [part.to_pydict() for part in delimited.rows] == [{"the id": ["1"], "meta.text of it": [b"one"]}]


def test_a_column_that_begins_late_is_found(local_lake: Warehouse, tmp_path: Path) -> None:
    """Writers of JSON Lines leave out what is null, and the first label of a table can be far down."""
    rows = [f'{{"id": {number}}}\n' for number in range(3000)]
    (tmp_path / "a.jsonl").write_text("".join(rows) + '{"id": 3000, "label": "HAPPY"}\n')

    known = local_lake.sources.read(TableRef(url=str(tmp_path / "a.jsonl")), ["label"])

    assert known["label"].to_pylist() == [None] * 3000 + ["HAPPY"]
