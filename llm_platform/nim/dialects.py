"""Where the two NIM lines differ on the wire.

The lines differ in structured output, metric names, `/v1/models` cards and health bodies. Unknown request fields are
ignored with HTTP 200, so a constraint in the wrong dialect gives free text: answers are always validated again.

Source: NVIDIA NIM for LLMs, 1.15 and 2.1 API references; bodies recorded from vLLM 0.23.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_platform.records import Dialect, Release

SCHEMA_NAME = "answer"
METRICS_PATHS = ("/v1/metrics", "/metrics")
"""NIM answers on the first; a bare vLLM only on the second."""


@dataclass(frozen=True)
class DialectForm:
    """One dialect.

    Attributes:
        metrics: Name in the Prometheus text → neutral name.
    """

    name: Dialect
    metrics: Mapping[str, str]

    def json_schema(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """Request fields that make the endpoint answer in JSON of this schema."""
        if self.name == "nim-1.x":
            return {"nvext": {"guided_json": dict(schema)}}
        shape = {"name": SCHEMA_NAME, "schema": dict(schema), "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": shape}}

    def choice(self, answers: Sequence[str]) -> dict[str, Any]:
        """Request fields that make the endpoint answer with exactly one of these texts."""
        if self.name == "nim-1.x":
            return {"nvext": {"guided_choice": list(answers)}}
        return {"structured_outputs": {"choice": list(answers)}}


_FORMS: dict[Dialect, DialectForm] = {
    "nim-1.x": DialectForm(
        name="nim-1.x",
        metrics={
            "num_requests_running": "running",
            "num_requests_waiting": "waiting",
            "num_request_max": "max_running",
            "gpu_cache_usage_perc": "kv_cache_usage",
            "prompt_tokens_total": "prompt_tokens",
            "generation_tokens_total": "generation_tokens",
        },
    ),
    "nim-2.x": DialectForm(
        name="nim-2.x",
        metrics={
            "vllm:num_requests_running": "running",
            "vllm:num_requests_waiting": "waiting",
            "vllm:kv_cache_usage_perc": "kv_cache_usage",
            "vllm:prompt_tokens_total": "prompt_tokens",
            "vllm:generation_tokens_total": "generation_tokens",
            "vllm:num_preemptions_total": "preemptions",
            # SGLang images of the same line expose their own engine's names.
            "sglang:num_running_reqs": "running",
            "sglang:num_queue_reqs": "waiting",
            "sglang:token_usage": "kv_cache_usage",
            "sglang:prompt_tokens_total": "prompt_tokens",
            "sglang:generation_tokens_total": "generation_tokens",
        },
    ),
}


def form(dialect: Dialect) -> DialectForm:
    """The forms of one dialect."""
    return _FORMS[dialect]


def constraint(release: Release) -> dict[str, Any]:
    """Request fields that constrain the answers of a release, in its model's dialect; empty for free text."""
    dialect = form(release.model.dialect)
    if release.task == "classify":
        return dialect.choice(list(release.prompt.answers.values()))
    if release.task == "extract" and release.output_schema is not None:
        return dialect.json_schema(release.output_schema)
    return {}


def metric_names() -> dict[str, str]:
    """Every known metric name of every dialect → neutral name: which one is there is found out, not assumed."""
    return {name: neutral for dialect in _FORMS.values() for name, neutral in dialect.metrics.items()}


def adapter_base(card: Mapping[str, Any], served: Sequence[str]) -> str | None:
    """The base model of a card of `/v1/models`; None for a base model.

    A 2.x adapter names it in `parent` and has a path as `root`; a 1.x adapter names it in `root`.
    """
    parent = card.get("parent")
    if parent:
        return str(parent)
    root = card.get("root")
    return str(root) if root in served and root != card.get("id") else None
