"""Documents beside the answers of every variant, as far as a person may read them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llm_platform.application.model import Application
from llm_platform.evaluation.scorers import scorer_of
from llm_platform.operations.evidence.judging import judge_versions
from llm_platform.operations.releases import LoadedApplication
from llm_platform.records import AnswersFilter
from llm_platform.review.answers import PAGE_ROWS, AnswerRow, AnswersPage, GivenCell
from llm_platform.review.corrections import shown_fields
from llm_platform.review.items import comparable
from llm_platform.review.people import Person
from llm_platform.warehouse.review_items import ReviewItems
from llm_platform.warehouse.store import ApplicationStore

SERVES = " (champion)"
"""What stands behind the name of the variant that serves, on the review page."""


def answers_page(
    store: ApplicationStore,
    loaded: LoadedApplication,
    items: ReviewItems,
    wanted: AnswersFilter,
    person: Person,
    *,
    shown: Mapping[str, str],
    rows: int = PAGE_ROWS,
) -> AnswersPage:
    """A page of documents.

    Args:
        items: Knows what people have said a moment ago.
        person: A viewer reads no text, and no answer that is one.
        shown: Release → variant whose answers are shown; what serves comes first.
        rows: Documents of a page.
    """
    application, releases = loaded.application, list(shown)
    grading = {
        "scorer": scorer_of(application, judge_versions(store, loaded)).name,
        "references_version": store.references.version(),
    }
    names = {release: name.removesuffix(SERVES) for release, name in shown.items()}
    chosen = [release for release, name in names.items() if wanted.variant in ("", name)]
    found, until = store.answer_pages.page(wanted, chosen, limit=rows + 1, **grading)
    more, found = len(found) > rows, found[:rows]
    texts = [row["fingerprint"] for row in found]
    answers = store.answer_pages.answers(found, releases)
    grades = store.answer_pages.grades(texts, releases, **grading)
    said = items.said(texts) if person.judges else {}
    champion = store.rollout.champion()
    serving = champion.release_id if champion is not None else None
    made = []
    for row in found:
        text = row["fingerprint"]
        given = {release: answers.get((text, release)) for release in releases}
        graded = {release: grades.get((text, release), {}) for release in releases}
        cells = _cells(given, graded, application, names, serving=serving, reads=person.judges)
        made.append(_row(row, cells, said.get(text, ()), application, reads=person.judges))
    return AnswersPage(tuple(made), found[-1]["document_id"] if more else until, looked_until=until)


def _cells(
    given: Mapping[str, Mapping[str, Any] | None],
    graded: Mapping[str, Mapping[str, Any]],
    application: Application,
    shown: Mapping[str, str],
    *,
    serving: str | None,
    reads: bool,
) -> tuple[GivenCell, ...]:
    different = {comparable(one["answer"], application) for one in given.values() if one is not None}
    cells = []
    for release, one in given.items():
        grade = graded[release]
        reasons = [one["reason"] if one is not None else None, grade.get("reason")]
        cells.append(
            GivenCell(
                variant=shown[release],
                serves=release == serving,
                answer=_readable(one["answer"] if one is not None else None, application, reads=reads),
                status="missing" if one is None else str(one["status"]),
                confidence=None if one is None else one["confidence"],
                score=grade.get("score"),
                # A scorer of a team's own may quote what it grades.
                reason="; ".join(str(reason) for reason in reasons[: 2 if reads else 1] if reason),
                differs=len(different) > 1,
            )
        )
    return tuple(cells)


def _row(
    row: Mapping[str, Any],
    cells: tuple[GivenCell, ...],
    said: Sequence[Mapping[str, Any]],
    application: Application,
    *,
    reads: bool,
) -> AnswerRow:
    attributes = json.loads(row["attributes"] or "{}")
    return AnswerRow(
        document_id=row["document_id"],
        status=row["status"],
        reason=row["reason"] or "",
        text=(row["text"] or "") if reads else "",
        attributes={name: str(value) for name, value in attributes.items() if value} if reads else {},
        known=_readable(row["known"], application, reads=reads) if reads else None,
        cells=cells,
        said=tuple(_opinion(one, application) for one in said),
    )


def _readable(answer: str | None, application: Application, *, reads: bool) -> str | None:
    """An answer as a person reads it. Labels are on every report card, so whoever may look may see them here."""
    if answer is None or not (reads or application.task == "classify"):
        return None
    if application.task != "extract":
        return answer
    fields = shown_fields(answer, application)
    return "\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in fields.items() if value)


def _opinion(one: Mapping[str, Any], application: Application) -> str:
    if one["answer"] is not None:
        return f"{one['by']}: {_readable(one['answer'], application, reads=True)}"
    rejected = [_readable(answer, application, reads=True) or "" for answer in one["rejected"]]
    return f"{one['by']}: not {', '.join(rejected)}" if rejected else f"{one['by']}: cannot tell"
