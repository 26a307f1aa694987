"""What each engine calls its metrics, and the neutral name of each.

Three families: the names that 1.x publishes without a prefix, vLLM's (2.x on vLLM, and a bare vLLM), and SGLang's.
Older names of the same thing are listed too, since images of one line carry different engine versions.

Source: NVIDIA NIM for LLMs 1.15, observability; vLLM 0.23, recorded; SGLang 0.5, production metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class MetricNames:
    """The names of one family.

    Attributes:
        numbers: Name of a gauge or counter → neutral name. Two names may have one meaning; their samples are added up.
        histograms: Name of a histogram → neutral name.
        finished: Names of counters of finished requests, with the reason in a label.
        adapters: Name of the metric whose labels tell the state of LoRA adapters.
    """

    numbers: Mapping[str, str]
    histograms: Mapping[str, str]
    finished: tuple[str, ...] = ()
    adapters: str | None = None

    @cached_property
    def sample_names(self) -> frozenset[str]:
        """Every name that a sample of this family may have."""
        parts = {f"{name}{part}" for name in self.histograms for part in ("_bucket", "_sum")}
        return frozenset({*self.numbers, *parts, *self.finished, *filter(None, [self.adapters])})


NIM_1 = MetricNames(
    numbers={
        "num_requests_running": "running",
        "num_requests_waiting": "waiting",
        "num_request_max": "max_running",
        "gpu_cache_usage_perc": "kv_cache_usage",
        "prompt_tokens_total": "prompt_tokens",
        "generation_tokens_total": "generation_tokens",
        "request_failure_total": "failed",
    },
    histograms={
        "time_to_first_token_seconds": "time_to_first_token",
        "time_per_output_token_seconds": "inter_token",
        "e2e_request_latency_seconds": "end_to_end",
    },
    finished=("request_finish_total",),
)
VLLM = MetricNames(
    numbers={
        "vllm:num_requests_running": "running",
        "vllm:num_requests_waiting": "waiting",
        "vllm:kv_cache_usage_perc": "kv_cache_usage",
        "vllm:gpu_cache_usage_perc": "kv_cache_usage",
        "vllm:prompt_tokens_total": "prompt_tokens",
        "vllm:generation_tokens_total": "generation_tokens",
        "vllm:num_preemptions_total": "preemptions",
        "vllm:prefix_cache_queries_total": "prefix_cache_queries",
        "vllm:prefix_cache_hits_total": "prefix_cache_hits",
    },
    histograms={
        "vllm:time_to_first_token_seconds": "time_to_first_token",
        "vllm:inter_token_latency_seconds": "inter_token",
        "vllm:time_per_output_token_seconds": "inter_token",
        "vllm:e2e_request_latency_seconds": "end_to_end",
        "vllm:request_queue_time_seconds": "queue_time",
    },
    finished=("vllm:request_success_total",),
    adapters="vllm:lora_requests_info",
)
SGLANG = MetricNames(
    numbers={
        "sglang:num_running_reqs": "running",
        "sglang:num_queue_reqs": "waiting",
        "sglang:max_running_requests": "max_running",
        "sglang:token_usage": "kv_cache_usage",
        "sglang:prompt_tokens_total": "prompt_tokens",
        "sglang:generation_tokens_total": "generation_tokens",
        "sglang:cache_hit_rate": "prefix_cache_hit_rate",
        "sglang:cached_tokens_total": "prefix_cache_hits",
        "sglang:num_retracted_requests_total": "preemptions",
        "sglang:num_requests_total": "requests",
        "sglang:num_aborted_requests_total": "failed",
    },
    histograms={
        "sglang:time_to_first_token_seconds": "time_to_first_token",
        "sglang:inter_token_latency_seconds": "inter_token",
        "sglang:e2e_request_latency_seconds": "end_to_end",
        "sglang:queue_time_seconds": "queue_time",
    },
)
ALL = MetricNames(
    numbers={**NIM_1.numbers, **VLLM.numbers, **SGLANG.numbers},
    histograms={**NIM_1.histograms, **VLLM.histograms, **SGLANG.histograms},
    finished=(*NIM_1.finished, *VLLM.finished),
    adapters=VLLM.adapters,
)
NONE = MetricNames(numbers={}, histograms={})
