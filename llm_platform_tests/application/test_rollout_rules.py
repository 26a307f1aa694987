"""What `rollout` of an application file may say, and where a mistake in it is reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_platform.application.load import load_application
from llm_platform.errors import SpecificationError

FILE = """\
name: tickets
title: Kinds of tickets
task: classify
labels: [BUG, WISH]
source: {url: tickets.csv, key: id, text: body}
references: {url: known.csv, key: id, answer: kind}
variants:
  plain: {prompt: plain, model: tiny}
evaluation: {gates: {}}
rollout:
  on_champion_failure: rollback
  stages:
    - {stage: shadow, share: 0.5, budget_usd: 2, least_labels: 20}
    - {stage: canary, share: 0.05, approvals: 1, roles: [adjudicator]}
    - {stage: canary, share: 0.25}
    - {stage: champion}
  guards:
    valid_rate: {minimum: 0.95, action: withdraw, reason: a hole in twenty}
    cost_usd_per_document: {maximum: 0.01, action: alert, reason: a cent for each}
"""


def folder(tmp_path: Path, text: str) -> Path:
    found = tmp_path / "tickets"
    (found / "prompts").mkdir(parents=True)
    (found / "prompts" / "plain.md").write_text("---\napi: chat\n---\n# user\n{{ text }}\n")
    (found / "application.yaml").write_text(text)
    return found


def test_a_policy_is_read_as_it_stands(tmp_path: Path) -> None:
    """The table below changes one thing of this file, so it must be right."""
    application = load_application(folder(tmp_path, FILE), models=["tiny"])

    policy = application.rollout.policy
    assert policy is not None
    assert [(one.stage, one.share) for one in policy.stages] == [
        ("shadow", 0.5),
        ("canary", 0.05),
        ("canary", 0.25),
        ("champion", 1.0),
    ]
    assert policy.stages[1].roles == ("adjudicator",)
    assert application.rollout.guards.valid_rate is not None
    assert application.rollout.on_champion_failure == "rollback"


def test_without_stages_there_is_no_policy(tmp_path: Path) -> None:
    """Files from before there were stages go on as they did."""
    application = load_application(folder(tmp_path, FILE[: FILE.index("rollout:")]), models=["tiny"])

    assert application.rollout.policy is None
    assert application.rollout.on_champion_failure == "hold"


@pytest.mark.parametrize(
    ("before", "after", "mistake"),
    [
        pytest.param("    - {stage: champion}\n", "", "12: found stages shadow, canary, canary", id="no-champion"),
        pytest.param("share: 0.25", "share: 0.05", "15: found a canary with a share of 0.05", id="share-stands-still"),
        pytest.param("share: 0.25", "share: 1.0", "15: found a canary with a share of 1", id="canary-of-everything"),
        pytest.param(
            "{stage: canary, share: 0.25}", "{stage: canary}", "15: found a canary without 'share'", id="none"
        ),
        pytest.param("{stage: canary, share: 0.25}", "{stage: shadow}", "15: found stage 'shadow' after", id="order"),
        pytest.param("canary, share: 0.25", "canray, share: 0.25", "did you mean 'canary'?", id="misspelt-stage"),
        pytest.param("{stage: champion}", "{stage: champion, share: 0.5}", "16: found a champion with", id="part"),
        pytest.param("{stage: champion}", "{stage: champion, approvals: 1}", "16: found approvals for", id="too-late"),
        pytest.param("approvals: 1, ", "", "14: found roles of approvers where no approval", id="roles-of-nobody"),
        pytest.param("[adjudicator]", "[adjudicater]", "14: found 'adjudicater'", id="unknown-role"),
        pytest.param("approvals: 1", "approvals: 3", "14: found '3'", id="too-many-approvals"),
        pytest.param("share: 0.25", "share: 0.25, budget_usd: 1", "15: found budget_usd for a canary", id="budget"),
        pytest.param("references: {url: known.csv, key: id, answer: kind}\n", "", "by labels without", id="no-labels"),
        pytest.param("action: withdraw", "action: delete", "18: found 'delete'", id="unknown-action"),
        pytest.param("minimum: 0.95", "minimum: 95", "18: found '95'", id="percent"),
        pytest.param("valid_rate:", "valid_rats:", "did you mean 'valid_rate'?", id="unknown-guard"),
        pytest.param("on_champion_failure: rollback", "on_champion_failure: stop", "11: found 'stop'", id="failure"),
        pytest.param("shadow, share: 0.5", "shadow, shares: 0.5", "13: found key 'shares'", id="unknown-key"),
    ],
)
def test_a_mistake_is_told_at_its_line(tmp_path: Path, before: str, after: str, mistake: str) -> None:
    """A policy that is read as something else would expose readers to what nobody decided."""
    assert before in FILE

    with pytest.raises(SpecificationError) as raised:
        load_application(folder(tmp_path, FILE.replace(before, after, 1)), models=["tiny"])

    assert mistake in str(raised.value)


def test_limits_in_money_need_prices(tmp_path: Path) -> None:
    """A budget that nobody can count would end nothing."""
    with pytest.raises(SpecificationError) as raised:
        load_application(folder(tmp_path, FILE), models=["tiny"], unpriced=["tiny"])

    said = str(raised.value)
    assert ":13: found a limit in money, and model 'tiny' of 'plain' has no price" in said
    assert ":19: found a limit in money" in said


def test_a_dry_run_needs_something_to_try(tmp_path: Path) -> None:
    """Without stages nothing would ever be decided, and nobody would notice."""
    start = FILE[: FILE.index("rollout:")]

    with pytest.raises(SpecificationError, match="a dry run without stages"):
        load_application(folder(tmp_path, start + "rollout: {dry_run: true}\n"), models=["tiny"])
