"""Source tables that are files: where they are, and how far they have been read."""

from __future__ import annotations

import hashlib
from pathlib import Path

from llm_platform.errors import SpecificationError, TransientError
from llm_platform.records import SourceState
from llm_platform.tables.files import TableFile

HASHED_BYTES = 64 * 1024 * 1024
"""Files up to this size are compared by content; larger ones by size and modification time."""


def table_file(url: str) -> TableFile:
    """The file that a TableRef's URL means.

    Raises:
        SpecificationError: it is not a local file of a known format.
    """
    plain = url.removeprefix("file://")
    if "://" in plain:
        raise SpecificationError(
            f"Cannot read {url!r}: files are read from this machine. Copy it here, or attach the store as a warehouse."
        )
    return TableFile(Path(plain))


def file_state(path: Path) -> SourceState:
    """State of a file: equal content, equal token."""
    try:
        stat = path.stat()
        if stat.st_size <= HASHED_BYTES:
            token = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            token = f"{stat.st_size}-{stat.st_mtime_ns}"
    except OSError as error:
        raise TransientError(
            f"Cannot read the file {str(path)!r}: {error.strerror or error}. Nothing was taken over; check that it is "
            "there and readable, then run again."
        ) from error
    return SourceState(kind="file", token=token, table_id=str(path))
