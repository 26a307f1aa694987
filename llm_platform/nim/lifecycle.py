"""The life of a model's pods in a cluster: apply, wait, connect, and clean up after a failure.

What `bring_up` has made is deleted again when it fails or is interrupted, at whatever point. Two of them at once work
on the same objects: the second one finds what the first has made, and waits for it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_platform.errors import EndpointUnavailable, PlatformError, PodsFailed
from llm_platform.nim.applying import Applied, apply_all
from llm_platform.nim.cluster import Cluster, Object, Ref
from llm_platform.nim.manifests.names import SERVICE_LABEL
from llm_platform.nim.ownership import foreign, owner_of
from llm_platform.nim.plain_words import LOG_LINES, keep_log
from llm_platform.nim.pod_states import ClusterState, Phase, Readiness, events_of, pod_state, serves, state_of
from llm_platform.nim.removal import CACHE_KINDS, Removed, delete_created, delete_owned
from llm_platform.nim.waiting import Waiting

WORKLOADS = frozenset({"NIMService", "NIMCache", "Deployment", "StatefulSet"})
"""Kinds of objects that pods come from."""

_PODS_HEARD = 8
"""Pods whose events are read at each look; more of one model fail for the same reason."""


@dataclass(frozen=True)
class BroughtUp:
    """A model that serves.

    Attributes:
        applied: What this call has made, changed, and found as it should be.
        pods: That serve it.
        seconds: From the first look to the first token.
    """

    applied: Applied
    pods: tuple[Object, ...]
    seconds: float


def bring_up(
    cluster: Cluster,
    manifests: Sequence[Object],
    waiting: Waiting,
    *,
    connect: Callable[[Sequence[Object]], None],
    image_digest: str | None = None,
    force: bool = False,
    up_id: str | None = None,
    log_file: Path | None = None,
) -> BroughtUp:
    """Apply a model's objects, wait for its pods, and ask it for a token.

    Args:
        cluster: Where it is to run.
        manifests: Its objects, in order of application.
        waiting: For how long, and who is told.
        connect: Asks the pods that are ready for a token and holds them against the lock file. `EndpointUnavailable`
            from it means that it is asked again, until the deadline.
        image_digest: Of the image that pods must have been told to run.
        force: Whether to take over fields of our objects that others have set.
        up_id: What the objects are marked with; None: a new one.
        log_file: Where the log of what crashed is kept, since its pod is deleted; None: nowhere.

    Raises:
        ForeignObject: an object of this name is not ours; nothing was touched.
        PodsFailed: it cannot come up; names the state, and where the log of what crashed is.
        EndpointUnavailable: the deadline has passed; names the last state.
    """
    applied = Applied(up_id or uuid.uuid4().hex)
    owner = owner_of(manifests)
    try:
        apply_all(cluster, manifests, applied, pause=waiting.pause, force=force)
        pods = wait_ready(cluster, manifests, waiting, image_digest=image_digest, log_file=log_file)
        waiting.until(lambda: connect(pods))
    except PlatformError as error:
        account = _take_back(cluster, applied, owner)
        raise type(error)(f"{error}\n{account}") from error
    except BaseException:
        # Interrupted: whoever did that waits for the terminal, and still nothing may stay behind.
        waiting.report(_take_back(cluster, applied, owner))
        raise
    return BroughtUp(applied, tuple(pods), waiting.seconds)


def rehearse(cluster: Cluster, manifests: Sequence[Object], *, force: bool = False) -> BroughtUp:
    """What `bring_up` would make and change: the API checks it, and changes nothing.

    Raises:
        ForeignObject: an object of this name is not ours.
        ClusterRefused: the API would not take one.
    """
    applied = Applied("rehearsal")
    apply_all(cluster, manifests, applied, pause=Waiting("rehearsal", 0.0).pause, force=force, dry_run=True)
    return BroughtUp(applied, (), 0.0)


def wait_ready(
    cluster: Cluster,
    manifests: Sequence[Object],
    waiting: Waiting,
    *,
    image_digest: str | None = None,
    log_file: Path | None = None,
) -> list[Object]:
    """The serving pods, once all that the manifests describe is ready.

    Raises:
        PodsFailed: it cannot get ready, or has been in a state for too long that waiting rarely ends.
        EndpointUnavailable: the deadline has passed.
    """
    while True:
        try:
            evidence = evidence_of(cluster, manifests)
        except EndpointUnavailable as error:
            waiting.pause(str(error))  # the API itself is away for a moment
            continue
        state = state_of(evidence, image_digest=image_digest)
        if state.phase is Phase.READY:
            return [dict(pod) for pod in evidence.pods if "deletionTimestamp" not in pod["metadata"]]
        if waiting.is_stuck(stuck=state.phase is Phase.STUCK) or state.phase is Phase.FAILED:
            where = _log_of(cluster, manifests, state, log_file)
            raise PodsFailed(f"{waiting.what} does not come up. Last state: {state.text}.{where}")
        try:
            waiting.pause(state.text)
        except EndpointUnavailable as error:
            raise EndpointUnavailable(f"{error}{_log_of(cluster, manifests, state, log_file)}") from error


def take_down(
    cluster: Cluster,
    manifests: Sequence[Object],
    waiting: Waiting,
    *,
    delete_cache: bool = False,
    dry_run: bool = False,
) -> Removed:
    """Delete a model's objects, last first, as far as they are ours, and wait until its pods are gone.

    Raises:
        EndpointUnavailable: pods are still there at the deadline.
    """
    refs = [cluster.ref(manifest) for manifest in reversed(manifests)]
    removed = delete_owned(cluster, refs, owner_of(manifests), delete_cache=delete_cache, dry_run=dry_run)
    if dry_run or not any(ref.kind in WORKLOADS for ref in removed.deleted):
        return removed
    # Those of downloads stay with their cache.
    while pods := [pod for pod in pods_of(cluster, manifests) if serves(pod)]:
        waiting.pause(f"{len(pods)} pods are still ending")
    return removed


@dataclass(frozen=True)
class Looked:
    """A model in a cluster, as it is.

    Attributes:
        state: None where none of its workloads is there.
        pods: State of each pod.
        foreign: Objects of its names that are not ours, with the reason.
    """

    state: Readiness | None
    pods: tuple[Readiness, ...] = ()
    foreign: tuple[tuple[Ref, str], ...] = ()


def look(cluster: Cluster, manifests: Sequence[Object]) -> Looked:
    """How far a model is. Nothing is changed."""
    owner, others, there = owner_of(manifests), [], []
    for manifest in manifests:
        ref = cluster.ref(manifest)
        if (found := cluster.get(ref)) is None:
            continue
        there.append(ref.kind)
        reason = foreign(found, owner)
        if reason is not None and SERVICE_LABEL in (manifest["metadata"].get("labels") or {}):
            others.append((ref, reason))
    if not WORKLOADS.intersection(there) - CACHE_KINDS:
        return Looked(None, foreign=tuple(others))
    evidence = evidence_of(cluster, manifests)
    pods = tuple(pod_state(pod, events_of(evidence.events, pod)) for pod in evidence.pods)
    return Looked(state_of(evidence), pods, tuple(others))


def evidence_of(cluster: Cluster, manifests: Sequence[Object]) -> ClusterState:
    """What the cluster holds about a model."""
    refs = [cluster.ref(manifest) for manifest in manifests if manifest["kind"] in WORKLOADS]
    workloads: dict[str, Mapping[str, Any] | None] = {str(ref): cluster.get(ref) for ref in refs}
    made = [Ref("apps/v1", "Deployment", ref.namespace, ref.name) for ref in refs if ref.kind == "NIMService"]
    rollouts = [found for ref in made if (found := cluster.get(ref)) is not None]
    pods = pods_of(cluster, manifests)
    return ClusterState(workloads, rollouts, pods, _events(cluster, refs, pods))


def pods_of(cluster: Cluster, manifests: Sequence[Object]) -> list[Object]:
    """Pods of a model, those that download its weights included."""
    namespaces = {cluster.ref(manifest).namespace for manifest in manifests}
    services = {manifest["metadata"].get("labels", {}).get(SERVICE_LABEL) for manifest in manifests} - {None}
    selectors = [f"{SERVICE_LABEL} in ({', '.join(sorted(services))})"] if services else []
    caches = [cluster.ref(manifest) for manifest in manifests if manifest["kind"] == "NIMCache"]
    selectors += [f"job-name={ref.name}-job" for ref in caches]
    found = [
        pod
        for namespace in sorted(namespaces)
        for selector in selectors
        for pod in cluster.find("v1", "Pod", namespace, labelSelector=selector)
    ]
    # Before its job the operator starts a pod that reads the image's list of profiles; it may not get that image.
    readers = [cluster.get(Ref("v1", "Pod", ref.namespace, f"{ref.name}-pod")) for ref in caches]
    return [*found, *(pod for pod in readers if pod is not None)]


def _events(cluster: Cluster, refs: Sequence[Ref], pods: Sequence[Object]) -> list[Object]:
    """Events of the pods; where there are none, those that say why none can be made."""
    if not pods:
        refused = [
            event
            for namespace in sorted({ref.namespace for ref in refs})
            for event in cluster.find("v1", "Event", namespace, fieldSelector="reason=FailedCreate")
        ]
        return [event for event in refused if _concerns(event, {ref.name for ref in refs})]
    names = [(pod["metadata"]["namespace"], pod["metadata"]["name"]) for pod in pods[:_PODS_HEARD]]
    return [
        event
        for namespace, name in names
        for event in cluster.find("v1", "Event", namespace, fieldSelector=f"involvedObject.name={name}")
    ]


def _concerns(event: Mapping[str, Any], names: set[str]) -> bool:
    """Whether an event is about one of our objects, or about a replica set or a job of theirs."""
    name = str((event.get("involvedObject") or {}).get("name") or "")
    return name in names or name.rpartition("-")[0] in names


def _log_of(cluster: Cluster, manifests: Sequence[Object], state: Readiness, log_file: Path | None) -> str:
    """Where the log of the container that crashed is; it may hold prompts, so it is not shown."""
    if state.crashed is None:
        return ""
    pod, container = state.crashed
    namespace = cluster.ref(manifests[0]).namespace
    if log_file is None:
        return f" Read its log: kubectl --namespace {namespace} logs {pod} --container {container} --previous"
    ref = Ref("v1", "Pod", namespace, pod)
    logs = (cluster.log(ref, container, lines=LOG_LINES, previous=previous) for previous in (True, False))
    return f" {keep_log(log_file, next((log for log in logs if log.strip()), ''))}"


def _take_back(cluster: Cluster, applied: Applied, owner: str) -> str:
    """Delete what a failed `up` has made; what became of all that it has done, in words."""
    try:
        removed = delete_created(cluster, applied, owner)
    except KeyboardInterrupt:
        # Whoever is impatient with the waiting is not so with this; a second time ends it.
        delete_created(cluster, applied, owner)
        raise
    changed = f"Changed and left so: {', '.join(map(str, applied.changed))}." if applied.changed else ""
    account = " ".join(filter(None, (str(removed), changed)))
    return f"What this attempt had done: {account}" if account else "This attempt has left nothing behind."
