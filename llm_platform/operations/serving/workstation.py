"""A model of the lock file on this machine's own GPUs: a NIM's container, or an installed vLLM.

It is started by a command, never by a run. What runs stands in a file of the state folder, so that runs find it, and so
that only what was started here is ever ended.
"""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import ValidationError

from llm_platform.errors import EndpointMismatch, EndpointUnavailable, PlatformError, PodsFailed, SpecificationError
from llm_platform.files import write_text
from llm_platform.models.entries import LockEntry
from llm_platform.nim import engine_process
from llm_platform.nim.containers import ContainerEngine, LocalModel, own_user, run_command, vllm_command
from llm_platform.nim.discovery import probe
from llm_platform.nim.http import EndpointClient
from llm_platform.nim.plain_words import keep_log
from llm_platform.nim.waiting import Waiting
from llm_platform.nim_local.locking import exclusive, make_folder
from llm_platform.operations.serving.serving import Serving
from llm_platform.records import Record

_GLANCE_SECONDS = 1.0


class LocalRun(Record):
    """A model that was started on this machine.

    Attributes:
        program: docker or podman, or vLLM itself.
        handle: Id of the container, or number of the process.
        pinned: The build that was started, as the lock entry had it.
    """

    entry: str
    kind: Literal["container", "process"]
    program: str
    handle: str
    base_url: str
    pinned: str
    started_at: datetime


def local_folder(state: Path, name: str) -> Path:
    """Where the file, the log and the locks of a local model are."""
    return state / "local_models" / re.sub(r"[^A-Za-z0-9._-]+", "--", name)


def read_run(state: Path, name: str) -> LocalRun | None:
    """What was started here for a lock entry; None when nothing was."""
    try:
        return LocalRun.model_validate_json((local_folder(state, name) / "run.json").read_bytes())
    except (OSError, ValidationError):
        return None


def local_urls(entry: LockEntry, state: Path) -> tuple[str, ...]:
    """Root of the endpoint that was started here for an entry; empty when none was.

    Raises:
        EndpointMismatch: it is another build than the lock file pins now.
        EndpointUnavailable: it was started, and does not run any more.
    """
    run = read_run(state, entry.name)
    if run is None:
        return ()
    if run.pinned != pinned(entry):
        raise EndpointMismatch(
            f"{entry.name!r} runs on this machine as {run.pinned}, and the lock file pins {pinned(entry)}. "
            f"Start what is pinned: llm-platform nim down {entry.name} --local, then up."
        )
    if not listens(run.base_url):
        raise EndpointUnavailable(
            f"{entry.name!r} was started on this machine and does not answer at {run.base_url} any more. "
            f"Start it again: llm-platform nim up {entry.name} --local. "
            f"To use its other endpoints instead: llm-platform nim down {entry.name} --local."
        )
    return (run.base_url,)


def pinned(entry: LockEntry) -> str:
    """What a local run of an entry must have been started from."""
    if entry.image is not None:
        return f"{entry.image.repository}@{entry.image.digest}"
    return f"{entry.model}@{entry.revision or 'newest'}"


def local_model(entry: LockEntry, serving: Serving) -> LocalModel:
    """An entry as an engine on this machine needs to know it."""
    adapters = None
    if serving.peft_source is not None:
        adapters = (serving.peft_source, str(serving.peft_mount or serving.peft_source))
    return LocalModel(
        name=entry.name,
        dialect=entry.dialect,
        served_name=entry.served_name,
        model=entry.model,
        revision=entry.revision,
        context_length=entry.context_length,
        cache=serving.state / "nim_cache" / local_folder(serving.state, entry.name).name,
        image=f"{entry.image.repository}@{entry.image.digest}" if entry.image else None,
        profile=entry.profile,
        gpus=entry.parallelism.tensor * entry.parallelism.pipeline,
        adapters=adapters,
    )


def start_locally(entry: LockEntry, serving: Serving, waiting: Waiting, *, verify: Callable[[str], None]) -> LocalRun:
    """Start a model on this machine, or join it, and wait until it has generated a token.

    What was started is ended again when it does not come up, or when this is interrupted.

    Args:
        entry: What to serve.
        serving: Where state is kept, and adapters.
        waiting: For how long, and who is told.
        verify: Holds the endpoint against the lock file.

    Raises:
        SpecificationError: the entry or the machine has nothing to start.
        PodsFailed: it does not come up; says where its log is.
        EndpointUnavailable: not before the deadline.
        LeaseHeld: somebody else was starting it until the deadline.
    """
    model = local_model(entry, serving)
    folder = make_folder(local_folder(serving.state, entry.name))
    with exclusive(folder / "up.lock", timeout_seconds=waiting.deadline_seconds):
        found = read_run(serving.state, entry.name)
        if found is not None and alive(found, folder):
            local_urls(entry, serving.state)  # refuses another build
            waiting.until(lambda: _generates(found, folder, entry, verify))
            return found
        _forget(found, folder)
        started: LocalRun | None = None
        try:
            started = _start(entry, model, folder, waiting, program_for(model))
            write_text(folder / "run.json", started.model_dump_json(indent=2) + "\n")
            waiting.until(lambda: _generates(started, folder, entry, verify))
        except PlatformError as error:
            raise type(error)(f"{error}{_taken_back(started, folder)}") from error
        except BaseException:
            _taken_back(started, folder)
            raise
        return started


def stop_locally(entry: LockEntry, state: Path) -> bool:
    """End what was started on this machine for an entry; whether it ran."""
    folder = local_folder(state, entry.name)
    if not folder.exists():
        return False
    with exclusive(folder / "up.lock", timeout_seconds=_GLANCE_SECONDS):
        return _forget(read_run(state, entry.name), folder)


def alive(run: LocalRun, folder: Path) -> bool:
    """Whether what was started still runs."""
    if run.kind == "process":
        return engine_process.lives(folder)
    return ContainerEngine(run.program).state(run.handle) == "running"


def program_for(model: LocalModel) -> str:
    """What starts a model on this machine.

    Raises:
        SpecificationError: there is nothing.
    """
    if model.image is None:
        if model.dialect == "vllm" and (vllm := shutil.which("vllm")) is not None:
            return vllm
        raise SpecificationError(
            f"{model.name!r} pins no image, and "
            + ("there is no program `vllm` on this machine's path" if model.dialect == "vllm" else "is no bare vLLM")
            + ". Give its lock entry an image by digest, or dialect 'vllm' and install vLLM."
        )
    for name in ("docker", "podman"):
        if (found := shutil.which(name)) is not None:
            return found
    raise SpecificationError(
        f"{model.name!r} is a container image, and there is neither `docker` nor `podman` on this machine's path. "
        "Install one, with the NVIDIA Container Toolkit."
    )


def _start(entry: LockEntry, model: LocalModel, folder: Path, waiting: Waiting, program: str) -> LocalRun:
    make_folder(model.cache)
    if model.image is None:
        port = engine_process.free_port()
        handle = str(engine_process.start(vllm_command(program, model, port), folder))
        base_url = f"http://127.0.0.1:{port}"
    else:
        engine = ContainerEngine(program)
        waiting.report(f"pulling {model.image}")
        engine.pull(model.image, seconds=max(1.0, waiting.deadline_seconds - waiting.seconds))
        labels = {"llm-platform/entry": entry.name, "llm-platform/state": str(folder.parent.parent)}
        cid_file = _cid_file(folder)
        handle = engine.start(run_command(program, model, cid_file=cid_file, labels=labels, user=own_user()))
        base_url = engine.address(handle)
    return LocalRun(
        entry=entry.name,
        kind="process" if model.image is None else "container",
        program=program,
        handle=handle,
        base_url=base_url,
        pinned=pinned(entry),
        started_at=datetime.now(UTC),
    )


def _generates(run: LocalRun, folder: Path, entry: LockEntry, verify: Callable[[str], None]) -> None:
    """Ask for one token; an engine that has ended is not asked again."""
    if run.kind == "process":
        ended = "" if engine_process.lives(folder) else "it has ended"
    else:
        state = ContainerEngine(run.program).state(run.handle)
        ended = "" if state == "running" else state or "its container is gone"
    if ended:
        raise PodsFailed(f"{entry.name!r} does not come up on this machine: {ended}.")
    with EndpointClient() as client:
        probe(run.base_url, entry.served_name, client)
    verify(run.base_url)


def _taken_back(run: LocalRun | None, folder: Path) -> str:
    """End what does not come up; where its log is, in words."""
    where = ""
    try:
        if run is not None:
            where = _kept_log(run, folder)
        _forget(run, folder)
    except PlatformError as error:
        return f"\nWhat was started could not be ended: {error}"
    return f"\nIt was ended. {where}" if where else ""


def _kept_log(run: LocalRun, folder: Path) -> str:
    path = folder / engine_process.LOG
    if run.kind == "process":
        return f"Its log is {str(path)!r}."
    return keep_log(path, ContainerEngine(run.program).log(run.handle))


def _forget(run: LocalRun | None, folder: Path) -> bool:
    """End what was started in a folder, and its file; whether it ran."""
    ran = False
    cid_file = folder / "container.id"
    if run is not None and run.kind == "process":
        ran = engine_process.stop(int(run.handle), folder)
    elif run is not None:
        ran = ContainerEngine(run.program).remove(run.handle)
    elif cid_file.is_file() and (left := cid_file.read_text(encoding="utf-8").strip()):
        # Killed between starting a container and writing down that it had.
        program = next(filter(None, map(shutil.which, ("docker", "podman"))), None)
        ran = bool(program) and ContainerEngine(str(program)).remove(left)
    cid_file.unlink(missing_ok=True)
    (folder / "run.json").unlink(missing_ok=True)
    return ran


def _cid_file(folder: Path) -> Path:
    """The file that an engine writes a container's id to; it refuses one that is there."""
    path = folder / "container.id"
    path.unlink(missing_ok=True)
    return path


def listens(base_url: str) -> bool:
    """Whether something listens at an address."""
    address = urlsplit(base_url)
    try:
        with socket.create_connection((str(address.hostname), address.port or 80), timeout=_GLANCE_SECONDS):
            return True
    except OSError:
        return False
