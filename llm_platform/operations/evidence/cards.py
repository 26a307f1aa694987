"""The report card of an application, from reports and what they were built from."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from llm_platform.application.model import Application
from llm_platform.errors import EvidenceMissing
from llm_platform.evaluation.card import render_card
from llm_platform.evaluation.changes import Changes, changes
from llm_platform.evaluation.comparison import JudgedVariant, compare_all
from llm_platform.evaluation.further import own_panels
from llm_platform.evaluation.pairing import Rules
from llm_platform.evaluation.panel import Panel
from llm_platform.evaluation.report import Report
from llm_platform.evaluation.yardstick import evaluated_rows
from llm_platform.operations.evidence.adapter_evidence import require_adapter_report
from llm_platform.operations.releases import LoadedApplication, champion_release
from llm_platform.records.evaluation import whom
from llm_platform.warehouse.store import ApplicationStore

if TYPE_CHECKING:
    import pandas as pd


def card_html(
    store: ApplicationStore,
    loaded: LoadedApplication,
    judged: Sequence[JudgedVariant],
    *,
    provenance: Mapping[str, str],
    panels: Sequence[Panel],
    review_url: str | None,
) -> str:
    """The card of these loaded; call it before their reports are stored, since it says what changed since the last.

    Args:
        judged: One for each variant that has a release.
        provenance: Further facts to list.
        panels: What other parts of the platform add.
        review_url: Address of the review page.
    """
    application = loaded.application
    references = store.references.table().to_pandas()
    serving = champion_release(store)
    return render_card(
        [variant.report for variant in judged],
        compare_all(
            _pairs(judged, serving.release_id if serving is not None else None),
            references=references,
            rules=Rules.of(application),
        ),
        title=application.title,
        application=application.name,
        looks=application.evaluation.gates.looks,
        provenance=provenance,
        panels=[*_own_panels(judged, references, application), *panels],
        changes=_since(store, [variant.report for variant in judged]),
        pending=pending_variants(store, loaded),
        withheld=_withheld(store, judged),
        review_url=review_url,
        serving=serving_sentence(store),
    )


def serving_sentence(store: ApplicationStore) -> str:
    """Who serves, since when and by whose decision."""
    champion = store.rollout.champion()
    if champion is None:
        return "Nothing served when this was written."
    note = f": “{champion.note}”" if champion.note else ""
    return (
        f"{champion.variant} serves since {champion.at:%Y-%m-%d %H:%M} UTC, decided by {whom(champion.by)}{note} "
        f"(release {champion.release_id})."
    )


def pending_variants(store: ApplicationStore, loaded: LoadedApplication) -> dict[str, str]:
    """Variants that point at no release yet, and what they wait for."""
    waiting = {name: loaded.pending(name, store) for name in loaded.application.judged}
    return {name: reason for name, reason in waiting.items() if reason is not None}


def _withheld(store: ApplicationStore, judged: Sequence[JudgedVariant]) -> dict[str, str]:
    """Variants with an adapter that has not been shown to be better than what is published, and what is said of it."""
    found = {}
    for report in (variant.report for variant in judged):
        release = store.releases.get(report.release_id)
        if release is None:
            continue
        try:
            require_adapter_report(store, release, evaluation_id=report.evaluation_id)
        except EvidenceMissing as error:
            found[report.variant] = str(error)
    return found


def _own_panels(judged: Sequence[JudgedVariant], references: pd.DataFrame, application: Application) -> list[Panel]:
    if not application.evaluation.panels:
        return []
    return [
        panel
        for variant in judged
        for panel in own_panels(
            evaluated_rows(variant.answers, references, variant.scores, scorer=variant.report.scorer),
            application,
            variant=variant.report.variant,
        )
    ]


def _since(store: ApplicationStore, reports: Sequence[Report]) -> list[Changes]:
    """What is different from each variant's last stored report that says anything else."""
    found = []
    for report in reports:
        earlier = [row for row in store.reports.for_variant(report.variant) if row.report_id != report.report_id]
        if earlier:
            found.append(changes(Report.model_validate_json(earlier[0].report), report))
    return found


def _pairs(judged: Sequence[JudgedVariant], champion: str | None) -> list[tuple[JudgedVariant, JudgedVariant]]:
    """Every variant beside the champion; every two of them while there is none, since each comparison costs power."""
    measured = [variant for variant in judged if variant.report.counts.evaluated]
    pairs = list(itertools.combinations(measured, 2))
    beside = [pair for pair in pairs if champion in {variant.report.release_id for variant in pair}]
    return beside or pairs
