"""Runs that are killed, stopped, or started twice."""

from __future__ import annotations

import signal
import time

import dagster as dg
import pytest

from llm_platform_tests.survival.command import Moment, asked_more_than
from llm_platform_tests.survival.conftest import MakeDesk
from llm_platform_tests.survival.ledger import leases, ledger
from llm_platform_tests.team import NAME

DOCUMENTS = 300
IN_FLIGHT = 16
"""Twice the slots that the lock entry names."""
LATENCY_SECONDS = 0.1
JOURNAL_SECONDS = 0.25
"""Between two syncs of the journal; a busy machine may take twice as long."""


def test_killed_run_pays_for_nothing_twice_that_was_committed(desk: MakeDesk) -> None:
    """`kill -9` cannot be caught: the next run takes the dead one's lease and asks only for what was not kept.

    Kept is what was in the lake or in the journal, which is written several times a second.
    """
    terminal, model = desk(DOCUMENTS, latency_seconds=LATENCY_SECONDS)
    halfway = Moment(model, DOCUMENTS // 2)
    run = terminal.start("run", NAME)
    halfway.wait(run)
    run.signal(signal.SIGKILL)
    assert run.finished().status == -signal.SIGKILL
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
    assert len(sent_again) <= IN_FLIGHT + 2 * IN_FLIGHT * JOURNAL_SECONDS / LATENCY_SECONDS
    assert found.is_whole(DOCUMENTS)
    assert any(name == release and later > token for name, later, _ in leases(terminal.team))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["terminated", "interrupted"])
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


def test_second_run_is_told_who_is_at_work_and_doubles_nothing(desk: MakeDesk) -> None:
    """Two people press the button: one run answers, the other one says so at once instead of waiting or paying."""
    terminal, model = desk(DOCUMENTS, latency_seconds=0.3)
    begun = Moment(model, 10)
    first = terminal.start("run", NAME)
    begun.wait(first)

    second = terminal.run("run", NAME)
    with dg.DagsterInstance.ephemeral() as elsewhere:
        job = terminal.team.definitions().resolve_job_def(NAME)
        third = job.execute_in_process(
            instance=elsewhere, asset_selection=[dg.AssetKey([NAME, "completions", "clear"])], raise_on_error=False
        )
    finished = first.finished()

    assert second.failed_plainly, second.said
    assert f"(process {first.pid}) is bringing {NAME} up to date" in second.err
    failures = [event.step_failure_data.user_failure_data for event in third.all_events if event.is_step_failure]
    assert [f"(process {first.pid} on " in str(failure.description) for failure in failures if failure] == [True]
    assert finished.status == 0, finished.said
    assert set(model.counts.asked.values()) == {2}
    assert ledger(terminal.team).is_whole(DOCUMENTS)
