"""How much room the tables of a lake take, as its catalog says, so in an object store, too."""

from __future__ import annotations

from dataclasses import dataclass

from llm_platform.warehouse.session import Session


@dataclass(frozen=True)
class TableUsage:
    """Files of one table.

    Attributes:
        files, bytes: Of the present rows and of deletions from them.
        past_bytes: Files that only past snapshots need; a compaction lets go of them when they are old enough.
    """

    application: str
    table: str
    files: int
    bytes: int
    past_bytes: int


def usage(session: Session) -> list[TableUsage]:
    """Of every table that has files, by application and name."""
    files = " UNION ALL ".join(
        f"SELECT table_id, end_snapshot, file_size_bytes FROM {session.metadata(table)}"
        for table in ("ducklake_data_file", "ducklake_delete_file")
    )
    now = "FILTER (f.end_snapshot IS NULL)"
    rows = session.rows(
        f"SELECT s.schema_name, t.table_name, count(*) {now}, "
        f"coalesce(sum(f.file_size_bytes) {now}, 0)::BIGINT, "
        "coalesce(sum(f.file_size_bytes) FILTER (f.end_snapshot IS NOT NULL), 0)::BIGINT "
        f"FROM ({files}) f JOIN {session.metadata('ducklake_table')} t USING (table_id) "
        f"JOIN {session.metadata('ducklake_schema')} s USING (schema_id) "
        "WHERE t.end_snapshot IS NULL AND s.end_snapshot IS NULL GROUP BY 1, 2 ORDER BY 1, 2"
    )
    return [TableUsage(*row) for row in rows]
