"""Drift and live accuracy as panels of the report card and as a page of their own."""

from __future__ import annotations

from llm_platform.evaluation.charts import bar_chart
from llm_platform.evaluation.drift import DriftReport, Measurement
from llm_platform.evaluation.drift_accuracy import FreshAccuracy
from llm_platform.evaluation.panel import Panel
from llm_platform.evaluation.wording import counted, probability
from llm_platform.operations.releases import LoadedApplication
from llm_platform.records.figures import figure, minimum_figure
from llm_platform.warehouse.store import ApplicationStore

EFFECTS = {"psi": "stability index", "share": "difference of shares", "separation": "AUC"}
FLAGGED_SHOWN = 12
FOOTER = (
    "A measurement has drifted when its p-value, corrected by Holm for all measurements of one look, is below the "
    "application's alpha and its effect is above its limit. Windows with too few texts say nothing.",
    "Equal texts count once. No text of a document or an answer is on this page.",
)


def drift_panels(store: ApplicationStore, loaded: LoadedApplication) -> list[Panel]:
    """What the newest look found; nothing before the first."""
    del loaded
    stored = store.drift.latest()
    if stored is None:
        return []
    report = DriftReport.model_validate_json(stored.report)
    panels = [_measurements(report), _accuracy(report.accuracy)]
    return [*panels, _flagged(report)] if report.flagged else panels


def drift_tiles(report: DriftReport) -> dict[str, tuple[str, str]]:
    """The few numbers of one look."""
    accuracy = report.accuracy
    value = "–" if accuracy.value is None else figure(accuracy.value)
    return {
        "Drift": (report.state, _told(report)),
        "Texts before": (f"{report.reference_texts:,}", "reference window"),
        "Texts since": (f"{report.current_texts:,}", "current window"),
        "Live accuracy": (value, accuracy.standing),
        "Flagged": (f"{len(report.flagged):,}", "documents unlike those before"),
    }


def _told(report: DriftReport) -> str:
    told = sum(found.verdict != "cannot tell" for found in report.measurements)
    return ", ".join(report.drifted) or f"{told} of {len(report.measurements)} properties could be told"


def _measurements(report: DriftReport) -> Panel:
    told = [found for found in report.measurements if found.effect is not None]
    shown = [found for found in told if found.effect_name != "separation"]
    picture = ""
    if shown:
        # Over its limit, a bar passes 1: effects of different kinds stand beside one another.
        values = [((found.effect or 0.0) / found.maximum,) for found in shown]
        picture = bar_chart([found.name for found in shown], values, title="Effect as a multiple of its limit")
    sizes = f"{counted(report.reference_texts, 'text')} before {report.since:%Y-%m-%d %H:%M} UTC and "
    sizes += f"{counted(report.current_texts, 'text')} since"
    said = f"Drifted: {', '.join(report.drifted)}." if report.drifted else "No drift is shown."
    if not told:
        said = "Too few to say."
    bars = " Bars are effects as a multiple of their limit." if picture else ""
    return Panel(
        title="Are newer documents like those it was judged on?",
        note=f"{said} Compared on {sizes}.{bars}",
        picture=picture,
        columns=("property", "verdict", "effect", "limit", "chance", "what was seen"),
        rows=tuple(_line(found) for found in report.measurements),
        wide=True,
    )


def _line(found: Measurement) -> tuple[str, ...]:
    effect = "–" if found.effect is None else f"{EFFECTS[found.effect_name]} {found.effect:.3f}"
    chance = "–" if found.p_value is None else probability(found.p_value)
    return (found.name, found.word, effect, minimum_figure(found.maximum), chance, found.note)


def _accuracy(found: FreshAccuracy) -> Panel:
    drawn = f"{counted(found.considered, 'live text')} went through the draw, {found.drawn:,} were drawn"
    if found.value is None:
        note = f"{drawn}, and none of those has a known answer yet."
        return Panel(title="Is it still right?", note=note)
    held = "" if found.minimum is None else f" The minimum is {minimum_figure(found.minimum)}: {found.standing}."
    interval = f"{figure(found.value)} [{figure(found.lower)}, {figure(found.upper)}]"
    return Panel(
        title="Is it still right?",
        note=(
            f"Accuracy on live documents is {interval}, weighted by the chance of being drawn; the bounds hold at "
            f"every look.{held}"
        ),
        columns=("live texts", "drawn", "labelled", "worth as many equal labels"),
        rows=((f"{found.considered:,}", f"{found.drawn:,}", f"{found.labelled:,}", f"{found.effective:.0f}"),),
    )


def _flagged(report: DriftReport) -> Panel:
    return Panel(
        title="Least like what came before",
        note="Documents to read first: further from the nearest earlier text than 99 of 100 earlier texts are.",
        columns=("document", "distance"),
        rows=tuple((flag.document_id, figure(flag.novelty)) for flag in report.flagged[:FLAGGED_SHOWN]),
    )
