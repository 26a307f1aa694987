"""The key that a deployment signs with, and what is made with it: signatures, envelopes, hashes that only it can make.

An Ed25519 key in a file of PEM. What it signs can be verified by anybody who has the public half, without a network: an
in-toto statement in an envelope of DSSE, as the tools for software supply chains read them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from llm_platform.errors import SpecificationError, StorageError
from llm_platform.files import write_text

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"


@dataclass(frozen=True)
class SigningKey:
    """A private key; its representation does not show it."""

    private: Ed25519PrivateKey = field(repr=False)

    @property
    def public_pem(self) -> str:
        """The public half, as a file of PEM."""
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    @property
    def key_id(self) -> str:
        """Which key it is: a hash of the public half."""
        return _key_id(self.private.public_key())

    def keyed_hash(self, purpose: str, value: str) -> str:
        """A hash that nobody without the key can make, also not of all keys that a document may have."""
        content = f"{len(purpose)}:{purpose}{value}".encode("utf-8", "surrogatepass")
        return hmac.digest(self._secret, content, "sha256").hex()

    @cached_property
    def _secret(self) -> bytes:
        raw = self.private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        return hmac.digest(raw, b"llm-platform/keyed-hash/1", "sha256")

    def envelope(self, statement: Mapping[str, Any]) -> str:
        """A statement in a DSSE envelope, as JSON."""
        payload = json.dumps(statement, sort_keys=True, ensure_ascii=False).encode()
        signature = self.private.sign(_encoded(PAYLOAD_TYPE, payload))
        return json.dumps(
            {
                "payloadType": PAYLOAD_TYPE,
                "payload": base64.b64encode(payload).decode(),
                "signatures": [{"keyid": self.key_id, "sig": base64.b64encode(signature).decode()}],
            },
            indent=2,
        )


def signing_key(path: Path, *, make: bool = False) -> SigningKey:
    """The key in a file; a new one where there is none and `make` is true.

    Raises:
        SpecificationError: the file is not there, or is no Ed25519 key without a password.
        StorageError: it cannot be read or written.
    """
    if make and not path.exists():
        made = Ed25519PrivateKey.generate()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_once(path, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())
    try:
        found = load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError:
        raise SpecificationError(
            f"There is no signing key at {path}. Name the deployment's in LLM_PLATFORM_SIGNING_KEY."
        ) from None
    except OSError as error:
        raise StorageError(f"Cannot read the signing key {path}: {error.strerror}.") from error
    except (ValueError, TypeError):
        raise SpecificationError(
            f"{path} is not a private key in PEM without a password. Make one: openssl genpkey -algorithm ed25519"
        ) from None
    if not isinstance(found, Ed25519PrivateKey):
        raise SpecificationError(f"{path} is not an Ed25519 key. Make one: openssl genpkey -algorithm ed25519")
    return SigningKey(found)


def _write_once(path: Path, pem: str) -> None:
    aside = write_text(path.with_name(f".{path.name}.{os.getpid()}.new"), pem)
    try:
        os.link(aside, path)
    except FileExistsError:
        pass  # somebody else was quicker; theirs counts
    except OSError as error:
        raise StorageError(f"Cannot write the signing key {path}: {error.strerror}.") from error
    finally:
        aside.unlink(missing_ok=True)


def opened(envelope: str, public_pem: str) -> dict[str, Any]:
    """The statement of an envelope that a key has signed.

    Raises:
        SpecificationError: it is none, the key is none, or a byte is not as it was signed.
    """
    try:
        found = json.loads(envelope)
        kind = found["payloadType"]
        payload = base64.b64decode(found["payload"], validate=True)
        signatures = [base64.b64decode(one["sig"], validate=True) for one in found["signatures"]]
    except (ValueError, TypeError, KeyError):
        raise SpecificationError("This is not a DSSE envelope in JSON: nothing can be verified.") from None
    try:
        key = load_pem_public_key(public_pem.encode())
    except (ValueError, TypeError):
        raise SpecificationError("This is not a public key in PEM: nothing can be verified.") from None
    if not isinstance(key, Ed25519PublicKey):
        raise SpecificationError("This is not an Ed25519 key: nothing can be verified.")
    if kind != PAYLOAD_TYPE or not any(_holds(key, signature, _encoded(kind, payload)) for signature in signatures):
        raise SpecificationError(
            f"The signature does not hold for key {_key_id(key)[:16]}: the content was changed, or another key made it."
        )
    statement = json.loads(payload)
    if not isinstance(statement, dict) or statement.get("_type") != STATEMENT_TYPE:
        raise SpecificationError("What was signed is not an in-toto statement.")
    return statement


def _holds(key: Ed25519PublicKey, signature: bytes, content: bytes) -> bool:
    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True


def _encoded(kind: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding. Source: github.com/secure-systems-lab/dsse, protocol.md."""
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)


def _key_id(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
