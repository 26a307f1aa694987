"""Reading a published table by the contract: a query that the contract does not carry is not run."""

from __future__ import annotations

from datetime import date

import pyarrow as pa

from llm_platform.application.model import Application
from llm_platform.contracts.consumers import Promises, Query, breaks_of
from llm_platform.errors import ContractBroken
from llm_platform.operations.release.contracts import tables_of
from llm_platform.warehouse.store import ApplicationStore


def query_published(
    store: ApplicationStore, application: Application, *, consumer: str, name: str, sql: str, today: date | None = None
) -> pa.Table:
    """The rows of a query over published tables as readers have them, which it names `published_v1` and so on.

    Args:
        store: Of the application.
        application: Its files.
        consumer: Who asks, for the message.
        name: Of the query, for the message.
        sql: In DuckDB's dialect.
        today: Day on which tables are retired; None is the clock's, in UTC.

    Raises:
        ContractBroken: the contract that is published lacks a column, or the table; says which.
        SpecificationError: it is no SQL.
    """
    tables = tables_of(store, application, today=today)
    known = {one.table: one.for_readers() for one in tables.published.values()}
    retired = {f"published_v{number}": "its day has come, it is retired" for number in tables.retired}
    broken = breaks_of(Query(consumer, name, sql, "duckdb"), Promises(application.name, known, known, retired))
    if broken:
        lines = "\n".join(f"  {one}" for one in broken)
        raise ContractBroken(
            f"{consumer} cannot read what {application.name} publishes:\n{lines}\n"
            "Read what the contract has (llm-platform contract show), or publish the table that it needs."
        )
    return store.published.query(sql, list(tables.published.values()))
