"""Answer the documents that a release has not answered yet, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from llm_platform.application import Application
from llm_platform.inference.answers import recalibrate
from llm_platform.inference.calibration import fit_calibration
from llm_platform.inference.engine import Connection, EndpointTarget, EnginePolicy, Progress, run_completions
from llm_platform.inference.journal import Journal, recover
from llm_platform.inference.requests import check_first_tokens
from llm_platform.inference.sink import OnRows
from llm_platform.nim.dialects import constraint
from llm_platform.nim.http import EndpointClient
from llm_platform.operations.account import Account, Rows, require_valid_share
from llm_platform.operations.examples import selector
from llm_platform.operations.fitting import BudgetedRenderer
from llm_platform.operations.long_documents import InParts, take_over_whole_answers
from llm_platform.operations.releases import latest_calibrated, requesting
from llm_platform.records import Completion, DocumentRow, InferenceRun, Release
from llm_platform.warehouse.completions import completion_rows
from llm_platform.warehouse.leases import Lease
from llm_platform.warehouse.store import ApplicationStore

BATCH_ROWS = 2_000


@dataclass(frozen=True)
class Asking:
    """How documents are sent: where to, under which limits, on whose behalf.

    Attributes:
        endpoints: Gives the endpoints, once each has shown that it is what the lock pins; called only when there is
            something to send.
        discover: Gives those there are now, while they are asked; None where they do not come and go.
        snapshot: The lake's snapshot that documents are read at; written on every answer.
        journal: Folder on storage that outlives the process, in which answers are safe before they are committed, many
            at a time; without it they are committed a few times a second, each time at the cost of 30 ms.
    """

    endpoints: Callable[[], Sequence[EndpointTarget]]
    policy: EnginePolicy
    connection: Connection
    run_id: str
    git_commit: str
    snapshot: int | None = None
    on_progress: Callable[[Progress], None] | None = None
    journal: Path | None = None
    discover: Callable[[], Sequence[EndpointTarget]] | None = None


@dataclass(frozen=True)
class Answered:
    """What answering one variant did; `run` is None where nothing had to be sent."""

    release: Release
    derived: int
    run: InferenceRun | None


def answer(
    store: ApplicationStore, release: Release, *, application: Application, calibrate: bool, asking: Asking
) -> Answered:
    """Store one answer for every sendable text that `release` has not answered.

    A calibrated release is derived from the stored answers of the release that sends its requests: the model is asked
    once, whatever the calibration. With `calibrate`, the one that is frozen for these requests is taken, or fitted now.

    Raises:
        EndpointMismatch: an endpoint is not what the lock pins; nothing was sent.
        EndpointUnavailable: no endpoint answers; what came back before is stored.
        LeaseHeld: another run is answering for this release.
        SpecificationError: too few training answers to calibrate with.
    """
    sender = requesting(release)
    store.releases.put(sender)
    taken_over = take_over_whole_answers(store, sender, holder=asking.run_id)
    run = _send(store, sender, application=application, asking=asking)
    final = release
    if calibrate:
        final = latest_calibrated(store, sender.request_id) or _calibrated(store, sender, application)
    if final.calibration is None:
        return Answered(release=final, derived=taken_over, run=run)
    store.releases.put(final)
    return Answered(release=final, derived=_derive(store, final, asking.run_id), run=run)


def _send(
    store: ApplicationStore, release: Release, *, application: Application, asking: Asking
) -> InferenceRun | None:
    _recover(store, release, asking)
    total = store.completions.missing_count(release.release_id)
    if not total:
        return None
    return ask(store, release, _missing_rows(store, release), total=total, application=application, asking=asking)


def ask(
    store: ApplicationStore,
    release: Release,
    batches: Iterable[Sequence[DocumentRow]],
    *,
    total: int,
    application: Application,
    asking: Asking,
) -> InferenceRun:
    """Ask for the answers to these documents, and store them.

    Args:
        release: Sends its requests; a judge's, too.
        batches: Documents without a stored answer of `release`; `total` of them.

    Raises:
        As `answer`.
    """
    targets = asking.endpoints()
    with EndpointClient(bearer_token=asking.connection.bearer_token, ca_file=asking.connection.ca_file) as client:
        sending = _Sending(store, application=application, asking=asking, targets=targets, client=client)
        renderer = sending.renderer(release)
        if release.long_documents is not None:
            renderer.require_tokenizer()
        try:
            sending.send(release, renderer, batches, total=total, asking=asking)
            if renderer.long:
                InParts(
                    store, release, renderer, helpers=sending, run_id=asking.run_id, snapshot=asking.snapshot
                ).answer()
                require_valid_share(sending.account.run, asking.policy)
        finally:
            # Also for a run that ends early: what it paid is on record.
            if sending.account.runs:
                _record(store, sending.account.run, asking.git_commit)
    return sending.account.run


class _Sending:
    """Runs of the engine that answer one set of documents: of their own release, and of its helpers."""

    def __init__(
        self,
        store: ApplicationStore,
        *,
        application: Application,
        asking: Asking,
        targets: Sequence[EndpointTarget],
        client: EndpointClient,
    ) -> None:
        self.account = Account()
        self._store, self._application, self._asking = store, application, asking
        self._targets, self._client = targets, client

    def renderer(self, release: Release) -> BudgetedRenderer:
        """What renders the prompts of a release."""
        choose = selector(self._store, self._application, release.prompt)
        root, labels = self._targets[0].root, self._application.labels
        return BudgetedRenderer(release, labels, base_url=root, client=self._client, choose=choose)

    def ask(self, release: Release, batches: Rows, *, total: int) -> bool:
        """Ask for the missing answers of a helper; False where a budget stopped it."""
        left = _left(self._asking, self.account)
        if left is None:
            return False
        self.send(release, self.renderer(release), batches, total=total, asking=left)
        return not self.account.is_stopped

    def recover(self, release: Release) -> None:
        """Store what a run that died had received for a helper."""
        _recover(self._store, release, self._asking)

    def send(self, release: Release, renderer: BudgetedRenderer, batches: Rows, *, total: int, asking: Asking) -> None:
        """One run of the engine, under the lease of its release."""
        store, targets = self._store, self._targets
        segments = None if asking.journal is None else asking.journal / store.name / release.release_id
        with (
            store.completions.lease(release.release_id, holder=asking.run_id) as lease,
            _sink(store, lease, segments) as sink,
        ):
            if release.decision == "logprobs":
                check_first_tokens(
                    release.prompt.answers,
                    base_url=targets[0].base_url,
                    model=release.model.served_name,
                    post=self._client.post,
                )
            run_completions(
                release,
                renderer.render,
                batches,
                sink,
                constraint=constraint(release),
                endpoints=targets,
                policy=asking.policy,
                connection=asking.connection,
                run_id=asking.run_id,
                documents_snapshot=asking.snapshot,
                discover=asking.discover,
                total=total,
                on_progress=asking.on_progress,
                on_finish=self.account.runs.append,
            )


def _left(asking: Asking, account: Account) -> Asking | None:
    """The same with what the budget has left; None where that is nothing."""
    policy, used = asking.policy, account.run
    tokens = None if policy.budget_tokens is None else policy.budget_tokens - used.usage.total
    seconds = None if policy.budget_seconds is None else policy.budget_seconds - used.seconds
    if account.is_stopped or (tokens is not None and tokens <= 0) or (seconds is not None and seconds <= 0):
        return None
    return replace(asking, policy=replace(policy, budget_tokens=tokens, budget_seconds=seconds))


@contextmanager
def _sink(store: ApplicationStore, lease: Lease, segments: Path | None) -> Iterator[OnRows]:
    """What the engine hands answers to: the lake, with a journal in front of it where there is a place for one."""

    def commit(rows: list[Completion]) -> None:
        store.completions.append(lease, rows)

    if segments is None:
        yield commit
        return
    with Journal(segments, commit) as journal:
        yield journal


def _recover(store: ApplicationStore, release: Release, asking: Asking) -> None:
    """Store what a run that died had received and not yet committed."""
    segments = None if asking.journal is None else asking.journal / store.name / release.release_id
    if segments is None or not segments.is_dir() or not any(segments.iterdir()):
        return
    holder = asking.run_id
    with store.completions.lease(release.release_id, holder=holder) as lease, recover(segments, Completion) as rows:
        store.completions.append(lease, rows)


def _record(store: ApplicationStore, run: InferenceRun, git_commit: str) -> None:
    store.runs.append(run.model_copy(update={"git_commit": git_commit}))


def _missing_rows(store: ApplicationStore, release: Release) -> Iterator[list[DocumentRow]]:
    # Column by column, and validated: `model_construct` is Python and takes three times as long.
    for batch in store.completions.missing_batches(release.release_id, BATCH_ROWS):
        columns = (batch.column(name).to_pylist() for name in ("document_id", "fingerprint", "text", "attributes"))
        yield [
            DocumentRow(
                document_id=document_id,
                fingerprint=fingerprint,
                text=text,
                attributes=json.loads(attributes) if attributes else {},
            )
            for document_id, fingerprint, text, attributes in zip(*columns, strict=True)
        ]


def _calibrated(store: ApplicationStore, sender: Release, application: Application) -> Release:
    """`sender` with a calibration fitted on its answers to the training split; frozen from the moment it is stored."""
    references = store.references.table()
    training = {
        document_id: answer
        for document_id, answer, split in zip(
            *(references[name].to_pylist() for name in ("document_id", "answer", "split")), strict=True
        )
        if split == "train"
    }
    calibration = fit_calibration(
        completion_rows(store.completions.of_release(sender.release_id)),
        training,
        application.labels,
        references_version=store.references.version(split="train"),
    )
    return sender.model_copy(update={"calibration": calibration})


def _derive(store: ApplicationStore, release: Release, run_id: str) -> int:
    """Store what `release` makes of the answers that were sent for it; nothing is sent."""
    missing = store.completions.missing(release.release_id)
    if not missing.num_rows:
        return 0
    wanted = set(missing["fingerprint"].to_pylist())
    rows = completion_rows(store.completions.of_request(release.request_id))
    derived = [recalibrate(row, release) for row in rows if row.fingerprint in wanted]
    with store.completions.lease(release.release_id, holder=run_id) as lease:
        return store.completions.append(lease, derived)
