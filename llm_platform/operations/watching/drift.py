"""Compare live documents and answers with those that the serving release was judged on, and draw some for labelling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from llm_platform.application.model import Application
from llm_platform.errors import EvidenceMissing
from llm_platform.evaluation.drift import DriftReport, Flagged, Measurement, flag_documents, measure_drift
from llm_platform.evaluation.drift_accuracy import FreshAccuracy, draw, fresh_accuracy
from llm_platform.evaluation.panel_page import render_page
from llm_platform.evaluation.scorers import scorer_of
from llm_platform.files import write_text
from llm_platform.operations.releases import LoadedApplication
from llm_platform.operations.watching.drift_panels import FOOTER, drift_panels, drift_tiles
from llm_platform.records import content_hash
from llm_platform.records.tables import FLAGS_SCHEMA, LABELLING_SCHEMA
from llm_platform.warehouse.drift import StoredDrift
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.store import ApplicationStore

if TYPE_CHECKING:
    import pandas as pd

SEED = 7


@dataclass(frozen=True)
class Monitored:
    """One look, and the page that shows it.

    Attributes:
        drawn_now: Live texts that this look drew for labelling.
        measured: Whether the windows had changed since the look before.
    """

    report: DriftReport
    drawn_now: int
    measured: bool
    page: Path
    snapshot_id: int


def boundary(store: ApplicationStore, application: Application) -> datetime:
    """When the current window begins: as the application says, else when the serving release was first promoted.

    Raises:
        EvidenceMissing: nothing is published yet.
    """
    champion = store.rollout.champion()
    if champion is None:
        raise EvidenceMissing(
            f"{application.name} has no champion, so there is nothing that newer documents could differ from. "
            f"First: llm-platform run {application.name}"
        )
    if application.monitoring.since is not None:
        return application.monitoring.since
    # A release that a rollback brought back was judged when it was promoted, not when it came back.
    same = [event.at for event in store.rollout.history() if event.release_id == champion.release_id]
    return min([*same, champion.at])


def monitor(lake: Warehouse, loaded: LoadedApplication, *, cards_folder: Path, now: datetime) -> Monitored:
    """Measure drift, draw live documents for labelling, and estimate accuracy from the labels there are.

    Nothing is measured twice: with the same texts and limits the numbers of the look before are taken.

    Raises:
        EvidenceMissing: nothing is published yet.
        StorageError: the page cannot be written.
    """
    application = loaded.application
    store = lake.application(application.name)
    since = boundary(store, application)
    release_id = _serving(store)
    reference, current = _windows(store, application, release_id, since=since)
    windows_id = _windows_id(reference, current, application=application, release_id=release_id, since=since)
    before = latest_report(store)
    known = before if before is not None and before.windows_id == windows_id else None
    measurements: tuple[Measurement, ...] = known.measurements if known else ()
    flagged: Sequence[Flagged] = known.flagged if known else ()
    if known is None:
        measurements = measure_drift(reference, current, application=application, seed=SEED)
        flagged = flag_documents(reference, current, rules=application.monitoring.drift, seed=SEED)
    drawn_now = draw_for_labelling(store, application, since=since, flagged=flagged, now=now)
    accuracy = live_accuracy(store, application)
    report = DriftReport(
        drift_id=content_hash([windows_id, accuracy.model_dump(mode="json")]),
        windows_id=windows_id,
        application=application.name,
        release_id=release_id,
        since=since,
        reference_texts=len(reference),
        current_texts=len(current),
        measurements=measurements,
        flagged=tuple(flagged),
        accuracy=accuracy,
        created_at=now,
    )
    store.drift.append(_row(report), _flags(flagged))
    store.tallies.keep()
    return Monitored(
        report=report,
        drawn_now=drawn_now,
        measured=known is None,
        page=_write_page(store, loaded, report, cards_folder),
        snapshot_id=lake.snapshot(),
    )


def latest_report(store: ApplicationStore) -> DriftReport | None:
    """The newest look, as it was stored."""
    stored = store.drift.latest()
    return DriftReport.model_validate_json(stored.report) if stored else None


def draw_for_labelling(
    store: ApplicationStore, application: Application, *, since: datetime, flagged: Sequence[Flagged], now: datetime
) -> int:
    """Send every live text that no draw has seen through the draw; returns how many were drawn."""
    release_id, rules = _serving(store), application.monitoring.labelling
    drifted = {flag.fingerprint for flag in flagged}
    rows = []
    for row in store.drift.unconsidered(release_id, since=since).to_pylist():
        text = row["fingerprint"]
        drawn = draw(text, row["confidence"], drifted=text in drifted, rules=rules)
        keys = {"release_id": release_id, "fingerprint": text, "document_id": row["document_id"]}
        rows.append({**keys, **drawn.model_dump(), "considered_at": now})
    if rows:
        store.drift.consider(pa.Table.from_pylist(rows, schema=LABELLING_SCHEMA))
    return sum(row["selected"] for row in rows)


def live_accuracy(store: ApplicationStore, application: Application) -> FreshAccuracy:
    """Accuracy of the serving release on live documents, from those that were drawn and have a known answer.

    Labels of other documents do not count: whoever chose them did not choose by a chance that is known.
    """
    release_id, scorer = _serving(store), scorer_of(application).name
    drawn = {row["fingerprint"]: row["probability"] for row in store.drift.drawn(release_id).to_pylist()}
    scores = store.scores.of_release(release_id, store.references.version()).to_pylist()
    graded = {
        row["fingerprint"]: row["score"] for row in scores if row["scorer"] == scorer and row["score"] is not None
    }
    labelled = sorted(drawn.keys() & graded.keys())
    gate = application.evaluation.gates.accuracy
    return fresh_accuracy(
        [graded[text] for text in labelled],
        [drawn[text] for text in labelled],
        considered=store.drift.considered_count(release_id),
        drawn=len(drawn),
        confidence=application.evaluation.gates.confidence,
        minimum=gate.minimum if gate is not None else None,
    )


def to_label(store: ApplicationStore) -> list[dict[str, Any]]:
    """Drawn documents without a known answer, oldest first: document_id, fingerprint, probability, reason."""
    known = set(store.references.table().column("document_id").to_pylist())
    drawn = store.drift.drawn(_serving(store)).to_pylist()
    return [row for row in drawn if row["document_id"] not in known]


def _serving(store: ApplicationStore) -> str:
    champion = store.rollout.champion()
    return champion.release_id if champion else ""


def _windows(
    store: ApplicationStore, application: Application, release_id: str, *, since: datetime
) -> tuple[pd.DataFrame, pd.DataFrame]:
    rules = application.monitoring.drift
    sizes = {False: rules.reference_texts, True: rules.current_texts}
    reference, current = (
        store.drift.window(release_id, since=since, live=live, limit=limit, seed=SEED).to_pandas()
        for live, limit in sizes.items()
    )
    return reference, current


def _windows_id(
    reference: pd.DataFrame, current: pd.DataFrame, *, application: Application, release_id: str, since: datetime
) -> str:
    rules = application.monitoring.drift.model_dump(mode="json")
    texts = [frame[["fingerprint", "status"]].fillna("").values.tolist() for frame in (reference, current)]
    return content_hash([release_id, since.isoformat(), rules, application.task, texts])


def _row(report: DriftReport) -> StoredDrift:
    return StoredDrift(
        drift_id=report.drift_id,
        release_id=report.release_id,
        drifted=", ".join(report.drifted),
        report=report.model_dump_json(),
        created_at=report.created_at,
    )


def _flags(flagged: Sequence[Flagged]) -> pa.Table:
    return pa.Table.from_pylist([flag.model_dump() for flag in flagged], schema=FLAGS_SCHEMA)


def _write_page(store: ApplicationStore, loaded: LoadedApplication, report: DriftReport, folder: Path) -> Path:
    application = loaded.application
    html = render_page(
        drift_panels(store, loaded),
        kind="drift",
        name=application.name,
        title=application.title,
        date=f"{report.created_at:%Y-%m-%d %H:%M} UTC",
        lede=f"Documents and answers since {report.since:%Y-%m-%d %H:%M} UTC against those before.",
        tiles=drift_tiles(report),
        footer=FOOTER,
    )
    return write_text(folder / "drift.html", html)
