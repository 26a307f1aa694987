"""The lock file as something people work with: written from what runs, verified, compared, and asked for reasons."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from llm_platform.errors import SpecificationError, StorageError
from llm_platform.files import write_text
from llm_platform.models.differences import FieldChange, entry_changes, pin_changes
from llm_platform.models.edit import set_fields
from llm_platform.models.entries import LockEntry
from llm_platform.models.identity import PinComparison, compare, observe, same_engine
from llm_platform.models.lock import load_lock, parse_lock, pin
from llm_platform.models.manifests import fields_of_manifest, image_of_pods
from llm_platform.models.probes import Probed, answer_differences
from llm_platform.nim.discovery import detect_dialect
from llm_platform.nim.http import EndpointClient
from llm_platform.operations.evidence.evaluation import evaluation_id_against
from llm_platform.operations.releases import LoadedApplication
from llm_platform.operations.serving.endpoints import Observation
from llm_platform.records import RolloutEvent
from llm_platform.warehouse.store import ApplicationStore


def first_fields(url: str, served_name: str | None, client: EndpointClient) -> dict[str, Any]:
    """What a new external entry begins with: the endpoint's address, dialect, model and context length.

    Raises:
        SpecificationError: it serves several base models and none is named, or does not say its context length.
        EndpointUnavailable: it does not answer.
    """
    identity = observe(url, client.get)
    bases = [card for card in identity.models if card.base is None and served_name in (None, card.id)]
    if len(bases) != 1 or bases[0].max_model_len is None:
        there = ", ".join(card.id for card in identity.models)
        raise SpecificationError(
            f"{url} lists {there or 'no models'}; an entry is one base model that says its context length. "
            "Name it with --served-name, or write the entry by hand."
        )
    said = [model_url for model_url in identity.model_urls if model_url != "None"]
    fields: dict[str, Any] = {
        "mode": "external",
        "dialect": detect_dialect(url, client),
        "served_name": bases[0].id,
        "base_urls": [identity.base_url],
        "model": said[0] if said else bases[0].id,
        "context_length": bases[0].max_model_len,
    }
    return {**fields, "licence": identity.licence} if identity.licence else fields


def fields_said(entry: LockEntry, observation: Observation) -> dict[str, Any]:
    """Fields of a lock entry that its endpoints said or showed; what they do not say is left to the entry.

    Raises:
        SpecificationError: the endpoints differ, so that one entry cannot describe them.
    """
    said = [_said(entry, observation, url) for url in observation.identities]
    first = said[0]
    if any(other != first for other in said):
        raise SpecificationError(
            f"The {len(said)} endpoints of {entry.name!r} are not the same model. Give each build an entry of its own."
        )
    return first


def _said(entry: LockEntry, observation: Observation, url: str) -> dict[str, Any]:
    identity, probed = observation.identities[url], observation.probed.get(url, Probed())
    served = next((card for card in identity.models if card.id == entry.served_name), None)
    fields: dict[str, Any] = {
        "release": identity.release,
        "engine": _locked_engine(entry, identity.engine),
        "profile": identity.profile,
        "tokenizer_sha256": probed.tokenizer_sha256,
        "chat_template_sha256": probed.chat_template_sha256,
        "fingerprint": _locked_answers(entry, probed),
    }
    if served is not None and served.max_model_len is not None and served.max_model_len < entry.context_length:
        fields["context_length"] = served.max_model_len
    return {name: value for name, value in fields.items() if value}


def _locked_engine(entry: LockEntry, observed: str | None) -> str | None:
    """The engine that an endpoint says it is; as it is locked already where that names the same version."""
    if observed is not None and entry.engine is not None and same_engine(entry.engine, observed):
        return entry.engine
    return observed


def _locked_answers(entry: LockEntry, probed: Probed) -> list[str]:
    """The answers seen; those already locked where they differ by near ties only, so that nothing is stale for that."""
    if entry.fingerprint and not answer_differences(entry.fingerprint, probed.answers):
        return list(entry.fingerprint)
    return [answer.text for answer in probed.answers]


def fields_of_kubernetes(manifest: Path, pods: Path | None) -> dict[str, Any]:
    """Fields of a lock entry that a NIMService says, with the digest that its pods run.

    Args:
        manifest: YAML of the NIMService.
        pods: What `kubectl get pods -o json` says about its pods; needed where the manifest names a tag only.

    Raises:
        SpecificationError: a file cannot be read, or the digest is in neither.
    """
    fields = fields_of_manifest(_document(manifest))
    image = fields["image"]
    if pods is not None:
        found = _document(pods)
        fields["image"] = {**image, **image_of_pods(found.get("items") or [found], image["repository"])}
    elif "digest" not in image:
        raise SpecificationError(
            f"{manifest}: the image {image['repository']}:{image['tag']} has no digest, and tags move. "
            "Give the pods that run it: kubectl get pods -o json > pods.json, then --pods pods.json"
        )
    return {"mode": "kubernetes", **fields}


def write_entry(lock_file: Path, name: str, fields: Mapping[str, Any]) -> list[FieldChange]:
    """Set fields of an entry in the lock file, and leave everything else as it is; what changed.

    Raises:
        SpecificationError: the file would have mistakes then; it is left alone.
        StorageError: it cannot be written.
    """
    text = lock_file.read_text(encoding="utf-8")
    before = load_lock(lock_file).get(name)
    changed = set_fields(text, name, fields)
    after = parse_lock(changed, str(lock_file))[name]
    if changed != text:
        try:
            write_text(lock_file, changed, shared=True)
        except OSError as error:
            raise StorageError(f"{lock_file} cannot be written: {error.strerror}.") from error
    return entry_changes(before, after)


def verification(observation: Observation) -> dict[str, list[PinComparison]]:
    """Endpoint → what is pinned, beside what it says and does."""
    entry = observation.entry
    return {
        url: compare(entry, identity) + _compared(entry, observation.probed.get(url, Probed()))
        for url, identity in observation.identities.items()
    }


def _compared(entry: LockEntry, probed: Probed) -> list[PinComparison]:
    found: list[PinComparison] = []
    for name, locked, seen in (
        ("tokenizer", entry.tokenizer_sha256, probed.tokenizer_sha256),
        ("chat_template", entry.chat_template_sha256, probed.chat_template_sha256),
    ):
        if locked is not None:
            differs = f"other tokens than locked ({name})" if seen is not None and seen != locked else None
            found.append(PinComparison(name=name, locked=locked, observed=seen, difference=differs))
    if entry.fingerprint:
        differences = answer_differences(entry.fingerprint, probed.answers)
        same = sum(was == now.text for was, now in zip(entry.fingerprint, probed.answers, strict=False))
        found.append(
            PinComparison(
                name="fingerprint",
                locked=f"{len(entry.fingerprint)} answers",
                observed=f"{same} of {len(probed.answers)} the same" if probed.answers else None,
                difference="; ".join(differences) or None,
            )
        )
    return found


@dataclass(frozen=True)
class Touched:
    """One variant that a change of a lock entry touches.

    Attributes:
        before, after: Its release; None where it has none yet. Equal where nothing that decides answers changes.
        void: Reports on `before` that passed, which say nothing about `after`.
        serves: Whether `before` serves the published table.
    """

    application: str
    variant: str
    prompt: str
    before: str | None
    after: str | None
    void: tuple[str, ...]
    serves: bool

    @property
    def stale(self) -> bool:
        """Whether it has to be answered and evaluated again."""
        return self.before != self.after


def touched(
    store: ApplicationStore, loaded: LoadedApplication, *, entry: str, before: LockEntry, after: LockEntry
) -> list[Touched]:
    """Variants of an application that name `entry`, when `before` becomes `after`."""
    champion = store.rollout.champion()
    found: list[Touched] = []
    for name, variant in loaded.application.variants.items():
        if variant.model != entry:
            continue
        old = replace(loaded, lock={**loaded.lock, entry: before}).release(name, store)
        new = replace(loaded, lock={**loaded.lock, entry: after}).release(name, store)
        found.append(
            Touched(
                application=loaded.application.name,
                variant=name,
                prompt=variant.prompt,
                before=old.release_id if old else None,
                after=new.release_id if new else None,
                void=_passed(store, old.release_id) if old and (new is None or old != new) else (),
                serves=bool(champion and old and champion.release_id == old.release_id),
            )
        )
    return found


def _passed(store: ApplicationStore, release_id: str) -> tuple[str, ...]:
    rows = store.reports.table().to_pylist()
    # One may be stored several times, with others in between.
    passed = (row["report_id"] for row in rows if row["release_id"] == release_id and row["passed"])
    return tuple(dict.fromkeys(passed))


@dataclass(frozen=True)
class EntryApproval:
    """One decision that a lock entry was part of.

    Attributes:
        void: Why it no longer holds for what the files say now; None while it does.
    """

    event: RolloutEvent
    void: str | None


def approvals(store: ApplicationStore, loaded: LoadedApplication, entry: LockEntry) -> list[EntryApproval]:
    """What was approved on an entry, oldest first: the evidence rows of `rollout`."""
    found: list[EntryApproval] = []
    served: str | None = None
    for event in store.rollout.history():
        # What its report would have to be on now. A rollback is held against no champion: that one is to be left.
        wanted = evaluation_id_against(store, loaded, served if event.action == "promote" else None)
        served = event.release_id
        release = store.releases.get(event.release_id)
        if release is None or release.model.entry != entry.name:
            continue
        void = None
        if moved := pin_changes(release.model, pin(entry)):
            void = f"the lock entry moved: {', '.join(moved)}"
        elif event.evaluation_id != wanted:
            void = "evaluation documents, known answers or minimums changed"
        elif event.variant in loaded.application.variants:
            now = loaded.release(event.variant, store)
            if now is None or now.release_id != event.release_id:
                void = "the variant's prompt or sampling changed"
        else:
            void = "application.yaml no longer has the variant"
        found.append(EntryApproval(event, void))
    return found


def lock_at_revision(lock_file: Path, revision: str) -> dict[str, LockEntry]:
    """The lock file as it was at a git revision.

    Raises:
        SpecificationError: git does not know it, or the file had mistakes then.
    """
    finished = subprocess.run(
        ["git", "-C", str(lock_file.parent), "show", f"{revision}:./{lock_file.name}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode != 0:
        said = finished.stderr.strip().splitlines()
        raise SpecificationError(
            f"Neither an entry of {lock_file.name} nor a git revision that has it: {revision!r} "
            f"({said[-1] if said else 'git failed'})."
        )
    return parse_lock(finished.stdout, f"{revision}:{lock_file.name}")


def _document(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SpecificationError(f"{path}: cannot be read as YAML or JSON ({type(error).__name__}).") from error
    if not isinstance(found, dict):
        raise SpecificationError(f"{path}: one Kubernetes object is needed, found {type(found).__name__}.")
    return found
