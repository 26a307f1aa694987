"""A document that leaves the source, where what leaves is forgotten."""

from __future__ import annotations

from pathlib import Path

from llm_platform.operations.answering.documents import forgets_departed, update_documents
from llm_platform.resources.warehouse import WarehouseResource
from llm_platform_tests.team import NAME, Team


def test_a_branch_forgets_nothing_since_it_would_in_every_namespace(tmp_path: Path) -> None:
    """Somebody who tries an application on a smaller table must not take documents from production."""
    team = Team(tmp_path, "http://127.0.0.1:9", documents=30)
    team.specification["retention"] = {"deleted": "forget"}
    team.write_specification()
    branch = WarehouseResource.of(team.settings.model_copy(update={"namespace": "try", "upstream": "test"}))
    for place in (team.warehouse, branch):
        with place.open() as lake:
            update_documents(lake, team.loaded)
    team.write_documents({str(number): team.text(number) for number in range(29)})

    left = {}
    for name, place in (("branch", branch), ("production", team.warehouse)):
        with place.open() as lake:
            assert update_documents(lake, team.loaded).change.deleted == 1
            left[name] = lake.frame(NAME, "departed").num_rows, forgets_departed(lake, team.loaded.application)

    assert left == {"branch": (0, False), "production": (1, True)}
