"""Sources that are files, each one document: which of them have changed, and what they say."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from llm_platform.extraction.kinds import MEDIA_TYPES, FileText, is_document, media_type
from llm_platform.extraction.pool import FileReaders
from llm_platform.records import SourceState
from llm_platform.tables.forms import one_form
from llm_platform.tables.places import TO_NOTHING, FilePlace, Store, StoredFile, look_into, unreadable
from llm_platform.warehouse.changes import SourceChanges
from llm_platform.warehouse.source_files import Files

BATCH_FILES = 64
ROWS = pa.schema(
    [
        ("path", pa.string()),
        ("text", pa.binary()),
        ("title", pa.string()),
        ("pages", pa.int64()),
        ("page_starts", pa.string()),
        ("media_type", pa.string()),
        ("sha256", pa.string()),
        ("bytes", pa.int64()),
        ("modified", pa.string()),
        ("refused", pa.string()),
    ]
)
FILE_KINDS = {
    field.name: "VARCHAR" if field.type != pa.int64() else "BIGINT" for field in ROWS if field.name != "refused"
}
MINE = (errno.EACCES, errno.EPERM, errno.EISDIR)
"""Errors that are those of one file, and not of the disk or the network."""


def document_files(place: FilePlace) -> list[StoredFile]:
    """Files of a place that are documents."""
    return place.files(is_document)


def document_changes(found: Files, url: str, since: SourceState | None, store: Store | None) -> SourceChanges:
    """Files that are others than those of a state, with their texts, and the paths of those that left."""
    state, difference = found.state, found.since(since)
    there, deleted, reason = _by_name(found.files), None, "first read"
    names = list(there)
    if difference is not None:
        # Under another form of its name a file is the same document.
        gone = list(dict.fromkeys(map(one_form, difference.gone)))
        moved = [one_form(file.path) for file in (*difference.new, *difference.changed)]
        names = list(dict.fromkeys([*moved, *(name for name in gone if name in there)]))
        deleted, reason = [name for name in gone if name not in there], str(difference)
    # One that is written meanwhile has another mark, and is read again the next time.
    files = [file for name in names for file in there[name]]
    rows = document_rows(files, is_gone=lambda file: _is_gone(file, url, store)) if files else ()
    return SourceChanges(full=difference is None, rows=rows, deleted=deleted, state=state, reason=reason)


def _is_gone(file: StoredFile, url: str, store: Store | None) -> bool:
    """Whether a file was taken away, and its place was not."""
    return all(one.path != file.path for one in look_into(url, store).files(is_document))


def _by_name(files: Sequence[StoredFile]) -> dict[str, list[StoredFile]]:
    """Files by the key of their document: names that differ in their form of Unicode only are one."""
    found: dict[str, list[StoredFile]] = {}
    for file in files:
        found.setdefault(one_form(file.path), []).append(file)
    return found


def document_rows(
    files: Sequence[StoredFile], *, is_gone: Callable[[StoredFile], bool] = lambda _: False
) -> Iterator[pa.RecordBatch]:
    """A row for each file, and one for all that have one name; what cannot be read has a reason instead of a text.

    Args:
        is_gone: Whether a file that is not found was taken away meanwhile: then it has no row.

    Raises:
        TransientError: the disk or the store does not answer.
    """
    with FileReaders() as readers:

        def row(named: list[StoredFile]) -> dict[str, Any] | None:
            file = named[0]
            try:
                found, sha256 = _read(file, readers) if len(named) == 1 else (FileText(refused=_twins(named)), None)
            except FileNotFoundError as error:
                if is_gone(file):
                    return None
                raise unreadable(file.name, error) from None
            return {
                "path": file.path,
                "text": found.text,
                "title": found.title,
                "pages": found.pages,
                "page_starts": None if found.page_starts is None else json.dumps(found.page_starts),
                "media_type": media_type(file.path),
                "sha256": sha256,
                "bytes": file.size,
                "modified": datetime.fromtimestamp(file.changed_ns // 1_000_000_000, UTC).isoformat(),
                "refused": found.refused,
            }

        rows = (one for one in readers.each(_by_name(files).values(), row) if one is not None)
        while batch := list(islice(rows, BATCH_FILES)):
            yield pa.RecordBatch.from_pylist(batch, schema=ROWS)


def _twins(named: Sequence[StoredFile]) -> str:
    return f"{len(named)} files have this name, in different forms of Unicode: rename them, so that one has it"


def _read(file: StoredFile, readers: FileReaders) -> tuple[FileText, str | None]:
    kind = media_type(file.path)
    if file.size > readers.limits.file_bytes:
        return FileText(refused=f"it is larger than {readers.limits.file_bytes // 1_000_000} MB"), None
    try:
        with file.open() as opened:
            data = opened.read()
    except FileNotFoundError:
        if file.changed_ns == TO_NOTHING:
            return FileText(refused="it is a link to nothing"), None
        raise
    except OSError as error:
        if error.errno in MINE:
            return FileText(refused=f"it may not be read: {error.strerror}"), None
        raise unreadable(file.name, error) from None
    sha256 = hashlib.sha256(data).hexdigest()
    if kind is None:
        ending = PurePosixPath(file.path).suffix or "without an ending"
        return FileText(refused=f"files {ending} are not read, only {', '.join(sorted(MEDIA_TYPES))}"), sha256
    return readers.read(data, kind), sha256
