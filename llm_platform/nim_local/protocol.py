"""Errors, and the bodies that do not depend on the dialect; `dialects` has those that do, `answers` the answers.

Sources: the NIM for LLMs API reference 2.0/2.1, and bodies recorded from vLLM 0.23, the engine inside NIM 2.x.
"""

from __future__ import annotations

import hashlib
from typing import Any

from llm_platform.nim_local.config import EmbeddedConfig

METRICS_CONTENT_TYPE = "text/plain; version=1.0.0; charset=utf-8"

Body = dict[str, Any]


class ApiError(Exception):
    """An answer that says why there is none; the dialect gives it its body."""

    def __init__(self, status: int, message: str, *, kind: str, parameter: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason: Body = {"message": message, "type": kind, "param": parameter, "code": status}


def bad_request(message: str, *, kind: str = "BadRequestError", parameter: str | None = None) -> ApiError:
    """A 400."""
    return ApiError(400, message, kind=kind, parameter=parameter)


def bad_parameter(message: str, parameter: str, value: float | None = None) -> ApiError:
    """A 400 that names a parameter, in vLLM's wording."""
    suffix = f"(parameter={parameter})" if value is None else f"(parameter={parameter}, value={value})"
    return bad_request(f"{message} {suffix}", parameter=parameter)


def unknown_model(model: str) -> ApiError:
    """The 404 for a model that is not served."""
    return ApiError(404, f"The model `{model}` does not exist.", kind="NotFoundError", parameter="model")


def context_overflow(*, context_length: int, prompt_tokens: int, output_tokens: int, counted: bool = True) -> ApiError:
    """The 400 for a request that does not fit; not `counted`, its prompt has at least so many tokens."""
    least = "" if counted else "at least "
    return bad_parameter(
        f"This model's maximum context length is {context_length} tokens. However, you requested {output_tokens} "
        f"output tokens and your prompt contains {least}{prompt_tokens} input tokens, for a total of "
        f"{least}{prompt_tokens + output_tokens} tokens. Please reduce the length of the input prompt or the number of "
        "requested output tokens.",
        "input_tokens",
        prompt_tokens,
    )


def adapter_is_loaded(name: str) -> ApiError:
    """The 400 for a name that is taken."""
    return bad_request(
        f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, set "
        "'load_inplace' to True.",
        kind="InvalidUserInput",
    )


def no_adapter_at(name: str, path: str) -> ApiError:
    """The 404 for a path without an adapter."""
    return ApiError(404, f"Loading lora {name} failed: No adapter found for {path}", kind="NotFoundError")


def no_such_adapter(name: str) -> ApiError:
    """The 404 for an adapter that is not loaded."""
    return ApiError(404, f"The lora adapter '{name}' cannot be found.", kind="NotFoundError")


def engine_error(message: str) -> ApiError:
    """The 500 for an engine that failed."""
    return ApiError(500, message, kind="InternalServerError")


def not_ready() -> ApiError:
    """The 503 while the model loads or the server drains."""
    return ApiError(503, "Service is not ready.", kind="ServiceUnavailableError")


def licence(config: EmbeddedConfig) -> Body:
    """`/v1/license`."""
    content = config.licence_text
    return {
        "name": config.licence_name,
        "path": "LICENSE",
        "sha": hashlib.sha1(content.encode(), usedforsecurity=False).hexdigest(),
        "size": len(content.encode()),
        "url": config.licence_url,
        "type": "file",
        "content": content,
    }


def metadata(config: EmbeddedConfig) -> Body:
    """`/v1/metadata`; `assetInfo` carries the hash of the weights."""
    name = config.weights.name
    return {
        "assetInfo": [f"file://{config.weights}", f"sha256:{config.weights_sha256}", "embedded: llama.cpp"],
        "licenseInfo": licence(config),
        "modelInfo": [{"modelUrl": f"file://{config.weights}", "shortName": f"{config.model_id}:{name}"}],
        "version": config.served_release,
        "repository_override": "",
        "selectedModelProfileId": config.profile,
    }


def manifest(config: EmbeddedConfig) -> Body:
    """`/v1/manifest`."""
    lora = "false" if config.peft_source is None else "true"
    lines = [
        "schema_version: 2.0.0",
        "profiles:",
        f"- id: {config.profile}",
        f"  tags: {{llm_engine: llama.cpp, context_length: '{config.context_length}', feat_lora: '{lora}'}}",
        "  workspace:",
        "    files:",
        f"      {config.weights.name}: {{uri: 'file://{config.weights}', sha256: {config.weights_sha256}}}",
    ]
    return {"manifest_file": "\n".join(lines) + "\n", "repository_override": ""}


def openapi(config: EmbeddedConfig, paths: dict[str, list[str]]) -> Body:
    """`/openapi.json`: the paths and methods there are."""
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Embedded NIM {config.model_id}", "version": config.served_release},
        "paths": {
            path: {
                method.lower(): {"responses": {"200": {"description": "OK"}}} for method in methods if method != "HEAD"
            }
            for path, methods in paths.items()
        },
    }


def tokenized(tokens: list[int], *, context_length: int, strings: list[str] | None) -> Body:
    """`/tokenize`."""
    return {"count": len(tokens), "max_model_len": context_length, "tokens": tokens, "token_strs": strings}


def detokenized(text: str) -> Body:
    """`/detokenize`."""
    return {"prompt": text}
