"""Values reach a statement as they are, though they are written into it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from llm_platform.warehouse import engine
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


def test_every_statement_with_values_goes_through_execute() -> None:
    """One that does not makes its process load pandas. A key of ours is bound: it stands in no statement."""
    modules = sorted(Path(engine.__file__).parent.glob("*.py"))
    assert {path.name for path in modules if any(_binding(ast.parse(path.read_text(encoding="utf-8"))))} == {
        "masking.py"
    }


def _binding(module: ast.Module) -> Iterator[ast.Call]:
    """Calls of a connection's own `execute` with values for DuckDB's places, which are not psycopg's."""
    for call in ast.walk(module):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "execute":
            constants = [node.value for node in ast.walk(call.args[0]) if isinstance(node, ast.Constant)]
            if len(call.args) > 1 and re.search(r"\S+ .*(\?|\$\w)", "".join(map(str, constants))):
                yield call


def test_a_small_query_wakes_no_other_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads of DuckDB that wait for more of it spin, which doubles its CPU."""
    monkeypatch.delenv("SLURM_CPUS_ON_NODE", raising=False)

    assert connect().execute("SELECT current_setting('threads')").fetchall() == [(1,)]
