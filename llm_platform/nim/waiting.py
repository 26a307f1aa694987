"""Waiting with an end: looks again and again, says what it sees, and names the last state at the deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from llm_platform.errors import EndpointUnavailable

T = TypeVar("T")


def _say_nothing(_: str) -> None:
    """Nobody listens."""


@dataclass
class Waiting:
    """How long something is waited for, and who is told about it.

    Attributes:
        what: That is waited for, for messages.
        deadline_seconds: From when this was made.
        stuck_seconds: How long a state may last that waiting rarely ends.
        report: Told once for each new state.
    """

    what: str
    deadline_seconds: float
    stuck_seconds: float = 60.0
    poll_seconds: float = 2.0
    report: Callable[[str], None] = _say_nothing
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _started: float = field(init=False)
    _last: str = field(init=False, default="")
    _stuck_at: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._started = self.clock()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return self.clock() - self._started

    def pause(self, state: str) -> None:
        """Wait until the next look.

        Raises:
            EndpointUnavailable: the deadline has passed; names the last state.
        """
        if state != self._last:
            self.report(f"{state} ({self.seconds:.0f} s)")
        self._last = state
        if self.seconds >= self.deadline_seconds:
            raise EndpointUnavailable(
                f"{self.what} is not up after {self.deadline_seconds:g} s. Last state: {state}. "
                "If that only takes longer, try again with --deadline-minutes."
            )
        self.sleep(self.poll_seconds)

    def is_stuck(self, *, stuck: bool) -> bool:
        """Whether a state that waiting rarely ends has lasted too long; told of every look."""
        if not stuck:
            self._stuck_at = None
            return False
        self._stuck_at = self.seconds if self._stuck_at is None else self._stuck_at
        return self.seconds - self._stuck_at > self.stuck_seconds

    def until(self, attempt: Callable[[], T]) -> T:
        """What an attempt returns, once it finds its endpoint available."""
        while True:
            try:
                return attempt()
            except EndpointUnavailable as error:
                self.pause(str(error))
