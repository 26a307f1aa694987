"""Where the progress of a run goes besides Dagster's log, e.g. to a bar in the terminal that started it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from llm_platform.inference.engine import Progress

ProgressListener = Callable[[str, Progress], None]

listener: ContextVar[ProgressListener | None] = ContextVar("progress_listener", default=None)
"""Called with the asset's name and its progress, by assets that run in the same process."""

TrainingListener = Callable[[str, Mapping[str, Any]], None]

training_listener: ContextVar[TrainingListener | None] = ContextVar("training_listener", default=None)
"""Called with the asset's name and one line of progress of its training, in the same process."""
