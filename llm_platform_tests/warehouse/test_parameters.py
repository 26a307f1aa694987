"""Values reach a statement as they are, though they are written into it."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import duckdb
import pytest

from llm_platform.warehouse.engine import connect, execute


@pytest.fixture
def cursor() -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory."""
    return connect(threads=1)


@pytest.mark.parametrize(
    "value",
    [
        "it's ? and $name; --",
        "\0",
        "''",
        "",
        -7,
        2**62,
        0.1,
        1e-300,
        True,
        None,
        ["a'b", "$name"],
        datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
    ],
)
def test_any_value_arrives_as_it_is(cursor: duckdb.DuckDBPyConnection, value: Any) -> None:
    """A text with quotes or places in it is a text, not a part of the statement."""
    assert execute(cursor, "SELECT ?", [value]).fetchall() == [(value,)]
    assert execute(cursor, "SELECT $name", {"name": value}).fetchall() == [(value,)]


def test_what_is_quoted_has_no_places(cursor: duckdb.DuckDBPyConnection) -> None:
    """A path into JSON begins with a dollar sign."""
    cursor.execute('CREATE TABLE t AS SELECT 1 AS "?"')

    found = execute(cursor, "SELECT '$name ''?', \"?\", ? - ? FROM t", [5, -2]).fetchall()

    assert found == [("$name '?", 1, 7)]


def test_no_process_loads_pandas_for_a_parameter() -> None:
    """It takes 54 MiB and a third of a second."""
    code = (
        "import sys; from llm_platform.warehouse.engine import connect, execute; "
        "execute(connect(1), 'SELECT ?', ['a']).fetchall(); sys.exit('pandas' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
