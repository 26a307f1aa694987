"""How a bulk run behaves: where it sends, how hard it tries, when it gives up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from llm_platform.records import Prices
from llm_platform.records.prices import NO_PRICES
from llm_platform.settings.connection import endpoint_root


@dataclass(frozen=True)
class EndpointTarget:
    """One endpoint of the model that is asked.

    Attributes:
        base_url: Root of the endpoint, without `/v1`.
        slots: How many requests it runs at once, where known; the limit is then a fixed multiple of it.
        metrics_path: Path of its Prometheus text, where it has one.
        read_metrics: Turns that text into `running`, `waiting`, `max_running`, `kv_cache_usage`, `preemptions`.
    """

    base_url: str
    slots: int | None = None
    metrics_path: str | None = None
    read_metrics: Callable[[bytes], Mapping[str, float]] | None = None

    @property
    def root(self) -> str:
        """The address that paths are appended to."""
        return endpoint_root(self.base_url)


@dataclass(frozen=True)
class EnginePolicy:
    """What a run does when; the defaults suit an endpoint that nothing is known about.

    Attributes:
        limit: Requests in flight per endpoint; None finds it.
        background: Use only what others leave: on an endpoint where anything waits, send less and less, down to one
            request at a time, and come back when nothing does.
        slots_factor: Requests in flight per slot of an endpoint whose slots are known.
        attempts, attempts_seconds: Requests that may fail for one row while its endpoint answers others, the last of
            them no sooner than this after the first failed; then it is a stored failure. An outage costs none.
        give_up_seconds: Two failed requests are enough when they took this long.
        refused_together: So many rows that are refused, with none answered after them, are looked into: whether each is
            refused for itself, or all for what they have in common.
        breaker_failures: Failures in a row after which an endpoint gets only probes until one succeeds.
        unavailable_after_seconds: The run ends when no endpoint has shown any sign of life for this long: no answer,
            and none to a probe. One that is silent for a third of it is probed; one whose server answers while its
            model is silent is given four times as long.
        max_failed_share: The run ends when more rows than this share have no valid answer; judged from
            `failed_share_after` rows on.
        budget_tokens, budget_usd: Nothing is sent that may take the run beyond this; what is left stays missing.
        budget_seconds: The run stops in order when it has been served for this long.
        prices: What `budget_usd` is counted with.
        batch_rows, flush_seconds: Answers are handed to the sink when this many wait, or the first waits this long.
        max_backlog_rows: Nothing is sent while this many answers wait for the sink.
        drain_seconds: How long a stopped run waits for what is in flight.
        sink_timeout_seconds: A sink that takes longer for one batch has failed.
        sink_steps_aside: Whether the thread of the sink lets others of the process go first.
    """

    limit: int | None = None
    background: bool = False
    initial_limit: int = 32
    max_limit: int = 2048
    slots_factor: float = 2.0
    request_timeout_seconds: float = 300.0
    attempts: int = 5
    attempts_seconds: float = 10.0
    give_up_seconds: float = 600.0
    refused_together: int = 8
    backoff_seconds: float = 0.5
    backoff_cap_seconds: float = 30.0
    breaker_failures: int = 8
    probe_seconds: float = 0.5
    probe_cap_seconds: float = 5.0
    probe_timeout_seconds: float = 30.0
    unavailable_after_seconds: float = 300.0
    max_failed_share: float = 1.0
    failed_share_after: int = 50
    budget_tokens: int | None = None
    budget_seconds: float | None = None
    budget_usd: float | None = None
    prices: Prices = NO_PRICES
    repair: bool = True
    batch_rows: int = 1000
    # With a look at the clock every 25 ms and the disk, answers are in the journal within 250 ms.
    flush_seconds: float = 0.2
    max_backlog_rows: int = 20_000
    drain_seconds: float = 5.0
    sink_timeout_seconds: float = 120.0
    sink_steps_aside: bool = True
    progress_seconds: float = 1.0
    poll_seconds: float = 0.25
    discover_seconds: float = 10.0
    seed: int | None = None

    @property
    def silence_seconds(self) -> float:
        """After so long without a sign of life an endpoint is asked for one, which may take as long again."""
        return self.unavailable_after_seconds / 3
