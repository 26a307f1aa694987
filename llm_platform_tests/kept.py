"""A folder, kept as it is once and put back for every test: what tests begin with has to happen only once."""

from __future__ import annotations

import copy
import shutil
import tempfile
from pathlib import Path
from typing import Generic, TypeVar

from llm_platform_tests.team import Team

Kept = TypeVar("Kept", bound=Team)


class KeptFolder:
    """Files and lakes of a folder as they are now. Nobody may be at work on them, now or when they are put back.

    They come back to the same place: a lake knows the folder that it is in.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._copy = Path(tempfile.mkdtemp(prefix="kept-", dir=folder.parent)) / folder.name
        shutil.copytree(folder, self._copy, symlinks=True)

    def put_back(self) -> None:
        """Make it what it was, as if nothing had happened since."""
        shutil.rmtree(self._folder)
        shutil.copytree(self._copy, self._folder, symlinks=True)


class KeptTeam(Generic[Kept]):
    """Files, lake and history of a team as they are now, and what it knows of itself."""

    def __init__(self, team: Kept) -> None:
        self._team = copy.deepcopy(team)
        self._folder = KeptFolder(team.root)

    def put_back(self) -> Kept:
        """The team, as if nothing had happened to it since."""
        self._folder.put_back()
        return copy.deepcopy(self._team)
