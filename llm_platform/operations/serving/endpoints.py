"""Where a model of the lock file answers, and whether it is the model that the lock file pins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from llm_platform.errors import EndpointMismatch, EndpointUnavailable
from llm_platform.inference.policy import EndpointTarget
from llm_platform.models.entries import LockEntry
from llm_platform.models.identity import ServedIdentity, mismatch, mismatches, observe
from llm_platform.models.lock import lock_hash, pin
from llm_platform.models.probes import Probed, probe_differences, probe_model
from llm_platform.nim.discovery import Client, find_metrics, replicas, verify_dialect
from llm_platform.nim.http import EndpointClient
from llm_platform.nim.manifests.names import pods_service
from llm_platform.nim.metrics import read_metrics
from llm_platform.nim_local.process import connect
from llm_platform.operations.serving.local_nim import LocalNim
from llm_platform.operations.serving.workstation import local_urls
from llm_platform.records import ModelPin, canonical_json
from llm_platform.settings.connection import Connection
from llm_platform.warehouse.store import ApplicationStore

NIM_PORT = 8000


def base_urls(entry: LockEntry, local: LocalNim, *, cluster_namespace: str | None = None) -> tuple[str, ...]:
    """Roots of the endpoints of an entry, without `/v1`; the embedded NIM is started, or joined if it runs.

    One that was started on this machine by `nim up --local` comes before those of the lock file.

    Args:
        entry: Says where its endpoints are.
        local: How the embedded NIM runs here.
        cluster_namespace: Kubernetes namespace of the services; None for that of the pod we run in.

    Raises:
        EndpointUnavailable: the embedded NIM did not come up, or a name has no address.
    """
    if entry.mode == "embedded":
        return (connect(local.config(entry, local.fetch(entry)), state=local.state).base_url,)
    if started := local_urls(entry, local.state):
        return started
    if entry.mode == "kubernetes":
        with said_how_to_start(entry):
            return in_cluster(entry, cluster_namespace)
    return replicas(f"http://{entry.dns}") if entry.dns else entry.base_urls


def in_cluster(entry: LockEntry, namespace: str | None) -> tuple[str, ...]:
    """Each replica by itself where a headless service lists them, as `nim.manifests` makes one; else the service."""
    domain = "" if namespace is None else f".{namespace}"
    try:
        return replicas(f"http://{pods_service(entry.service_name)}{domain}:{NIM_PORT}")
    except EndpointUnavailable:
        return replicas(f"http://{entry.service_name}{domain}:{NIM_PORT}")


@dataclass(frozen=True)
class Observation:
    """What the endpoints of one entry say they are, held against the lock file.

    Attributes:
        probed: What they did with the fixed texts of `models.probes`, where they were asked.
    """

    entry: LockEntry
    identities: dict[str, ServedIdentity]
    mismatches: tuple[str, ...]
    probed: dict[str, Probed] = field(default_factory=dict)

    @property
    def matches(self) -> bool:
        """Whether every endpoint is what the lock file pins."""
        return not self.mismatches

    @property
    def identity_hash(self) -> str:
        """One hash over what all endpoints say, without their addresses."""
        return "-".join(sorted({identity.identity_hash for identity in self.identities.values()}))


def observe_entry(
    entry: LockEntry,
    urls: tuple[str, ...],
    *,
    connection: Connection | None = None,
    probes: bool | None = None,
) -> Observation:
    """Ask every endpoint of an entry what it is.

    Args:
        entry: What it should be.
        urls: Roots of the endpoints.
        connection: How they are reached.
        probes: Whether to ask for greedy answers too, 48 tokens one after the other; None: where one is pinned and the
            weights were not read by this platform itself.

    Raises:
        EndpointUnavailable: an endpoint does not answer.
    """
    with EndpointClient(connection) as client, said_how_to_start(entry):
        return observe_through(client, entry, urls, probes=probes)


def observe_through(
    client: Client, entry: LockEntry, urls: tuple[str, ...], *, probes: bool | None = None
) -> Observation:
    """`observe_entry` by a client that is there already."""
    if probes is None:
        pinned = entry.fingerprint or entry.tokenizer_sha256 or entry.chat_template_sha256
        probes = bool(pinned) and entry.mode != "embedded"
    identities = {url: observe(url, client.get) for url in urls}
    found = [line for identity in identities.values() for line in mismatches(entry, identity)]
    found += [line for url in urls for line in _dialect_differences(entry, url, client)]
    # A model that is not even served cannot be probed.
    probed = {url: probe_model(url, entry.served_name, client.post) for url in urls if probes and not found}
    found += [mismatch(entry, url, line) for url, said in probed.items() for line in probe_differences(entry, said)]
    return Observation(entry=entry, identities=identities, mismatches=tuple(found), probed=probed)


@contextmanager
def said_how_to_start(entry: LockEntry) -> Iterator[None]:
    """Say which command brings a model up where this platform runs its pods; a run never does.

    Raises:
        EndpointUnavailable: as it was raised inside, with the command.
    """
    try:
        yield
    except EndpointUnavailable as error:
        if entry.mode != "kubernetes":
            raise
        raise EndpointUnavailable(
            f"Model {entry.name!r} is not up: {error} Bring it up with: llm-platform nim up {entry.name}"
        ) from error


def _dialect_differences(entry: LockEntry, url: str, client: Client) -> list[str]:
    try:
        verify_dialect(url, entry.dialect, client)
    except EndpointMismatch as error:
        return [str(error)]
    return []


def target(url: str, *, slots: int | None, connection: Connection) -> EndpointTarget:
    """An endpoint for a bulk run: with its slots where they are known, else with its queue, which finds them."""
    if slots is not None:
        return EndpointTarget(url, slots=slots)
    with EndpointClient(connection) as client:
        path = find_metrics(url, client)
    return EndpointTarget(url, metrics_path=path, read_metrics=read_metrics if path else None)


def record(store: ApplicationStore, observation: Observation) -> None:
    """Append what was seen, where it differs from what was seen last."""
    store.models.observe(
        entry=observation.entry.name,
        observed=canonical_json(
            {url: identity.model_dump(mode="json") for url, identity in observation.identities.items()}
        ),
        identity_hash=observation.identity_hash,
        lock_hash=lock_hash(observation.entry),
        matches=observation.matches,
        mismatches="\n".join(observation.mismatches),
        observed_at=datetime.now(UTC),
    )


def require_pin(entry: LockEntry, wanted: ModelPin) -> None:
    """Refuse to answer for a release on another model than it was evaluated on.

    Raises:
        EndpointMismatch: the lock entry has moved since; lists the fields that differ.
    """
    now, then = pin(entry).model_dump(mode="json"), wanted.model_dump(mode="json")
    differ = [f"{name} is {now[name]!r}, was {then[name]!r}" for name in now if now[name] != then[name]]
    if differ:
        raise EndpointMismatch(
            f"The release was evaluated on another {entry.name!r} than models.lock.yaml pins now; nothing was sent.\n"
            + "\n".join(differ)
            + "\nBring the entry back, or promote a variant that was evaluated on the new one."
        )


def require_match(observation: Observation) -> None:
    """Refuse to go on with a model that is not the one that was evaluated.

    Raises:
        EndpointMismatch: lists what differs.
    """
    if observation.mismatches:
        lines = "\n".join(observation.mismatches)
        raise EndpointMismatch(
            f"Model {observation.entry.name!r} is not what models.lock.yaml pins; no document was sent.\n{lines}\n"
            "Serve the pinned model, or change the lock entry: its prompts are then evaluated anew."
        )
