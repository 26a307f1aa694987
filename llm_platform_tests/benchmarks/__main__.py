"""`python -m llm_platform_tests.benchmarks [--full] [--only MEASURE ...]`: measure, print, write JSON and pictures."""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from llm_platform_tests.benchmarks.measures import FULL, MEASURES, QUICK, Figures, machine
from llm_platform_tests.benchmarks.pictures import draw

RESULTS = Path(__file__).parent / "results"


def measure(names: list[str], *, full: bool) -> dict[str, Figures]:
    """The figures of each measure, written as they come."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%S}{'_full' if full else ''}.json"
    figures: dict[str, Figures] = {"machine": machine()}
    for name in names:
        began = time.monotonic()
        figures[name] = MEASURES[name](FULL if full else QUICK)
        figures[name]["measured_in_seconds"] = round(time.monotonic() - began, 1)
        path.write_text(json.dumps(figures, indent=1) + "\n")
        sys.stdout.write(f"{name}\n")
        for key, value in figures[name].items():
            sys.stdout.write(f"  {key:40} {'…' if key.endswith('_limits') else value}\n")
        sys.stdout.flush()
    (RESULTS / "latest.json").write_text(path.read_text())
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="the large sizes; about twenty minutes")
    parser.add_argument("--only", nargs="+", choices=list(MEASURES), default=list(MEASURES))
    parser.add_argument("--pictures", type=Path, help="folder to draw the pictures into")
    given = parser.parse_args()
    figures = measure(given.only, full=given.full)
    if given.pictures:
        draw(figures, given.pictures)


if __name__ == "__main__":
    main()
