"""What the gates of one variant are held against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llm_platform.application.evaluation import Looks
from llm_platform.application.model import Application
from llm_platform.evaluation.baseline import Baseline
from llm_platform.evaluation.clusters import clusters_of
from llm_platform.evaluation.effort import Effort
from llm_platform.evaluation.floors import Measured, constants, measured_floors
from llm_platform.evaluation.measures import Measures, Metric, method_of
from llm_platform.evaluation.metrics import Majority, Slice
from llm_platform.evaluation.pairing import Rules
from llm_platform.evaluation.regression import AgainstChampion, ChampionScores, against_champion
from llm_platform.evaluation.selection import sendable
from llm_platform.evaluation.sequential import labels_needed_at_any_look
from llm_platform.evaluation.statistics import labels_needed
from llm_platform.evaluation.whole import Whole
from llm_platform.evaluation.wording import counted
from llm_platform.records import Decision, Interval, Release

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Constant:
    """What an answer that ignores the document reaches: the majority label, or the most frequent values."""

    name: str
    rate: float


@dataclass(frozen=True)
class Evidence:
    """What the gates of one variant are held against.

    Attributes:
        accuracy: None when no document was evaluated.
        accuracy_count: Evaluated documents as an effective count (documents that share a text count once).
        valid_rate: None when nothing was answered outside the training split.
        valid_count: Its effective count.
        unanswered: Sendable evaluation documents without a completion.
        invalid: Evaluated documents with no valid answer.
        favourite: The label given most often, and its share of the valid answers.
        unevaluated: Why there is nothing to evaluate.
        slices: The score of every slice.
        regression: The score beside the champion's; None where nothing is published yet, and for the champion.
        is_champion: This release is what is published.
        judge: The judge whose verdicts are the score.
        judge_agreement: Of that judge, or of the application's only one, with people; None when it was not measured.
        effort: What the answers took.
        looks: How often the decision may be looked at.
        floors: What stated minimums for labels, fields, macro-F1 and kappa are held against, by name.
        metrics: Further metrics, by name.
        constants: What each answer that ignores the document reaches, by the name of a stated minimum.
    """

    accuracy: Interval | None
    accuracy_count: float
    valid_rate: Interval | None = None
    valid_count: float = 0.0
    unanswered: int = 0
    invalid: int = 0
    favourite: tuple[str, float] | None = None
    decision: Decision = "text"
    is_calibrated: bool = False
    constant: Constant | None = None
    baseline: Baseline | None = None
    unevaluated: str = "no document has a reference in the evaluation split"
    slices: tuple[Slice, ...] = ()
    regression: AgainstChampion | None = None
    is_champion: bool = False
    judge: str | None = None
    judge_agreement: Interval | None = None
    effort: Effort | None = None
    looks: Looks = "once"
    floors: Mapping[str, Measured] = field(default_factory=dict)
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    constants: tuple[Mapping[str, float], ...] = ()

    def more_labels(self, interval: Interval, minimum: float, count: float, *, power: float = 0.5) -> int | None:
        """How many more documents until the lower bound could clear `minimum`; None when no number would do."""
        if self.looks == "any":
            return labels_needed_at_any_look(interval.value, minimum, interval.confidence, count=count)
        return labels_needed(interval.value, minimum, interval.confidence, count=count, power=power)


def gather(
    labelled: pd.DataFrame,
    whole: Whole,
    measures: Measures,
    *,
    application: Application,
    release: Release,
    baseline: Baseline | None,
    champion: ChampionScores | None,
    judge: str | None,
    judge_agreement: Interval | None,
    effort: Effort,
    further: Sequence[Metric] = (),
) -> Evidence:
    """The evidence on one release.

    Args:
        labelled: Documents of the evaluation split, with `score` and why it is missing.
        whole: All documents, labelled or not.
        measures: Of the labelled documents that have a score.
        champion: What is published now.
        further: Metrics by further scorers and the application's own.
    """
    rows = labelled.loc[labelled["score"].notna()]
    return Evidence(
        accuracy=measures.accuracy,
        accuracy_count=_effective(rows, rows["score"].tolist(), application),
        valid_rate=method_of(application).share(whole.outside) if whole.outside.count else None,
        valid_count=method_of(application).effective_of(whole.outside.all_right),
        unanswered=int((sendable(labelled) & labelled["status"].isna()).sum()),
        invalid=int(rows["predicted"].isna().sum()),
        favourite=_favourite(measures),
        decision=release.decision,
        is_calibrated=release.calibration is not None,
        constant=_constant(measures.majority, baseline),
        baseline=baseline,
        unevaluated=_commonest(labelled),
        slices=measures.slices,
        regression=_regression(rows, application, release=release, champion=champion),
        is_champion=champion is not None and champion.release_id == release.release_id,
        judge=judge,
        judge_agreement=judge_agreement,
        effort=effort,
        looks=application.evaluation.gates.looks,
        floors=measured_floors(rows, measures, application),
        metrics={metric.name: metric for metric in further},
        constants=constants(rows, measures, application, baseline=baseline),
    )


def _effective(rows: pd.DataFrame, scores: list[float], application: Application) -> float:
    return 0.0 if rows.empty else method_of(application).effective(scores, clusters_of(rows))


def _regression(
    evaluated: pd.DataFrame, application: Application, *, release: Release, champion: ChampionScores | None
) -> AgainstChampion | None:
    gates = application.evaluation.gates
    if champion is None or champion.release_id == release.release_id or gates.regression is None:
        return None
    keys = list(zip(evaluated["document_id"].tolist(), evaluated["fingerprint"].tolist(), strict=True))
    return against_champion(
        keys,
        clusters_of(evaluated),
        dict(zip(keys, evaluated["score"].tolist(), strict=True)),
        champion=champion,
        margin=gates.regression.margin,
        rules=Rules.of(application),
    )


def _favourite(measures: Measures) -> tuple[str, float] | None:
    given = sum(item.predicted for item in measures.labels)
    if not given:
        return None
    most = max(measures.labels, key=lambda item: item.predicted)
    return most.label, most.predicted / given


def _commonest(labelled: pd.DataFrame) -> str:
    if labelled.empty:
        return "no document has a reference in the evaluation split"
    reason, count = Counter(labelled["ungraded"].tolist()).most_common(1)[0]
    return f"{reason} ({count} of {counted(len(labelled), 'labelled document')})"


def _constant(most: Majority | None, baseline: Baseline | None) -> Constant | None:
    if most is not None:
        return Constant(name=f"always answering {most.answer!r}", rate=most.rate)
    if baseline is not None and baseline.accuracy is not None:
        return Constant(name="always giving the most frequent value of each field", rate=baseline.accuracy.value)
    return None
