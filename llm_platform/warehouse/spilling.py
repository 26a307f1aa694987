"""Where an engine puts what does not fit its memory: a folder of one process, closed to others, gone afterwards."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from llm_platform.warehouse.holders import node, process_started

_PREFIX = ".spill-"


class SpillFolder:
    """A folder for one connection: in the lake's own folder where that is on this machine, else a temporary one.

    Its name cannot be guessed, so nobody can have put a link there. What killed processes of this machine left is
    removed by the next one.
    """

    def __init__(self, beside: Path | None) -> None:
        self.path: Path | None = None
        if beside is not None and beside.is_dir():
            _sweep(beside)
        # A lake that may only be read has no room for it.
        for parent in dict.fromkeys((beside, None)):
            try:
                self.path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{_place()}-{os.getpid()}-", dir=parent))
            except OSError:
                continue
            return

    def remove(self) -> None:
        """Remove it with what is in it; a second call does nothing."""
        path, self.path = self.path, None
        if path is not None:
            shutil.rmtree(path, ignore_errors=True)


def openers(folder: Path) -> list[str]:
    """Who else has a lake open whose own folder this is, in words."""
    _sweep(folder)
    found = []
    for path in sorted(folder.glob(f"{_PREFIX}*")):
        place, _, rest = path.name.removeprefix(_PREFIX).partition("-")
        process = rest.partition("-")[0]
        if place != _place():
            found.append("a process of another machine")
        elif process != str(os.getpid()):
            found.append(f"process {process}")
    return list(dict.fromkeys(found))


def _place() -> str:
    return hashlib.sha256(node().encode()).hexdigest()[:12]


def _sweep(folder: Path) -> None:
    for path in folder.glob(f"{_PREFIX}*"):
        place, _, rest = path.name.removeprefix(_PREFIX).partition("-")
        process = rest.partition("-")[0]
        if node() and place == _place() and process.isdecimal() and process_started(int(process)) is None:
            shutil.rmtree(path, ignore_errors=True)
