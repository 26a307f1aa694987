"""A run that is ended from Dagster's UI while it asks a model."""

from __future__ import annotations

import time
from pathlib import Path

import dagster as dg
import pytest

from llm_platform_tests.defs.deployment import TERMINATE, deployed, wait_until
from llm_platform_tests.servers.scripted import ScriptedServer
from llm_platform_tests.survival.ledger import ledger
from llm_platform_tests.team import NAME, Team

DOCUMENTS = 200
DRAIN_SECONDS = 5.0


@pytest.mark.slow
def test_a_run_terminated_in_the_ui_drains_in_seconds_and_stores_what_came_back(
    tmp_path: Path, model: ScriptedServer
) -> None:
    """A real run in a process of its own: the button ends it in order, and nothing that was paid for is lost."""
    model.latency_seconds = 0.3
    team = Team(tmp_path, model.url, documents=DOCUMENTS)
    with deployed(team, processes=True) as deployment:
        run_id = deployment.launch(NAME, ["documents", "completions_clear"])
        deployment.tick()
        wait_until(lambda: model.counts.requests > DOCUMENTS // 4)
        deployment.click(TERMINATE, runId=run_id)
        clicked = time.monotonic()
        wait_until(lambda: deployment.instance.get_run_by_id(run_id).is_finished)
        seconds = time.monotonic() - clicked
        run = deployment.instance.get_run_by_id(run_id)
        pools = deployment.instance.event_log_storage.get_concurrency_info("nim-scripted")

    assert run is not None
    assert run.status is dg.DagsterRunStatus.CANCELED
    # What is in flight is waited for, and the process has to end on a busy machine.
    assert seconds < DRAIN_SECONDS + 10
    assert model.counts.requests < DOCUMENTS
    assert ledger(team).stored["clear"] == set(model.counts.answered)
    assert pools.active_slot_count == 0
