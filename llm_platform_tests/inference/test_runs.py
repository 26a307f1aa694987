"""Whole runs, as an asset starts them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from llm_platform.errors import EndpointUnavailable, SpecificationError, StorageError
from llm_platform.inference.engine import EndpointTarget, EnginePolicy, Progress, run_completions
from llm_platform.records import Completion, CompletionStatus, DocumentRow, InferenceRun, from_json_lines
from llm_platform_tests.inference.cases import QUICK, Rendered, release
from llm_platform_tests.servers.scripted import ScriptedServer


def document(number: int, text: str = "words") -> DocumentRow:
    return DocumentRow(document_id=str(number), fingerprint=f"f{number}", text=text)


def batches(count: int, *, size: int = 100) -> Iterator[list[DocumentRow]]:
    for start in range(0, count, size):
        yield [document(number) for number in range(start, min(count, start + size))]


def render(row: DocumentRow) -> Rendered:
    return Rendered(messages=[{"role": "user", "content": f"DOC#{row.document_id}# {row.text}"}])


class Stored(list[Completion]):
    """A sink that remembers which thread called it."""

    def __call__(self, lines: list[bytes]) -> None:
        self.thread = threading.current_thread().name
        self.extend(from_json_lines(Completion, lines))


def run(server: ScriptedServer, rows: Iterator[Sequence[DocumentRow]], sink: Stored, **more: object) -> InferenceRun:
    options: dict[str, object] = {"policy": QUICK, "constraint": {}, "endpoints": [EndpointTarget(server.url)], **more}
    return run_completions(release(), render, rows, sink, **options)  # type: ignore[arg-type]


def test_run_gives_an_account_of_itself() -> None:
    """`inference_runs` is where a team reads what a night cost."""
    sink, shown = Stored(), list[Progress]()

    with ScriptedServer(latency_seconds=0.005) as server:
        account = run(
            server, batches(450), sink, run_id="r1", documents_snapshot=7, total=450, on_progress=shown.append
        )

    assert sorted(int(row.document_id) for row in sink) == list(range(450))
    assert {(row.run_id, row.documents_snapshot) for row in sink} == {("r1", 7)}
    assert (account.sent, account.stored, account.failed, account.retries) == (450, 450, 0, 0)
    assert (account.usage.prompt_tokens, account.usage.cached_tokens) == (450 * 40, 450 * 16)
    assert account.concurrency == QUICK.limit
    assert account.endpoints == (server.url,)
    assert account.latency_p50_seconds is not None
    assert shown[-1].done == 450


def test_documents_are_read_as_they_are_sent() -> None:
    """A million documents must not be in memory because one endpoint is slow."""
    read: list[int] = []
    distance: list[int] = []

    with ScriptedServer(latency_seconds=0.005) as server:

        def watched() -> Iterator[list[DocumentRow]]:
            for batch in batches(3000, size=50):
                read.extend(int(row.document_id) for row in batch)
                distance.append(len(read) - server.counts.requests)
                yield batch

        run(server, watched(), Stored())

    # The batch being read, the one sent from, one on its way, and the eight that are rendered ahead.
    assert max(distance) <= 11 * 50


def test_run_that_ends_early_closes_what_it_reads_from() -> None:
    """What stays open keeps a cursor, and that a catalog, for as long as the process lives."""
    closed = threading.Event()

    def watched() -> Iterator[list[DocumentRow]]:
        try:
            yield from batches(1000, size=200)
        finally:
            closed.set()

    def full(rows: list[Completion]) -> None:
        raise StorageError("the disk is full")

    with ScriptedServer(latency_seconds=0.005) as server, pytest.raises(StorageError, match="disk is full"):
        run(server, watched(), full)  # type: ignore[arg-type]

    assert closed.wait(5)


def test_document_that_cannot_be_encoded_is_stored_as_refused() -> None:
    """One broken text among a million is a row with a reason."""
    sink = Stored()

    with ScriptedServer() as server:
        account = run(server, iter([[document(0), document(1, "\ud83d"), document(2)]]), sink)

    bad = next(row for row in sink if row.document_id == "1")
    assert (len(sink), account.sent, bad.status, bad.attempts) == (3, 2, CompletionStatus.REJECTED, 0)


@pytest.mark.parametrize("rows", [[], [[]], [[], [], []]])
def test_no_documents_send_nothing(rows: list[list[DocumentRow]]) -> None:
    """The second run of an unchanged application ends at once."""
    with ScriptedServer() as server:
        account = run(server, iter(rows), Stored())

    assert (account.sent, account.stored, server.counts.requests) == (0, 0, 0)


def test_error_while_reading_documents_ends_the_run_with_it() -> None:
    """What was answered before is kept, and the cause is not hidden behind an endpoint error."""
    sink = Stored()

    def breaks() -> Iterator[list[DocumentRow]]:
        yield [document(number) for number in range(20)]
        raise StorageError("the lake is gone")

    with ScriptedServer() as server, pytest.raises(StorageError, match="the lake is gone"):
        run(server, breaks(), sink)

    assert len(sink) == server.counts.answered.total()


def test_error_while_rendering_ends_the_run_with_it() -> None:
    """A template that fails on one document fails on others: nothing to gain by going on."""

    def fails(row: DocumentRow) -> Rendered:
        if row.document_id == "30":
            raise SpecificationError("template: unknown variable")
        return render(row)

    with ScriptedServer() as server, pytest.raises(SpecificationError, match="unknown variable"):
        run_completions(
            release(),
            fails,
            batches(100),
            Stored(),
            constraint={},
            endpoints=[EndpointTarget(server.url)],
            policy=QUICK,
        )


def test_rendering_that_blocks_does_not_hold_up_what_is_in_flight() -> None:
    """Counting tokens asks the endpoint, which may take a while; the others' answers must not wait for it."""
    free = threading.Event()
    sink = Stored()

    def blocks(row: DocumentRow) -> Rendered:
        # The first of the second batch: the first one is rendered by then.
        if row.document_id == "100":
            assert free.wait(10)
        return render(row)

    def watch(progress: Progress) -> None:
        if progress.done == 100:
            free.set()

    with ScriptedServer(latency_seconds=0.05) as server:
        options = {"constraint": {}, "endpoints": [EndpointTarget(server.url)], "policy": QUICK, "on_progress": watch}
        run_completions(release(), blocks, batches(200), sink, **options)  # type: ignore[arg-type]

    assert len(sink) == 200


def test_run_that_fails_still_gives_its_account() -> None:
    """The tokens of a failed run were paid, too."""
    accounts: list[InferenceRun] = []
    policy = replace(QUICK, unavailable_after_seconds=0.3)
    died = threading.Event()

    with ScriptedServer() as server:

        def die_once_it_has_answered(progress: Progress) -> None:
            if progress.stored > 0 and not died.is_set():
                died.set()
                server.later(0.0, server.die_now)

        with pytest.raises(EndpointUnavailable):
            run(
                server,
                batches(100_000),
                Stored(),
                policy=policy,
                on_progress=die_once_it_has_answered,
                on_finish=accounts.append,
            )

    assert accounts[0].stored > 0
    # Which of them depends on what was in flight when it died.
    assert accounts[0].causes.keys() & {"retry_connect", "retry_reset"}


def test_interrupt_stores_what_came_back_and_goes_on() -> None:
    """Dagster terminates a run by raising in the main thread."""
    sink, accounts = Stored(), list[InferenceRun]()

    def interrupt(progress: Progress) -> None:
        if progress.done > 50:
            raise KeyboardInterrupt

    with ScriptedServer(latency_seconds=0.01) as server, pytest.raises(KeyboardInterrupt):
        run(server, batches(100_000), sink, on_progress=interrupt, on_finish=accounts.append)

    assert len(sink) == server.counts.answered.total() == accounts[0].stored > 50


def test_work_happens_in_threads_with_names() -> None:
    """A stack dump of a stuck run must say which part is stuck."""
    sink, names = Stored(), set[str]()

    def rendering(row: DocumentRow) -> Rendered:
        names.add(threading.current_thread().name)
        return render(row)

    with ScriptedServer() as server:
        run_completions(
            release(), rendering, batches(5), sink, constraint={}, endpoints=[EndpointTarget(server.url)], policy=QUICK
        )

    assert sink.thread == "llm-platform-sink"
    assert all(name.startswith("llm-platform-documents") for name in names)
    assert not [one for one in threading.enumerate() if one.name.startswith("llm-platform")]


def test_defaults_suit_an_unknown_endpoint() -> None:
    """Nobody should have to tune a number to get started."""
    sink = Stored()

    with ScriptedServer() as server:
        run(server, batches(300), sink, policy=EnginePolicy())

    assert len(sink) == 300
