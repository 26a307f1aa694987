"""What the objects of a model say about how far it is, in words that name the cause.

Pure functions from objects as the API gives them. A state is *failed* when waiting cannot help, *stuck* when it rarely
does (a secret may still be made, a registry may come back), and *waiting* otherwise: a GPU node that the cluster has
yet to add takes many minutes, and so do a large image and the weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from llm_platform.nim.plain_words import plain

CRASHES = 2
"""Restarts after which a container that crashes is taken to do so for ever."""

_Object = Mapping[str, Any]

_NEVER_PULLED = {"InvalidImageName", "ErrImageNeverPull"}
_NOT_PULLED = {"ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable"}
_NOT_STARTED = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CreatePodSandboxError"}
# What a registry says when asking again cannot help: the image is not there, or this login may not read it.
_HOPELESS = re.compile(r"not found|manifest unknown|unauthorized|authorization failed|denied|forbidden|401|403", re.I)


class Phase(IntEnum):
    """How far something is; of several parts the largest counts."""

    READY = 0
    WAITING = 1
    STUCK = 2
    FAILED = 3


@dataclass(frozen=True)
class Readiness:
    """How far a model is.

    Attributes:
        text: What there is to say about it.
        crashed: (pod, container) whose last words tell more.
    """

    phase: Phase
    text: str
    crashed: tuple[str, str] | None = None


@dataclass(frozen=True)
class ClusterState:
    """What the cluster holds about one model.

    Attributes:
        workloads: Objects that pods come from, as we applied them: NIMService, NIMCache, Deployment, StatefulSet; None
            where it is not there any more.
        rollouts: Deployments that the operator has made for them.
        pods: Of the model, downloads included.
        events: Of the pods and of what makes them.
    """

    workloads: Mapping[str, _Object | None]
    rollouts: Sequence[_Object] = ()
    pods: Sequence[_Object] = ()
    events: Sequence[_Object] = field(default=())


def state_of(evidence: ClusterState, *, image_digest: str | None = None) -> Readiness:
    """The state of the part that is furthest from serving.

    Args:
        evidence: What there is.
        image_digest: Of the image that serving pods must have been told to run; others are those of before.
    """
    gone = [name for name, found in evidence.workloads.items() if found is None]
    if gone:
        return Readiness(Phase.FAILED, f"{', '.join(gone)} is not there any more: somebody has deleted it")
    found = [workload_state(one) for one in evidence.workloads.values() if one is not None]
    found += [workload_state(one) for one in evidence.rollouts]
    # A download that has ended well may have failed before: its pods are of no interest any more.
    caches = [one for one in evidence.workloads.values() if one is not None and one["kind"] == "NIMCache"]
    downloaded = all(workload_state(one).phase is Phase.READY for one in caches)
    living = [
        pod for pod in evidence.pods if "deletionTimestamp" not in pod["metadata"] and (serves(pod) or not downloaded)
    ]
    found += [pod_state(pod, events_of(evidence.events, pod), image_digest=image_digest) for pod in living]
    if not living:
        found += _without_pods(evidence.events, found)
    return max(reversed(found), key=lambda state: (state.phase, state.crashed is not None))


def workload_state(found: _Object) -> Readiness:
    """The state of what makes pods, as its status has it."""
    kind, name, status = found["kind"], found["metadata"]["name"], found.get("status") or {}
    what = f"{kind} {name!r}"
    conditions = {one.get("type"): one for one in status.get("conditions") or []}
    refused = conditions.get("ReplicaFailure") or {}
    if refused.get("status") == "True":
        return Readiness(Phase.STUCK, f"{what} may make no pods: {plain(refused.get('message'))}")
    if kind in ("NIMService", "NIMCache"):
        return _operator_state(what, status, conditions)
    wanted = int((found.get("spec") or {}).get("replicas", 1))
    if int(status.get("observedGeneration") or 0) < int(found["metadata"].get("generation") or 0):
        return Readiness(Phase.WAITING, f"{what} is yet to be rolled out")
    if wanted == 0:
        return Readiness(Phase.WAITING, f"{what} is scaled to zero; its autoscaler starts it when work waits")
    ready = min(int(status.get("readyReplicas") or 0), int(status.get("updatedReplicas") or 0))
    return Readiness(Phase.READY if ready >= wanted else Phase.WAITING, f"{what}: {ready} of {wanted} pods are ready")


def pod_state(pod: _Object, events: Sequence[_Object] = (), *, image_digest: str | None = None) -> Readiness:
    """The state of one pod."""
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    containers = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    found = [_container_state(name, one, events) for one in containers]
    worst = max((state for state in found if state is not None), key=lambda state: state.phase, default=None)
    if worst is not None:
        return worst
    phase = status.get("phase") or "Pending"
    if phase != "Running":
        return _not_running(f"pod {name}", phase, status, events)
    if not _is_ready(status):
        return Readiness(Phase.WAITING, f"pod {name}: running, not ready{_last_probe(events)}")
    if image_digest is not None and serves(pod) and not _was_told(pod, image_digest):
        return Readiness(Phase.WAITING, f"pod {name} still runs the image of before")
    return Readiness(Phase.READY, f"pod {name}: ready")


def _operator_state(what: str, status: _Object, conditions: Mapping[Any, _Object]) -> Readiness:
    state = str(status.get("state") or "no state yet")
    if state == "Ready":
        return Readiness(Phase.READY, f"{what}: Ready")
    said = next(
        (
            plain(one.get("message"))
            for kind, one in conditions.items()
            if one.get("message") and ("FAILED" in str(kind)) == (state == "Failed")
        ),
        "",
    )
    text = f"{what}: {state}{f': {said}' if said else ''}"
    return Readiness(Phase.STUCK if state == "Failed" else Phase.WAITING, text)


def _container_state(pod: str, container: _Object, events: Sequence[_Object]) -> Readiness | None:
    """What is wrong with a container; None when nothing is."""
    waiting = (container.get("state") or {}).get("waiting") or {}
    reason = str(waiting.get("reason") or "")
    where = f"pod {pod}, container {container['name']}"
    if reason in _NEVER_PULLED | _NOT_PULLED:
        said = _pull_error(waiting, events)
        hopeless = reason in _NEVER_PULLED or bool(_HOPELESS.search(said))
        return Readiness(Phase.FAILED if hopeless else Phase.STUCK, f"{where}: {reason}: {said}")
    if reason in _NOT_STARTED:
        return Readiness(Phase.STUCK, f"{where}: {reason}: {plain(waiting.get('message'))}")
    restarts = int(container.get("restartCount") or 0)
    ended = ((container.get("lastState") or {}).get("terminated")) or (container.get("state") or {}).get("terminated")
    if not ended or not (ended.get("exitCode") or reason == "CrashLoopBackOff"):
        return None
    if container.get("ready"):
        return None
    cause = "OOMKilled" if ended.get("reason") == "OOMKilled" else f"exit status {ended.get('exitCode')}"
    loop = f"{reason}: " if reason else ""
    text = f"{where}: {loop}{cause}, restarted {restarts} times{_last_probe(events)}"
    return Readiness(
        Phase.FAILED if restarts >= CRASHES else Phase.WAITING, text, crashed=(pod, str(container["name"]))
    )


def _not_running(pod: str, phase: str, status: _Object, events: Sequence[_Object]) -> Readiness:
    if phase == "Succeeded":
        return Readiness(Phase.READY, f"{pod} has finished")
    if phase == "Pending":
        return Readiness(Phase.WAITING, f"{pod}: Pending: {_pending(status, events)}")
    reason = f"{status.get('reason') or phase}: {plain(status.get('message')) or 'no reason given'}"
    return Readiness(Phase.STUCK, f"{pod}: {reason}")


def _pull_error(waiting: _Object, events: Sequence[_Object]) -> str:
    """What the registry has said: while the node waits before it asks again, only the event still has it."""
    said = str(waiting.get("message") or "")
    if waiting.get("reason") != "ErrImagePull":
        told = [_message(event) for event in events if event.get("reason") == "Failed" and "pull" in _message(event)]
        said = told[-1] if told else said
    return plain(said)


def _pending(status: _Object, events: Sequence[_Object]) -> str:
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return plain(condition.get("message") or condition.get("reason"))
    warned = [event for event in events if event.get("type") == "Warning"]
    if warned:
        return f"{warned[-1].get('reason')}: {plain(_message(warned[-1]))}"
    pulling = [event for event in events if event.get("reason") == "Pulling"]
    return plain(_message(pulling[-1])) if pulling else "its containers are being made"


def _last_probe(events: Sequence[_Object]) -> str:
    failed = [event for event in events if event.get("reason") == "Unhealthy"]
    if not failed:
        return ""
    times = int(failed[-1].get("count") or (failed[-1].get("series") or {}).get("count") or 1)
    return f"; {plain(_message(failed[-1]))} ({times} times)"


def _without_pods(events: Sequence[_Object], workloads: Sequence[Readiness]) -> list[Readiness]:
    """Why there is no pod: a quota, or nothing that is not said already."""
    refused = [event for event in events if event.get("reason") == "FailedCreate"]
    if refused:
        return [Readiness(Phase.STUCK, f"no pod may be made: {plain(_message(refused[-1]))}")]
    told = any(state.phase is not Phase.READY for state in workloads)
    return [] if told else [Readiness(Phase.WAITING, "no pod was made yet")]


def _is_ready(status: _Object) -> bool:
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in status.get("conditions") or [])


def serves(pod: _Object) -> bool:
    """Whether a pod serves: those of downloads belong to a job, or to the NIMCache itself."""
    owners = {owner.get("kind") for owner in pod["metadata"].get("ownerReferences") or []}
    return owners.isdisjoint({"Job", "NIMCache"})


def _was_told(pod: _Object, digest: str) -> bool:
    containers: Iterable[_Object] = (pod.get("spec") or {}).get("containers") or []
    return any(str(one.get("image") or "").endswith(f"@{digest}") for one in containers)


def events_of(events: Sequence[_Object], pod: _Object) -> list[_Object]:
    """Events of one pod, oldest first."""
    uid, name = pod["metadata"].get("uid"), pod["metadata"]["name"]
    own = [event for event in events if (event.get("involvedObject") or {}).get("uid") == uid]
    own = own or [event for event in events if (event.get("involvedObject") or {}).get("name") == name]
    return sorted(own, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))


def _message(event: _Object) -> str:
    return str(event.get("message") or "")
