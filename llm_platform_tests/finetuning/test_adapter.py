from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from llm_platform.errors import EndpointMismatch, SpecificationError, StorageError
from llm_platform.finetuning.adapter import FILES, MANIFEST, import_adapter, load_manifest, verify
from llm_platform.finetuning.curve import loss_curve
from llm_platform.records import AdapterManifest, ModelPin, TrainingMetrics, Validated

CONFIG = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], "peft_version": "0.21.2"}


def pin(sha256: str = "a" * 64) -> ModelPin:
    return ModelPin(entry="tiny", served_name="tiny", dialect="nim-2.x", weights_sha256=sha256, context_length=128)


def peft_folder(folder: Path, **config: object) -> Path:
    """What PEFT's save_pretrained leaves, with one small matrix."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **config}))
    header = json.dumps({"a.lora_A.weight": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}}).encode()
    (folder / "adapter_model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    return folder


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """Folder of an imported adapter."""
    source = peft_folder(tmp_path / "source")
    manifest = import_adapter(source, tmp_path / "adapters", application="tickets", name="mood", base=pin())
    return tmp_path / "adapters" / manifest.adapter_id


def test_an_imported_adapter_has_manifest_card_and_the_bytes_it_came_with(adapter: Path) -> None:
    """From here on nobody should have to know who trained it."""
    manifest = verify(adapter, pin())

    assert manifest.imported_from == "source"
    assert manifest.recipe is None
    assert {path.name for path in adapter.iterdir()} == {*FILES, MANIFEST, "README.md"}
    assert "Trained elsewhere" in (adapter / "README.md").read_text()


def test_importing_twice_gives_one_adapter(adapter: Path, tmp_path: Path) -> None:
    """The id is the content's: a second import must not make a sibling, nor fail."""
    again = import_adapter(tmp_path / "source", adapter.parent, application="tickets", name="other", base=pin())

    assert again.adapter_id == adapter.name
    assert [path.name for path in adapter.parent.iterdir()] == [adapter.name]


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_refused_with_both_hashes(adapter: Path, name: str) -> None:
    """Weights that nobody trained must not be served under a name that somebody evaluated."""
    expected = load_manifest(adapter).files[name]
    (adapter / name).write_bytes((adapter / name).read_bytes() + b" ")

    with pytest.raises(StorageError, match=rf"{name} has sha256 [0-9a-f]{{64}}, and its manifest says {expected}"):
        verify(adapter, pin())


def test_a_changed_manifest_is_refused_with_both_identities(adapter: Path) -> None:
    """Whoever can write the folder could rewrite the hashes, too; the folder's name is in the lake."""
    manifest = json.loads((adapter / MANIFEST).read_text())
    (adapter / MANIFEST).write_text(json.dumps({**manifest, "base_sha256": "b" * 64}))

    with pytest.raises(StorageError, match=f"has the identity [0-9a-f]{{16}}, and the folder is named {adapter.name}"):
        verify(adapter, pin())


def test_another_base_is_refused_with_both_hashes(adapter: Path) -> None:
    """On other weights an adapter answers without an error, and wrongly."""
    with pytest.raises(EndpointMismatch, match=f"base {'a' * 64}, and model 'tiny' is {'b' * 64}"):
        verify(adapter, pin("b" * 64))


def test_a_manifest_that_is_missing_or_of_another_shape_is_refused(adapter: Path) -> None:
    """A folder that was put there by hand is not an adapter of this platform."""
    (adapter / MANIFEST).write_text("{}")
    with pytest.raises(StorageError, match="no manifest of this version"):
        verify(adapter, pin())

    (adapter / MANIFEST).unlink()
    with pytest.raises(StorageError, match="llm-platform adapter import"):
        verify(adapter, pin())


def nemo_archive(folder: Path) -> Path:
    path = folder / "adapter.nemo"
    with tarfile.open(path, "w") as archive:
        content = b"peft: {}\n"
        entry = tarfile.TarInfo("./model_config.yaml")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return path


def nemo_2(folder: Path) -> Path:
    for name in ("weights", "context"):
        (folder / "checkpoint" / name).mkdir(parents=True)
    return folder / "checkpoint"


def cut_off(folder: Path) -> Path:
    source = peft_folder(folder / "cut")
    (source / "adapter_model.safetensors").write_bytes(b"\xff" * 4)
    return source


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(nemo_archive, r"is a NeMo archive\. Export it first.*hf-peft", id="nemo-archive"),
        pytest.param(nemo_2, r"is a NeMo 2 checkpoint\. Export it first", id="nemo-2-checkpoint"),
        pytest.param(lambda folder: folder, "no adapter_config.json and no adapter_model.safetensors", id="empty"),
        pytest.param(
            lambda folder: peft_folder(folder / "p", peft_type="PREFIX_TUNING"), "'PREFIX_TUNING'", id="not-lora"
        ),
        pytest.param(cut_off, "not a whole safetensors file", id="cut-off"),
    ],
)
def test_what_is_no_lora_adapter_is_refused_in_words(make: Callable[[Path], Path], said: str, tmp_path: Path) -> None:
    """People bring what their training wrote; the message has to name the next step."""
    with pytest.raises(SpecificationError, match=said):
        import_adapter(make(tmp_path), tmp_path / "adapters", application="tickets", name="mood", base=pin())

    assert not (tmp_path / "adapters").exists()


def test_the_id_follows_what_decides_the_weights_and_nothing_else() -> None:
    """A second training on another day must be the same adapter, one of other weights another."""
    manifest = AdapterManifest(
        application="tickets",
        name="mood",
        base=pin(),
        base_sha256="a" * 64,
        files={"adapter_model.safetensors": "c" * 64},
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )

    elsewhere = {"created_at": datetime(2026, 1, 2, tzinfo=UTC), "wall_seconds": 9.0, "name": "other"}
    assert manifest.model_copy(update=elsewhere).adapter_id == manifest.adapter_id
    for change in ({"files": {"adapter_model.safetensors": "d" * 64}}, {"base": pin("b" * 64)}, {"code_version": "2"}):
        assert manifest.model_copy(update=change).adapter_id != manifest.adapter_id


def test_the_curve_shows_training_validation_and_the_kept_step() -> None:
    """Whether a training was cut off, or went on too long, is seen before any figure is read."""
    metrics = TrainingMetrics(
        losses=((1, 0.7), (2, 0.5), (3, 0.4)),
        validations=(Validated(step=0, loss=0.7, accuracy=0.5), Validated(step=2, loss=0.45, accuracy=0.8)),
        best_step=2,
        steps=3,
        planned_steps=3,
    )

    svg = loss_curve(metrics)

    assert svg.count("<circle") == 2
    assert svg.count('fill="currentColor" stroke') == 1
    assert "kept step 2 with validation loss 0.450" in svg
    assert len(svg.split('points="')[1].split('"')[0].split()) == 3
    assert "<svg" in loss_curve(TrainingMetrics())
