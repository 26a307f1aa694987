"""Before anyone trusts an adapter: held against base, champion and counting words, and what it has unlearned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from llm_platform.application.model import Application
from llm_platform.evaluation.baseline import TFIDF, tfidf_grades
from llm_platform.evaluation.measures import method_of
from llm_platform.evaluation.pairing import Rules
from llm_platform.evaluation.pairs import Pair, held_out_clusters, held_out_grades, pair
from llm_platform.evaluation.panel_page import render_page
from llm_platform.evaluation.scorers import score_answers, scorer_of
from llm_platform.files import write_text
from llm_platform.finetuning.abilities import ABILITIES_VERSION
from llm_platform.operations.adapters.adapter_panels import adapter_panels
from llm_platform.operations.adapters.finetuning import labelled_documents
from llm_platform.operations.evidence.abilities import KeptAbilities
from llm_platform.operations.evidence.adapter_evidence import AdapterReport, report_kind, stored_report
from llm_platform.operations.evidence.evaluation import current_evaluation_id
from llm_platform.operations.evidence.frames import answers_frame, text_clusters, with_clusters
from llm_platform.operations.releases import LoadedApplication, champion_release
from llm_platform.records import DocumentRow, Release, Score
from llm_platform.warehouse.store import ApplicationStore

if TYPE_CHECKING:
    import pandas as pd

BASE = "base, same prompt"
ABILITIES_KIND = f"abilities/{ABILITIES_VERSION}"


def adapted_releases(store: ApplicationStore, loaded: LoadedApplication, name: str) -> dict[str, Release]:
    """Variant → release, of the variants that answer with an adapter; none before it is trained."""
    variants = loaded.application.variants.items()
    releases = {key: loaded.release(key, store) for key, variant in variants if variant.adapter == name}
    return {key: release for key, release in releases.items() if release is not None}


def base_release(release: Release) -> Release:
    """The base model with the same prompt, sampling and decision, as it is before any adapter or calibration."""
    return release.model_copy(update={"adapter": None, "calibration": None})


def held_out_without_answer(store: ApplicationStore, release: Release) -> list[DocumentRow]:
    """Documents of the evaluation split that a release has not answered."""
    rows, labelled = labelled_documents(store)
    answered = set(store.completions.of_release(release.release_id, ["fingerprint"])["fingerprint"].to_pylist())
    held_out = {
        document.fingerprint: document.document_id
        for document in labelled
        if document.split == "evaluation" and document.fingerprint not in answered
    }
    return [rows[document_id] for document_id in held_out.values()]


def report_adapter(
    store: ApplicationStore,
    loaded: LoadedApplication,
    variant: str,
    release: Release,
    *,
    measure: Callable[[Release], KeptAbilities],
) -> AdapterReport:
    """Compare a release that has an adapter with what is there already, and store the outcome.

    Args:
        store: Holds the answers of the release and of `base_release`.
        loaded: The application.
        variant: That points at the release.
        release: To be judged.
        measure: Asks an endpoint what the adapter still can; called once an adapter, the outcome is stored.
    """
    application = loaded.application
    evaluation_id, known = current_evaluation_id(store, loaded), stored_report(store, release)
    serving = store.rollout.champion()
    served = serving is not None and serving.release_id == release.release_id
    if served and known is not None and known.evaluation_id == evaluation_id:
        # What it was promoted on; a champion compared with itself would say less.
        return known
    yardstick = _Yardstick(store, application)
    rival = _rival(store, loaded, yardstick)
    base = base_release(release)
    ours = yardstick.grades(release)
    others: list[tuple[str, str | None, Mapping[str, float]]] = []
    if rival is not None and rival[1].release_id != release.release_id:
        others.append((rival[0], rival[1].release_id, yardstick.grades(rival[1])))
    if base.release_id not in {release_id for _, release_id, _ in others}:
        others.append((BASE, base.release_id, yardstick.grades(base)))
    if application.task == "classify":
        others.append((f"{TFIDF}, same examples", None, yardstick.words(_trained_on(store, release))))
    pairs = _pairs(ours, others, yardstick, application, rival_id=rival[1].release_id if rival else None)
    report = AdapterReport(
        variant=variant,
        adapter_id=str(release.adapter),
        release_id=release.release_id,
        evaluation_id=evaluation_id,
        rival_id=rival[1].release_id if rival else None,
        pairs=pairs,
        abilities=_abilities(store, release, measure),
    )
    store.adapter_reports.append(report.adapter_id, report_kind(release), report.model_dump_json())
    return report


def write_page(store: ApplicationStore, loaded: LoadedApplication, path: Path) -> Path:
    """What is stored of the application's adapters, as a page of its own: it is newer than the report card's panels."""
    panels = adapter_panels(store, loaded)
    name = loaded.application.name
    page = render_page(
        panels,
        kind="adapters",
        name=name,
        title=loaded.application.title,
        date=datetime.now(UTC).date().isoformat(),
        lede="" if panels else f"No adapter is trained yet. The job {name}_finetune trains and judges them.",
        footer=("No text of a document or an answer is on this page.",),
    )
    return write_text(path, page)


def _pairs(
    ours: Mapping[str, float],
    others: Sequence[tuple[str, str | None, Mapping[str, float]]],
    yardstick: _Yardstick,
    application: Application,
    *,
    rival_id: str | None,
) -> tuple[Pair, ...]:
    """The adapter beside each of these.

    The rival alone decides, so it is one comparison that was fixed before; what stands beside it is corrected together.
    """
    single = Rules.of(application)
    further = single.together(sum(key != rival_id for _, key, _ in others))
    found = [
        pair(
            ours,
            theirs,
            name=name,
            release_id=key,
            clusters=yardstick.clusters,
            rules=single if key == rival_id else further,
            method=method_of(application),
        )
        for name, key, theirs in others
    ]
    return tuple(one for one in found if one is not None)


class _Yardstick:
    """Grades of releases on the same held-out texts."""

    def __init__(self, store: ApplicationStore, application: Application) -> None:
        self._store, self._application = store, application
        self._scorer = scorer_of(application).name
        self._version = store.references.version()
        self._references: pd.DataFrame = store.references.table().to_pandas()
        columns = ["document_id", "fingerprint", "text", "attributes", "status"]
        documents = store.documents.table(columns=columns).to_pandas().rename(columns={"status": "document_status"})
        self._documents = with_clusters(documents, text_clusters(documents), application)
        self.clusters = held_out_clusters(self._documents, self._references)

    def grades(self, release: Release) -> dict[str, float]:
        """By text; stored scores where there are, since a judge's cannot be computed here."""
        rows = self._store.scores.of_release(release.release_id, self._version).to_pylist()
        fields = Score.model_fields
        scores: Sequence[Score] = [Score.model_validate({name: row[name] for name in fields}) for row in rows]
        if not scores:
            answers = answers_frame(self._store, release)
            scores = score_answers(
                answers[answers["status"].notna()],
                self._references,
                application=self._application,
                release_id=release.release_id,
                references_version=self._version,
            )
        return held_out_grades(self._documents, self._references, scores, scorer=self._scorer)

    def words(self, trained_on: set[str] | None) -> dict[str, float]:
        """Counting words, trained on these documents; on the whole training split where they are not known."""
        references = self._references
        if trained_on is not None:
            kept = (references["split"] != "train") | references["document_id"].isin(trained_on)
            references = references.loc[kept]
        return tfidf_grades(self._documents, references, labels=self._application.labels)


def _rival(store: ApplicationStore, loaded: LoadedApplication, yardstick: _Yardstick) -> tuple[str, Release] | None:
    """The champion; before there is one, the variant without an adapter that is right most often."""
    champion = store.rollout.champion()
    serving = champion_release(store)
    if champion is not None and serving is not None:
        return f"champion ({champion.variant})", serving
    found: list[tuple[float, str, Release]] = []
    for name in loaded.application.variants:
        other = loaded.release(name, store)
        if other is None or other.adapter is not None:
            continue
        grades = yardstick.grades(other)
        if grades:
            found.append((sum(grades.values()) / len(grades), name, other))
    if not found:
        return None
    _, name, best = max(found, key=lambda item: item[:2])
    return f"best other variant ({name})", best


def _trained_on(store: ApplicationStore, release: Release) -> set[str] | None:
    manifest = store.adapters.get(str(release.adapter))
    if manifest is None or manifest.data is None:
        return None
    return set(store.training_sets.document_ids(manifest.data.content_hash)) or None


def _abilities(store: ApplicationStore, release: Release, measure: Callable[[Release], KeptAbilities]) -> KeptAbilities:
    stored = store.adapter_reports.newest(str(release.adapter), ABILITIES_KIND)
    if stored is not None:
        return KeptAbilities.model_validate_json(stored)
    measured = measure(release)
    store.adapter_reports.append(str(release.adapter), ABILITIES_KIND, measured.model_dump_json())
    return measured
