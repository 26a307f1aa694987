"""How many connections this process may open: each is a file, and so is everything else that a run opens."""

from __future__ import annotations

import os
import resource
from contextlib import suppress

WANTED = 65_536
RESERVED = 160
"""For the lake's own files, the journal, and what else a process opens meanwhile."""


def connections_allowed() -> int:
    """Connections that may be open at once, at least one; raises the limit of this process as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
    if soft != resource.RLIM_INFINITY and soft < most:
        # Some systems forbid what they say is allowed.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    if soft == resource.RLIM_INFINITY:
        return WANTED
    return max(1, soft - _open_files() - RESERVED)


def _open_files() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return RESERVED
