"""Send documents of one release and store their answers, under a lease that the caller holds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from llm_platform.application.model import Application
from llm_platform.errors import EndpointMismatch, EndpointUnavailable, LeaseHeld
from llm_platform.inference.asked import AskedTexts
from llm_platform.inference.engine import EndpointTarget, EnginePolicy, Progress, run_completions
from llm_platform.inference.journal import Journal, held, recover
from llm_platform.inference.parts import parts_release, together_release
from llm_platform.inference.requests import check_first_tokens
from llm_platform.inference.sink import OnLines
from llm_platform.nim.dialects import constraint
from llm_platform.nim.http import EndpointClient
from llm_platform.operations.answering.account import Account, Rows, require_valid_share
from llm_platform.operations.answering.examples import selector
from llm_platform.operations.answering.fitting import BudgetedRenderer
from llm_platform.operations.answering.long_documents import InParts
from llm_platform.operations.answering.redacting import require_redacted, shown
from llm_platform.operations.answering.under_way import noted
from llm_platform.records import (
    Completion,
    DocumentRow,
    InferenceRun,
    Release,
    TokenUsage,
)
from llm_platform.records.rollout import AskedDocuments
from llm_platform.settings.connection import Connection
from llm_platform.warehouse.leases import Lease
from llm_platform.warehouse.missing import SIDE_BY_SIDE
from llm_platform.warehouse.store import ApplicationStore

LOOK_AGAIN_SECONDS = 0.5
LOOK_AT_OTHERS_SECONDS = 1.0
ASKED_SECONDS = 60.0
"""So long after it was made ready, a request of a run counts as one that is being asked."""


@dataclass(frozen=True)
class Asking:
    """How documents are sent: where to, under which limits, on whose behalf.

    Attributes:
        endpoints: Gives the endpoints, once each has shown that it is what the lock pins; called only when there is
            something to send.
        verify: Called when everything has come back: raises EndpointMismatch where the endpoints were not all the time
            what they were at the beginning. Then nothing of what came back is kept.
        discover: Gives those there are now, while they are asked; None where they do not come and go.
        snapshot: The lake's snapshot that documents are read at; written on every answer.
        buckets: Only documents in these; None means all.
        documents: Only these; None means all.
        waits_for_others: Whether to wait for other processes that answer for the same release, and take over what they
            leave, so that nothing is missing in the end; else to end as soon as only they have something to do.
        side_by_side: Prefixes whose documents are sent in turns: no more than the slots of an endpoint.
        on_wait: Called in this thread with what is waited for, and for whom.
        journal: Folder on storage that outlives the process, in which answers are safe before they are committed, many
            at a time; without it they are committed a few times a second, each time at the cost of 30 ms.
        progress: Folder in which it is written down how far it is, for who looks from elsewhere; None writes nothing.
        expected: Tokens and money that were estimated before.
    """

    endpoints: Callable[[], Sequence[EndpointTarget]]
    policy: EnginePolicy
    connection: Connection
    run_id: str
    git_commit: str
    snapshot: int | None = None
    on_progress: Callable[[Progress], None] | None = None
    buckets: Collection[int] | None = None
    documents: AskedDocuments | None = None
    waits_for_others: bool = True
    side_by_side: int = SIDE_BY_SIDE
    on_wait: Callable[[str], None] | None = None
    journal: Path | None = None
    discover: Callable[[], Sequence[EndpointTarget]] | None = None
    verify: Callable[[], None] | None = None
    progress: Path | None = None
    expected: tuple[int, float | None] | None = None


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
        And as `answering.completions.answer`.
    """
    with store.completions.lease(release.release_id, holder=asking.run_id) as lease:
        return send(store, release, batches, total=total, lease=lease, application=application, asking=asking)


def send(
    store: ApplicationStore,
    release: Release,
    batches: Iterable[Sequence[DocumentRow]],
    *,
    total: Callable[[], int] | int,
    lease: Lease,
    application: Application,
    asking: Asking,
) -> InferenceRun:
    """Send and store what `lease` covers by the time it is read, long documents in parts where the release says so."""
    targets = asking.endpoints()
    with EndpointClient(asking.connection) as client:
        sending = _Sending(store, application=application, asking=asking, targets=targets, client=client)
        renderer = sending.renderer(release)
        if release.long_documents is not None:
            renderer.require_tokenizer()
        try:
            with _verified(store, release, asking):
                sending.send(release, renderer, batches, total=total, lease=lease, asking=asking)
                if renderer.long:
                    InParts(
                        store,
                        release,
                        renderer,
                        lease=lease,
                        helpers=sending,
                        run_id=asking.run_id,
                        snapshot=asking.snapshot,
                    ).answer()
                    require_valid_share(sending.account.run, asking.policy)
        finally:
            # Also for a run that ends early: what it paid is on record.
            if sending.account.runs:
                store.runs.append(sending.account.run.model_copy(update={"git_commit": asking.git_commit}))
    return sending.account.run


@contextmanager
def _verified(store: ApplicationStore, release: Release, asking: Asking) -> Iterator[None]:
    """Take back what the block has stored for a release, where other weights may have answered."""
    try:
        yield
    finally:
        if asking.verify is not None:
            _verify(asking.verify, store, release, asking.run_id)


def _verify(verify: Callable[[], None], store: ApplicationStore, release: Release, run_id: str) -> None:
    try:
        verify()
    except EndpointMismatch as error:
        releases = [release, parts_release(release), together_release(release)]
        taken = store.completions.discard([one.release_id for one in releases if one is not None], run_id)
        raise EndpointMismatch(
            f"{error} The {taken} answers of this run are not kept. See who can reach the endpoint, then run again."
        ) from None
    except EndpointUnavailable:
        # It has answered until a moment ago; what it has answered was paid for.
        return


def recover_journal(store: ApplicationStore, release: Release, asking: Asking) -> None:
    """Store what processes that died had received for a release and not yet committed."""
    recover_journal_in(store, release, asking.journal)


def recover_journal_in(store: ApplicationStore, release: Release, journals: Path | None) -> None:
    """The same, of the journals in one folder.

    What a service answers one by one is in the lake some seconds after its callers have it: it is stored now, whether
    the service lives or not, so that nobody pays for it again.
    """
    if journals is None:
        return
    bulk, online = journals_of(journals, store.name, release.release_id)
    for folder in (bulk, online):
        with recover(folder, Completion) as found:
            found.store(store.completions.restore)
    if rows := held(online, Completion):
        store.completions.restore(rows)


def journals_of(journals: Path, application: str, release_id: str) -> tuple[Path, Path]:
    """The folders of what bulk runs, and of what services, have answered for a release."""
    return journals / application / release_id, journals / application / f"{release_id}.online"


def asked_file(journals: Path, application: str, release_id: str) -> Path:
    """The file of `AskedTexts` of a release, beside its journals: it is there once a service has served the release."""
    return journals / application / f"{release_id}.asked"


def with_budget_left(asking: Asking, runs: Sequence[InferenceRun]) -> Asking:
    """The same with what earlier runs have left of the budget."""
    policy, seconds = asking.policy, sum(run.seconds for run in runs)
    usage = TokenUsage(
        prompt_tokens=sum(run.usage.prompt_tokens for run in runs),
        completion_tokens=sum(run.usage.completion_tokens for run in runs),
    )
    rest = replace(
        policy,
        budget_tokens=_less(policy.budget_tokens, sum(run.budget_tokens for run in runs)),
        budget_seconds=_less(policy.budget_seconds, seconds),
        budget_usd=_less(policy.budget_usd, policy.prices.cost_usd(seconds, usage)),
    )
    return replace(asking, policy=rest)


Amount = TypeVar("Amount", int, float)


def _less(budget: Amount | None, used: Amount) -> Amount | None:
    return None if budget is None else budget - used


def renderer_of(
    store: ApplicationStore,
    release: Release,
    *,
    application: Application,
    target: EndpointTarget,
    client: EndpointClient,
) -> BudgetedRenderer:
    """What renders the prompts of a release, with the tokenizer of one of its endpoints.

    Raises:
        ContractBroken: documents were stored before what is to be taken out of them.
    """
    require_redacted(store, application)
    choose = selector(store, application, release.prompt)
    release = release.model_copy(update={"prompt": shown(release.prompt, application)})
    return BudgetedRenderer(release, application.labels, base_url=target.root, client=client, choose=choose)


def require_told_apart(release: Release, target: EndpointTarget, client: EndpointClient) -> None:
    """Check that one token tells the labels apart, where a release decides by it.

    Raises:
        As `check_first_tokens`.
    """
    if release.decision == "logprobs":
        check_first_tokens(
            release.prompt.answers,
            base_url=target.base_url,
            model=release.model.served_name,
            post=client.post,
        )


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
        return renderer_of(
            self._store, release, application=self._application, target=self._targets[0], client=self._client
        )

    def ask(self, release: Release, batches: Rows, *, total: int) -> bool:
        """Ask for the missing answers of a helper; False where a budget stopped it.

        `batches` is read once nobody else answers for the helper.
        """
        left = with_budget_left(self._asking, self.account.runs)
        if self.account.is_stopped or _is_used_up(left.policy):
            return False
        with self._alone(release) as lease:
            self.send(release, self.renderer(release), batches, total=total, lease=lease, asking=left)
        return not self.account.is_stopped

    def recover(self, release: Release) -> None:
        """Store what others have received for a release: runs that died, and services."""
        recover_journal(self._store, release, self._asking)

    def send(
        self,
        release: Release,
        renderer: BudgetedRenderer,
        batches: Rows,
        *,
        total: Callable[[], int] | int,
        lease: Lease,
        asking: Asking,
    ) -> None:
        """One run of the engine."""
        store, targets = self._store, self._targets
        noting = noted(
            asking.progress,
            application=store.name,
            release_id=release.release_id,
            run_id=asking.run_id,
            prices=asking.policy.prices,
            expected=asking.expected,
            also=asking.on_progress,
        )
        with (
            # Until everything is stored: what is asked about and not stored looks as if nobody had asked.
            _NotOfOthers(store, lease, asking) as left,
            _sink(store, lease, _journal(store, release, asking.journal)) as sink,
            noting as on_progress,
        ):
            require_told_apart(release, targets[0], self._client)
            run_completions(
                release,
                renderer.render,
                left.behind(batches),
                sink,
                constraint=constraint(release),
                endpoints=targets,
                policy=asking.policy,
                connection=asking.connection,
                run_id=asking.run_id,
                documents_snapshot=asking.snapshot,
                discover=asking.discover,
                has_answers=lambda: store.completions.has_valid(release.release_id),
                total=total,
                on_progress=on_progress,
                on_finish=self.account.runs.append,
                left=left,
            )
        if left.has_left_out:
            # A service has them in its journal, and who goes on from here wants to find them in the lake.
            self.recover(release)

    @contextmanager
    def _alone(self, release: Release) -> Iterator[Lease]:
        """The lease of a helper. Who holds it asks for parts that documents of ours may have, too: it is waited for."""
        with ExitStack() as held:
            lease = self._in_turn(release, held)
            self.recover(release)
            # Services ask for parts, too: what becomes of one that is put off for them has to be seen.
            lease.watch = self._store.completions.watch(release.release_id)
            yield lease

    def _in_turn(self, release: Release, held: ExitStack) -> Lease:
        while True:
            try:
                return held.enter_context(self._store.completions.lease(release.release_id, holder=self._asking.run_id))
            except LeaseHeld as other:
                if self._asking.on_wait is not None:
                    self._asking.on_wait(str(other))
            threading.Event().wait(LOOK_AGAIN_SECONDS)


class _NotOfOthers:
    """Leaves out what others have answered since a run began, and puts off what a service is asking about now.

    It looks once a second at what was answered: in the lake, and in the journals of services; and whether there is a
    service at all, since what is asked about is noted for services only.

    Attributes:
        has_left_out: Whether anything was answered by others.
    """

    def __init__(self, store: ApplicationStore, lease: Lease, asking: Asking) -> None:
        self.has_left_out = False
        self._lease = lease
        self._run_id = asking.run_id
        self._online: Path | None = None
        self._asked_file: Path | None = None
        self._asked: AskedTexts | None = None
        # Without a watch, what becomes of a text that was put off would not be seen.
        if asking.journal is not None and lease.watch is not None:
            _, self._online = journals_of(asking.journal, store.name, lease.release_id)
            self._asked_file = asked_file(asking.journal, store.name, lease.release_id)
        self._put_off: list[DocumentRow] = []
        self._looked_at = time.monotonic()
        self._look_for_services()

    def __enter__(self) -> _NotOfOthers:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._asked is not None:
            self._asked.close()

    def __call__(self, rows: Sequence[DocumentRow]) -> Sequence[DocumentRow]:
        rows = self._unanswered(rows)
        if self._asked is None:
            return rows
        others = self._asked.take([row.fingerprint for row in rows], seconds=ASKED_SECONDS)
        self._put_off += [row for row in rows if row.fingerprint in others]
        return [row for row in rows if row.fingerprint not in others]

    def behind(self, batches: Rows) -> Iterator[Sequence[DocumentRow]]:
        """The batches, and then what was put off, until it is answered or nobody asks about it any more."""
        yield from batches
        while self._put_off:
            threading.Event().wait(LOOK_AT_OTHERS_SECONDS)
            rows, self._put_off = self._put_off, []
            yield rows

    def _look_for_services(self) -> None:
        if self._asked is None and self._asked_file is not None and self._asked_file.exists():
            self._asked = AskedTexts(self._asked_file, self._run_id)

    def _unanswered(self, rows: Sequence[DocumentRow]) -> Sequence[DocumentRow]:
        watch, now = self._lease.watch, time.monotonic()
        if watch is None or now - self._looked_at < LOOK_AT_OTHERS_SECONDS:
            return rows
        self._looked_at = now
        self._look_for_services()
        answered = watch.answered_by_others([row.fingerprint for row in rows])
        if self._online is not None:
            answered |= {one.fingerprint for one in held(self._online, Completion)}
        self.has_left_out = self.has_left_out or not answered.isdisjoint(row.fingerprint for row in rows)
        return [row for row in rows if row.fingerprint not in answered]


def _is_used_up(policy: EnginePolicy) -> bool:
    limits = (policy.budget_tokens, policy.budget_seconds, policy.budget_usd)
    return any(left is not None and left <= 0 for left in limits)


@contextmanager
def _sink(store: ApplicationStore, lease: Lease, segments: Path | None) -> Iterator[OnLines]:
    """What the engine hands answers to: the lake, with a journal in front of it where there is a place for one."""

    def store_lines(lines: list[bytes]) -> None:
        store.completions.append_lines(lease, lines)

    def store_segment(segment: Path) -> None:
        store.completions.append_file(lease, segment)

    if segments is None:
        yield store_lines
        return
    with Journal(segments, store_segment) as journal:
        yield journal


def _journal(store: ApplicationStore, release: Release, journals: Path | None) -> Path | None:
    return None if journals is None else journals_of(journals, store.name, release.release_id)[0]
