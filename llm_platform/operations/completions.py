"""Answer the documents that a release has not answered yet, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from llm_platform.application import Application
from llm_platform.errors import RequestRejected
from llm_platform.inference.answers import recalibrate
from llm_platform.inference.calibration import fit_calibration
from llm_platform.inference.engine import Connection, EndpointTarget, EnginePolicy, Progress, run_completions
from llm_platform.inference.journal import Journal, recover
from llm_platform.inference.requests import check_first_tokens
from llm_platform.inference.sink import OnRows
from llm_platform.nim.dialects import constraint
from llm_platform.nim.http import EndpointClient
from llm_platform.operations.examples import selector
from llm_platform.operations.releases import latest_calibrated, requesting
from llm_platform.operations.sharing import SharedWork, together, wait_for_others
from llm_platform.prompts.budget import token_budget
from llm_platform.prompts.render import Choose, RenderedPrompt, Renderer
from llm_platform.records import Completion, DocumentRow, InferenceRun, Release
from llm_platform.warehouse.leases import Lease
from llm_platform.warehouse.store import ApplicationStore

TEMPLATE_ALLOWANCE_TOKENS = 200


@dataclass(frozen=True)
class Asking:
    """How documents are sent: where to, under which limits, on whose behalf.

    Attributes:
        endpoints: Gives the endpoints, once each has shown that it is what the lock pins; called only when there is
            something to send.
        discover: Gives those there are now, while they are asked; None where they do not come and go.
        snapshot: The lake's snapshot that documents are read at; written on every answer.
        buckets: Only documents in these; None means all.
        waits_for_others: Whether to wait for other processes that answer for the same release, and take over what they
            leave, so that nothing is missing in the end; else to end as soon as only they have something to do.
        on_wait: Called in this thread with what is waited for, and for whom.
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
    buckets: Collection[int] | None = None
    waits_for_others: bool = True
    on_wait: Callable[[str], None] | None = None
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
    once, whatever the calibration. Other processes may answer for the same release at the same time: each document is
    sent by one of them. With `calibrate`, the one that is frozen for these requests is taken, or fitted now.

    Raises:
        EndpointMismatch: an endpoint is not what the lock pins; nothing was sent.
        EndpointUnavailable: no endpoint answers; what came back before is stored.
        LeaseHeld: this process fell silent, and another one took over what it was answering.
        SpecificationError: too few training answers to calibrate with.
    """
    sender = requesting(release)
    store.releases.put(sender)
    sent = answer_missing(store, sender, application=application, asking=asking)
    final = release
    if calibrate:
        final = latest_calibrated(store, sender.request_id) or _calibrated(store, sender, application)
    if final.calibration is None:
        return Answered(release=final, derived=0, run=sent.run)
    store.releases.put(final)
    return Answered(release=final, derived=_derive(store, final), run=sent.run)


@dataclass(frozen=True)
class Sent:
    """What sending the missing requests of one release did.

    Attributes:
        run: None where this process had nothing to send.
        left: Documents without an answer that other processes are working on.
        holders: Those processes, in words.
    """

    run: InferenceRun | None
    left: int = 0
    holders: tuple[str, ...] = ()


def answer_missing(store: ApplicationStore, release: Release, *, application: Application, asking: Asking) -> Sent:
    """Ask for answers of a release that sends its own requests, beside whoever else does.

    Raises:
        As `answer`.
    """
    journal = _journal(store, release, asking)
    tried: set[int] = set()
    runs: list[InferenceRun] = []
    while True:
        _recover(store, journal)
        with store.completions.shared_lease(release.release_id, holder=asking.run_id) as lease:
            work = SharedWork(
                store, lease, recover=lambda: _recover(store, journal), buckets=asking.buckets, tried=tried
            )
            if work.begin():
                runs.append(
                    _run(
                        store,
                        release,
                        work.batches(),
                        total=work.expected,
                        lease=lease,
                        application=application,
                        asking=_within_budget(asking, runs),
                    )
                )
            tried.update(lease.buckets)
        holders = [one.describe() for one in store.completions.holders(release.release_id)] if work.left else []
        if work.left and not holders and not _was_stopped(runs):
            continue
        sent = Sent(together(runs), sum(work.left.values()), tuple(dict.fromkeys(holders)))
        if not work.left or not asking.waits_for_others or _was_stopped(runs):
            return sent
        if asking.on_wait is not None:
            asking.on_wait(f"{sent.left} documents are left to {'; '.join(sent.holders)}: waiting for their answers")
        wait_for_others(store, release.release_id, work.left)


def _was_stopped(runs: Sequence[InferenceRun]) -> bool:
    return bool(runs) and any(cause.startswith("stopped_") for cause in runs[-1].causes)


def _within_budget(asking: Asking, runs: Sequence[InferenceRun]) -> Asking:
    """The same with what earlier runs have left of the budget."""
    tokens, seconds = asking.policy.budget_tokens, asking.policy.budget_seconds
    rest = replace(
        asking.policy,
        budget_tokens=None if tokens is None else tokens - sum(run.usage.total for run in runs),
        budget_seconds=None if seconds is None else seconds - sum(run.seconds for run in runs),
    )
    return replace(asking, policy=rest)


def ask(
    store: ApplicationStore,
    release: Release,
    batches: Iterable[Sequence[DocumentRow]],
    *,
    total: int,
    application: Application,
    asking: Asking,
) -> InferenceRun:
    """Ask for the answers to these documents, and store them; nobody else answers for `release` meanwhile.

    Args:
        release: Sends its requests; a judge's, too.
        batches: Documents without a stored answer of `release`; `total` of them.

    Raises:
        LeaseHeld: another process answers for this release.
        And as `answer`.
    """
    with store.completions.lease(release.release_id, holder=asking.run_id) as lease:
        return _run(store, release, batches, total=total, lease=lease, application=application, asking=asking)


def _run(
    store: ApplicationStore,
    release: Release,
    batches: Iterable[Sequence[DocumentRow]],
    *,
    total: Callable[[], int] | int,
    lease: Lease,
    application: Application,
    asking: Asking,
) -> InferenceRun:
    """Send and store what `lease` covers by the time it is read."""
    targets = asking.endpoints()
    choose = selector(store, application, release.prompt)
    with (
        EndpointClient(bearer_token=asking.connection.bearer_token, ca_file=asking.connection.ca_file) as client,
        _sink(store, lease, _journal(store, release, asking)) as sink,
    ):
        if release.decision == "logprobs":
            check_first_tokens(
                release.prompt.answers, base_url=targets[0].base_url, model=release.model.served_name, post=client.post
            )
        return run_completions(
            release,
            BudgetedRenderer(
                release, application.labels, base_url=targets[0].root, client=client, choose=choose
            ).render,
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
            # Also for a run that ends early: what it paid is on record.
            on_finish=lambda run: _record(store, run, asking.git_commit),
        )


class BudgetedRenderer:
    """Renders prompts, and refuses those that do not fit the model's context before they are sent.

    A prompt with few bytes fits without being counted; the others are counted by the endpoint's own tokenizer.
    """

    def __init__(
        self,
        release: Release,
        labels: Sequence[str],
        *,
        base_url: str,
        client: EndpointClient,
        choose: Choose | None = None,
    ) -> None:
        self._renderer = Renderer(release.prompt, labels, choose=choose)
        self._budget = token_budget(release.model.context_length, release.sampling)
        self._model, self._url, self._client = release.model.served_name, f"{base_url}/tokenize", client

    def render(self, row: DocumentRow) -> RenderedPrompt:
        """The prompt of one document.

        Raises:
            RequestRejected: it has more tokens than the model's context leaves room for.
        """
        rendered = self._renderer.render(row)
        # A token covers at least one byte; the allowance is for what a chat template adds.
        if rendered.size_bytes + TEMPLATE_ALLOWANCE_TOKENS <= self._budget:
            return rendered
        tokens = self._count(rendered)
        if tokens > self._budget:
            raise RequestRejected(
                f"The prompt has {tokens} tokens and the model has room for {self._budget} beside the answer. "
                "Shorten the prompt or the document, or take a model with a longer context."
            )
        return rendered

    def _count(self, rendered: RenderedPrompt) -> int:
        form = {"prompt": rendered.text} if rendered.messages is None else {"messages": rendered.messages}
        status, body = self._client.post(self._url, {"model": self._model, **form})
        count = json.loads(body).get("count") if status == 200 else None
        # An endpoint that cannot count refuses the request itself if it is too long.
        return count if isinstance(count, int) else 0


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


def _journal(store: ApplicationStore, release: Release, asking: Asking) -> Path | None:
    return None if asking.journal is None else asking.journal / store.name / release.release_id


def _recover(store: ApplicationStore, journal: Path | None) -> None:
    """Store what processes that died had received and not yet committed."""
    if journal is not None:
        with recover(journal, Completion) as rows:
            store.completions.restore(rows)


def _record(store: ApplicationStore, run: InferenceRun, git_commit: str) -> None:
    store.runs.append(run.model_copy(update={"git_commit": git_commit}))


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


def _derive(store: ApplicationStore, release: Release) -> int:
    """Store what `release` makes of the answers that were sent for it; nothing is sent."""
    missing = store.completions.missing(release.release_id)
    if not missing.num_rows:
        return 0
    wanted = set(missing["fingerprint"].to_pylist())
    rows = completion_rows(store.completions.of_request(release.request_id))
    return store.completions.restore([recalibrate(row, release) for row in rows if row.fingerprint in wanted])


def completion_rows(table: pa.Table) -> Iterator[Completion]:
    """Stored rows as records."""
    for row in table.select(list(Completion.model_fields)).to_pylist():
        yield Completion.model_validate(_unflat(row))


def _unflat(row: Mapping[str, object]) -> dict[str, object]:
    logprobs = row["label_logprobs"]
    return {**row, "label_logprobs": json.loads(logprobs) if isinstance(logprobs, str) else None}
