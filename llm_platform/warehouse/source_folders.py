"""Tables that are folders: Delta and Iceberg, followed by the files of their log."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from llm_platform.application.source import TableRef
from llm_platform.errors import TransientError
from llm_platform.records import content_hash
from llm_platform.tables.places import FilePlace, Store, look_into
from llm_platform.warehouse.engine import literal
from llm_platform.warehouse.source_urls import SourceUrl

LOGS = {"delta": "_delta_log", "iceberg": "metadata"}
METADATA = re.compile(r"(?:v(\d+)|(\d+)-[0-9a-f-]+)(?:\.gz)?\.metadata\.json")
"""Names of Iceberg's table metadata, as Hadoop tables and catalogs number them."""
COMMIT = re.compile(r"(\d{20})\.(?:json|checkpoint\..*parquet)")
"""Names of Delta's commits, and of what is written about several of them later."""
PACKED = ".gz.metadata.json"
HINT = "version-hint.text"


@dataclass(frozen=True)
class FolderTable:
    """A table that is a folder.

    Attributes:
        relation: SQL to read it from.
        version: Equal as long as nobody has committed anything.
    """

    relation: str
    version: str


def find_folder(url: SourceUrl, ref: TableRef, store: Store) -> FolderTable:
    """The table in its present version: `sales.orders` is the folder `sales/orders` below that of the warehouse.

    Raises:
        TransientError: it is not there, or cannot be looked at now.
    """
    folder = "/".join([url.target.rstrip("/"), *(ref.table or "").split(".")])
    log = look_into(f"{folder}/{LOGS[url.kind]}", store)
    newest = _newest_commit(log) if url.kind == "delta" else _newest(log)
    if newest is None:
        raise _no_version(folder, log)
    (file,) = (file for file in log.all_files if file.path == newest)
    # Of its name alone a table that was made anew could not be told: it is numbered from the start again.
    version = content_hash([newest, file.size, file.changed_ns])
    if url.kind == "delta":
        return FolderTable(f"delta_scan({literal(folder)})", version)
    if newest.endswith(PACKED):
        return FolderTable(f"iceberg_scan({literal(f'{folder}/{LOGS[url.kind]}/{newest}')})", version)
    # Metadata names its files by where the table was when they were written.
    moved = str(_is_elsewhere(log, newest, folder)).lower()
    named = literal(newest.removesuffix(".metadata.json"))
    return FolderTable(f"iceberg_scan({literal(folder)}, version = {named}, allow_moved_paths = {moved})", version)


def _newest_commit(log: FilePlace) -> str | None:
    """The last commit of a Delta table; what is written about it later, or removed of before, is no newer one."""
    numbered = [
        (found[1], file.path.endswith(".json"), file.path)
        for file in log.all_files
        if (found := COMMIT.fullmatch(file.path)) is not None
    ]
    return max(numbered)[2] if numbered else None


def _newest(log: FilePlace) -> str | None:
    """The metadata that its hint names, else that of the highest number, written last."""
    by_name = {file.path: file for file in log.all_files}
    if HINT in by_name:
        with by_name[HINT].open() as file:
            said = file.read(200).decode(errors="replace").strip()
        named = [name for name in (said, f"v{said}.metadata.json", f"v{said}.gz.metadata.json") if name in by_name]
        if named:
            return named[0]
    numbered = [
        (int(found[1] or found[2]), file.changed_ns, name)
        for name, file in by_name.items()
        if (found := METADATA.fullmatch(name)) is not None
    ]
    return max(numbered)[2] if numbered else None


def _is_elsewhere(log: FilePlace, newest: str, folder: str) -> bool:
    (file,) = (file for file in log.all_files if file.path == newest)
    with file.open() as opened:
        data = opened.read()
    try:
        location = str(json.loads(data)["location"])
    except (ValueError, KeyError, TypeError) as error:
        raise _no_version(folder, log) from error
    return location.removeprefix("file://").rstrip("/") != folder


def _no_version(folder: str, log: FilePlace) -> TransientError:
    return TransientError(
        f"Cannot read the table {folder!r}: {log.name!r} has no version of it. Nothing was taken over; check that the "
        "folder is that of the table, then run again."
    )
