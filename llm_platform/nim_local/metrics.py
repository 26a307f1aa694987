"""Counters, gauges and histograms of one embedded NIM, under the names of vLLM.

Updated from the event loop only, so there is nothing to lock. The counters of tokens equal the sum of the `usage` that
was served: an answer that was aborted served none and counts as a request only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence

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


class Metrics:
    """What `/v1/metrics` says."""

    def __init__(self, model_name: str, *, slots: int, context_length: int) -> None:
        self._labels = f'engine="0",model_name="{_escaped(model_name)}"'
        self._capacity = slots * context_length
        self.running = 0
        self.waiting = 0
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
        yield from self._single("num_requests_running", "gauge", "Requests being computed.", self.running)
        yield from self._single("num_requests_waiting", "gauge", "Requests waiting for a slot.", self.waiting)
        yield from self._single("kv_cache_usage_perc", "gauge", "Share of the cache in use, 1 is all.", cache)
        yield from self._single("prompt_tokens_total", "counter", "Prompt tokens served.", self.prompt_tokens)
        yield from self._single(
            "generation_tokens_total", "counter", "Tokens generated and served.", self.generation_tokens
        )
        yield from self._single(
            "prefix_cache_queries_total", "counter", "Prompt tokens looked up in the prefix cache.", self.prompt_tokens
        )
        yield from self._single(
            "prefix_cache_hits_total", "counter", "Prompt tokens found in the prefix cache.", self._cached_tokens
        )
        yield from _head("vllm:request_success_total", "counter", "Finished generations by reason.")
        for reason, count in self._finished.items():
            yield f'vllm:request_success_total{{{self._labels},finished_reason="{reason}"}} {float(count)}'
        for name, help_text, histogram in (
            ("time_to_first_token_seconds", "Seconds from arrival to the first token.", self._first_token),
            ("inter_token_latency_seconds", "Seconds between two tokens.", self._between_tokens),
            ("e2e_request_latency_seconds", "Seconds from arrival to the end.", self._end_to_end),
            ("request_queue_time_seconds", "Seconds spent waiting for a slot.", self._queued),
            ("request_prompt_tokens", "Prompt tokens per generation.", self._prompt_sizes),
            ("request_generation_tokens", "Generated tokens per generation.", self._answer_sizes),
        ):
            yield from _head(f"vllm:{name}", "histogram", help_text)
            yield from histogram.lines(f"vllm:{name}", self._labels)
        yield from _head("http_requests_total", "counter", "HTTP answers by handler and status.")
        for (path, status), count in sorted(self._requests.items()):
            yield f'http_requests_total{{handler="{path}",status="{status}"}} {float(count)}'

    def _single(self, name: str, kind: str, help_text: str, value: float) -> Iterable[str]:
        yield from _head(f"vllm:{name}", kind, help_text)
        yield f"vllm:{name}{{{self._labels}}} {float(value)}"


def _head(name: str, kind: str, help_text: str) -> Iterable[str]:
    yield f"# HELP {name} {help_text}"
    yield f"# TYPE {name} {kind}"


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
