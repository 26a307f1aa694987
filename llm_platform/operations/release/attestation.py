"""Evidence that travels: a signed statement of what is published, and by whose approval; verified without a network.

An in-toto statement in a DSSE envelope, signed with an ECDSA key (P-256), so that cosign reads it, too. It says what a
decision rests on, field by field; verifying takes the same facts from the lake and the files as they are now, and
compares. A check event of Dagster's is in none of it: whoever can write one has approved nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_platform.contracts.shape import contract_of
from llm_platform.errors import EvidenceMissing, SpecificationError
from llm_platform.evaluation.report import Report
from llm_platform.models.lock import pin
from llm_platform.operations.releases import LoadedApplication
from llm_platform.records import Release, canonical_json, content_hash
from llm_platform.signing.envelopes import STATEMENT_TYPE, UnreadableEnvelope, UnsignedEnvelope, opened, sealed
from llm_platform.warehouse.store import ApplicationStore

if TYPE_CHECKING:
    from llm_platform.signing.envelopes import PublicKey

PREDICATE_TYPE = "https://llm-platform.dev/attestation/publication/v1"
FILE = "attestation.json"
"""Beside `application.yaml`: evidence goes the way that the files go."""
SKEW = timedelta(minutes=5)
"""Clocks of two machines may differ by so much."""
MAX_AGE = timedelta(days=365)
Facts = dict[str, Any]


def facts_of(store: ApplicationStore, loaded: LoadedApplication, *, image_digest: str) -> Facts:
    """What the present champion of an application rests on, as lake and files say now.

    Raises:
        EvidenceMissing: there is no champion, or what it rests on is not stored or did not pass.
    """
    name, champion = loaded.application.name, store.rollout.champion()
    release = store.releases.get(champion.release_id) if champion is not None else None
    row = store.reports.get(champion.report_id) if champion is not None else None
    if champion is None or release is None or row is None:
        raise EvidenceMissing(
            f"{name}: there is nothing to attest: no champion whose release and report are stored. "
            f"First: llm-platform promote {name} VARIANT"
        )
    report = Report.model_validate_json(row.report)
    entry = loaded.lock.get(release.model.entry)
    adapter = store.adapters.get(release.adapter) if release.adapter is not None else None
    evaluation, contract = loaded.application.evaluation, contract_of(loaded.application)
    return {
        "application": name,
        # All that readers are promised: columns may change and the number stay.
        "contract": f"{contract.version} ({contract.content_id})",
        "decision": champion.event_id,
        "approver": champion.by,
        "decided_at": champion.at.astimezone(UTC).isoformat(),
        "variant": champion.variant,
        # By content: a stored release that was altered has another id than it is stored under.
        "release": {"stored": champion.release_id, "content": release.release_id},
        "weights": {
            "answered_by": _weights(release),
            "locked": None if entry is None else _weights(release.model_copy(update={"model": pin(entry)})),
        },
        "adapter": None
        if release.adapter is None
        else {
            "named": release.adapter,
            "content": None if adapter is None else adapter.adapter_id,
            "files": None if adapter is None else dict(sorted(adapter.files.items())),
        },
        "prompt": release.prompt.version,
        "evaluation": report.evaluation_id,
        "report": {"named": champion.report_id, "content": report_hash(report), "of": report.release_id},
        "labels": store.references.version(split="evaluation"),
        "scorer": content_hash(evaluation.model_dump(mode="json", exclude={"gates"})),
        "bounds": content_hash(evaluation.gates.model_dump(mode="json")),
        "gates": [
            {"name": gate.name, "lower": gate.lower, "upper": gate.upper, "limit": gate.limit, "passed": gate.passed}
            for gate in report.gates
        ],
        "standing": report.standing,
        "image": image_digest,
    }


def report_hash(report: Report) -> str:
    """The id that a report's content has."""
    return content_hash(report.model_dump(mode="json", exclude={"report_id", "created_at"}))


def _weights(release: Release) -> dict[str, Any]:
    names = ("weights_sha256", "image", "profile", "revision", "tokenizer_sha256", "fingerprint")
    model = release.model.model_dump(mode="json")
    return {"model": model["model"], **{name: model[name] for name in names if model[name] is not None}}


def contradictions(facts: Facts) -> list[str]:
    """What of some facts contradicts the rest, a sentence each: evidence that was altered where it is stored."""
    wrong = []
    if facts["release"]["stored"] != facts["release"]["content"]:
        wrong.append("release: the stored release has another content than its id says")
    if facts["weights"]["locked"] != facts["weights"]["answered_by"]:
        wrong.append("weights: the lock file pins others than those that answered")
    if facts["adapter"] is not None and facts["adapter"]["named"] != facts["adapter"]["content"]:
        wrong.append("adapter: its manifest or its files are not those that its id says")
    if facts["report"]["named"] != facts["report"]["content"]:
        wrong.append("report: the stored report has another content than its id says")
    if facts["report"]["of"] != facts["release"]["stored"]:
        wrong.append("report: it was measured on another release than the one that serves")
    if facts["standing"] != "approved" or not facts["gates"] or not all(gate["passed"] for gate in facts["gates"]):
        wrong.append("gates: the report did not pass, whatever a check says")
    return wrong


def statement(facts: Facts, *, at: datetime) -> dict[str, Any]:
    """The in-toto statement of some facts."""
    subjects = [
        {"name": f"{facts['application']}/release", "digest": {"sha256": _digest(facts["release"])}},
        {"name": "image", "digest": {"sha256": facts["image"].removeprefix("sha256:")}},
    ]
    return {
        "_type": STATEMENT_TYPE,
        "subject": subjects,
        "predicateType": PREDICATE_TYPE,
        "predicate": {"issued_at": at.astimezone(UTC).isoformat(), **facts},
    }


def _digest(value: object) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def sign(said: Mapping[str, Any], private_key: bytes) -> str:
    """A DSSE envelope of a statement, as JSON.

    Raises:
        SpecificationError: it is no private ECDSA key in PEM form, or it has a password.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_private_key(private_key, password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise SpecificationError(
            "The signing key is no ECDSA key in PEM form without a password. Make one: "
            "openssl ecparam -name prime256v1 -genkey -noout -out attest.key"
        )
    return sealed(said, key)


def verify(
    envelope: str,
    keys: Sequence[bytes],
    facts: Facts,
    *,
    approvers: Sequence[str] = (),
    now: datetime,
    max_age: timedelta = MAX_AGE,
) -> dict[str, Any]:
    """The predicate of an attestation that a trusted key has signed and that says what is the case now.

    Args:
        keys: Public keys in PEM form; one of them must have signed.
        facts: Of lake, files and image as they are: `facts_of`.
        approvers: People who may approve; empty: whoever could promote.
        now: Attestations of later are of a clock that is wrong, or made in advance.
        max_age: Older ones are no evidence any more.

    Raises:
        EvidenceMissing: it is not; lists everything that does not hold, in words.
    """  # fmt: skip
    said = _signed(envelope, keys)
    predicate = said.get("predicate")
    if said.get("predicateType") != PREDICATE_TYPE or not isinstance(predicate, dict):
        raise _refused(["it is signed, and no statement on a publication"])
    wrong = contradictions(facts)
    wrong += [
        f"{name}: attested is {_short(predicate.get(name))}, there is {_short(value)}"
        for name, value in facts.items()
        if predicate.get(name) != value
    ]
    if predicate.get("decision") != facts["decision"]:
        wrong.append(
            "decision: it is of another decision than the one that serves: an old attestation proves nothing now"
        )
    if {"name": "image", "digest": {"sha256": facts["image"].removeprefix("sha256:")}} not in _subjects(said):
        wrong.append(f"image: it is not among the subjects as {_short(facts['image'])}")
    if approvers and facts["approver"] not in approvers:
        wrong.append(f"approver: {facts['approver']!r} is none of those who may approve ({', '.join(approvers)})")
    wrong += _clock(predicate.get("issued_at"), now, max_age)
    if wrong:
        raise _refused(wrong)
    return predicate


def _subjects(said: Mapping[str, Any]) -> list[object]:
    found = said.get("subject")
    return found if isinstance(found, list) else []


def _signed(envelope: str, keys: Sequence[bytes]) -> dict[str, Any]:
    try:
        return opened(envelope, [_public_key(text) for text in keys])
    except UnreadableEnvelope as error:
        raise _refused([f"it cannot be read: {error}"]) from None
    except UnsignedEnvelope:
        raise _refused(["no trusted key has signed what it says now"]) from None


def _public_key(text: bytes) -> PublicKey:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_public_key(text)
    except ValueError:
        raise SpecificationError("A key to verify attestations with is no public key in PEM form.") from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise SpecificationError("A key to verify attestations with is no ECDSA key.")
    return key


def _clock(issued: object, now: datetime, max_age: timedelta) -> list[str]:
    try:
        at = datetime.fromisoformat(str(issued))
    except ValueError:
        return ["clock: it does not say when it was issued"]
    if at.tzinfo is None:
        return ["clock: it was issued at a time without a zone"]
    if at > now + SKEW:
        return [f"clock: it was issued at {at.isoformat()}, which is still to come"]
    return (
        [f"clock: it was issued at {at.isoformat()}, more than {max_age.days} days ago"] if at < now - max_age else []
    )


def _short(value: object) -> str:
    text = canonical_json(value) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _refused(wrong: Sequence[str]) -> EvidenceMissing:
    return EvidenceMissing(
        "The attestation does not hold:\n" + "\n".join(f"  {one}." for one in wrong) + "\nNothing is published on it. "
        "If the change is meant, evaluate, promote and attest anew: llm-platform attest sign APPLICATION"
    )


@dataclass(frozen=True)
class Attested:
    """What a publication has to show in this deployment.

    Attributes:
        keys: Public keys that may have signed, a file or a folder.
        approvers: People who may approve; empty: whoever could promote.
        image_digest: Of the image that runs.
    """

    keys: Path
    approvers: tuple[str, ...]
    image_digest: str

    def require(self, store: ApplicationStore, loaded: LoadedApplication, *, now: datetime) -> None:
        """Refuse what no attestation allows.

        Raises:
            EvidenceMissing: there is none beside `application.yaml`, or it does not hold now.
        """
        envelope = read_envelope(loaded.application.folder / FILE, loaded.application.name)
        facts = facts_of(store, loaded, image_digest=self.image_digest)
        verify(envelope, read_keys(self.keys), facts, approvers=self.approvers, now=now)


def read_envelope(path: Path, application: str) -> str:
    """What is in the file of an attestation.

    Raises:
        EvidenceMissing: it is not there, or no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no text in UTF-8"
        raise EvidenceMissing(
            f"{application}: no attestation can be read at {path} ({why}). Sign it where the key is: "
            f"llm-platform attest sign {application}"
        ) from None


def running_image(pods: bytes) -> str:
    """The digest of the image that pods run, of what `kubectl get pods -o json` says of them.

    Read of what the nodes pulled, not of what was asked for: a values file says what somebody meant.

    Raises:
        EvidenceMissing: no pod runs, one of them runs an image that has no digest, or they run several images.
    """
    found: dict[str, list[str]] = {}
    for name, image in _containers(pods):
        digest = image.rpartition("@")[2]
        if "@" not in image or not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            raise EvidenceMissing(
                f"Pod {name} runs {image!r}, which is no image of a registry by digest: which one that is, nobody can "
                "say. Pull it from a registry."
            )
        found.setdefault(digest, []).append(name)
    if len(found) != 1:
        several = "; ".join(f"{digest} in {', '.join(sorted(set(names)))}" for digest, names in sorted(found.items()))
        raise EvidenceMissing(
            f"The pods run {several}: wait until the upgrade is through, or name the pods of one image by labels."
            if found
            else "No pod of those that were given runs. Name the platform's: kubectl get pods -n NAMESPACE -l "
            "llm-platform/sees=documents -o json"
        )
    return next(iter(found))


def _containers(pods: bytes) -> Iterator[tuple[str, str]]:
    """(pod, image) of each container that runs."""
    try:
        listed = json.loads(pods)
        for pod in listed["items"] if listed["kind"].endswith("List") else [listed]:
            for status in pod["status"].get("containerStatuses", []):
                if "running" in status["state"]:
                    yield str(pod["metadata"]["name"]), str(status["imageID"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SpecificationError(
            f"The pods cannot be read ({type(error).__name__}): give what kubectl get pods -o json prints."
        ) from None


def read_keys(folder: Path) -> list[bytes]:
    """The public keys in a folder, or in one file.

    Raises:
        SpecificationError: there is none.
    """
    files = [folder] if folder.is_file() else sorted(folder.glob("*.pem")) + sorted(folder.glob("*.pub"))
    if not files:
        raise SpecificationError(f"No public key in {folder}: put *.pem files there, or name one file.")
    return [file.read_bytes() for file in files]
