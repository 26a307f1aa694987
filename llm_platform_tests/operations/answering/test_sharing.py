"""Two processes at the end of one release, in two threads on lakes of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from llm_platform.errors import EndpointMismatch
from llm_platform.inference.engine import EndpointTarget, EnginePolicy
from llm_platform.operations.answering.completions import Sent, answer_missing
from llm_platform.operations.answering.documents import update_documents
from llm_platform.operations.answering.sending import Asking
from llm_platform.records import Completion, CompletionStatus
from llm_platform.settings.connection import Connection
from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.servers.faults import Fault, Held, Status
from llm_platform_tests.servers.scripted import ScriptedServer, Seen
from llm_platform_tests.team import NAME, Team, answer

DOCUMENTS = 240


@pytest.fixture
def lakes(tmp_path: Path) -> Iterator[tuple[Team, ScriptedServer, list[Warehouse]]]:
    """A team with documents, its model, and its lake attached twice."""
    with ScriptedServer(answer=answer, latency_seconds=0.1) as model, ExitStack() as stack:
        team = Team(tmp_path, model.url, documents=DOCUMENTS)
        attached = [stack.enter_context(team.warehouse.open()) for _ in range(2)]
        update_documents(attached[0], team.loaded)
        yield team, model, attached


def send(
    lake: Warehouse,
    team: Team,
    model: ScriptedServer,
    run_id: str,
    waits: list[str],
    *,
    verify: Callable[[], None] | None = None,
    limit: int = 8,
) -> Sent:
    store, loaded = lake.application(NAME), team.loaded
    release = loaded.requesting("clear", store)
    assert release is not None
    store.releases.put(release)
    asking = Asking(
        endpoints=lambda: [EndpointTarget(model.url)],
        policy=EnginePolicy(limit=limit, attempts=1, attempts_seconds=0.0, backoff_seconds=0.01, probe_seconds=0.05),
        connection=Connection(),
        run_id=run_id,
        git_commit="",
        journal=team.root / "journal",
        on_wait=waits.append,
        verify=verify,
    )
    return answer_missing(store, release, application=loaded.application, asking=asking)


def test_two_that_wait_for_each_other_both_end_with_nothing_missing(
    lakes: tuple[Team, ScriptedServer, list[Warehouse]],
) -> None:
    """Each sees rows of the other that are not committed yet; who waits has committed its own and holds nothing."""
    team, model, (one, other) = lakes
    waits: list[str] = []

    with ThreadPoolExecutor(2) as processes:
        first = processes.submit(send, one, team, model, "first", waits)
        second = processes.submit(send, other, team, model, "second", waits)
        runs = [first.result(60).run, second.result(60).run]

    assert all(run is not None for run in runs)
    assert sum(run.stored for run in runs if run) == DOCUMENTS
    assert set(model.counts.asked.values()) == {1}
    assert all("documents are left to 'first' (" in line or "left to 'second' (" in line for line in waits)


def test_documents_that_fail_for_both_keep_neither_waiting(
    lakes: tuple[Team, ScriptedServer, list[Warehouse]],
) -> None:
    """A document that gets no answer is a stored failure: whoever comes second finds nothing to wait for, or to pay."""
    team, model, (one, other) = lakes

    def fails(seen: Seen) -> Fault | None:
        return Status(500) if seen.document_id and int(seen.document_id) % 40 == 0 else None

    model.script = fails
    with ThreadPoolExecutor(2) as processes:
        runs = [processes.submit(send, lake, team, model, name, []) for lake, name in ((one, "a"), (other, "b"))]
        sent = [run.result(60) for run in runs]

    release = team.loaded.requesting("clear", one.application(NAME))
    assert release is not None
    completions = one.application(NAME).completions
    assert completions.missing_count(release.release_id) == 0
    assert completions.counts(release.release_id)["failed"] == DOCUMENTS // 40
    assert [found.left for found in sent] == [0, 0]
    assert max(model.counts.asked.values()) == 1


def test_answers_of_weights_that_were_swapped_are_taken_back(
    lakes: tuple[Team, ScriptedServer, list[Warehouse]],
) -> None:
    """A run whose endpoints were not what the release names leaves nothing under it; what was there before stays."""
    team, model, (one, _) = lakes
    store = one.application(NAME)
    release = team.loaded.requesting("clear", store)
    assert release is not None
    model.script = lambda seen: Status(400) if seen.document_id == "1" else None
    honest = send(one, team, model, "honest", [], verify=lambda: None).run
    team.write_documents({f"{number}": team.text(number) for number in range(DOCUMENTS + 20)})
    update_documents(one, team.loaded)

    def swapped() -> None:
        raise EndpointMismatch("http://endpoint served something else under 'tickets-1'.")

    with pytest.raises(EndpointMismatch, match="The 20 answers of this run are not kept"):
        send(one, team, model, "swapped", [], verify=swapped)

    assert honest is not None
    assert sum(store.completions.counts(release.release_id).values()) == honest.stored == DOCUMENTS
    assert store.completions.missing_count(release.release_id) == 20


def test_what_a_service_answers_while_a_run_is_at_work_is_not_sent_by_the_run(
    lakes: tuple[Team, ScriptedServer, list[Warehouse]],
) -> None:
    """A run of hours begins with a list of what is missing; callers do not wait for its end to ask about those."""
    team, model, (first, second) = lakes
    store = second.application(NAME)
    release = team.loaded.requesting("clear", store)
    assert release is not None
    answered = threading.Event()
    model.script = lambda seen: Held(answered.is_set) if seen.number >= 10 else None

    def answered_elsewhere() -> int:
        """Once the run has begun, everything that it has not asked about."""
        while model.counts.requests < 14:
            threading.Event().wait(0.01)
        rows = store.documents.table(columns=["document_id", "fingerprint"]).to_pylist()
        left = [row for row in rows if not model.counts.asked[row["document_id"]]]
        restored = store.completions.restore(
            [
                Completion(
                    release_id=release.release_id,
                    request_id=release.request_id,
                    fingerprint=row["fingerprint"],
                    document_id=row["document_id"],
                    status=CompletionStatus.VALID,
                    answer="HAPPY",
                    created_at=datetime.now(UTC),
                )
                for row in left
            ]
        )
        answered.set()
        return restored

    with ThreadPoolExecutor(1) as thread:
        stored = thread.submit(answered_elsewhere)
        sent = send(first, team, model, "run", [], limit=4)

    assert stored.result() == DOCUMENTS - 14
    assert sent.run is not None
    assert sent.run.sent == model.counts.requests < DOCUMENTS - 20
    assert set(model.counts.asked.values()) == {1}
    assert store.completions.of_release(release.release_id).num_rows == DOCUMENTS
