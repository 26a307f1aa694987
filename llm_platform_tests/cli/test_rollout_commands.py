"""A rollout at a terminal, from its start to its withdrawal."""

from __future__ import annotations

import pytest

from llm_platform_tests.cli.conftest import Ran
from llm_platform_tests.survival.command import Finished, Terminal
from llm_platform_tests.team import NAME


def served(terminal: Terminal) -> dict[str, int]:
    """Variant → rows that readers get of it."""
    with terminal.team.warehouse.open(read_only=True) as lake:
        rows = lake.application(NAME).published.table(1).to_pylist()
    names = [row["variant"] for row in rows]
    return {name: names.count(name) for name in set(names)}


def said(terminal: Terminal, *arguments: str) -> str:
    finished: Finished = terminal.run(*arguments)
    assert finished.status == 0, finished.said
    return finished.out


@pytest.mark.slow
def test_a_rollout_is_started_looked_at_and_withdrawn_at_once(ran: Ran) -> None:
    """What is wrong with a challenger has to be out of readers' sight with one command, and stay on record."""
    terminal, model = ran
    never = {"stage": "canary", "share": 0.4, "margin": 0.3, "least_labels": 1000}
    terminal.team.specification["rollout"] = {"stages": [never, {"stage": "champion"}]}
    terminal.team.write_specification()

    started = said(terminal, "rollout", "start", NAME, "brief", "--note", "shorter")
    said(terminal, "run", NAME)
    shared = served(terminal)
    asked = model.counts.requests
    status = said(terminal, "rollout", "status", NAME)
    held = said(terminal, "rollout", "hold", NAME, "brief")
    resumed = said(terminal, "rollout", "resume", NAME)
    refused = terminal.run("promote", NAME, "brief")
    replayed = said(terminal, "rollout", "replay", NAME, "brief", "--documents", "10")
    listed = said(terminal, "release", "list", NAME)
    shown = said(terminal, "release", "show", NAME, "brief")
    differing = said(terminal, "release", "diff", NAME, "clear", "brief")
    withdrawn = said(terminal, "rollout", "withdraw", NAME, "brief", "--now", "--note", "too short")
    history = said(terminal, "rollout", "history", NAME)
    over = terminal.run("rollout", "hold", NAME, "brief")

    assert "canary 0.4" in started
    assert set(shared) == {"clear", "brief"}
    assert 10 < shared["brief"] < 40
    assert "of 1000 labels" in status
    assert "held" in held
    assert "running" in resumed
    assert refused.failed_plainly, refused.said
    assert "rollout start" in refused.err
    assert "10 texts, 10 answered" in replayed
    assert "canary" in listed
    assert "brief" in shown
    assert "sampling.max_tokens: 8 -> 4" in differing
    assert "withdraw" in withdrawn
    assert served(terminal) == {"clear": 60}
    assert model.counts.requests == asked
    assert [word in history for word in ("start", "hold", "resume", "withdraw", "shorter")] == [True] * 5
    assert over.failed_plainly, over.said
    assert "is running" in over.err


@pytest.mark.slow
def test_a_mistake_in_a_file_keeps_nobody_from_stopping_a_challenger(ran: Ran) -> None:
    """A file is most likely to be wrong while somebody is in a hurry."""
    terminal, _ = ran
    never = {"stage": "canary", "share": 0.4, "margin": 0.3, "least_labels": 1000}
    terminal.team.specification["rollout"] = {"stages": [never, {"stage": "champion"}]}
    terminal.team.write_specification()
    said(terminal, "rollout", "start", NAME, "brief")
    file = next(terminal.team.root.rglob("application.yaml"))
    right = file.read_text()
    file.write_text(right + "nobody_knows_this: 1\n")

    refused = terminal.run("rollout", "resume", NAME)
    held = said(terminal, "rollout", "hold", NAME)
    withdrawn = said(terminal, "rollout", "withdraw", NAME)
    history = said(terminal, "rollout", "history", NAME)
    again = terminal.run("rollout", "withdraw", NAME)
    file.write_text(right)
    status = said(terminal, "rollout", "status", NAME)

    assert refused.failed_plainly, refused.said
    assert "nobody_knows_this" in refused.err
    assert "nobody_knows_this" in held
    assert "brief: withdrawn" in withdrawn
    assert "withdraw" in history
    assert again.failed_plainly, again.said
    assert "Challengers none" in status
