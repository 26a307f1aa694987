"""Studies of an adapter: how much more examples would bring, and which knobs are worth turning.

Both train several adapters, so they are asked for by name and say what they will take. The sweep looks at validation
examples only; the curve is measured on the held-out documents, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from llm_platform.application.variants import Finetuning
from llm_platform.errors import ContractBroken, PermanentError
from llm_platform.evaluation.baseline import tfidf_grades
from llm_platform.evaluation.pairs import held_out_grades
from llm_platform.evaluation.scorers import score_answers, scorer_of
from llm_platform.evaluation.statistics import mean_score
from llm_platform.operations.adapters.adapter_reports import base_release, held_out_without_answer
from llm_platform.operations.adapters.adapter_studies import (
    CURVE_KIND,
    SWEEP_KIND,
    CurvePoint,
    LearningCurve,
    Sweep,
    SweepTrial,
)
from llm_platform.operations.adapters.adapters import AdapterFolders
from llm_platform.operations.adapters.finetuning import (
    Training,
    TrainingPlace,
    finish_training,
    prepare_job,
    training_job,
    training_set,
)
from llm_platform.operations.answering.sending import Asking, ask
from llm_platform.operations.evidence.frames import answers_frame
from llm_platform.operations.releases import LoadedApplication
from llm_platform.records import AdapterManifest, Interval, Recipe, Release
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.store import ApplicationStore

if TYPE_CHECKING:
    import pandas as pd

FIRST_SIZE = 50

Train = Callable[[Training], None]
"""Runs a training process to its end."""


def curve_sizes(most: int) -> list[int]:
    """50, 100, 200, … examples, and all of them."""
    sizes = []
    size = FIRST_SIZE
    while size < most:
        sizes.append(size)
        size *= 2
    return [*sizes, most]


def sweep_recipes(spec: Finetuning) -> list[Recipe]:
    """The recipe as it is, half and twice its learning rate, and twice its rank."""
    recipe = spec.recipe()
    changes: list[dict[str, float]] = [
        {},
        {"learning_rate": recipe.learning_rate / 2},
        {"learning_rate": recipe.learning_rate * 2},
        {"rank": recipe.rank * 2},
    ]
    return [recipe.model_copy(update=change) for change in changes]


def sweep(lake: Warehouse, loaded: LoadedApplication, name: str, *, place: TrainingPlace, train: Train) -> Sweep:
    """Train one adapter a recipe and store what validation says; nothing of the evaluation split is looked at.

    Raises:
        SpecificationError: there are too few examples.
        PermanentError: a training failed.
    """
    spec = loaded.application.finetuning[name]
    store = lake.application(loaded.application.name)
    entry = loaded.lock[spec.model]
    data, examples = training_set(lake, loaded, spec)
    trials = []
    for recipe in sweep_recipes(spec):
        tried = spec.model_copy(update=recipe.model_dump())
        job = training_job(loaded, f"{name}_trial", tried, data, gpus=place.gpus)
        prepared = prepare_job(store, job, examples, entry=entry, place=place)
        manifest = _trained(store, prepared, place.adapters, train)
        metrics = manifest.metrics
        if metrics is None or not metrics.validations:
            raise PermanentError(f"Adapter {manifest.adapter_id} has no validation to be compared by. Train it again.")
        best = min(metrics.validations, key=lambda one: one.loss)
        trials.append(
            SweepTrial(
                recipe=recipe,
                adapter_id=manifest.adapter_id,
                loss=best.loss,
                accuracy=best.accuracy,
                best_step=best.step,
                wall_seconds=manifest.wall_seconds,
            )
        )
    found = Sweep(name=name, validation=data.validation, trials=tuple(sorted(trials, key=lambda trial: trial.loss)))
    store.adapter_reports.append(name, SWEEP_KIND, found.model_dump_json())
    return found


def learning_curve(
    lake: Warehouse,
    loaded: LoadedApplication,
    name: str,
    *,
    place: TrainingPlace,
    train: Train,
    asking: Callable[[Release], Asking],
) -> LearningCurve:
    """Train on 50 examples, on twice as many, and so on to all; answer the held-out documents with each adapter.

    Args:
        lake: The lake.
        loaded: The application.
        name: Of the adapter; a smaller number of examples is a part of a larger.
        place: Where adapters are trained and kept.
        train: Runs a training.
        asking: How a release's documents are sent; it serves the release's adapter.

    Raises:
        SpecificationError: there are too few examples.
        PermanentError: a training failed.
        EndpointUnavailable: an adapter was not served in time.
    """
    application, spec = loaded.application, loaded.application.finetuning[name]
    store = lake.application(application.name)
    answering, entry = _answering(loaded, name), loaded.lock[spec.model]
    data, _ = training_set(lake, loaded, spec)
    points = [_point(store, loaded, answering, asking=asking, manifest=None, trained_on=[])]
    for size in curve_sizes(data.train + data.validation):
        part, examples = training_set(lake, loaded, spec.model_copy(update={"examples": size}))
        job = training_job(loaded, f"{name}_curve", spec, part, gpus=place.gpus)
        prepared = prepare_job(store, job, examples, entry=entry, place=place)
        manifest = _trained(store, prepared, place.adapters, train)
        release = answering.model_copy(update={"adapter": manifest.adapter_id})
        trained_on = [example.document_id for example in examples]
        points.append(_point(store, loaded, release, asking=asking, manifest=manifest, trained_on=trained_on))
    curve = LearningCurve(name=name, points=tuple(points))
    store.adapter_reports.append(name, CURVE_KIND, curve.model_dump_json())
    return curve


def _answering(loaded: LoadedApplication, name: str) -> Release:
    """How a variant with this adapter asks, without the adapter."""
    application = loaded.application
    variant = next((key for key, one in application.variants.items() if one.adapter == name), None)
    if variant is None:
        raise PermanentError(f"No variant of {application.name} answers with adapter {name!r}; add one to measure it.")
    return base_release(loaded.without_adapter(variant))


def _trained(store: ApplicationStore, prepared: Training, folders: AdapterFolders, train: Train) -> AdapterManifest:
    if prepared.adapter is not None:
        return prepared.adapter
    train(prepared)
    return finish_training(store, prepared, folders)


def _point(
    store: ApplicationStore,
    loaded: LoadedApplication,
    release: Release,
    *,
    asking: Callable[[Release], Asking],
    manifest: AdapterManifest | None,
    trained_on: Sequence[str],
) -> CurvePoint:
    application = loaded.application
    missing = held_out_without_answer(store, release)
    if missing:
        store.releases.put(release)
        ask(store, release, [missing], total=len(missing), application=application, asking=asking(release))
    documents = store.documents.table(columns=["document_id", "fingerprint", "text", "status"]).to_pandas()
    documents = documents.rename(columns={"status": "document_status"})
    references: pd.DataFrame = store.references.table().to_pandas()
    answers = answers_frame(store, release)
    scores = score_answers(
        answers[answers["status"].notna()],
        references,
        application=application,
        release_id=release.release_id,
        references_version=store.references.version(),
    )
    grades = held_out_grades(documents, references, scores, scorer=scorer_of(application).name)
    kept = (references["split"] != "train") | references["document_id"].isin(set(trained_on))
    words = {}
    if application.task == "classify":
        words = tfidf_grades(documents, references.loc[kept], labels=application.labels)
    score = _mean(grades, application.evaluation.gates.confidence)
    if score is None:
        raise ContractBroken(f"{application.name} has no held-out document with a known answer to measure on.")
    return CurvePoint(
        examples=len(trained_on),
        adapter_id=manifest.adapter_id if manifest else None,
        score=score,
        words=_mean(words, application.evaluation.gates.confidence),
        wall_seconds=manifest.wall_seconds if manifest else 0.0,
    )


def _mean(grades: dict[str, float], confidence: float) -> Interval | None:
    texts = sorted(grades)
    return mean_score([grades[text] for text in texts], texts, confidence=confidence) if texts else None
