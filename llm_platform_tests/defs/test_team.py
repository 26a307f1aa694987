"""A team's own modules beside its applications."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_platform.defs.team import team_definitions
from llm_platform.errors import SpecificationError


def test_what_a_teams_module_raises_is_told_by_class_and_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have read a table at its import, and its message stands in logs and in Dagster's UI."""
    (tmp_path / "desk_of_a_team.py").write_text('raise ValueError("row: secretword")\n', encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))

    with pytest.raises(SpecificationError, match=r"it raised ValueError at .*desk_of_a_team\.py:1") as raised:
        team_definitions("desk_of_a_team")

    assert "secretword" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_module_that_is_not_there_is_named() -> None:
    """The commonest mistake is a folder that is not on the path."""
    with pytest.raises(SpecificationError, match=r"No module named 'no_such_desk'.*PYTHONPATH"):
        team_definitions("no_such_desk")
