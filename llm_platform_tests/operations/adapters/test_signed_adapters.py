"""An adapter says who published it, and one that does not, or not any more, is refused at every door."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_platform.errors import SpecificationError, StorageError
from llm_platform.finetuning.adapter import import_adapter
from llm_platform.finetuning.signature import SIGNATURE, verify_signature
from llm_platform.nim.adapters import publish
from llm_platform.nim.manifests.adapters import verification
from llm_platform.operations.adapters.adapters import AdapterFolders, serve_adapter
from llm_platform.records import AdapterManifest, Release
from llm_platform.resources.handed import adapter_bytes, adapter_folders, pod_settings, serving_of
from llm_platform.settings.settings import Settings
from llm_platform.signing.keys import signing_key
from llm_platform_tests.contracts.builders import release
from llm_platform_tests.nim.manifests.cases import LLAMA
from llm_platform_tests.operations.adapters.test_adapters import ENTRY, PIN
from llm_platform_tests.servers.scripted import ScriptedServer
from llm_platform_tests.tiny_model import layout


class Made:
    """A deployment that trusts its own key, with one adapter that it has signed."""

    def __init__(self, root: Path) -> None:
        self.key = root / "keys" / "signing.pem"
        self.public = root / "trusted.pem"
        self.public.write_text(signing_key(self.key, make=True).public_pem)
        self.settings = Settings(
            state=root / "state",
            namespace="test",
            nim_peft_source=root / "peft",
            signing_key=self.key,
            adapter_keys=self.public,
        )
        self.folders: AdapterFolders = adapter_folders(self.settings)
        self.manifest: AdapterManifest = import_adapter(
            layout(root / "elsewhere"), self.folders.folder, application="tickets", name="mood", base=PIN
        )
        self.folders.sign(self.manifest.adapter_id)

    @property
    def folder(self) -> Path:
        return self.folders.path(self.manifest.adapter_id)

    def serve(self, url: str) -> None:
        serve_adapter(
            ENTRY,
            serving=serving_of(self.settings),
            folders=self.folders,
            name="mood",
            adapter_id=self.manifest.adapter_id,
            base=PIN,
            base_urls=[url],
        )


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


def _changed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(bytes(content))


def _of_another_key(made: Made) -> None:
    made.folders.sign(made.manifest.adapter_id, key=_other_key(made.key.parent))


def _other_key(folder: Path) -> Path:
    signing_key(folder / "other.pem", make=True)
    return folder / "other.pem"


CHANGES: dict[str, Callable[[Made], object]] = {
    "weights": lambda made: _changed(made.folder / "adapter_model.safetensors"),
    "configuration": lambda made: _changed(made.folder / "adapter_config.json"),
    "manifest": lambda made: _changed(made.folder / "manifest.json"),
    "signature": lambda made: _changed(made.folder / SIGNATURE),
    "no-signature": lambda made: (made.folder / SIGNATURE).unlink(),
    "another-key": _of_another_key,
}


def test_a_signed_adapter_goes_through_every_door(made: Made, tmp_path: Path) -> None:
    """The table below changes one thing, so what it changes must be right; the signature goes along to the pods."""
    with ScriptedServer(peft_source=tmp_path / "peft") as model:
        made.serve(model.url)
    adapter_bytes(made.settings)(_release_of(made))

    assert _verifier(made, tmp_path / "peft").returncode == 0
    said = verify_signature(tmp_path / "peft" / "mood", [signing_key(made.key).private.public_key()])
    assert (said["application"], said["adapter_id"]) == ("tickets", made.manifest.adapter_id)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_byte_is_refused_at_every_door(made: Made, tmp_path: Path, change: Callable[[Made], object]) -> None:
    """Serving, promoting and taking an adapter as it is all stand on the same bytes by the same person."""
    publish(made.folder, tmp_path / "peft", "mood")
    before = _verifier(made, tmp_path / "peft")
    change(made)

    with pytest.raises(StorageError):
        made.serve("http://127.0.0.1:9")
    with pytest.raises(StorageError):
        adapter_bytes(made.settings)(_release_of(made))
    for name in ("adapter_model.safetensors", "adapter_config.json", "manifest.json", SIGNATURE):
        target = tmp_path / "peft" / "mood" / name
        source = made.folder / name
        target.write_bytes(source.read_bytes()) if source.exists() else target.unlink()
    found = _verifier(made, tmp_path / "peft")

    assert before.returncode == 0
    assert found.returncode == 1
    assert "is not served" in found.stderr or "no manifest" in found.stderr


def test_an_adapter_that_is_made_anew_under_the_same_name_needs_the_key(made: Made) -> None:
    """Who can write the store can write a manifest that fits other weights, and cannot sign it."""
    weights = made.folder / "adapter_model.safetensors"
    _changed(weights)
    manifest = json.loads((made.folder / "manifest.json").read_text())
    import hashlib

    manifest["files"]["adapter_model.safetensors"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    (made.folder / "manifest.json").write_text(json.dumps(manifest))
    forged = AdapterManifest.model_validate(manifest)
    target = made.folder.with_name(forged.adapter_id)
    made.folder.rename(target)

    with pytest.raises(StorageError, match=r"has sha256 .* and .* was signed"):
        made.folders.find(forged.adapter_id, PIN)


def test_adapters_from_before_there_were_signatures_go_on_being_served(made: Made) -> None:
    """Where nobody said which keys count, only our own signature is held to what it says."""
    easy = adapter_folders(made.settings.model_copy(update={"adapter_keys": None}))
    _of_another_key(made)
    assert easy.find(made.manifest.adapter_id, PIN) == made.folder
    (made.folder / SIGNATURE).unlink()
    assert easy.find(made.manifest.adapter_id, PIN) == made.folder

    easy.sign(made.manifest.adapter_id)
    _changed(made.folder / SIGNATURE)
    with pytest.raises(StorageError):
        easy.find(made.manifest.adapter_id, PIN)


def test_pods_verify_with_an_image_of_the_platform_or_say_what_is_missing(made: Made) -> None:
    """A pod that is to verify and has no key would start with anything."""
    model = LLAMA
    image = "registry/llm-platform@sha256:" + "ab" * 32
    named = made.settings.model_copy(update={"nim_verifier_image": image})

    found = verification(model, pod_settings(named, "nim"))

    assert found is not None
    assert found[0] == image
    assert found[1][-2:] == [model.adapters_folder, made.public.read_text()]
    assert verification(model, pod_settings(made.settings, "nim")) is None
    without = named.model_copy(update={"adapter_keys": None})
    with pytest.raises(SpecificationError, match="LLM_PLATFORM_ADAPTER_KEYS"):
        verification(model, pod_settings(without, "nim"))


def _release_of(made: Made) -> Release:
    plain = release({"vendor": {"type": "string"}})
    return plain.model_copy(update={"model": PIN, "adapter": made.manifest.adapter_id})


def _verifier(made: Made, source: Path) -> subprocess.CompletedProcess[str]:
    """What the init container of a pod runs."""
    found = verification(
        LLAMA, pod_settings(made.settings.model_copy(update={"nim_verifier_image": "platform"}), "nim")
    )
    assert found is not None
    _, command = found
    arguments = [str(source) if one == LLAMA.adapters_folder else one for one in command[1:]]
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
