"""A model in a container on this machine's GPUs, through docker or podman.

The image is named by digest, so what runs is what the lock file pins. Keys are passed by the name of their variable:
the value is on no command line. A container is known by its id, which is never given twice; another one, whatever its
name, is not touched.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llm_platform.errors import EndpointUnavailable, PodsFailed
from llm_platform.nim.manifests.pods import PORT
from llm_platform.nim.plain_words import LOG_LINES, plain
from llm_platform.records import Dialect

CACHE = "/opt/nim/.cache"
"""Where a NIM keeps what it downloads."""

KEYS = ("NGC_API_KEY", "HF_TOKEN")
"""Variables that a download may need; each is passed on by name."""

COMMAND_SECONDS = 60.0
STOP_SECONDS = 30


@dataclass(frozen=True)
class LocalModel:
    """A model as an engine on this machine needs to know it.

    Attributes:
        image: `repository@sha256:…`; None where an engine is installed on the machine itself.
        model: Name of the weights at their publisher.
        gpus: GPUs that hold it.
        cache: Folder that keeps downloads.
        adapters: (folder with adapters, path under which the engine is to see it); None without adapters.
    """

    name: str
    dialect: Dialect
    served_name: str
    model: str
    context_length: int
    cache: Path
    image: str | None = None
    revision: str | None = None
    profile: str | None = None
    gpus: int = 1
    adapters: tuple[Path, str] | None = None

    @property
    def pinned(self) -> str:
        """What of the lock entry decides which build runs."""
        return self.image or f"{self.model}@{self.revision or 'newest'}"


def run_command(engine: str, model: LocalModel, *, cid_file: Path, labels: Mapping[str, str], user: int) -> list[str]:
    """The command that starts a model's container in the background and prints its id.

    Args:
        engine: Path of docker or podman.
        model: What to serve; its image is there already.
        cid_file: Where the engine writes the id before it starts anything.
        labels: By which people find it.
        user: Number of the user who owns the cache.
    """
    podman = Path(engine).name.startswith("podman")
    gpus = ["--device", "nvidia.com/gpu=all", "--userns", "keep-id"] if podman else ["--gpus", "all"]
    # Downloads are the user's own files, and the engine's processes share memory between GPUs.
    command = [engine, "run", "--detach", "--pull", "never", "--cidfile", str(cid_file), *gpus, "--user", str(user)]
    command += ["--shm-size", "16g", "--publish", f"127.0.0.1::{PORT}", "--volume", f"{model.cache}:{CACHE}"]
    for name, value in labels.items():
        command += ["--label", f"{name}={value}"]
    for name in KEYS:
        command += ["--env", name]
    for name, value in environment(model).items():
        command += ["--env", f"{name}={value}"]
    if model.adapters is not None:
        command += ["--volume", f"{model.adapters[0]}:{model.adapters[1]}:ro"]
    assert model.image is not None
    return [*command, model.image, *(_vllm_arguments(model) if model.dialect == "vllm" else [])]


def environment(model: LocalModel) -> dict[str, str]:
    """Variables by which a NIM is told what to serve.

    Source: NVIDIA NIM for LLMs, environment variables, 1.15 and 2.1.
    """
    if model.dialect == "vllm":
        return {"HF_HOME": CACHE}
    found = {
        "NIM_SERVED_MODEL_NAME": model.served_name,
        "NIM_MAX_MODEL_LEN": str(model.context_length),
        "NIM_TENSOR_PARALLEL_SIZE": str(model.gpus),
    }
    if model.profile is not None:
        found["NIM_MODEL_PROFILE"] = model.profile
    if model.adapters is not None:
        found |= {"NIM_PEFT_SOURCE": model.adapters[1], "NIM_PEFT_REFRESH_INTERVAL": "30"}
    return found


def vllm_command(program: str, model: LocalModel, port: int) -> list[str]:
    """The command that serves a model by the vLLM of this machine, in the foreground."""
    own = ["--host", "127.0.0.1", "--port", str(port)]
    return [program, "serve", model.model, *own, *_vllm_arguments(model)[2:]]


def _vllm_arguments(model: LocalModel) -> list[str]:
    found = ["--model", model.model, "--served-model-name", model.served_name]
    found += ["--max-model-len", str(model.context_length), "--tensor-parallel-size", str(model.gpus)]
    if model.revision is not None:
        found += ["--revision", model.revision]
    return found


@dataclass(frozen=True)
class ContainerEngine:
    """docker or podman, as a program."""

    program: str

    def pull(self, image: str, *, seconds: float) -> None:
        """Bring an image to this machine; layers that have come are kept when the time is over."""
        self._run("pull", image, seconds=seconds)

    def start(self, command: Sequence[str]) -> str:
        """Start a container; its id."""
        return self._said(command, COMMAND_SECONDS).strip().splitlines()[-1]

    def address(self, container: str) -> str:
        """Root of its endpoint on this machine."""
        said = self._run("port", container, f"{PORT}/tcp").strip().splitlines()
        return f"http://{said[0]}"

    def state(self, container: str) -> str:
        """`running`, or how it ended; empty when there is no such container."""
        done = self._call([self.program, "inspect", "--format", "{{json .State}}", container], COMMAND_SECONDS)
        if done.returncode:
            return ""
        state = json.loads(done.stdout)
        if state["Status"] in ("running", "created", "restarting"):
            return "running"
        cause = "OOMKilled" if state.get("OOMKilled") else f"exit status {state.get('ExitCode')}"
        return f"{state['Status']}: {cause}"

    def log(self, container: str) -> str:
        """The end of its log."""
        command = [self.program, "logs", "--tail", str(LOG_LINES), container]
        done = self._call(command, COMMAND_SECONDS)
        return f"{done.stdout}\n{done.stderr}"

    def remove(self, container: str) -> bool:
        """End and remove a container; whether it was there."""
        if not self.state(container):
            return False
        self._call([self.program, "stop", "--time", str(STOP_SECONDS), container], COMMAND_SECONDS + STOP_SECONDS)
        self._run("rm", "--force", container)
        return True

    def _run(self, *arguments: str, seconds: float = COMMAND_SECONDS) -> str:
        return self._said([self.program, *arguments], seconds)

    def _said(self, command: Sequence[str], seconds: float) -> str:
        done = self._call(command, seconds)
        if done.returncode:
            what = " ".join(command[:2])
            raise PodsFailed(
                f"{what} failed with exit status {done.returncode}: {plain(done.stderr) or 'it said nothing'}. "
                "Is its daemon running, does this machine have an NVIDIA GPU and the NVIDIA Container Toolkit?"
            )
        return done.stdout

    def _call(self, command: Sequence[str], seconds: float) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise EndpointUnavailable(
                f"{' '.join(command[:2])} did not end within {seconds:.0f} s. Try again: what was downloaded is kept."
            ) from error
        except OSError as error:
            raise PodsFailed(f"{command[0]} cannot be started: {error.strerror}.") from error


def own_user() -> int:
    """Number of the user who runs this process."""
    return os.getuid()
