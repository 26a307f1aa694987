"""How a release is asked, in a Dagster run, from a terminal and in a notebook: by the same resource."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from llm_platform.application.model import Application
from llm_platform.inference.engine import EndpointTarget, Progress
from llm_platform.operations.adapters.adapters import ServedAdapter
from llm_platform.operations.answering.sending import Asking
from llm_platform.operations.answering.spending import NOTHING, Spent, within_budget
from llm_platform.records import Release
from llm_platform.records.rollout import AskedDocuments
from llm_platform.resources.handed import adapter_folders, serving_of
from llm_platform.resources.nim import NIMResource
from llm_platform.settings.settings import Settings
from llm_platform.warehouse.missing import SIDE_BY_SIDE


def asking_of(
    settings: Settings,
    release: Release,
    *,
    max_failed_share: float,
    run_id: str,
    snapshot: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Asking:
    """Where and how the requests of `release` are sent in this deployment."""
    nim = NIMResource.of(settings, release.model.entry)
    endpoints, verify = _verified(settings, nim, release)
    return Asking(
        endpoints=endpoints,
        verify=verify,
        policy=nim.policy(max_failed_share=max_failed_share),
        connection=nim.connection(),
        run_id=run_id,
        git_commit=settings.git_commit,
        snapshot=snapshot,
        on_progress=on_progress,
        progress=settings.progress_folder,
    )


def asking_documents(
    settings: Settings,
    application: Application,
    release: Release,
    *,
    nim: NIMResource,
    run_id: str,
    snapshot: int | None,
    on_progress: Callable[[Progress], None],
    buckets: Collection[int] | None = None,
    documents: AskedDocuments | None = None,
    waits_for_others: bool = True,
    on_wait: Callable[[str], None] | None = None,
    spent: Spent = NOTHING,
    expected: tuple[int, float | None] | None = None,
) -> Asking:
    """How an application's documents are sent: within its budget, with a journal, to endpoints that serve the adapter.

    Args:
        nim: The endpoints of the release's lock entry.
        buckets, documents, waits_for_others, on_wait: As in `Asking`.
        spent: What the run has used of the budget already.
        expected: As in `Asking`.
    """
    endpoints, verify = _verified(settings, nim, release)
    return Asking(
        endpoints=endpoints,
        verify=verify,
        policy=within_budget(
            nim.policy(max_failed_share=application.max_failed_share), application.budget, nim.pinned, spent=spent
        ),
        connection=nim.connection(),
        run_id=run_id,
        git_commit=settings.git_commit,
        snapshot=snapshot,
        on_progress=on_progress,
        buckets=buckets,
        documents=documents,
        waits_for_others=waits_for_others,
        side_by_side=min(SIDE_BY_SIDE, nim.known_slots or SIDE_BY_SIDE),
        on_wait=on_wait,
        journal=settings.namespace_folder / "journal",
        progress=settings.progress_folder,
        expected=expected,
        # A replica that joins late has not got the adapter yet.
        discover=(lambda: nim.discover(release.model)) if nim.may_scale and release.adapter is None else None,
    )


def asking_online(settings: Settings, release: Release, run_id: str) -> Asking:
    """How a release is asked for callers that wait."""
    return asking_of(settings, release, max_failed_share=1.0, run_id=run_id)


def _verified(
    settings: Settings, nim: NIMResource, release: Release
) -> tuple[Callable[[], Sequence[EndpointTarget]], Callable[[], None] | None]:
    """`endpoints` and `verify` of an `Asking`: an adapter is served, and is the same one to the end."""
    if release.adapter is None:
        return lambda: nim.verified_targets(release.model), None
    adapter = ServedAdapter(
        nim.pinned,
        serving=serving_of(settings),
        folders=adapter_folders(settings),
        name=release.served_name,
        adapter_id=release.adapter,
        base=release.model,
    )

    def endpoints() -> Sequence[EndpointTarget]:
        targets = nim.verified_targets(release.model)
        adapter.serve([target.root for target in targets])
        return targets

    return endpoints, adapter.verify
