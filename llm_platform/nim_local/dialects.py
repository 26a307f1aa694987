"""Where NIM 1.x and 2.x differ, on the side that answers.

Source: NVIDIA NIM for LLMs API references 1.15 and 2.1; for 2.x cards, errors and LoRA calls as recorded from vLLM
0.23, for 1.x errors as vLLM had them before it wrapped them in an object.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from llm_platform.nim_local.adapters import ServableAdapter
from llm_platform.nim_local.config import EmbeddedConfig
from llm_platform.nim_local.metrics import NIM_1_FAMILY, VLLM_FAMILY, Family
from llm_platform.nim_local.protocol import ApiError, Body


class EmbeddedDialect:
    """NIM 2.x on vLLM."""

    api_version = "2.1.0"
    family: Family = VLLM_FAMILY
    loads_adapters = True

    def health(self, word: str) -> Body:
        """`/v1/health/live` and `/v1/health/ready`."""
        return {"object": "health.response", "message": word, "status": word}

    def error(self, error: ApiError) -> Body:
        """The body of an error."""
        return {"error": error.reason}

    def fields(self, request: Any) -> Any:
        """The fields of a request in the form that `requests` knows."""
        return request

    def models(self, config: EmbeddedConfig, adapters: Iterable[ServableAdapter], *, now: int) -> Body:
        """`/v1/models`; `created` is the time of the request, as in vLLM."""
        cards = [
            _card(config.model_id, now, {**self._base(config), "max_model_len": config.context_length}),
            *(_card(adapter.name, now, self._adapter(config, adapter.root)) for adapter in adapters),
        ]
        return {"object": "list", "data": cards}

    def _base(self, config: EmbeddedConfig) -> Body:
        return {"owned_by": "vllm", "root": str(config.weights), "parent": None}

    def _adapter(self, config: EmbeddedConfig, root: Path) -> Body:
        return {"owned_by": "vllm", "root": str(root), "parent": config.model_id, "max_model_len": None}


class FirstDialect(EmbeddedDialect):
    """NIM 1.x."""

    api_version = "1.15.0"
    family = NIM_1_FAMILY
    loads_adapters = False

    def health(self, word: str) -> Body:
        """`/v1/health/live` and `/v1/health/ready`."""
        return {"object": "health.response", "message": f"Service is {word}."}

    def error(self, error: ApiError) -> Body:
        """The body of an error."""
        return {"object": "error", **error.reason}

    def fields(self, request: Any) -> Any:
        """Structure is asked for in `nvext.guided_*`, since 1.14 also at the top level; 2.x's way is ignored."""
        if not isinstance(request, dict):
            return request
        extension = request.get("nvext")
        sources = [request, extension if isinstance(extension, dict) else {}]
        guided = {
            kind: source[f"guided_{kind}"]
            for source in sources
            for kind in ("json", "choice", "regex", "grammar")
            if source.get(f"guided_{kind}") is not None
        }
        return {**request, "structured_outputs": guided or None}

    def _base(self, config: EmbeddedConfig) -> Body:
        return {"owned_by": "system", "root": config.model_id, "parent": None}

    def _adapter(self, config: EmbeddedConfig, root: Path) -> Body:
        # Unlike in 2.x the root names the base, and nothing the folder.
        del root
        return self._base(config)


def dialect_of(config: EmbeddedConfig) -> EmbeddedDialect:
    """The dialect a configuration asks for."""
    return FirstDialect() if config.dialect == "nim-1.x" else EmbeddedDialect()


def _card(name: str, now: int, said: Body) -> Body:
    permission = {
        "id": f"modelperm-{secrets.token_hex(8)}",
        "object": "model_permission",
        "created": now,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    return {"id": name, "object": "model", "created": now, **said, "permission": [permission]}
