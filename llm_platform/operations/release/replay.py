"""A release over documents of the past, beside what serves: what it would have said, before any reader gets it.

What is asked is stored in the ledger like any answer, and never published: a rollout that follows pays for the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from llm_platform.errors import SpecificationError
from llm_platform.evaluation.pairing import Rules
from llm_platform.evaluation.wording import counted
from llm_platform.inference.answers import recalibrate
from llm_platform.operations.answering.redacting import require_redacted
from llm_platform.operations.answering.sending import Asking, ask
from llm_platform.operations.evidence.comparing import Paired, answers_to, document_rows, grade, named_release, pair
from llm_platform.operations.release.challengers import within_stage
from llm_platform.operations.releases import LoadedApplication, champion_release, requesting
from llm_platform.records import InferenceRun, Release
from llm_platform.warehouse.completions import completion_rows
from llm_platform.warehouse.store import ApplicationStore

BATCH = 500


@dataclass(frozen=True)
class Window:
    """Documents that are answered again.

    Attributes:
        snapshot: As they were then; None for as they are.
        since, until: Those that changed last in between.
        most: At most so many, drawn by a hash of their text: a smaller number is a part of a larger.
        budget_tokens, budget_usd: Nothing more is sent beyond these.
    """

    snapshot: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    most: int | None = None
    budget_tokens: int | None = None
    budget_usd: float | None = None


@dataclass(frozen=True)
class Replayed:
    """What a replay found.

    Attributes:
        documents: Different texts of the window; `answered` of them by the release, `beside` by what serves as well.
        differing: Texts of which the two say something else.
        paired: Both on those of them that have a known answer; None where none has.
        run: What was asked now; None where everything was stored already.
        cost_usd: Of that; None where the model has no price.
    """

    release: Release
    champion: Release
    documents: int
    answered: int
    beside: int
    differing: int
    paired: Paired | None
    run: InferenceRun | None
    cost_usd: float | None

    @property
    def lines(self) -> list[str]:
        """What was found, in lines."""
        asked = "nothing: every answer was stored" if self.run is None else f"{self.run.sent} requests"
        tokens = "" if self.run is None else f", {self.run.budget_tokens:,} tokens"
        money = "" if self.cost_usd is None else f", {self.cost_usd:.4f} USD"
        verdict = "no text of the window has a known answer that is held out"
        if self.paired is not None:
            verdict = f"{self.paired.difference_text}. {self.paired.summary}"
        return [
            f"Replayed    {counted(self.documents, 'text')}, {self.answered} answered by release "
            f"{self.release.release_id}; nothing of it is published",
            f"Asked       {asked}{tokens}{money}",
            f"Beside      {self.beside} answered by what serves as well, {self.differing} otherwise",
            f"Difference  {verdict}",
        ]


def replay(
    store: ApplicationStore,
    loaded: LoadedApplication,
    name: str,
    window: Window,
    *,
    asking: Callable[[Release], Asking],
) -> Replayed:
    """Let a release answer a window of documents that it has not answered, and hold it against what serves.

    Args:
        name: A variant, or the beginning of a release id.
        asking: How its requests are sent.

    Raises:
        SpecificationError: there is no such release, nothing serves, or no document is in the window.
    """
    release, champion = named_release(store, loaded, name), champion_release(store)
    application = loaded.application
    if champion is None or champion.release_id == release.release_id:
        what = "nothing serves" if champion is None else f"{name} is what serves"
        raise SpecificationError(f"Cannot replay {application.name}: {what}, so there is nothing to hold it against.")
    require_redacted(store, application, at_snapshot=window.snapshot)
    documents = _texts(store, window)
    if not documents.num_rows:
        raise SpecificationError(f"Cannot replay {application.name}: no document that can be sent is in the window.")
    run = _asked(store, loaded, release, documents, window, asking=asking)
    ours, theirs = (_answers(store, one, documents) for one in (release, champion))
    both = ours.keys() & theirs.keys()
    return Replayed(
        release=release,
        champion=champion,
        documents=documents.num_rows,
        answered=len(ours),
        beside=len(both),
        differing=sum(ours[key] != theirs[key] for key in both),
        paired=_paired(store, loaded, champion, release, documents, name=name),
        run=run,
        cost_usd=None if run is None else _cost(loaded, release, run),
    )


def _texts(store: ApplicationStore, window: Window) -> pa.Table:
    """Different texts of the window: document_id, fingerprint, text, attributes."""
    found = store.documents.table(at_snapshot=window.snapshot)
    found = found.filter(pc.equal(found["status"], "sendable"))
    if window.since is not None:
        found = found.filter(pc.greater_equal(found["updated_at"], pa.scalar(window.since)))
    if window.until is not None:
        found = found.filter(pc.less(found["updated_at"], pa.scalar(window.until)))
    first: dict[str, int] = {}
    for at, fingerprint in enumerate(found["fingerprint"].to_pylist()):
        first.setdefault(fingerprint, at)
    drawn = sorted(first, key=lambda text: hashlib.sha256(f"replay:{text}".encode()).digest())[: window.most]
    return found.take(pa.array([first[text] for text in sorted(drawn)], pa.int64()))


def _asked(
    store: ApplicationStore,
    loaded: LoadedApplication,
    release: Release,
    documents: pa.Table,
    window: Window,
    *,
    asking: Callable[[Release], Asking],
) -> InferenceRun | None:
    sender = requesting(release)
    stored = {one.fingerprint for one in store.completions.records(sender.release_id, _fingerprints(documents))}
    missing = [row for row in document_rows(documents) if row.fingerprint not in stored]
    run = None
    if missing:
        store.releases.put(sender)
        how = within_stage(asking(sender), tokens=window.budget_tokens, usd=window.budget_usd)
        batches = [missing[at : at + BATCH] for at in range(0, len(missing), BATCH)]
        run = ask(store, sender, batches, total=len(missing), application=loaded.application, asking=how)
    if release.calibration is not None:
        store.releases.put(release)
        rows = completion_rows(store.completions.of_request(release.request_id))
        wanted = set(_fingerprints(documents))
        store.completions.restore([recalibrate(row, release) for row in rows if row.fingerprint in wanted])
    return run


def _answers(store: ApplicationStore, release: Release, documents: pa.Table) -> dict[str, str | None]:
    found = store.completions.records(release.release_id, _fingerprints(documents))
    return {one.fingerprint: one.answer for one in found}


def _paired(
    store: ApplicationStore,
    loaded: LoadedApplication,
    champion: Release,
    release: Release,
    documents: pa.Table,
    *,
    name: str,
) -> Paired | None:
    known = {row["document_id"]: row for row in store.references.table().to_pylist()}
    # What a release may have been made from says nothing of how good it is.
    held_out = [(known.get(key) or {}).get("split") == "evaluation" for key in documents["document_id"].to_pylist()]
    judged = documents.filter(pa.array(held_out, pa.bool_()))
    references = [known[key]["answer"] for key in judged["document_id"].to_pylist()]
    judged = judged.append_column("reference", pa.array(references, pa.string()))
    sides = [
        grade(
            answers_to(judged, store.completions.of_release(one.release_id)),
            judged,
            application=loaded.application,
            name=said,
            release=one,
            references_version=store.references.version(),
            split="evaluation",
        )
        for said, one in (("champion", champion), (name, release))
    ]
    return pair(*sides, rules=Rules.of(loaded.application))


def _fingerprints(documents: pa.Table) -> list[str]:
    found: list[str] = documents["fingerprint"].to_pylist()
    return found


def _cost(loaded: LoadedApplication, release: Release, run: InferenceRun) -> float | None:
    prices = loaded.prices(release.model.entry)
    return prices.cost_usd(run.seconds, run.usage) if prices.are_known else None
