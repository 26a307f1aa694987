"""How every model of the lock file is, wherever it runs. Looking starts nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from llm_platform.errors import PlatformError
from llm_platform.models.entries import LockEntry
from llm_platform.nim.cluster import Cluster
from llm_platform.nim.discovery import replicas
from llm_platform.nim.lifecycle import look
from llm_platform.nim_local.process import status
from llm_platform.operations.serving.bringing_up import connected
from llm_platform.operations.serving.monitoring import look_at
from llm_platform.operations.serving.pods import objects_of
from llm_platform.operations.serving.serving import Serving
from llm_platform.operations.serving.workstation import alive, local_folder, read_run


@dataclass(frozen=True)
class ModelState:
    """One place in which a model runs, or may run.

    Attributes:
        where: `this machine`, an address, or a Kubernetes namespace.
        state: In words.
    """

    entry: str
    mode: str
    where: str
    state: str


def model_states(entries: Iterable[LockEntry], serving: Serving) -> Iterator[ModelState]:
    """The state of each model, one after the other; one that cannot be looked at says why."""
    for entry in entries:
        for states in (_started_here, _states):
            try:
                yield from states(entry, serving)
            except PlatformError as error:
                yield ModelState(entry.name, entry.mode, "-", str(error))


def _started_here(entry: LockEntry, serving: Serving) -> Iterator[ModelState]:
    run = read_run(serving.state, entry.name)
    if run is not None:
        lives = alive(run, local_folder(serving.state, entry.name))
        said = f"{run.base_url}, {run.kind} {run.handle[:12]}" if lives else f"{run.kind} was started and has ended"
        yield ModelState(entry.name, entry.mode, "this machine", said)


def _states(entry: LockEntry, serving: Serving) -> Iterator[ModelState]:
    if entry.mode == "embedded":
        local = serving.local
        running = status(local.config(entry, local.path(entry)), state=serving.state)
        said = f"{running.base_url}, process {running.pid}" if running else "not running; it starts on use"
        yield ModelState(entry.name, entry.mode, "this machine", said)
    elif entry.mode == "external":
        yield from _external(entry, serving)
    else:
        with connected(serving) as cluster:
            yield from _in_cluster(entry, serving, cluster)


def _external(entry: LockEntry, serving: Serving) -> Iterator[ModelState]:
    urls = replicas(f"http://{entry.dns}") if entry.dns else entry.base_urls
    for one in look_at(entry, urls, serving.connection(external=True), now=datetime.now(UTC)):
        yield ModelState(entry.name, entry.mode, one.base_url, "ready" if one.healthy else one.reason)


def _in_cluster(entry: LockEntry, serving: Serving, cluster: Cluster) -> Iterator[ModelState]:
    where = f"namespace {serving.cluster_namespace}"
    found = look(cluster, objects_of(entry, serving))
    for ref, reason in found.foreign:
        yield ModelState(entry.name, entry.mode, where, f"{ref} is not ours: {reason}")
    if found.state is None:
        down = f"down; bring it up with: llm-platform nim up {entry.name}"
        yield ModelState(entry.name, entry.mode, where, down)
        return
    said = dict.fromkeys([found.state.text, *(pod.text for pod in found.pods)])
    for text in said:
        yield ModelState(entry.name, entry.mode, where, text)
