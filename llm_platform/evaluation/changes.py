"""What changed between two reports of one variant: the numbers, and the inputs that may have moved them."""

from __future__ import annotations

from llm_platform.evaluation.report import Report
from llm_platform.records import Record

COMPARED = (
    ("prompt_version", "the prompt"),
    ("model_entry", "the lock entry"),
    ("served_name", "the served model"),
    ("image", "the image"),
    ("profile", "the profile"),
    ("weights_sha256", "the weights"),
    ("adapter", "the adapter"),
    ("decision", "how an answer is decided"),
    ("calibrated", "the calibration"),
)


class Delta(Record):
    """One number before and now; None where it was not measured."""

    name: str
    before: float | None
    now: float | None


class Changes(Record):
    """What is different from the last report of the variant.

    Attributes:
        since: Id of that report.
        moved: Inputs that are others than then, in words; empty where only more answers or runs came in.
    """

    variant: str
    since: str
    deltas: tuple[Delta, ...]
    moved: tuple[str, ...]


def changes(before: Report, now: Report) -> Changes:
    """What is different between two reports of one variant."""
    return Changes(variant=now.variant, since=before.report_id, deltas=_deltas(before, now), moved=_moved(before, now))


def _deltas(before: Report, now: Report) -> tuple[Delta, ...]:
    old, new = _numbers(before), _numbers(now)
    names = [name for name in (*old, *(name for name in new if name not in old)) if old.get(name) != new.get(name)]
    return tuple(Delta(name=name, before=old.get(name), now=new.get(name)) for name in names)


def _numbers(report: Report) -> dict[str, float]:
    effort, reliability = report.effort, report.reliability
    numbers = {
        "score": report.accuracy.value if report.accuracy else None,
        "macro-F1": report.macro_f1.value if report.macro_f1 else None,
        "valid rate": report.valid_rate.value if report.valid_rate else None,
        "evaluated documents": float(report.counts.evaluated),
        "calibration error": reliability.expected_error if reliability else None,
        "seconds per correct answer": (
            effort.latency_seconds_per_correct_answer.value if effort.latency_seconds_per_correct_answer else None
        ),
        "USD per correct answer": (
            effort.cost_usd_per_correct_answer.value if effort.cost_usd_per_correct_answer else None
        ),
        **{metric.name: metric.value for metric in report.metrics},
    }
    return {name: value for name, value in numbers.items() if value is not None}


def _moved(before: Report, now: Report) -> tuple[str, ...]:
    moved = [words for name, words in COMPARED if getattr(before.release, name) != getattr(now.release, name)]
    if not moved and before.release_id != now.release_id:
        moved.append("sampling, or another part of the release")
    if before.references_version != now.references_version:
        moved.append("the references")
    if before.scorer != now.scorer:
        moved.append("the scorer")
    limits = [(gate.name, gate.limit) for gate in before.gates] != [(gate.name, gate.limit) for gate in now.gates]
    if limits:
        moved.append("the gates")
    if before.evaluation_id != now.evaluation_id and not {"the references", "the scorer", "the gates"} & set(moved):
        moved.append("the evaluation documents, or the champion they are compared with")
    return tuple(moved)
