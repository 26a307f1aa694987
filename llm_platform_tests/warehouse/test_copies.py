"""What readers use outside the lake is whole at every moment, and what a killed writer left is finished."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm_platform import files
from llm_platform.contracts.files import contract_files
from llm_platform.errors import PlatformError, StorageError, TransientError
from llm_platform.records.contracts import text_contract
from llm_platform.warehouse.copies import CopyPlace, FolderPlace, S3Place
from llm_platform.warehouse.copies_postgres import PostgresPlace, schema_name
from llm_platform.warehouse.lake import LakeLocation, S3Access, Warehouse
from llm_platform_tests.servers.buckets import bucket_named
from llm_platform_tests.warehouse.builders import RELEASE_ID, answer_all, fill
from llm_platform_tests.warehouse.conftest import sqlite_location
from llm_platform_tests.warehouse.test_contract_tables import ANSWER, answered, invoices

KEYS = [f"{number:02d}" for number in range(20)]
OLD, NEW = text_contract(1, application="reviews"), text_contract(2, application="reviews")


@pytest.fixture(scope="module")
def bucket() -> Iterator[tuple[S3Access, Any]]:
    """How to reach an empty bucket named `readers`, and a client for it."""
    with bucket_named("readers") as found:
        yield found


def publish(lake: Warehouse, release_id: str, places: Sequence[CopyPlace]) -> list[str]:
    """One publication of both tables, as the asset does it."""
    store = lake.application("reviews")
    store.published.publish(release_id, [NEW, OLD], variant=release_id)
    return store.copies.bring([NEW, OLD], places, files=contract_files)


def whole(rows: Sequence[tuple[str, str]]) -> str | None:
    """What is wrong with (document, release) rows of one look, if anything is."""
    if len(rows) != len(KEYS):
        return f"{len(rows)} rows"
    releases = {release for _, release in rows}
    return None if len(releases) == 1 else f"rows of {sorted(releases)}"


def watched(look: Callable[[], list[Sequence[tuple[str, str]]]], publications: Callable[[], None]) -> list[str]:
    """What a reader who looks without a pause has seen go wrong while something is published; at least two looks."""
    wrong: list[str] = []
    looks = 0
    over = threading.Event()

    def poll() -> None:
        nonlocal looks
        while not over.is_set() or looks < 2:
            try:
                found = look()
            except Exception as error:  # noqa: BLE001 - whatever a reader meets is what is asked for
                wrong.append(repr(error))
                return
            looks += 1
            wrong.extend(trouble for rows in found if (trouble := whole(rows)) is not None)

    reader = threading.Thread(target=poll)
    reader.start()
    try:
        publications()
    finally:
        over.set()
        reader.join()
    assert looks > 1
    return wrong


@pytest.fixture
def answered_twice(tmp_path: Path) -> Iterator[Warehouse]:
    """A lake in which two releases have answered the same documents, and one is published."""
    with Warehouse.attach(sqlite_location(tmp_path), threads=1) as lake:
        fill(lake, KEYS)
        for release_id in ("release-1", "release-2"):
            answer_all(lake, release_id=release_id)
        publish(lake, "release-1", [])
        yield lake


def in_turns(lake: Warehouse, places: Sequence[CopyPlace], times: int) -> Callable[[], None]:
    def publications() -> None:
        for number in range(times):
            publish(lake, f"release-{number % 2 + 1}", places)

    return publications


def rows_of(table: pa.Table) -> list[tuple[str, str]]:
    return list(zip(table["document_id"].to_pylist(), table["release_id"].to_pylist(), strict=True))


TIMES = [3, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]


@pytest.mark.parametrize("times", TIMES)
def test_a_reader_of_the_lake_never_sees_half_a_publication(
    answered_twice: Warehouse, tmp_path: Path, times: int
) -> None:
    """Both tables are of one release in every look, also across them."""
    with Warehouse.attach(sqlite_location(tmp_path), threads=1, read_only=True) as reader:
        store = reader.application("reviews")

        def look() -> list[Sequence[tuple[str, str]]]:
            snapshot = reader.snapshot()
            first, second = (rows_of(store.published.table(n, at_snapshot=snapshot)) for n in (1, 2))
            assert first == second
            return [first]

        wrong = watched(look, in_turns(answered_twice, [], times))

    assert wrong == []


@pytest.mark.parametrize("times", TIMES)
def test_a_reader_of_a_file_never_sees_half_a_publication(
    answered_twice: Warehouse, tmp_path: Path, times: int
) -> None:
    """Whoever opens the file at any time has one whole version."""
    place = FolderPlace(tmp_path / "readers")
    publish(answered_twice, "release-1", [place])

    wrong = watched(
        lambda: [rows_of(pq.read_table(tmp_path / "readers" / f"published_v{n}.parquet")) for n in (1, 2)],
        in_turns(answered_twice, [place], times),
    )

    assert wrong == []


@pytest.mark.parametrize("times", TIMES)
def test_a_reader_of_an_object_never_sees_half_a_publication(
    tmp_path: Path, bucket: tuple[S3Access, Any], times: int
) -> None:
    """An object is replaced whole, as long as it is read in one request."""
    access, client = bucket
    location = LakeLocation(f"sqlite:{tmp_path / 'lake.sqlite'}", str(tmp_path / "data"), s3=access)
    place = S3Place(f"s3://readers/turns_{times}")
    with Warehouse.attach(location, threads=1) as lake:
        fill(lake, KEYS)
        for release_id in ("release-1", "release-2"):
            answer_all(lake, release_id=release_id)
        publish(lake, "release-1", [place])

        def look() -> list[Sequence[tuple[str, str]]]:
            found = client.get_object(Bucket="readers", Key=f"turns_{times}/published_v2.parquet")["Body"].read()
            return [rows_of(pq.read_table(pa.BufferReader(found)))]

        wrong = watched(look, in_turns(lake, [place], times))

    assert wrong == []


@pytest.mark.parametrize("times", TIMES)
def test_a_reader_of_postgres_never_sees_half_a_publication(
    answered_twice: Warehouse, postgres_dsn: str, times: int
) -> None:
    """Both tables are kept in one transaction: in every look both are of the same release."""
    place = PostgresPlace(postgres_dsn, schema_name("test", f"turns_{times}"))
    publish(answered_twice, "release-1", [place])
    both = " UNION ALL ".join(
        f'SELECT {n}, document_id, release_id FROM "{place.schema}".published_v{n}' for n in (1, 2)
    )
    with closing(psycopg2.connect(postgres_dsn)) as connection:
        connection.autocommit = True

        def look() -> list[Sequence[tuple[str, str]]]:
            with connection.cursor() as cursor:
                cursor.execute(both)
                found = cursor.fetchall()
            first, second = ([row[1:] for row in found if row[0] == n] for n in (1, 2))
            assert sorted(first) == sorted(second)
            return [first]

        wrong = watched(look, in_turns(answered_twice, [place], times))

    assert wrong == []


def test_postgres_has_every_type_of_column(local_lake: Warehouse, postgres_dsn: str) -> None:
    """A list, an amount and a text with tabs, quotes and backslashes arrive as they are."""
    hard = 'tab\tnew\nline \\ back "quoted" {brace}, NULL \\N'
    answered(local_lake, {"a": {**ANSWER, "number": "", "parts": [hard, "", "NULL"], "a/b~c": hard}, "b": None})
    store, contract = local_lake.application("reviews"), invoices()
    place = PostgresPlace(postgres_dsn, schema_name("test", "types"))
    store.published.publish(RELEASE_ID, [contract], variant="plain")

    store.copies.bring([contract], [place], files=contract_files)

    columns = [one.name for one in contract.columns]
    listed = ", ".join(f'"{name}"' for name in columns)
    with closing(psycopg2.connect(postgres_dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(f'SELECT {listed} FROM "{place.schema}".published_v1 ORDER BY document_id')
        copied = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
        cursor.execute(f'SELECT version, json_schema, odcs FROM "{place.schema}".published_tables')
        version, schema, odcs = cursor.fetchone()
    assert copied == store.published.table(1).select(columns).to_pylist()
    assert copied[0]["parts"] == [hard, "", "NULL"]
    assert (version, schema["x-version"], "kind: DataContract" in odcs) == ("1.0.0", "1.0.0", True)


def test_postgres_gets_new_columns_and_loses_retired_tables(local_lake: Warehouse, postgres_dsn: str) -> None:
    """What has left the source has to leave every copy of it."""
    store = local_lake.application("reviews")
    place = PostgresPlace(postgres_dsn, schema_name("test", "grows"))
    few = {"number": {"type": "string"}}
    answered(local_lake, {"a": ANSWER, "b": ANSWER})
    for contract in (invoices(few), invoices({**few, "pages": {"type": "integer"}}, version="1.1.0")):
        store.published.publish(RELEASE_ID, [contract])
        store.copies.bring([contract], [place], files=contract_files)
    with closing(psycopg2.connect(postgres_dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(f'SELECT number, pages FROM "{place.schema}".published_v1')
        assert cursor.fetchall() == [("R-1", 3), ("R-1", 3)]

    second = invoices({"pages": {"type": "integer"}}, contract=2)
    fill(local_lake, "a")
    store.published.publish(RELEASE_ID, [second], retired=[1])
    store.copies.bring([second], [place], files=contract_files)

    with closing(psycopg2.connect(postgres_dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(f'SELECT document_id, pages FROM "{place.schema}".published_v2')
        assert cursor.fetchall() == [("a", 3)]
        cursor.execute("SELECT to_regclass(%s)", [f'"{place.schema}".published_v1'])
        assert cursor.fetchone() == (None,)


def test_a_copy_in_a_store_follows_and_is_left_alone(tmp_path: Path, bucket: tuple[S3Access, Any]) -> None:
    """A publication that changes nothing uploads nothing."""
    access, client = bucket
    location = LakeLocation(f"sqlite:{tmp_path / 'lake.sqlite'}", str(tmp_path / "data"), s3=access)
    with Warehouse.attach(location, threads=1) as lake:
        fill(lake, KEYS)
        answer_all(lake)
        place = S3Place("s3://readers/follows/")

        first = publish(lake, RELEASE_ID, [place])
        again = publish(lake, RELEASE_ID, [place])
        lake.application("reviews").published.publish(RELEASE_ID, [NEW], variant=RELEASE_ID, retired=[1])
        last = lake.application("reviews").copies.bring([NEW], [place], files=contract_files)

    keys = [item["Key"] for item in client.list_objects_v2(Bucket="readers", Prefix="follows/")["Contents"]]
    assert len(first) == 2
    assert again == []
    assert len(last) == 1
    assert sorted(key for key in keys if not key.endswith("/")) == [
        f"follows/published_v2.{ending}" for ending in ("odcs.yaml", "parquet", "schema.json")
    ]


def test_a_full_machine_is_not_taken_for_a_store_that_refuses(tmp_path: Path, bucket: tuple[S3Access, Any]) -> None:
    """What is uploaded is written on this machine first."""
    access, _ = bucket
    location = LakeLocation(f"sqlite:{tmp_path / 'lake.sqlite'}", str(tmp_path / "data"), s3=access)
    with Warehouse.attach(location, threads=1) as lake:
        fill(lake, KEYS)
        answer_all(lake)
        spill = lake._session.spill_folder
        assert spill is not None
        shutil.rmtree(spill)

        with pytest.raises(StorageError, match="on this machine first") as raised:
            publish(lake, RELEASE_ID, [S3Place("s3://readers/full/")])

    assert "object store" not in str(raised.value)


def test_one_place_that_is_down_keeps_no_other_from_readers(
    answered_twice: Warehouse, tmp_path: Path, postgres_dsn: str
) -> None:
    """And it is said without its password, and caught up with later."""
    down = PostgresPlace("dbname=x host=127.0.0.1 port=1 password=s3cret", "test_down")
    folder = FolderPlace(tmp_path / "readers")

    with pytest.raises(TransientError, match="published in the lake, and not everywhere else") as raised:
        publish(answered_twice, "release-2", [down, folder])

    assert "s3cret" not in str(raised.value)
    assert {release for _, release in rows_of(pq.read_table(tmp_path / "readers" / "published_v1.parquet"))} == {
        "release-2"
    }
    up = PostgresPlace(postgres_dsn, schema_name("test", "caught_up"))
    assert len(publish(answered_twice, "release-2", [up, folder])) == 2


def test_others_can_read_a_copy_of_theirs_and_nothing_else_of_ours(
    answered_twice: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the platform keeps is its user's alone, so that the folders of a copy were closed to its readers, too."""
    monkeypatch.setattr(files._Umask, "ordinary", 0o022)
    before = os.umask(files.PRIVATE_UMASK)
    try:
        publish(answered_twice, "release-1", [FolderPlace(tmp_path / "out" / "main" / "reviews", shared=True)])
        publish(answered_twice, "release-1", [FolderPlace(tmp_path / "reports")])
    finally:
        os.umask(before)

    shared = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out", *(tmp_path / "out").rglob("*"))}
    kept = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "reports").rglob("*")}
    assert {mode for path, mode in shared.items() if path.is_dir()} == {0o755}
    assert {mode for path, mode in shared.items() if path.is_file()} == {0o644}
    assert set(kept.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "reports").stat().st_mode) == 0o700


def test_a_store_that_refuses_says_no_secret(tmp_path: Path) -> None:
    """What an object store answers may hold keys and signatures."""
    access = S3Access("key", "s3cret", region="us-east-1", endpoint="127.0.0.1:1", url_style="path", use_ssl=False)
    location = LakeLocation(f"sqlite:{tmp_path / 'lake.sqlite'}", str(tmp_path / "data"), s3=access)
    with Warehouse.attach(location, threads=1) as lake:
        fill(lake, "a")
        answer_all(lake)

        with pytest.raises(PlatformError) as raised:
            publish(lake, RELEASE_ID, [S3Place("s3://readers/nobody")])

    assert "s3cret" not in str(raised.value)
    assert "s3://readers/nobody" in str(raised.value)


KILLED = """
import os, sys
from pathlib import Path
from llm_platform.contracts.files import contract_files
from llm_platform.warehouse import copies, copies_postgres
from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.warehouse.conftest import sqlite_location
from llm_platform_tests.warehouse.test_copies import publish
folder, dsn, schema = sys.argv[1:]

def stop(*_):
    print("now", flush=True)
    os.read(0, 1)

if os.environ["AT"] == "file":
    os.replace = stop
else:
    copies_postgres.PostgresPlace._make = stop
with Warehouse.attach(sqlite_location(Path(folder)), threads=1) as lake:
    places = [copies_postgres.PostgresPlace(dsn, schema), copies.FolderPlace(Path(folder) / "readers")]
    publish(lake, "release-2", places)
"""


@pytest.mark.parametrize("at", ["file", "postgres"])
def test_what_a_killed_writer_left_is_finished_by_the_next_publication(
    answered_twice: Warehouse, tmp_path: Path, postgres_dsn: str, at: str
) -> None:
    """The lake was committed and the copies were not: nothing has changed since, and yet they have to follow."""
    places = [PostgresPlace(postgres_dsn, schema_name("test", f"killed_{at}")), FolderPlace(tmp_path / "readers")]
    publish(answered_twice, "release-1", places)
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path), postgres_dsn, places[0].schema],  # type: ignore[attr-defined]
        env={**os.environ, "AT": at},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "now\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()

    before = rows_of(pq.read_table(tmp_path / "readers" / "published_v1.parquet"))
    finished = publish(answered_twice, "release-2", places)

    assert whole(before) is None
    assert before[0][1] == "release-1"
    assert finished
    assert rows_of(pq.read_table(tmp_path / "readers" / "published_v1.parquet"))[0][1] == "release-2"
    with closing(psycopg2.connect(postgres_dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(f'SELECT DISTINCT release_id FROM "{places[0].schema}".published_v1')  # type: ignore[attr-defined]
        assert cursor.fetchall() == [("release-2",)]
    assert [path.name for path in (tmp_path / "readers").glob(".*")] == []
    assert publish(answered_twice, "release-2", places) == []
