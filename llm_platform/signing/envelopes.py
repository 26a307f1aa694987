"""In-toto statements in DSSE envelopes, as the tools for software supply chains read them, cosign among them.

Sources: github.com/secure-systems-lab/dsse (envelope.md, protocol.md), github.com/in-toto/attestation (spec/v1).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey
    PublicKey = Ed25519PublicKey | EllipticCurvePublicKey

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"


class UnreadableEnvelope(Exception):
    """What was given is no envelope, or what was signed is no statement; the message is ours."""


class UnsignedEnvelope(Exception):
    """None of the keys has signed what an envelope says now."""


def sealed(statement: Mapping[str, Any], key: PrivateKey, *, key_id: str = "") -> str:
    """A signed envelope of a statement, as JSON."""
    payload = json.dumps(statement, sort_keys=True, ensure_ascii=False).encode()
    signature = _signature(key, _encoded(PAYLOAD_TYPE, payload))
    envelope = {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": key_id, "sig": base64.b64encode(signature).decode()}],
    }
    return json.dumps(envelope, indent=2) + "\n"


def opened(envelope: str, keys: Sequence[PublicKey]) -> dict[str, Any]:
    """The statement of an envelope that one of the keys has signed; what it says is read only then.

    Raises:
        UnreadableEnvelope: it is no envelope, or what was signed is no statement.
        UnsignedEnvelope: none of the keys has signed it, or it was changed since.
    """
    try:
        outer = json.loads(envelope)
        kind = str(outer["payloadType"])
        payload = base64.b64decode(outer["payload"], validate=True)
        signatures = [base64.b64decode(one["sig"], validate=True) for one in outer["signatures"]]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UnreadableEnvelope(f"it is no DSSE envelope in JSON ({type(error).__name__})") from None
    content = _encoded(kind, payload)
    if kind != PAYLOAD_TYPE or not any(_holds(key, one, content) for key in keys for one in signatures):
        raise UnsignedEnvelope
    statement = json.loads(payload)
    if not isinstance(statement, dict) or statement.get("_type") != STATEMENT_TYPE:
        raise UnreadableEnvelope("what was signed is no in-toto statement")
    return statement


def _signature(key: PrivateKey, content: bytes) -> bytes:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(content, ec.ECDSA(hashes.SHA256()))
    return key.sign(content)


def _holds(key: PublicKey, signature: bytes, content: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, content, ec.ECDSA(hashes.SHA256()))
        else:
            key.verify(signature, content)
    except InvalidSignature:
        return False
    return True


def _encoded(kind: str, payload: bytes) -> bytes:
    """What is signed: it names its type, so that nothing is taken for a statement of another kind."""
    name = kind.encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(payload), payload)
