"""What the network did, in words of ours: those of a library may hold what a server said."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Literal

NetworkFailure = Literal["connect", "timeout", "reset"]

CERTIFICATE = "certificate not accepted"
_SYSTEM = re.compile(r"\(os error (\d+)\)")
_WORDS: dict[NetworkFailure, str] = {
    "connect": "no connection",
    "timeout": "no whole reply in time",
    "reset": "the connection ended before the reply was whole, or it was no HTTP reply",
}


def failure_of(causes: Sequence[str], *, timed_out: bool) -> tuple[NetworkFailure, str]:
    """In which phase a request of Rust's reqwest failed, and why.

    Args:
        causes: What the library says, outermost first. Of it only numbers of the system's errors are kept.
        timed_out: Whether the library calls it a timeout.
    """
    # The exception's class does not tell the phase: a hang-up before the reply is a ConnectError, too.
    if any("(Connect)" in cause for cause in causes):
        failure: NetworkFailure = "connect"
    else:
        failure = "timeout" if timed_out else "reset"
    if number := next((found[1] for cause in causes if (found := _SYSTEM.search(cause))), None):
        return failure, os.strerror(int(number))
    return failure, CERTIFICATE if any("certificate" in cause for cause in causes) else _WORDS[failure]


def too_long(max_bytes: int) -> str:
    """Why a reply was given up."""
    return f"the reply is longer than {max_bytes} bytes"
