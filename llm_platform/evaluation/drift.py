"""Drift: whether newer documents, and the answers to them, are like those that the serving release was judged on.

Windows are samples of distinct texts before and after a boundary. Each measurement compares them with a test and an
effect size; it has drifted when the test is significant after Holm's correction and the effect is above its limit. A
window with too few texts says nothing, and that is what is reported.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from llm_platform.application.model import Application
from llm_platform.application.monitoring import Drift
from llm_platform.evaluation import drift_tests, drift_texts
from llm_platform.evaluation.drift_accuracy import FreshAccuracy
from llm_platform.evaluation.drift_tests import Difference
from llm_platform.records import Ceiling, CompletionStatus, Record, Task

if TYPE_CHECKING:
    import pandas as pd

Effect = Literal["psi", "share", "separation"]
DriftState = Literal["no drift", "drifted", "too few to say"]
DriftVerdict = Literal["drifted", "no drift shown", "cannot tell"]
_WORDS: dict[str, DriftState] = {"no drift shown": "no drift", "cannot tell": "too few to say"}

DOCUMENT_MEASUREMENTS = ("length", "language", "vocabulary", "texts")
ANSWER_MEASUREMENTS = ("answers", "confidence", "refusals", "validity")
MEASUREMENTS = (*DOCUMENT_MEASUREMENTS, *ANSWER_MEASUREMENTS)
FLAGGED = 50
"""Most documents that one look puts before people."""


class Measurement(Record):
    """One property of the two windows, compared.

    Attributes:
        effect_name: Which effect size, and so which limit of `monitoring.drift`.
        p_value: Adjusted for the number of measurements of this look.
        note: What was compared, in numbers; or why it cannot be told.
        texts: Texts of the reference and of the current window that had the property.
    """

    name: str
    verdict: DriftVerdict
    effect_name: Effect
    effect: float | None = None
    maximum: float
    reason: str
    p_value: float | None = None
    further: dict[str, float] = Field(default_factory=dict)
    note: str = ""
    texts: tuple[int, int] = (0, 0)

    @property
    def word(self) -> DriftState:
        """The verdict in the three words that people read everywhere; it is stored in those of the first version."""
        return _WORDS.get(self.verdict, "drifted")


class Flagged(Record):
    """A document more unlike the reference window than 99 of 100 of its own texts."""

    document_id: str
    fingerprint: str
    novelty: float


class DriftReport(Record):
    """One look at both windows.

    Attributes:
        drift_id: Hash of all that was compared, the accuracy included: an equal id is an equal look.
        windows_id: Hash of the texts in both windows, the release, and the limits: equal ids have equal measurements.
        since: Boundary between the windows.
        flagged: Most unlike first.
    """

    drift_id: str
    windows_id: str
    application: str
    release_id: str
    since: datetime
    reference_texts: int
    current_texts: int
    measurements: tuple[Measurement, ...]
    flagged: tuple[Flagged, ...] = ()
    accuracy: FreshAccuracy
    created_at: datetime

    @property
    def state(self) -> DriftState:
        """What the look says as a whole: nothing that drifted is no drift only where something could be told."""
        if self.drifted:
            return "drifted"
        told = any(found.verdict == "no drift shown" for found in self.measurements)
        return "no drift" if told else "too few to say"

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of what has drifted."""
        return tuple(found.name for found in self.measurements if found.verdict == "drifted")


def measure_drift(
    reference: pd.DataFrame, current: pd.DataFrame, *, application: Application, seed: int = 7
) -> tuple[Measurement, ...]:
    """Every measurement, in the order of `MEASUREMENTS`.

    Args:
        reference: One row a text: `text`; and of the serving release's answer `status` (null without one), `answer`,
            `confidence`, `raw`.
        current: The same of the newer texts.
        application: Task, and limits.
        seed: Halves the windows where a classifier or a vocabulary needs texts it has not seen.
    """
    rules = application.monitoring.drift
    compared: list[tuple[str, Effect, Difference | None, str, tuple[int, int]]] = []
    for name in MEASUREMENTS:
        effect, read, test, say = _plan(name, application.task, seed)
        before, after = read(reference), read(current)
        sizes = (len(before), len(after))
        if min(sizes) < rules.minimum_texts:
            compared.append((name, effect, None, _too_few(sizes, rules.minimum_texts), sizes))
        else:
            compared.append((name, effect, test(before, after), say(before, after), sizes))
    p_values = drift_tests.adjusted([found.p_value for _, _, found, _, _ in compared if found is not None])
    remaining = iter(p_values)
    return tuple(
        _judged(name, effect, found, p_value=next(remaining) if found else None, note=note, texts=sizes, rules=rules)
        for name, effect, found, note, sizes in compared
    )


def flag_documents(reference: pd.DataFrame, current: pd.DataFrame, *, rules: Drift, seed: int = 7) -> list[Flagged]:
    """Current documents that are more unlike the reference than 99 of 100 of its own texts; most unlike first.

    One in a hundred is flagged when nothing has changed. In windows too small to tell none is.
    """
    if min(len(reference), len(current)) < rules.minimum_texts:
        return []
    distances, usual = drift_tests.novelties(reference["text"].tolist(), current["text"].tolist(), seed=seed)
    rows = zip(current["document_id"].tolist(), current["fingerprint"].tolist(), distances, strict=True)
    found = [Flagged(document_id=key, fingerprint=text, novelty=far) for key, text, far in rows if far > usual]
    return sorted(found, key=lambda flag: (-flag.novelty, flag.document_id))[:FLAGGED]


Test = Callable[[list[object], list[object]], Difference]
Plan = tuple[Effect, Callable[["pd.DataFrame"], list[object]], Test, Callable[[list[object], list[object]], str]]


def _plan(name: str, task: Task, seed: int) -> Plan:
    """How a property is read, tested, and put into words."""
    numbers, categories, shares = drift_tests.numbers, drift_tests.categories, drift_tests.shares
    plans: dict[str, tuple[Effect, object, object, object]] = {
        "length": ("psi", lambda frame: frame["text"].str.len().tolist(), numbers, _medians("characters")),
        "language": ("psi", lambda frame: frame["text"].map(drift_texts.language).tolist(), categories, _commonest),
        "vocabulary": (
            "share",
            lambda frame: frame["text"].map(drift_texts.words).tolist(),
            lambda before, after: drift_tests.unknown_words(before, after, seed=seed),
            _said("share of words that the reference window does not know"),
        ),
        "texts": (
            "separation",
            lambda frame: frame["text"].tolist(),
            lambda before, after: drift_tests.separation(before, after, seed=seed),
            _said("how well a linear classifier over words tells the windows apart; 0.5 is chance"),
        ),
        "answers": _answers_plan(task),
        "confidence": ("psi", lambda frame: _valid(frame)["confidence"].dropna().tolist(), numbers, _medians("")),
        "refusals": ("share", _refusals, shares, _shares("answers that begin as refusals do")),
        "validity": ("share", _validity, shares, _shares("valid answers")),
    }
    return plans[name]  # type: ignore[return-value]


def _answers_plan(task: Task) -> tuple[Effect, object, object, object]:
    """What of the answers is compared: labels, filled fields, or length."""
    if task == "classify":
        return "psi", lambda frame: _valid(frame)["answer"].tolist(), drift_tests.categories, _commonest
    if task == "extract":
        read = lambda frame: _valid(frame)["answer"].map(_filled).tolist()  # noqa: E731
        return "psi", read, drift_tests.numbers, _medians("fields with a value")
    length = lambda frame: _valid(frame)["answer"].str.len().tolist()  # noqa: E731
    return "psi", length, drift_tests.numbers, _medians("characters of an answer")


def _judged(
    name: str,
    effect: Effect,
    found: Difference | None,
    *,
    p_value: float | None,
    note: str,
    texts: tuple[int, int],
    rules: Drift,
) -> Measurement:
    limit: Ceiling = getattr(rules, effect)
    verdict: DriftVerdict = "cannot tell"
    if found is not None and p_value is not None:
        verdict = "drifted" if p_value < rules.alpha and found.effect > limit.maximum else "no drift shown"
    return Measurement(
        name=name,
        verdict=verdict,
        effect_name=effect,
        effect=None if found is None else round(found.effect, 6),
        maximum=limit.maximum,
        reason=limit.reason,
        p_value=p_value,
        further={} if found is None else {key: round(value, 6) for key, value in found.further.items()},
        note=note,
        texts=texts,
    )


def _too_few(sizes: tuple[int, int], minimum: int) -> str:
    before, after = sizes
    if not before and not after:
        return "neither window has this"
    return f"{before} texts before and {after} since; it takes {minimum} in each to tell"


def _valid(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.loc[frame["status"] == str(CompletionStatus.VALID)]


def _answered(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.loc[frame["status"].notna()]


def _validity(frame: pd.DataFrame) -> list[bool]:
    return [status == str(CompletionStatus.VALID) for status in _answered(frame)["status"].tolist()]


def _refusals(frame: pd.DataFrame) -> list[bool]:
    return [drift_texts.is_refusal(raw or "") for raw in _answered(frame)["raw"].tolist()]


def _filled(answer: str) -> int:
    return sum(value is not None and value != "" for value in json.loads(answer).values())


def _medians(unit: str) -> Callable[[Sequence[float], Sequence[float]], str]:
    def say(before: Sequence[float], after: Sequence[float]) -> str:
        from statistics import fmean, median

        then, now = (f"median {median(sample):.3g}, mean {fmean(sample):.3g}" for sample in (before, after))
        return f"{then} before; {now} since{f' ({unit})' if unit else ''}"

    return say


def _shares(what: str) -> Callable[[Sequence[bool], Sequence[bool]], str]:
    return lambda before, after: f"{what}: {sum(before) / len(before):.3f} before, {sum(after) / len(after):.3f} since"


def _said(words: str) -> Callable[[object, object], str]:
    return lambda *_: words


def _commonest(before: Sequence[str], after: Sequence[str]) -> str:
    """The category whose share moved most. Categories are labels or languages, never free text."""
    names = sorted({*before, *after})
    moved = max(names, key=lambda name: abs(after.count(name) / len(after) - before.count(name) / len(before)))
    then, now = before.count(moved) / len(before), after.count(moved) / len(after)
    return f"{moved} moved most: {then:.3f} before, {now:.3f} since"
