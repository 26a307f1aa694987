"""LoRA adapters of an endpoint, from the side of whoever publishes them.

A NIM reads a folder, `NIM_PEFT_SOURCE`: the name of each sub-folder is a model name that requests may ask for. It looks
there every `NIM_PEFT_REFRESH_INTERVAL` seconds, so publishing is writing a folder and waiting until the name answers.
`publish` and `retire` change that folder, `wait_served` asks the endpoints. Where a folder cannot be shared, `load` and
`unload` name a path that the endpoint itself can read; 1.x and hosted endpoints have no such call.

Source: NVIDIA NIM for LLMs, parameter-efficient fine-tuning, 1.15 and 2.1; vLLM 0.23, LoRA endpoints.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llm_platform.errors import EndpointUnavailable, RequestRejected, SpecificationError, StorageError
from llm_platform.nim.discovery import Client
from llm_platform.settings.connection import endpoint_root

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_NEEDED = ("adapter_config.json", "adapter_model.safetensors")
_POLL_SECONDS = 0.25
# A copy that took longer than this belongs to a process that died.
_STALE_SECONDS = 3600.0


def publish(folder: Path, source: Path, name: str, *, shared: bool = True) -> Path:
    """Make the adapter in `folder` (Hugging Face layout) appear in the PEFT source as `name`; the published folder.

    Written aside and renamed, so that an endpoint sees all of it or nothing, also when this process is killed.
    Publishing the same content again changes nothing; other content under a published name is refused, since a release
    pins a name.

    Args:
        folder: Holds `adapter_config.json` and `adapter_model.safetensors`; every other file in it is copied as well.
        source: The folder an endpoint watches; made if it is missing.
        name: What requests put into `model`.
        shared: Whether the endpoint runs as another user, who has to read it.

    Raises:
        SpecificationError: the name cannot be a folder and a model name, or `folder` is not an adapter.
        StorageError: the source cannot be written, or holds another adapter of this name.
    """
    _check_name(name)
    missing = [file for file in _NEEDED if not (folder / file).is_file()]
    if missing:
        raise SpecificationError(f"Could not publish {str(folder)!r} as {name!r}: no {', '.join(missing)} there.")
    target = source / name
    if target.exists():
        return _same(folder, target)
    try:
        source.mkdir(parents=True, exist_ok=True)
        _sweep(source, name)
        aside = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=source))
        _copy(folder, aside, shared=shared)
        try:
            aside.rename(target)
        except OSError:
            # Somebody else was quicker; what counts is whether it is the same.
            shutil.rmtree(aside)
            return _same(folder, target)
    except OSError as error:
        raise StorageError(
            f"Could not publish adapter {name!r} to {str(source)!r}: {error.strerror or error}. "
            "Free space there, or make it writable."
        ) from error
    return target


def retire(source: Path, name: str) -> bool:
    """Take an adapter out of the PEFT source; whether it was there. Requests that run with it finish.

    Raises:
        StorageError: it cannot be removed.
    """
    _check_name(name)
    target = source / name
    if not target.exists():
        return False
    try:
        aside = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=source))
        target.rename(aside / name)
        shutil.rmtree(aside)
    except OSError as error:
        raise StorageError(f"Could not retire {str(target)!r}: {error.strerror or error}. Make it writable.") from error
    return True


def served_adapters(base_url: str, client: Client) -> dict[str, str]:
    """Name → base model of the adapters that an endpoint lists.

    Raises:
        EndpointUnavailable: it does not answer `/v1/models` with a list.
    """
    from llm_platform.nim.dialects import adapter_base

    cards = _cards(endpoint_root(base_url), client)
    names = [str(card.get("id")) for card in cards]
    bases = {str(card.get("id")): adapter_base(card, names) for card in cards}
    return {name: base for name, base in bases.items() if base is not None}


def wait_served(base_urls: Sequence[str], name: str, client: Client, *, deadline_seconds: float = 120.0) -> None:
    """Return once every endpoint lists the adapter and has generated one token with it.

    A listed adapter may still fail to load; only a token proves that it serves.

    Args:
        base_urls: Roots of the endpoints, with or without `/v1`.
        name: The name it was published under.
        client: `llm_platform.nim.http.EndpointClient` is one.
        deadline_seconds: All endpoints together; take the endpoint's refresh interval and loading time into account.

    Raises:
        EndpointUnavailable: at the deadline; names the endpoint and the last state it was in.
    """
    deadline = time.monotonic() + deadline_seconds
    for base_url in base_urls:
        root = endpoint_root(base_url)
        while (state := _state(root, name, client)) is not None:
            if time.monotonic() >= deadline:
                raise EndpointUnavailable(
                    f"{root} does not serve adapter {name!r} after {deadline_seconds:g} s. Last state: {state}. "
                    "Look at the endpoint's log, and whether it watches the folder that was published to."
                )
            time.sleep(_POLL_SECONDS)


def seen(base_urls: Sequence[str], name: str, client: Client) -> dict[str, dict[str, Any]]:
    """Endpoint → what it says of what it serves under a name; empty where it lists nothing of that name.

    The embedded NIM says which files it has read (`files`, by SHA-256) and how often the name was given something else
    to stand for; others say where they read it from, and on which base.

    Raises:
        EndpointUnavailable: one does not answer.
    """
    found = {}
    for root in map(endpoint_root, base_urls):
        status, body = client.get(f"{root}/v1/adapters")
        listed = _mapping(body).get("adapters") if status == 200 else None
        if isinstance(listed, dict):
            said = listed.get(name)
        else:
            card = next((card for card in _cards(root, client) if card.get("id") == name), {})
            said = {key: card[key] for key in ("root", "parent") if key in card}
        found[root] = said if isinstance(said, dict) else {}
    return found


def load(base_url: str, name: str, path: str, client: Client, *, in_place: bool = False) -> None:
    """Load an adapter through the API from a path that the endpoint can read; one that is loaded already stays.

    Args:
        base_url: Root of the endpoint.
        name: What requests put into `model`.
        path: Folder in Hugging Face layout, as the endpoint sees it.
        client: `llm_platform.nim.http.EndpointClient` is one.
        in_place: Replace what is loaded under this name.

    Raises:
        RequestRejected: the endpoint has no such call, no adapter at that path, or cannot take it.
        EndpointUnavailable: nothing answers.
    """
    payload: dict[str, Any] = {"lora_name": name, "lora_path": path, "load_inplace": in_place}
    status, body = client.post(f"{endpoint_root(base_url)}/v1/load_lora_adapter", payload)
    if status == 200 or (status == 400 and b"already been loaded" in body):
        return
    raise RequestRejected(_refused(f"load adapter {name!r} from {path!r} into {base_url}", status, body))


def unload(base_url: str, name: str, client: Client) -> bool:
    """Unload an adapter through the API; false when the endpoint had none of this name.

    Raises:
        RequestRejected: the endpoint has no such call, or refused.
        EndpointUnavailable: nothing answers.
    """
    status, body = client.post(f"{endpoint_root(base_url)}/v1/unload_lora_adapter", {"lora_name": name})
    if status == 200:
        return True
    if status == 404 and b"cannot be found" in body:
        return False
    raise RequestRejected(_refused(f"unload adapter {name!r} from {base_url}", status, body))


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise SpecificationError(
            f"Could not use {name!r} as the name of an adapter: it is a folder and a model name at once. "
            "Use letters, digits, '.', '_' and '-', at most 128, beginning with a letter or digit."
        )


def _same(folder: Path, target: Path) -> Path:
    """The published folder, when it has the content of `folder`."""
    wanted, found = _content(folder), _content(target)
    if wanted != found:
        raise StorageError(
            f"Could not publish {str(folder)!r} as {target.name!r}: {str(target)!r} holds another adapter "
            f"(content {found}, wanted {wanted}). Use a new name, or retire the old adapter first."
        )
    return target


def _content(folder: Path) -> str:
    """Hash of the two files that decide what is served."""
    digest = hashlib.sha256()
    for file in _NEEDED:
        path = folder / file
        digest.update(hashlib.sha256(path.read_bytes()).digest() if path.is_file() else b"missing")
    return digest.hexdigest()[:16]


def _copy(folder: Path, aside: Path, *, shared: bool) -> None:
    """Copy the files, readable for the user an endpoint runs as, and on disk before they get their name."""
    aside.chmod(0o755 if shared else 0o700)
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            copied = aside / path.name
            shutil.copyfile(path, copied)
            copied.chmod(0o644 if shared else 0o600)
            with copied.open("rb") as stream:
                os.fsync(stream.fileno())


def _sweep(source: Path, name: str) -> None:
    """Remove what a killed process left half-written under this name."""
    for path in source.glob(f".{name}.*"):
        if path.is_dir() and time.time() - path.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def _state(root: str, name: str, client: Client) -> str | None:
    """What is missing before the endpoint serves the adapter; None when nothing is."""
    try:
        listed = [str(card.get("id")) for card in _cards(root, client)]
        if name not in listed:
            return f"/v1/models lists {', '.join(map(repr, listed)) or 'nothing'}{_reason(root, name, client)}"
        payload = {"model": name, "prompt": "1", "max_tokens": 1, "temperature": 0}
        status, body = client.post(f"{root}/v1/completions", payload)
    except EndpointUnavailable as error:
        return str(error)
    usage = _mapping(body).get("usage")
    if status != 200 or not isinstance(usage, dict) or not usage.get("completion_tokens"):
        return f"it is listed, but one token was asked for and HTTP {status} came back"
    return None


def _reason(root: str, name: str, client: Client) -> str:
    """Where the embedded NIM says why it refuses the adapter; other endpoints do not say."""
    status, body = client.get(f"{root}/v1/adapters")
    refused = _mapping(body).get("refused") if status == 200 else None
    if not isinstance(refused, dict) or not refused.get(name):
        return ""
    return f"; it refuses {name!r}, and says why at {root}/v1/adapters"


def _cards(root: str, client: Client) -> list[dict[str, Any]]:
    status, body = client.get(f"{root}/v1/models")
    cards = _mapping(body).get("data") if status == 200 else None
    if not isinstance(cards, list):
        raise EndpointUnavailable(f"{root}/v1/models answered HTTP {status} without a list of models.")
    return [card for card in cards if isinstance(card, dict)]


def _mapping(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _refused(what: str, status: int, body: bytes) -> str:
    if status in (404, 405) and b"detail" in body:
        return f"Could not {what}: it has no such call (HTTP {status}). Publish to the folder it watches instead."
    return f"Could not {what}: HTTP {status}. Its log says why."
