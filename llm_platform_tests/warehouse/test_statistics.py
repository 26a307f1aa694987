"""What documents say is not in the catalog, which more people may read than the tables' files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import psycopg2
import pytest

from llm_platform.records.sensitive import NAMES, OURS, WORDS
from llm_platform.records.tables import PUBLISHED, TABLES
from llm_platform.warehouse.engine import connect, load
from llm_platform.warehouse.lake import LakeLocation, Warehouse, attach_statement
from llm_platform.warehouse.object_store import make_secret
from llm_platform.warehouse.statistics import MARK
from llm_platform_tests.warehouse.builders import RELEASE_ID, answer_all, batch, completion, consumed, document, fill
from llm_platform_tests.warehouse.test_contract_tables import answered, invoices

CANARY = "Zwetschgenknödelgeheimnis"
STATISTICS = ("ducklake_file_column_stats", "ducklake_table_column_stats")


def test_every_column_is_known_to_hold_words_or_names_or_neither() -> None:
    """A new column whose values nobody has thought about must not be the one that leaks."""
    columns = {name for table in (*TABLES.values(), PUBLISHED) for name in table}
    classes = (WORDS, NAMES, OURS)

    assert {name: [name in one for one in classes].count(True) for name in columns} == dict.fromkeys(columns, 1)
    assert columns == WORDS | NAMES | OURS


def test_no_statistics_hold_what_documents_and_models_say(location: LakeLocation) -> None:
    """A role that may read the catalog and no file would read the beginnings of texts and answers."""
    with Warehouse.attach(location, threads=2) as lake:
        write_secrets(lake, "first")
        write_secrets(lake, "second")
        lake.compact(keep_days=0)
        write_secrets(lake, "third")

    assert secrets(location) == []
    assert bytes_of(location).count(CANARY.encode()) == 0
    with Warehouse.attach(location) as lake, lake._session.cursor() as cursor:
        known = cursor.execute(
            f"SELECT DISTINCT c.column_name FROM {lake._session.metadata(STATISTICS[0])} s "
            f"JOIN {lake._session.metadata('ducklake_column')} c USING (table_id, column_id) "
            "WHERE s.min_value IS NOT NULL OR s.max_value IS NOT NULL"
        ).fetchall()
    assert {row[0] for row in known} >= {"release_id", "created_at", "prompt_tokens"}
    assert {row[0] for row in known} <= OURS


def test_fields_of_answers_that_are_called_like_columns_of_ours_have_none(location: LakeLocation) -> None:
    """Fields have columns of their own in the published table, and a team calls them as it likes."""
    fields = {name: {"type": "string"} for name in ("name", "version", "model", "status", "score")}

    with Warehouse.attach(location, threads=2) as lake:
        answered(lake, {"a": dict.fromkeys(fields, CANARY)})
        lake.application("reviews").published.publish(RELEASE_ID, [invoices(fields)], variant="plain")
        assert lake.application("reviews").published.table(1)["version"].to_pylist() == [CANARY]

    assert secrets(location) == []
    assert bytes_of(location).count(CANARY.encode()) == 0


def test_a_lake_of_an_older_version_is_mended_when_it_is_next_opened_for_writing(location: LakeLocation) -> None:
    """Its catalog holds what it held: in rows, in pages that were freed, in the log."""
    old_lake(location)
    assert secrets(location)
    assert bytes_of(location).count(CANARY.encode()) > 0

    with Warehouse.attach(location):
        pass

    assert secrets(location) == []
    assert bytes_of(location).count(CANARY.encode()) == 0
    with Warehouse.attach(location, read_only=True) as lake:
        assert lake.frame("reviews", "documents").column("text").to_pylist() == [f"{CANARY} {key}" for key in "abc"]


def test_an_older_version_that_still_writes_a_mended_lake_leaves_nothing(location: LakeLocation) -> None:
    """Programs are not replaced in one moment, and anybody's DuckDB may write."""
    old_lake(location)
    with Warehouse.attach(location):
        pass

    old_lake(location, key="z")

    assert secrets(location) == []


def test_rows_that_another_program_put_into_the_catalog_itself_are_moved_into_files(location: LakeLocation) -> None:
    """DuckLake does so with small writes unless it is told not to."""
    old_lake(location, inlining=True)
    assert bytes_of(location).count(CANARY.encode()) > 0

    with Warehouse.attach(location) as lake:
        assert lake.frame("reviews", "documents").num_rows == 3

    assert bytes_of(location).count(CANARY.encode()) == 0


def test_answers_to_questions_of_values_are_the_same_without_statistics(location: LakeLocation) -> None:
    """A smallest value that is missing must mean `unknown`: a file that was passed over would lose rows in silence."""
    with Warehouse.attach(location, threads=2) as lake:
        for first in range(0, 60, 20):
            keys = [f"{number:03d}" for number in range(first + 20)]
            fill(lake, keys)
            answer_all(lake)
        documents = lake.application("reviews").documents
        relation = lake._session.relation("reviews", "documents")

        def count(where: str) -> int:
            return int(lake._session.value(f"SELECT count(*) FROM {relation} WHERE {where}"))

        assert count("text = 'text of 007'") == 1
        assert count("text >= 'text of 040'") == 20
        assert count("document_id BETWEEN '019' AND '021'") == 3
        assert count("document_id > '059'") == 0
        assert count("text IS NULL") == 0
        assert lake._session.rows(f"SELECT min(text), max(document_id) FROM {relation}") == [("text of 000", "059")]
        assert [row["document_id"] for row in documents.rows(["005", "025", "045"])] == ["005", "025", "045"]
        assert lake.application("reviews").completions.missing_count(RELEASE_ID) == 0


def test_a_column_that_had_no_statistics_and_may_have_them_now_loses_no_rows(location: LakeLocation) -> None:
    """DuckLake takes a missing smallest value for "no value yet": the next file's would become that of all."""
    with Warehouse.attach(location) as lake:
        fill(lake, "a")
        answer_all(lake, release_id="release-5")
        with lake._session.cursor() as cursor:
            table, metadata = lake._session.metadata(STATISTICS[1]), lake._session.metadata("ducklake_metadata")
            # As a version left it that did not know the column.
            cursor.execute(f"UPDATE {table} SET min_value = NULL, max_value = NULL")
            cursor.execute(f"UPDATE {metadata} SET value = 'other rules' WHERE key = '{MARK}'")

    with Warehouse.attach(location) as lake:
        answer_all(lake, release_id="release-7")
        completions = lake.application("reviews").completions

        assert completions.of_release("release-5").num_rows == 1
        assert completions.of_release("release-7").num_rows == 1
    with Warehouse.attach(location) as lake:
        assert lake.application("reviews").completions.of_release("release-5").num_rows == 1


def write_secrets(lake: Warehouse, key: str) -> None:
    rows = batch([document(key, text=f"{CANARY} {key}", attributes=f'{{"name": "{CANARY}"}}', reason=CANARY)])
    store = lake.application("reviews")
    store.documents.apply(rows, deleted=None, full=False, consumed=consumed())
    with store.completions.lease(RELEASE_ID, holder="test") as lease:
        store.completions.append(lease, [completion(key, answer=f"{CANARY} {key}", raw=CANARY)])


def old_lake(location: LakeLocation, *, key: str = "abc", inlining: bool = False) -> None:
    """What a version without the trigger writes."""
    if not location.is_remote:
        Path(location.data_path).mkdir(exist_ok=True)
    with closing(connected(location)) as connection:
        statement = attach_statement(location, alias="old", read_only=False)
        connection.execute(statement.replace("ROW_LIMIT 0", "ROW_LIMIT 10") if inlining else statement)
        connection.execute("CREATE SCHEMA IF NOT EXISTS old.reviews")
        columns = ", ".join(f'"{name}" {kind}' for name, kind in TABLES["documents"].items())
        connection.execute(f"CREATE TABLE IF NOT EXISTS old.reviews.documents ({columns})")
        for one in key:
            connection.execute(
                "INSERT INTO old.reviews.documents (document_id, fingerprint, text) VALUES (?, ?, ?)",
                [one, one, f"{CANARY} {one}"],
            )


def connected(location: LakeLocation) -> duckdb.DuckDBPyConnection:
    """What attaches such a lake, as any other program would."""
    connection = connect(1)
    load(connection, "ducklake", f"{location.kind}_scanner")
    if location.s3 is not None:
        load(connection, "httpfs")
        make_secret(connection, location.s3, name="store", scope=location.data_path)
    return connection


def secrets(location: LakeLocation) -> list[str]:
    """Values of the statistics that hold the word."""
    with closing(connected(location)) as connection:
        connection.execute(attach_statement(location, alias="lake", read_only=True))
        prefix = f'"__ducklake_metadata_lake"."{location.schema}"'
        found = [
            value
            for table in STATISTICS
            for row in connection.execute(f"SELECT min_value, max_value, extra_stats FROM {prefix}.{table}").fetchall()
            for value in row
        ]
    return [value for value in found if value is not None and CANARY[:8] in value]


def bytes_of(location: LakeLocation) -> bytes:
    """Every byte of the catalog: its files, or what Postgres keeps of its tables and of their statistics."""
    if location.kind == "sqlite":
        target = Path(location.target)
        return b"".join(path.read_bytes() for path in target.parent.glob(f"{target.name}*"))
    return b"".join(_files_of_postgres(location))


def _files_of_postgres(location: LakeLocation) -> Iterator[bytes]:
    with closing(psycopg2.connect(location.target)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("CHECKPOINT")
        cursor.execute("SHOW data_directory")
        folder = Path(cursor.fetchall()[0][0])
        cursor.execute(
            "SELECT pg_relation_filepath(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
            "WHERE (nspname = %s OR relname LIKE 'pg_statistic%%') AND relkind IN ('r', 't')",
            [location.schema],
        )
        names = [row[0] for row in cursor.fetchall()]
    for name in names:
        if (folder / name).is_file():
            yield (folder / name).read_bytes()


@pytest.fixture(autouse=True)
def _readable_by_postgres(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
