"""Reading adapters as PEFT writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm_platform.errors import PlatformError, SpecificationError
from llm_platform.nim_local.adapters import BaseWeights, RankTooLarge, prepare, rotary_order
from llm_platform.nim_local.gguf_header import Header, read_header
from llm_platform.nim_local.peft import read_peft

from .adapters import random_adapter, random_tensors, write_adapter

LAYER = "base_model.model.model.layers.0"


@pytest.fixture(scope="session")
def header(weights: Path) -> Header:
    """The header of the real weights."""
    return read_header(weights)


@pytest.fixture
def small() -> dict[str, Any]:
    """One layer's tensors."""
    return random_tensors(1, layers=1)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_number_formats_are_read_as_the_library_reads_them(kind: str, small: dict[str, Any], tmp_path: Path) -> None:
    """Adapters come in all three; numpy knows no bfloat16."""
    import torch
    from safetensors.torch import load_file, save_file

    types = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    folder = write_adapter(tmp_path / "a", small)
    saved = {name: torch.from_numpy(values).to(types[kind]) for name, values in small.items()}
    save_file(saved, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    expected = load_file(folder / "adapter_model.safetensors")

    a, b = read_peft(folder).matrices[0, "k_proj"]

    assert np.array_equal(a, expected[f"{LAYER}.self_attn.k_proj.lora_A.weight"].float().numpy())
    assert np.array_equal(b, expected[f"{LAYER}.self_attn.k_proj.lora_B.weight"].float().numpy())


def test_rank_stabilized_scaling_is_kept(small: dict[str, Any], tmp_path: Path) -> None:
    """llama.cpp divides alpha by the rank; this kind of adapter divides by the root of it."""
    plain = read_peft(write_adapter(tmp_path / "plain", small, alpha=8))
    stabilized = read_peft(write_adapter(tmp_path / "stabilized", small, alpha=8, use_rslora=True))

    assert (plain.alpha / plain.rank, stabilized.alpha / stabilized.rank) == (2.0, 4.0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        pytest.param({"peft_type": "IA3"}, "'peft_type' is 'IA3'", id="other-method"),
        pytest.param({"use_dora": True}, "'use_dora' True", id="dora"),
        pytest.param({"modules_to_save": ["lm_head"]}, "'modules_to_save'", id="whole-modules"),
        pytest.param({"rank_pattern": {"q_proj": 2}}, "'rank_pattern'", id="ranks"),
        pytest.param({"alpha_pattern": {"q_proj": 2}}, "'alpha_pattern'", id="alphas"),
        pytest.param({"bias": "all"}, "'bias' 'all'", id="biases"),
        pytest.param({"init_lora_weights": "pissa_niter_4"}, "'init_lora_weights'", id="changed-base"),
        pytest.param({"lora_alpha": None}, "numbers are needed", id="no-alpha"),
        pytest.param({"r": 2}, "which is not rank 2", id="other-rank"),
    ],
)
def test_settings_that_cannot_be_served_are_refused(
    settings: dict[str, Any], said: str, small: dict[str, Any], tmp_path: Path
) -> None:
    """Left out in silence, they would make another adapter of the one that was evaluated."""
    folder = write_adapter(tmp_path / "a", small)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, **settings}))

    with pytest.raises(SpecificationError, match=said):
        read_peft(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({f"{LAYER}.self_attn.q_proj.lora_B.weight": None}, "only one of its two", id="half-a-pair"),
        pytest.param(
            {"base_model.model.lm_head.lora_A.weight": np.ones((4, 576), np.float32)},
            "no projection",
            id="output-layer",
        ),
        pytest.param(
            {f"{LAYER}.self_attn.q_proj.lora_B.weight": np.full((576, 4), np.nan, np.float32)}, "diverged", id="nan"
        ),
        pytest.param(
            {f"{LAYER}.self_attn.q_proj.lora_B.weight": np.ones((576, 4), np.float64)}, "number format 'F64'", id="f64"
        ),
    ],
)
def test_tensors_that_cannot_be_served_are_refused(
    change: dict[str, Any], said: str, small: dict[str, Any], tmp_path: Path
) -> None:
    """The message names the tensor or the place."""
    tensors = {name: values for name, values in {**small, **change}.items() if values is not None}

    with pytest.raises(SpecificationError, match=said):
        read_peft(write_adapter(tmp_path / "a", tensors))


def test_a_file_that_is_still_being_written_is_refused_at_every_length(small: dict[str, Any], tmp_path: Path) -> None:
    """A copy without a rename is seen half-way; half an adapter must never be served."""
    folder = write_adapter(tmp_path / "a", small)
    file = folder / "adapter_model.safetensors"
    whole = file.read_bytes()

    for length in (0, 4, 8, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(SpecificationError):
            read_peft(folder)
    file.write_bytes(whole)
    assert read_peft(folder).rank == 4


def test_a_pickle_is_not_opened(small: dict[str, Any], tmp_path: Path) -> None:
    """It may run code when it is read."""
    folder = write_adapter(tmp_path / "a", small)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")

    with pytest.raises(SpecificationError, match="save it as safetensors"):
        read_peft(folder)


def test_rows_are_reordered_as_the_weights_were() -> None:
    """Dimension i of a head and dimension i + half, which are rotated together, become neighbours."""
    rows = np.arange(16, dtype=np.float32).reshape(16, 1)

    reordered = rotary_order(rows, heads=2)

    assert reordered[:, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]


def test_an_adapter_for_another_base_is_refused(header: Header, tmp_path: Path) -> None:
    """By its shapes, and where a manifest says so by the hash of the weights; both are named."""
    base = BaseWeights("b" * 64, header)
    other = {
        f"{LAYER}.mlp.up_proj.lora_{half}.weight": np.ones(shape, np.float32)
        for half, shape in (("A", (4, 1024)), ("B", (2048, 4)))
    }
    deeper = {name.replace("layers.0.", "layers.30."): values for name, values in random_tensors(1, layers=1).items()}

    with pytest.raises(SpecificationError, match=r"another base model.*is 1536 by 576.*for 2048 by 1024"):
        prepare("a", write_adapter(tmp_path / "wide", other), base, cache=tmp_path, max_rank=32)
    with pytest.raises(SpecificationError, match="layer 30 does not exist"):
        prepare("a", write_adapter(tmp_path / "deep", deeper), base, cache=tmp_path, max_rank=32)
    pinned = random_adapter(tmp_path / "pinned", 1)
    (pinned / "manifest.json").write_text(json.dumps({"base": {"weights_sha256": "a" * 64}}))
    with pytest.raises(SpecificationError, match=f"{'a' * 64}.*{'b' * 64}"):
        prepare("a", pinned, base, cache=tmp_path, max_rank=32)


def test_a_rank_that_nim_would_refuse_is_refused(header: Header, tmp_path: Path) -> None:
    """Served here and refused in the cluster would be found out too late."""
    folder = random_adapter(tmp_path / "a", 1, rank=64, layers=1)

    with pytest.raises(RankTooLarge, match="LoRA rank 64 is greater than max_lora_rank 32"):
        prepare("a", folder, BaseWeights("b" * 64, header), cache=tmp_path, max_rank=32)


def test_the_same_content_is_converted_once_and_other_content_again(header: Header, tmp_path: Path) -> None:
    """A restart with many adapters must not wait for conversions."""
    base, cache = BaseWeights("b" * 64, header), tmp_path / "cache"

    first = prepare("a", random_adapter(tmp_path / "a", 1, layers=1), base, cache=cache, max_rank=32)
    written = first.file.stat().st_mtime_ns
    again = prepare("b", random_adapter(tmp_path / "b", 1, layers=1), base, cache=cache, max_rank=32)
    other = prepare("c", random_adapter(tmp_path / "c", 2, layers=1), base, cache=cache, max_rank=32)

    assert (again.file, again.file.stat().st_mtime_ns) == (first.file, written)
    assert other.file != first.file


def test_conversion_is_repeatable_to_the_byte(header: Header, tmp_path: Path) -> None:
    """Its name is a hash of what went in, so what comes out must not depend on anything else."""
    folder, base = random_adapter(tmp_path / "a", 1, layers=2), BaseWeights("b" * 64, header)

    files = [prepare("a", folder, base, cache=tmp_path / name, max_rank=32).file for name in ("one", "two")]

    assert files[0].read_bytes() == files[1].read_bytes()


def test_every_refusal_is_one_of_ours(header: Header, tmp_path: Path) -> None:
    """A damaged file of any kind must not end the server: bytes are changed one by one in the header."""
    folder = random_adapter(tmp_path / "a", 1, layers=1)
    file = folder / "adapter_model.safetensors"
    whole = file.read_bytes()
    refused = 0
    for position in range(0, 400, 7):
        file.write_bytes(whole[:position] + b"\x00" + whole[position + 1 :])
        try:
            prepare("a", folder, BaseWeights("b" * 64, header), cache=tmp_path / "cache", max_rank=32)
        except PlatformError:
            refused += 1

    assert refused > 50
