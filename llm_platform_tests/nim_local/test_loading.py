"""Before its model is loaded a server lives, says so, and takes no requests."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from llm_platform.nim_local.adapters import ServableAdapter
from llm_platform.nim_local.config import EmbeddedConfig, available_cores
from llm_platform.nim_local.engine import Engine
from llm_platform.nim_local.guard import Guard
from llm_platform.nim_local.server import Nim, create_app


def loading(config: EmbeddedConfig) -> Nim:
    """A server that has no engine yet."""

    async def never(_: Sequence[ServableAdapter]) -> Engine:
        raise AssertionError("nothing asks for an engine here")

    return Nim(config, cache=Path("unused"), open_engine=never)


def ask(nim: Nim, method: str, path: str, body: Any = None) -> httpx.Response:
    """One exchange with the application, without a network."""

    async def exchange() -> httpx.Response:
        transport = httpx.ASGITransport(app=create_app(nim, Guard("nim", None)))
        async with httpx.AsyncClient(transport=transport, base_url="http://nim") as client:
            return await client.request(method, path, json=body)

    return asyncio.run(exchange())


def test_live_at_once_and_not_ready_while_loading(config: EmbeddedConfig) -> None:
    """An orchestrator restarts what is not live and sends no traffic to what is not ready."""
    nim = loading(config)

    assert ask(nim, "GET", "/v1/health/live").status_code == 200
    waiting = ask(nim, "GET", "/v1/health/ready")
    assert waiting.status_code == 503
    assert set(waiting.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize"])
def test_requests_while_loading_are_a_503(path: str, config: EmbeddedConfig) -> None:
    """Transient: the same request succeeds a second later."""
    refused = ask(loading(config), "POST", path, {"prompt": "a"})

    assert (refused.status_code, refused.json()["error"]["code"]) == (503, 503)


def test_identity_is_known_before_the_model_is_loaded(config: EmbeddedConfig) -> None:
    """What will be served is decided; only the weights are missing."""
    assert ask(loading(config), "GET", "/v1/metadata").json()["selectedModelProfileId"] == config.profile
    assert "vllm:num_requests_running" in ask(loading(config), "GET", "/v1/metrics").text


def test_the_profile_changes_with_what_changes_answers(config: EmbeddedConfig) -> None:
    """Other weights or another context are another profile; more slots are not."""
    other = json.loads(config.model_dump_json())

    assert EmbeddedConfig(**{**other, "slots": 9, "threads": 1}).profile == config.profile
    assert EmbeddedConfig(**{**other, "context_length": 4096}).profile != config.profile
    assert EmbeddedConfig(**{**other, "weights_sha256": "0" * 64}).profile != config.profile


def test_threads_are_cores_that_are_there(config: EmbeddedConfig) -> None:
    """A thread without a core of its own makes all of them wait."""
    assert 1 <= available_cores() <= len(os.sched_getaffinity(0))
    assert config.thread_count == available_cores()
    assert config.model_copy(update={"threads": 3}).thread_count == 3
