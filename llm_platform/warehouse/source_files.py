"""Source tables that are files: which files they are, and how far they have been read."""

from __future__ import annotations

import base64
import hashlib
import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from llm_platform.errors import TransientError
from llm_platform.records import SourceState, content_hash
from llm_platform.tables.places import TO_NOTHING, FilePlace, Store, StoredFile, look_into, unreadable

HASHED_BYTES, HASHED_FILES = 64 * 1024 * 1024, 1000
"""Files on this machine that are together no larger, and no more, are compared by content; others by size and time."""
SETTLED_NS = 2_000_000_000
"""An object store tells times in seconds: a file that was written just now can be written again without a sign of it.
Until so much later its mark is another one, so that it is read once more."""
FORBIDDEN = "!"
"""Mark of a file that may not be read: once it may, it is another one."""
MARK = 24
"""Characters of a hash that tell one content of a file of several from another."""
Item = TypeVar("Item")


@dataclass(frozen=True)
class Files:
    """Files of a source as they were found, with a mark of each one's content.

    Attributes:
        marks: Path below the place → mark; equal marks mean equal content.
    """

    place: FilePlace
    files: Sequence[StoredFile]
    marks: Mapping[str, str]

    @property
    def state(self) -> SourceState:
        """Equal content, equal token."""
        if not self.place.many:
            return SourceState(kind="file", token=next(iter(self.marks.values())), table_id=self.place.name)
        token = content_hash(sorted(self.marks.items()))
        return SourceState(kind="file", token=token, table_id=self.place.name, files=_packed(self.marks))

    def since(self, before: SourceState | None) -> FilesSince | None:
        """What is different from a state of the same place; None where it does not say which files there were."""
        if before is None or before.files is None or before.table_id != self.place.name:
            return None
        old = _unpacked(before.files)
        return FilesSince(
            new=[file for file in self.files if file.path not in old],
            changed=[file for file in self.files if old.get(file.path, self.marks[file.path]) != self.marks[file.path]],
            gone=sorted(old.keys() - self.marks.keys()),
        )


@dataclass(frozen=True)
class FilesSince:
    """Files that came, that are others under their old names, and paths of those that left."""

    new: list[StoredFile]
    changed: list[StoredFile]
    gone: list[str]

    @property
    def only_new(self) -> bool:
        """Whether files came, and nothing else."""
        return bool(self.new) and not self.changed and not self.gone

    def __str__(self) -> str:
        return f"{len(self.new)} files new, {len(self.changed)} changed, {len(self.gone)} gone"


def found_files(
    url: str,
    choose: Callable[[FilePlace], list[StoredFile]],
    *,
    store: Store | None,
    clock_ns: Callable[[], int] = time.time_ns,
) -> Files:
    """The files of a URL.

    Args:
        choose: Which of them are meant.
        clock_ns: The time now.

    Raises:
        TransientError: they cannot be looked at now, or there are none.
    """
    now = clock_ns()
    place = look_into(url, store)
    files = choose(place)
    local = "://" not in place.name
    small = local and len(files) <= HASHED_FILES and sum(file.size for file in files) <= HASHED_BYTES
    marks = {file.path: _hash(file) if small else _time(file, now) for file in files}
    return Files(place, files, {path: mark[:MARK] for path, mark in marks.items()} if place.many and small else marks)


def as_it_was(rows: Iterable[Item], files: Sequence[StoredFile], url: str, store: Store | None) -> Iterator[Item]:
    """`rows`, once these files are at the end what they were at the start.

    Raises:
        TransientError: one of them was written meanwhile, so nobody ever wrote what was read.
    """
    yield from rows
    there = {file.path: file for file in look_into(url, store).all_files}
    moved = [file.name for file in files if there.get(file.path) != file]
    if moved:
        raise TransientError(
            f"{len(moved)} files of {url!r} were written while they were read (first: {moved[0]!r}). Nothing was taken "
            "over; run again when they are written."
        )


def _time(file: StoredFile, now: int) -> str:
    forbidden = "://" not in file.name and not os.access(file.name, os.R_OK)
    unsettled = now - file.changed_ns < SETTLED_NS
    return f"{file.size}-{file.changed_ns}{'~' if unsettled else ''}{FORBIDDEN if forbidden else ''}"


def _hash(file: StoredFile) -> str:
    try:
        with file.open() as data:
            return hashlib.file_digest(data, "sha256").hexdigest()  # type: ignore[arg-type]
    except PermissionError:
        return FORBIDDEN
    except FileNotFoundError:
        if file.changed_ns == TO_NOTHING:
            return FORBIDDEN
        raise TransientError(f"The file {file.name!r} was taken away while it was looked at. Run again.") from None
    except OSError as error:
        raise unreadable(file.name, error) from None


def _packed(marks: Mapping[str, str]) -> str:
    """Marks as one short text; paths hold no NUL."""
    text = "\0".join(part for pair in sorted(marks.items()) for part in pair)
    return base64.b85encode(zlib.compress(text.encode("utf-8", "surrogateescape"))).decode()


def _unpacked(text: str) -> dict[str, str]:
    parts = zlib.decompress(base64.b85decode(text)).decode("utf-8", "surrogateescape").split("\0")
    return dict(zip(parts[::2], parts[1::2], strict=True))
