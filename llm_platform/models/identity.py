"""What an endpoint says it is, and how that differs from the lock file.

Endpoints differ in how much they say: a NIM has `/v1/metadata` and `/v1/version`, a bare vLLM only `/version`. What is
not said is not a mismatch; `compare` has it as observed None.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from llm_platform.errors import EndpointUnavailable
from llm_platform.models.entries import LockEntry
from llm_platform.records import Record, content_hash
from llm_platform.settings.connection import endpoint_root

Fetch = Callable[[str], tuple[int, bytes]]
"""URL → status and body of a GET; raises `EndpointUnavailable` when nothing answers."""

_VERSION = re.compile(r"(?<![\w.])v?(\d+\.[\w.+-]*\w)")
_SHA256 = re.compile(r"sha256:([0-9a-f]{64})\b")


class ListedModel(Record):
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
        engine: Inference engine and its version, of a bare one that says it under `/version`.
        profile: `selectedModelProfileId`.
        assets: `assetInfo`, which in the embedded NIM names the weights file and its sha256.
        licence: Name and checksum of the licence text, where given.
        has_metadata: Whether there is a `/v1/metadata`; kept because stored hashes cover it.
    """

    base_url: str
    models: tuple[ListedModel, ...]
    release: str | None = None
    engine: str | None = None
    profile: str | None = None
    assets: tuple[str, ...] = ()
    model_urls: tuple[str, ...] = ()
    licence: str | None = None
    has_metadata: bool = False

    @property
    def identity_hash(self) -> str:
        """Hash of what is served; the address is not part of it, so replicas agree."""
        said = self.model_dump(mode="json", exclude={"base_url"})
        if self.engine is None:
            # Endpoints that do not say it are what they were before it was asked for.
            del said["engine"]
        # Adapters come and go beside a base model; a release names its own by content.
        said["models"] = [model for model in said["models"] if model["base"] is None]
        return content_hash(said)


def observe(base_url: str, fetch: Fetch) -> ServedIdentity:
    """Ask an endpoint what it is.

    Raises:
        EndpointUnavailable: nothing answers, or `/v1/models` is not a list of models.
    """
    root = endpoint_root(base_url)
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
    # A NIM names its own release, which decides more than the engine's does.
    engine = _optional(fetch, f"{root}/version").get("version") if not release and not metadata else None
    return ServedIdentity(
        base_url=root,
        models=tuple(sorted((_card(card) for card in cards if "id" in _mapping(card)), key=lambda card: card.id)),
        release=str(release) if release else None,
        engine=f"vLLM {engine}" if isinstance(engine, str) and engine else None,
        profile=str(profile) if profile else None,
        assets=tuple(str(asset) for asset in _list(metadata.get("assetInfo"))),
        model_urls=tuple(str(_mapping(info).get("modelUrl")) for info in _list(metadata.get("modelInfo"))),
        licence=_licence(licence),
        has_metadata=bool(metadata),
    )


class PinComparison(Record):
    """One thing that an entry pins, beside what an endpoint says about it.

    Attributes:
        observed: None where the endpoint does not say.
        difference: How the two disagree, in words; None where they do not.
    """

    name: str
    locked: str
    observed: str | None
    difference: str | None = None


def compare(entry: LockEntry, identity: ServedIdentity) -> list[PinComparison]:
    """What the entry pins and an endpoint may say, one by one."""
    said = [_served(entry, identity), _context(entry, identity)]
    for name, locked, observed in (
        ("profile", entry.profile, identity.profile),
        ("release", entry.release, identity.release),
    ):
        if locked is not None:
            differs = observed is not None and observed != locked
            found = f"{name} is {observed!r}, locked {locked!r}" if differs else None
            said.append(PinComparison(name=name, locked=locked, observed=observed, difference=found))
    if entry.engine is not None and (identity.engine is not None or entry.dialect == "vllm"):
        said.append(_engine(entry.engine, identity.engine))
    if entry.weights is not None:
        said.append(_weights(entry, entry.weights.sha256, identity))
    if entry.image is not None:
        said.append(PinComparison(name="image", locked=entry.image.reference, observed=None))
    return said


def mismatches(entry: LockEntry, identity: ServedIdentity) -> list[str]:
    """Sentences, one for each way in which an endpoint is not what the entry pins; empty when it matches."""
    differences = [one.difference for one in compare(entry, identity) if one.difference is not None]
    return [mismatch(entry, identity.base_url, difference) for difference in differences]


def mismatch(entry: LockEntry, base_url: str, difference: str) -> str:
    """One difference as a sentence."""
    return f"{base_url} is not {entry.name!r} of the lock file: {difference}."


def _card_of(entry: LockEntry, identity: ServedIdentity) -> ListedModel | None:
    return next((model for model in identity.models if model.id == entry.served_name), None)


def _served(entry: LockEntry, identity: ServedIdentity) -> PinComparison:
    there = ", ".join(repr(model.id) for model in identity.models) or "no model"
    missing = f"{entry.served_name!r} is not served; the endpoint lists {there}"
    difference = missing if _card_of(entry, identity) is None else None
    return PinComparison(name="served_name", locked=entry.served_name, observed=there, difference=difference)


def _context(entry: LockEntry, identity: ServedIdentity) -> PinComparison:
    card = _card_of(entry, identity)
    length = card.max_model_len if card is not None else None
    shorter = length is not None and length < entry.context_length
    return PinComparison(
        name="context_length",
        locked=str(entry.context_length),
        observed=None if length is None else str(length),
        difference=f"context length is {length}, locked {entry.context_length}" if shorter else None,
    )


def same_engine(locked: str, observed: str) -> bool:
    """Whether `engine` of an entry, which people write, names the version that an endpoint says, or no version."""
    versions = _VERSION.findall(locked)
    return not versions or bool(set(versions) & set(_VERSION.findall(observed)))


def _engine(locked: str, observed: str | None) -> PinComparison:
    differs = observed is not None and not same_engine(locked, observed)
    found = f"engine is {observed!r}, locked {locked!r}" if differs else None
    return PinComparison(name="engine", locked=locked, observed=observed, difference=found)


def _weights(entry: LockEntry, locked: str, identity: ServedIdentity) -> PinComparison:
    hashes = _hashes(identity)
    difference = None
    if hashes and locked not in hashes:
        difference = f"weights have sha256 {', '.join(sorted(hashes))}, locked {locked}"
    if not hashes and entry.mode == "embedded":
        difference = f"it does not say which weights it serves, locked sha256 {locked}"
    return PinComparison(
        name="weights", locked=locked, observed=", ".join(sorted(hashes)) or None, difference=difference
    )


def _hashes(identity: ServedIdentity) -> set[str]:
    return {found for asset in identity.assets for found in _SHA256.findall(asset)}


def _card(card: dict[str, Any]) -> ListedModel:
    model_id = str(card["id"])
    root, parent = card.get("root"), card.get("parent")
    # The root of a 2.x base model is a path; only a root that is another model's id names a base.
    base = parent or (root if root and root != model_id and not str(root).startswith("/") else None)
    limit = card.get("max_model_len")
    return ListedModel(id=model_id, base=base, max_model_len=limit if isinstance(limit, int) else None)


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
