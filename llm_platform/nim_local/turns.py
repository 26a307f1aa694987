"""Who may compute: as many as there are slots, and at any moment all with the same adapter.

llama.cpp computes only slots of one adapter together, always those of the first busy slot: a request for another
adapter waits until that slot is free, which under load is never (tried: given up after 80 s). So adapters take turns
here. While others wait, a turn admits a fixed number of requests, then drains; the next turn is of whoever has waited
longest. Where one adapter, or the base model alone, is asked for, there is nothing to wait for and this is a queue.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import count

# Requests of one turn, per slot: draining idles some slots for one answer, so at most about a quarter of the time.
_ROUNDS = 4


class Turns:
    """Admission in order of arrival, adapter by adapter. Used in one event loop."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._running = 0
        self._admitted = 0
        self._current: str | None = None
        self._arrivals = count()
        self._waiting: dict[str | None, deque[tuple[int, asyncio.Future[None]]]] = {}

    async def enter(self, adapter: str | None) -> None:
        """Wait for a place; every `enter` that returns needs one `leave`."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(adapter, deque()).append((next(self._arrivals), future))
        self._admit()
        try:
            await future
        except asyncio.CancelledError:
            if not future.cancelled():
                # It was admitted and cancelled before it could begin.
                self.leave()
            raise

    def leave(self) -> None:
        """Give the place back."""
        self._running -= 1
        self._admit()

    def _admit(self) -> None:
        while self._running < self._slots and (heads := self._heads()):
            if self._running == 0:
                self._current, self._admitted = min(heads, key=lambda adapter: heads[adapter]), 0
            arrival = heads.get(self._current)
            if arrival is None:
                return
            overtakes = arrival > min(heads.values())
            if overtakes and self._admitted >= _ROUNDS * self._slots:
                return
            self._admitted = self._admitted + 1 if len(heads) > 1 else 0
            self._running += 1
            self._waiting[self._current].popleft()[1].set_result(None)

    def _heads(self) -> dict[str | None, int]:
        """Adapter → arrival of its first request that still waits."""
        for adapter, queue in list(self._waiting.items()):
            while queue and queue[0][1].done():
                queue.popleft()
            if not queue:
                del self._waiting[adapter]
        return {adapter: queue[0][0] for adapter, queue in self._waiting.items()}
