"""How a release is asked outside of a Dagster run, from a terminal or a notebook: by the same resource as inside."""

from __future__ import annotations

from collections.abc import Callable

from llm_platform.inference.engine import Progress
from llm_platform.operations.completions import Asking
from llm_platform.records import Release
from llm_platform.resources.nim import NIMResource
from llm_platform.settings import Settings


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
    return Asking(
        endpoints=lambda: nim.verified_targets(release.model),
        policy=nim.policy(max_failed_share=max_failed_share),
        connection=nim.connection(),
        run_id=run_id,
        git_commit=settings.git_commit,
        snapshot=snapshot,
        on_progress=on_progress,
    )
