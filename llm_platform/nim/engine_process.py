"""An engine that is installed on this machine, as a process of its own that outlives the command that starts it.

The process holds a lock on a file as long as it lives, and so do its workers: the kernel frees it when the last of them
dies, however that happens. So a process number that was given to another program is never taken for the engine.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from llm_platform.errors import EndpointUnavailable, PodsFailed

LOG = "engine.log"
_STOP_SECONDS = 30.0
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_POLL_SECONDS = 0.05


def start(command: Sequence[str], folder: Path) -> int:
    """Start a program in a session of its own; its number. Its log and its lock are in `folder`.

    Raises:
        PodsFailed: it cannot be started.
    """
    lock = os.open(folder / "engine.lock", os.O_RDWR | os.O_CREAT, 0o600)
    log_file = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.set_inheritable(lock, True)
        streams = [
            (os.POSIX_SPAWN_DUP2, source, number) for source, number in ((nothing, 0), (log_file, 1), (log_file, 2))
        ]
        return os.posix_spawn(
            command[0],
            list(command),
            os.environ,
            file_actions=streams,
            setsid=True,
            # What this process ignores or holds back would be ignored there, too, and it could not be ended kindly.
            setsigdef=_ENDING,
            setsigmask=(),
        )
    except OSError as error:
        raise PodsFailed(f"{command[0]} cannot be started in {str(folder)!r}: {error.strerror}.") from error
    finally:
        for descriptor in (lock, log_file, nothing):
            os.close(descriptor)


def lives(folder: Path) -> bool:
    """Whether an engine that was started in a folder still runs."""
    path = folder / "engine.lock"
    if not path.exists():
        return False
    lock = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def stop(pid: int, folder: Path) -> bool:
    """End an engine and its workers, kindly, then not; whether it ran.

    Raises:
        EndpointUnavailable: it does not end.
    """
    if not lives(folder):
        return False
    for number, patience in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, _STOP_SECONDS)):
        # The lock is held, so a process of this session lives, and no other has its number.
        with contextlib.suppress(ProcessLookupError):  # only workers that left the session are there
            os.killpg(pid, number)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            _reap(pid)
            if not lives(folder):
                return True
            time.sleep(_POLL_SECONDS)
    raise EndpointUnavailable(f"Process {pid} does not end. End it by hand.")


def free_port() -> int:
    """A port of this machine for a program that is about to be started; the kernel gives it to nobody for a minute.

    It gives out no port on which a connection has just been closed, and whoever names one may listen on it.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()):
        # The end that closes first is the one that waits.
        listening.accept()[0].close()
        return int(listening.getsockname()[1])


def _reap(pid: int) -> None:
    """Take the status of a child that has ended, where it is ours: until then it counts as there."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
