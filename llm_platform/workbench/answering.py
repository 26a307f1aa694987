"""Answer an application's documents in this process, outside of Dagster, beside whoever else does."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from llm_platform.errors import PermanentError, PlatformError, SpecificationError
from llm_platform.inference.engine import Progress
from llm_platform.operations.answering.completions import Sent, answer_missing
from llm_platform.operations.answering.documents import require_judgeable
from llm_platform.operations.answering.spending import spent_by
from llm_platform.operations.live import asked_documents
from llm_platform.operations.releases import CHAMPION, LoadedApplication, senders
from llm_platform.records import Release
from llm_platform.resources.asking import asking_documents
from llm_platform.resources.nim import NIMResource
from llm_platform.resources.warehouse import WarehouseResource
from llm_platform.settings.settings import Settings
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.store import ApplicationStore


@dataclass(frozen=True)
class AnsweredBeside:
    """What this process did for one variant."""

    variant: str
    sent: Sent


def answer_beside(
    settings: Settings,
    loaded: LoadedApplication,
    *,
    on_progress: Callable[[str, Progress], None],
    variant: str | None = None,
    buckets: Collection[int] | None = None,
) -> Iterator[AnsweredBeside]:
    """Answer a share of the documents that have no answer; ends when only other processes have something to do.

    It reads no source and publishes nothing: that is left to the run that this process helps, or to the next one.

    Args:
        settings: Of the deployment.
        loaded: The application.
        on_progress: Called with the variant's name, in this thread.
        variant: Only this one; `champion` is what is published.
        buckets: Only documents in these.

    Raises:
        SpecificationError: there is no such variant or bucket.
        PermanentError: variants could not be answered, or judged; says why, after all others were answered.
        And as `answering.completions.answer`.
    """
    application = loaded.application
    unknown = sorted(set(buckets or ()) - set(range(application.documents.buckets)))
    if unknown:
        raise SpecificationError(
            f"{application.name} has no bucket {unknown[0]}: they are 0 to {application.documents.buckets - 1} "
            "(documents.buckets in its application.yaml)."
        )
    with WarehouseResource.of(settings).open() as lake:
        store = lake.application(application.name)
        found, troubles = _worth_asking(lake, store, loaded, variant)
        run_id = f"answer-{uuid.uuid4().hex}"
        for name, release in found.items():
            store.releases.put(release)
            try:
                asking = asking_documents(
                    settings,
                    application,
                    release,
                    nim=NIMResource.of(settings, release.model.entry),
                    run_id=run_id,
                    snapshot=lake.snapshot(),
                    on_progress=partial(on_progress, name),
                    buckets=buckets,
                    documents=None if name == CHAMPION else asked_documents(store, application, release),
                    waits_for_others=False,
                    spent=spent_by(store, loaded, run_id),
                )
                sent = answer_missing(store, release, application=application, asking=asking)
            except PlatformError as error:
                # What one variant's endpoint does is no matter of the others.
                troubles[name] = error
                continue
            yield AnsweredBeside(name, sent)
    if troubles:
        raise PermanentError("\n".join(f"{name}: {error}" for name, error in troubles.items()))


def _worth_asking(
    lake: Warehouse, store: ApplicationStore, loaded: LoadedApplication, variant: str | None
) -> tuple[Mapping[str, Release], dict[str, PlatformError]]:
    """Variants whose new answers can be judged, and why the others are left alone."""
    found = senders(store, loaded, variant)
    if variant != CHAMPION:
        try:
            require_judgeable(lake, loaded)
        except PlatformError as error:
            # Nothing could be said about new answers; what is published needs its own all the same.
            published = senders(store, loaded, CHAMPION)
            if variant is not None or not published:
                raise
            return published, {"known answers": error}
    return found, {}
