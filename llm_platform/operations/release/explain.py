"""The chain behind one published row, for a person."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from llm_platform.application.model import Application
from llm_platform.evaluation.wording import interval_text
from llm_platform.operations.releases import requesting
from llm_platform.records import GateResult, Interval, Release
from llm_platform.records.evaluation import whom
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.store import ApplicationStore

ORDER = (
    "published",
    "document",
    "completion",
    "made_of",
    "failures",
    "run",
    "release",
    "pin",
    "adapter",
    "prompt",
    "model",
    "rollout",
    "rollout_step",
    "report",
)


OF_A_STEP = ("rollout_id", "stage_name", "decision", "reasons", "at", "git_commit", "by", "report_id")
"""What is shown of the step that lets a challenger's answers be published."""


def explain_document(
    lake: Warehouse, application: Application, document_id: str, *, texts: bool = False
) -> dict[str, Mapping[str, Any]]:
    """Everything that made one document's published answer, by table: row, document, completion, the run that paid for
    it with its git commit, release, model pin, prompt, what the endpoint said it is, decision and report.

    Args:
        lake: The lake.
        application: The application.
        document_id: Key of the document.
        texts: Include the document's text, the prompt's templates and what the model or its endpoint said.

    Raises:
        ContractBroken: there is no such document.
    """
    store = lake.application(application.name)
    contract = store.published.present(application.publish.contract)
    found = store.published.explain(document_id, contract=contract, with_texts=texts)
    chain = {section: dict(values) for section, values in found.items() if isinstance(values, Mapping)}
    release = store.releases.get(chain["release"]["release_id"]) if "release" in chain else None
    if release is not None:
        chain["release"].update(_settings(release))
        chain["pin"] = release.model.model_dump(mode="json")
        chain.update(_adapter(store, release))
    if release is not None and "completion" in chain and "run" not in chain:
        chain.update(_paid_by(store, release, chain["completion"]["run_id"]))
    if "document" in chain and (failures := store.failures.of_text(chain["document"]["fingerprint"])):
        # Also of what is not published: why it may not be.
        chain["failures"] = {
            release_id: f"{one.status} after {one.attempts} requests: {one.reason}"
            for release_id, one in failures.items()
        }
    if "rollout" in chain:
        chain["rollout"]["evidence"] = [_gate(gate) for gate in json.loads(chain["rollout"]["evidence"])]
    if "rollout_step" in chain:
        chain["rollout_step"] = {name: chain["rollout_step"][name] for name in OF_A_STEP}
    if "report" in chain:
        chain["report"].update(_measured(json.loads(chain["report"].pop("report"))))
    return {section: chain[section] for section in ORDER if section in chain}


def in_words(application: Application, document_id: str, chain: Mapping[str, Mapping[str, Any]]) -> str:
    """The same in one paragraph that a person reads."""
    published, decided = chain.get("published"), chain.get("rollout")
    if published is None:
        status = chain.get("document", {}).get("status", "unknown")
        failures = chain.get("failures") or {}
        why = f" Why: {next(iter(failures.values()))}." if failures else ""
        return f"Nothing of document {document_id!r} ({status}) is published.{why}"
    sure = published.get("confidence")
    # Of an extraction there is no column "answer".
    is_valid = published["status"] == "valid"
    answer = f"the answer {published['answer']!r}" if is_valid and application.task == "classify" else "an answer"
    said = answer if is_valid else "no valid answer"
    sentences = [
        f"Readers of {application.name} get {said} for document {document_id!r}"
        f"{'' if sure is None else f', {sure:.0%} sure'}, since {_day(published.get('published_at'))}."
    ]
    if not is_valid and published.get("reason"):
        sentences.append(f"Why: {published['reason']}.")
    release, prompt = chain.get("release"), chain.get("prompt", {})
    if release is not None:
        variant = published.get("variant") or (decided or {}).get("variant") or "a release"
        did = "gave it" if chain.get("document", {}).get("status", "sendable") == "sendable" else "was not asked"
        sentences.append(
            f"{variant} {did} (release {release['release_id']}: prompt {prompt.get('name', '')} in version "
            f"{release['prompt_version']} to {release['model_entry']})."
        )
    step = chain.get("rollout_step")
    if step is not None:
        sentences.append(f"It is a challenger at {step['stage_name']}, decided by {step['by']} on {_day(step['at'])}.")
    elif decided is not None:
        note = f" ({decided['note']})" if decided.get("note") else ""
        sentences.append(
            f"It serves since {_day(decided['at'])}, by {whom(decided['by'])}{note}, on report {decided['report_id']}: "
            f"{_accuracy(chain.get('report', {}))}."
        )
    completion = chain.get("completion")
    if completion is not None:
        tokens = (completion.get("prompt_tokens") or 0) + (completion.get("completion_tokens") or 0)
        again = ", taken from an answer that was paid before" if completion.get("reused") else ""
        sentences.append(f"It was asked on {_day(completion['created_at'])} for {tokens:,} tokens{again}.")
    return " ".join(sentences)


def _accuracy(report: Mapping[str, Any]) -> str:
    found = report.get("accuracy")
    if isinstance(found, Mapping) and found.get("value") is not None:
        return f"accuracy {interval_text(Interval.model_validate(found))} of {found['count']:,} documents"
    return "its gates passed"


def _day(at: Any) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC" if isinstance(at, datetime) else str(at)[:16]


def _settings(release: Release) -> dict[str, Any]:
    calibration = release.calibration
    return {
        "decision": release.decision,
        "adapter": release.adapter,
        "sampling": release.sampling.model_dump(mode="json"),
        "calibration": calibration.model_dump(mode="json") if calibration else None,
    }


def _paid_by(store: ApplicationStore, release: Release, run_id: str) -> dict[str, dict[str, Any]]:
    """The run that sent the requests of a calibrated release, which has none of its own."""
    runs = store.runs.of_release(requesting(release).release_id)
    sent = next((run for run in runs if run.run_id == run_id), None)
    return {"run": sent.model_dump(mode="json")} if sent else {}


def _adapter(store: ApplicationStore, release: Release) -> dict[str, dict[str, Any]]:
    """What the adapter of a release was made from; nothing without one."""
    manifest = store.adapters.get(release.adapter) if release.adapter is not None else None
    if manifest is None:
        return {}
    made = {"adapter_id": manifest.adapter_id, "served_name": release.served_name}
    return {"adapter": {**made, **manifest.model_dump(mode="json", exclude={"metrics", "base", "application"})}}


def _gate(gate: Mapping[str, Any]) -> str:
    result = GateResult.model_validate(gate)
    return f"{result.name}: {result.comparison}, {result.verdict}"


def _measured(report: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a stored report that the decision rests on."""
    return {name: report.get(name) for name in ("references_version", "scorer", "accuracy", "valid_rate", "counts")}
