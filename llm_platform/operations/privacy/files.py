"""Taking documents out of the files that a namespace keeps beside its tables: journals, exports, pages, training."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from html import unescape
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from llm_platform.errors import StorageError, TransientError
from llm_platform.records import ForgetRequest, Traces
from llm_platform.warehouse.traces import Quotes

JOURNALS = ("*.journal", "*.begun", "*.lines")


def forget_in_files(folder: Path, request: ForgetRequest, traces: Traces, *, hashed: Sequence[str] = ()) -> int:
    """Take documents out of the files of one namespace; returns in how many files they were.

    Args:
        hashed: Their keys as readers have them where they are masked.

    Raises:
        TransientError: a process is writing one of them.
        StorageError: one cannot be written.
    """
    quotes = Quotes((*request.document_ids, *hashed), traces.fingerprints, traces.texts)
    application = request.application
    try:
        journals = _journals(folder / "journal" / application, quotes)
        journals += _journals(folder / "calls", quotes)
        exports = [_export(path, quotes) for path in sorted((folder / "reports" / application).glob("**/*.parquet"))]
        pages = [_page(path, quotes) for path in sorted((folder / "reports" / application).glob("**/*.html"))]
        training = [_training(path, quotes) for path in _children(folder / "training")]
    except OSError as error:
        raise StorageError(
            f"Cannot forget documents in {error.filename or folder}: {error.strerror}. Make it writable, then run "
            "again."
        ) from error
    return journals + sum(exports) + sum(pages) + sum(training)


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _journals(folder: Path, quotes: Quotes) -> int:
    if not folder.is_dir():
        return 0
    paths = [path for pattern in JOURNALS for path in sorted(folder.rglob(pattern))]
    return sum(_journal(path, quotes) for path in paths)


def _journal(path: Path, quotes: Quotes) -> bool:
    try:
        file = path.open("r+b")
    except FileNotFoundError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TransientError(
                f"Cannot forget documents in {path}: a process is writing it. Let it finish, then run again."
            ) from None
        lines = file.readlines()
        kept = [line for line in lines if not _is_about(line, quotes)]
        if len(kept) == len(lines):
            return False
        _replace(path, b"".join(kept))
    return True


def _is_about(line: bytes, quotes: Quotes) -> bool:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        # Torn: what it says cannot be read any more, and nobody will store it.
        return True
    if not isinstance(row, dict):
        return True
    if row.get("document_id") in quotes.document_ids or row.get("fingerprint") in quotes.fingerprints:
        return True
    return any(isinstance(value, str) and quotes.holds(value) for value in row.values())


def _export(path: Path, quotes: Quotes) -> bool:
    """A file loses the rows of documents; one that names them elsewhere goes, and whoever made it makes it anew."""
    table = pq.read_table(path)
    if "document_id" not in table.column_names:
        texts = (one for one in table.columns if pa.types.is_string(one.type) or pa.types.is_large_string(one.type))
        said = {value for column in texts for value in column.to_pylist() if value is not None}
        about = not said.isdisjoint(quotes.document_ids) or any(map(quotes.holds, said))
        if about:
            path.unlink()
        return about
    named = pc.is_in(table["document_id"], value_set=pa.array(sorted(quotes.document_ids), pa.string()))
    if not pc.any(named).as_py():
        return False
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    pq.write_table(table.filter(pc.invert(named)), aside)
    aside.replace(path)
    return True


def _page(path: Path, quotes: Quotes) -> bool:
    """A page that quotes a document, or lists it, goes: the next look at what it shows makes it anew."""
    content = path.read_text(encoding="utf-8", errors="replace")
    # What is given to a page stands escaped in it.
    cells = {unescape(cell.split("<", 1)[0]) for cell in content.split(">")}
    named = {one for cell in cells for one in (cell, cell.strip())}
    if not (quotes.in_words(unescape(content)) or named & (quotes.document_ids | quotes.fingerprints)):
        return False
    path.unlink()
    return True


def _training(path: Path, quotes: Quotes) -> bool:
    """What an adapter is being trained on goes as a whole: without the document it would be another training."""
    if not path.is_dir() or not any(_lists(file, quotes) for file in _texts(path)):
        return False
    shutil.rmtree(path)
    return True


def _texts(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.suffix in (".json", ".jsonl", ".txt") and path.is_file())


def _lists(path: Path, quotes: Quotes) -> bool:
    return any(line.strip() and _is_about_value(line, quotes) for line in path.read_bytes().splitlines())


def _is_about_value(line: bytes, quotes: Quotes) -> bool:
    text = line.decode("utf-8", "replace")
    return quotes.holds(text) or quotes.mended(text) is not None


def _replace(path: Path, content: bytes) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if content:
        aside.replace(path)
    else:
        aside.unlink()
        path.unlink()
