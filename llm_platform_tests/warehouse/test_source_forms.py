"""Keys of databases and of files are texts in the same form."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from llm_platform.application.documents import Documents
from llm_platform.application.source import Source, TableRef
from llm_platform.documents.prepare import prepare
from llm_platform.errors import ContractBroken
from llm_platform.operations.answering.source_look import look_at_table
from llm_platform.tables.columns import texts
from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.defs.tables import LakeTable
from llm_platform_tests.warehouse.conftest import sqlite_location

VALUES = {
    "0.0::DOUBLE": "0",
    "-3.0::FLOAT": "-3",
    "7.5::DOUBLE": "7.5",
    "0.1::FLOAT": "0.1",
    "1e14::DOUBLE": "100000000000000",
    "'NaN'::DOUBLE": None,
    "1.50::DECIMAL(10, 2)": "1.5",
    "100.00::DECIMAL(10, 2)": "100",
    "100::DECIMAL(10, 0)": "100",
    "18446744073709551615::UBIGINT": "18446744073709551615",
    "true": "true",
    "'007'": "007",
    "' a'": " a",
    "'cafe' || chr(769)": "caf\u00e9",
    "DATE '2026-01-02'": "2026-01-02",
    "TIMESTAMP '2026-01-02 10:00:00'": "2026-01-02 10:00:00",
    "TIMESTAMP '2026-01-02 10:00:00.5'": "2026-01-02 10:00:00.5",
    "TIMESTAMPTZ '2026-01-02 10:00:00+00'": "2026-01-02 10:00:00+00",
    "'6ba7b810-9dad-11d1-80b4-00c04fd430c8'::UUID": "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
}


@pytest.mark.parametrize(("value", "expected"), VALUES.items())
def test_a_key_is_the_same_text_in_a_database_and_in_a_file(tmp_path: Path, value: str, expected: str | None) -> None:
    """Documents come from one and known answers from the other; a point too many, and none of them meets."""
    with closing(duckdb.connect(str(tmp_path / "desk.db"))) as database:
        database.execute(f"SET TimeZone = 'UTC'; CREATE TABLE tickets AS SELECT {value} AS id, 'text' AS body")
        table = database.execute("SELECT * FROM tickets").to_arrow_table()
    pq.write_table(table, tmp_path / "t.parquet")
    place = {"desk": f"duckdb:{tmp_path / 'desk.db'}"}

    with Warehouse.attach(sqlite_location(tmp_path), sources=place, threads=1) as lake:
        rows = lake.sources.changes(Source(warehouse="desk", table="tickets", key="id", text="body"), None).rows
        in_database = [row["id"] for part in rows for row in part.to_pylist()]
    in_file = texts(pq.read_table(tmp_path / "t.parquet")["id"])

    assert (in_database, in_file) == ([expected], [expected])


def test_numbers_that_cannot_be_told_apart_name_nothing(tmp_path: Path) -> None:
    """A `numeric` of Postgres without a number of digits arrives as one: two customers would be one."""
    with closing(duckdb.connect(str(tmp_path / "desk.db"))) as database:
        database.execute(
            "CREATE TABLE tickets AS SELECT unnest([12345678901234567890, 2])::DOUBLE AS id, 'text' AS body"
        )
        pq.write_table(database.execute("SELECT * FROM tickets").to_arrow_table(), tmp_path / "t.parquet")
    in_database = Source(warehouse="desk", table="tickets", key="id", text="body")
    in_file = Source(url=str(tmp_path / "t.parquet"), key="id", text="body")

    with Warehouse.attach(sqlite_location(tmp_path), sources={"desk": f"duckdb:{tmp_path / 'desk.db'}"}) as lake:
        for source in (in_database, in_file):
            with pytest.raises(ContractBroken, match=r"numbers from 10\^15 on, of a type that cannot tell them apart"):
                list(prepare(lake.sources.changes(source, None).rows, source, Documents()))


def test_times_that_have_no_end_are_written_as_databases_do(tmp_path: Path) -> None:
    """Python has none for them, and Arrow writes a year: a check of such a table ended with a trace."""
    columns = (
        "TIMESTAMP 'infinity'",
        "TIMESTAMPTZ '-infinity'",
        "DATE 'infinity'",
        "DATE '0044-03-15 (BC)'",
        "[DATE 'infinity']",
    )
    with closing(duckdb.connect(str(tmp_path / "desk.db"))) as database:
        listed = ", ".join(f"{value} AS {name}" for value, name in zip(columns, "abcde", strict=True))
        database.execute(f"CREATE TABLE tickets AS SELECT 1 AS id, DATE 'infinity' AS body, {listed}")
        pq.write_table(database.execute("SELECT * FROM tickets").to_arrow_table(), tmp_path / "t.parquet")
    place = {"warehouse": "desk", "table": "tickets"}
    expected = '{"a":"infinity","b":"-infinity","c":"infinity","d":"-0043-03-15","e":"[\\"infinity\\"]"}'

    with Warehouse.attach(sqlite_location(tmp_path), sources={"desk": f"duckdb:{tmp_path / 'desk.db'}"}) as lake:
        for values in (place, {"url": str(tmp_path / "t.parquet")}):
            source = Source(**values, key="id", text="body", attributes=tuple("abcde"))
            (made,) = prepare(lake.sources.changes(source, None).rows, source, Documents())
            look = look_at_table(TableRef(**values), lake.sources)

            assert (made["text"].to_pylist(), made["attributes"].to_pylist()) == (["infinity"], [expected])
            assert [column.values for column in look.columns] == [1] * 7


def test_a_structure_names_nothing(tmp_path: Path) -> None:
    """Two readers would write it in two ways."""
    with closing(duckdb.connect(str(tmp_path / "desk.db"))) as database:
        database.execute("CREATE TABLE tickets AS SELECT {'a': 1} AS id, 'text' AS body")
    place = {"desk": f"duckdb:{tmp_path / 'desk.db'}"}

    with (
        Warehouse.attach(sqlite_location(tmp_path), sources=place, threads=1) as lake,
        pytest.raises(ContractBroken, match="cannot be a key"),
    ):
        lake.sources.changes(Source(warehouse="desk", table="tickets", key="id", text="body"), None)


@pytest.mark.parametrize("gone", [False, True])
def test_a_key_with_a_nul_in_a_lake_of_others_is_refused_while_it_is_there(tmp_path: Path, gone: bool) -> None:
    """DuckLake writes the bounds of what is joined into SQL: the source could not be read any more, row or no row."""
    table = LakeTable(tmp_path / "up")
    table.write({"a": "one", "b": "two"})
    source = Source(warehouse="up", table=table.name, key="ticket", text="body")

    def lake() -> Warehouse:
        return Warehouse.attach(sqlite_location(tmp_path), sources={"up": table.url}, threads=1)

    with lake() as before:
        since = before.sources.state(source)
    table.run("INSERT INTO up.tickets VALUES ('d0' || chr(0) || 'x', 'three', 'red'), ('c', 'four', 'red')")
    if gone:
        table.run("DELETE FROM up.tickets WHERE contains(ticket, chr(0))")

    with lake() as after:
        if gone:
            changes = after.sources.changes(source, since)
            assert [row["ticket"] for part in changes.rows for row in part.to_pylist()] == ["c"]
            assert changes.deleted == []
        else:
            with pytest.raises(ContractBroken, match=r"1 keys of 'tickets' .*hold a NUL"):
                after.sources.changes(source, since)
