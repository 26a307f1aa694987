"""One model of the lock file as a resource: where it answers, what it is, what it is pinned to."""

from __future__ import annotations

import re
from pathlib import Path

import dagster as dg
from pydantic import Field

from llm_platform.inference.engine import Connection, EndpointTarget, EnginePolicy
from llm_platform.models.entries import LockEntry
from llm_platform.models.lock import load_lock
from llm_platform.operations.endpoints import (
    LocalNim,
    Observation,
    base_urls,
    observe_entry,
    require_match,
    require_pin,
)
from llm_platform.records import ModelPin
from llm_platform.settings import Settings


def resource_key(entry_name: str) -> str:
    """Key of the resource of a lock entry: Dagster allows letters, digits and underscores."""
    return "nim_" + re.sub(r"\W", "_", entry_name)


class NIMResource(dg.ConfigurableResource):
    """A NIM endpoint of one lock entry. It never starts a pod; the embedded NIM is started or joined on use."""

    entry: str = Field(description="Name of the entry in the lock file.")
    lock_file: str = Field(description="Path of the lock file.")
    state: str = Field(description="State folder: weights, and the embedded NIM's process.")
    slots: int | None = Field(default=None, description="Requests the embedded NIM runs at once.")
    threads: int | None = Field(default=None, description="Threads of the embedded NIM.")
    idle_seconds: float = Field(default=1800.0, description="The embedded NIM exits after this long unused.")
    outage_seconds: float = Field(default=120.0, description="How long a run waits for endpoints that do not answer.")

    api_key: str | None = Field(default=None, description="Bearer token of external endpoints.")
    ca_file: str | None = Field(default=None, description="CA certificate of external endpoints, PEM.")

    @classmethod
    def of(cls, settings: Settings, entry_name: str) -> NIMResource:
        """The resource that `settings` describe for one lock entry."""
        return cls(
            entry=entry_name,
            lock_file=str(settings.models_lock),
            state=str(settings.state),
            slots=settings.nim_slots,
            threads=settings.nim_threads,
            idle_seconds=settings.nim_idle_minutes * 60,
            outage_seconds=settings.outage_seconds,
            # Resolved when a run starts, so that the key is in no snapshot of the code location.
            api_key=dg.EnvVar("LLM_PLATFORM_NIM_API_KEY") if settings.nim_api_key else None,
            ca_file=str(settings.nim_ca_file) if settings.nim_ca_file else None,
        )

    @property
    def pinned(self) -> LockEntry:
        """The entry of the lock file."""
        return load_lock(Path(self.lock_file))[self.entry]

    def base_urls(self) -> tuple[str, ...]:
        """Roots of the endpoints, without `/v1`."""
        local = LocalNim(Path(self.state), slots=self.slots, threads=self.threads, idle_seconds=self.idle_seconds)
        return base_urls(self.pinned, local)

    def observe(self) -> Observation:
        """What the endpoints say they are, held against the lock file."""
        ca_file = Path(self.ca_file) if self.ca_file else None
        return observe_entry(self.pinned, self.base_urls(), bearer_token=self.api_key, ca_file=ca_file)

    def verified_targets(self, wanted: ModelPin) -> tuple[EndpointTarget, ...]:
        """The endpoints, once each has shown that it is what the lock file pins, and the lock file pins `wanted`.

        Raises:
            EndpointMismatch: one is not; nothing has been sent to it but questions about itself.
        """
        require_pin(self.pinned, wanted)
        observation = self.observe()
        require_match(observation)
        pinned = self.pinned
        slots = self.slots or pinned.slots if pinned.mode == "embedded" else pinned.slots
        return tuple(EndpointTarget(url, slots=slots) for url in observation.identities)

    def connection(self) -> Connection:
        """How the endpoints are reached."""
        return Connection(bearer_token=self.api_key, ca_file=Path(self.ca_file) if self.ca_file else None)

    def policy(self, *, max_failed_share: float) -> EnginePolicy:
        """How hard a bulk run tries."""
        return EnginePolicy(unavailable_after_seconds=self.outage_seconds, max_failed_share=max_failed_share)
