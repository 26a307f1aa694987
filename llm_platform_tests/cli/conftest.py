"""Teams at a terminal: one with nothing yet, one whose application has run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_platform_tests.kept import KeptTeam
from llm_platform_tests.servers.scripted import ScriptedServer
from llm_platform_tests.survival.command import Terminal
from llm_platform_tests.team import ENTRY, NAME, Team, answer

Ran = tuple[Terminal, ScriptedServer]


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Terminal]:
    """Nothing has run, and the model is not asked."""
    with ScriptedServer(answer=answer) as model:
        yield Terminal(Team(tmp_path, model.url, documents=10))


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[KeptTeam[Team], ScriptedServer]]:
    """Two variants pass and one is refused; `clear` serves."""
    with ScriptedServer(answer=answer) as model:
        team = Team(tmp_path_factory.mktemp("team"), model.url, documents=60)
        team.write_prompt("brief", "Say clearly and briefly, HAPPY or SAD: {{ text }}")
        team.specification["variants"]["brief"] = {"prompt": "brief", "model": ENTRY, "sampling": {"max_tokens": 4}}
        team.write_specification()
        finished = Terminal(team).run("run", NAME)
        assert finished.status == 0, finished.said
        yield KeptTeam(team), model


@pytest.fixture
def ran(kept: tuple[KeptTeam[Team], ScriptedServer]) -> Ran:
    """The same at the beginning of every test."""
    team, model = kept
    model.answer = answer
    return Terminal(team.put_back()), model
