"""A lake whose catalog is gone: what is left of it says that it was there, so it is not begun anew in silence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb

from llm_platform.errors import StorageError
from llm_platform.warehouse.engine import literal

LEFT = {
    "journals of answers": "journal/**/*.journal",
    "report cards": "reports/*/card.html",
    "published tables": "reports/*/*.parquet",
}
"""What runs leave in the folder of their namespace, beside the data."""


def require_new(connection: duckdb.DuckDBPyConnection, *, address: str, data_path: str, folder: Path | None) -> None:
    """Refuse to make a lake where something is left of one.

    Without its catalog nothing knows which answers there are: all of them would be asked for and paid for again, and a
    first champion be promoted on the way.

    Args:
        connection: Reads the object store if the data is in one.
        address: Of the lake, for the message.
        data_path: Folder or prefix of its Parquet files.
        folder: Where its runs leave journals and report cards, if that is known.

    Raises:
        StorageError: names what was found, and the ways back.
    """
    found = list(_left(connection, data_path=data_path, folder=folder))
    if found:
        raise StorageError(
            f"The lake at {address} has no catalog, but something is left of it: {'; '.join(found)}. Begun anew, it "
            "would ask and pay for everything again, and choose a first champion. Put its catalog back from a backup "
            "(the SQLite file with its -wal file, or the schema in Postgres). To begin anew on purpose, move these "
            "away first, or: llm-platform state reset"
        )


def _left(connection: duckdb.DuckDBPyConnection, *, data_path: str, folder: Path | None) -> Iterator[str]:
    if "://" in data_path:
        pattern = literal(f"{data_path.rstrip('/')}/**/*.parquet")
        files = int(connection.execute(f"SELECT count(*) FROM glob({pattern})").fetchall()[0][0])
        if files:
            yield f"{files} Parquet files under {data_path}"
    elif next(Path(data_path).rglob("*.parquet"), None) is not None:
        yield f"Parquet files in {data_path}"
    for what, pattern in LEFT.items():
        if folder is not None and (first := next(folder.glob(pattern), None)) is not None:
            yield f"{what} ({first.relative_to(folder)}) in {folder}"
