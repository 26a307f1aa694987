"""`explain` on a release whose answers were derived from those that another one paid for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_platform_tests.servers.scripted import ScriptedServer, Seen
from llm_platform_tests.survival.command import Terminal
from llm_platform_tests.team import ENTRY, NAME, Team, right_answer


@pytest.fixture
def calibrated(tmp_path: Path) -> Iterator[Terminal]:
    """One variant, decided by log-probabilities that lean towards SAD and tell the labels apart all the same."""

    def leaning(seen: Seen) -> str:
        happy = seen.document_id.isdigit() and right_answer(int(seen.document_id)) == "HAPPY"
        model.logprobs = {"HAPPY": -1.5 if happy else -4.0, "SAD": -0.5}
        return "SAD"

    with ScriptedServer(answer=leaning) as model:
        team = Team(tmp_path, model.url, documents=60)
        variant = {"prompt": "clear", "model": ENTRY, "decision": "logprobs", "calibrate": True}
        team.specification["variants"] = {"clear": {**variant, "sampling": {"max_tokens": 4}}}
        team.write_specification()
        yield Terminal(team)


@pytest.mark.slow
def test_explain_names_the_run_that_paid_for_a_calibrated_answer(calibrated: Terminal) -> None:
    """The release that readers see sent nothing itself; the chain ends at the run and the commit that did."""
    run = calibrated.run("run", NAME)
    finished = calibrated.run("explain", NAME, "7", "--json")

    assert run.status == 0, run.said
    assert finished.status == 0, finished.said
    chain = json.loads(finished.out)
    assert chain["published"]["answer"] == "HAPPY"
    assert chain["release"]["calibration"]["examples"] > 0
    assert chain["completion"]["reused"] is True
    assert chain["run"]["run_id"] == chain["completion"]["run_id"]
    assert chain["run"]["release_id"] != chain["release"]["release_id"]
    assert chain["run"]["git_commit"]
