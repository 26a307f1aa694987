"""Files that appear whole or not at all: the one way in which this platform writes a text that others read."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from llm_platform.errors import StorageError


def write_text(path: Path, text: str) -> Path:
    """Write a file aside and rename it: a reader, or a power cut, sees the old file or the whole new one.

    Raises:
        StorageError: the file or its folder cannot be written; what was there before is as it was.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
    except OSError as error:
        with suppress(OSError):  # its folder may be no folder
            aside.unlink(missing_ok=True)
        raise StorageError(
            f"Cannot write {str(path)!r}: {error.strerror}. Free space, fix permissions, or name another place."
        ) from error
    return path
