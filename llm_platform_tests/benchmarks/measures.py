"""Each measure, as figures that mean something on any machine: ratios, shares, counts."""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llm_platform_tests.benchmarks.bench import (
    CLIENT_CORE,
    ROOT,
    SERVER_CORE,
    Served,
    kill_at,
    lake_of,
    run,
    serving,
    start,
)
from llm_platform_tests.benchmarks.client import Measured
from llm_platform_tests.benchmarks.online import Plan, Timed
from llm_platform_tests.benchmarks.server import MODEL
from llm_platform_tests.online.cases import promoted, service
from llm_platform_tests.team import NAME, Team

Figures = dict[str, Any]

# Four a second.
_SETTLED_POINTS = 4
APPLICATIONS = 50
LOADED = (
    "import json, time; from llm_platform.definitions import defs; "
    "assets = len(list(defs.get_repository_def().asset_graph.get_all_asset_keys())); "
    "print(json.dumps({'assets': assets, 'cpu_seconds': round(time.process_time(), 2)}))"
)
"""All CPU of the process, imports included."""


@dataclass(frozen=True)
class Size:
    """How much is run.

    Attributes:
        rows: Rows of a run at (in flight, latency in seconds).
        sdk_rows: Rows that the SDK is given; its CPU per row does not depend on them.
        memory_rows: Two sizes whose peaks are compared.
        fixed_limits: Limits tried where the best fixed one is looked for.
    """

    rows: dict[tuple[int, float], int]
    sdk_rows: int
    memory_rows: tuple[int, int]
    outage_seconds: tuple[float, ...]
    throttled_rows: int
    balanced_rows: int
    found_rows: int
    fixed_limits: tuple[int, ...]
    idle_documents: int
    change_documents: tuple[int, ...]
    online_requests: int


QUICK = Size(
    rows={(64, 0.05): 5_120, (256, 0.05): 15_360, (1024, 0.5): 10_240},
    sdk_rows=800,
    memory_rows=(20_000, 200_000),
    outage_seconds=(5.0,),
    throttled_rows=5_000,
    balanced_rows=8_000,
    found_rows=8_000,
    fixed_limits=(288,),
    idle_documents=20_000,
    change_documents=(20_000,),
    online_requests=3_000,
)
FULL = Size(
    rows={(64, 0.05): 12_800, (256, 0.05): 40_960, (1024, 0.5): 20_480, (1024, 0.05): 100_000},
    sdk_rows=5_000,
    memory_rows=(20_000, 200_000),
    outage_seconds=(15.0, 60.0),
    throttled_rows=20_000,
    balanced_rows=16_000,
    found_rows=20_000,
    fixed_limits=(256, 288, 320),
    idle_documents=1_000_000,
    change_documents=(100_000, 1_000_000, 10_000_000),
    online_requests=20_000,
)


def machine() -> Figures:
    """What the figures were taken on."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    load = [round(value, 1) for value in os.getloadavg()]
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": names[0].partition(": ")[2] if names else platform.machine(),
        "python": platform.python_version(),
        "load_before": load,
    }


def endpoint_ceiling(_: Size) -> Figures:
    """How much the scripted endpoint serves to a client that only counts: it must not be what is measured."""
    figures: Figures = {}
    with serving(latency=0.0) as server:
        counted = run("ceiling", [server], 20_000, limit=64)
        figures["rows_per_second"] = round(counted.rows / counted.wall_seconds)
        figures["counting_client_cpu_ms"] = _ms(counted.cpu_ms)
        figures["endpoint_cpu_ms"] = _endpoint_ms(server)
    return figures


def cpu_per_row(size: Size) -> Figures:
    """The whole path with storage against what most people write, without storage, at the same load.

    A run costs something whatever its length (tables, leases, commits): `run_cpu_seconds`, from ten rows, included in
    all others.
    """
    with serving(latency=0.05) as server:
        figures: Figures = {"run_cpu_seconds": round(run("ours", [server], 10, limit=256).cpu_seconds, 3)}
    for in_flight in (64, 256):
        with serving(latency=0.05) as server:
            own = run("ours", [server], size.rows[in_flight, 0.05], limit=in_flight)
        with serving(latency=0.05) as server:
            theirs = run("sdk", [server], size.sdk_rows, limit=in_flight)
        figures[f"ours_{in_flight}_cpu_ms"] = _ms(own.cpu_ms)
        figures[f"sdk_{in_flight}_cpu_ms"] = _ms(theirs.cpu_ms)
        figures[f"ratio_{in_flight}"] = round(own.cpu_ms / theirs.cpu_ms, 4)
        figures[f"ours_{in_flight}_rows_per_second"] = _rate(own)
        figures[f"sdk_{in_flight}_rows_per_second"] = _rate(theirs)
        figures[f"sdk_{in_flight}_lost"] = theirs.rows - theirs.sound
        figures[f"ours_{in_flight}_lost"] = size.rows[in_flight, 0.05] - own.sound
    for name, options in {"label_256": {"label": True}, "no_journal_256": {"journal": False}}.items():
        with serving(latency=0.05, label="label" in options) as server:
            figures[f"{name}_cpu_ms"] = _ms(run("ours", [server], size.rows[256, 0.05], limit=256, **options).cpu_ms)
    return figures


def share_of_limit(size: Size) -> Figures:
    """Rows per second over concurrency / latency: over the whole call, and from first request to last answer.

    Beside it, what a client reaches that only counts: on a machine with other work that is less than one, too.
    """
    figures: Figures = {}
    for (in_flight, latency), rows in size.rows.items():
        with serving(latency=latency) as server:
            counting = _share(run("ceiling", [server], rows, limit=in_flight).wall_seconds, rows, in_flight, latency)
        with serving(latency=latency) as server:
            own = run("ours", [server], rows, limit=in_flight)
            counts = server.counts()
        name = _name(in_flight, latency)
        sending = counts["last_at"] - counts["first_at"]
        figures[f"whole_{name}"] = _share(own.wall_seconds, rows, in_flight, latency)
        figures[f"sending_{name}"] = _share(sending, rows, in_flight, latency)
        figures[f"counting_{name}"] = counting
        figures[f"rows_per_second_{name}"] = _rate(own)
        figures[f"cpu_ms_{name}"] = _ms(own.cpu_ms)
        # How busy one core would be at the limit: above one, the limit cannot be reached on it.
        figures[f"core_at_limit_{name}"] = round(own.cpu_ms / 1000 * in_flight / latency, 2)
        figures[f"lost_{name}"] = rows - own.sound
    return figures


def memory(size: Size) -> Figures:
    """Peak memory of two runs of different length, each in a process of its own."""
    few, many = size.memory_rows
    peaks = {}
    for rows in (few, many):
        with serving(latency=0.01) as server:
            peaks[rows] = run("ours", [server], rows, limit=256).peak_mib
    return {
        "rows": [few, many],
        "peak_mib": [round(peaks[few]), round(peaks[many])],
        "kib_per_row": round(1024 * (peaks[many] - peaks[few]) / (many - few), 3),
    }


def outage(size: Size) -> Figures:
    """503 to everything for some seconds in the middle of 3,000 rows."""
    first, *longer = size.outage_seconds
    more = {f"of_{seconds:.0f}_s_{name}": figure for seconds in longer for name, figure in _outage(seconds).items()}
    return {**_outage(first), **more}


def _outage(outage_seconds: float) -> Figures:
    rows, in_flight, latency = 3_000, 64, 0.1
    with serving(latency=latency, outage_after=600, outage_seconds=outage_seconds) as server:
        own = run("ours", [server], rows, limit=in_flight)
        counts = server.counts()
    ideal = math.ceil(rows / in_flight) * latency + outage_seconds
    requests = counts["requests"] + counts["probes"]
    return {
        "outage_seconds": outage_seconds,
        "lost": rows - own.sound,
        "extra_requests_share": round((requests - rows) / rows, 4),
        "time_over_ideal": round((counts["last_at"] - counts["first_at"]) / ideal, 3),
        "seconds_to_the_end_after_outage": round(counts["last_at"] - counts["outage_ended_at"], 2),
        "probes": counts["probes"],
    }


def killed(_: Size) -> Figures:
    """`kill -9` at half of 2,000 rows, then the same command again, with and without a journal."""
    return {
        **_killed(journal=True),
        **{f"no_journal_{name}": value for name, value in _killed(journal=False).items()},
    }


def _killed(*, journal: bool) -> Figures:
    rows, in_flight, latency = 2_000, 64, 0.05
    with serving(latency=latency) as server, lake_of(rows) as lake:
        given = {"limit": in_flight, "lake": str(lake), "journal": journal}
        with start("ours", [server], rows, **given) as process:
            flying = kill_at(server, process, answered=rows // 2)
        before = server.counts()
        own = run("ours", [server], rows, **given)
        counts = server.counts()
    # Answers that come back during one interval of the journal, at the rate of the limit.
    interval_rows = round(0.25 * in_flight / latency)
    return {
        "sent_again": counts["asked_again"],
        "in_flight_when_killed": flying,
        "answered_when_killed": before["answered"],
        "in_flight_and_one_interval": in_flight + interval_rows,
        "lost_or_doubled": rows - own.sound,
    }


def throttled(size: Size) -> Figures:
    """An endpoint of 64 slots that answers 429 above 128 in flight, asked with 512 and with a limit that is found."""
    figures: Figures = {}
    slots, latency, rows = 64, 0.05, size.throttled_rows
    for name, limit in {"asked_512": 512, "found": None}.items():
        with serving(latency=latency, slots=slots, capacity=2 * slots) as server:
            own = run("ours", [server], rows, limit=limit)
            counts = server.counts()
        sending = counts["last_at"] - counts["first_at"]
        figures[f"{name}_share"] = _share(sending, rows, slots, latency)
        figures[f"{name}_refused_share"] = round(counts["refused"] / rows, 3)
        figures[f"{name}_lost"] = rows - own.sound
    return figures


def two_endpoints(size: Size) -> Figures:
    """Two endpoints of 64 and 16 slots: what is reached of their sum, and who got how much."""
    latency, rows = 0.05, size.balanced_rows
    with serving(latency=latency, slots=64) as large, serving(latency=latency, slots=16) as small:
        own = run("ours", [large, small], rows, gauges=True)
        counts = [large.counts(), small.counts()]
    sending = max(one["last_at"] for one in counts) - min(one["first_at"] for one in counts)
    return {
        "share_of_sum": _share(sending, rows, 80, latency),
        "large_to_small": round(counts[0]["answered"] / max(counts[1]["answered"], 1), 2),
        "lost": rows - own.sound,
    }


def found_limit(size: Size) -> Figures:
    """256 slots of 200 ms that queue: the limit found with and without metrics against the best fixed one."""
    slots, latency, rows = 256, 0.2, size.found_rows
    fixed: dict[int, float] = {}
    for limit in size.fixed_limits:
        with serving(latency=latency, slots=slots) as server:
            run("ours", [server], rows, limit=limit)
            fixed[limit] = _sending_rate(server, rows)
    best = max(fixed.values())
    figures: Figures = {"slots": slots, "fixed_rows_per_second": {limit: round(rate) for limit, rate in fixed.items()}}
    for name, gauges in {"gauges": True, "no_gauges": False}.items():
        with serving(latency=latency, slots=slots) as server:
            own = run("ours", [server], rows, gauges=gauges)
            figures[f"{name}_share_of_best_fixed"] = round(_sending_rate(server, rows) / best, 3)
        settled, inside = _settled(own, slots)
        figures[f"{name}_limit_over_slots"] = round(own.limits[-1][1] / slots, 2)
        figures[f"{name}_settled_seconds"] = settled
        figures[f"{name}_share_of_time_inside"] = inside
        figures[f"{name}_limits"] = own.limits
        figures[f"{name}_lost"] = rows - own.sound
    return figures


def nothing_to_do(size: Size) -> Figures:
    """A second run over documents that are all answered, held against counting them."""
    rows = size.idle_documents
    with serving(latency=0.0) as server, lake_of(rows) as lake:
        first = run("ours", [server], rows, limit=256, lake=str(lake))
        sent = server.counts()["requests"]
        again = run("ours", [server], rows, limit=256, lake=str(lake))
        figures = {
            "documents": rows,
            "seconds": round(again.wall_seconds, 2),
            "cpu_seconds": round(again.cpu_seconds, 2),
        }
        figures["sent"] = server.counts()["requests"] - sent
    return {**figures, "first_run_peak_mib": round(first.peak_mib), "first_run_cpu_ms": _ms(first.cpu_ms)}


def online(size: Size) -> Figures:
    """What the service adds to a call at 200 requests a second, on one core."""
    with (
        tempfile.TemporaryDirectory(prefix="llm_platform_bench_") as folder,
        serving(latency=0.05, label=True) as server,
    ):
        team = Team(Path(folder), server.url, documents=2)
        team.lock |= {"served_name": MODEL, "slots": 256}
        team.write_prompt("clear", "Say whether this is HAPPY or SAD: {{ text }}", answers=("positive", "negative"))
        team.write_lock()
        promoted(team)
        with service(team, core=CLIENT_CORE) as served:
            plan = Plan(served.url, server.url, NAME, requests=size.online_requests, core=SERVER_CORE)
            done = subprocess.run(
                [sys.executable, "-m", "llm_platform_tests.benchmarks.online", json.dumps(asdict(plan))],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                check=True,
            )
            cpu_seconds = _cpu_seconds(served.process.pid)
    figures: Figures = {**Timed(**json.loads(done.stdout)).figures()}
    return {**figures, "requests": plan.requests, "rate": plan.rate, "service_cpu_seconds": round(cpu_seconds, 2)}


def _cpu_seconds(pid: int) -> float:
    """CPU that a process has taken since it began."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def change(size: Size) -> Figures:
    """Whole commands after a change of ten rows, and after none: CPU and memory around the completions."""
    from llm_platform_tests.benchmarks.change import measure

    return {str(rows): measure(rows) for rows in size.change_documents}


def definitions(_: Size) -> Figures:
    """Loading the graph of fifty applications, each as large as the largest that is shipped, in its own process."""
    with tempfile.TemporaryDirectory(prefix="llm_platform_bench_") as folder:
        for number in range(APPLICATIONS):
            copy = Path(folder) / f"application_{number:02d}"
            shutil.copytree(ROOT / "llm_platform" / "applications" / "movie_reviews", copy)
            specification = copy / "application.yaml"
            specification.write_text(
                specification.read_text().replace("name: movie_reviews", f"name: {copy.name}"), encoding="utf-8"
            )
        environment = {"LLM_PLATFORM_APPLICATIONS": folder, "LLM_PLATFORM_STATE": f"{folder}/state"}
        done = subprocess.run(
            [sys.executable, "-c", LOADED], cwd=ROOT, env=os.environ | environment, capture_output=True, check=True
        )
    found: Figures = json.loads(done.stdout)
    return {"applications": APPLICATIONS, **found}


MEASURES: dict[str, Callable[[Size], Figures]] = {
    one.__name__: one
    for one in (
        endpoint_ceiling,
        cpu_per_row,
        share_of_limit,
        memory,
        outage,
        killed,
        throttled,
        two_endpoints,
        found_limit,
        nothing_to_do,
        online,
        definitions,
        change,
    )
}


def _sending_rate(server: Served, rows: int) -> float:
    counts = server.counts()
    return rows / (counts["last_at"] - counts["first_at"])


def _settled(own: Measured, slots: int) -> tuple[float | None, float]:
    """When the limit first stayed between 1 and 1.2 times the slots for a second; share of the time since, inside."""
    inside = [(second, slots <= limit <= 1.2 * slots) for second, limit, flying in own.limits if flying]
    for first in range(len(inside) - _SETTLED_POINTS + 1):
        if all(one for _, one in inside[first : first + _SETTLED_POINTS]):
            rest = inside[first:]
            return inside[first][0], round(sum(one for _, one in rest) / len(rest), 2)
    return None, 0.0


def _endpoint_ms(server: Served) -> float:
    counts = server.counts()
    return _ms(1000 * counts["cpu_seconds"] / counts["answered"])


def _share(seconds: float, rows: int, in_flight: int, latency: float) -> float:
    return round(rows * latency / in_flight / seconds, 3)


def _rate(measured: Measured) -> int:
    return round(measured.rows / measured.wall_seconds)


def _ms(value: float) -> float:
    return round(value, 4)


def _name(in_flight: int, latency: float) -> str:
    return f"{in_flight}_at_{1000 * latency:.0f}_ms"
