"""SIGTERM and SIGINT belong to the main thread.

llama.cpp installs handlers of its own for them whenever an engine is loaded, and those end the process at once. While
that happens the main thread blocks the signals, and no other thread may take them instead.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGINT)


def leave_signals_alone() -> None:
    """Called first thing in every other thread; threads that it starts inherit it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)


@contextmanager
def handlers_kept(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Hold the signals back for the length of a `with` block in the main thread, then handle them with `handler`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        for number in ENDING:
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
