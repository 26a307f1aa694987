"""Counters, gauges and histograms of one embedded NIM, under the names of its dialect.

Updated from the event loop only, so there is nothing to lock. The counters of tokens equal the sum of the `usage` that
was served: an answer that was aborted served none and counts as a request only.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from llm_platform.nim_local.generation import FinishReason

# vLLM's bucket bounds, in seconds.
_LATENCY = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0)
_FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0)
_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


class _Histogram:
    """Observations counted in buckets."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str, labels: str) -> Iterable[str]:
        total = 0
        for bound, count in zip((*map(float, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{{labels},le="{bound}"}} {float(total)}'
        yield f"{name}_count{{{labels}}} {float(total)}"
        yield f"{name}_sum{{{labels}}} {self._sum}"


@dataclass(frozen=True)
class Family:
    """What one dialect calls its metrics, and which it has.

    Attributes:
        names: Name in vLLM without prefix → name here. What is missing is not published.
        adapters: Whether the state of LoRA adapters is.
    """

    names: Mapping[str, str]
    labels: str
    adapters: bool


VLLM_FAMILY = Family(
    names={
        name: f"vllm:{name}"
        for name in (
            *("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "request_success_total"),
            *(
                "prompt_tokens_total",
                "generation_tokens_total",
                "prefix_cache_queries_total",
                "prefix_cache_hits_total",
            ),
            *("time_to_first_token_seconds", "inter_token_latency_seconds", "e2e_request_latency_seconds"),
            *("request_queue_time_seconds", "request_prompt_tokens", "request_generation_tokens"),
        )
    },
    labels='engine="0",model_name="{}"',
    adapters=True,
)
NIM_1_FAMILY = Family(
    names={
        **{
            name: name
            for name in (
                *("num_requests_running", "num_requests_waiting", "num_request_max"),
                *("prompt_tokens_total", "generation_tokens_total", "time_to_first_token_seconds"),
                *("e2e_request_latency_seconds", "request_prompt_tokens", "request_generation_tokens"),
                *("request_finish_total", "request_success_total", "request_failure_total"),
            )
        },
        "kv_cache_usage_perc": "gpu_cache_usage_perc",
        "inter_token_latency_seconds": "time_per_output_token_seconds",
    },
    labels='model_name="{}"',
    adapters=False,
)


class Metrics:
    """What `/v1/metrics` says."""

    def __init__(self, model_name: str, *, slots: int, context_length: int, family: Family = VLLM_FAMILY) -> None:
        self._family = family
        self._labels = family.labels.format(_escaped(model_name))
        self._slots = slots
        self._capacity = slots * context_length
        self._running: Counter[str | None] = Counter()
        self._waiting: Counter[str | None] = Counter()
        self._held_tokens = 0
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self._cached_tokens = 0
        self._finished: Counter[FinishReason] = Counter({"stop": 0, "length": 0, "abort": 0})
        self._requests: Counter[tuple[str, int]] = Counter()
        self._first_token = _Histogram(_FIRST_TOKEN)
        self._between_tokens = _Histogram(_TOKEN)
        self._end_to_end = _Histogram(_LATENCY)
        self._queued = _Histogram(_LATENCY)
        self._prompt_sizes = _Histogram(_TOKENS)
        self._answer_sizes = _Histogram(_TOKENS)

    @contextmanager
    def waiting(self, adapter: str | None) -> Iterator[None]:
        """A generation waits for the length of a `with` block."""
        self._waiting[adapter] += 1
        try:
            yield
        finally:
            self._waiting[adapter] -= 1

    def begin(self, adapter: str | None) -> None:
        """A generation is computed now."""
        self._running[adapter] += 1

    def end(self, adapter: str | None) -> None:
        """It is not any more."""
        self._running[adapter] -= 1

    def served(self, path: str, status: int) -> None:
        """Count one HTTP answer."""
        self._requests[path, status] += 1

    def left_queue(self, seconds: float) -> None:
        """A generation got its slot."""
        self._queued.observe(seconds)

    def used(self, *, prompt_tokens: int, completion_tokens: int, cached_tokens: int) -> None:
        """Count the usage of one answered request."""
        self.prompt_tokens += prompt_tokens
        self.generation_tokens += completion_tokens
        self._cached_tokens += cached_tokens

    def finished(self, reason: FinishReason, *, prompt_tokens: int, completion_tokens: int, end_to_end: float) -> None:
        """Count one generation's end."""
        self._finished[reason] += 1
        self._end_to_end.observe(end_to_end)
        self._prompt_sizes.observe(prompt_tokens)
        self._answer_sizes.observe(completion_tokens)

    def timed(self, *, first_token: float, between_tokens: Iterable[float]) -> None:
        """Record when the tokens of one generation came."""
        self._first_token.observe(first_token)
        for seconds in between_tokens:
            self._between_tokens.observe(seconds)

    def hold(self, tokens: int) -> None:
        """Add tokens (or, negative, take them back) to what running requests keep in the cache."""
        self._held_tokens += tokens

    def text(self) -> str:
        """Prometheus' text format."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterable[str]:
        cache = min(1.0, self._held_tokens / self._capacity)
        for name, kind, help_text, value in (
            ("num_requests_running", "gauge", "Requests being computed.", self._running.total()),
            ("num_requests_waiting", "gauge", "Requests waiting for a slot.", self._waiting.total()),
            ("num_request_max", "gauge", "Requests that can be computed at once.", self._slots),
            ("kv_cache_usage_perc", "gauge", "Share of the cache in use, 1 is all.", cache),
            ("prompt_tokens_total", "counter", "Prompt tokens served.", self.prompt_tokens),
            ("generation_tokens_total", "counter", "Tokens generated and served.", self.generation_tokens),
            ("prefix_cache_queries_total", "counter", "Prompt tokens looked up in the cache.", self.prompt_tokens),
            ("prefix_cache_hits_total", "counter", "Prompt tokens found in the cache.", self._cached_tokens),
        ):
            yield from self._metric(name, kind, help_text, {"": float(value)})
        yield from self._finish_lines()
        for name, help_text, histogram in (
            ("time_to_first_token_seconds", "Seconds from arrival to the first token.", self._first_token),
            ("inter_token_latency_seconds", "Seconds between two tokens.", self._between_tokens),
            ("e2e_request_latency_seconds", "Seconds from arrival to the end.", self._end_to_end),
            ("request_queue_time_seconds", "Seconds spent waiting for a slot.", self._queued),
            ("request_prompt_tokens", "Prompt tokens per generation.", self._prompt_sizes),
            ("request_generation_tokens", "Generated tokens per generation.", self._answer_sizes),
        ):
            if (named := self._family.names.get(name)) is not None:
                yield from _head(named, "histogram", help_text)
                yield from histogram.lines(named, self._labels)
        if self._family.adapters:
            yield from self._adapter_lines()
        yield from _head("http_requests_total", "counter", "HTTP answers by handler and status.")
        for (path, status), count in sorted(self._requests.items()):
            yield f'http_requests_total{{handler="{path}",status="{status}"}} {float(count)}'

    def _finish_lines(self) -> Iterable[str]:
        """vLLM counts every end as a success and says which; 1.x has a counter for each."""
        reasons = {f',finished_reason="{reason}"': float(count) for reason, count in self._finished.items()}
        aborted = float(self._finished["abort"])
        if "request_finish_total" not in self._family.names:
            yield from self._metric("request_success_total", "counter", "Finished generations by reason.", reasons)
            return
        yield from self._metric("request_finish_total", "counter", "Finished requests by reason.", reasons)
        answered = {"": float(self._finished.total()) - aborted}
        yield from self._metric("request_success_total", "counter", "Requests that were answered.", answered)
        yield from self._metric("request_failure_total", "counter", "Requests that were not.", {"": aborted})

    def _adapter_lines(self) -> Iterable[str]:
        name = "vllm:lora_requests_info"
        running, waiting = (
            ",".join(sorted(_escaped(adapter) for adapter, count in state.items() if adapter and count))
            for state in (self._running, self._waiting)
        )
        yield from _head(name, "gauge", "Adapters in use; the value is the time of this reading.")
        labels = f'max_lora="1",running_lora_adapters="{running}",waiting_lora_adapters="{waiting}"'
        yield f"{name}{{{labels}}} {time.time()}"

    def _metric(self, name: str, kind: str, help_text: str, values: Mapping[str, float]) -> Iterable[str]:
        """One metric: further labels → value; nothing where the dialect has none of this name."""
        if (named := self._family.names.get(name)) is not None:
            yield from _head(named, kind, help_text)
            for labels, value in values.items():
                yield f"{named}{{{self._labels}{labels}}} {value}"


def _head(name: str, kind: str, help_text: str) -> Iterable[str]:
    yield f"# HELP {name} {help_text}"
    yield f"# TYPE {name} {kind}"


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
