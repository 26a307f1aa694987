"""A team whose application has run, once for all tests of prompt work and judges."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llm_platform_tests.operations.prompt_team import Ran, team_that_has_run


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """`clear` serves, `vague` is refused; tests leave its files as they were."""
    with team_that_has_run(tmp_path_factory.mktemp("prompts")) as found:
        yield found
