"""What the judges of an application have said of stored answers. Nothing is asked here; see `judge_runs`.

A verdict is a completion of the judge's own release: asked through the same engine, stored in the same ledger, paid
once. Its key covers what the rubric reads and nothing else. What a judge said, and of what, is found again by that key.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from llm_platform.evaluation.fields import Grade
from llm_platform.evaluation.judge import JudgeAgreement, judge_panel
from llm_platform.evaluation.panel import Panel
from llm_platform.evaluation.scorers import Verdicts
from llm_platform.models.lock import pin
from llm_platform.operations.evidence.comparing import document_rows
from llm_platform.operations.releases import LoadedApplication, champion_release
from llm_platform.records import CompletionStatus, DocumentRow, Interval, Judge, Release, content_hash
from llm_platform.warehouse.store import ApplicationStore

TURNS_WITH_ORDER = "the verdict turns with the order"
SAME_ANSWER = "both gave the same answer"

Said = Mapping[str, tuple[str, str | None, str | None]]
"""Key of a question → status, answer and reason of the judge's completion."""


@dataclass(frozen=True)
class JudgedItem:
    """One answer to be judged, or two, on one document.

    Attributes:
        questions: What the judge is asked: once, or both ways round with the judged answer second, then first.
        length: Characters of the answer; of two, the judged one's less the other's.
    """

    document: DocumentRow
    release_id: str
    answer: str
    questions: tuple[DocumentRow, ...]
    length: int


def judge_release(loaded: LoadedApplication, judge: Judge) -> Release:
    """The release that gives a judge's verdicts."""
    return Release(
        application=loaded.application.name,
        task="extract",
        model=pin(loaded.lock[judge.model]),
        prompt=judge.prompt,
        sampling=judge.sampling,
        decision="text",
        output_schema=judge.verdict_schema(),
    )


def stored_verdicts(store: ApplicationStore, loaded: LoadedApplication, target: Release) -> dict[str, Verdicts]:
    """Judge → what it has said of the answers of `target`, for the judges that the application scores with."""
    found = {}
    for name, version in judge_versions(store, loaded).items():
        judge = loaded.judges[name]
        release = judge_release(loaded, judge)
        said = verdicts_of(store, release)
        grades = {}
        for subject in subjects_of(store, judge, target):
            verdict = grade_of(judge, subject, said)
            if verdict is not None:
                grades[subject.document.document_id, subject.document.fingerprint] = verdict
        found[name] = Verdicts(version=version, grades=grades)
    return found


def stored_agreement(store: ApplicationStore, loaded: LoadedApplication, name: str) -> JudgeAgreement | None:
    """What was measured of exactly the present release of a judge; None before its verdicts were materialized."""
    found = store.judgements.latest_agreement(judge_release(loaded, loaded.judges[name]).release_id)
    return None if found is None else JudgeAgreement.model_validate_json(found)


def judge_versions(store: ApplicationStore, loaded: LoadedApplication) -> dict[str, str]:
    """Judge → what its verdicts depend on, for the judges that the application scores with."""
    return {
        name: _version(store, judge, judge_release(loaded, judge))
        for name, judge in loaded.judges.items()
        if f"judge:{name}" in loaded.application.evaluation.scorers
    }


def judge_kappa(store: ApplicationStore, loaded: LoadedApplication) -> Interval | None:
    """Agreement of the judge that gates: the first that scores, else the application's only one; None if unknown."""
    scorers = [name.partition(":")[2] for name in loaded.application.evaluation.scorers if name.startswith("judge:")]
    names = scorers or (list(loaded.judges) if len(loaded.judges) == 1 else [])
    if not names or names[0] not in loaded.judges:
        return None
    agreement = stored_agreement(store, loaded, names[0])
    return None if agreement is None else agreement.kappa


def judge_panels(store: ApplicationStore, loaded: LoadedApplication) -> Sequence[Panel]:
    """A panel for the report card of every judge that was measured."""
    gate = loaded.application.evaluation.gates.judge_agreement
    measured = (stored_agreement(store, loaded, name) for name in loaded.judges)
    return [judge_panel(one, gate.minimum if gate else None) for one in measured if one is not None]


def _version(store: ApplicationStore, judge: Judge, release: Release) -> str:
    """Of all that decides a verdict; for a judge that compares, also what it compares with."""
    champion = champion_release(store) if judge.compares else None
    return release.release_id if champion is None else f"{release.release_id}/{champion.release_id}"


def judge_documents(store: ApplicationStore, judge: Judge, target: Release) -> pa.Table:
    """Documents on which a judge judges a release: some of the evaluation split, and those that people have judged."""
    by_hand = store.annotations.verdicts(release_id=target.release_id)["document_id"].to_pylist()
    return store.judgements.documents(count=judge.documents, also=sorted({key for key in by_hand if key}))


def subjects_of(store: ApplicationStore, judge: Judge, target: Release) -> Iterator[JudgedItem]:
    """Valid answers of `target` to the judge's documents; for a judge that compares, where the champion's differs."""
    opponent = champion_release(store) if judge.compares else None
    if judge.compares and (opponent is None or opponent.release_id == target.release_id):
        return
    documents = judge_documents(store, judge, target)
    answers = valid_answers(store, target)
    others = {} if opponent is None else valid_answers(store, opponent)
    references = documents["reference"].to_pylist()
    for document, reference in zip(document_rows(documents), references, strict=True):
        answer, other = answers.get(document.fingerprint), others.get(document.fingerprint)
        unread = "reference" in judge.prompt.variables and reference is None
        if answer is None or unread or (judge.compares and other is None):
            continue
        yield JudgedItem(
            document=document,
            release_id=target.release_id,
            answer=answer,
            questions=_questions(judge, document, answer=answer, other=other, reference=reference),
            length=len(answer) - len(other or ""),
        )


def _questions(
    judge: Judge, document: DocumentRow, *, answer: str, other: str | None, reference: str | None
) -> tuple[DocumentRow, ...]:
    if other is None:
        return (question_of(judge, document, answer=answer, reference=reference),)
    if answer == other:
        return ()
    return (
        question_of(judge, document, first=other, second=answer, reference=reference),
        question_of(judge, document, first=answer, second=other, reference=reference),
    )


def question_of(judge: Judge, document: DocumentRow, **given: str | None) -> DocumentRow:
    """A document as the judge reads it; its fingerprint covers what the rubric reads, and nothing else."""
    row = document.model_copy(update={"attributes": {**document.attributes, **given}})
    read = {name: row.text if name == "text" else row.attributes.get(name) for name in judge.prompt.variables}
    return row.model_copy(update={"fingerprint": content_hash(["judge", read])})


def verdicts_of(store: ApplicationStore, release: Release) -> Said:
    """Everything that a release of a judge has said."""
    rows = store.completions.of_release(
        release.release_id, ["document_id", "fingerprint", "status", "answer", "reason"]
    )
    columns = (rows[name].to_pylist() for name in ("fingerprint", "status", "answer", "reason"))
    return {key: (status, answer, reason) for key, status, answer, reason in zip(*columns, strict=True)}


def valid_answers(store: ApplicationStore, release: Release) -> dict[str, str]:
    """Fingerprint of a document → the valid answer of a release."""
    rows = store.completions.of_release(release.release_id, ["document_id", "fingerprint", "status", "answer"])
    columns = (rows[name].to_pylist() for name in ("fingerprint", "status", "answer"))
    return {
        key: answer
        for key, status, answer in zip(*columns, strict=True)
        if status == CompletionStatus.VALID and answer is not None
    }


def reading_of(judge: Judge, question: DocumentRow, said: Said) -> Grade | None:
    """What the judge said to one question; None where it was not asked yet."""
    found = said.get(question.fingerprint)
    if found is None:
        return None
    status, answer, reason = found
    if status != CompletionStatus.VALID or answer is None:
        return Grade(None, f"no verdict ({status}): {reason or 'no reason'}")
    return Grade(judge.verdicts[json.loads(answer)["verdict"]], None)


def grade_of(judge: Judge, subject: JudgedItem, said: Said) -> Grade | None:
    """The judged answer's score; of two answers 1 where it is the better one, whichever stood first."""
    if not subject.questions:
        return Grade(judge.verdicts["tie"], SAME_ANSWER)
    grades = [reading_of(judge, question, said) for question in subject.questions]
    if len(grades) == 1 or any(one is None or one.score is None for one in grades):
        return next((one for one in grades if one is None or one.score is None), grades[0])
    # A verdict is the score of the answer that stood first.
    when_second, when_first = (one.score for one in grades if one is not None and one.score is not None)
    if 1.0 - when_second != when_first:
        return Grade(None, TURNS_WITH_ORDER)
    return Grade(when_first, None)
