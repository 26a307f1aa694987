"""What stands in a GGUF file before its weights: fields, and the shape of every tensor.

Source of the layout: the GGUF specification, version 3 (little endian; strings are a length and UTF-8 bytes).
Read here and not with `gguf`, which takes seconds for 49,152 tokens; this takes a tenth of one.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_platform.errors import SpecificationError

_MAGIC = b"GGUF"
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}


@dataclass(frozen=True)
class Header:
    """One file's header.

    Attributes:
        shapes: Tensor name → shape, the slowest dimension first as in numpy: a matrix is (outputs, inputs).
    """

    fields: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]

    @property
    def architecture(self) -> str:
        """The family of models, which prefixes its fields."""
        return str(self.fields["general.architecture"])

    def setting(self, name: str) -> Any:
        """A field of the architecture, such as `attention.head_count`; KeyError when it is not there."""
        return self.fields[f"{self.architecture}.{name}"]


def read_header(path: Path) -> Header:
    """The header of a GGUF file.

    Raises:
        SpecificationError: the file is no GGUF file, or ends inside its header.
    """
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _read(data)
    except (OSError, ValueError, KeyError, struct.error) as error:
        raise SpecificationError(f"Could not read {str(path)!r} as GGUF: {error}. Fetch the weights again.") from error


def _read(data: mmap.mmap) -> Header:
    if data[:4] != _MAGIC:
        raise ValueError(f"it starts with {data[:4]!r} instead of {_MAGIC!r}")
    tensor_count, field_count = struct.unpack_from("<QQ", data, 8)
    position = 24
    fields = {}
    for _ in range(field_count):
        name, position = _read_string(data, position)
        kind = struct.unpack_from("<I", data, position)[0]
        fields[name], position = _read_value(data, position + 4, kind)
    shapes = {}
    for _ in range(tensor_count):
        name, position = _read_string(data, position)
        dimensions = struct.unpack_from("<I", data, position)[0]
        shapes[name] = struct.unpack_from(f"<{dimensions}Q", data, position + 4)[::-1]
        # Behind the dimensions: the number format and the place in the file.
        position += 4 + 8 * dimensions + 4 + 8
    return Header(fields=fields, shapes=shapes)


def _read_string(data: mmap.mmap, position: int) -> tuple[str, int]:
    length = struct.unpack_from("<Q", data, position)[0]
    end = position + 8 + length
    return data[position + 8 : end].decode(), end


def _read_value(data: mmap.mmap, position: int, kind: int) -> tuple[Any, int]:
    if kind == _STRING:
        return _read_string(data, position)
    if kind != _ARRAY:
        layout = _SCALARS[kind]
        return struct.unpack_from(layout, data, position)[0], position + struct.calcsize(layout)
    element, length = struct.unpack_from("<IQ", data, position)
    position += 12
    if element in _SCALARS:
        layout = f"<{length}{_SCALARS[element][1]}"
        return list(struct.unpack_from(layout, data, position)), position + struct.calcsize(layout)
    values = []
    for _ in range(length):
        value, position = _read_value(data, position, element)
        values.append(value)
    return values, position
