"""Train a LoRA adapter: `python -m llm_platform.finetuning.train JOB OUTPUT --base WEIGHTS`.

A process of its own: by hand, started by Dagster Pipes beside the platform, or in a Kubernetes job. Progress is a line
of JSON on standard output for every step (`{"event": "step", "step": 3, ...}`); when Dagster started it, the same
numbers go to Dagster's log and metadata. Checkpoints lie in `OUTPUT/checkpoint` until the adapter is done: after a kill
the same command goes on from there, to the same bytes. The adapter lies in `OUTPUT/<adapter_id>`; its folder is the
last progress line's `folder` (`{"event": "done", "adapter_id": ..., "folder": ...}`) and, through Pipes, the
metadata `adapter_id`, `folder`, `steps`, `best_step`, `validation_loss`, `validation_accuracy`, `wall_seconds`,
`stopped`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Any

from llm_platform.errors import PlatformError, unexpected
from llm_platform.finetuning.adapter import CONFIG, WEIGHTS, finish, hashes, new_adapter
from llm_platform.finetuning.base import Base, best_device, load_base, require_libraries
from llm_platform.finetuning.batches import memory_bytes, parts_for
from llm_platform.finetuning.encoding import Choices, Encoded, encode
from llm_platform.finetuning.energy import EnergyMeter
from llm_platform.finetuning.examples import TrainingExample
from llm_platform.finetuning.job import CODE_VERSION, SENTENCE, TrainingJob, read_job
from llm_platform.finetuning.layout import write_layout
from llm_platform.finetuning.loop import Examples, Limits, Trainer
from llm_platform.finetuning.progress import ProgressReporter, reporting
from llm_platform.records import AdapterManifest, TrainingMetrics

LIBRARIES = ("torch", "transformers", "peft", "gguf", "safetensors", "tokenizers")
CHECKPOINTS = "checkpoint"


@dataclass(frozen=True)
class Options:
    """How this process trains; nothing of it changes the adapter, but for the number of threads its last bits.

    Attributes:
        gpu: Whether it was given a GPU, and refuses to train on the processor instead.
    """

    threads: int
    checkpoint_seconds: float
    gpu: bool = False


def main(arguments: Sequence[str] | None = None) -> int:
    """Train one adapter; 0 when it is done, 1 with a sentence on standard error when it is not."""
    given = _parser().parse_args(arguments)
    options = Options(threads=given.threads or _cores(), checkpoint_seconds=given.checkpoint_seconds, gpu=given.gpu)
    try:
        with reporting() as report:
            train(given.job, given.output, base=given.base, options=options, report=report)
    except PlatformError as error:
        sys.stderr.write(f"{SENTENCE}{' '.join(str(error).split())}\n")
        return 1
    except BrokenPipeError:
        # Who started this process is gone. Python flushes standard output once more at its end; let it go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.stderr.write("Nobody reads the progress any more. The same command goes on from the last checkpoint.\n")
        return 1
    except Exception as error:  # noqa: BLE001 - the end of the process; a trace ends with what the error says
        sys.stderr.write(f"{SENTENCE}{unexpected(error)}\n")
        return 1
    return 0


def train(job_folder: Path, output: Path, *, base: Path, options: Options, report: ProgressReporter) -> Path:
    """Train the job of a folder, and return the adapter's folder.

    Raises:
        PermanentError: the job, the base model or the examples do not allow it, or training made nothing better.
        TransientError: the process was asked to end; the same call goes on from its last step.
    """
    job, examples = read_job(job_folder)
    require_libraries()
    ended = _Ended()
    _deterministic(options.threads)
    meter, began = EnergyMeter(), time.monotonic()
    loaded = load_base(base, pinned_sha256=job.base.weights_sha256, device=best_device(gpu=options.gpu))
    limits = _limits(job, options, ended)
    trainer = _trainer(job, examples, loaded, checkpoints=output / CHECKPOINTS, limits=limits, report=report)
    earlier = trainer.state.seconds
    report(
        "start",
        step=trainer.state.step,
        steps=trainer.planned,
        train=len(trainer.examples.train),
        validation=len(trainer.examples.validation),
        dtype=_dtype(loaded),
        device=loaded.device.type,
        shared_prefix_tokens=len(trainer.prefix),
    )
    metrics = trainer.run()
    seconds = earlier + time.monotonic() - began
    folder = _written(job, trainer, metrics, output, seconds=seconds, joules=None if earlier else meter.joules())
    kept = metrics.kept
    assert kept is not None  # a training without one has raised
    report(
        "done",
        adapter_id=folder.name,
        folder=str(folder),
        steps=metrics.steps,
        best_step=metrics.best_step,
        validation_loss=kept.loss,
        validation_accuracy=kept.accuracy,
        wall_seconds=round(seconds, 1),
        stopped=metrics.stopped,
    )
    # Only now: without the adapter, a kill up to here goes on from the last step.
    shutil.rmtree(output / CHECKPOINTS, ignore_errors=True)
    return folder


class _Ended:
    """Whether somebody has asked the process to end; the step in progress is finished and saved first."""

    def __init__(self) -> None:
        self.asked = False
        try:
            signal.signal(signal.SIGTERM, self._ask)
        except ValueError:
            # Not the main thread: whoever started that one ends it.
            return

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True

    def __call__(self) -> bool:
        return self.asked


def _trainer(
    job: TrainingJob,
    examples: Sequence[TrainingExample],
    loaded: Base,
    *,
    checkpoints: Path,
    limits: Limits,
    report: ProgressReporter,
) -> Trainer:
    encoded = encode(examples, loaded.tokenizer, context_length=job.base.context_length)
    by_part: dict[str, list[Encoded]] = {"train": [], "validation": []}
    for example, one in zip(examples, encoded, strict=True):
        by_part[example.part].append(one)
    parts = parts_for(
        loaded.model.config,
        longest=max(one.size for one in encoded),
        memory_bytes=memory_bytes(loaded.device),
        bytes_per_number=loaded.dtype.itemsize,
    )
    return Trainer(
        base=loaded,
        recipe=job.recipe,
        examples=Examples(by_part["train"], by_part["validation"], Choices(job.answers, loaded.tokenizer)),
        parts=parts,
        limits=limits,
        report=report,
        folder=checkpoints,
        inputs_hash=job.inputs_hash,
    )


def _limits(job: TrainingJob, options: Options, ended: _Ended) -> Limits:
    seconds = 60 * job.max_minutes
    if job.max_cost_usd is not None and job.price_per_hour_usd:
        paid = 3600 * job.max_cost_usd / job.price_per_hour_usd
        if paid < seconds:
            return Limits(paid, "money budget", options.checkpoint_seconds, ended)
    return Limits(seconds, "time budget", options.checkpoint_seconds, ended)


def _written(
    job: TrainingJob, trainer: Trainer, metrics: TrainingMetrics, output: Path, *, seconds: float, joules: float | None
) -> Path:
    """The adapter's folder, whole."""
    price = job.price_per_hour_usd
    with new_adapter(output) as aside:
        write_layout(trainer.wrapped, config=aside / CONFIG, weights=aside / WEIGHTS, base_name=job.base.entry)
        manifest = AdapterManifest(
            application=job.application,
            name=job.name,
            base=job.base,
            base_sha256=trainer.base.sha256,
            prompt_version=job.prompt_version,
            files=hashes(aside),
            data=job.data,
            recipe=job.recipe,
            dtype=_dtype(trainer.base),
            code_version=CODE_VERSION,
            metrics=metrics,
            libraries=_libraries(),
            created_at=datetime.now(UTC),
            wall_seconds=round(seconds, 1),
            energy_joules=joules,
            cost_usd=None if price is None else seconds / 3600 * price,
        )
        return finish(aside, manifest)


def _libraries() -> dict[str, str]:
    return {name: metadata.version(name) for name in LIBRARIES if _is_installed(name)}


def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _dtype(base: Base) -> str:
    return str(base.dtype).removeprefix("torch.")


def _deterministic(threads: int) -> None:
    """The same bits every time on one machine; the number of threads is fixed since sums depend on it."""
    # cuBLAS reads it when it starts; without it, its sums differ from run to run.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    # Nothing here reads memory that nothing has written; filling all of it first takes time at every step.
    deterministic: Any = torch.utils.deterministic
    deterministic.fill_uninitialized_memory = False


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m llm_platform.finetuning.train",
        description="Train a LoRA adapter from a job folder. After a kill, the same command goes on where it was.",
    )
    parser.add_argument("job", type=Path, help="folder with job.json and examples.jsonl")
    parser.add_argument("output", type=Path, help="folder that the adapter's folder and the checkpoint are written to")
    parser.add_argument(
        "--base", type=Path, required=True, help="the base model: a GGUF file, or a folder in Hugging Face layout"
    )
    parser.add_argument("--threads", type=int, help="processor threads (default: all cores it may use)")
    parser.add_argument("--gpu", action="store_true", help="refuse to train on the processor with a PyTorch for GPUs")
    parser.add_argument(
        "--checkpoint-seconds", type=float, default=30.0, help="seconds between checkpoints (default: 30)"
    )
    return parser


if __name__ == "__main__":
    # Libraries read these when they are imported. Threads that wait for one another should sleep: on a machine with
    # other work, spinning takes the cores from it. The base is a path, never a name to look up.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    sys.exit(main())
