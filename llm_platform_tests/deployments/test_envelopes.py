"""Envelopes of attestations: signed, compared and dated, without a lake."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from llm_platform.errors import EvidenceMissing, SpecificationError
from llm_platform.operations.release.attestation import (
    PREDICATE_TYPE,
    contradictions,
    read_envelope,
    running_image,
    sign,
    statement,
    verify,
)
from llm_platform.signing.envelopes import STATEMENT_TYPE

NOW = datetime(2027, 1, 1, tzinfo=UTC)
FACTS: dict[str, Any] = {
    "application": "tickets",
    "contract": 1,
    "decision": "event-2",
    "approver": "ada@example.org",
    "release": {"stored": "r1", "content": "r1"},
    "weights": {"answered_by": {"model": "m"}, "locked": {"model": "m"}},
    "adapter": {"named": "a1", "content": "a1", "files": {}},
    "report": {"named": "p1", "content": "p1", "of": "r1"},
    "gates": [{"name": "accuracy", "lower": 0.8, "upper": 0.9, "limit": 0.7, "passed": True}],
    "standing": "approved",
    "image": "sha256:" + "a" * 64,
}


def pem(private: Any) -> tuple[bytes, bytes]:
    plain = serialization.NoEncryption()
    return (
        private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain),
        private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
    )


PRIVATE, PUBLIC = pem(ec.generate_private_key(ec.SECP256R1()))
_, STRANGER = pem(ec.generate_private_key(ec.SECP256R1()))
RSA, _ = pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))
ENVELOPE = sign(statement(FACTS, at=NOW), PRIVATE)


def test_what_is_signed_and_still_the_case_is_verified() -> None:
    """By any of the keys that are trusted: one is exchanged while the other still serves."""
    assert verify(ENVELOPE, [STRANGER, PUBLIC], FACTS, approvers=["ada@example.org"], now=NOW)["decision"] == "event-2"


@pytest.mark.parametrize("name", sorted(set(FACTS) - {"adapter", "report", "release", "weights", "gates", "standing"}))
def test_every_fact_that_differs_is_named(name: str) -> None:
    """A comparison that left one out would be the one that is altered."""
    there = {**FACTS, name: "sha256:" + "b" * 64 if name == "image" else "another"}

    with pytest.raises(EvidenceMissing, match=f"{name}: attested"):
        verify(ENVELOPE, [PUBLIC], there, now=NOW)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        pytest.param({"release": {"stored": "r1", "content": "r2"}}, "release: ", id="release"),
        pytest.param({"weights": {"answered_by": {"model": "m"}, "locked": None}}, "weights: ", id="weights"),
        pytest.param({"adapter": {"named": "a1", "content": None, "files": None}}, "adapter: ", id="adapter"),
        pytest.param({"report": {"named": "p1", "content": "p2", "of": "r1"}}, "report: ", id="report"),
        pytest.param({"report": {"named": "p1", "content": "p1", "of": "r9"}}, "report: ", id="report-of-another"),
        pytest.param({"gates": []}, "gates: ", id="no-gates"),
        pytest.param({"standing": "refused"}, "gates: ", id="refused"),
    ],
)
def test_facts_that_contradict_each_other_are_no_evidence_whoever_signs(facts: dict[str, Any], said: str) -> None:
    """The signer's machine may be the one that was deceived."""
    there = {**FACTS, **facts}

    assert [line[: len(said)] for line in contradictions(there)] == [said]
    with pytest.raises(EvidenceMissing, match=said):
        verify(sign(statement(there, at=NOW), PRIVATE), [PUBLIC], there, now=NOW)


@pytest.mark.parametrize(
    "envelope",
    [
        pytest.param(sign(statement(FACTS, at=NOW), pem(ec.generate_private_key(ec.SECP256R1()))[0]), id="another-key"),
        pytest.param(json.dumps({**json.loads(ENVELOPE), "payloadType": "text/plain"}), id="another-type"),
        pytest.param(json.dumps({**json.loads(ENVELOPE), "signatures": []}), id="no-signature"),
        pytest.param(
            json.dumps({**json.loads(ENVELOPE), "payload": base64.b64encode(b"{}").decode()}), id="another-payload"
        ),
        pytest.param("{}", id="empty"),
        pytest.param("", id="no-byte"),
        pytest.param(ENVELOPE[: len(ENVELOPE) // 2], id="truncated"),
        pytest.param("[" * 100_000, id="deep"),
        pytest.param("not json", id="no-json"),
    ],
)
def test_what_no_trusted_key_has_signed_is_not_read(envelope: str) -> None:
    """What it says is not looked at: a parser that reads a stranger's words first is what gets attacked."""
    with pytest.raises(EvidenceMissing, match=r"no trusted key has signed|cannot be read"):
        verify(envelope, [PUBLIC], FACTS, now=NOW)


@pytest.mark.parametrize("days", [-1, 366])
def test_an_attestation_of_tomorrow_or_of_last_year_is_refused(days: int) -> None:
    """One is made in advance, the other is never looked at again."""
    with pytest.raises(EvidenceMissing, match="clock: "):
        verify(ENVELOPE, [PUBLIC], FACTS, now=NOW + timedelta(days=days))


def test_an_approver_who_may_not_is_refused() -> None:
    """Whoever can write the table of decisions can write a name into it."""
    with pytest.raises(EvidenceMissing, match="none of those who may approve"):
        verify(ENVELOPE, [PUBLIC], FACTS, approvers=["grace@example.org"], now=NOW)


@pytest.mark.parametrize("key", [b"", b"no key", RSA])
def test_a_key_that_cannot_sign_is_named_without_being_shown(key: bytes) -> None:
    """A key in a message is a key in a log."""
    with pytest.raises(SpecificationError, match="no ECDSA key") as caught:
        sign(statement(FACTS, at=NOW), key)

    assert "PRIVATE" not in str(caught.value)


def test_of_two_signatures_one_of_a_trusted_key_is_enough_and_none_is_not() -> None:
    """Two people sign where two have to; who trusts one of them need not know the other."""
    other = json.loads(sign(statement(FACTS, at=NOW), pem(ec.generate_private_key(ec.SECP256R1()))[0]))
    both = json.loads(ENVELOPE)
    both["signatures"] = [*other["signatures"], *both["signatures"]]

    assert verify(json.dumps(both), [PUBLIC], FACTS, now=NOW)["decision"] == "event-2"
    with pytest.raises(EvidenceMissing, match="no trusted key has signed"):
        verify(json.dumps(both), [STRANGER], FACTS, now=NOW)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        pytest.param({"predicateType": PREDICATE_TYPE.replace("v1", "v2")}, "no statement on a publication", id="v2"),
        pytest.param({"predicate": []}, "no statement on a publication", id="a-list"),
        pytest.param({"_type": STATEMENT_TYPE.replace("v1", "v2")}, "no in-toto statement", id="statement-v2"),
        pytest.param({"subject": None}, "image: it is not among the subjects", id="no-subject"),
        pytest.param({"subject": ["image"]}, "image: it is not among the subjects", id="no-digest"),
    ],
)
def test_a_trusted_key_signs_many_things_and_only_ours_is_evidence(said: dict[str, Any], why: str) -> None:
    """The same key signs images and bills of materials, and a later version may mean something else by a word."""
    envelope = sign({**statement(FACTS, at=NOW), **said}, PRIVATE)

    with pytest.raises(EvidenceMissing, match=why):
        verify(envelope, [PUBLIC], FACTS, now=NOW)


def test_a_file_that_is_no_text_or_is_not_there_is_said_by_its_place(tmp_path: Path) -> None:
    """It ended in a traceback, in the run that publishes."""
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")

    for name in ("binary.json", "none.json"):
        with pytest.raises(EvidenceMissing, match=rf"tickets: no attestation can be read at .*{name}"):
            read_envelope(tmp_path / name, "tickets")


def pod(name: str, digest: str, *, state: str = "running", repository: str = "registry.example.org/llm") -> Any:
    """A pod as kubectl prints it, of what is read of it."""
    container = {
        "name": "c",
        "image": f"{repository}:latest",
        "imageID": f"{repository}@{digest}",
        "state": {state: {}},
    }
    return {"kind": "Pod", "metadata": {"name": name}, "status": {"phase": "Running", "containerStatuses": [container]}}


def listed(*pods: Any) -> bytes:
    return json.dumps({"kind": "List", "apiVersion": "v1", "items": pods}).encode()


A, B = (f"sha256:{letter * 64}" for letter in "ab")


def test_the_image_is_the_one_that_nodes_have_pulled() -> None:
    """Pods that have ended, as a migration's has, and one that has not begun, run nothing."""
    waiting = {"kind": "Pod", "metadata": {"name": "new"}, "status": {"phase": "Pending"}}
    pods = listed(pod("web", A), pod("code", A), pod("migrate", B, state="terminated"), waiting)

    assert running_image(pods) == FACTS["image"]
    assert running_image(json.dumps(pod("web", A, repository="docker-pullable://llm")).encode()) == FACTS["image"]


@pytest.mark.parametrize(
    ("pods", "said"),
    [
        pytest.param(listed(pod("web", A), pod("code", B)), f"{A} in web; {B} in code", id="half-upgraded"),
        pytest.param(listed(), "No pod of those that were given runs", id="none"),
        pytest.param(listed(pod("web", "sha256:12")), "no image of a registry by digest", id="no-digest"),
    ],
)
def test_pods_that_do_not_run_one_image_are_no_evidence(pods: bytes, said: str) -> None:
    """What half of the pods run was attested, and the other half answers."""
    with pytest.raises(EvidenceMissing, match=said):
        running_image(pods)


@pytest.mark.parametrize("pods", [b"", b"NAME READY", b"[]", b'{"kind": "List"}', b"\xff"])
def test_what_kubectl_did_not_print_as_json_is_said(pods: bytes) -> None:
    """A table of kubectl's is what one gets who forgets `-o json`."""
    with pytest.raises(SpecificationError, match="kubectl get pods -o json"):
        running_image(pods)
