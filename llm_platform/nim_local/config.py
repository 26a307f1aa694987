"""What an embedded NIM is started with, and the identity that follows from it."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

_HEX64 = r"^[0-9a-f]{64}$"
_MOST_THREADS = 8
_RELEASES = {"nim-1.x": "1.15.5", "nim-2.x": "2.1.5"}


class EmbeddedConfig(BaseModel):
    """One embedded NIM."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_id: str = Field(min_length=1, description="Name the model is served under.")
    weights: Path = Field(description="GGUF file.")
    weights_sha256: str = Field(pattern=_HEX64)
    context_length: int = Field(default=2048, ge=128, description="Tokens of prompt and answer together, per request.")
    slots: int = Field(default=8, ge=1, le=64, description="Requests computed at once; the others wait.")
    profile_id: str = Field(default="", pattern=r"^([0-9a-f]{64})?$", description="Empty: derived from the rest.")
    dialect: Literal["nim-1.x", "nim-2.x"] = Field(default="nim-2.x", description="Which line of NIM it speaks like.")
    release: str | None = Field(default=None, description="NIM release it names; None: the newest of the dialect.")
    peft_source: Path | None = Field(default=None, description="Folder of LoRA adapters; None serves none from one.")
    peft_refresh_seconds: float = Field(default=1.0, gt=0, description="How often that folder is looked at.")
    max_lora_rank: int = Field(default=32, ge=1, description="Adapters of a higher rank are refused; NIM's default.")
    licence_name: str = "Apache-2.0"
    licence_url: str = "https://www.apache.org/licenses/LICENSE-2.0"
    licence_text: str = "Licensed under the Apache License, Version 2.0. See the licence's address for its text."
    idle_exit_seconds: float = Field(default=1800.0, ge=0, description="0 never exits by itself.")
    threads: int | None = Field(default=None, ge=1, description="None: the cores this process may use.")

    @model_validator(mode="after")
    def _absolute_weights(self) -> Self:
        if not self.weights.is_absolute():
            raise ValueError(f"weights must be an absolute path, found {str(self.weights)!r}")
        return self

    @cached_property
    def profile(self) -> str:
        """64 hex digits over everything that can change an answer: weights, engine, context length."""
        if self.profile_id:
            return self.profile_id
        settings = {
            "weights_sha256": self.weights_sha256,
            "engine": f"xllamacpp {version('xllamacpp')}",
            "context_length": self.context_length,
        }
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    @property
    def served_release(self) -> str:
        """The release that the endpoint names."""
        return self.release or _RELEASES[self.dialect]

    @property
    def thread_count(self) -> int:
        """Threads the engine computes with."""
        return self.threads or available_cores()


def available_cores() -> int:
    """Cores this process may use: of its affinity, without hyperthreads, within the container's quota; at most 8.

    More threads than cores wait for each other and are slower than one; past eight a small model gains nothing.
    """
    if sys.platform != "linux":
        return min(_MOST_THREADS, os.cpu_count() or 1)
    cores = {_siblings(processor) for processor in os.sched_getaffinity(0)}
    return max(1, min(_MOST_THREADS, len(cores), _quota()))


def _siblings(processor: int) -> str:
    """The processors that share this one's core, as the kernel writes them."""
    topology = Path(f"/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list")
    try:
        return topology.read_text(encoding="ascii")
    except OSError:
        return str(processor)


def _quota() -> int:
    """Whole processors of the control group's quota; many when there is none."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return _MOST_THREADS
    return _MOST_THREADS if quota == "max" else int(quota) // int(period)
