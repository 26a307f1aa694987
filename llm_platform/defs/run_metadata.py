"""What a bulk run did, as an asset's metadata and as a line of the log."""

from __future__ import annotations

from llm_platform.inference.meter import Progress
from llm_platform.records import InferenceRun


def run_metadata(run: InferenceRun | None) -> dict[str, float]:
    """Numbers of a run; None, which sent nothing, has the first few."""
    if run is None:
        return {"requests_sent": 0, "answers_stored": 0, "tokens_per_second": 0.0, "retries": 0}
    known = {
        "latency_p50_seconds": run.latency_p50_seconds,
        "latency_p95_seconds": run.latency_p95_seconds,
        "latency_p99_seconds": run.latency_p99_seconds,
        "idle_share": run.idle_share,
    }
    return {
        "requests_sent": run.sent,
        "answers_stored": run.stored,
        "tokens_per_second": run.tokens_per_second,
        "retries": run.retries,
        "wasted_tokens": run.wasted_tokens,
        "concurrency": run.concurrency,
        **{name: value for name, value in known.items() if value is not None},
        **{f"cause_{cause}": count for cause, count in run.causes.items()},
    }


def progress_line(progress: Progress) -> str:
    """A run at one moment, without a word of a document."""
    waiting = f", {progress.waiting:.0f} waiting there" if progress.waiting is not None else ""
    idle = f", {progress.idle_share:.0%} idle" if progress.idle_share is not None else ""
    p95 = f", p95 {progress.latency_p95_seconds:.2f} s" if progress.latency_p95_seconds is not None else ""
    failed = f", failed {dict(progress.failed)}" if progress.failed else ""
    again = f", sent again {dict(progress.retries)}" if progress.retries else ""
    left = f", {progress.seconds_left:.0f} s left" if progress.seconds_left is not None else ""
    down = [endpoint.base_url for endpoint in progress.endpoints if not endpoint.available]
    away = f", not answering: {', '.join(down)}" if down else ""
    return (
        f"{progress.done} of {progress.total} texts, {progress.tokens_per_second:,.0f} tokens/s, "
        f"{progress.in_flight} in flight of {progress.limit}{waiting}{idle}{p95}{failed}{again}{away}{left}"
    )
