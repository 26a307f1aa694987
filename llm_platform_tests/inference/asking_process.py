"""A process of its own that asks and stores, to be interrupted or killed: `python -m … URL FILE COUNT`."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType

from llm_platform.inference.engine import EndpointTarget, run_completions
from llm_platform.records import Completion, DocumentRow, from_json_lines
from llm_platform_tests.inference.cases import QUICK, Rendered, release

POLICY = replace(QUICK, max_backlog_rows=2 * QUICK.batch_rows)


def main(url: str, stored: Path, count: int) -> None:
    done = set(stored.read_text().split()) if stored.exists() else set()

    def terminate(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, terminate)

    with stored.open("a") as file:

        def sink(lines: list[bytes]) -> None:
            file.write("".join(f"{row.document_id}\n" for row in from_json_lines(Completion, lines)))
            file.flush()
            os.fsync(file.fileno())

        missing = [
            DocumentRow(document_id=str(number), fingerprint=str(number), text="words")
            for number in range(count)
            if str(number) not in done
        ]
        run_completions(
            release(),
            lambda row: Rendered(messages=[{"role": "user", "content": f"DOC#{row.document_id}#"}]),
            [missing],
            sink,
            constraint={},
            endpoints=[EndpointTarget(url)],
            policy=POLICY,
        )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
