"""A branch beside what it reads: what it would change there, and its paid answers taken over once they are verified.

A merge promotes nothing: it makes the next run of production free. That run reads the merged files, finds every answer
under its key, measures on production's own documents and known answers, and a person promotes on that evidence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa
from pydantic import ValidationError

from llm_platform.errors import ContractBroken, EvidenceMissing
from llm_platform.evaluation.report import Report
from llm_platform.evaluation.wording import interval_text
from llm_platform.models.lock import Lock, pin
from llm_platform.operations.release.contracts import filled_by
from llm_platform.operations.release.publishing import served_by
from llm_platform.operations.releases import LoadedApplication
from llm_platform.records import Release, TokenUsage
from llm_platform.warehouse.published import Served
from llm_platform.warehouse.store import ApplicationStore


@dataclass(frozen=True)
class MeasuredVariant:
    """What was measured of one release, on a branch or in what it reads.

    Attributes:
        standing: approved, refused or undecided: then more known answers decide, and `open` says how many.
        open: Of each gate that did not pass, the comparison and what to do next.
    """

    variant: str
    release_id: str
    standing: str
    accuracy: str
    labels: int
    valid_rate: str
    open: tuple[str, ...] = ()


@dataclass(frozen=True)
class BranchDiff:
    """What a branch of one application would change.

    Attributes:
        changes: Prompts, models and variants that are others than those upstream was last measured with, in words.
        release_id: The release whose answers the rows are.
        rows: Every published row that would change; see `Published.changes_of_upstream`.
        other_documents: How many documents upstream has otherwise, or only one of both; if it has read the source later
            than the branch, `rows` are of a source that has moved on.
        measured: The branch's reports, the newest of each of its releases.
        upstream: What upstream's champion was promoted on, in words; None before the first.
        usage: Tokens that the branch has paid.
        cost_usd: Their price; None where no entry has one.
    """

    changes: tuple[str, ...]
    release_id: str
    rows: pa.Table
    other_documents: int
    measured: tuple[MeasuredVariant, ...]
    upstream: str | None
    usage: TokenUsage
    cost_usd: float | None


def branch_diff(store: ApplicationStore, loaded: LoadedApplication, *, variant: str | None = None) -> BranchDiff:
    """What a branch would change in what it reads, if its champion, or a variant, were published there.

    Without a decision of its own, the branch's champion is the variant that serves, as its files have it now.

    Raises:
        EvidenceMissing: neither the branch nor what it reads has a champion, or the variant has no release yet.
    """
    name = loaded.application.name
    champion = store.rollout.champion()
    if variant is None and champion is not None and champion.event_id not in _own_decisions(store):
        # Nothing was promoted on the branch: what it would change is what its files make of the variant that serves.
        served_name = champion.variant
        if served_name in loaded.application.variants and _is_answered(store, loaded, served_name):
            variant = served_name
    release: Release | None = None
    if variant is not None:
        release = loaded.release(variant, store)
    elif champion is not None:
        release = store.releases.get(champion.release_id)
    if release is None:
        why = "neither branch nor upstream publishes" if variant is None else f"variant {variant!r} has no release yet"
        raise EvidenceMissing(f"{name}: nothing to compare: {why}. First, on the branch: llm-platform run {name}")
    contracts = filled_by(store, loaded.application, release).contracts
    if variant is not None or champion is None:
        served = Served(release.release_id, variant, ())
    else:
        served = served_by(store, loaded.application, champion, contracts)
    usage, cost = _paid(store, loaded)
    return BranchDiff(
        changes=tuple(_changes(store, loaded)),
        release_id=release.release_id,
        rows=store.published.changes_of_upstream(served, contracts[0]),
        other_documents=store.documents.others_upstream(),
        measured=tuple(_measured(store, loaded)),
        upstream=None if champion is None else f"{champion.variant} (release {champion.release_id})",
        usage=usage,
        cost_usd=cost,
    )


def _own_decisions(store: ApplicationStore) -> set[str]:
    return {event.event_id for event in store.rollout.history()}


def _is_answered(store: ApplicationStore, loaded: LoadedApplication, variant: str) -> bool:
    release = loaded.release(variant, store)
    return release is not None and not store.completions.missing_count(release.release_id)


def _changes(store: ApplicationStore, loaded: LoadedApplication) -> list[str]:
    theirs = [Release.model_validate_json(content) for content in store.adoption.contents()]
    known = {release.release_id for release in theirs}
    prompts = {release.prompt.version for release in theirs} | store.adoption.prompt_versions()
    models = {(release.model.entry, release.model) for release in theirs}
    found = [
        f"prompt {name}: version {prompt.version} is new" for name, prompt in loaded.prompts.items()
        if prompt.version not in prompts
    ]  # fmt: skip
    found += [
        f"model {name}: its pin is another one" if any(entry == name for entry, _ in models) else f"model {name}: new"
        for name, entry in loaded.lock.items()
        if (name, pin(entry)) not in models
    ]
    for variant in loaded.application.variants:
        release = loaded.release(variant, store)
        if release is not None and release.release_id not in known:
            found.append(f"variant {variant}: release {release.release_id} is new")
    return found


def _measured(store: ApplicationStore, loaded: LoadedApplication) -> list[MeasuredVariant]:
    found = []
    for variant in loaded.application.variants:
        release = loaded.release(variant, store)
        row = store.reports.latest(release.release_id) if release is not None else None
        if row is None:
            continue
        report = Report.model_validate_json(row.report)
        found.append(
            MeasuredVariant(
                variant=variant,
                release_id=report.release_id,
                standing=report.standing,
                accuracy="–" if report.accuracy is None else interval_text(report.accuracy),
                labels=0 if report.accuracy is None else report.accuracy.count,
                valid_rate="–" if report.valid_rate is None else interval_text(report.valid_rate),
                open=tuple(
                    f"{gate.name}: {gate.comparison}. {gate.next_step or ''}".rstrip()
                    for gate in report.gates
                    if not gate.passed
                ),
            )
        )
    return found


def _paid(store: ApplicationStore, loaded: LoadedApplication) -> tuple[TokenUsage, float | None]:
    """Tokens of the branch's own runs, and their price."""
    totals: dict[str, int] = dict.fromkeys(TokenUsage.model_fields, 0)
    cost, priced = 0.0, False
    for row in store.runs.table().to_pylist():
        usage = TokenUsage(**{name: row[name] or 0 for name in TokenUsage.model_fields})
        for name, tokens in usage.model_dump().items():
            totals[name] += tokens
        release = store.releases.get(row["release_id"])
        entry = loaded.lock.get(release.model.entry) if release is not None else None
        if entry is not None and entry.prices.are_known:
            cost, priced = cost + entry.prices.cost_usd(row["seconds"], usage), True
    return TokenUsage(**totals), cost if priced else None


@dataclass(frozen=True)
class Merged:
    """What a merge has taken over.

    Attributes:
        rows: Table → rows.
        left: Releases whose answers were left where they are, and why.
    """

    rows: Mapping[str, int]
    left: Mapping[str, str] = field(default_factory=dict)


def merge_branch(store: ApplicationStore, lock: Lock, *, branch: str) -> Merged:
    """Take over the answers that the attached branch has paid, by key and release; again does nothing.

    Args:
        store: Of the namespace that takes over, with the branch attached in the place of an upstream.
        lock: The lock file after the merge: answers of models that it pins otherwise stay on the branch.
        branch: Its name, for messages.

    Raises:
        ContractBroken: answers or releases were altered by hand; says which, and nothing is taken over.
    """
    adoption = store.adoption
    wrong = [*adoption.alterations(), *_wrong_releases(adoption.releases())]
    wrong += [f"answers name release {release!r}, which is not stored" for release in adoption.orphans()]
    if foreign := adoption.foreign():
        wrong.append(f"{foreign} answers are filed under a release whose requests they do not answer")
    if wrong:
        raise ContractBroken(
            f"{store.name}: the answers of branch {branch!r} are not taken over: they are not what the platform wrote "
            "there.\n" + "\n".join(f"  {one}." for one in wrong) + "\nAnswer them anew: take the branch down and run "
            "production, which asks for what it lacks."
        )
    pins = {json.dumps(_identity(pin(entry).model_dump(mode="json")), sort_keys=True) for entry in lock.values()}
    wanted, left = [], {}
    for release_id, _, content, _ in adoption.releases():
        model = Release.model_validate_json(content).model
        if json.dumps(_identity(model.model_dump(mode="json")), sort_keys=True) in pins:
            wanted.append(release_id)
        else:
            left[release_id] = f"the lock file pins {model.entry!r} otherwise, or not at all"
    return Merged(adoption.take(wanted), left)


def _identity(model: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in model.items() if name != "entry"}


def _wrong_releases(releases: list[tuple[str, str, str, int]]) -> list[str]:
    wrong = []
    for release_id, request_id, content, _ in releases:
        try:
            release = Release.model_validate_json(content)
        except ValidationError:
            wrong.append(f"release {release_id} cannot be read")
            continue
        if (release.release_id, release.request_id) != (release_id, request_id):
            wrong.append(f"release {release_id} has another content than its id says")
    return wrong
