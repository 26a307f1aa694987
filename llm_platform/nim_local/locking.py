"""Locks between processes and files that appear whole."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llm_platform.errors import LeaseHeld, StorageError
from llm_platform.files import said_when_slow

_POLL_SECONDS = 0.05


def make_folder(folder: Path) -> Path:
    """The folder, made if it was missing.

    Raises:
        StorageError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"Could not make folder {str(folder)!r}: {error.strerror}. Make it writable, or name another state folder."
        ) from error
    return folder


def try_lock(path: Path) -> int | None:
    """A file descriptor that holds the lock until it is closed, or None when another process holds it.

    Raises:
        StorageError: the lock file cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(
            f"Could not open lock file {str(path)!r}: {error.strerror}. Make its folder writable, or name another."
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def wait_lock(path: Path, *, timeout_seconds: float) -> int | None:
    """Like `try_lock`, asked until the deadline."""
    deadline = time.monotonic() + timeout_seconds
    with said_when_slow(f"another process, which holds {path}"):
        return _asked_until(path, deadline)


def _asked_until(path: Path, deadline: float) -> int | None:
    while (descriptor := try_lock(path)) is None and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return descriptor


@contextmanager
def exclusive(path: Path, *, timeout_seconds: float) -> Iterator[None]:
    """Hold the lock file for the length of a `with` block; the kernel releases it when a process dies.

    Raises:
        LeaseHeld: another process held it until the deadline.
        StorageError: the lock file cannot be opened.
    """
    descriptor = wait_lock(path, timeout_seconds=timeout_seconds)
    if descriptor is None:
        raise LeaseHeld(
            f"Lock {str(path)!r} was still held by another process after {timeout_seconds:g} s. "
            "Wait for that process, or end it."
        )
    try:
        yield
    finally:
        os.close(descriptor)
