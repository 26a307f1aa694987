"""Following tables that others write."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import psycopg2
import pyarrow as pa
import pytest

from llm_platform.application.source import Source, TableRef
from llm_platform.errors import ContractBroken, SpecificationError, TransientError
from llm_platform.records import SourceState
from llm_platform.warehouse.changes import AllBut, SourceChanges
from llm_platform.warehouse.engine import connect, load
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.sample_source import write_table
from llm_platform.warehouse.source_tables import MANY_AGAIN
from llm_platform.warehouse.sources import SourceReader
from llm_platform_tests.warehouse.conftest import postgres_location, sqlite_location

REVIEWS = Source(warehouse="upstream", table="reviews", key="id", text="body", attributes=("source",))


def reviews(**texts: str) -> pa.Table:
    """The source table: key → text."""
    return pa.table({"id": list(texts), "body": list(texts.values()), "source": ["imdb"] * len(texts)})


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A DuckLake that others write, with one table of three reviews."""
    if request.param == "sqlite":
        address = f"ducklake:sqlite:{tmp_path / 'up.sqlite'}?data_path={tmp_path / 'up'}"
    else:
        place = postgres_location(request.getfixturevalue("postgres_dsn"), tmp_path, "up")
        address = f"ducklake:{place.catalog}?data_path={place.data_path}&metadata_schema={place.metadata_schema}"
    write_table(address, "reviews", reviews(a="one", b="two", c="three"), "id")
    return address


@pytest.fixture
def lake(url: str, tmp_path: Path) -> Iterator[Warehouse]:
    """Our lake, with that warehouse known as `upstream`."""
    with Warehouse.attach(sqlite_location(tmp_path), sources={"upstream": url}, threads=2) as warehouse:
        yield warehouse


def change_upstream(url: str, *statements: str) -> None:
    """Run statements on the source, as its owner would."""
    plain, _, options = url.partition("?")
    given = dict(pair.split("=") for pair in options.split("&"))
    schema = f", METADATA_SCHEMA '{given['metadata_schema']}'" if "metadata_schema" in given else ""
    with closing(connect()) as connection:
        load(connection, "ducklake", "sqlite_scanner", "postgres_scanner")
        connection.execute(f"ATTACH '{plain}' AS up (DATA_PATH '{given['data_path']}'{schema})")
        for statement in statements:
            connection.execute(statement)


def keys_and_texts(changes: SourceChanges) -> dict[str, str]:
    """Delivered rows."""
    rows = [row for part in changes.rows for row in part.to_pylist()]
    return {row["id"]: row["body"] for row in rows}


def test_the_first_read_is_the_whole_table(lake: Warehouse) -> None:
    """Nothing was consumed, so everything is new."""
    changes = lake.sources.changes(REVIEWS, None)

    assert (changes.full, changes.deleted, changes.reason) == (True, None, "first read")
    assert keys_and_texts(changes) == {"a": "one", "b": "two", "c": "three"}
    assert changes.state == lake.sources.state(REVIEWS)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("other", ["\u212a1", "e\u0301"])
def test_a_changed_key_brings_every_row_that_has_it_in_another_form(lake: Warehouse, url: str, other: str) -> None:
    """A row that shares its key with one that did not change is a second one of it, and must not pass for the only."""
    same = {"\u212a1": "K1", "e\u0301": "\u00e9"}[other]
    change_upstream(url, f"INSERT INTO up.reviews VALUES ('{same}', 'as it was', 'imdb')")
    before = lake.sources.state(REVIEWS)
    change_upstream(url, f"INSERT INTO up.reviews VALUES ('{other}', 'in another form', 'imdb')")

    changes = lake.sources.changes(REVIEWS, before)

    rows = [row for part in changes.rows for row in part.to_pylist()]
    assert sorted((row["id"], row["body"]) for row in rows) == [(same, "as it was"), (same, "in another form")]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_changed_number_is_read_by_the_feed(lake: Warehouse, url: str) -> None:
    """Keys are texts with us, and numbers there."""
    change_upstream(url, "CREATE TABLE up.counted AS SELECT i AS id, 'words' AS body, '' AS source FROM range(5) t(i)")
    source = REVIEWS.model_copy(update={"table": "counted"})
    before = lake.sources.state(source)
    change_upstream(url, "UPDATE up.counted SET body = 'others' WHERE id = 3", "DELETE FROM up.counted WHERE id = 4")

    changes = lake.sources.changes(source, before)

    assert (keys_and_texts(changes), changes.deleted) == ({"3": "others"}, ["4"])


def test_inserts_updates_and_deletes_come_from_the_change_feed(lake: Warehouse, url: str) -> None:
    """Only what changed is delivered, in its last form, whatever happened to it in between."""
    before = lake.sources.state(REVIEWS)
    change_upstream(
        url,
        "INSERT INTO up.reviews VALUES ('d', 'four', 'imdb'), ('e', 'five', 'imdb')",
        "UPDATE up.reviews SET body = 'changed' WHERE id = 'b'",
        "UPDATE up.reviews SET body = 'changed again' WHERE id = 'b'",
        "DELETE FROM up.reviews WHERE id IN ('a', 'e')",
    )

    changes = lake.sources.changes(REVIEWS, before)

    assert not changes.full
    assert keys_and_texts(changes) == {"b": "changed again", "d": "four"}
    assert changes.deleted == ["a", "e"]
    assert changes.state.table_id == before.table_id
    assert changes.state.token != before.token


def test_commits_to_other_tables_do_not_move_the_state(lake: Warehouse, url: str) -> None:
    """A busy warehouse must not start a run for every commit of somebody else."""
    before = lake.sources.state(REVIEWS)

    write_table(url, "others", reviews(z="none of our business"), "id")

    assert lake.sources.state(REVIEWS) == before
    changes = lake.sources.changes(REVIEWS, before)
    assert (changes.full, changes.deleted, keys_and_texts(changes)) == (False, [], {})


def test_an_equal_table_makes_no_snapshot(url: str) -> None:
    """The sample loader runs at every demo; an unchanged sample must not look like news."""
    first = write_table(url, "reviews", reviews(a="one", b="two", c="three"), "id")
    changed = write_table(url, "reviews", reviews(a="one", b="2", d="four"), "id")

    assert (first.inserted, first.updated, first.deleted) == (0, 0, 0)
    assert (changed.inserted, changed.updated, changed.deleted) == (1, 1, 1)
    assert changed.snapshot_id == first.snapshot_id + 1


def test_a_replaced_table_is_read_whole(lake: Warehouse, url: str) -> None:
    """The feed of a replaced table shows inserts only: what left would stay for ever."""
    before = lake.sources.state(REVIEWS)
    change_upstream(url, "CREATE OR REPLACE TABLE up.reviews AS SELECT 'a' AS id, 'one' AS body, 'imdb' AS source")

    changes = lake.sources.changes(REVIEWS, before)

    assert (changes.full, changes.reason) == (True, "the table was replaced")
    assert keys_and_texts(changes) == {"a": "one"}


def test_an_expired_snapshot_means_reading_everything(lake: Warehouse, url: str) -> None:
    """History that is gone cannot say what was deleted in it."""
    before = lake.sources.state(REVIEWS)
    change_upstream(
        url,
        "DELETE FROM up.reviews WHERE id = 'a'",
        "INSERT INTO up.reviews VALUES ('d', 'four', 'imdb')",
        "CALL ducklake_expire_snapshots('up', older_than => now())",
    )

    changes = lake.sources.changes(REVIEWS, before)

    assert changes.full
    assert "expired" in changes.reason
    assert set(keys_and_texts(changes)) == {"b", "c", "d"}


def test_a_deletion_whose_history_expired_still_moves_the_state(lake: Warehouse, url: str) -> None:
    """After an expiry nothing in the catalog mentions the deletion; the number of rows does."""
    change_upstream(
        url, "CREATE TABLE up.others (i INTEGER)", "CALL ducklake_expire_snapshots('up', older_than => now())"
    )
    before = lake.sources.state(REVIEWS)
    change_upstream(
        url,
        "DELETE FROM up.reviews WHERE id = 'a'",
        "INSERT INTO up.others SELECT * FROM range(20)",
        "CALL ducklake_expire_snapshots('up', older_than => now())",
        "CALL ducklake_cleanup_old_files('up', cleanup_all => true)",
    )

    after = lake.sources.state(REVIEWS)

    assert after.token != before.token
    changes = lake.sources.changes(REVIEWS, before)
    assert (changes.full, set(keys_and_texts(changes))) == (True, {"b", "c"})


def test_expiry_and_compaction_alone_lose_nothing(lake: Warehouse, url: str) -> None:
    """Housekeeping of the owner costs at most one comparison."""
    before = lake.sources.state(REVIEWS)
    change_upstream(
        url,
        "INSERT INTO up.reviews VALUES ('d', 'four', 'imdb')",
        "CALL ducklake_merge_adjacent_files('up')",
        "CREATE TABLE up.others (i INTEGER)",
        "CALL ducklake_expire_snapshots('up', older_than => now())",
    )

    whole = lake.sources.changes(REVIEWS, before)
    keys = set(keys_and_texts(whole))
    change_upstream(url, "INSERT INTO up.others VALUES (1)")

    assert keys == {"a", "b", "c", "d"}
    assert lake.sources.state(REVIEWS) == whole.state


def test_rows_that_are_kept_in_the_catalog_are_followed(lake: Warehouse, url: str) -> None:
    """Others write with DuckLake's defaults: small commits are rows of the catalog, not files."""
    change_upstream(url, "CALL ducklake_expire_snapshots('up', older_than => now())")
    before = lake.sources.state(REVIEWS)
    change_upstream(
        url,
        "UPDATE up.reviews SET body = 'changed' WHERE id = 'a'",
        "CREATE TABLE up.others (i INTEGER)",
        "CALL ducklake_expire_snapshots('up', older_than => now())",
    )

    changes = lake.sources.changes(REVIEWS, before)

    assert lake.sources.state(REVIEWS).token != before.token
    assert keys_and_texts(changes)["a"] == "changed"


def test_a_removed_column_is_named_with_what_there_is(lake: Warehouse, url: str) -> None:
    """The owner renamed a column at night; the message must say which, and what it may be now."""
    before = lake.sources.state(REVIEWS)
    change_upstream(url, "ALTER TABLE up.reviews RENAME COLUMN body TO review_body")

    assert list(lake.sources.columns(REVIEWS)) == ["id", "review_body", "source"]
    assert lake.sources.state(REVIEWS).token != before.token
    with pytest.raises(
        ContractBroken, match=r"no column 'body' \(nearest: 'review_body'\)\. It has: id, review_body, source"
    ):
        lake.sources.changes(REVIEWS, before)


def test_altered_columns_mean_reading_everything(lake: Warehouse, url: str) -> None:
    """A column that was dropped and made again has other values in rows that the feed does not mention."""
    before = lake.sources.state(REVIEWS)
    change_upstream(
        url, "ALTER TABLE up.reviews DROP COLUMN source", "ALTER TABLE up.reviews ADD COLUMN source VARCHAR DEFAULT 'x'"
    )

    changes = lake.sources.changes(REVIEWS, before)

    assert (changes.full, changes.reason) == (True, "the columns of the table have changed")


def test_a_missing_table_and_a_missing_warehouse_are_named(lake: Warehouse) -> None:
    """A mistyped name is the likely cause."""
    with pytest.raises(ContractBroken, match=r"no table 'main.review' \(nearest: 'reviews'\)"):
        lake.sources.state(REVIEWS.model_copy(update={"table": "review"}))
    with pytest.raises(SpecificationError, match="No warehouse is named 'uptsream'; there are: upstream"):
        lake.sources.state(REVIEWS.model_copy(update={"warehouse": "uptsream"}))


@pytest.mark.parametrize(
    ("address", "error", "said"),
    [
        ("oracle:host=db", SpecificationError, "its scheme is 'oracle'. Use one of: .*mysql:.*delta:<folder>, iceberg"),
        ("iceberg:/nowhere", TransientError, "No such file"),
        ("delta:/nowhere", TransientError, "No such file"),
        ("https://example.org", SpecificationError, "its scheme is 'https'"),
        ("postgres:host=127.0.0.1 port=1 password=s3cret", TransientError, "does not answer"),
        ("duckdb:/nowhere/file.duckdb", TransientError, "Cannot read warehouse 'upstream'.* there is no such file, or"),
        ("ducklake:sqlite:/nowhere/file.sqlite", TransientError, "Cannot read warehouse .* there is no such file, or"),
        (f"duckdb:{__file__}", TransientError, "it is not a DuckDB file"),
    ],
)
def test_an_unreadable_warehouse_is_an_error_and_never_empty(
    tmp_path: Path, address: str, error: type[Exception], said: str
) -> None:
    """Taken for empty, it would delete every document."""
    with (
        Warehouse.attach(sqlite_location(tmp_path), sources={"upstream": address}) as lake,
        pytest.raises(error, match=said) as caught,
    ):
        lake.sources.changes(REVIEWS, None)

    assert "s3cret" not in str(caught.value)


def test_a_file_of_the_source_that_is_gone_is_an_error(lake: Warehouse, url: str, tmp_path: Path) -> None:
    """Somebody emptied the bucket; the catalog still lists the rows."""
    for path in (tmp_path / "up").rglob("*.parquet"):
        path.unlink()
    if not url.startswith("ducklake:sqlite"):
        pytest.skip("the same on each catalog")

    with pytest.raises(TransientError, match="Nothing was taken over"):
        lake.sources.changes(REVIEWS, None)


def test_references_are_read_with_their_types(lake: Warehouse) -> None:
    """An extracted field may be a number."""
    table = lake.sources.read(TableRef(warehouse="upstream", table="main.reviews"), ["id", "source"])

    assert table.sort_by("id").to_pydict() == {"id": ["a", "b", "c"], "source": ["imdb"] * 3}
    with pytest.raises(ContractBroken, match="no column 'label'"):
        lake.sources.read(TableRef(warehouse="upstream", table="reviews"), ["label"])


class WatermarkTable:
    """A table with a watermark column in another database, written by its owner."""

    def __init__(self, kind: str, place: str) -> None:
        self.kind = kind
        self.place = place
        self.url = f"{kind}:{place}"

    def run(self, *statements: str) -> None:
        """Run statements as the owner."""
        if self.kind == "postgres":
            connection = psycopg2.connect(self.place)
            with connection, connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
            connection.close()
            return
        opened = (
            duckdb.connect(self.place) if self.kind == "duckdb" else sqlite3.connect(self.place, isolation_level=None)
        )
        with closing(opened) as database:
            for statement in statements:
                database.execute(statement)


TICKETS = Source(warehouse="desk", table="tickets", key="id", text="body", watermark="changed_at")


@pytest.fixture(params=["postgres", "duckdb", "sqlite"])
def tickets(request: pytest.FixtureRequest, tmp_path: Path) -> WatermarkTable:
    """Three tickets."""
    place = request.getfixturevalue("postgres_dsn") if request.param == "postgres" else str(tmp_path / "desk.db")
    table = WatermarkTable(request.param, place)
    kind = "VARCHAR" if request.param == "sqlite" else "TIMESTAMP"
    table.run(
        "DROP TABLE IF EXISTS tickets",
        f"CREATE TABLE tickets (id INTEGER, body VARCHAR, changed_at {kind})",
        "INSERT INTO tickets VALUES (1, 'one', '2026-01-01 10:00:00'), (2, 'two', '2026-01-02 10:00:00')",
        "INSERT INTO tickets VALUES (3, 'three', '2026-01-02 10:00:00')",
    )
    return table


def changes_since(
    table: WatermarkTable, folder: Path, since: SourceState | None
) -> tuple[SourceChanges, dict[str, str]]:
    """What a process that starts now reads."""
    with Warehouse.attach(sqlite_location(folder), sources={"desk": table.url}, threads=1) as lake:
        changes = lake.sources.changes(TICKETS, since)
        assert changes.state == lake.sources.state(TICKETS)
        return changes, keys_and_texts(changes)


def test_a_watermark_delivers_ties_and_newer_rows_and_the_keys_that_are_left(
    tickets: WatermarkTable, tmp_path: Path
) -> None:
    """Rows with the last watermark may have come after the last read; a deletion shows only in the keys."""
    first, everything = changes_since(tickets, tmp_path, None)
    tickets.run(
        "INSERT INTO tickets VALUES (4, 'four', '2026-01-02 10:00:00'), (5, 'five', '2026-01-03 10:00:00')",
        "UPDATE tickets SET body = 'changed', changed_at = '2026-01-04 10:00:00' WHERE id = 2",
        "DELETE FROM tickets WHERE id = 1",
    )

    second, changed = changes_since(tickets, tmp_path, first.state)

    assert first.full
    assert set(everything) == {"1", "2", "3"}
    assert not second.full
    assert changed == {"2": "changed", "3": "three", "4": "four", "5": "five"}
    assert isinstance(second.deleted, AllBut)
    assert sorted(second.deleted.keys.column("document_id").to_pylist()) == ["2", "3", "4", "5"]
    assert second.state.watermark is not None
    assert second.state.watermark.startswith("2026-01-04 10:00:00")


def test_rows_that_arrive_with_an_old_watermark_are_not_lost(tickets: WatermarkTable, tmp_path: Path) -> None:
    """A backfill upstream writes the past."""
    first, _ = changes_since(tickets, tmp_path, None)
    tickets.run("INSERT INTO tickets VALUES (9, 'late', '2025-01-01 10:00:00')")

    second, changed = changes_since(tickets, tmp_path, first.state)

    assert (second.full, second.reason) == (True, "1 rows arrived with an old watermark")
    assert "9" in changed


@pytest.mark.parametrize("watermark", ["changed_at", None])
def test_of_many_rows_with_the_last_watermark_those_are_read_that_may_be_others(
    tickets: WatermarkTable, tmp_path: Path, watermark: str | None
) -> None:
    """A table that was loaded in bulk has one time; all of it would be read again at the first change."""
    source = TICKETS.model_copy(update={"watermark": watermark})
    tickets.run(
        "INSERT INTO tickets WITH RECURSIVE n(i) AS "
        f"(SELECT 4 UNION ALL SELECT i + 1 FROM n WHERE i < {MANY_AGAIN + 9}) "
        "SELECT i, 'text ' || i, '2026-01-02 10:00:00' FROM n",
    )
    with Warehouse.attach(sqlite_location(tmp_path), sources={"desk": tickets.url}) as lake:
        first = lake.sources.changes(source, None)
        keys = pa.table({"document_id": list(keys_and_texts(first))})
        unchanged = lake.sources.changes(source, first.state, known=lambda: keys)
        assert (keys_and_texts(unchanged), unchanged.full, unchanged.deleted) == ({}, False, [])
    tickets.run(
        "UPDATE tickets SET body = 'in the same second' WHERE id = 77",
        "UPDATE tickets SET body = 'later', changed_at = '2026-01-02 11:00:00' WHERE id = 78",
        "INSERT INTO tickets VALUES (900000, 'new', '2026-01-02 10:00:00')",
        "DELETE FROM tickets WHERE id = 79",
    )
    with Warehouse.attach(sqlite_location(tmp_path), sources={"desk": tickets.url}) as lake:
        second = lake.sources.changes(source, first.state, known=lambda: keys)
        read = keys_and_texts(second)
        with_new = pa.table({"document_id": [*keys["document_id"].to_pylist(), "900000"]})
        again = keys_and_texts(lake.sources.changes(source, second.state, known=lambda: with_new))

    assert (second.full, second.deleted) == (False, ["79"])
    assert {"77": "in the same second", "78": "later", "900000": "new"}.items() <= read.items()
    assert len(read) < 200
    assert again == ({} if watermark is None else {"78": "later"})


CHANGES = {
    "committed late": "UPDATE tickets SET body = body || '+', changed_at = TIMESTAMP '{last}' - INTERVAL 5 MINUTES "
    "WHERE id % 3001 = {at}",
    "in the same second": "UPDATE tickets SET body = body || '=' WHERE id % 401 = {at} AND changed_at >= '{last}'",
    "later": "UPDATE tickets SET body = body || '>', changed_at = TIMESTAMP '{now}' WHERE id % 5003 = {at}",
    "with an old time": "INSERT INTO tickets SELECT {at}00000 + i, 'old', TIMESTAMP '2020-01-01' FROM range(3) t(i)",
    "some gone": "DELETE FROM tickets WHERE id % 2003 = {at}",
    "many gone": "DELETE FROM tickets WHERE id % 5 = 0",
    "in bulk": "UPDATE tickets SET body = 'bulk {at}', changed_at = TIMESTAMP '{now}'",
    "nothing": "SELECT 1",
}


@pytest.mark.parametrize("watermark", ["changed_at", None])
def test_whatever_is_changed_who_follows_has_what_the_table_has(tmp_path: Path, watermark: str | None) -> None:
    """Small changes of a table that was loaded in bulk are told by hashes of its parts: none may be passed over."""
    chance, table = random.Random(17), WatermarkTable("duckdb", str(tmp_path / "desk.db"))
    source = TICKETS.model_copy(update={"watermark": watermark})
    table.run(
        "CREATE TABLE tickets (id BIGINT, body VARCHAR, changed_at TIMESTAMP)",
        f"INSERT INTO tickets SELECT i, 'first', TIMESTAMP '2026-01-01' FROM range({MANY_AGAIN * 3 // 2}) t(i)",
    )
    followed: dict[str, str] = {}
    state, wholes = None, 0
    for at in range(1, 15):
        with closing(connect(1)) as connection:
            known = pa.table({"document_id": pa.array(followed, pa.string())})
            changes = SourceReader(connection, {"desk": table.url}).changes(source, state, known=lambda: known)  # noqa: B023
            rows, state = keys_and_texts(changes), changes.state
        left = changes.deleted.keys["document_id"].to_pylist() if isinstance(changes.deleted, AllBut) else None
        kept = {} if changes.full else {key: text for key, text in followed.items() if left is None or key in left}
        followed = {
            key: text for key, text in (kept | rows).items() if left is not None or key not in (changes.deleted or ())
        }
        wholes += changes.full
        with closing(duckdb.connect(table.place)) as database:
            there = dict(database.execute("SELECT id::VARCHAR, body FROM tickets").fetchall())
            assert followed == there, at
            last, now = state.watermark or "2026-01-01", f"2026-01-02 {at:02d}:00:00"
            for change in chance.sample(list(CHANGES), k=2):
                database.execute(CHANGES[change].format(at=at, last=last, now=now))

    assert wholes == 1


def test_a_transaction_that_is_committed_late_is_seen(postgres_dsn: str, tmp_path: Path) -> None:
    """It wrote the time at which it began; a row of after that has moved the watermark meanwhile."""
    table = WatermarkTable("postgres", postgres_dsn)
    table.run(
        "DROP TABLE IF EXISTS tickets",
        "CREATE TABLE tickets (id INTEGER, body VARCHAR, changed_at TIMESTAMPTZ)",
        "INSERT INTO tickets VALUES (1, 'one', '2026-01-01Z'), (2, 'two', '2026-01-01Z'), (3, 'three', '2026-01-01Z')",
    )
    known = pa.table({"document_id": ["1", "2", "3"]})
    with Warehouse.attach(sqlite_location(tmp_path), sources={"desk": table.url}, threads=1) as lake:
        with closing(psycopg2.connect(postgres_dsn)) as late, late.cursor() as cursor:
            cursor.execute("UPDATE tickets SET body = 'late', changed_at = '2026-01-02 09:51Z' WHERE id = 2")
            table.run("UPDATE tickets SET body = 'early', changed_at = '2026-01-02 10:00Z' WHERE id = 1")
            before = lake.sources.state(TICKETS)
            late.commit()

        after = lake.sources.changes(TICKETS, before, known=lambda: known)
        narrow = TICKETS.model_copy(update={"overlap_minutes": 5.0})
        missed = lake.sources.changes(narrow, before, known=lambda: known)

        assert after.state.watermark == before.watermark
        assert after.state.token != before.token
        assert (after.full, keys_and_texts(after)) == (False, {"1": "early", "2": "late"})
        assert keys_and_texts(missed) == {"1": "early"}


@pytest.mark.parametrize(
    ("kind", "values", "far"),
    [
        ("TIMESTAMP", ("2026-01-01", "2026-01-02 00:00:00", "2026-01-03"), "infinity"),
        ("DOUBLE PRECISION", ("1", "2.0", "3"), "NaN"),
    ],
)
def test_one_row_from_the_future_hides_no_change_to_come(
    postgres_dsn: str, tmp_path: Path, kind: str, values: tuple[str, str, str], far: str
) -> None:
    """A wrong clock, or what is valid until further notice: only rows that are newer still would be read."""
    first, second, third = values
    table = WatermarkTable("postgres", postgres_dsn)
    table.run(
        "DROP TABLE IF EXISTS tickets",
        f"CREATE TABLE tickets (id INTEGER, body VARCHAR, changed_at {kind})",
        f"INSERT INTO tickets VALUES (1, 'one', '{first}'), (2, 'two', '{far}'), (3, 'three', '{second}')",
    )
    known = pa.table({"document_id": ["1", "2", "3"]})
    with Warehouse.attach(sqlite_location(tmp_path), sources={"desk": table.url}, threads=1) as lake:
        before = lake.sources.state(TICKETS)
        table.run(f"UPDATE tickets SET body = 'changed', changed_at = '{third}' WHERE id = 1")
        after = lake.sources.changes(TICKETS, before, known=lambda: known)
        poisoned = before.model_copy(update={"watermark": far})
        healed = lake.sources.changes(TICKETS, poisoned, known=lambda: known)
        table.run("ALTER TABLE tickets ALTER changed_at TYPE UUID USING gen_random_uuid()")
        retyped = lake.sources.changes(TICKETS, after.state, known=lambda: known)

        assert before.watermark == second
        assert keys_and_texts(after) == {"1": "changed", "2": "two", "3": "three"}
        assert (healed.full, "ahead of the time" in healed.reason) == (True, True)
        assert (retyped.full, "of another type" in retyped.reason) == (True, True)


def test_an_unchanged_table_keeps_its_token(tickets: WatermarkTable, tmp_path: Path) -> None:
    """A repeated tick asks for nothing; without a watermark column every value counts."""
    unmarked = TICKETS.model_copy(update={"watermark": None})
    with Warehouse.attach(sqlite_location(tmp_path), sources={"desk": tickets.url}) as lake:
        before = lake.sources.state(TICKETS).token, lake.sources.state(unmarked).token
        again = lake.sources.state(TICKETS).token, lake.sources.state(unmarked).token
    tickets.run("UPDATE tickets SET body = 'changed' WHERE id = 1")
    with Warehouse.attach(sqlite_location(tmp_path), sources={"desk": tickets.url}) as lake:
        after = lake.sources.state(TICKETS).token, lake.sources.state(unmarked).token
        whole = lake.sources.changes(unmarked, lake.sources.state(unmarked))

    assert before == again
    assert (after[0] == before[0], after[1] == before[1]) == (True, False)
    assert whole.full


def test_a_removed_column_of_a_database_is_seen_by_a_long_lived_reader(postgres_dsn: str, tmp_path: Path) -> None:
    """DuckDB remembers the columns of an attached Postgres; a sensor lives for days."""
    table = WatermarkTable("postgres", postgres_dsn)
    table.run("DROP TABLE IF EXISTS tickets", "CREATE TABLE tickets (id INTEGER, body VARCHAR, changed_at TIMESTAMP)")
    with Warehouse.attach(sqlite_location(tmp_path), sources={"desk": table.url}) as lake:
        lake.sources.state(TICKETS)
        table.run("ALTER TABLE tickets RENAME COLUMN body TO text")

        with pytest.raises(ContractBroken, match="no column 'body'"):
            lake.sources.state(TICKETS)
