"""Where the numbers of a card came from, and what changed since the last one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_platform.evaluation.changes import Changes, Delta
from llm_platform.evaluation.report import Report
from llm_platform.evaluation.wording import amount, counted

NOT_MEASURED = "–"


def sources(reports: Sequence[Report], further: Mapping[str, str]) -> list[dict[str, Any]]:
    """Ids with which everything on the card can be found again."""
    found = [{"title": report.variant, "facts": _facts(report)} for report in reports]
    return [*found, {"title": "Common", "facts": list(further.items())}] if further else found


def _facts(report: Report) -> list[tuple[str, str]]:
    release = report.release
    model = (release.model_entry, release.served_name, f"NIM dialect {release.dialect}", release.image, release.profile)
    made = [
        ("prompt", f"{release.prompt_name}, version {release.prompt_version}"),
        ("model", ", ".join(part for part in model if part)),
    ]
    if release.recorded is not None:
        made = [("recorded answers", release.recorded)]
    facts = [
        ("release", report.release_id),
        ("report", report.report_id),
        ("evaluation", report.evaluation_id),
        ("references", report.references_version),
        ("scorer", report.scorer),
        *made,
        ("weights", f"sha256 {release.weights_sha256}" if release.weights_sha256 else ""),
        ("adapter", release.adapter or ""),
    ]
    return [(name, value) for name, value in facts if value]


def measured_on(reports: Sequence[Report]) -> str:
    """Which documents counted, in a sentence."""
    left_out = max((report.counts.seen_in_training for report in reports), default=0)
    leaked = (
        f", leaving out {counted(left_out, 'document')} whose text is in the training split too" if left_out else ""
    )
    return f"Measured on the evaluation split only{leaked}."


def changes_view(changes: Changes) -> dict[str, Any]:
    """One variant's differences from its last report, as the template needs them."""
    moved = f"What moved: {', '.join(changes.moved)}." if changes.moved else "No input moved; answers or runs came in."
    return {
        "variant": changes.variant,
        "note": f"Against report {changes.since}. {moved}{'' if changes.deltas else ' Every number is the same.'}",
        "columns": ["number", "before", "now", "change"],
        "rows": [(delta.name, _number(delta.before), _number(delta.now), _signed(delta)) for delta in changes.deltas],
    }


def _number(value: float | None) -> str:
    return NOT_MEASURED if value is None else amount(value)


def _signed(delta: Delta) -> str:
    if delta.before is None or delta.now is None:
        return ""
    change = delta.now - delta.before
    return f"{'+' if change > 0 else '−'}{amount(abs(change))}"
