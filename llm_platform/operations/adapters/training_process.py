"""The training process: started beside the platform, listened to line by line, and never left behind."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from typing import Any

from llm_platform.errors import PermanentError, TransientError
from llm_platform.finetuning.job import SENTENCE
from llm_platform.operations.adapters.finetuning import Training

TrainingEvent = Mapping[str, Any]
"""One line of progress: `event` is `step`, `validation` or `done`; see `llm_platform.finetuning.train`."""

END_SECONDS = 20.0


def run_training(
    training: Training,
    *,
    environment: Mapping[str, str] | None = None,
    on_event: Callable[[TrainingEvent], None] | None = None,
) -> None:
    """Train in a process of its own until it ends.

    Its progress comes through a pipe: when this process is killed, the next line has no reader and the training ends,
    at its last checkpoint. Run again, it goes on from there.

    Args:
        training: What `prepare_training` has written.
        environment: Variables for it besides our own, e.g. those by which it reports to Dagster.
        on_event: Told every line of progress.

    Raises:
        PermanentError: it refused; says why, in its words.
        TransientError: it was killed.
    """
    log = training.folder / "training.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            training.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **(environment or {})},
            text=True,
        )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                event = _event(line)
                if event is not None and on_event is not None:
                    on_event(event)
            status = process.wait()
        except BaseException:
            _end(process)
            raise
        finally:
            if process.stdout is not None:
                process.stdout.close()
    if status < 0:
        raise TransientError(
            f"Training of {training.job.name!r} was ended by signal {-status}. Run it again: it goes on from its last "
            f"checkpoint in {training.output}."
        )
    if status:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        # What libraries say stays in the log: it may quote examples.
        said = [line.removeprefix(SENTENCE) for line in lines if line.startswith(SENTENCE)]
        raise PermanentError(
            f"Training of {training.job.name!r} failed: "
            + (said[-1] if said else f"exit status {status}; what libraries said is in {log}")
        )


def _event(line: str) -> TrainingEvent | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "event" in found else None


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(timeout=END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
