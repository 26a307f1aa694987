"""Requantizing changes the number format and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llm_platform.errors import SpecificationError
from llm_platform.files import file_sha256
from llm_platform.nim_local.requantize import Quantization, requantize

gguf = pytest.importorskip("gguf", reason="gguf is not installed: make install")
quants = pytest.importorskip("gguf.quants", reason="gguf is not installed: make install")
Q4_1, Q8_0, F32 = (gguf.GGMLQuantizationType[name] for name in ("Q4_1", "Q8_0", "F32"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file with a matrix, an embedding and a norm, as models have them."""
    path = tmp_path / "source.gguf"
    values = np.random.default_rng(7).normal(size=(8, 64)).astype(np.float32)
    writer = gguf.GGUFWriter(path, arch="llama")
    writer.add_name("tiny")
    writer.add_file_type(3)
    writer.add_array("tokenizer.ggml.tokens", ["a", "Ġb", "é"])
    writer.add_tensor("blk.0.ffn_up.weight", quants.quantize(values, Q4_1), raw_dtype=Q4_1)
    writer.add_tensor("token_embd.weight", quants.quantize(values, Q8_0), raw_dtype=Q8_0)
    writer.add_tensor("output_norm.weight", values[0])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("quantization", ["Q8_0", "Q4_0"])
def test_matrices_change_format_and_the_rest_is_kept(quantization: Quantization, source: Path, tmp_path: Path) -> None:
    """Norms need float32, and an embedding that is already in Q8_0 only loses by another step."""
    before, after = (
        gguf.GGUFReader(source),
        gguf.GGUFReader(requantize(source, tmp_path / "out", quantization=quantization)),
    )

    kinds = {tensor.name: tensor.tensor_type for tensor in after.tensors}
    assert kinds == {
        "blk.0.ffn_up.weight": gguf.GGMLQuantizationType[quantization],
        "token_embd.weight": Q8_0,
        "output_norm.weight": F32,
    }
    for name in ("token_embd.weight", "output_norm.weight"):
        old, new = (next(t for t in reader.tensors if t.name == name).data for reader in (before, after))
        assert old.tobytes() == new.tobytes()
    assert after.fields["tokenizer.ggml.tokens"].contents() == ["a", "Ġb", "é"]
    assert after.fields["general.name"].contents() == "tiny"


def test_the_same_file_gives_the_same_bytes(source: Path, tmp_path: Path) -> None:
    """The hash of the result is pinned in a lock file."""
    first = requantize(source, tmp_path / "first", quantization="Q8_0")
    second = requantize(source, tmp_path / "second", quantization="Q8_0")

    assert file_sha256(first) == file_sha256(second)


def test_eight_bits_hold_four_bit_weights_closely(source: Path, tmp_path: Path) -> None:
    """The faster file must answer as the shipped one does."""
    target = requantize(source, tmp_path / "out", quantization="Q8_0")

    old, new = (
        quants.dequantize(tensor.data, tensor.tensor_type)
        for tensor in (gguf.GGUFReader(source).tensors[0], gguf.GGUFReader(target).tensors[0])
    )
    assert np.abs(old - new).max() <= np.abs(old).max() / 127


def test_what_is_no_gguf_file_is_refused(tmp_path: Path) -> None:
    """An HTML error page saved as weights must be named as such."""
    (tmp_path / "page.gguf").write_bytes(b"<html>" * 100)

    with pytest.raises(SpecificationError, match=r"page\.gguf"):
        requantize(tmp_path / "page.gguf", tmp_path / "out", quantization="Q8_0")
