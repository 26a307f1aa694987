"""Who vouches for an adapter: a signed statement of its files beside them, verified before anybody serves it.

The manifest's hash names an adapter, so a changed byte has another name already. The signature says who published it:
whoever can write the folder, its name and the manifest cannot make one.

Run as a program, it verifies every adapter of a folder, for an init container:
`python -m llm_platform.finetuning.signature FOLDER 'PEM of public keys'`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_platform.errors import PlatformError, SpecificationError, StorageError
from llm_platform.files import file_sha256, write_text
from llm_platform.finetuning.adapter import FILES, MANIFEST, base_identity, load_manifest
from llm_platform.signing.envelopes import STATEMENT_TYPE, UnreadableEnvelope, UnsignedEnvelope, opened

if TYPE_CHECKING:
    from llm_platform.signing.envelopes import PublicKey
    from llm_platform.signing.keys import SigningKey

SIGNATURE = "signature.dsse.json"
PREDICATE_TYPE = "https://llm-platform.dev/attestation/adapter/v1"
SIGNED = (*FILES, MANIFEST)
"""What is signed: what is served, and what says of what it was made. The card is for people."""
_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


def sign_adapter(folder: Path, key: SigningKey, *, at: datetime) -> Path:
    """Write the signature of an adapter beside its files; the file.

    Raises:
        StorageError: it is no adapter, or cannot be written.
    """
    manifest = load_manifest(folder)
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": _sha256(folder / name)}} for name in SIGNED],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "adapter_id": manifest.adapter_id,
            "application": manifest.application,
            "name": manifest.name,
            "base": base_identity(manifest.base),
            "signed_at": at.isoformat(),
        },
    }
    return write_text(folder / SIGNATURE, key.envelope(statement))


def verify_signature(folder: Path, keys: Sequence[PublicKey]) -> dict[str, Any]:
    """What was signed of an adapter, once a trusted key has signed exactly the files that are there.

    Raises:
        StorageError: there is no signature, no trusted key has made it, or a file is another one; says which.
    """
    try:
        statement = opened((folder / SIGNATURE).read_text(encoding="utf-8"), keys)
    except OSError as error:
        raise _refused(folder, f"{SIGNATURE} cannot be read ({error.strerror})") from None
    except (UnreadableEnvelope, UnicodeDecodeError) as error:
        raise _refused(folder, f"{SIGNATURE} is no signature ({error})") from None
    except UnsignedEnvelope:
        raise _refused(folder, f"no trusted key has signed what {SIGNATURE} says") from None
    predicate = statement.get("predicate")
    if statement.get("predicateType") != PREDICATE_TYPE or not isinstance(predicate, dict):
        raise _refused(folder, f"{SIGNATURE} is signed, and says nothing of an adapter")
    signed = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
    for name in SIGNED:
        found = _sha256(folder / name)
        if signed.get(name) != found:
            raise _refused(folder, f"{name} has sha256 {found}, and {signed.get(name)} was signed")
    if predicate.get("adapter_id") != load_manifest(folder).adapter_id:
        raise _refused(folder, "another adapter was signed than the manifest describes")
    return predicate


def signed_by(folder: Path) -> str | None:
    """Id of the key that an adapter's signature names; None without a signature. It proves nothing by itself."""
    try:
        return str(json.loads((folder / SIGNATURE).read_text(encoding="utf-8"))["signatures"][0]["keyid"])
    except OSError:
        return None
    except (ValueError, LookupError, TypeError):
        raise _refused(folder, f"{SIGNATURE} is no signature") from None


def trusted_keys(pem: str) -> list[PublicKey]:
    """The public keys in a text of PEM: Ed25519, as ours are, or ECDSA.

    Raises:
        SpecificationError: there is none, or one of another kind.
    """
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    found: list[PublicKey] = []
    for block in _PEM.findall(pem):
        with suppress(ValueError):
            key = load_pem_public_key(block.encode())
            if isinstance(key, (Ed25519PublicKey, EllipticCurvePublicKey)):
                found.append(key)
                continue
        raise SpecificationError("A key to verify adapters with is no Ed25519 or ECDSA public key in PEM form.")
    if not found:
        raise SpecificationError("There is no public key in PEM form to verify adapters with.")
    return found


def verify_all(source: Path, pem: str) -> list[str]:
    """Names of the adapters in a folder that endpoints look at, once the signature of each holds.

    Raises:
        StorageError: one has none that does; nothing of the folder may be served.
        SpecificationError: there is no key.
    """
    keys = trusted_keys(pem)
    found = sorted(path for path in source.iterdir() if path.is_dir() and not path.name.startswith("."))
    for folder in found:
        verify_signature(folder, keys)
    return [folder.name for folder in found]


def _sha256(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise _refused(path.parent, f"{path.name} cannot be read ({error.strerror})") from None


def _refused(folder: Path, why: str) -> StorageError:
    return StorageError(
        f"Adapter {folder} is not served: {why}. Fetch it again from who published it; if it is as it should be, sign "
        "it where the key is: llm-platform adapter sign"
    )


def main(arguments: Sequence[str]) -> int:
    """Verify every adapter of a folder; the exit status."""
    source, pem = arguments
    try:
        verified = verify_all(Path(source), pem)
    except (PlatformError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{len(verified)} adapters of {source} are signed.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
