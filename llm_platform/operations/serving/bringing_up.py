"""Bring a model of the lock file up and take it down, wherever it runs: in a cluster, on this machine, or embedded."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llm_platform.errors import EndpointMismatch, SpecificationError
from llm_platform.models.entries import LockEntry
from llm_platform.models.manifests import image_of_pods
from llm_platform.nim.cluster import Cluster, Object
from llm_platform.nim.cluster_access import connect_cluster
from llm_platform.nim.discovery import Client, probe
from llm_platform.nim.http import EndpointClient
from llm_platform.nim.lifecycle import BroughtUp, bring_up, rehearse, take_down
from llm_platform.nim.pod_states import serves
from llm_platform.nim.port_forward import Forwarded
from llm_platform.nim.removal import Removed
from llm_platform.nim.waiting import Waiting
from llm_platform.nim_local.process import connect, stop
from llm_platform.operations.serving.endpoints import (
    NIM_PORT,
    in_cluster,
    observe_entry,
    observe_through,
    require_match,
)
from llm_platform.operations.serving.pods import objects_of
from llm_platform.operations.serving.serving import Serving
from llm_platform.operations.serving.workstation import local_folder, start_locally, stop_locally

Report = Callable[[str], None]


@dataclass(frozen=True)
class Up:
    """A model that has generated a token and is what the lock file pins.

    Attributes:
        endpoint: Where it answers.
        image_digest: That its pods run, as their nodes say; None where it does not run in a cluster.
        done: What was made or changed for it, in words.
    """

    endpoint: str
    seconds: float
    image_digest: str | None = None
    done: str = ""


def bring_model_up(
    entry: LockEntry,
    serving: Serving,
    *,
    report: Report,
    deadline_minutes: float | None = None,
    local: bool = False,
    force: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> Up:
    """Bring a model up, or join one that is, and wait until it has generated a token.

    Args:
        entry: What to serve.
        serving: How the deployment does it.
        report: Told how far it is.
        deadline_minutes: None: as the deployment says.
        local: Whether on this machine's GPUs.
        force: Whether to take over fields of our objects in the cluster that others have set.
        sleep: Between two looks.

    Raises:
        SpecificationError: the entry is served by somebody else.
        PlatformError: it did not come up; what was made for it was taken back.
    """
    waiting = _waiting(entry, serving, report, deadline_minutes, sleep)
    if entry.mode == "embedded":
        embedded = serving.local
        weights = embedded.fetch(entry, lambda stage, detail: report(f"{stage} {detail}"))
        running = connect(
            embedded.config(entry, weights), state=serving.state, timeout_seconds=waiting.deadline_seconds
        )
        return Up(running.base_url, waiting.seconds, done="started" if running.started else "was running")
    if local:
        run = start_locally(entry, serving, waiting, verify=lambda url: _verify_local(entry, url))
        return Up(run.base_url, waiting.seconds, done=f"{run.kind} {run.handle[:12]}")
    manifests = _manifests(entry, serving)
    with connected(serving) as cluster:
        report(f"cluster {cluster.host}, namespace {serving.cluster_namespace}")
        endpoint = _Endpoint(entry, serving, cluster)
        brought = bring_up(
            cluster,
            manifests,
            waiting,
            connect=endpoint.verify,
            image_digest=entry.image.digest if entry.image else None,
            force=force,
            log_file=local_folder(serving.state, entry.name) / "pod.log",
        )
        return Up(endpoint.url, brought.seconds, endpoint.image_digest, _done(brought))


def take_model_down(
    entry: LockEntry,
    serving: Serving,
    *,
    report: Report,
    local: bool = False,
    delete_cache: bool = False,
    dry_run: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Take down what `bring_model_up` has made for a model, and nothing else; what became of it, in words.

    Raises:
        SpecificationError: the entry is served by somebody else.
        EndpointUnavailable: it does not end.
    """
    if entry.mode == "embedded":
        embedded = serving.local
        config = embedded.config(entry, embedded.path(entry))
        return "stopped" if stop(config, state=serving.state) else "was not running"
    if local:
        return "stopped" if stop_locally(entry, serving.state) else "was not running on this machine"
    manifests = _manifests(entry, serving)
    waiting = _waiting(entry, serving, report, None, sleep)
    with connected(serving) as cluster:
        removed = take_down(cluster, manifests, waiting, delete_cache=delete_cache, dry_run=dry_run)
    return _words(removed, dry_run=dry_run)


def rehearse_up(entry: LockEntry, serving: Serving, *, force: bool = False) -> str:
    """What bringing a model up in a cluster would do, checked by its API and done by nobody.

    Raises:
        ForeignObject: an object of that name is not ours.
        ClusterRefused: the API would not take one.
    """
    manifests = _manifests(entry, serving)
    with connected(serving) as cluster:
        return _done(rehearse(cluster, manifests, force=force), would=True)


class _Endpoint:
    """The endpoint of a model in a cluster, asked from where we are.

    Attributes:
        url: Where it answers.
        image_digest: That its pods run.
    """

    def __init__(self, entry: LockEntry, serving: Serving, cluster: Cluster) -> None:
        self._entry, self._serving, self._cluster = entry, serving, cluster
        self.url = f"http://{entry.service_name}.{serving.cluster_namespace}:{NIM_PORT}"
        self.image_digest: str | None = None

    def verify(self, pods: Sequence[Object]) -> None:
        """Hold pods and endpoint against the lock file, and ask for a token.

        Raises:
            EndpointUnavailable: it does not answer yet.
            EndpointMismatch: it is not what the lock file pins.
        """
        entry = self._entry
        self.image_digest = _verify_image(entry, pods)
        if self._cluster.is_inside:
            with EndpointClient() as client:
                self._verify_through(client, in_cluster(entry, self._serving.cluster_namespace))
        else:
            forwarded = Forwarded(self._cluster, _serving(pods), NIM_PORT)
            self._verify_through(forwarded, forwarded.urls)

    def _verify_through(self, client: Client, urls: tuple[str, ...]) -> None:
        for url in urls:
            probe(url, self._entry.served_name, client)
        require_match(observe_through(client, self._entry, urls))


def _verify_image(entry: LockEntry, pods: Sequence[Object]) -> str:
    assert entry.image is not None
    found = str(image_of_pods(_serving(pods), entry.image.repository)["digest"])
    if found != entry.image.digest:
        raise EndpointMismatch(
            f"The pods of {entry.name!r} run {entry.image.repository}@{found}, and the lock file pins "
            f"{entry.image.digest}. Is the image rewritten by a mirror or a policy of the cluster?"
        )
    return found


def _serving(pods: Sequence[Object]) -> list[Object]:
    """Pods that are no downloads."""
    return [pod for pod in pods if serves(pod)]


def _verify_local(entry: LockEntry, url: str) -> None:
    require_match(observe_entry(entry, (url,)))


def _manifests(entry: LockEntry, serving: Serving) -> list[Object]:
    if entry.mode == "external":
        raise SpecificationError(
            f"{entry.name!r} has mode 'external': somebody else runs it. To run it on this machine, add --local; "
            "to have its pods run by this platform, give the entry mode 'kubernetes'."
        )
    return objects_of(entry, serving)


def connected(serving: Serving) -> Cluster:
    """The cluster that this deployment's models run in."""
    return connect_cluster(
        namespace=serving.cluster_namespace,
        kubeconfig=serving.kubeconfig,
        context=serving.context,
    )


def _waiting(
    entry: LockEntry,
    serving: Serving,
    report: Report,
    deadline_minutes: float | None,
    sleep: Callable[[float], None],
) -> Waiting:
    minutes = serving.deadline_minutes if deadline_minutes is None else deadline_minutes
    return Waiting(f"Model {entry.name!r}", minutes * 60, report=report, sleep=sleep)


def _done(brought: BroughtUp, *, would: bool = False) -> str:
    applied = brought.applied
    named = {"made": applied.created, "changed": applied.changed, "as it should be": applied.joined}
    named |= {"used, of somebody else": applied.used}
    said = [f"{what}: {', '.join(map(str, refs))}" for what, refs in named.items() if refs]
    return ("would be " if would else "") + "; ".join(said)


def _words(removed: Removed, *, dry_run: bool) -> str:
    said = str(removed) or "there was nothing of ours"
    return said.replace("Deleted:", "Would be deleted:").replace("Left:", "Would be left:") if dry_run else said
