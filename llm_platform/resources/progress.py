"""Where the progress of a run goes besides Dagster's log, e.g. to a bar in the terminal that started it."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

from llm_platform.inference.engine import Progress

ProgressListener = Callable[[str, Progress], None]

listener: ContextVar[ProgressListener | None] = ContextVar("progress_listener", default=None)
"""Called with the asset's name and its progress, by assets that run in the same process."""
