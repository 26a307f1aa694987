"""Reading Prometheus text."""

from __future__ import annotations

import pytest

from llm_platform.nim.metrics import read_metrics

VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 4.0
vllm:num_requests_waiting{engine="0",model_name="a } b"} 2.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.75
vllm:prompt_tokens_total{engine="0",model_name="m"} 1.5e+06
vllm:prompt_tokens_created{engine="0",model_name="m"} 1.7953507445863721e+09
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="m"} 0.0
"""
NIM1 = """\
num_requests_running 5
num_requests_waiting 0 1795350745000
num_request_max 256
gpu_cache_usage_perc NaN
generation_tokens_total{model_name="m"} 7
"""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(
            VLLM, {"running": 7.0, "waiting": 2.0, "kv_cache_usage": 0.75, "prompt_tokens": 1.5e6}, id="2.x-two-engines"
        ),
        pytest.param(
            NIM1, {"running": 5.0, "waiting": 0.0, "max_running": 256.0, "generation_tokens": 7.0}, id="1.x-bare-names"
        ),
        pytest.param("sglang:num_queue_reqs 4\n", {"waiting": 4.0}, id="sglang"),
        pytest.param("", {}, id="nothing"),
        pytest.param("<html>\nnum_requests_running\nnum_requests_waiting x\n", {}, id="not-metrics"),
    ],
)
def test_metrics_get_one_name_in_every_dialect(text: str, found: dict[str, float]) -> None:
    """Concurrency follows these numbers; a missing one must be missing, not zero."""
    assert read_metrics(text.encode()) == found
