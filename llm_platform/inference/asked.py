"""Which texts a release is being asked about now, by whichever process: so that a service and a run do not both pay.

A file beside the journals, of a fixed size, with a place for each text by its hash. Where a group of places is full,
the text whose time ends first loses its own: then it may be paid for twice, which is all that can happen.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from llm_platform.errors import StorageError

_GROUPS, _PLACES = 2**14, 8
_PLACE = struct.Struct("<QQd")
"""Text, holder, and until when, in seconds since the epoch."""
_GROUP_BYTES = _PLACES * _PLACE.size
# Linux's struct flock on 64 bits. A lock of an open file, behind the end of the file: it ends with its process.
_LOCK = struct.Struct("hhxxxxqqixxxx")
_HOLDERS_BEGIN = 2**32


class AskedTexts:
    """The texts of one release that processes are asking about.

    Args:
        path: The file that these processes share; made when missing.
        holder: Names this process among them.
        clock: Seconds since the epoch.

    Raises:
        StorageError: the file cannot be opened.
    """

    def __init__(self, path: Path, holder: str, *, clock: Callable[[], float] = time.time) -> None:
        self._path, self._holder, self._clock = path, _number(holder) >> 2, clock
        # Whoever is late in another thread must not write into a file that has got the same number since.
        self._using, self._is_closed = threading.Lock(), False
        with self._noting():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, _alive(self._holder))

    def close(self) -> None:
        """Ask about nothing more."""
        with self._using:
            if not self._is_closed:
                os.close(self._file)
            self._is_closed = True

    def take(self, fingerprints: Collection[str], *, seconds: float) -> set[str]:
        """Note texts that this process asks about from now on, for so long; some five microseconds each.

        Returns:
            Those that another process asks about, which are not noted. Of one that has ended, each is told once: its
            answer may be stored since whoever asks now has looked.

        Raises:
            StorageError: they cannot be noted.
        """
        with self._using, self._noting():
            if self._is_closed:
                return set()
            # One lock for all of them: it takes longer than a text does.
            with self._locked():
                now = self._clock()
                return {text for text in fingerprints if not self._is_taken(_number(text), now, seconds)}

    def _is_taken(self, text: int, now: float, seconds: float) -> bool:
        at = text % _GROUPS * _GROUP_BYTES
        found = os.pread(self._file, _GROUP_BYTES, at).ljust(_GROUP_BYTES, b"\0")
        places = list(_PLACE.iter_unpack(found))
        index = next((index for index, place in enumerate(places) if place[0] == text), None)
        if index is None:
            index = min(range(_PLACES), key=lambda one: places[one][2])
        _, holder, until = places[index]
        is_anothers = places[index][0] == text and until > now and holder != self._holder
        if not is_anothers:
            self._write(at, index, (text, self._holder, now + seconds))
        elif not self._lives(holder):
            self._write(at, index, (text, holder, 0.0))
        return not is_anothers

    def _write(self, at: int, index: int, place: tuple[int, int, float]) -> None:
        os.pwrite(self._file, _PLACE.pack(*place), at + index * _PLACE.size)

    def _lives(self, holder: int) -> bool:
        found = fcntl.fcntl(self._file, fcntl.F_OFD_GETLK, _alive(holder))
        return bool(_LOCK.unpack(found)[0] != fcntl.F_UNLCK)

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"Cannot note in {self._path} which texts are being asked about: {error.strerror}. Free some space, or "
                "mend the state folder."
            ) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)


def _alive(holder: int) -> bytes:
    return _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _HOLDERS_BEGIN + holder, 1, 0)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
