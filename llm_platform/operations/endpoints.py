"""Where a model of the lock file answers, and whether it is the model that the lock file pins."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from llm_platform.errors import EndpointMismatch, SpecificationError
from llm_platform.models.entries import LockEntry
from llm_platform.models.identity import ServedIdentity, mismatches, observe
from llm_platform.models.lock import lock_hash, pin
from llm_platform.nim.http import EndpointClient
from llm_platform.nim_local.artifacts import Progress, WeightsArtifact, fetch_weights
from llm_platform.nim_local.config import EmbeddedConfig
from llm_platform.nim_local.process import connect
from llm_platform.records import ModelPin, canonical_json
from llm_platform.settings import Settings
from llm_platform.warehouse.store import ApplicationStore


@dataclass(frozen=True)
class LocalNim:
    """How the embedded NIM runs on this machine; nothing here changes an answer."""

    state: Path
    slots: int | None = None
    threads: int | None = None
    idle_seconds: float = 1800.0

    @classmethod
    def of(cls, settings: Settings) -> LocalNim:
        """As `settings` say."""
        return cls(
            settings.state,
            slots=settings.nim_slots,
            threads=settings.nim_threads,
            idle_seconds=settings.nim_idle_minutes * 60,
        )

    @property
    def weights_folder(self) -> Path:
        """Where weights are kept: shared by all namespaces."""
        return self.state / "models"

    def artifact(self, entry: LockEntry) -> WeightsArtifact:
        """The weights of an embedded entry, in the terms of the embedded NIM."""
        if entry.weights is None or entry.weights.artifact is None:
            raise SpecificationError(f"Lock entry {entry.name!r} names no weights artifact, so it cannot run here.")
        artifact = entry.weights.artifact
        return WeightsArtifact.model_validate(
            {
                **artifact.model_dump(),
                "quantization": artifact.quantization,
                "sha256": entry.weights.sha256,
                "file_name": entry.weights.file,
            }
        )

    def fetch(self, entry: LockEntry, on_progress: Progress | None = None) -> Path:
        """The weights file of an embedded entry, fetched and verified if need be."""
        artifact = self.artifact(entry)
        if on_progress is None:
            return fetch_weights(artifact, self.weights_folder)
        return fetch_weights(artifact, self.weights_folder, on_progress=on_progress)

    def path(self, entry: LockEntry) -> Path:
        """Where the weights file of an embedded entry is, or will be."""
        return self.weights_folder / self.artifact(entry).file_name

    def config(self, entry: LockEntry, weights: Path) -> EmbeddedConfig:
        """What the embedded NIM of an entry is started with."""
        return EmbeddedConfig(
            model_id=entry.served_name,
            weights=weights,
            weights_sha256=entry.weights.sha256 if entry.weights else "",
            context_length=entry.context_length,
            slots=self.slots or entry.slots or 8,
            threads=self.threads,
            release=entry.release or "2.1.5",
            licence_name=entry.licence,
            idle_exit_seconds=self.idle_seconds,
        )


def base_urls(entry: LockEntry, local: LocalNim) -> tuple[str, ...]:
    """Roots of the endpoints of an entry, without `/v1`; the embedded NIM is started, or joined if it runs.

    Raises:
        SpecificationError: the entry's mode has no endpoints on this machine.
        EndpointUnavailable: the embedded NIM did not come up.
    """
    if entry.mode == "external":
        return entry.base_urls
    if entry.mode == "embedded":
        return (connect(local.config(entry, local.fetch(entry)), state=local.state).base_url,)
    raise SpecificationError(
        f"Lock entry {entry.name!r} has mode {entry.mode!r}, and this deployment runs no pods. "
        "Name the address of its service: mode 'external' with 'base_urls'."
    )


@dataclass(frozen=True)
class Observation:
    """What the endpoints of one entry say they are, held against the lock file."""

    entry: LockEntry
    identities: dict[str, ServedIdentity]
    mismatches: tuple[str, ...]

    @property
    def matches(self) -> bool:
        """Whether every endpoint is what the lock file pins."""
        return not self.mismatches

    @property
    def identity_hash(self) -> str:
        """One hash over what all endpoints say, without their addresses."""
        return "-".join(sorted({identity.identity_hash for identity in self.identities.values()}))


def observe_entry(
    entry: LockEntry, urls: tuple[str, ...], *, bearer_token: str | None = None, ca_file: Path | None = None
) -> Observation:
    """Ask every endpoint of an entry what it is.

    Raises:
        EndpointUnavailable: an endpoint does not answer.
    """
    with EndpointClient(bearer_token=bearer_token, ca_file=ca_file) as client:
        identities = {url: observe(url, client.get) for url in urls}
    found = tuple(line for identity in identities.values() for line in mismatches(entry, identity))
    return Observation(entry=entry, identities=identities, mismatches=found)


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
