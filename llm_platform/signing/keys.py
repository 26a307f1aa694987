"""The key that a deployment signs with: an Ed25519 key in a file of PEM, and hashes that only it can make."""

from __future__ import annotations

import hashlib
import hmac
import os
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
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
from llm_platform.signing.envelopes import UnreadableEnvelope, UnsignedEnvelope, opened, sealed

NONCE_BYTES = 12
"""Of AES-GCM, drawn for each text."""
HIDING = "hidden texts"


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

    def derived(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose, from which this one cannot be told."""
        return hmac.digest(self._secret, b"derived/" + purpose.encode(), "sha256")

    def hidden(self, text: str) -> str:
        """A text that nobody without the key can read, in base64."""
        nonce = os.urandom(NONCE_BYTES)
        sealed_text = AESGCM(self.derived(HIDING)).encrypt(nonce, text.encode("utf-8", "surrogatepass"), None)
        return b64encode(nonce + sealed_text).decode()

    def shown(self, hidden: str) -> str:
        """The text that `hidden` was given.

        Raises:
            SpecificationError: another key hid it, or it is not what was written.
        """
        try:
            content = b64decode(hidden, validate=True)
            nonce, sealed_text = content[:NONCE_BYTES], content[NONCE_BYTES:]
            return AESGCM(self.derived(HIDING)).decrypt(nonce, sealed_text, None).decode("utf-8", "surrogatepass")
        except (ValueError, InvalidTag):
            raise SpecificationError(
                f"What was kept with the deployment's key cannot be read with the key {self.key_id[:16]}. Name the key "
                "that it was kept with in LLM_PLATFORM_SIGNING_KEY."
            ) from None

    @cached_property
    def _secret(self) -> bytes:
        raw = self.private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        return hmac.digest(raw, b"llm-platform/keyed-hash/1", "sha256")

    def envelope(self, statement: Mapping[str, Any]) -> str:
        """A statement in a DSSE envelope, as JSON."""
        return sealed(statement, self.private, key_id=self.key_id)


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


def verified(envelope: str, public_pem: str) -> dict[str, Any]:
    """The statement of an envelope that the key in PEM has signed.

    Raises:
        SpecificationError: it is none, the key is none, or a byte is not as it was signed.
    """
    try:
        key = load_pem_public_key(public_pem.encode())
    except (ValueError, TypeError):
        raise SpecificationError("This is not a public key in PEM: nothing can be verified.") from None
    if not isinstance(key, Ed25519PublicKey):
        raise SpecificationError("This is not an Ed25519 key: nothing can be verified.")
    try:
        return opened(envelope, [key])
    except UnreadableEnvelope as error:
        raise SpecificationError(f"Nothing can be verified: {error}.") from None
    except UnsignedEnvelope:
        raise SpecificationError(
            f"The signature does not hold for key {_key_id(key)[:16]}: the content was changed, or another key made it."
        ) from None


def _key_id(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
