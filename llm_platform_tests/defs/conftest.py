"""A team with a scripted model, and a Dagster instance of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from llm_platform_tests.servers.scripted import ScriptedServer
from llm_platform_tests.team import Team, answer


@pytest.fixture
def model() -> Iterator[ScriptedServer]:
    """A model that answers right when asked clearly."""
    with ScriptedServer(answer=answer) as server:
        yield server


@pytest.fixture
def team(tmp_path: Path, model: ScriptedServer) -> Team:
    """Sixty tickets, two variants."""
    return Team(tmp_path, model.url)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """Dagster's history, in memory."""
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral
