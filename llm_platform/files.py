"""Files that appear whole or not at all, and who may read them.

What the platform keeps holds documents and answers, so it is its user's alone: folders 0700, files 0600, whatever the
umask. What it writes for a person into a checkout has the rights that the person's own files have.

Also folders that are marked as ours, and the note of a namespace that reads another one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from llm_platform.errors import SpecificationError, StorageError

MARKER = ".llm_platform"
BRANCH_NOTE = "branch.json"
"""What `branch up` leaves in the folder of a namespace: which one it reads."""


def claim(folder: Path) -> None:
    """Make a folder if there is none, and mark one that is new or empty as ours, so that it may be deleted.

    Raises:
        StorageError: it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        empty = next(folder.iterdir(), None) is None
    except OSError as error:
        raise StorageError(
            f"Cannot make {folder}: {error.strerror}. Fix its permissions, or name another folder in "
            "LLM_PLATFORM_STATE."
        ) from error
    if empty:
        write_text(folder / MARKER, "State of llm_platform. `llm-platform state reset` may delete this folder.\n")


def strangers(folder: Path, known: Collection[str]) -> list[str]:
    """Names in a folder that are none of the platform's: people put files into folders that `claim` has marked, too."""
    patterns = (MARKER, *known)
    return sorted(one.name for one in folder.iterdir() if not any(fnmatch(one.name, pattern) for pattern in patterns))


def is_ours(folder: Path, sign: str) -> bool:
    """Whether `claim` marked a folder; one from before there was a mark is known by a folder that is in each."""
    return (folder / MARKER).is_file() or (folder / sign).is_dir()


def noted_upstream(namespace_folder: Path) -> str | None:
    """The namespace that `branch up` wrote down in a folder; None where it did not.

    Raises:
        SpecificationError: the note cannot be read, so nothing tells what this namespace stands on.
    """
    note = namespace_folder / BRANCH_NOTE
    if not note.is_file():
        return None
    try:
        found = json.loads(note.read_text(encoding="utf-8"))["upstream"]
    except (OSError, ValueError, TypeError, KeyError):
        found = None
    if not isinstance(found, str) or not found:
        raise SpecificationError(
            f"{note} says which namespace {namespace_folder.name!r} reads, and cannot be read: it is torn, or no JSON "
            f"with an 'upstream'. Write it anew: llm-platform branch up {namespace_folder.name} --from NAMESPACE; or "
            f"delete the branch: llm-platform branch down {namespace_folder.name}"
        )
    return found


PRIVATE_UMASK = 0o077
SAID_AFTER_SECONDS = 3.0

log = logging.getLogger(__name__)


class _Umask:
    """What the umask was before `keep_to_owner`."""

    ordinary: int | None = None


def keep_to_owner() -> None:
    """From now on nobody else may read what this process and its children make."""
    before = os.umask(PRIVATE_UMASK)
    if _Umask.ordinary is None:
        _Umask.ordinary = before


def close_to_others(folder: Path) -> None:
    """Take the rights of others from a folder of ours and everything in it; one that was closed already is not read.

    A folder that belongs to somebody else, such as a mounted volume, stays as it is: its owner decides.
    """
    try:
        found = folder.stat()
    except OSError:
        return
    if not stat.S_IMODE(found.st_mode) & PRIVATE_UMASK or found.st_uid != os.geteuid():
        return
    # First of all the folder itself: then nobody reaches what is not closed yet.
    folder.chmod(0o700)
    for path in folder.rglob("*"):
        try:
            if not path.is_symlink():
                path.chmod(stat.S_IMODE(path.stat().st_mode) & ~PRIVATE_UMASK)
        except OSError:
            continue  # gone, or not ours


def write_text(path: Path, text: str, *, shared: bool = False) -> Path:
    """Write a file aside and rename it: a reader, or a power cut, sees the old file or the whole new one.

    Only its owner may read it, unless it is `shared`: a file that a person keeps beside other ones.

    Raises:
        StorageError: the file or its folder cannot be written; what was there before is as it was.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(aside, flags, 0o600), "w", encoding="utf-8") as stream:
            if shared:
                share(aside)
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


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex.

    Raises:
        OSError: it cannot be read; what to do is its reader's to say.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; what goes away meanwhile, or may not be read, counts nothing."""
    total = 0
    for one in (path, *path.rglob("*")) if path.is_dir() else (path,):
        with suppress(OSError):
            found = one.lstat()
            total += found.st_size if stat.S_ISREG(found.st_mode) else 0
    return total


def share(path: Path) -> None:
    """Give a file or a folder the rights that one of the person who started this process has."""
    ordinary = _Umask.ordinary
    if ordinary is None:
        ordinary = os.umask(0)
        os.umask(ordinary)
    path.chmod((0o777 if path.is_dir() else 0o666) & ~ordinary)


@dataclass(frozen=True)
class Disk:
    """What a file is on.

    Attributes:
        kind: Of the file system, as the kernel calls it.
        is_encrypted: By dm-crypt below it, by a file system that encrypts, or since it is in memory.
    """

    kind: str
    is_encrypted: bool


IN_MEMORY = frozenset({"tmpfs", "ramfs"})
ENCRYPTING = frozenset({"ecryptfs", "fuse.gocryptfs", "fuse.encfs", "fuse.cryfs"})


def disk_of(path: Path) -> Disk:
    """What a file is on, or would be; of a file system that cannot be looked below, that it is not encrypted."""
    there = next(one for one in (path.absolute(), *path.absolute().parents) if one.exists()).resolve()
    mounted: list[tuple[str, str, str]] = []
    with suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
            fields, _, rest = line.partition(" - ")
            number, point = fields.split()[2], fields.split()[4].encode().decode("unicode_escape")
            mounted.append((point, rest.split()[0], number))
    inside = [one for one in mounted if there.is_relative_to(one[0])]
    if not inside:
        return Disk("an unknown file system", is_encrypted=False)
    # The last one lies over those before it.
    _, kind, number = max(enumerate(inside), key=lambda one: (len(one[1][0]), one[0]))[1]
    encrypted = kind in IN_MEMORY | ENCRYPTING or _is_below_dm_crypt(Path("/sys/dev/block") / number)
    return Disk(kind, encrypted)


def _is_below_dm_crypt(device: Path) -> bool:
    """Whether a block device is a mapping of dm-crypt, or all that it is made of are."""
    with suppress(OSError):
        if (device / "dm" / "uuid").read_text(encoding="ascii").startswith("CRYPT-"):
            return True
    # A partition is in the folder of its disk.
    with suppress(OSError):
        parts = list((device / "slaves").iterdir())
        return bool(parts) and all(_is_below_dm_crypt(one) for one in parts)
    return False


@contextmanager
def said_when_slow(what: str, *, after_seconds: float = SAID_AFTER_SECONDS) -> Iterator[None]:
    """Say what is waited for when the block takes long: a program that stands still tells nobody why."""
    timer = threading.Timer(after_seconds, log.warning, ("Waiting for %s.", what))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def holder_of_lock(path: Path) -> str:
    """Which process of this machine holds a lock file, in words."""
    try:
        inode = path.stat().st_ino
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    except OSError:
        return "another process"
    found = {fields[-4] for fields in locks if fields[1] != "->" and fields[-3].rpartition(":")[2] == str(inode)}
    return f"process {', '.join(sorted(found))}" if found else "another process"
