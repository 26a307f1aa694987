"""How the threads of a run share a core with its event loop."""

from __future__ import annotations

import os
import threading


def step_aside() -> None:
    """Let other threads of the process go first where both want the core.

    Reading documents and storing answers comes in bursts of tens of milliseconds, and whatever is in flight would wait
    for them: on one core, 2 % of the requests a second.
    """
    thread = threading.get_native_id()
    niceness = os.getpriority(os.PRIO_PROCESS, thread)
    os.setpriority(os.PRIO_PROCESS, thread, min(niceness + 10, 19))
