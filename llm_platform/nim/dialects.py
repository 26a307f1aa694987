"""How the dialects of OpenAI-compatible endpoints differ on the wire: one row each.

Two NIM lines, the engine of the newer one by itself, and NVIDIA's hosted endpoints. They differ in structured output,
metric names, `/v1/models` cards, health bodies, and in whether adapters can be loaded through the API. Unknown request
fields are ignored with HTTP 200, so a constraint in the wrong dialect gives free text: answers are always validated
again. The lock file names the dialect, `discovery` verifies it.

Source: NVIDIA NIM for LLMs, 1.15 and 2.1 API references; bodies recorded from vLLM 0.23.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llm_platform.nim import metric_names as names
from llm_platform.nim.metric_names import MetricNames
from llm_platform.records import Dialect, Release

SCHEMA_NAME = "answer"
METRICS_PATHS = ("/v1/metrics", "/metrics")
"""NIM answers on the first; a bare vLLM only on the second."""

# Only what has a meaning: engines differ in whether a blank may be escaped.
_SIGNS, _ESCAPED = re.compile(r"([\\.^$*+?{}\[\]|()])"), r"\\\1"

Structure = Literal["nvext", "structured_outputs", "regex", "schema_only"]


@dataclass(frozen=True)
class DialectForm:
    """One dialect.

    Attributes:
        structure: How a closed list of answers is asked for; `schema_only` knows JSON schemas and nothing else.
        metrics: What its metrics are called.
        has_nim_paths: Whether it has `/v1/health/*` and `/v1/metadata`.
        loads_adapters: Whether it has `/v1/load_lora_adapter`.
    """

    name: Dialect
    structure: Structure
    metrics: MetricNames
    has_nim_paths: bool
    loads_adapters: bool

    def json_schema(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """Request fields that make the endpoint answer in JSON of this schema."""
        if self.structure == "nvext":
            return {"nvext": {"guided_json": dict(schema)}}
        shape = {"name": SCHEMA_NAME, "schema": dict(schema), "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": shape}}

    def choice(self, answers: Sequence[str]) -> dict[str, Any]:
        """Request fields that make the endpoint answer with exactly one of these texts.

        Empty where nothing does: hosted endpoints know JSON schemas only, whose answer would be a quoted string.
        """
        if self.structure == "nvext":
            return {"nvext": {"guided_choice": list(answers)}}
        if self.structure == "structured_outputs":
            return {"structured_outputs": {"choice": list(answers)}}
        if self.structure == "regex":
            return {"regex": f"({'|'.join(_SIGNS.sub(_ESCAPED, answer) for answer in answers)})"}
        return {}


_FORMS: dict[Dialect, DialectForm] = {
    "nim-1.x": DialectForm("nim-1.x", "nvext", names.NIM_1, has_nim_paths=True, loads_adapters=False),
    "nim-2.x": DialectForm("nim-2.x", "structured_outputs", names.VLLM, has_nim_paths=True, loads_adapters=True),
    "nim-2.x-sglang": DialectForm("nim-2.x-sglang", "regex", names.SGLANG, has_nim_paths=True, loads_adapters=True),
    "vllm": DialectForm("vllm", "structured_outputs", names.VLLM, has_nim_paths=False, loads_adapters=True),
    "hosted": DialectForm("hosted", "schema_only", names.NONE, has_nim_paths=False, loads_adapters=False),
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


def adapter_base(card: Mapping[str, Any], served: Sequence[str]) -> str | None:
    """The base model of a card of `/v1/models`; None for a base model.

    A 2.x adapter names it in `parent` and has a path as `root`; a 1.x adapter names it in `root`.
    """
    parent = card.get("parent")
    if parent:
        return str(parent)
    root = card.get("root")
    return str(root) if root in served and root != card.get("id") else None
