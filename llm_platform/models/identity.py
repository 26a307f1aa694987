"""What an endpoint says it is, and how that differs from the lock file.

Endpoints differ in how much they say: a NIM has `/v1/metadata` and `/v1/version`, a bare vLLM has neither. What is not
said is not a mismatch; `unverified` lists it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from llm_platform.errors import EndpointUnavailable
from llm_platform.models.entries import LockEntry
from llm_platform.records import Record, content_hash

Fetch = Callable[[str], tuple[int, bytes]]
"""URL → status and body of a GET; raises `EndpointUnavailable` when nothing answers."""

_SHA256 = re.compile(r"sha256:([0-9a-f]{64})\b")


class ServedModel(Record):
    """One card of `/v1/models`.

    `base` is the model an adapter belongs to: `parent` in the 2.x dialect, `root` in 1.x; None for a base model.
    """

    id: str
    base: str | None = None
    max_model_len: int | None = None


class ServedIdentity(Record):
    """What one endpoint says it is.

    Attributes:
        release: NIM release, from `/v1/version` or `/v1/metadata`.
        profile: `selectedModelProfileId`.
        assets: `assetInfo`, which in the embedded NIM names the weights file and its sha256.
        licence: Name and checksum of the licence text, where given.
    """

    base_url: str
    models: tuple[ServedModel, ...]
    release: str | None = None
    profile: str | None = None
    assets: tuple[str, ...] = ()
    model_urls: tuple[str, ...] = ()
    licence: str | None = None
    has_metadata: bool = False

    @property
    def identity_hash(self) -> str:
        """Hash of what is served; the address is not part of it, so replicas agree."""
        return content_hash(self.model_dump(mode="json", exclude={"base_url"}))


def observe(base_url: str, fetch: Fetch) -> ServedIdentity:
    """Ask an endpoint what it is.

    Raises:
        EndpointUnavailable: nothing answers, or `/v1/models` is not a list of models.
    """
    root = base_url.rstrip("/").removesuffix("/v1")
    status, body = fetch(f"{root}/v1/models")
    cards = _json(body).get("data") if status == 200 else None
    if not isinstance(cards, list):
        raise EndpointUnavailable(
            f"Asked {root}/v1/models which models it serves: HTTP {status}, and no list of models in the body. "
            "Check that the address is the root of an OpenAI-compatible endpoint, and its key."
        )
    metadata = _optional(fetch, f"{root}/v1/metadata")
    version = _optional(fetch, f"{root}/v1/version")
    licence = _mapping(metadata.get("licenseInfo")) or _optional(fetch, f"{root}/v1/license")
    release = version.get("release") or metadata.get("version")
    profile = metadata.get("selectedModelProfileId")
    return ServedIdentity(
        base_url=root,
        models=tuple(sorted((_card(card) for card in cards if "id" in _mapping(card)), key=lambda card: card.id)),
        release=str(release) if release else None,
        profile=str(profile) if profile else None,
        assets=tuple(str(asset) for asset in _list(metadata.get("assetInfo"))),
        model_urls=tuple(str(_mapping(info).get("modelUrl")) for info in _list(metadata.get("modelInfo"))),
        licence=_licence(licence),
        has_metadata=bool(metadata),
    )


def mismatches(entry: LockEntry, identity: ServedIdentity) -> list[str]:
    """Sentences, one for each way in which an endpoint is not what the entry pins; empty when it matches."""
    found: list[str] = []
    served = next((model for model in identity.models if model.id == entry.served_name), None)
    if served is None:
        there = ", ".join(repr(model.id) for model in identity.models) or "no model"
        found.append(f"{entry.served_name!r} is not served; the endpoint lists {there}")
    elif served.max_model_len is not None and served.max_model_len < entry.context_length:
        found.append(f"context length is {served.max_model_len}, locked {entry.context_length}")
    if entry.profile and identity.profile and entry.profile != identity.profile:
        found.append(f"profile is {identity.profile}, locked {entry.profile}")
    if entry.release and identity.release and entry.release != identity.release:
        found.append(f"release is {identity.release!r}, locked {entry.release!r}")
    found.extend(_weights_mismatch(entry, identity))
    where = f"{identity.base_url} is not {entry.name!r} of the lock file: "
    return [f"{where}{sentence}." for sentence in found]


def unverified(entry: LockEntry, identity: ServedIdentity) -> list[str]:
    """What the entry pins and the endpoint does not say, by name."""
    served = next((model for model in identity.models if model.id == entry.served_name), None)
    said = {
        "profile": (entry.profile, identity.profile),
        "release": (entry.release, identity.release),
        "weights": (entry.weights, _hashes(identity) or None),
        "context_length": (entry.context_length, served.max_model_len if served else None),
        "image": (entry.image, None),
    }
    return [name for name, (locked, observed) in said.items() if locked is not None and observed is None]


def _weights_mismatch(entry: LockEntry, identity: ServedIdentity) -> list[str]:
    if entry.weights is None:
        return []
    hashes = _hashes(identity)
    if hashes and entry.weights.sha256 not in hashes:
        return [f"weights have sha256 {', '.join(sorted(hashes))}, locked {entry.weights.sha256}"]
    if not hashes and entry.mode == "embedded":
        return [f"it does not say which weights it serves, locked sha256 {entry.weights.sha256}"]
    return []


def _hashes(identity: ServedIdentity) -> set[str]:
    return {found for asset in identity.assets for found in _SHA256.findall(asset)}


def _card(card: dict[str, Any]) -> ServedModel:
    model_id = str(card["id"])
    root, parent = card.get("root"), card.get("parent")
    # The root of a 2.x base model is a path; only a root that is another model's id names a base.
    base = parent or (root if root and root != model_id and not str(root).startswith("/") else None)
    limit = card.get("max_model_len")
    return ServedModel(id=model_id, base=base, max_model_len=limit if isinstance(limit, int) else None)


def _optional(fetch: Fetch, url: str) -> dict[str, Any]:
    status, body = fetch(url)
    return _json(body) if status == 200 else {}


def _json(body: bytes) -> dict[str, Any]:
    try:
        return _mapping(json.loads(body))
    except ValueError:
        return {}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _licence(info: dict[str, Any]) -> str | None:
    words = [str(info[key]) for key in ("name", "sha") if info.get(key)]
    return " ".join(words) or None
