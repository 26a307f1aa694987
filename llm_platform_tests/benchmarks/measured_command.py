"""`llm-platform` with an account of itself: run with `FILE ARGUMENT ...`, it writes CPU, peak memory and steps to FILE.

It is run as a file: with `-m`, its package would have it work with fewer threads than a user's command.

CPU is user and system time of all threads and of children that have ended. A thread notes it every 20 ms; the events of
Dagster say when each step began and ended, so each has its part.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

EVERY_SECONDS = 0.02


def _cpu_seconds() -> float:
    return sum(os.times()[:4])


def _mib(name: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{name}:")[2].split()[0]) / 1024


def _steps(samples: list[tuple[float, float, float]]) -> dict[str, dict[str, float]]:
    """CPU and largest memory between begin and end of each step of the run that this process made."""
    import dagster as dg

    if "DAGSTER_HOME" not in os.environ:
        home = Path(os.environ["LLM_PLATFORM_STATE"]) / "namespaces" / os.environ["LLM_PLATFORM_NAMESPACE"] / "dagster"
        os.environ["DAGSTER_HOME"] = str(home)
    if not Path(os.environ["DAGSTER_HOME"]).is_dir():
        return {}
    found: dict[str, dict[str, float]] = {}
    with dg.DagsterInstance.get() as instance:
        records = instance.get_run_records(limit=1)
        if not records or (records[0].start_time or 0.0) < samples[0][0]:
            return {}
        for stats in instance.get_run_step_stats(records[0].dagster_run.run_id):
            if stats.start_time is None or stats.end_time is None:
                continue
            inside = [one for one in samples if stats.start_time <= one[0] <= stats.end_time]
            if inside:
                cpu, peak = inside[-1][1] - inside[0][1], max(one[2] for one in inside)
                found[stats.step_key] = {"cpu_seconds": round(cpu, 2), "mib": round(peak)}
    return found


def main() -> None:
    report, arguments = Path(sys.argv[1]), sys.argv[2:]
    samples = [(time.time(), _cpu_seconds(), _mib("VmRSS"))]
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(EVERY_SECONDS):
            samples.append((time.time(), _cpu_seconds(), _mib("VmRSS")))

    threading.Thread(target=sample, daemon=True).start()
    sys.argv = ["llm-platform", *arguments]
    status = 0
    try:
        from llm_platform.cli.main import main as command

        command()
    except SystemExit as end:
        status = int(end.code or 0)
    finally:
        ended.set()
    cpu, peak = _cpu_seconds(), _mib("VmHWM")
    steps = _steps(samples) if os.environ.get("CHANGE_STEPS") and arguments[0] == "run" else {}
    account = {"cpu_seconds": round(cpu, 2), "peak_mib": round(peak), "status": status, "steps": steps}
    report.write_text(json.dumps(account))
    sys.exit(status)


if __name__ == "__main__":
    main()
