"""One model of the lock file as a resource: where it answers, what it is, what it is pinned to, and clients of it."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field, PrivateAttr

from llm_platform.errors import EndpointMismatch, EndpointUnavailable
from llm_platform.inference.engine import EndpointTarget, EnginePolicy
from llm_platform.inference.recording import Caller, CallRecording
from llm_platform.models.entries import LockEntry
from llm_platform.models.identity import ServedIdentity
from llm_platform.models.lock import load_lock, pin
from llm_platform.operations.serving.calls import CallRecorder
from llm_platform.operations.serving.clients import Messages, async_openai_client, complete_rows, openai_client
from llm_platform.operations.serving.endpoints import (
    Observation,
    base_urls,
    observe_entry,
    require_match,
    require_pin,
    target,
)
from llm_platform.operations.serving.local_nim import LocalNim
from llm_platform.records import Call, Completion, ModelPin, Sampling
from llm_platform.resources.warehouse import WarehouseResource
from llm_platform.settings.connection import Connection
from llm_platform.settings.login import login
from llm_platform.settings.settings import Settings

if TYPE_CHECKING:
    import openai

_ANSWER_SECONDS, _LEAST_SECONDS = 60.0, 15.0
VERIFIED_SECONDS = 300.0
"""How long what an endpoint has shown to be is believed; a run asks more often than that only new endpoints."""


def resource_key(entry_name: str) -> str:
    """Key of the resource of a lock entry: Dagster allows letters, digits and underscores."""
    return "nim_" + re.sub(r"\W", "_", entry_name)


class NIMResource(dg.ConfigurableResource):
    """A model of the lock file, wherever it runs; the same object in an asset and in a notebook.

    It never starts a pod; the embedded NIM is started or joined on use. What goes through `client`, `async_client` and
    `complete` is recorded in the lake's table `platform.calls`.
    """

    entry: str = Field(description="Name of the entry in the lock file.")
    lock_file: str = Field(description="Path of the lock file.")
    state: str = Field(description="State folder: weights, and the embedded NIM's process.")
    slots: int | None = Field(default=None, description="Requests the embedded NIM runs at once.")
    threads: int | None = Field(default=None, description="Threads of the embedded NIM.")
    idle_seconds: float = Field(default=1800.0, description="The embedded NIM exits after this long unused.")
    outage_seconds: float = Field(default=120.0, description="How long a run waits for endpoints that do not answer.")
    background: bool = Field(default=False, description="Whether bulk runs use only what others leave.")
    cluster_namespace: str | None = Field(default=None, description="Kubernetes namespace of the NIM services.")

    api_key: str | None = Field(default=None, description="Bearer token of external endpoints.")
    ca_file: str | None = Field(default=None, description="CA certificate of external endpoints, PEM.")
    environment_proxies: bool = Field(default=False, description="Whether external endpoints are behind a proxy.")

    warehouse: WarehouseResource = Field(description="The lake in which calls are recorded.")
    calls_folder: str = Field(description="Folder in which calls wait for the lake.")
    git_commit: str = Field(default="unknown", description="Written on recorded calls.")

    _verified: dict[str, tuple[float, EndpointTarget]] = PrivateAttr(default_factory=dict)
    _recorder: CallRecorder | None = PrivateAttr(default=None)
    _clients: list[Any] = PrivateAttr(default_factory=list)

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
            background=settings.nim_background,
            cluster_namespace=settings.nim_cluster_namespace,
            # Resolved when a run starts, so that the key is in no snapshot of the code location.
            api_key=dg.EnvVar("LLM_PLATFORM_NIM_API_KEY") if settings.nim_api_key else None,
            ca_file=str(settings.nim_ca_file) if settings.nim_ca_file else None,
            environment_proxies=settings.nim_environment_proxies,
            warehouse=WarehouseResource.of(settings),
            calls_folder=str(settings.namespace_folder / "calls"),
            git_commit=settings.git_commit,
        )

    @property
    def pinned(self) -> LockEntry:
        """The entry of the lock file."""
        return load_lock(Path(self.lock_file))[self.entry]

    @property
    def model(self) -> str:
        """The name that requests carry as `model`."""
        return self.pinned.served_name

    @property
    def known_slots(self) -> int | None:
        """Requests that one endpoint runs at once, where that is known."""
        pinned = self.pinned
        return self.slots or pinned.slots if pinned.mode == "embedded" else pinned.slots

    def base_urls(self) -> tuple[str, ...]:
        """Roots of the endpoints, without `/v1`."""
        local = LocalNim(Path(self.state), slots=self.slots, threads=self.threads, idle_seconds=self.idle_seconds)
        return base_urls(self.pinned, local, cluster_namespace=self.cluster_namespace)

    def observe(self, *, probes: bool | None = None) -> Observation:
        """What the endpoints say they are, held against the lock file; `probes` as in `observe_entry`."""
        return self._observe(self.base_urls(), probes=probes)

    def identity(self) -> ServedIdentity:
        """What is served, now.

        Raises:
            EndpointMismatch: it is not what the lock file pins, or the endpoints differ.
            EndpointUnavailable: nothing answers.
        """
        observation = self.observe()
        require_match(observation)
        first, *others = observation.identities.values()
        if any(other.identity_hash != first.identity_hash for other in others):
            raise EndpointMismatch(
                f"The {len(observation.identities)} endpoints of {self.entry!r} serve different things. "
                f"Compare them with: llm-platform model verify {self.entry}"
            )
        return first

    def client(self) -> openai.OpenAI:
        """The official client, ready for this model; give `model=nim.model` with each request.

        Requests go to the endpoints in turn. It is closed with the resource.

        Raises:
            EndpointMismatch: an endpoint is not what the lock file pins; nothing was sent to it.
            EndpointUnavailable: nothing answers.
        """
        endpoints = self._verified_urls()
        client = openai_client(self._recording(endpoints), endpoints, self.connection())
        self._clients.append(client)
        return client

    def async_client(self) -> openai.AsyncOpenAI:
        """`client` for asynchronous code; use it in an `async with`, since only its own event loop can close it."""
        endpoints = self._verified_urls()
        return async_openai_client(self._recording(endpoints), endpoints, self.connection())

    def complete(
        self,
        rows: Mapping[str, str | Messages],
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
        stop: Sequence[str] = (),
        choices: Sequence[str] = (),
        schema: Mapping[str, object] | None = None,
    ) -> list[Completion]:
        """Answers to many prompts through the bulk engine: concurrency, retries and outages are its matter.

        It asks every time; an application of its own is what remembers answers.

        Args:
            rows: Key → what the user says, or a whole conversation.
            max_tokens: Most tokens of an answer.
            temperature: Of sampling; 0 takes the likeliest token.
            seed: Of sampling.
            stop: Texts that end an answer.
            choices: The answer is one of these texts.
            schema: The answer is JSON of this schema.

        Returns:
            One completion a row, in the order of `rows`; `status` says whether `answer` may be used.
        """
        wanted = pin(self.pinned)
        sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed, stop=tuple(stop))
        return complete_rows(
            rows,
            model=wanted,
            targets=self.verified_targets(wanted),
            policy=self.policy(max_failed_share=1.0),
            connection=self.connection(),
            sampling=sampling,
            choices=choices,
            schema=schema,
            caller=self._caller(),
            recorder=self._calls(),
        )

    def flush(self) -> None:
        """Store the calls that were recorded so far; without it they are stored within seconds, and at the end.

        Raises:
            StorageError: the lake cannot be written; the calls are kept for the next attempt.
        """
        if self._recorder is not None:
            self._recorder.flush()

    def close(self) -> None:
        """Close clients, and store what was recorded."""
        while self._clients:
            self._clients.pop().close()
        if self._recorder is not None:
            self._recorder.close()

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002 (Dagster's signature)
        """Store what a step has recorded; where that fails, its answers stand and the run's log has the error."""
        self.close()

    def verified_targets(self, wanted: ModelPin) -> tuple[EndpointTarget, ...]:
        """The endpoints, once each has shown that it is what the lock file pins, and the lock file pins `wanted`.

        Raises:
            EndpointMismatch: one is not; nothing has been sent to it but questions about itself.
        """
        require_pin(self.pinned, wanted)
        return self._targets(self.base_urls())

    def discover(self, wanted: ModelPin) -> tuple[EndpointTarget, ...]:
        """`verified_targets` while a run goes on: a replica that does not answer yet is left out until it does."""
        require_pin(self.pinned, wanted)
        found: list[EndpointTarget] = []
        for url in self.base_urls():
            try:
                found += self._targets((url,))
            except EndpointUnavailable:
                continue
        return tuple(found)

    @property
    def may_scale(self) -> bool:
        """Whether endpoints may come and go while a run goes on."""
        pinned = self.pinned
        return pinned.mode == "kubernetes" or pinned.dns is not None

    def connection(self) -> Connection:
        """How the endpoints are reached."""
        return Connection(
            bearer_token=self._bearer_token(),
            ca_file=Path(self.ca_file) if self.ca_file else None,
            environment_proxies=self.environment_proxies and self.pinned.mode == "external",
            # Whoever waits shortly for an endpoint in a run waits no longer for one before it.
            reply_timeout_seconds=min(_ANSWER_SECONDS, max(_LEAST_SECONDS, self.outage_seconds)),
        )

    def policy(self, *, max_failed_share: float) -> EnginePolicy:
        """How hard a bulk run tries."""
        return EnginePolicy(
            background=self.background,
            unavailable_after_seconds=self.outage_seconds,
            max_failed_share=max_failed_share,
        )

    def _observe(self, urls: Sequence[str], *, probes: bool | None = None) -> Observation:
        return observe_entry(self.pinned, tuple(urls), connection=self.connection(), probes=probes)

    def _targets(self, urls: Sequence[str]) -> tuple[EndpointTarget, ...]:
        now = time.monotonic()
        self._verified = {url: seen for url, seen in self._verified.items() if now - seen[0] < VERIFIED_SECONDS}
        if new := [url for url in urls if url not in self._verified]:
            require_match(self._observe(new))
            # In the background, what is free only the endpoint's own queue tells.
            slots = None if self.background else self.known_slots
            for url in new:
                self._verified[url] = now, target(url, slots=slots, connection=self.connection())
        return tuple(self._verified[url][1] for url in urls)

    def _verified_urls(self) -> tuple[str, ...]:
        return tuple(one.root for one in self.verified_targets(pin(self.pinned)))

    def _recording(self, endpoints: Sequence[str]) -> CallRecording:
        return CallRecording(pin(self.pinned), self._caller(), endpoints, self._calls().record)

    def _calls(self) -> CallRecorder:
        if self._recorder is None:
            self._recorder = CallRecorder(Path(self.calls_folder), self._store_calls)
        return self._recorder

    def _store_calls(self, calls: list[Call]) -> None:
        with self.warehouse.open() as lake:
            lake.calls.append(calls)

    def _caller(self) -> Caller:
        user = login(otherwise="")
        try:
            context = dg.AssetExecutionContext.get()
        except dg.DagsterInvariantViolationError:  # not inside a run
            program = Path(sys.argv[0]).name or "python"
            name = "notebook" if "ipykernel" in sys.modules else f"program {program}"
            return Caller(name, user=user, git_commit=self.git_commit)
        keys = " ".join(sorted(key.to_user_string() for key in context.selected_asset_keys))
        name = f"asset {keys}" if keys else f"op {context.op_execution_context.op_def.name}"
        return Caller(name, user=user, run_id=context.run.run_id, git_commit=self.git_commit)

    def _bearer_token(self) -> str | None:
        # Resolved in a run; a notebook and the command line resolve it here.
        return self.api_key.get_value() if isinstance(self.api_key, dg.EnvVar) else self.api_key
