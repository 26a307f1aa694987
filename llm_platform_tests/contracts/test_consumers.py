"""Queries of consumers: which breaks on which column, behind whatever it calls things."""

from __future__ import annotations

import pytest

from llm_platform.contracts.consumers import Promises, Query, breaks_of, tables_read
from llm_platform.errors import SpecificationError
from llm_platform_tests.contracts.builders import INVOICE, contract

BEFORE = contract(INVOICE)
AFTER = contract(
    {
        **{name: one for name, one in INVOICE.items() if name != "vendor"},
        "due": {"type": "string"},
        "kind": {"type": "enum", "values": ["invoice", "reminder", "offer"]},
        "region": {"type": "string"},
    }
)
RETIRED = {"published_v9": "it is retired since 2026-01-01"}
CHANGED = Promises("invoices", {"published_v1": BEFORE}, {"published_v1": AFTER}, RETIRED)
SAME = Promises("invoices", {"published_v1": BEFORE}, {"published_v1": BEFORE}, {})


def columns(sql: str, promises: Promises = CHANGED, dialect: str = "duckdb") -> list[str]:
    """Columns that a query breaks on."""
    found = breaks_of(Query("dashboard", "q.sql", sql, dialect), promises)
    return [one.column or one.table for one in found]


@pytest.mark.parametrize(
    ("sql", "broken"),
    [
        ("SELECT document_id, total FROM published_v1", []),
        ("SELECT vendor FROM published_v1", ["vendor"]),
        ("SELECT VENDOR FROM Published_V1", ["vendor"]),
        ("SELECT p.vendor FROM lake.invoices.published_v1 AS p", ["vendor"]),
        ("SELECT vendor FROM main_invoices.published_v1", ["vendor"]),
        ("SELECT vendor FROM read_parquet('s3://b/main/invoices/published_v1.parquet')", ["vendor"]),
        ("SELECT vendor FROM '/data/main/invoices/published_v1.parquet'", ["vendor"]),
        ("SELECT * FROM published_v1", ["due", "kind", "vendor"]),
        ("SELECT p.* FROM published_v1 p JOIN crm c ON c.id = p.document_id", ["due", "kind", "vendor"]),
        ("SELECT * EXCLUDE (vendor, due, kind) FROM published_v1", ["vendor"]),
        ("SELECT COLUMNS('^vend') FROM published_v1", ["vendor"]),
        ("WITH x AS (SELECT * FROM published_v1) SELECT total FROM x", []),
        ("WITH x AS (SELECT * FROM published_v1) SELECT vendor FROM x", ["vendor"]),
        ("WITH x AS (SELECT vendor AS v, total FROM published_v1) SELECT total FROM x", ["vendor"]),
        ("WITH x(a) AS (SELECT vendor FROM published_v1), y AS (SELECT a FROM x) SELECT a FROM y", ["vendor"]),
        ("SELECT t.v FROM (SELECT vendor AS v FROM published_v1) t", ["vendor"]),
        ("SELECT total FROM published_v1 WHERE vendor = 'Acme'", ["vendor"]),
        ("SELECT total FROM published_v1 ORDER BY vendor", ["vendor"]),
        ("SELECT count(*) FROM published_v1 GROUP BY vendor", ["vendor"]),
        ("SELECT row_number() OVER (PARTITION BY vendor ORDER BY total) FROM published_v1", ["vendor"]),
        ("SELECT a.total FROM published_v1 a JOIN published_v1 b ON a.vendor = b.vendor", ["vendor"]),
        ("SELECT total FROM published_v1 p JOIN crm USING (vendor)", ["vendor"]),
        ("SELECT (SELECT max(vendor) FROM published_v1) FROM crm", ["vendor"]),
        ("SELECT id FROM crm WHERE EXISTS (SELECT 1 FROM published_v1 p WHERE p.vendor = crm.name)", ["vendor"]),
        ("SELECT due - DATE '2026-01-01' FROM published_v1", ["due"]),
        ("SELECT total FROM published_v1 WHERE kind = 'reminder'", ["kind"]),
        ("SELECT c.vendor, p.total FROM published_v1 p JOIN crm c ON c.id = p.document_id", []),
        ("SELECT vendor FROM other_application.published_v1", []),
        ("SELECT total FROM published_v1; SELECT vendor FROM published_v1", ["vendor"]),
        ("CREATE TABLE x AS SELECT vendor FROM published_v1", ["vendor"]),
        ("UPDATE t SET name = p.vendor FROM published_v1 p WHERE p.document_id = t.id", ["vendor"]),
        ("SELECT total FROM published_v1 UNION ALL SELECT vendor FROM published_v1", ["vendor"]),
        ("SELECT nothing FROM published_v1", ["nothing"]),
        ("SELECT total FROM published_v7", ["published_v7"]),
        ("SELECT total FROM published_v9", ["published_v9"]),
    ],
)
def test_a_query_breaks_on_the_columns_that_it_reads(sql: str, broken: list[str]) -> None:
    """A consumer is told about what it uses, and not about what it does not."""
    assert columns(sql) == broken


@pytest.mark.parametrize(
    ("sql", "broken"),
    [
        ("SELECT region, total FROM published_v1 JOIN crm USING (document_id)", ["region"]),
        ("SELECT crm.region, total FROM published_v1 JOIN crm USING (document_id)", []),
        ("SELECT document_id FROM published_v1 NATURAL JOIN crm", ["region"]),
        ("INSERT INTO mine SELECT * EXCLUDE (vendor, due, kind) FROM published_v1", ["region", "vendor"]),
        ("SELECT region FROM published_v1", []),
    ],
)
def test_a_column_that_is_new_may_break_a_query_too(sql: str, broken: list[str]) -> None:
    """It is compatible for who names what they read, and takes the place of another name for who does not."""
    assert columns(sql) == broken


@pytest.mark.parametrize(
    ("sql", "dialect", "broken"),
    [
        ('SELECT "vendor"::text FROM "main_invoices"."published_v1"', "postgres", ["vendor"]),
        ("SELECT `vendor` FROM `invoices`.`published_v1` LIMIT 3", "bigquery", ["vendor"]),
        ("SELECT p.VENDOR FROM INVOICES.PUBLISHED_V1 p QUALIFY 1 = 1", "snowflake", ["vendor"]),
        ("SELECT TOP 3 [vendor] FROM invoices.published_v1", "tsql", ["vendor"]),
    ],
)
def test_consumers_have_their_own_dialect(sql: str, dialect: str, broken: list[str]) -> None:
    """A dashboard that reads the copy in Postgres writes Postgres."""
    assert columns(sql, dialect=dialect) == broken


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT sum(due) FROM published_v1",
        "SELECT total FROM published_v1 WHERE due > 12",
        "SELECT lower(total) FROM published_v1 GROUP BY vendor",
    ],
)
def test_a_query_that_is_wrong_about_types_is_found_without_any_change(sql: str) -> None:
    """It never ran, so nobody would notice which change was to blame."""
    (found,) = breaks_of(Query("dashboard", "q.sql", sql, "duckdb"), SAME)

    assert "DuckDB refuses the query" in found.why


def test_nobody_breaks_where_nothing_changes() -> None:
    """A check that cries wolf is switched off."""
    sql = """
        WITH late AS (SELECT *, row_number() OVER (PARTITION BY vendor ORDER BY due DESC) AS n FROM published_v1 p)
        SELECT vendor AS who, sum(total) AS total, c.region FROM late JOIN crm AS c ON c.name = late.vendor
        WHERE n = 1 AND kind IN ('invoice') GROUP BY ALL HAVING sum(total) > 3 ORDER BY total
    """

    assert columns(sql, SAME) == []
    assert tables_read(Query("d", "q.sql", sql, "duckdb"), SAME) == {"published_v1"}


def test_what_is_no_sql_says_so() -> None:
    """A file that is skipped looks like one that holds."""
    with pytest.raises(SpecificationError, match=r"q\.sql cannot be read as SQL of 'duckdb'"):
        columns("SELECT FROM WHERE (")
    with pytest.raises(SpecificationError, match="there is no dialect 'duckbd'"):
        columns("SELECT 1", dialect="duckbd")
