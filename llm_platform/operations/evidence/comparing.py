"""Two releases of one application on the same documents: which is right more often, where they part, and what differs.

Nothing is asked here: what both have answered is compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from llm_platform.application.model import Application
from llm_platform.errors import SpecificationError
from llm_platform.evaluation.pairing import difference_interval, paired_p_value
from llm_platform.evaluation.scorers import score_answers, scorers_of
from llm_platform.evaluation.statistics import mean_score
from llm_platform.operations.releases import CHAMPION, LoadedApplication, champion_release
from llm_platform.prompts.text import prompt_difference
from llm_platform.records import Completion, DocumentRow, Interval, Release, Split
from llm_platform.warehouse.completions import completion_rows
from llm_platform.warehouse.store import ApplicationStore

ALL_DOCUMENTS = 1_000_000_000


@dataclass(frozen=True)
class Graded:
    """One text with what one release made of it; `score` is None where it could not be graded."""

    document_id: str
    answer: str | None
    score: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Side:
    """One of two releases: what it is called, and its graded texts by fingerprint."""

    name: str
    release: Release
    graded: Mapping[str, Graded]

    def score(self, confidence: float) -> Interval | None:
        """Mean score of the texts that could be graded; None of none."""
        found = [(key, one.score) for key, one in self.graded.items() if one.score is not None]
        if not found:
            return None
        return mean_score([score for _, score in found], [key for key, _ in found], confidence=confidence)


@dataclass(frozen=True)
class Paired:
    """Two sides on the texts that both have a score for.

    Attributes:
        difference: Mean score of `b` minus that of `a`, and its interval.
        p_value: Of the exact McNemar test that both are right equally often; where scores are partial, of a paired
            bootstrap that the mean difference is zero.
        better, worse: Ids of documents whose score is higher, or lower, in `b`.
        other_answers: Ids of documents with equal scores and different answers.
    """

    a: str
    b: str
    difference: Interval
    p_value: float
    better: tuple[str, ...]
    worse: tuple[str, ...]
    other_answers: tuple[str, ...]


def grade(
    completions: Iterable[Completion],
    documents: pa.Table,
    *,
    application: Application,
    name: str,
    release: Release,
    references_version: str,
    split: Split,
) -> Side:
    """Grade answers as a report does, with the first scorer that asks no model.

    Args:
        completions: Answers; those to other texts are passed over.
        documents: document_id, fingerprint and reference of different texts.
    """
    import pandas as pd

    asked = dict(zip(documents["fingerprint"].to_pylist(), documents["document_id"].to_pylist(), strict=True))
    found = {one.fingerprint: one for one in completions if one.fingerprint in asked}
    rows = [
        {"document_id": asked[key], "fingerprint": key, "status": str(one.status), "answer": one.answer}
        for key, one in found.items()
    ]
    answers = pd.DataFrame(rows, columns=["document_id", "fingerprint", "status", "answer"])
    known = documents.select(["document_id", "reference"]).to_pandas().rename(columns={"reference": "answer"})
    scores = score_answers(
        answers,
        known.assign(split=split),
        application=application,
        release_id=release.release_id,
        references_version=references_version,
    )
    # A judge has not seen answers that are only tried, and asking it here would cost more than the trial.
    scorer = next((one.name for one in scorers_of(application) if one.grade is not None), None)
    graded = {
        score.fingerprint: Graded(score.document_id, found[score.fingerprint].answer, score.score, score.reason)
        for score in scores
        if score.scorer == scorer
    }
    return Side(name=name, release=release, graded=graded)


def document_rows(documents: pa.Table) -> Iterator[DocumentRow]:
    """Rows of a table of documents as they are rendered."""
    for row in documents.select(["document_id", "fingerprint", "text", "attributes"]).to_pylist():
        yield DocumentRow.model_validate({**row, "attributes": json.loads(row["attributes"] or "{}")})


def answers_to(documents: pa.Table, stored: pa.Table) -> Iterator[Completion]:
    """Those of the stored answers that are about these texts."""
    return completion_rows(stored.filter(pc.is_in(stored["fingerprint"], documents["fingerprint"].combine_chunks())))


def pair(a: Side, b: Side, *, confidence: float) -> Paired | None:
    """The two on the same texts; None where no text has a score from both."""
    shared = [
        (a.graded[key], b.graded[key])
        for key in sorted(a.graded.keys() & b.graded.keys())
        if a.graded[key].score is not None and b.graded[key].score is not None
    ]
    if not shared:
        return None
    changes = [(before, after, (after.score or 0.0) - (before.score or 0.0)) for before, after in shared]
    values = [change for _, _, change in changes]
    return Paired(
        a=a.name,
        b=b.name,
        difference=difference_interval(values, confidence=confidence),
        p_value=paired_p_value([(before.score or 0.0, after.score or 0.0) for before, after in shared]),
        better=tuple(after.document_id for _, after, change in changes if change > 0),
        worse=tuple(after.document_id for _, after, change in changes if change < 0),
        other_answers=tuple(
            after.document_id for before, after, change in changes if change == 0 and before.answer != after.answer
        ),
    )


def named_release(store: ApplicationStore, loaded: LoadedApplication, name: str) -> Release:
    """The release that a variant, `champion`, or (the beginning of) a release id names.

    Raises:
        SpecificationError: there is none, or several begin like this.
    """
    application = loaded.application
    if name in application.variants:
        release = loaded.release(name, store)
        if release is None:
            raise SpecificationError(f"{application.name}/{name}: {loaded.pending(name, store)}.")
        return release
    if name == CHAMPION and (serving := champion_release(store)) is not None:
        return serving
    known = [release_id for release_id in store.releases.ids() if release_id.startswith(name)]
    if len(known) != 1:
        found = "no release" if not known else f"{len(known)} releases"
        raise SpecificationError(
            f"{application.name} has no variant {name!r} (there are: {', '.join(application.variants)}), and {found} "
            "whose id begins like this. `llm-platform prompt list` shows ids."
        )
    stored = store.releases.get(known[0])
    assert stored is not None  # it was listed
    return stored


def compare_releases(
    store: ApplicationStore, loaded: LoadedApplication, names: tuple[str, str], *, split: Split
) -> tuple[Side, Side, Paired | None]:
    """Both sides on a split, and the pairs."""
    documents = store.trials.documents(split, count=ALL_DOCUMENTS, texts=False)
    version = store.references.version()
    sides = []
    for name in names:
        release = named_release(store, loaded, name)
        sides.append(
            grade(
                answers_to(documents, store.completions.of_release(release.release_id)),
                documents,
                application=loaded.application,
                name=name,
                release=release,
                references_version=version,
                split=split,
            )
        )
    confidence = loaded.application.evaluation.gates.confidence
    return sides[0], sides[1], pair(*sides, confidence=confidence)


def differences(a: Release, b: Release, *, names: tuple[str, str]) -> list[str]:
    """What makes two releases two, in lines: model pin, adapter, sampling, decision, calibration, then the prompt."""
    lines = []
    for title, before, after in _settings(a, b):
        if before != after:
            lines.append(f"{title}: {before} -> {after}")
    return lines + prompt_difference(a.prompt, b.prompt, names=names)


def _settings(a: Release, b: Release) -> list[tuple[str, Any, Any]]:
    found: list[tuple[str, Any, Any]] = []
    for part in ("model", "sampling"):
        before, after = (getattr(one, part).model_dump(mode="json") for one in (a, b))
        found += [(f"{part}.{name}", before[name], after[name]) for name in before]
    found += [(name, getattr(a, name), getattr(b, name)) for name in ("adapter", "decision", "output_schema")]
    found.append(("long documents", _long_documents(a), _long_documents(b)))
    found.append(("calibration", _calibration(a), _calibration(b)))
    return found


def _long_documents(release: Release) -> str:
    rules = release.long_documents
    if rules is None:
        return "reject"
    together = {} if rules.prompt is None else {"prompt": f"{rules.prompt.name} {rules.prompt.version}"}
    settings = rules.model_dump(mode="json", exclude={"policy", "prompt"}, exclude_defaults=True) | together
    return ", ".join([rules.policy, *(f"{name} {value}" for name, value in settings.items())])


def _calibration(release: Release) -> str | None:
    fitted = release.calibration
    return None if fitted is None else f"fitted on {fitted.examples} answers, references {fitted.references_version}"


def ids(documents: Sequence[str], *, most: int = 20) -> str:
    """Document ids in one line, the first of many."""
    shown = ", ".join(documents[:most])
    return f"{shown} and {len(documents) - most} more" if len(documents) > most else shown
