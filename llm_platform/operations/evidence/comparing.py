"""Two releases of one application on the same documents: which is right more often, where they part, and what differs.

Nothing is asked here: what both have answered is compared.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from llm_platform.application.model import Application
from llm_platform.errors import SpecificationError
from llm_platform.evaluation.clusters import cluster_of
from llm_platform.evaluation.measures import method_of
from llm_platform.evaluation.pairing import PairedDifference, PairedScore, Rules, compare_scores
from llm_platform.evaluation.scorers import score_answers, scorers_of
from llm_platform.operations.releases import CHAMPION, LoadedApplication, champion_release
from llm_platform.prompts.text import prompt_difference
from llm_platform.records import Completion, DocumentRow, Interval, Release, Score, Split
from llm_platform.warehouse.completions import completion_rows
from llm_platform.warehouse.store import ApplicationStore

ALL_DOCUMENTS = 1_000_000_000


@dataclass(frozen=True)
class Graded:
    """One text with what one release made of it.

    Attributes:
        document_id: The first of the documents that have this text.
        score: Mean over these documents; None where it could not be graded.
        cluster: Of texts that are not independent.
    """

    document_id: str
    answer: str | None
    score: float | None
    reason: str | None
    cluster: str


@dataclass(frozen=True)
class Side:
    """One of two releases.

    Attributes:
        graded: Its graded texts by fingerprint.
        score: Their mean; None where nothing could be graded.
    """

    name: str
    release: Release
    graded: Mapping[str, Graded]
    score: Interval | None


class Paired(PairedDifference):
    """Two sides on the texts that both have a score for: the difference is `b` minus `a`.

    Attributes:
        better, worse: Ids of documents whose score is higher, or lower, in `b`.
        other_answers: Ids of documents with equal scores and different answers.
    """

    a: str
    b: str
    better: tuple[str, ...]
    worse: tuple[str, ...]
    other_answers: tuple[str, ...]

    @property
    def summary(self) -> str:
        """The outcome in one sentence."""
        return self.sentence(self.a, self.b)


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
        documents: document_id, fingerprint and reference; where texts may be alike, also text and attributes.
    """
    import pandas as pd

    rows = documents.to_pandas()
    found = {one.fingerprint: one for one in completions}
    answered = rows.loc[rows["fingerprint"].isin(found)]
    answers = pd.DataFrame(
        {
            "document_id": answered["document_id"],
            "fingerprint": answered["fingerprint"],
            "status": [str(found[key].status) for key in answered["fingerprint"]],
            "answer": pd.Series([found[key].answer for key in answered["fingerprint"]], answered.index, dtype=object),
        }
    )
    known = rows[["document_id", "reference"]].rename(columns={"reference": "answer"})
    scores = score_answers(
        answers,
        known.assign(split=split),
        application=application,
        release_id=release.release_id,
        references_version=references_version,
    )
    # A judge has not seen answers that are only tried, and asking it here would cost more than the trial.
    scorer = next((one.name for one in scorers_of(application) if one.grade is not None), None)
    by_text: dict[str, list[Score]] = defaultdict(list)
    for score in scores:
        if score.scorer == scorer:
            by_text[score.fingerprint].append(score)
    clusters = _clusters(documents, application)
    graded = {
        key: _text(sorted(given, key=lambda score: score.document_id), found[key].answer, clusters.get(key, key))
        for key, given in by_text.items()
    }
    return Side(name=name, release=release, graded=graded, score=_score(graded, application))


def _text(scores: Sequence[Score], answer: str | None, cluster: str) -> Graded:
    """One text from the scores of its documents."""
    given = [score.score for score in scores if score.score is not None]
    mean = math.fsum(given) / len(given) if given else None
    return Graded(scores[0].document_id, answer, mean, scores[0].reason if mean is None else None, cluster)


def _score(graded: Mapping[str, Graded], application: Application) -> Interval | None:
    found = [(one.cluster, one.score) for one in graded.values() if one.score is not None]
    if not found:
        return None
    return method_of(application).mean([score for _, score in found], [cluster for cluster, _ in found])


def _clusters(documents: pa.Table, application: Application) -> dict[str, str]:
    """Fingerprint → cluster, where text and attributes are there to tell."""
    if not {"text", "attributes"} <= set(documents.column_names):
        return {}
    by, found = application.evaluation.cluster, dict[str, str]()
    columns = (documents[name].to_pylist() for name in ("document_id", "fingerprint", "text", "attributes"))
    for _, key, text, attributes in sorted(zip(*columns, strict=True), key=lambda row: str(row[0])):
        found.setdefault(key, cluster_of(text, attributes, by=by) or key)
    return found


def document_rows(documents: pa.Table) -> Iterator[DocumentRow]:
    """Rows of a table of documents as they are rendered."""
    for row in documents.select(["document_id", "fingerprint", "text", "attributes"]).to_pylist():
        yield DocumentRow.model_validate({**row, "attributes": json.loads(row["attributes"] or "{}")})


def answers_to(documents: pa.Table, stored: pa.Table) -> Iterator[Completion]:
    """Those of the stored answers that are about these texts."""
    return completion_rows(stored.filter(pc.is_in(stored["fingerprint"], documents["fingerprint"].combine_chunks())))


def pair(a: Side, b: Side, *, rules: Rules) -> Paired | None:
    """The two on the same texts; None where no text has a score from both."""
    scored: list[PairedScore] = []
    better: list[str] = []
    worse: list[str] = []
    other_answers: list[str] = []
    for key in sorted(a.graded.keys() & b.graded.keys()):
        before, after = a.graded[key], b.graded[key]
        if before.score is None or after.score is None:
            continue
        scored.append(PairedScore(key, after.cluster, before.score, after.score))
        if before.score != after.score:
            (better if after.score > before.score else worse).append(after.document_id)
        elif before.answer != after.answer:
            other_answers.append(after.document_id)
    if not scored:
        return None
    return Paired(
        **dict(compare_scores(scored, rules=rules)),
        a=a.name,
        b=b.name,
        better=tuple(better),
        worse=tuple(worse),
        other_answers=tuple(other_answers),
    )


def named_release(store: ApplicationStore, loaded: LoadedApplication, name: str) -> Release:
    """The release that a variant, `champion`, or (the beginning of) a release id names.

    Raises:
        SpecificationError: there is none, or several begin like this.
    """
    application = loaded.application
    if name in application.judged:
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
            f"{application.name} has no variant {name!r} (there are: {', '.join(application.judged)}), and {found} "
            f"whose id begins like this. Ids: llm-platform release list {application.name}"
        )
    stored = store.releases.get(known[0])
    assert stored is not None  # it was listed
    return stored


def compare_releases(
    store: ApplicationStore, loaded: LoadedApplication, names: tuple[str, str], *, split: Split
) -> tuple[Side, Side, Paired | None]:
    """Both sides on a split, and the pairs."""
    documents = store.trials.documents(split, count=ALL_DOCUMENTS, copies=True)
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
    return sides[0], sides[1], pair(*sides, rules=Rules.of(loaded.application))


def differences(a: Release, b: Release, *, names: tuple[str, str]) -> list[str]:
    """What makes two releases two, in lines: model pin, adapter, sampling, decision, calibration, then the prompt."""
    recordings = [
        f"{name}: recorded answers of another system, from {one.recorded.address}"
        for name, one in zip(names, (a, b), strict=True)
        if one.recorded is not None
    ]
    if recordings and a != b:
        # What a recording has in place of a prompt and a model says nothing.
        return recordings
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
