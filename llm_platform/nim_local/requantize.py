"""The same weights in another number format, made once because some formats compute faster than the shipped one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from llm_platform.errors import SpecificationError

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, ReaderTensor

Quantization = Literal["Q8_0", "Q4_0"]

# llama.h, enum llama_ftype: the number `general.file_type` carries.
_FILE_TYPE = {"Q4_0": 2, "Q8_0": 7}


def requantize(source: Path, target: Path, *, quantization: Quantization) -> Path:
    """Write `source` to `target` with its block-quantized matrices in another format; the same bytes every time.

    Norms stay float32. A matrix that is already in the target format or in Q8_0 (the token embedding, which is the
    output matrix too) is copied bit for bit: going through float32 would only add error.

    Raises:
        SpecificationError: `source` is not a GGUF file.
    """
    from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter

    try:
        reader = GGUFReader(source)
    except ValueError as error:
        raise SpecificationError(
            f"Could not read {str(source)!r} as GGUF: {error}. Fetch the weights again."
        ) from error
    wanted = GGMLQuantizationType[quantization]
    writer = GGUFWriter(target, arch=str(reader.fields["general.architecture"].contents()))
    _copy_metadata(reader, writer, file_type=_FILE_TYPE[quantization])
    for tensor in reader.tensors:
        _add_tensor(writer, tensor, wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def _copy_metadata(reader: GGUFReader, writer: GGUFWriter, *, file_type: int) -> None:
    from gguf import GGUFValueType

    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        kind = field.types[0]
        value = file_type if field.name == "general.file_type" else field.contents()
        writer.add_key_value(field.name, value, kind, field.types[-1] if kind is GGUFValueType.ARRAY else None)


def _add_tensor(writer: GGUFWriter, tensor: ReaderTensor, wanted: GGMLQuantizationType) -> None:
    from gguf import GGMLQuantizationType, quants

    kept = {GGMLQuantizationType.F32, GGMLQuantizationType.Q8_0, wanted}
    if tensor.tensor_type in kept:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        return
    values = quants.dequantize(tensor.data, tensor.tensor_type)
    writer.add_tensor(tensor.name, quants.quantize(values, wanted), raw_dtype=wanted)
