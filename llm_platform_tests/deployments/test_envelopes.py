"""Envelopes of attestations: signed, compared and dated, without a lake."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from llm_platform.errors import EvidenceMissing, SpecificationError
from llm_platform.operations.release.attestation import contradictions, sign, statement, verify

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
