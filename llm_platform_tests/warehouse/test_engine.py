"""Engine errors in our words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from llm_platform.errors import StorageError, TransientError
from llm_platform.warehouse.engine import connect, extension_path, is_race, load, platform_error, redacted
from llm_platform_tests.servers.local import LocalServer, QuietHandler


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("host=db user=u password=s3cret dbname=x", "s3cret"),
        ("host=db password = 's3 cret' dbname=x", "s3 cret"),
        ("postgresql://u:s3cret@db:5432/x", "s3cret"),
        ("SECRET='s3cret'", "s3cret"),
    ],
)
def test_passwords_are_hidden(text: str, hidden: str) -> None:
    """Connection strings end up in messages, and messages in logs."""
    assert hidden not in redacted(text)
    assert "***" in redacted(text)


def test_nothing_is_printed_beside_what_a_program_prints() -> None:
    """DuckDB draws a bar for whoever seems to type: a script read a line of it where the machine was busy."""
    asked = "connection.execute(\"SELECT current_setting('enable_progress_bar')\").fetchall()"
    code = f"from llm_platform.warehouse.engine import connect; connection = connect(1); print({asked})"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[(False,)]\n"


SECRET = "Frau Müller of Aachen"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            duckdb.Error(f"Failed to execute query \"INSERT ('{SECRET}')\": ERROR: permission denied"),
            "permission denied",
        ),
        (duckdb.Error(f"Failed to commit.\nFailed to execute query \"INSERT ('{SECRET}"), "refused it (Error)"),
        (duckdb.Error(f"permission denied\n\nLINE 1: SELECT '{SECRET}'"), "permission denied"),
        (duckdb.ConversionException(f"Could not convert string '{SECRET}' to INT32"), "type of its column"),
        (duckdb.ConversionException(f"'{SECRET}: database is locked'"), "type of its column"),
        (duckdb.InvalidInputException(f'Could not parse string "{SECRET}"'), "refused it (InvalidInputException)"),
        (duckdb.ConstraintException(f'Duplicate key "name: {SECRET}"'), "breaks a rule"),
        (duckdb.BinderException(f'Referenced column "{SECRET}" was not found'), "refused it (BinderException)"),
        (duckdb.IOException(f'Cannot open file "/data/{SECRET}.csv": No such file or directory'), "is not there"),
    ],
)
def test_nothing_that_the_engine_quotes_is_in_a_message(error: duckdb.Error, said: str) -> None:
    """It quotes values, statements and what a file is named by, and messages go into logs, alerts and histories."""
    found = platform_error(error, "read the lake")

    assert isinstance(found, StorageError)
    assert said in str(found)
    assert not any(word in str(found) for word in SECRET.split() if word != "of")


def test_a_file_of_the_lake_that_is_gone_is_named_with_the_way_back() -> None:
    """Somebody has tidied up the data folder: 'No such file' alone says neither what is lost nor what to do."""
    name = "tickets/completions/ducklake-0197f0a0-1111-7222-8333-444455556666.parquet"
    error = platform_error(duckdb.IOException(f'Cannot open file "/d/{name}": No such file or directory'), "read")

    assert f" {name}." in str(error)
    assert "backup" in str(error)


@pytest.mark.parametrize("damage", ["emptied", "seven bytes", "cut", "zeros"])
def test_a_file_of_the_lake_that_is_damaged_is_named(tmp_path: Path, damage: str) -> None:
    """A disk that lost power leaves files that are empty, cut or full of zeros: none is a fault of the engine's."""
    name = "ducklake-0197f0a0-1111-7222-8333-444455556666.parquet"
    path = tmp_path / name
    with connect() as connection:
        connection.execute(f"COPY (SELECT uuid()::VARCHAR AS t FROM range(20000)) TO '{path}' (COMPRESSION zstd)")
        whole = path.read_bytes()
        # A page of which few bytes are zeros may decode to other text, which no reader notices: so half of the file.
        zeros = whole[:500] + bytes(len(whole) // 2) + whole[500 + len(whole) // 2 :]
        torn = {"emptied": b"", "seven bytes": whole[:7], "cut": whole[: len(whole) // 2], "zeros": zeros}
        path.write_bytes(torn[damage])
        with pytest.raises(duckdb.Error) as found:
            connection.execute(f"SELECT * FROM '{path}'").fetchall()

    said = str(platform_error(found.value, "read the lake"))
    assert "damaged" in said
    assert name in said


def test_a_file_of_the_lake_whose_first_page_lost_its_header_is_damaged(tmp_path: Path) -> None:
    """The engine says `TProtocolException: Invalid data` there and names no file: still nothing but a damaged disk."""
    path = tmp_path / "documents.parquet"
    with connect() as connection:
        connection.execute(f"COPY (SELECT range AS t FROM range(20000)) TO '{path}'")
        path.write_bytes(b"PAR1" + bytes(99) + path.read_bytes()[103:])
        with pytest.raises(duckdb.Error) as found:
            connection.execute(f"SELECT * FROM '{path}'").fetchall()

    assert "damaged" in str(platform_error(found.value, "read the lake"))


@pytest.mark.parametrize(
    ("message", "kind", "said"),
    [
        ("database is locked", TransientError, "other processes kept writing"),
        ("Transaction conflict - attempting to insert", TransientError, "other processes kept writing"),
        ("database or disk is full", StorageError, "disk is full"),
        ("attempt to write a readonly database", StorageError, "may not be written here"),
        ("unable to open database file", StorageError, "its file is not there, or it may not be written here"),
        ("file is not a database", StorageError, "damaged or not ours"),
        ("connection refused", TransientError, "does not answer"),
        ("No snapshot found at version 7", StorageError, "Snapshot 7 never was, or has expired"),
        ("something else", StorageError, "Cannot read the lake: the engine refused it (Error)"),
        ('Cannot open file "x": Too many open files', StorageError, "ulimit -n"),
        ('FATAL: password authentication failed for user "u"', StorageError, "does not accept this user"),
    ],
)
def test_engine_errors_say_whether_to_try_again(message: str, kind: type[Exception], said: str) -> None:
    """A retry of a full disk wastes a night, and a lost race that is not retried wastes a run."""
    error = platform_error(duckdb.Error(message), "read the lake")

    assert isinstance(error, kind)
    assert said in str(error)


class OneStatus(QuietHandler):
    """An object store that answers every request with the number that begins the object's name."""

    def do_HEAD(self) -> None:  # noqa: N802 - the name that http.server asks for
        self.reply(int(self.path.rpartition("/")[2][:3]), b"")

    def do_GET(self) -> None:  # noqa: N802
        self.do_HEAD()


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (403, StorageError, "key or role, region, clock"),
        (404, StorageError, "a file that the catalog lists is not there"),
        (429, TransientError, "the object store answers 429"),
        (503, TransientError, "the object store answers 503"),
        (None, TransientError, "the object store does not answer"),
    ],
)
def test_what_an_object_store_answers_says_what_to_do(status: int | None, kind: type[Exception], said: str) -> None:
    """A file that is gone was "refused by the engine", and a store that was busy for a moment a failure for good."""
    with LocalServer(OneStatus) as store, connect() as connection:
        load(connection, "httpfs")
        host = store.url.partition("//")[2] if status else "127.0.0.1:9"
        place = f"ENDPOINT '{host}', REGION 'r', URL_STYLE 'path', USE_SSL false"
        connection.execute(f"CREATE SECRET (TYPE s3, KEY_ID 'k', SECRET 's', {place})")
        connection.execute("SET http_retries = 0")
        with pytest.raises(duckdb.Error) as found:
            connection.execute(f"SELECT * FROM read_parquet('s3://lake/{status}.parquet')")

    error = platform_error(found.value, "read the lake")
    assert isinstance(error, kind)
    assert said in str(error)


def test_only_lost_races_are_run_again() -> None:
    """Everything else fails the same way again."""
    assert is_race(duckdb.TransactionException("Transaction conflict: another transaction has altered it"))
    assert not is_race(duckdb.IOException("No space left on device"))


def test_an_extension_that_is_not_installed_is_named() -> None:
    """The message must say which package brings it."""
    with pytest.raises(StorageError, match=r"Install the package duckdb-extension-spatial=="):
        extension_path("spatial")


def test_the_engine_neither_downloads_nor_reads_python_variables() -> None:
    """An air-gapped site, and a table name that happens to be a variable."""
    secret_rows = [1]

    with connect() as connection:
        with pytest.raises(duckdb.Error, match="secret_rows does not exist"):
            connection.execute("SELECT * FROM secret_rows")
        with pytest.raises(duckdb.Error):
            connection.execute("SELECT st_point(1, 2)")
        assert connection.execute("SELECT current_setting('TimeZone')").fetchall() == [("UTC",)]
    assert secret_rows
