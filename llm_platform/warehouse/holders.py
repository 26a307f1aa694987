"""Who holds a lease: a process, told apart from a later one with the same number, and its stored row."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

ALL_BUCKETS = -1
COLUMNS = "bucket, token, holder, host, node, pid, process_started, acquired_at, expires_at"


def process_started(pid: int) -> str | None:
    """When process `pid` of this machine started, in clock ticks since boot; None when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name in parentheses may hold spaces; start time is field 22, the 20th after it.
    after_name = stat.rpartition(")")[2].split()
    return None if after_name[0] in "ZX" else after_name[19]


@cache
def node() -> str:
    """The place in which process ids mean the same: boot and pid namespace; empty where that cannot be known."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


@dataclass(frozen=True)
class Holder:
    """A stored lease, and whose it is."""

    bucket: int
    token: int
    holder: str
    host: str
    node: str
    pid: int
    process_started: str
    acquired_at: float
    expires_at: float

    def is_live(self, now: float) -> bool:
        """Whether its holder may still be at work: not expired, and not seen to be dead."""
        if self.expires_at <= now:
            return False
        if not self.node or self.node != node():
            return True
        return process_started(self.pid) == self.process_started

    def describe(self) -> str:
        """Holder, host, process and time, for a message."""
        since = datetime.fromtimestamp(self.acquired_at, UTC).isoformat(timespec="seconds")
        return f"{self.holder!r} (process {self.pid} on {self.host}) since {since}"
