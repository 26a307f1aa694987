"""What is being asked now: a small file for each process and release, for whoever looks from another process.

It holds numbers and the classes of what failed, never a text. It is gone when the run has ended; one that a killed
process left is known by its age.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import ValidationError

from llm_platform.errors import StorageError
from llm_platform.files import write_text
from llm_platform.inference.engine import Progress
from llm_platform.records import Prices
from llm_platform.records.base import Record

EVERY_SECONDS = 1.0
FORGOTTEN = timedelta(minutes=10)
"""Who has said nothing for so long is gone, or waits for something that its own log says."""


class Noted(Record):
    """A run of one release at one moment, as its process wrote it down.

    Attributes:
        expected_tokens, expected_usd: What was estimated before it began; None where nobody did.
    """

    release_id: str
    run_id: str
    host: str
    process: int
    at: datetime
    done: int
    total: int | None
    tokens_per_second: float
    seconds_left: float | None
    tokens: int
    cost_usd: float | None
    expected_tokens: int | None = None
    expected_usd: float | None = None
    failed: dict[str, int]
    retries: dict[str, int]


@contextmanager
def noted(
    folder: Path | None,
    *,
    application: str,
    release_id: str,
    run_id: str,
    prices: Prices,
    expected: tuple[int, float | None] | None,
    also: Callable[[Progress], None] | None,
) -> Iterator[Callable[[Progress], None] | None]:
    """What to call with the progress of a run: it writes the file, at most once a second, and calls `also`.

    Args:
        folder: Where files of all applications are; None writes none.
        expected: Tokens and money that were estimated before.
    """
    if folder is None:
        yield also
        return
    path = folder / application / f"{release_id}-{os.getpid()}.json"
    written = 0.0

    def note(progress: Progress) -> None:
        nonlocal written
        if also is not None:
            also(progress)
        if time.monotonic() - written < EVERY_SECONDS:
            return
        written = time.monotonic()
        now = Noted(
            release_id=release_id,
            run_id=run_id,
            host=socket.gethostname(),
            process=os.getpid(),
            at=datetime.now(UTC),
            done=progress.done,
            total=progress.total,
            tokens_per_second=progress.tokens_per_second,
            seconds_left=progress.seconds_left,
            tokens=progress.usage.total,
            cost_usd=prices.cost_usd(progress.seconds, progress.usage) if prices.are_known else None,
            expected_tokens=expected[0] if expected is not None else None,
            expected_usd=expected[1] if expected is not None else None,
            failed=progress.failed,
            retries=progress.retries,
        )
        # A page that cannot be told is no reason to stop asking.
        with suppress(StorageError):
            write_text(path, now.model_dump_json())

    try:
        yield note
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def under_way(folder: Path, application: str, *, now: datetime) -> list[Noted]:
    """Runs of an application that are being asked now, by release; those of processes that are gone are left out."""
    found = []
    for path in sorted((folder / application).glob("*.json")):
        try:
            one = Noted.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValidationError):
            continue  # it has just ended, or another version wrote it
        if now - one.at <= FORGOTTEN and not _is_gone(one):
            found.append(one)
    return found


def _is_gone(one: Noted) -> bool:
    if one.host != socket.gethostname():
        return False
    try:
        os.kill(one.process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
