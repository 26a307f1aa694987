"""Drift in the graph: the asset measures what the lake holds, and its checks say what was found."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from llm_platform_tests.team import NAME, Team

QUIET: Any = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def run(team: Team, instance: dg.DagsterInstance) -> dict[str, dg.AssetCheckEvaluation]:
    """Run the application's job; the checks of `drift` by name."""
    done = team.definitions().resolve_job_def(NAME).execute_in_process(instance=instance, run_config=QUIET)
    assert done.success
    found = done.get_asset_check_evaluations()
    return {one.check_name: one for one in found if one.asset_key.path[-1] == "drift"}


@pytest.mark.slow
def test_the_day_after_a_promotion_cannot_tell_and_new_documents_can(team: Team, instance: dg.DagsterInstance) -> None:
    """One check a property: people see what changed, as a warning, in the run that brought the documents."""
    team.specification["monitoring"] = {"drift": {"minimum_texts": 20}, "labelling": {"audit_share": 1.0}}
    team.write_specification()
    first = run(team, instance)
    old = {f"{number}": team.text(number) for number in range(60)}
    new = {f"{n}": f"DOC#{n}# secretword: der Drucker ist nicht mit dem Netz verbunden" for n in range(100, 140)}
    team.write_documents({**old, **new})
    second = run(team, instance)

    assert "length_not_drifted" not in first
    assert all(check.passed for check in first.values())
    assert not second["language_not_drifted"].passed
    assert second["language_not_drifted"].severity is dg.AssetCheckSeverity.WARN
    assert second["validity_not_drifted"].passed
    assert "live_accuracy_not_below_minimum" not in second  # nobody has labelled one yet
    assert "secretword" not in str([check.metadata for check in second.values()])
    with team.warehouse.open() as lake:
        assert lake.application(NAME).drift.flagged().num_rows > 0
