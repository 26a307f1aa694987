"""What the report card shows of adapters: how each was trained, what it was held against, and its learning curve."""

from __future__ import annotations

from collections.abc import Iterator

from llm_platform.evaluation.charts import Line, Point, line_chart
from llm_platform.evaluation.panel import Panel
from llm_platform.evaluation.wording import interval_text, probability
from llm_platform.finetuning.curve import loss_curve
from llm_platform.operations.adapters.adapter_studies import LearningCurve, Sweep, stored_curve, stored_sweep
from llm_platform.operations.evidence.adapter_evidence import AdapterReport, stored_report, verdict
from llm_platform.operations.releases import LoadedApplication
from llm_platform.records import AdapterManifest
from llm_platform.records.figures import figure
from llm_platform.warehouse.store import ApplicationStore


def adapter_panels(store: ApplicationStore, loaded: LoadedApplication) -> list[Panel]:
    """Everything that is stored of the adapters that variants answer with."""
    panels: list[Panel] = []
    for variant, spec in loaded.application.variants.items():
        release = loaded.release(variant, store) if spec.adapter else None
        if release is None or (manifest := store.adapters.get(str(release.adapter))) is None:
            continue
        panels += _training(variant, manifest)
        report = stored_report(store, release)
        panels += [_comparison(report)] if report is not None else []
    for name in loaded.application.finetuning:
        curve, sweep = stored_curve(store, name), stored_sweep(store, name)
        panels += [curve_panel(curve)] if curve is not None else []
        panels += [_sweep(sweep)] if sweep is not None else []
    return panels


def _training(variant: str, manifest: AdapterManifest) -> Iterator[Panel]:
    metrics, data = manifest.metrics, manifest.data
    if metrics is None or data is None:
        return
    note = (
        f"Adapter {manifest.adapter_id}: {data.train} examples, {data.validation} to validate, {metrics.steps} steps "
        f"in {manifest.wall_seconds:.0f} s; ended: {metrics.stopped}. Step {metrics.best_step} was kept."
    )
    yield Panel(title="Training", note=note, picture=loss_curve(metrics), variant=variant)


def _comparison(report: AdapterReport) -> Panel:
    rows = [
        (
            found.name,
            interval_text(found.theirs),
            interval_text(found.ours),
            interval_text(found.difference),
            probability(found.p_value),
        )
        for found in report.pairs
    ]
    said = verdict(report)
    return Panel(
        title="The adapter beside what is there",
        note=f"{said[:1].upper()}{said[1:]}. All on the same held-out texts; what is kept is measured on "
        f"{report.abilities.asked} short texts that have nothing to do with the task.",
        columns=("compared with", "its score", "the adapter's", "difference", "p"),
        rows=tuple(rows),
        variant=report.variant,
        wide=True,
    )


def curve_panel(curve: LearningCurve) -> Panel:
    """The learning curve, beside that of counting words."""
    scores = [
        Point(x=point.examples, y=point.score.value, lower=point.score.lower, upper=point.score.upper)
        for point in curve.points
    ]
    words = [
        Point(x=point.examples, y=point.words.value, lower=point.words.lower, upper=point.words.upper)
        for point in curve.points
        if point.words is not None
    ]
    lines = [Line(name=curve.name, points=tuple(scores))]
    lines += [Line(name="counting words", points=tuple(words))] if words else []
    return Panel(
        title=f"Learning curve of {curve.name}",
        note="Score on the held-out documents by number of examples, validation included; none is the base model.",
        picture=line_chart(lines, title=f"Learning curve of {curve.name}", x_label="examples", y_label="score"),
        columns=("examples", "score", "counting words", "seconds"),
        rows=tuple(
            (
                str(point.examples),
                interval_text(point.score),
                interval_text(point.words) if point.words is not None else "–",
                f"{point.wall_seconds:.0f}",
            )
            for point in curve.points
        ),
        wide=True,
    )


def _sweep(sweep: Sweep) -> Panel:
    return Panel(
        title=f"Recipes tried for {sweep.name}",
        note=f"By the loss of {sweep.validation} validation examples; the held-out documents were not looked at.",
        columns=("rank", "learning rate", "epochs", "validation loss", "validation accuracy", "kept step", "seconds"),
        rows=tuple(
            (
                str(trial.recipe.rank),
                f"{trial.recipe.learning_rate:g}",
                str(trial.recipe.epochs),
                figure(trial.loss),
                figure(trial.accuracy),
                str(trial.best_step),
                f"{trial.wall_seconds:.0f}",
            )
            for trial in sweep.trials
        ),
    )
