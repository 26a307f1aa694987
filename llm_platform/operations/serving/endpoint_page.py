"""The card of one model's endpoints: throughput, latency, queue and errors over the last day."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from llm_platform.evaluation.charts import Line, Point, line_chart
from llm_platform.evaluation.panel import Panel
from llm_platform.evaluation.panel_page import Tiles, render_page
from llm_platform.files import write_text
from llm_platform.models.entries import LockEntry
from llm_platform.nim.series import Stretch, together
from llm_platform.operations.serving.monitoring import RECENT, Watched
from llm_platform.records import InferenceRun
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.store import ApplicationStore

POINTS = 48
"""A day in half hours: what a chart of this width can show."""

ENDPOINT_PAGES = "endpoints"
"""Folder of these pages, beside those of applications."""
RUNS_SHOWN = 12
FOOTER = (
    "Percentiles are read from the endpoints' own histograms, from what was added between two looks; a restart counts "
    "from zero. Where an endpoint publishes no such number, nothing is shown.",
)
LATENCIES = {
    "time_to_first_token": "Time to the first token",
    "inter_token": "Time between two tokens",
    "end_to_end": "Whole answer",
}


def write_endpoint_page(
    lake: Warehouse, watched: Watched, entry: LockEntry, applications: Sequence[str], *, folder: Path
) -> Path:
    """Write the card of a lock entry's endpoints; returns its path.

    Args:
        lake: Holds the bulk runs of `applications` that asked this model, as the client measured them.
        watched: What was found.
        entry: The model.
        applications: Names of those that use it.
        folder: Where to write.

    Raises:
        StorageError: the page cannot be written.
    """
    now = watched.at
    runs = {name: runs_of_entry(lake.application(name), entry.name) for name in applications}
    html = render_page(
        [*_charts(watched.series, now), _endpoints(watched), *_finishes(watched.series), *_runs(runs)],
        kind="endpoints",
        name=entry.name,
        title=f"Endpoints of {entry.served_name}",
        date=f"{now:%Y-%m-%d %H:%M} UTC",
        lede=_lede(watched),
        tiles=_tiles(watched, now),
        footer=FOOTER,
    )
    return write_text(folder / f"{entry.name}.html", html)


def runs_of_entry(store: ApplicationStore, entry: str) -> list[InferenceRun]:
    """The newest bulk runs of an application that asked a lock entry, newest first."""
    rows = store.releases.table().select(["release_id", "model_entry"]).to_pylist()
    releases = [row["release_id"] for row in rows if row["model_entry"] == entry]
    found = [run for release_id in releases for run in store.runs.of_release(release_id)]
    return sorted(found, key=lambda run: run.started_at, reverse=True)[:RUNS_SHOWN]


def binned(series: Sequence[Stretch], count: int) -> list[Stretch]:
    """The series in at most so many parts, neighbours added up."""
    size = -(-len(series) // count) if series else 1
    return [together(series[start : start + size]) for start in range(0, len(series), size)]


def _lede(watched: Watched) -> str:
    if watched.resting:
        return "It does not run now; it starts on use."
    trouble = [held.note for held in (watched.healthy, watched.queue, watched.errors) if not held.passed]
    return " ".join(f"{note}." for note in trouble) or "Every endpoint is ready."


def _tiles(watched: Watched, now: datetime) -> Tiles:
    recent = [part for part in watched.series if part.end > now - RECENT]
    numbers = watched.healthy.numbers
    tiles = {"Ready": (f"{numbers['healthy']:.0f} of {numbers['endpoints']:.0f}", "endpoints")}
    if not recent:
        return tiles
    hour = together(recent)
    tokens = _sum(hour.rate("prompt_tokens"), hour.rate("generation_tokens"))
    return {
        **tiles,
        "Tokens a second": (_number(tokens), "last hour, prompt and answer"),
        "p95 of an answer": (_seconds(hour.quantile("end_to_end", 0.95)), "last hour"),
        "Waiting": (_number(hour.waiting), "requests, now"),
        "Errors": (_number(hour.counters.get("errors")), "last hour"),
    }


def _charts(series: Sequence[Stretch], now: datetime) -> list[Panel]:
    parts = binned(series, POINTS)
    panels = []
    rates = {"prompt tokens": "prompt_tokens", "answer tokens": "generation_tokens"}
    throughput = [_line(name, parts, now, [part.rate(counter) for part in parts]) for name, counter in rates.items()]
    panels.append(_panel("Throughput", throughput, "tokens a second"))
    for histogram, title in LATENCIES.items():
        lines = [
            _line(f"p{share:.0%}".rstrip("%"), parts, now, [part.quantile(histogram, share) for part in parts])
            for share in (0.5, 0.95, 0.99)
        ]
        panels.append(_panel(title, lines, "seconds"))
    queue = [
        _line("running", parts, now, [part.running for part in parts]),
        _line("waiting", parts, now, [part.waiting for part in parts]),
    ]
    panels.append(_panel("Requests at the endpoints", queue, "requests"))
    # Most queues are shorter than the first bucket, where a percentile is a guess and the mean is not.
    means = [found.mean if (found := part.histograms.get("queue_time")) else None for part in parts]
    panels.append(_panel("Waiting for a slot", [_line("mean", parts, now, means)], "seconds"))
    errors = [part.counters.get("errors") for part in parts]
    if any(errors):
        panels.append(_panel("Errors", [_line("errors", parts, now, errors)], "errors"))
    return [panel for panel in panels if panel is not None]


def _panel(title: str, lines: Sequence[Line | None], unit: str) -> Panel | None:
    drawn = [line for line in lines if line is not None]
    if not drawn:
        return None
    picture = line_chart(drawn, title=f"{title}, {unit}", x_label="hours ago", y_label=unit)
    return Panel(title=title, picture=picture)


def _line(name: str, parts: Sequence[Stretch], now: datetime, values: Sequence[float | None]) -> Line | None:
    points = tuple(
        Point(x=(part.end - now).total_seconds() / 3600.0, y=value)
        for part, value in zip(parts, values, strict=True)
        if value is not None
    )
    return Line(name=name, points=points) if points else None


def _endpoints(watched: Watched) -> Panel:
    rows = tuple(
        (
            look.base_url,
            "ready" if look.healthy else "not ready",
            _number(look.metrics.running),
            _number(look.metrics.waiting),
            "–" if look.metrics.kv_cache_usage is None else f"{look.metrics.kv_cache_usage:.2f}",
            ", ".join(look.metrics.adapters_running) or "–",
            look.reason or "–",
        )
        for look in watched.looks
    )
    columns = ("endpoint", "state", "running", "waiting", "cache in use", "adapters", "why")
    return Panel(title="Each endpoint now", note=watched.healthy.note, columns=columns, rows=rows, wide=True)


def _finishes(series: Sequence[Stretch]) -> list[Panel]:
    if not series:
        return []
    day = together(series)
    rows = tuple((reason, f"{count:,.0f}") for reason, count in sorted(day.finished.items()) if count)
    if not rows:
        return []
    return [Panel(title="How answers ended, last day", columns=("finish reason", "requests"), rows=rows)]


def _runs(runs: Mapping[str, Sequence[InferenceRun]]) -> list[Panel]:
    """The client's side of the same: what bulk runs measured."""
    listed = sorted(
        ((name, run) for name, found in runs.items() for run in found), key=lambda one: one[1].started_at, reverse=True
    )
    rows = tuple(
        (
            f"{run.started_at:%Y-%m-%d %H:%M}",
            name,
            f"{run.sent:,}",
            f"{run.tokens_per_second:,.0f}",
            _seconds(run.latency_p50_seconds),
            _seconds(run.latency_p95_seconds),
            f"{run.retries:,}",
            json.dumps(run.causes) if run.causes else "–",
        )
        for name, run in listed[:RUNS_SHOWN]
    )
    if not rows:
        return []
    columns = ("started", "application", "requests", "tokens a second", "p50", "p95", "sent again", "why")
    note = "Measured by the platform that asked, queueing and network included."
    return [Panel(title="Bulk runs as the client saw them", note=note, columns=columns, rows=rows, wide=True)]


def _sum(*values: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g} s"
