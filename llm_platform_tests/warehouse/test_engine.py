"""Engine errors in our words."""

from __future__ import annotations

import duckdb
import pytest

from llm_platform.errors import StorageError, TransientError
from llm_platform.warehouse.engine import connect, extension_path, is_race, platform_error, redacted, summary


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


@pytest.mark.parametrize(
    "message",
    [
        'Failed to execute query "INSERT s VALUES (\'a text\', "x": 1)": ERROR: permission denied',
        'Failed to commit.\nFailed to execute query "INSERT s VALUES (\'a text\nof lines": 1)": permission denied',
        "permission denied\n\nLINE 1: SELECT 'a text'\n               ^",
        "permission denied, Failed to prepare query \"SELECT 'a text'",
    ],
)
def test_statements_are_left_out_of_messages(message: str) -> None:
    """DuckLake quotes the statement that failed, and it holds the smallest and the largest text of each commit."""
    said = summary(duckdb.Error(message))

    assert "a text" not in said
    assert "permission denied" in said


@pytest.mark.parametrize(
    ("message", "kind", "said"),
    [
        ("database is locked", TransientError, "other processes kept writing"),
        ("Transaction conflict - attempting to insert", TransientError, "other processes kept writing"),
        ("database or disk is full", StorageError, "disk is full"),
        ("attempt to write a readonly database", StorageError, "may not be written here"),
        ("file is not a database", StorageError, "damaged or not ours"),
        ("connection refused", TransientError, "does not answer"),
        ("No snapshot found at version 7", StorageError, "Snapshot 7 never was, or has expired"),
        ("something else", StorageError, "Cannot read the lake: something else"),
    ],
)
def test_engine_errors_say_whether_to_try_again(message: str, kind: type[Exception], said: str) -> None:
    """A retry of a full disk wastes a night, and a lost race that is not retried wastes a run."""
    error = platform_error(duckdb.Error(message), "read the lake")

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
