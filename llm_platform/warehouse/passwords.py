"""Passwords of databases, in files: `password_file=<path>` in a connection string, as a mounted Secret is.

libpq knows `passfile` only, in a form of its own, and passes over one that a group may read without a word: what a
Secret volume is in every pod that does not run as root. So its password goes into a file of this process alone, as
libpq wants it, and no statement, error or table ever holds it.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
import threading
from pathlib import Path
from urllib.parse import quote, unquote

from llm_platform.errors import StorageError

WORD = "password_file"
_PAIR = re.compile(r"(?<![\w.])password_file\s*=\s*(?:'((?:[^'\\]|\\.)*)'|(\S+))")
_IN_ADDRESS = re.compile(r"([?&])password_file=([^&]*)(&?)")


def with_password_file(dsn: str, file: Path) -> str:
    """A connection string that says where its password is."""
    if "://" in dsn:
        return f"{dsn}{'&' if '?' in dsn else '?'}{WORD}={quote(str(file))}"
    escaped = str(file).replace("\\", "\\\\").replace("'", "\\'")
    return f"{dsn} {WORD}='{escaped}'"


def without_password_file(dsn: str) -> tuple[str, Path | None]:
    """A connection string as libpq reads it, and the file that it named."""
    if "://" in dsn:
        found = _IN_ADDRESS.search(dsn)
        if found is None:
            return dsn, None
        return _IN_ADDRESS.sub(lambda one: one[1] if one[3] else "", dsn, count=1), Path(unquote(found[2]))
    found = _PAIR.search(dsn)
    if found is None:
        return dsn, None
    named = found[2] if found[1] is None else re.sub(r"\\(.)", r"\1", found[1])
    return _PAIR.sub("", dsn, count=1).strip(), Path(named)


def read_password(file: Path) -> str:
    """The password in a file, without the line's end that every second Secret has.

    Raises:
        StorageError: it cannot be read, or is empty.
    """
    try:
        password = file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise StorageError(
            f"Cannot read the password file {str(file)!r}: {why}. Mount it, readable for this user or its group."
        ) from None
    if not password or "\n" in password or "\0" in password:
        raise StorageError(f"The password file {str(file)!r} holds no password: it is empty, or has several lines.")
    return password


def resolved(dsn: str) -> str:
    """A connection string for libpq: the password of its file in a private one, written anew when it has changed.

    Raises:
        StorageError: the file holds none, or libpq would take another one.
    """
    plain, file = without_password_file(dsn)
    if file is None:
        return dsn
    password = read_password(file)
    if os.environ.get("PGPASSWORD", password) != password:
        raise StorageError(
            f"PGPASSWORD is set here, and libpq takes it instead of the password in {str(file)!r}. Unset it; what "
            "needs another one gets a file of its own."
        )
    private = _PRIVATE.file_with(password)
    return (
        f"{plain}{'&' if '?' in plain else '?'}passfile={quote(private)}"
        if "://" in plain
        else (f"{plain} passfile='{private}'")
    )


class _PrivateFiles:
    """Password → a file of libpq's form, in a folder that only this process's user may enter; gone when it ends."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._owner: int | None = None
        self._folder = Path()
        self._files: dict[str, str] = {}

    def file_with(self, password: str) -> str:
        with self._guard:
            if self._owner != os.getpid():  # a fork must not remove its parent's
                self._folder, self._files, self._owner = Path(tempfile.mkdtemp(prefix=".passwords-")), {}, os.getpid()
                atexit.register(self._remove, os.getpid())
            if password not in self._files:
                path = self._folder / str(len(self._files))
                escaped = password.replace("\\", "\\\\").replace(":", "\\:")
                with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
                    stream.write(f"*:*:*:*:{escaped}\n")
                self._files[password] = str(path)
            return self._files[password]

    def _remove(self, owner: int) -> None:
        if owner == os.getpid():
            shutil.rmtree(self._folder, ignore_errors=True)


_PRIVATE = _PrivateFiles()
