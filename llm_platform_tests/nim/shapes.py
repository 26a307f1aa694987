"""What endpoints of every dialect say, as recorded or documented.

vLLM: recorded from 0.23. NIM 1.x and 2.x: their API references. SGLang: its metrics reference. Shortened, not changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llm_platform.records import Dialect

PERMISSION = {"id": "modelperm-96e2689752547b0b", "object": "model_permission", "allow_sampling": True}
VLLM_CARDS = [
    {"id": "m", "object": "model", "owned_by": "vllm", "root": "/models/m", "parent": None, "max_model_len": 4096},
    {"id": "a", "object": "model", "owned_by": "vllm", "root": "/loras/a", "parent": "m", "max_model_len": None},
]
NIM_1_CARDS = [
    {"id": "a", "object": "model", "root": "m", "parent": None},
    {"id": "m", "object": "model", "owned_by": "system", "root": "m", "parent": None, "max_model_len": 8192},
]
VLLM_METRICS = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_waiting{engine="0",model_name="m"} 2.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:prompt_tokens_total{engine="0",model_name="m"} 1.5e+06
vllm:prompt_tokens_created{engine="0",model_name="m"} 1.7953507445863721e+09
vllm:generation_tokens_total{engine="0",model_name="m"} 7000.0
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 1000.0
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 750.0
vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 90.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="m"} 8.0
vllm:request_success_total{engine="0",finished_reason="abort",model_name="m"} 2.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.1",model_name="m"} 50.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="1.0",model_name="m"} 100.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="m"} 100.0
vllm:time_to_first_token_seconds_count{engine="0",model_name="m"} 100.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="m"} 20.0
vllm:lora_requests_info{max_lora="2",running_lora_adapters="",waiting_lora_adapters=""} 1.7953507e+09
vllm:lora_requests_info{max_lora="2",running_lora_adapters="a, b",waiting_lora_adapters="b"} 1.7953508e+09
"""
NIM_1_METRICS = """\
# TYPE num_requests_running gauge
num_requests_running 3
num_requests_waiting 2
num_request_max 256
gpu_cache_usage_perc 0.25
prompt_tokens_total 1500000
generation_tokens_total 7000
request_finish_total{finished_reason="stop"} 90
request_finish_total{finished_reason="length"} 8
request_finish_total{finished_reason="abort"} 2
request_failure_total 2
time_to_first_token_seconds_bucket{le="0.1"} 50
time_to_first_token_seconds_bucket{le="1.0"} 100
time_to_first_token_seconds_bucket{le="+Inf"} 100
time_to_first_token_seconds_sum 20
"""
SGLANG_METRICS = """\
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{model_name="m"} 3.0
sglang:num_queue_reqs{model_name="m"} 2.0
sglang:token_usage{model_name="m"} 0.25
sglang:prompt_tokens_total{model_name="m",is_streaming="false"} 1000000.0
sglang:prompt_tokens_total{model_name="m",is_streaming="true"} 500000.0
sglang:generation_tokens_total{model_name="m"} 7000.0
sglang:num_requests_total{model_name="m"} 100.0
sglang:num_aborted_requests_total{model_name="m"} 2.0
sglang:cache_hit_rate{model_name="m"} 0.75
sglang:time_to_first_token_seconds_bucket{le="0.1",model_name="m"} 50.0
sglang:time_to_first_token_seconds_bucket{le="1.0",model_name="m"} 100.0
sglang:time_to_first_token_seconds_bucket{le="+Inf",model_name="m"} 100.0
sglang:time_to_first_token_seconds_sum{model_name="m"} 20.0
"""
READY_1 = {"object": "health.response", "message": "Service is ready."}
READY_2 = {"object": "health.response", "message": "ready", "status": "ready"}


@dataclass(frozen=True)
class Shape:
    """One kind of endpoint: path → status and body, and the request fields that ask it for a choice."""

    dialect: Dialect
    documents: Mapping[str, tuple[int, Any]]
    choice: Mapping[str, Any]
    base: str | None = "m"


SHAPES = (
    Shape(
        "nim-1.x",
        {"/v1/health/ready": (200, READY_1), "/v1/models": (200, NIM_1_CARDS), "/v1/metrics": (200, NIM_1_METRICS)},
        {"nvext": {"guided_choice": ["a.b", "c"]}},
    ),
    Shape(
        "nim-2.x",
        {"/v1/health/ready": (200, READY_2), "/v1/models": (200, VLLM_CARDS), "/v1/metrics": (200, VLLM_METRICS)},
        {"structured_outputs": {"choice": ["a.b", "c"]}},
    ),
    Shape(
        "nim-2.x-sglang",
        {"/v1/health/ready": (200, READY_2), "/v1/models": (200, VLLM_CARDS), "/v1/metrics": (200, SGLANG_METRICS)},
        {"regex": r"(a\.b|c)"},
    ),
    Shape(
        "vllm",
        {"/health": (200, ""), "/v1/models": (200, VLLM_CARDS), "/metrics": (200, VLLM_METRICS)},
        {"structured_outputs": {"choice": ["a.b", "c"]}},
    ),
    Shape("hosted", {"/v1/models": (200, [{"id": "a", "object": "model", "owned_by": "m"}])}, {}, base=None),
)
