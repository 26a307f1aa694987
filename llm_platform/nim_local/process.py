"""One embedded NIM per state folder and model: start it or join it, look at it, stop it."""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from llm_platform.errors import EndpointUnavailable, StorageError
from llm_platform.files import file_sha256
from llm_platform.nim_local.config import EmbeddedConfig
from llm_platform.nim_local.locking import exclusive, make_folder
from llm_platform.nim_local.registration import Announcement, is_served, read_announcement, server_folder

_ANSWER_SECONDS = 5.0
_STOP_SECONDS = 30.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class RunningNim:
    """A server that answers, and is what was asked for."""

    base_url: str
    pid: int
    model_id: str
    weights_sha256: str
    profile_id: str
    started: bool
    """Whether this call started it; false when it was already there."""
    token: str | None = field(default=None, repr=False)
    """What a request that loads or unloads an adapter has to carry."""


def connect(config: EmbeddedConfig, *, state: Path, start: bool = True, timeout_seconds: float = 60.0) -> RunningNim:
    """The server of this configuration, joined when it runs and started when it does not.

    The server is a session of its own: it outlives this process and ends by itself when nobody uses it. One that
    serves another configuration of the same model is replaced.

    Raises:
        EndpointUnavailable: it is not running and `start` is false, or it did not come up.
        LeaseHeld: other processes were starting one until the deadline.
        StorageError: the state folder cannot be written, or the weights are not there.
    """
    folder = make_folder(server_folder(state, config.model_id, config.dialect))
    deadline = time.monotonic() + timeout_seconds
    with exclusive(folder / "connect.lock", timeout_seconds=timeout_seconds):
        if (found := _verified(folder, config)) is not None:
            return _running(found, started=False)
        if not start:
            raise EndpointUnavailable(
                f"No embedded NIM for {config.model_id!r} runs in {str(folder)!r}. Start one with `nim up`."
            )
        _end(folder, reason="it serves another configuration")
        _check_weights(config)
        _start(config, state=state, folder=folder, deadline=deadline)
        if (found := _verified(folder, config)) is None:
            raise EndpointUnavailable(_failure(config, folder, "started but is not what was asked for"))
        return _running(found, started=True)


def status(config: EmbeddedConfig, *, state: Path) -> RunningNim | None:
    """The server of this configuration, or None when none runs."""
    found = _verified(server_folder(state, config.model_id, config.dialect), config)
    return None if found is None else _running(found, started=False)


def stop(config: EmbeddedConfig, *, state: Path) -> bool:
    """End the model's server after it has answered what it is computing; whether there was one.

    Raises:
        EndpointUnavailable: it did not end.
    """
    folder = server_folder(state, config.model_id, config.dialect)
    if not folder.exists():
        return False
    with exclusive(folder / "connect.lock", timeout_seconds=_STOP_SECONDS):
        return _end(folder, reason="it was asked to stop")


def _running(found: Announcement, *, started: bool) -> RunningNim:
    return RunningNim(
        base_url=found.base_url,
        pid=found.pid,
        model_id=found.model_id,
        weights_sha256=found.weights_sha256,
        profile_id=found.profile_id,
        started=started,
        token=found.token,
    )


def _verified(folder: Path, config: EmbeddedConfig) -> Announcement | None:
    """What is announced, when a living server holds the folder and answers with the expected identity."""
    announced = read_announcement(folder)
    if announced is None or not is_served(folder):
        return None
    if announced.peft_source != (str(config.peft_source) if config.peft_source else None):
        return None
    metadata = _get(announced.base_url, "/v1/metadata")
    if metadata is None or metadata.get("selectedModelProfileId") != config.profile:
        return None
    if f"sha256:{config.weights_sha256}" not in metadata.get("assetInfo", ()):
        return None
    return announced


def _get(base_url: str, path: str) -> dict[str, Any] | None:
    """The JSON object at a path; None when something else or nothing answers."""
    address = urlsplit(base_url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return body if response.status == 200 and isinstance(body, dict) else None


def _check_weights(config: EmbeddedConfig) -> None:
    if not config.weights.is_file():
        raise StorageError(
            f"Could not start the embedded NIM for {config.model_id!r}: no weights at {str(config.weights)!r}. "
            "Fetch them with `model fetch`."
        )
    if (found := file_sha256(config.weights)) != config.weights_sha256:
        raise StorageError(
            f"Could not start the embedded NIM for {config.model_id!r}: {str(config.weights)!r} has sha256 {found}, "
            f"expected {config.weights_sha256}. Fetch the weights again with `model fetch`."
        )


def _start(config: EmbeddedConfig, *, state: Path, folder: Path, deadline: float) -> None:
    """Start a detached server and wait until it says that it is ready.

    The pipe tells both: a line means ready, its end without one means that the process died.
    """
    readable, writable = os.pipe()
    package_root = str(Path(__file__).parents[2])
    search_path = os.pathsep.join(filter(None, (package_root, os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-P", "-m", "llm_platform.nim_local", "--detach", "--ready-fd", str(writable)]
    try:
        with (folder / "server.log").open("ab") as log:
            subprocess.run(
                [*command, "--state", str(state.absolute()), "--port", "0", "--config", config.model_dump_json()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(writable,),
                cwd=folder,
                env={**os.environ, "PYTHONPATH": search_path},
                check=False,
            )
        os.close(writable)
        writable = -1
        answered, _, _ = select.select([readable], [], [], max(0.0, deadline - time.monotonic()))
        if not answered:
            raise EndpointUnavailable(_failure(config, folder, "was not ready before the deadline"))
        if not os.read(readable, 64):
            raise EndpointUnavailable(_failure(config, folder, "ended while it started"))
    except OSError as error:
        raise StorageError(f"Could not start a server in {str(folder)!r}: {error}. Make it writable.") from error
    finally:
        os.close(readable)
        if writable >= 0:
            os.close(writable)


def _failure(config: EmbeddedConfig, folder: Path, what: str) -> str:
    log = folder / "server.log"
    return f"The embedded NIM for {config.model_id!r} {what}. Its log, {str(log)!r}, says why."


def _end(folder: Path, *, reason: str) -> bool:
    """End the folder's server, when one lives: kindly, then not; whether there was one."""
    announced = read_announcement(folder)
    if not is_served(folder):
        (folder / "endpoint.json").unlink(missing_ok=True)
        return False
    if announced is None:
        raise EndpointUnavailable(
            f"A server holds {str(folder)!r} without having announced itself; {reason}. Wait until it has loaded."
        )
    for number, patience in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, _ANSWER_SECONDS)):
        # The lock is held, and its holder wrote the pid after it took the lock: the pid is the server's.
        os.kill(announced.pid, number)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if not is_served(folder):
                (folder / "endpoint.json").unlink(missing_ok=True)
                return True
            time.sleep(_POLL_SECONDS)
    raise EndpointUnavailable(f"Process {announced.pid} still serves {str(folder)!r}; {reason}. End it by hand.")
