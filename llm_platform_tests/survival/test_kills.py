"""Runs that are killed, stopped, or started twice."""

from __future__ import annotations

import signal
import threading
import time

import dagster as dg
import pytest

from llm_platform.inference.policy import EnginePolicy
from llm_platform_tests.servers.faults import Held
from llm_platform_tests.survival.command import Moment, asked_more_than
from llm_platform_tests.survival.conftest import MakeDesk
from llm_platform_tests.survival.ledger import askers, leases, ledger, wait_until_kept
from llm_platform_tests.team import NAME

DOCUMENTS = 300
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
IN_FLIGHT = 16
"""Twice the slots that the lock entry names."""
LATENCY_SECONDS = 0.1
JOURNAL_SECONDS = 0.25
"""Most that an answer waits until it is written to the journal, but for what the disk takes."""


def test_killed_run_pays_for_nothing_twice_that_was_committed(desk: MakeDesk) -> None:
    """`kill -9` cannot be caught: the next run takes the dead one's lease and asks only for what was not kept.

    Kept is what was in the lake or in the journal, which is written several times a second.
    """
    dead = threading.Event()
    terminal, model = desk(
        DOCUMENTS,
        latency_seconds=LATENCY_SECONDS,
        script=lambda seen: Held(dead.is_set) if seen.number >= DOCUMENTS // 2 else None,
    )
    halfway = Moment(model, DOCUMENTS // 2 + 1)
    run = terminal.start("run", NAME)
    halfway.wait(run)
    # Whatever the disk takes; what is in flight is not answered until the run is dead.
    wait_until_kept(terminal.team, "clear", model.counts.answered)
    run.signal(signal.SIGKILL)
    assert run.finished().status == -signal.SIGKILL
    dead.set()
    committed = ledger(terminal.team).stored["clear"]
    answered = set(model.counts.answered)
    (release, token, expires_at), *_ = leases(terminal.team)
    assert expires_at > time.time(), "the lease of the dead process had run out by itself"

    again = terminal.run("run", NAME)

    assert again.status == 0, again.said
    found = ledger(terminal.team)
    # Both variants ask for every document once; what is asked for more often was sent again after the kill.
    sent_again = asked_more_than(model.counts, 2)
    assert not committed & sent_again
    assert len(answered - sent_again) >= DOCUMENTS // 6
    assert len(sent_again) <= IN_FLIGHT
    assert EnginePolicy().flush_seconds <= JOURNAL_SECONDS
    assert found.is_whole(DOCUMENTS)
    assert any(name == release and later > token for name, later, _ in leases(terminal.team))


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGTERM, id="terminated"),
        # Dagster makes the same interrupt of both.
        pytest.param(signal.SIGINT, marks=pytest.mark.slow, id="interrupted"),
    ],
)
def test_stopped_run_drains_stores_and_says_so(desk: MakeDesk, number: signal.Signals) -> None:
    """Schedulers and people stop runs: seconds suffice to keep everything that was paid for."""
    terminal, model = desk(DOCUMENTS, latency_seconds=0.1)
    halfway = Moment(model, DOCUMENTS // 2)
    run = terminal.start("run", NAME)
    halfway.wait(run)
    run.signal(number)
    signalled = time.monotonic()
    finished = run.finished()

    assert time.monotonic() - signalled < 30
    assert finished.failed_plainly, finished.said
    assert "Interrupted. What had come back is stored" in finished.err
    assert ledger(terminal.team).stored["clear"] == set(model.counts.answered)
    assert DOCUMENTS // 2 <= model.counts.requests < DOCUMENTS


@pytest.mark.slow
def test_further_runs_share_the_work_and_double_nothing(desk: MakeDesk) -> None:
    """Two people press the button, and one elsewhere: all answer, one publishes, nothing is doubled."""
    terminal, model = desk(DOCUMENTS, latency_seconds=0.3)
    begun = Moment(model, 10)
    first = terminal.start("run", NAME)
    begun.wait(first)

    second = terminal.start("run", NAME)
    with dg.DagsterInstance.ephemeral() as elsewhere:
        job = terminal.team.definitions().resolve_job_def(NAME)
        third = job.execute_in_process(
            instance=elsewhere,
            asset_selection=[dg.AssetKey([NAME, "completions_clear"])],
            raise_on_error=False,
            run_config=QUIET,
        )
    finished, helped = first.finished(), second.finished()

    assert finished.status == 0, finished.said
    assert helped.status == 0, helped.said
    assert f"(process {first.pid}) is bringing {NAME} up to date; sharing its work" in helped.out
    assert third.success
    assert set(model.counts.asked.values()) == {2}
    assert ledger(terminal.team).is_whole(DOCUMENTS)
    # More than one process asked for the variant that all of them worked on.
    assert len(askers(terminal.team, "clear")) > 1
