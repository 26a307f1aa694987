"""Values that are written into statements come back as they were: every kind that Python has, on DuckDB."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm_platform.warehouse.engine import connect, execute

# A lone surrogate is no text that can be stored: UTF-8 has none.
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
TRICKY = st.text(st.sampled_from("'\"\\?$%;-/*\n\0{}[]:a_ ü€𝄞")) | TEXT
OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
AWARE = st.datetimes(datetime(1800, 1, 1), datetime(2400, 1, 1), timezones=OFFSETS)
NAIVE = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999_999))
INTEGERS = st.integers(-(2**63), 2**63 - 1) | st.integers(-(2**127) + 1, 2**127 - 1)
VALUES = st.one_of(st.none(), st.booleans(), INTEGERS, st.floats(), TRICKY, NAIVE, AWARE, st.lists(TRICKY))


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(threads=1) as opened:
        yield opened


def same(found: Any, value: Any) -> bool:
    """Equal and of one type; a time with a zone is one instant, whichever zone it is told in."""
    if isinstance(value, float):
        return isinstance(found, float) and (
            (math.isnan(value) and math.isnan(found))
            or (found == value and math.copysign(1.0, found) == math.copysign(1.0, value))
        )
    if isinstance(value, datetime) and value.tzinfo is not None:
        return isinstance(found, datetime) and found.tzinfo is not None and found.astimezone(UTC) == value
    return type(found) is type(value) and bool(found == value)


@settings(max_examples=400, deadline=None)
@given(value=VALUES)
@example(value=True)
@example(value=False)
@example(value=-(2**63))
@example(value=2**63 - 1)
@example(value=-0.0)
@example(value=5e-324)
@example(value=1.7976931348623157e308)
@example(value=0.1 + 0.2)
@example(value="NULL")
@example(value="'; DROP TABLE documents; --")
@example(value="a\0b")
@example(value="?")
@example(value="$name")
@example(value=[])
@example(value=["", "'", "a,b", "]"])
@example(value=datetime(2026, 3, 29, 2, 30, 0, 1, tzinfo=UTC))
def test_a_value_comes_back_as_it_was(database: duckdb.DuckDBPyConnection, value: Any) -> None:
    """A literal that is read as something else stores another answer than the model gave."""
    (by_position,) = execute(database.cursor(), "SELECT ?", [value]).fetchall()[0]
    (by_name,) = execute(database.cursor(), "SELECT $value", {"value": value}).fetchall()[0]

    assert same(by_position, value), by_position
    assert same(by_name, value), by_name


@settings(max_examples=150, deadline=None)
@given(values=st.lists(VALUES, min_size=2, max_size=6))
def test_each_of_several_values_stands_where_it_belongs(database: duckdb.DuckDBPyConnection, values: list[Any]) -> None:
    """A value that holds a question mark or a name must not be taken for the place of the next one."""
    named = {f"value_{'abcdef'[place]}": value for place, value in enumerate(values)}
    sql = "SELECT " + ", ".join(f"${name}" for name in reversed(named)) + ", '?', '$value_a' AS \"?\""

    by_position = execute(database.cursor(), f"SELECT {', '.join('?' * len(values))}, '?'", values).fetchall()[0]
    by_name = execute(database.cursor(), sql, named).fetchall()[0]

    assert all(same(found, value) for found, value in zip(by_position, [*values, "?"], strict=True))
    assert all(same(found, value) for found, value in zip(by_name, [*reversed(values), "?", "$value_a"], strict=True))


@settings(max_examples=150, deadline=None)
@given(value=VALUES.filter(lambda value: value != []))  # of an empty list the client does not know the type
def test_a_value_is_bound_as_the_client_would_bind_it(database: duckdb.DuckDBPyConnection, value: Any) -> None:
    """A column that is made of a value has the type that it would have had, so statements mean the same."""
    ours = execute(database.cursor(), "SELECT typeof($value)", {"value": value}).fetchall()
    theirs = database.cursor().execute("SELECT typeof($value)", {"value": value}).fetchall()

    assert ours == theirs


def test_a_number_that_no_integer_holds_is_refused(database: duckdb.DuckDBPyConnection) -> None:
    """Read as a floating-point number it would be stored as another one, without a word."""
    with pytest.raises(duckdb.Error, match="too large"):
        execute(database.cursor(), "SELECT ?", [10**40])
