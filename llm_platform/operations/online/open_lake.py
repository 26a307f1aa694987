"""The lake of a process that goes on while it is away."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

from llm_platform.warehouse.lake import Warehouse

Opening = Callable[[], AbstractContextManager[Warehouse]]
SETTLES_SECONDS = 60.0
"""What was begun on a lake that is given up has this long to end."""


class OpenLake:
    """A lake that is opened when it is first asked for, and again once it is given up.

    Attributes:
        generation: Another number for every opening; what was made of an earlier one has to be made again.
    """

    def __init__(self, opening: Opening) -> None:
        self.generation = 0
        self._opening = opening
        self._lock, self._turn = threading.Lock(), threading.RLock()
        self._open: tuple[Warehouse, ExitStack] | None = None
        self._given_up: list[tuple[float, ExitStack]] = []

    def lake(self) -> Warehouse:
        """The lake.

        Raises:
            PlatformError: it cannot be opened.
        """
        with self._lock:
            if self._open is None:
                stack = ExitStack()
                self._open = stack.enter_context(self._opening()), stack
                self.generation += 1
            return self._open[0]

    @contextmanager
    def turn(self) -> Iterator[Warehouse]:
        """The lake, which no other thread uses meanwhile where its catalog is a file.

        DuckDB's SQLite is built without a clock finer than seconds: whoever finds a lock held, for however short a
        time, waits for a whole one, and so do those that wait for it.

        Raises:
            PlatformError: it cannot be opened.
        """
        lake = self.lake()
        with self._turn if lake.location.kind == "sqlite" else nullcontext():
            yield lake

    def give_up(self) -> None:
        """Open it anew the next time: connections to a server that was away may not come back."""
        with self._lock:
            if self._open is not None:
                self._given_up.append((time.monotonic(), self._open[1]))
                self._open = None
            old = [one for one in self._given_up if time.monotonic() - one[0] > SETTLES_SECONDS]
            self._given_up = [one for one in self._given_up if one not in old]
        for _, stack in old:
            _close(stack)

    def close(self) -> None:
        """Close it."""
        with self._lock:
            stacks = [stack for _, stack in self._given_up] + ([self._open[1]] if self._open else [])
            self._open, self._given_up = None, []
        for stack in stacks:
            _close(stack)


def _close(stack: ExitStack) -> None:
    # A lake that is away says so when it is closed, too.
    with contextlib.suppress(Exception):
        stack.close()
