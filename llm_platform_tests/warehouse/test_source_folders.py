"""Source tables that are several files: folders, patterns, and prefixes of an object store."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm_platform.application.source import Source, TableRef
from llm_platform.errors import ContractBroken, PlatformError, SpecificationError, TransientError
from llm_platform.records import SourceState
from llm_platform.tables.folders import table_files
from llm_platform.warehouse.engine import connect
from llm_platform.warehouse.object_store import S3Access
from llm_platform.warehouse.source_files import found_files
from llm_platform.warehouse.sources import SourceReader
from llm_platform_tests.servers.buckets import bucket_named, pod_identity


@pytest.fixture
def reader() -> Iterator[SourceReader]:
    with closing(connect(1)) as connection:
        yield SourceReader(connection, {})


@pytest.fixture(scope="module")
def bucket() -> Iterator[tuple[S3Access, Any]]:
    with bucket_named("exports") as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One of each format, one in a folder of its own, and what is no table."""
    path = tmp_path / "tickets"
    write(path / "2026-11-01.csv", "id,body\n1,one\n2,two\n")
    write(path / "more" / "2026-11-02.csv.gz", gzip.compress(b"body,id\nthree,3\n"))
    write(path / "a.jsonl", '{"id": 4, "body": "four", "vip": true}\n')
    pq.write_table(pa.table({"id": [5], "body": ["five"]}), path / "b.parquet")
    for name in ("README.md", "_SUCCESS", "_old/x.csv", ".hidden.csv", "2026-11-03.csv.part"):
        write(path / name, "not,read\n")
    return path


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def source(place: Path | str, **values: Any) -> Source:
    return Source(url=str(place), key="id", text="body", **values)


def rows(reader: SourceReader, ref: Source, since: SourceState | None = None, known: list[str] | None = None) -> Any:
    """(whether that is everything, keys that left, rows as (key, text), the new state)."""
    keys = None if known is None else (lambda: pa.table({"document_id": pa.array(known, pa.string())}))
    changes = reader.changes(ref, since, known=keys)
    found = [(row["id"], row["body"].decode()) for part in changes.rows for row in part.to_pylist()]
    return changes.full, changes.deleted, [(str(key), body) for key, body in found], changes.state


def test_a_folder_is_one_table_of_all_files_in_it(reader: SourceReader, folder: Path) -> None:
    """An export writes a file a day; hidden files, marks of a writer and files being written are none of them."""
    full, _, found, state = rows(reader, source(folder))

    assert full
    assert sorted(found) == [("1", "one"), ("2", "two"), ("3", "three"), ("4", "four"), ("5", "five")]
    assert reader.count(source(folder)) == 5
    assert set(reader.columns(source(folder))["id"].split(" or ")) == {"VARCHAR", "JSON", "int64"}
    assert rows(reader, source(folder), state)[:3] == (False, [], [])


@pytest.mark.parametrize(
    ("pattern", "keys"),
    [
        ("*.csv", ["1", "2"]),
        ("**/*.csv*", ["1", "2", "3"]),
        ("2026-11-0[1-2].csv", ["1", "2"]),
        ("?.jsonl", ["4"]),
        ("**", ["1", "2", "3", "4", "5"]),
    ],
)
def test_a_pattern_names_some_of_them(reader: SourceReader, folder: Path, pattern: str, keys: list[str]) -> None:
    """A folder may hold other tables as well."""
    assert sorted(key for key, _ in rows(reader, source(folder / pattern))[2]) == keys


def test_a_file_that_comes_is_all_that_is_read(reader: SourceReader, folder: Path) -> None:
    """A year of exports is not read again for one day's."""
    state = rows(reader, source(folder))[3]
    write(folder / "2026-11-04.csv", "id,body\n6,six\n")

    found = rows(reader, source(folder), state, ["1", "2", "3", "4", "5"])

    assert reader.only_grew(source(folder), state)
    assert not reader.only_grew(source(folder), found[3])
    assert found[:3] == (False, [], [("6", "six")])
    assert rows(reader, source(folder), found[3])[:3] == (False, [], [])


def test_a_key_that_comes_a_second_time_has_all_files_read(reader: SourceReader, folder: Path) -> None:
    """Read alone, the new file would quietly replace a row that is still there; together they are refused."""
    state = rows(reader, source(folder))[3]
    write(folder / "2026-11-04.csv", "id,body\n2,again\n")

    full, _, found, _ = rows(reader, source(folder), state, ["1", "2", "3", "4", "5"])

    assert full
    assert [body for key, body in sorted(found) if key == "2"] == ["again", "two"]


@pytest.mark.parametrize("what", ["changed", "gone", "renamed"])
def test_a_file_that_changes_or_leaves_has_all_files_read(reader: SourceReader, folder: Path, what: str) -> None:
    """Which documents came from it is not kept; those that are left say which have gone."""
    state = rows(reader, source(folder))[3]
    file = folder / "2026-11-01.csv"
    if what == "changed":
        write(file, "id,body\n1,eins\n")
    elif what == "gone":
        file.unlink()
    else:
        file.rename(folder / "2026-10-31.csv")

    full, deleted, found, _ = rows(reader, source(folder), state, ["1", "2", "3", "4", "5"])

    left = {"changed": ["1"], "gone": [], "renamed": ["1", "2"]}[what]
    assert (full, deleted) == (True, None)
    assert sorted(key for key, _ in found) == sorted([*left, "3", "4", "5"])


def test_a_folder_that_is_touched_is_no_other_folder(reader: SourceReader, folder: Path) -> None:
    """A checkout touches every file; only another content is news."""
    before = reader.state(source(folder))

    os.utime(folder / "2026-11-01.csv", (1, 1))

    assert reader.state(source(folder)) == before


@pytest.mark.parametrize(
    ("files", "url", "error", "said"),
    [
        pytest.param({}, "t", TransientError, "no file that can be read is there. .* not an empty table", id="empty"),
        pytest.param({"a.md": b"x"}, "t", TransientError, "1 other files are there", id="only-others"),
        pytest.param({"a.md": b"x"}, "t/*.csv", TransientError, "no file that can be read", id="nothing-matches"),
        pytest.param({}, "gone/*.csv", TransientError, "there is no folder", id="no-folder-of-a-pattern"),
        pytest.param({"a.csv": b""}, "t", TransientError, "1 of its 2 files have no content", id="no-content-yet"),
        pytest.param({"a.csv": b"id,text\n9,x\n"}, "t", ContractBroken, "a.csv' has no column 'body'", id="columns"),
        pytest.param({"a.csv": b"id,body\n9,x,y\n"}, "t", ContractBroken, "Line 2 of '.*a.csv' has 3", id="ragged"),
        pytest.param({"a.csv": b'id,body\n9,"x'}, "t", ContractBroken, "a.csv'.* not closed", id="half-a-row"),
        pytest.param({"a.parquet": b"PAR1\x15"}, "t", TransientError, "a.parquet'", id="half-a-parquet"),
        pytest.param({"a.csv": b"id,body,body\n"}, "t", ContractBroken, "a.csv' has more than one", id="twice"),
        pytest.param({"a.jsonl": b'{"id": 9, "bdy": "x"}\n'}, "t", ContractBroken, "no column 'body'", id="json"),
        pytest.param({"_delta_log/0.json": b"{}"}, "t", SpecificationError, "is a Delta table", id="delta"),
        pytest.param(
            {"_delta_log/0.json": b"{}"}, "t/*.csv", SpecificationError, "is a Delta table", id="delta-pattern"
        ),
        pytest.param({"metadata/0-a.metadata.json": b"1"}, "t", SpecificationError, "an Iceberg table", id="iceberg-2"),
        pytest.param({"metadata/version-hint.text": b"1"}, "t", SpecificationError, "an Iceberg table", id="iceberg"),
    ],
)
def test_a_folder_that_cannot_be_read_is_an_error_and_never_empty(
    reader: SourceReader, tmp_path: Path, *, files: dict[str, bytes], url: str, error: type[PlatformError], said: str
) -> None:
    """One broken or half written file of many must not make its documents leave."""
    (tmp_path / "t").mkdir()
    for name, content in files.items():
        write(tmp_path / "t" / name, content)
    if files and "md" not in str(files):
        write(tmp_path / "t" / "fine.csv", "id,body\n1,one\n")

    with pytest.raises(error, match=said):
        rows(reader, source(tmp_path / url))


def test_a_file_that_is_written_while_it_is_read_is_not_taken_over(reader: SourceReader, folder: Path) -> None:
    """What was read then was never what anybody wrote."""
    changes = reader.changes(source(folder), None)
    parts = iter(changes.rows)
    next(parts)
    with (folder / "2026-11-01.csv").open("a") as file:
        file.write("7,seven\n")

    with pytest.raises(TransientError, match=r"1 files of .* were written while they were read .*2026-11-01.csv"):
        list(parts)


def test_attributes_that_some_lines_leave_out_are_null_in_all_of_them(reader: SourceReader, tmp_path: Path) -> None:
    """Writers of JSON leave out what is null: a day on which no row has it is no other table."""
    write(tmp_path / "t" / "a.jsonl", '{"id": 1, "body": "one", "vip": "yes"}\n')
    write(tmp_path / "t" / "b.jsonl", '{"id": 2, "body": "two"}\n')

    found = reader.changes(source(tmp_path / "t", attributes=("vip",)), None)

    assert [(row["id"], row["vip"]) for part in found.rows for row in part.to_pylist()] == [("1", "yes"), ("2", None)]


def test_known_answers_are_read_from_a_folder_too(reader: SourceReader, tmp_path: Path) -> None:
    """There is one reader of tables; columns that cannot be one are refused with their types."""
    pq.write_table(pa.table({"id": [1], "total": [1.5]}), write(tmp_path / "t" / "a.parquet", b""))
    pq.write_table(pa.table({"id": [2], "total": [2]}), write(tmp_path / "t" / "b.parquet", b""))

    table = reader.read(TableRef(url=str(tmp_path / "t")), ["id", "total"])
    pq.write_table(pa.table({"id": [3], "total": [["x"]]}), tmp_path / "t" / "c.parquet")

    assert table.to_pydict() == {"id": [1, 2], "total": [1.5, 2.0]}
    with pytest.raises(ContractBroken, match="cannot be one table: a column is of another type"):
        reader.read(TableRef(url=str(tmp_path / "t")), ["id", "total"])


def test_folders_that_link_to_each_other_end(reader: SourceReader, folder: Path) -> None:
    """Mounts are full of links: each folder is read once, and a link to nothing is an error."""
    (folder / "more" / "up").symlink_to(folder)
    assert len(rows(reader, source(folder))[2]) == 5

    (folder / "late.csv").symlink_to(folder / "nowhere")
    with pytest.raises(TransientError, match=r"late\.csv"):
        reader.state(source(folder))


def test_names_of_files_need_not_be_text(reader: SourceReader, tmp_path: Path) -> None:
    """A share of twenty years has names in the encodings of twenty years."""
    folder = tmp_path / "t"
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9.csv")).write_text("id,body\n1,one\n")

    full, _, found, state = rows(reader, source(folder))
    (folder / os.fsdecode(b"\xff.csv")).write_text("id,body\n2,two\n")

    assert (full, found) == (True, [("1", "one")])
    assert rows(reader, source(folder), state, ["1"])[:3] == (False, [], [("2", "two")])
    (folder / os.fsdecode(b"\xff.csv")).write_text("id,bdy\n2,two\n")
    with pytest.raises(ContractBroken, match=r"xff\.csv' has no column 'body'"):
        rows(reader, source(folder))


def in_bucket(bucket: tuple[S3Access, Any], prefix: str, files: dict[str, bytes]) -> SourceReader:
    access, client = bucket
    for name, content in files.items():
        client.put_object(Bucket="exports", Key=f"{prefix}/{name}", Body=content)
    return SourceReader(connect(1), {}, s3=access)


def test_an_object_store_is_read_like_a_folder(bucket: tuple[S3Access, Any]) -> None:
    """Exports land in buckets: one object, a prefix or a pattern, packed or not."""
    parquet = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": [3], "body": ["three"]}), parquet)
    files = {
        "day/a.csv": b"id,body\n1,one\n",
        "day/b.jsonl.zst": pa.compress(b'{"id": 2, "body": "two"}\n', "zstd", asbytes=True),
        "day/c.parquet": parquet.getvalue().to_pybytes(),
        "day/_SUCCESS": b"",
    }
    reader = in_bucket(bucket, "all", files)

    def keys(url: str) -> list[str]:
        return sorted(key for key, _ in rows(reader, source(url))[2])

    assert keys("s3://exports/all/day/a.csv") == ["1"]
    assert keys("s3://exports/all/day") == keys("s3://exports/all/") == ["1", "2", "3"]
    assert keys("s3://exports/all/**/*.[cj]s*") == ["1", "2"]
    assert reader.count(source("s3://exports/all")) == 3
    with pytest.raises(TransientError, match=r"'s3://exports/none': No such file or prefix"):
        keys("s3://exports/none")
    with pytest.raises(TransientError, match="'s3://elsewhere/all': No such file or prefix"):
        keys("s3://elsewhere/all")
    wrong = S3Access("key", "s3cret", region="us-east-1", endpoint="127.0.0.1:1", url_style="path", use_ssl=False)
    with pytest.raises(TransientError, match=r"a.csv': the object store answers NETWORK_CONNECTION"):
        rows(SourceReader(connect(1), {}, s3=wrong), source("s3://exports/all/day/a.csv"))


def test_an_object_that_was_written_just_now_is_looked_at_again(bucket: tuple[S3Access, Any]) -> None:
    """A store tells times in seconds: another content of the same size in the same second has the same time."""
    reader = in_bucket(bucket, "again", {"a.csv": b"id,body\n1,one\n"})
    store = bucket[0].file_system

    def token(seconds: float) -> str:
        changed = found_files("s3://exports/again/", table_files, store=store).files[0].changed_ns
        then = changed + int(seconds * 1e9)
        return found_files("s3://exports/again/", table_files, store=store, clock_ns=lambda: then).state.token

    assert token(0.5) != token(10) == token(100)
    assert reader.state(source("s3://exports/again/")).kind == "file"


def test_without_a_key_a_bucket_is_read_with_the_identity_of_the_pod(
    bucket: tuple[S3Access, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cloud gives each pod keys for an hour; static ones are what leaks."""
    in_bucket(bucket, "pod", {"a.csv": b"id,body\n1,one\n"})
    with pod_identity(monkeypatch, tmp_path) as asked:
        reader = SourceReader(connect(1), {}, s3=replace(bucket[0], key_id="", secret=""))

        found = rows(reader, source("s3://exports/pod/"))[2]

    assert found == [("1", "one")]
    assert asked() > 0
