"""Where a training tells how it goes: a line of JSON a step on standard output, and Dagster where it started it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

PIPES_VARIABLE = "DAGSTER_PIPES_CONTEXT"

Event = dict[str, Any]


class ProgressReporter(Protocol):
    """Takes one event: `event` names it, the rest are numbers, ids and paths; never a document's text."""

    def __call__(self, event: str, **fields: str | float) -> None:
        """Report one event."""


def to_stdout(event: str, **fields: str | float) -> None:
    """One line of JSON, written at once."""
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


@contextmanager
def reporting() -> Iterator[ProgressReporter]:
    """Standard output, and Dagster's log if Dagster Pipes started this process."""
    if PIPES_VARIABLE not in os.environ:
        yield to_stdout
        return
    from dagster_pipes import open_dagster_pipes

    with open_dagster_pipes() as pipes:

        def to_both(event: str, **fields: str | float) -> None:
            to_stdout(event, **fields)
            pipes.log.info(in_words(event, fields))

        yield to_both


def in_words(event: str, fields: Event) -> str:
    """An event as a line for people."""
    say: dict[str, Callable[[Event], str]] = {
        "start": lambda f: (
            f"Training on {f['train']} examples, validating on {f['validation']}: {f['steps']} steps in {f['dtype']} "
            f"on {f['device']}, from step {f['step']}"
        ),
        "step": lambda f: (
            f"Step {f['step']} of {f['steps']}: loss {f['loss']:.4f}, {f['tokens_per_second']:.0f} tokens/s, "
            f"{f['eta_seconds']:.0f} s to go"
        ),
        "validation": lambda f: f"Validation at step {f['step']}: loss {f['loss']:.4f}, accuracy {f['accuracy']:.3f}",
        "done": lambda f: f"Adapter {f['adapter_id']}: step {f['best_step']} of {f['steps']}, {f['stopped']}",
    }
    return say[event](fields) if event in say else event
