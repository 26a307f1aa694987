"""Prometheus text of an endpoint, read into neutral names.

Two readers: `read_metrics` is asked four times a second for a handful of gauges and counters, `parse` reads everything
that is known of an endpoint once a minute. Which names an endpoint has is found out, not assumed; a name that is not
there stays absent (None, not zero): a multi-GPU TensorRT-LLM profile of 1.x reports no queue, for example.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import NamedTuple

from pydantic import Field

from llm_platform.nim import metric_names
from llm_platform.nim.dialects import form
from llm_platform.records import Dialect, Record

_FOLLOWED = frozenset(
    {"running", "waiting", "max_running", "kv_cache_usage", "prompt_tokens", "generation_tokens", "preemptions"}
)
_NAMES = {name: neutral for name, neutral in metric_names.ALL.numbers.items() if neutral in _FOLLOWED}
# Of several engines or models the fullest counts; everything else is added up.
_SHARES = frozenset({"kv_cache_usage", "prefix_cache_hit_rate"})
# vLLM has the first; what 1.x calls it is nowhere written.
_REASON_LABELS = ("finished_reason", "finish_reason", "reason")
_LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"')


class Histogram(Record):
    """Observations of one kind since the endpoint started, in cumulative buckets.

    Attributes:
        bounds: Upper bounds in seconds, ascending; the last is infinite.
        counts: Observations at most as large as each bound.
    """

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    sum: float

    @property
    def count(self) -> float:
        """All observations."""
        return self.counts[-1] if self.counts else 0.0

    @property
    def mean(self) -> float | None:
        """Average; None without observations."""
        return self.sum / self.count if self.count else None

    def since(self, earlier: Histogram | None) -> Histogram:
        """What came after an earlier reading; everything, when the endpoint was restarted in between."""
        if earlier is None or earlier.bounds != self.bounds or earlier.count > self.count:
            return self
        counts = tuple(max(0.0, now - then) for now, then in zip(self.counts, earlier.counts, strict=True))
        return Histogram(bounds=self.bounds, counts=counts, sum=max(0.0, self.sum - earlier.sum))

    def quantile(self, share: float) -> float | None:
        """The value that a share of the observations does not exceed, interpolated inside its bucket.

        None without observations; the last finite bound when it lies beyond all of them, as Prometheus answers.
        """
        if not self.count:
            return None
        rank = share * self.count
        lower = below = 0.0
        for bound, count in zip(self.bounds, self.counts, strict=True):
            if count >= rank and count > below:
                return lower if math.isinf(bound) else lower + (bound - lower) * (rank - below) / (count - below)
            lower, below = (lower if math.isinf(bound) else bound), count
        return lower


class EndpointMetrics(Record):
    """What one endpoint said about itself at one moment; None where it does not say.

    Counters run since the endpoint's start, so differences of two readings count, and a smaller value is a restart.

    Attributes:
        kv_cache_usage: Share of the cache in use, the fullest engine's.
        prefix_cache_queries: Prompt tokens looked up in the prefix cache; `prefix_cache_hits` of them were found.
        prefix_cache_hit_rate: Where only the rate is published (SGLang).
        requests: Finished requests.
        failed: Requests that ended in an error, where they are counted.
        finished: Finish reason → requests.
        adapters_running: Names of LoRA adapters with running requests; `adapters_waiting` with waiting ones.
        max_adapters: LoRA adapters that can be computed at once.
    """

    running: float | None = None
    waiting: float | None = None
    max_running: float | None = None
    kv_cache_usage: float | None = None
    preemptions: float | None = None
    prompt_tokens: float | None = None
    generation_tokens: float | None = None
    prefix_cache_queries: float | None = None
    prefix_cache_hits: float | None = None
    prefix_cache_hit_rate: float | None = None
    requests: float | None = None
    failed: float | None = None
    finished: dict[str, float] = Field(default_factory=dict)
    time_to_first_token: Histogram | None = None
    inter_token: Histogram | None = None
    end_to_end: Histogram | None = None
    queue_time: Histogram | None = None
    adapters_running: tuple[str, ...] = ()
    adapters_waiting: tuple[str, ...] = ()
    max_adapters: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing known was found: another engine, or no metrics at all."""
        return self == EndpointMetrics()


class _Sample(NamedTuple):
    name: str
    labels: dict[str, str]
    value: float


def read_metrics(text: bytes | str) -> dict[str, float]:
    """Neutral name → value of the gauges and counters that the client follows.

    Samples of one name (labels: model, engine) are added up; shares take the largest. A name that the endpoint does not
    publish is absent.
    """
    found: dict[str, float] = {}
    lines = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    for line in lines.splitlines():
        if not line or line[0] == "#":
            continue
        name = line.partition("{")[0] if "{" in line else next(iter(line.split(None, 1)), "")
        neutral = _NAMES.get(name)
        value = _value(line) if neutral else None
        if neutral is None or value is None:
            continue
        known = found.get(neutral)
        if known is None:
            found[neutral] = value
        else:
            found[neutral] = max(known, value) if neutral in _SHARES else known + value
    return found


def parse(text: bytes | str, dialect: Dialect | None = None) -> EndpointMetrics:
    """Everything that is known of an endpoint, in neutral names.

    Args:
        text: The body of `/v1/metrics` (NIM) or `/metrics` (a bare engine).
        dialect: Whose names to look for; None looks for those of all dialects.
    """
    known = metric_names.ALL if dialect is None else form(dialect).metrics
    samples = [sample for sample in _samples(text) if sample.name in known.sample_names]
    finished = _finished(samples, known.finished)
    numbers = _numbers(samples, known.numbers)
    if finished and "requests" not in numbers:
        numbers["requests"] = math.fsum(finished.values())
    histograms = {
        neutral: found for name, neutral in known.histograms.items() if (found := _histogram(samples, name)) is not None
    }
    return EndpointMetrics.model_validate(
        {**numbers, **histograms, "finished": finished, **_adapters(samples, known.adapters)}
    )


def _numbers(samples: Iterable[_Sample], names: Mapping[str, str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for sample in samples:
        if (neutral := names.get(sample.name)) is not None:
            known = found.get(neutral, 0.0)
            found[neutral] = max(known, sample.value) if neutral in _SHARES else known + sample.value
    return found


def _samples(text: bytes | str) -> Iterator[_Sample]:
    lines = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    for line in lines.splitlines():
        if not line or line[0] == "#":
            continue
        value = _value(line)
        if value is None:
            continue
        name, _, rest = line.partition("{") if "{" in line else (line.split(None, 1)[0], "", "")
        yield _Sample(name, dict(_LABEL.findall(rest)), value)


def _histogram(samples: Iterable[_Sample], name: str) -> Histogram | None:
    """One histogram, the buckets of all its label sets (models, engines) added up."""
    buckets: dict[float, float] = {}
    total = 0.0
    for sample in samples:
        if sample.name == f"{name}_bucket":
            try:
                bound = float(sample.labels.get("le", "nan"))
            except ValueError:
                continue
            buckets[bound] = buckets.get(bound, 0.0) + sample.value
        elif sample.name == f"{name}_sum":
            total += sample.value
    bounds = tuple(sorted(bound for bound in buckets if not math.isnan(bound)))
    if not bounds or not math.isinf(bounds[-1]):
        return None
    return Histogram(bounds=bounds, counts=tuple(buckets[bound] for bound in bounds), sum=total)


def _finished(samples: Iterable[_Sample], names: Container[str]) -> dict[str, float]:
    """Requests by finish reason."""
    found: dict[str, float] = {}
    for sample in samples:
        reason = next(filter(None, map(sample.labels.get, _REASON_LABELS)), None)
        if sample.name in names and reason:
            found[reason] = found.get(reason, 0.0) + sample.value
    return found


def _adapters(samples: Iterable[_Sample], name: str | None) -> dict[str, object]:
    """LoRA state, from labels: the newest sample counts, its value is the time it was written."""
    states = [sample for sample in samples if sample.name == name]
    if not states:
        return {}
    labels = max(states, key=lambda sample: sample.value).labels
    limit = labels.get("max_lora", "")
    return {
        "adapters_running": _listed(labels.get("running_lora_adapters", "")),
        "adapters_waiting": _listed(labels.get("waiting_lora_adapters", "")),
        "max_adapters": int(limit) if limit.isdecimal() else None,
    }


def _listed(names: str) -> tuple[str, ...]:
    return tuple(sorted({name.strip() for name in names.split(",")} - {""}))


def _value(line: str) -> float | None:
    """The number after the labels; an optional timestamp behind it is left alone. NaN and infinities are no reading."""
    fields = line[line.rindex("}") + 1 :].split() if "}" in line else line.split()[1:]
    try:
        value = float(fields[0])
    except (IndexError, ValueError):
        return None
    return value if math.isfinite(value) else None
