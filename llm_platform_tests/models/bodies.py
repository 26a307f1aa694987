"""Bodies of real endpoints: vLLM 0.23 recorded, NIM from its API reference."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

PROFILE = "36fc1fa4fc35c1d54da115a39323080b08d7937dceb8ba47be44f4da0ec720ff"
LICENCE = {
    "name": "NVIDIA NIM License",
    "path": "/opt/nim/licenses/LICENSE.txt",
    "sha": "a1b2c3",
    "size": 1234,
    "url": "https://example.invalid/license",
    "type": "file",
    "content": "…",
}


def permission(identifier: str) -> dict[str, Any]:
    return {
        "id": identifier,
        "object": "model_permission",
        "created": 1795350745,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }


# A 2.x endpoint with one adapter: the card's root is a path, the adapter's parent is its base.
VLLM_MODELS = {
    "object": "list",
    "data": [
        {
            "id": "smollm2-135m-instruct",
            "object": "model",
            "created": 1795350751,
            "owned_by": "vllm",
            "root": "/models/models/smollm2-135m-instruct",
            "parent": None,
            "max_model_len": 4096,
            "permission": [permission("modelperm-96e2689752547b0b")],
        },
        {
            "id": "sent-a",
            "object": "model",
            "created": 1795350751,
            "owned_by": "vllm",
            "root": "/models/models/lora-b",
            "parent": "smollm2-135m-instruct",
            "max_model_len": None,
            "permission": [permission("modelperm-0000000000000000")],
        },
    ],
}
# 1.x: the adapter's root is its base, its parent is null.
NIM1_MODELS = {
    "object": "list",
    "data": [
        {"id": "llama3-8b-math-v1", "object": "model", "root": "meta/llama3-8b-instruct", "parent": None},
        {
            "id": "meta/llama3-8b-instruct",
            "object": "model",
            "created": 1724796510,
            "owned_by": "system",
            "root": "meta/llama3-8b-instruct",
            "parent": None,
            "max_model_len": 8192,
        },
    ],
}
NIM_METADATA = {
    "assetInfo": ["ngc://nim/meta/llama3-8b-instruct:hf"],
    "licenseInfo": LICENCE,
    "modelInfo": [{"modelUrl": "ngc://nim/meta/llama3-8b-instruct:hf", "shortName": "llama3-8b-instruct:hf"}],
    "version": "1.12.0",
    "repository_override": "",
    "selectedModelProfileId": PROFILE,
}
READY_1 = {"object": "health.response", "message": "Service is ready."}
READY_2 = {"object": "health.response", "message": "ready", "status": "ready"}

VLLM: Mapping[str, Any] = {"/v1/models": VLLM_MODELS}
NIM1: Mapping[str, Any] = {
    "/v1/models": NIM1_MODELS,
    "/v1/metadata": NIM_METADATA,
    "/v1/version": {"release": "1.12.0", "api": "3.1.0"},
    "/v1/health/ready": READY_1,
}


def embedded(sha256: str) -> Mapping[str, Any]:
    metadata = {**NIM_METADATA, "assetInfo": [f"weights.gguf sha256:{sha256}"], "selectedModelProfileId": ""}
    return {"/v1/models": VLLM_MODELS, "/v1/metadata": metadata, "/v1/version": {"release": "2.1.5", "api": "2.1.5"}}


def fetch(bodies: Mapping[str, Any]) -> Callable[[str], tuple[int, bytes]]:
    """GET of an endpoint that has these documents and no others."""

    def get(url: str) -> tuple[int, bytes]:
        path = "/" + url.split("/", 3)[3]
        if path not in bodies:
            return 404, b'{"detail":"Not Found"}'
        return 200, json.dumps(bodies[path]).encode()

    return get
