"""What the evidence on a challenger stands on, by hash: where one of them moves, evidence and approvals are void."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from llm_platform.errors import PlatformError
from llm_platform.models.lock import lock_hash
from llm_platform.operations.evidence.judging import judge_versions
from llm_platform.operations.releases import LoadedApplication
from llm_platform.records import Release, content_hash
from llm_platform.records.rollout import RolloutStep
from llm_platform.warehouse.store import ApplicationStore

AdapterBytes = Callable[[Release], None]
"""Holds the files of a release's adapter against their manifest; raises an error of ours where they are others."""

KNOWN_ANSWERS = "a known answer"
VARIANT = "the variant"
EXPIRED = "the snapshot of what was known then, which has expired,"


def underneath(store: ApplicationStore, loaded: LoadedApplication, variant: str) -> dict[str, str]:
    """What is in the files now, name → hash; the name stands in the sentence that says what has changed."""
    application = loaded.application
    policy, known = application.rollout.policy, application.references
    found = {
        "the policy": "none" if policy is None else policy.hash,
        "the way answers are judged": content_hash(
            [
                application.evaluation.model_dump(mode="json"),
                list(application.labels),
                {name: field.content() for name, field in application.fields.items()},
                judge_versions(store, loaded),
            ]
        ),
        "the way known answers are split": content_hash(
            known and [known.split, known.splits, known.seed, known.train_share]
        ),
    }
    spec = application.variants.get(variant)
    if spec is None:
        return {**found, VARIANT: "none"}
    if spec.model in loaded.lock:
        found["the lock entry"] = lock_hash(loaded.lock[spec.model])
    if spec.prompt in loaded.prompts:
        found["the prompt"] = loaded.prompts[spec.prompt].version
    found["the schema"] = content_hash(application.output_schema())
    adapter = None if spec.adapter is None else loaded.adapter(spec.adapter, store)
    found["the adapter"] = "none" if adapter is None else adapter.adapter_id
    release = loaded.release(variant, store)
    found["the release"] = "none" if release is None else release.release_id
    return found


def moved(
    store: ApplicationStore,
    loaded: LoadedApplication,
    step: RolloutStep,
    *,
    present: dict[str, str],
    stored: dict[str, str],
    adapter_bytes: AdapterBytes | None = None,
) -> str | None:
    """What has changed since a challenger was entered, in words; None where nothing has."""
    # The release is made of the others: it is named where none of them says what it was.
    names = [name for name in stored if name in present and present[name] != stored[name]]
    names += [VARIANT] if VARIANT in present else []
    if len(names) > 1 and "the release" in names:
        names.remove("the release")
    if (changed := _known_answers_changed(store, loaded, step)) is not None:
        names.append(changed)
    release = store.releases.get(step.release_id)
    if release is not None and release.adapter is not None and adapter_bytes is not None:
        try:
            adapter_bytes(release)
        except PlatformError:
            names.append("a file of the adapter")
    return " and ".join(names) if names else None


def _known_answers_changed(store: ApplicationStore, loaded: LoadedApplication, step: RolloutStep) -> str | None:
    """Whether an answer that was known at the start is another one now; that more are known is what a stage is for."""
    if step.references_snapshot is None:
        return None
    known = loaded.application.references
    # A split that is drawn goes by the text, which the source may change or take away: nobody has moved the answer.
    compared = ["answer"] if known is None or known.split is None else ["answer", "split"]
    try:
        before = _rows(store.references.table(at_snapshot=step.references_snapshot), compared)
    except PlatformError:
        return EXPIRED
    now = _rows(store.references.table(), compared)
    if any(now[key] != value for key, value in before.items() if key in now):
        return KNOWN_ANSWERS
    taken_out = before.keys() - now.keys()
    # A document that has left the source takes its label along; one that is still there does not lose it by itself.
    documents = store.documents.table(columns=["document_id"])["document_id"].to_pylist() if taken_out else []
    return None if taken_out.isdisjoint(documents) else KNOWN_ANSWERS


def _rows(table: pa.Table, compared: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Document → what is compared of its known answer."""
    columns = (table[name].to_pylist() for name in ("document_id", *compared))
    return {key: tuple(values) for key, *values in zip(*columns, strict=True)}
