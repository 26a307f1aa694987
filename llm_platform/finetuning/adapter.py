"""An adapter's folder: Hugging Face layout, `manifest.json`, and a model card.

<adapter_id>/adapter_config.json  adapter_model.safetensors  manifest.json  README.md
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from llm_platform.errors import EndpointMismatch, SpecificationError, StorageError
from llm_platform.files import file_sha256
from llm_platform.finetuning.model_card import model_card
from llm_platform.records import AdapterManifest, ModelPin

MANIFEST = "manifest.json"
CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
CARD = "README.md"
FILES = (CONFIG, WEIGHTS)

NEMO_EXPORT = (
    'Export it first, in an environment with NeMo 2: python -c "from nemo.collections import llm; llm.export_ckpt('
    "path='ARCHIVE', target='hf-peft', output_path='FOLDER')\", then import FOLDER"
)


def load_manifest(folder: Path) -> AdapterManifest:
    """The manifest of an adapter's folder.

    Raises:
        StorageError: there is none, or it cannot be read as one.
    """
    try:
        return AdapterManifest.model_validate_json((folder / MANIFEST).read_text(encoding="utf-8"))
    except OSError as error:
        raise StorageError(
            f"{folder} is no adapter of this platform: {MANIFEST} cannot be read ({error.strerror}). "
            "Import a folder in Hugging Face layout with: llm-platform adapter import"
        ) from error
    except ValidationError as error:
        first = ".".join(map(str, error.errors()[0]["loc"]))
        raise StorageError(
            f"{folder / MANIFEST} is no manifest of this version: {error.error_count()} fields differ (first: "
            f"{first!r}). Train or import the adapter again."
        ) from error


def verify(folder: Path, base: ModelPin) -> AdapterManifest:
    """The manifest, after holding the folder's files against it and its base against the one that is to serve it.

    A changed manifest has another id than the folder's name, a changed file another hash than its manifest says.

    Raises:
        StorageError: a file or the manifest is not what it was; the message has both hashes.
        EndpointMismatch: the adapter was trained on another base; the message has both hashes.
    """
    manifest = load_manifest(folder)
    for name in FILES:
        found, expected = _sha256(folder / name), manifest.files.get(name)
        if found != expected:
            raise StorageError(
                f"Adapter {folder}: {name} has sha256 {found}, and its manifest says {expected}. The file was "
                "changed or damaged; fetch the adapter again or train it anew."
            )
    if manifest.adapter_id != folder.name:
        raise StorageError(
            f"Adapter {folder}: its manifest has the identity {manifest.adapter_id}, and the folder is named "
            f"{folder.name}. The manifest was changed; fetch the adapter again or train it anew."
        )
    trained, served = base_identity(manifest.base), base_identity(base)
    if trained != served:
        raise EndpointMismatch(
            f"Adapter {manifest.adapter_id} was made for the base {trained}, and model {base.entry!r} is {served}. An "
            "adapter fits one base only: train it again on this one, or serve that one."
        )
    return manifest


def base_identity(pin: ModelPin) -> str:
    """What of a pin an adapter has to agree with: the weights' hash, else the image and profile that hold them."""
    return pin.weights_sha256 or f"{pin.image or pin.served_name} {pin.profile or ''}".strip()


@contextmanager
def new_adapter(parent: Path) -> Iterator[Path]:
    """A folder to write an adapter into; see `finish`. What is left of it afterwards is removed.

    Raises:
        StorageError: it cannot be made or written.
    """
    aside = parent / f".adapter.{os.getpid()}"
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        yield aside
    except OSError as error:
        raise StorageError(
            f"Tried to write an adapter to {parent}: {error.strerror}. Check space and rights."
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def finish(aside: Path, manifest: AdapterManifest) -> Path:
    """Write manifest and card beside the weights, and give the folder its name; an equal adapter is left as it is."""
    (aside / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (aside / CARD).write_text(model_card(manifest), encoding="utf-8")
    folder = aside.parent / manifest.adapter_id
    if not folder.exists():
        aside.rename(folder)
    return folder


def hashes(folder: Path) -> dict[str, str]:
    """sha256 of the files that are the adapter."""
    return {name: _sha256(folder / name) for name in FILES}


def import_adapter(
    source: Path, folder: Path, *, application: str, name: str, base: ModelPin, note: str = ""
) -> AdapterManifest:
    """Copy an adapter that was trained elsewhere into `folder`, with a manifest of what is known about it.

    Args:
        source: A folder in Hugging Face layout.
        folder: The parent of adapter folders; the adapter goes to `folder / adapter_id`.
        base: The model of the lock file that it is to run on.
        note: Where it comes from, for the manifest.

    Raises:
        SpecificationError: it is a NeMo archive (the message names the export step), or not a LoRA adapter.
        StorageError: it cannot be read or copied.
    """
    _refuse_archives(source)
    config = _lora_config(source)
    with new_adapter(folder) as aside:
        for file in FILES:
            shutil.copyfile(source / file, aside / file)
        manifest = AdapterManifest(
            application=application,
            name=name,
            base=base,
            base_sha256=base.weights_sha256 or "",
            files=hashes(aside),
            imported_from=note or source.name,
            libraries={"peft": str(config["peft_version"])} if config.get("peft_version") else {},
            created_at=datetime.now(UTC),
        )
        finish(aside, manifest)
    return manifest


def _lora_config(source: Path) -> dict[str, Any]:
    """The adapter's configuration, after checking that this is a LoRA adapter whose weights are whole."""
    missing = [name for name in FILES if not (source / name).is_file()]
    if missing:
        raise SpecificationError(
            f"{source} is no adapter in Hugging Face layout: it has no {' and no '.join(missing)}. "
            "Give the folder that PEFT's save_pretrained wrote."
        )
    try:
        config: Any = json.loads((source / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SpecificationError(f"{source / CONFIG} is not a JSON file: {error}.") from error
    if not isinstance(config, dict):
        config = {}
    kind = config.get("peft_type")
    if kind != "LORA" or not isinstance(config.get("r"), int) or not config.get("target_modules"):
        raise SpecificationError(
            f"{source / CONFIG} describes {kind or 'no adapter'!r} with rank {config.get('r')!r}; "
            "only LoRA adapters with 'r' and 'target_modules' are served."
        )
    with (source / WEIGHTS).open("rb") as file:
        size, head = int.from_bytes(file.read(8), "little"), file.read(1)
    if head != b"{" or size + 8 > (source / WEIGHTS).stat().st_size:
        raise SpecificationError(f"{source / WEIGHTS} is not a whole safetensors file. Copy it again.")
    return dict(config)


def _refuse_archives(source: Path) -> None:
    export = NEMO_EXPORT.replace("ARCHIVE", str(source))
    if source.is_dir() and ((source / "weights").is_dir() and (source / "context").is_dir()):
        raise SpecificationError(f"{source} is a NeMo 2 checkpoint. {export}.")
    if source.is_file():
        packed = tarfile.is_tarfile(source) or zipfile.is_zipfile(source)
        if source.suffix == ".nemo" or (packed and _has_nemo_config(source)):
            raise SpecificationError(f"{source} is a NeMo archive. {export}.")
        raise SpecificationError(
            f"{source} is a file; an adapter in Hugging Face layout is a folder with {' and '.join(FILES)}."
        )


def _has_nemo_config(source: Path) -> bool:
    if not tarfile.is_tarfile(source):
        return False
    with tarfile.open(source) as archive:
        return any(name.endswith("model_config.yaml") for name in archive.getnames())


def _sha256(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise StorageError(
            f"Adapter file {path} cannot be read: {error.strerror}. Fetch the adapter again or train it anew."
        ) from error
