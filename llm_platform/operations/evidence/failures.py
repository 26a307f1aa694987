"""Documents without a valid answer: which and why, and how they are asked again."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from llm_platform.errors import SpecificationError
from llm_platform.inference.parts import parts_release, together_release
from llm_platform.operations.answering.sending import recover_journal_in
from llm_platform.operations.evidence.judging import judge_release
from llm_platform.operations.releases import LoadedApplication, senders
from llm_platform.records import CompletionStatus, Release
from llm_platform.warehouse.failures import Failure
from llm_platform.warehouse.store import ApplicationStore


@dataclass(frozen=True)
class FailuresOf:
    """Failures of what one variant asks, or one judge."""

    name: str
    release: Release
    failures: tuple[Failure, ...]
    is_judge: bool = False

    @property
    def scorer(self) -> str:
        """Of a judge: what scores by it are called."""
        return self.name.replace("judge ", "judge:", 1)


@dataclass(frozen=True)
class Retried:
    """What is asked again of one variant.

    Attributes:
        documents: Texts that are missing now; of a judge, verdicts, which the next run asks for.
        upstream: Failures of the upstream namespace, which stay.
    """

    name: str
    documents: int
    upstream: int
    is_judge: bool = False


def stored_failures(
    store: ApplicationStore,
    loaded: LoadedApplication,
    *,
    variant: str | None = None,
    statuses: Collection[str] = (),
    reason: str | None = None,
) -> list[FailuresOf]:
    """Documents as they are now without a valid answer, by what asked about them; judges only without `variant`.

    Args:
        statuses: Only these; none means all.
        reason: Only those whose reason holds this text, in any case.

    Raises:
        SpecificationError: there is no such variant or status.
    """
    known = [status.value for status in CompletionStatus if status is not CompletionStatus.VALID]
    if unknown := sorted(set(statuses) - set(known)):
        raise SpecificationError(f"There is no status {unknown[0]!r} of a failure. There are: {', '.join(known)}.")
    found = [
        FailuresOf(name, release, tuple(store.failures.of_release(release.release_id)))
        for name, release in senders(store, loaded, variant).items()
    ]
    if variant is None:
        judges = {name: judge_release(loaded, judge) for name, judge in loaded.judges.items()}
        found += [
            FailuresOf(f"judge {name}", release, tuple(store.failures.of_judge(release.release_id)), is_judge=True)
            for name, release in judges.items()
        ]
    wanted = (reason or "").casefold()
    return [
        FailuresOf(
            one.name,
            one.release,
            tuple(
                failure
                for failure in one.failures
                if (not statuses or failure.status in statuses) and wanted in failure.reason.casefold()
            ),
            one.is_judge,
        )
        for one in found
    ]


def unanswered(store: ApplicationStore, found: Collection[FailuresOf]) -> dict[str, int]:
    """Variant → texts that nothing is stored about, where there are such: they are no failures, and no answers."""
    counts = {one.name: store.completions.missing_count(one.release.release_id) for one in found if not one.is_judge}
    return {name: count for name, count in counts.items() if count}


def ask_again(
    store: ApplicationStore, found: Collection[FailuresOf], *, journals: Path | None, holder: str
) -> list[Retried]:
    """Make stored failures missing again, each release under its lease; what asks for them is the next run.

    Args:
        journals: Where answers wait that are not in the lake yet: they are stored first, or they would come back.
        holder: Who asks; shown to others that ask meanwhile.

    Raises:
        LeaseHeld: another process answers for one of the releases.
    """
    retried = []
    for one in found:
        ours = [failure.fingerprint for failure in one.failures if failure.is_ours]
        documents = 0
        if ours:
            with store.completions.lease(one.release.release_id, holder=holder) as lease:
                for release in (one.release, *_helpers(one.release)):
                    recover_journal_in(store, release, journals)
                documents = store.failures.set_aside(
                    lease, one.release.request_id, ours, judged_by=f"{one.scorer}/" if one.is_judge else None
                )
        retried.append(Retried(one.name, documents, len(one.failures) - len(ours), is_judge=one.is_judge))
    return retried


def _helpers(release: Release) -> list[Release]:
    if release.long_documents is None:
        return []
    together = together_release(release)
    return [parts_release(release), *([together] if together is not None else [])]
