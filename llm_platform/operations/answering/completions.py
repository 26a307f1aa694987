"""Answer the documents that a release has not answered yet, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llm_platform.application.model import Application
from llm_platform.inference.answers import recalibrate
from llm_platform.inference.calibration import fit_calibration
from llm_platform.operations.answering.account import joined
from llm_platform.operations.answering.long_documents import take_over_whole_answers
from llm_platform.operations.answering.sending import Asking, recover_journal, send, with_budget_left
from llm_platform.operations.answering.sharing import SharedWork, wait_for_others
from llm_platform.operations.releases import latest_calibrated, requesting
from llm_platform.prompts.templates import variables_in_order
from llm_platform.records import InferenceRun, Release
from llm_platform.warehouse.completions import completion_rows
from llm_platform.warehouse.store import ApplicationStore


@dataclass(frozen=True)
class Answered:
    """What answering one variant did; `run` is None where nothing had to be sent.

    Attributes:
        derived: Answers that were made of stored ones.
    """

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
    taken_over = take_over_whole_answers(store, sender)
    sent = answer_missing(store, sender, application=application, asking=asking)
    final = release
    if calibrate:
        final = latest_calibrated(store, sender.request_id) or _calibrated(store, sender, application)
    if final.calibration is None:
        return Answered(release=final, derived=taken_over, run=sent.run)
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
    prefix = variables_in_order((message.template for message in release.prompt.messages), release.prompt.variables)
    tried: set[int] = set()
    runs: list[InferenceRun] = []
    while True:
        recover_journal(store, release, asking)
        with (
            store.completions.shared_lease(release.release_id, holder=asking.run_id) as lease,
            SharedWork(
                store,
                lease,
                recover=lambda: recover_journal(store, release, asking),
                buckets=asking.buckets,
                tried=tried,
                prefix=prefix,
                side_by_side=asking.side_by_side,
                documents=asking.documents,
            ) as work,
        ):
            if work.begin():
                runs.append(
                    send(
                        store,
                        release,
                        work.batches(),
                        total=work.expected,
                        lease=lease,
                        application=application,
                        asking=with_budget_left(asking, runs),
                    )
                )
            tried.update(lease.buckets)
        holders = [one.describe() for one in store.completions.holders(release.release_id)] if work.left else []
        if work.left and not holders and not _was_stopped(runs):
            continue
        sent = Sent(joined(runs) if runs else None, sum(work.left.values()), tuple(dict.fromkeys(holders)))
        if not work.left or not asking.waits_for_others or _was_stopped(runs):
            return sent
        if asking.on_wait is not None:
            asking.on_wait(f"{sent.left} documents are left to {'; '.join(sent.holders)}: waiting for their answers")
        wait_for_others(store, release.release_id, work.left)


def _was_stopped(runs: Sequence[InferenceRun]) -> bool:
    return bool(runs) and any(cause.startswith("stopped_") for cause in runs[-1].causes)


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
