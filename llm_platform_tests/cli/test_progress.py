"""How far a run is, at a terminal and where there is none."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace

import pytest
from rich.console import Console

from llm_platform.inference.meter import Progress
from llm_platform.records import TokenUsage
from llm_platform.resources.progress import listener
from llm_platform.workbench import runs
from llm_platform.workbench.runs import bars

START = Progress(
    done=0, total=400, sent=0, stored=0, failed={}, retries={}, usage=TokenUsage(), tokens_per_second=90.0, in_flight=4,
    limit=4, latency_p50_seconds=None, latency_p95_seconds=None, seconds=1.0, seconds_left=None,
)  # fmt: skip


class Output(io.StringIO):
    """Standard output: a terminal, or not, until Dagster takes it into the log of a step."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize(
    ("terminal", "lines"), [pytest.param(True, 0, id="terminal"), pytest.param(False, 3, id="log")]
)
def test_progress_is_drawn_once(terminal: bool, lines: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar with the same in words between its frames is read by nobody; a log has no bar."""
    monkeypatch.setattr(runs, "PLAIN_SECONDS", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    output = Output(terminal=terminal)

    with contextlib.redirect_stdout(output), bars(Console()):
        output.terminal = False
        show = listener.get()
        assert show is not None
        for done in (100, 200, 400):
            show("tickets/clear", replace(START, done=done))

    assert output.getvalue().count(" texts, ") == lines
