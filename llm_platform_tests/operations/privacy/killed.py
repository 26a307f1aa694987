"""Carries out requests to forget, and dies as by `kill -9` at the n-th call of a function of the platform.

Run as a program: `python -m …killed FOLDER LOCATION BRANCH N`, the locations as JSON. With 0 it lives.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from llm_platform.warehouse.lake import LakeLocation
from llm_platform_tests.operations.privacy.test_forgetting import Ward


def main() -> None:
    folder, location, branch, number = sys.argv[1:5]
    ward = Ward(LakeLocation(**json.loads(location)), LakeLocation(**json.loads(branch)), Path(folder))
    calls = 0

    def count(frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal calls
        if event == "call" and "llm_platform/" in frame.f_code.co_filename:
            calls += 1
            if calls == int(number):
                os.kill(os.getpid(), signal.SIGKILL)

    forgetting = ward.forgetting
    sys.setprofile(count)
    forgetting.finish("reviews")
    sys.setprofile(None)


if __name__ == "__main__":
    main()
