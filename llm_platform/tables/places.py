"""Where files are that others write: one, a folder of them or a pattern, on this machine or in an object store."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from llm_platform.errors import PlatformError, SpecificationError, TransientError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

S3 = "s3://"
TO_NOTHING = 0
"""When a link to nothing was last written."""
LOG = re.compile(r"(?:^|/)(?:_delta_log/[0-9]+\.json|metadata/(?:version-hint\.text|[^/]*\.metadata\.json))$")
"""Files of a table of another kind, Delta's and Iceberg's: some of its data files may be deleted rows."""
MAGIC = re.compile(r"[*?\[]")
Store = Callable[[], "FileSystem"]
"""Opens the object store, when the first file in it is looked for."""


@dataclass(frozen=True)
class StoredFile:
    """One file that is there.

    Attributes:
        name: What messages call it: its path, or its URL.
        path: Where it is below the folder that was looked through, with `/`; the name alone where there is none.
        changed_ns: When it was last written.
    """

    name: str
    path: str
    size: int
    changed_ns: int
    open: Callable[[], IO[bytes]] = field(repr=False, compare=False)


@dataclass(frozen=True)
class FilePlace:
    """Files that are one table, or one document each.

    Attributes:
        name: The URL, in the form in which messages show it.
        many: Whether it is a folder or a pattern, and not one file.
        all_files: Every file there, those that have nothing to do with us included, by path.
        log: A file of the log of a table of another kind that was met on the way, whatever the pattern.
    """

    name: str
    many: bool
    all_files: tuple[StoredFile, ...]
    log: str | None = None

    def files(self, wanted: Callable[[str], bool]) -> list[StoredFile]:
        """Those files whose path is wanted.

        Raises:
            TransientError: there is none. A folder that was just emptied, or is not mounted, is not an empty table.
        """
        found = [file for file in self.all_files if wanted(file.path)] if self.many else list(self.all_files)
        if not found:
            others = f"; {len(self.all_files)} other files are there" if self.all_files else ""
            raise TransientError(
                f"Cannot read {self.name!r}: no file that can be read is there{others}. Nothing was taken over, since "
                "a place without files is not an empty table. Bring them back, or name another place."
            )
        return found


def is_place_of_many(url: str) -> bool:
    """Whether a URL is a folder on this machine, a prefix of an object store, or a pattern."""
    plain = url.removeprefix("file://")
    if "://" in plain:
        return plain.startswith(S3) and (plain.endswith("/") or MAGIC.search(plain) is not None)
    return Path(plain).is_dir() or (MAGIC.search(plain) is not None and not Path(plain).exists())


def look_into(url: str, store: Store | None = None) -> FilePlace:
    """The files that a URL means now.

    Args:
        url: `s3://…`, or an absolute path; of a file, of a folder (with all folders in it), or a pattern of `*`, `?`,
            `[…]` and `**` (any folders between).
        store: The object store; without it none is read.

    Raises:
        SpecificationError: it is neither on this machine nor in an object store.
        TransientError: it cannot be looked at now, or is not there.
    """
    plain = url.removeprefix("file://")
    try:
        if plain.startswith(S3):
            if store is None:
                raise SpecificationError(f"Cannot read {url!r}: no object store is read here. Copy it to this machine.")
            return _in_store(plain, store())
        if "://" in plain:
            raise SpecificationError(
                f"Cannot read {url!r}: files are read from this machine and from {S3}. Copy it there, or attach its "
                "store as a warehouse."
            )
        return _on_this_machine(plain)
    except OSError as error:
        raise unreadable(plain, error) from None


def unreadable(name: str, error: Exception) -> PlatformError:
    """What is said of a file that cannot be read now."""
    return TransientError(
        f"Cannot read the file {name!r}: {_reason(error)}. Nothing was taken over; check that it is there and "
        "readable, then run again."
    )


def _reason(error: Exception) -> str:
    # What Arrow says may quote a value of the file; what a store answers has a word for it.
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if said := re.search(r"AWS Error (?:UNKNOWN \(HTTP status (\d+)\)|([A-Z_]+))", str(error)):
        return f"the object store answers {said[1] or said[2]}"
    if isinstance(error, FileNotFoundError):
        return "No such file or directory"
    return f"it is damaged, or not of the kind that its name says ({type(error).__name__})"


def _on_this_machine(plain: str) -> FilePlace:
    path = Path(plain)
    if MAGIC.search(plain) and not path.exists():
        base, matches = _pattern(plain)
        if not Path(base).is_dir():
            raise FileNotFoundError(2, f"there is no folder {base!r}")
        return _many(plain, _walk(Path(base), "", set()), matches)
    if path.is_dir():
        return _many(plain, _walk(path, "", set()))
    if path.exists() and not path.is_file():
        # Whoever opens a pipe waits for its writer.
        raise SpecificationError(f"Cannot read {plain!r}: it is a pipe or a device. Write a file, and name that.")
    return FilePlace(plain, False, (_local(plain, path.name),))


def _many(name: str, files: Iterable[StoredFile], matches: Callable[[str], bool] = lambda _: True) -> FilePlace:
    found, log = [], None
    for file in files:
        if LOG.search(file.path):
            log = file.path
        if matches(file.path):
            found.append(file)
    return FilePlace(name, True, tuple(found), log)


def _walk(folder: Path, below: str, seen: set[tuple[int, int]]) -> Iterator[StoredFile]:
    """Files in a folder and in the folders in it, links followed once; what cannot be listed is an error."""
    stat = folder.stat()
    if (stat.st_dev, stat.st_ino) in seen:
        return
    seen.add((stat.st_dev, stat.st_ino))
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        path = f"{below}{entry.name}"
        if entry.is_dir():
            yield from _walk(Path(entry.path), f"{path}/", seen)
        elif entry.is_file() or (entry.is_symlink() and not entry.name.startswith(".")):
            yield _local(entry.path, path)


def _local(path: str, below: str) -> StoredFile:
    # Texts and not Paths: of twenty thousand files those take half of the time of a look.
    name, below = shown(path), shown(below)
    try:
        stat = os.stat(path)
    except OSError as error:
        if os.path.islink(path):
            return StoredFile(name, below, 0, TO_NOTHING, lambda: open(path, "rb"))
        raise unreadable(name, error) from None
    return StoredFile(name, below, stat.st_size, stat.st_mtime_ns, lambda: open(path, "rb"))


def shown(path: str) -> str:
    """A path as text: bytes that are no UTF-8, which names of files may hold, are written out."""
    return path if path.isascii() else path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _in_store(url: str, store: FileSystem) -> FilePlace:
    from pyarrow import fs

    path = url.removeprefix(S3)
    if MAGIC.search(path):
        base, matches = _pattern(path)
        listed = store.get_file_info(fs.FileSelector(base, recursive=True))
        return _many(url, _stored(store, listed, base), matches)
    folder = path.rstrip("/")
    if not folder:
        raise SpecificationError(f"Cannot read {url!r}: it names no bucket. Write s3://bucket/prefix/.")
    info = store.get_file_info(folder)
    if info.type == fs.FileType.File and folder == path:
        return FilePlace(url, False, tuple(_stored(store, [info], folder.rpartition("/")[0])))
    if info.type == fs.FileType.NotFound:
        raise FileNotFoundError(2, "No such file or prefix")
    listed = store.get_file_info(fs.FileSelector(folder, recursive=True))
    return _many(url, _stored(store, listed, folder))


def _stored(store: FileSystem, listed: list[object], base: str) -> Iterator[StoredFile]:
    from pyarrow import fs

    def opener(path: str) -> Callable[[], IO[bytes]]:
        return lambda: store.open_input_file(path)

    for info in sorted(listed, key=lambda one: one.path):  # type: ignore[attr-defined]
        if info.type == fs.FileType.File:  # type: ignore[attr-defined]
            path = str(info.path)  # type: ignore[attr-defined]
            below = path.removeprefix(f"{base}/")
            yield StoredFile(f"{S3}{path}", below, info.size, info.mtime_ns, opener(path))  # type: ignore[attr-defined]


def _pattern(plain: str) -> tuple[str, Callable[[str], bool]]:
    """(the folder above the first part with a sign in it, whether a path below it matches)."""
    parts = plain.split("/")
    first = next(number for number, part in enumerate(parts) if MAGIC.search(part))
    if first == 0 or (parts[0] and "." in parts[0] and first == 0):
        raise SpecificationError(f"Cannot read {plain!r}: a pattern needs a folder or a bucket before its first sign.")
    expression = "/".join(parts[first:])
    return "/".join(parts[:first]) or "/", _matcher(expression)


def _matcher(expression: str) -> Callable[[str], bool]:
    written, position = "", 0
    while position < len(expression):
        rest = expression[position:]
        if rest.startswith("**/"):
            written, position = written + "(?:.*/)?", position + 3
        elif rest.startswith("**"):
            written, position = written + ".*", position + 2
        elif rest[0] == "*":
            written, position = written + "[^/]*", position + 1
        elif rest[0] == "?":
            written, position = written + "[^/]", position + 1
        elif rest[0] == "[" and (end := rest.find("]", 2)) > 0:
            inside = rest[1:end].replace("\\", "\\\\")
            negated = inside.startswith("!")
            written += f"[{'^/' if negated else ''}{inside[1:] if negated else inside}]"
            position += end + 1
        else:
            written, position = written + re.escape(rest[0]), position + 1
    try:
        compiled = re.compile(written)
    except re.error as error:
        raise SpecificationError(f"Cannot read the pattern {expression!r}: {error}. Use *, ?, […] and **.") from error
    return lambda path: compiled.fullmatch(path) is not None
