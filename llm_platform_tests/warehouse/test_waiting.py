"""Whoever waits for a lock says so."""

from __future__ import annotations

import fcntl
import logging
import os
import queue
from pathlib import Path

import pytest

from llm_platform.errors import TransientError
from llm_platform.files import holder_of_lock, said_when_slow
from llm_platform.warehouse.coordination_sqlite import FileCoordinator


def test_a_writer_that_waits_says_for_whom(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A command stood still for 150 seconds without a word, and was taken for a hang."""
    catalog, logger, handler = tmp_path / "catalog.sqlite", logging.getLogger("llm_platform"), logging.Handler()
    with (tmp_path / "catalog.sqlite.lock").open("w") as lock, caplog.at_level(logging.WARNING):
        # Let go when it is said who holds it, and no sooner.
        handler.emit = lambda _: fcntl.flock(lock, fcntl.LOCK_UN)  # type: ignore[method-assign]
        logger.addHandler(handler)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with FileCoordinator(catalog, wait_seconds=60.0, said_after_seconds=0.05).write_lock("tickets"):
                waited = len(caplog.messages)
        finally:
            logger.removeHandler(handler)
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TransientError), FileCoordinator(catalog, wait_seconds=0.0).write_lock("tickets"):
            raise AssertionError("the lock is held")

    assert waited == len(caplog.messages) == 1
    assert str(catalog) in caplog.text
    assert f"process {os.getpid()} holds 'catalog.sqlite.lock'" in caplog.text


def test_the_holder_of_a_lock_is_named_where_it_can_be(tmp_path: Path) -> None:
    """What to stop, or to wait for."""
    path = tmp_path / "lock"
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert holder_of_lock(path) == f"process {os.getpid()}"

    assert holder_of_lock(path) == "another process"
    assert holder_of_lock(tmp_path / "absent") == "another process"


def test_what_does_not_take_long_is_not_mentioned() -> None:
    """Nearly every lock is free, and its wait nobody's business."""
    messages: queue.Queue[str] = queue.Queue()
    handler = logging.Handler()
    handler.emit = lambda record: messages.put(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("llm_platform.files")
    logger.addHandler(handler)
    try:
        with said_when_slow("nobody", after_seconds=60):
            pass
        with said_when_slow("somebody", after_seconds=0.01):
            first = messages.get(timeout=20)
    finally:
        logger.removeHandler(handler)

    assert first == "Waiting for somebody."
    assert messages.empty()
