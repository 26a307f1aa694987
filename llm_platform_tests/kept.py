"""A team's folder, kept as it is once and put back for every test: what tests begin with has to happen only once."""

from __future__ import annotations

import copy
import shutil
import tempfile
from pathlib import Path
from typing import Generic, TypeVar

from llm_platform_tests.team import Team

Kept = TypeVar("Kept", bound=Team)


class KeptTeam(Generic[Kept]):
    """Files, lake and history of a team as they are now. Nobody may be at work on them, now or when they are put back.

    They come back to the same place: a lake knows the folder that it is in.
    """

    def __init__(self, team: Kept) -> None:
        self._team = copy.deepcopy(team)
        self._copy = Path(tempfile.mkdtemp(prefix="kept-", dir=team.root.parent)) / team.root.name
        shutil.copytree(team.root, self._copy, symlinks=True)

    def put_back(self) -> Kept:
        """The team, as if nothing had happened to it since."""
        shutil.rmtree(self._team.root)
        shutil.copytree(self._copy, self._team.root, symlinks=True)
        return copy.deepcopy(self._team)
