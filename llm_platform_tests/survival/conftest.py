"""A team at a terminal, with a model that takes its time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from llm_platform_tests.servers.scripted import ScriptedServer
from llm_platform_tests.survival.command import Terminal
from llm_platform_tests.team import Team, answer

Desk = tuple[Terminal, ScriptedServer]
MakeDesk = Callable[..., Desk]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[MakeDesk]:
    """Makes a team of that many documents and its model; settings of the scripted model may be given."""
    with ExitStack() as stack:

        def make(documents: int = 60, *, variables: dict[str, str] | None = None, **server: Any) -> Desk:
            model = stack.enter_context(ScriptedServer(**{"answer": answer, **server}))
            return Terminal(Team(tmp_path, model.url, documents=documents), **(variables or {})), model

        yield make
