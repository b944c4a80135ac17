"""Weights by name, each a view of memory somebody else owns, and the safetensors file that holds them.

`read_weights(join(layout_weights(w).chunks))` is `w`, and reading copies nothing. What safetensors has no name for
(4-bit types, some 8-bit floats) is stored as bytes, with its type and shape in the header's metadata.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .dtypes import ELEMENT_TYPES
from .errors import ArtifactError
from .strict_json import Fields, Json, parse_object
from .zip_store import Buffer

WEIGHTS_FILE = "weights.safetensors"
"""The file of an artifact that holds the weights of all its engine files."""
LARGEST_HEADER = 100_000_000
_PREFIX = "irc.type."
_TYPE = re.compile(r"(\w+)\[([\d,]*)\]\Z")
_BY_SAFETENSORS = {each.safetensors: each for each in ELEMENT_TYPES.values() if each.safetensors}


@dataclass(frozen=True, slots=True)
class WeightView:
    """A constant tensor: the text of its element type, its shape, and its bytes in row-major order, little-endian.

    Types narrower than a byte are packed as ONNX packs them, the first element in the lowest bits. Strings are none.
    Where there is a `folder`, the same bytes lie in the WEIGHTS_FILE in it, at the place that the engine's model names.
    """

    dtype: str
    shape: tuple[int, ...]
    data: memoryview
    folder: Path | None = field(default=None, compare=False)

    @property
    def byte_count(self) -> int:
        """How many bytes dtype and shape ask for."""
        return ELEMENT_TYPES[self.dtype].byte_count(math.prod(self.shape))

    def array(self) -> np.ndarray:
        """The tensor as a read-only view; packed types come as uint8 of shape [byte_count]."""
        element = ELEMENT_TYPES[self.dtype]
        if element.bits < 8:
            return np.frombuffer(self.data, np.uint8)
        return np.frombuffer(self.data, element.numpy).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class WeightsLayout:
    """A weights file about to be written: its chunks, and each weight's offset in the file and length, in bytes.

    The offsets are those for the `external_data` of an ONNX model beside the file.
    """

    chunks: tuple[Buffer, ...]
    ranges: Mapping[str, tuple[int, int]]


def layout_weights(weights: Mapping[str, WeightView]) -> WeightsLayout:
    """Lay out a weights file: widest types first, so that all are aligned, then by name; nothing is copied.

    Raises ArtifactError for a weight whose bytes are not as many as its dtype and shape ask for.
    """
    order = sorted(weights, key=lambda name: (-ELEMENT_TYPES[weights[name].dtype].bits, name))
    header: dict[str, Json] = {}
    metadata: dict[str, Json] = {}
    begins: dict[str, int] = {}
    position = 0
    for name in order:
        weight = weights[name]
        element = ELEMENT_TYPES[weight.dtype]
        if weight.data.nbytes != weight.byte_count or weight.dtype == "str":
            raise ArtifactError(f"weight {name} has {weight.data.nbytes} bytes, but {weight.dtype} of {weight.shape}")
        dtype, shape = element.safetensors, weight.shape
        if dtype is None:
            dtype, shape = "U8", (weight.byte_count,)
            metadata[_PREFIX + name] = f"{weight.dtype}[{','.join(map(str, weight.shape))}]"
        begins[name] = position
        position += weight.byte_count
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begins[name], position]}
    if metadata:
        header["__metadata__"] = metadata
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(len(text) + 8) % 64)
    start = 8 + len(text)
    chunks = [len(text).to_bytes(8, "little") + text, *(weights[name].data for name in order)]
    return WeightsLayout(tuple(chunks), {name: (start + begin, weights[name].byte_count) for name, begin in begins.items()})


def read_weights(data: memoryview, location: str = "weights.safetensors") -> dict[str, WeightView]:
    """The weights in a safetensors file, as views of it.

    Raises ArtifactError unless its tensors fill the file without gap or overlap and have the bytes they should have.
    """
    size = int.from_bytes(data[:8], "little") if len(data) >= 8 else -1
    if not 2 <= size <= min(LARGEST_HEADER, len(data) - 8):
        raise ArtifactError("is no weights file", location=location)
    body = data[8 + size :]
    fields = parse_object(bytes(data[8 : 8 + size]).rstrip(b" "), location)
    header = fields.rest()
    metadata = Fields(header.pop("__metadata__", {}), location).rest()
    spans: list[tuple[int, int]] = []
    weights: dict[str, WeightView] = {}
    for name, value in header.items():
        weight, span = _read_weight(Fields(value, f"{location}: {name}"), body, metadata.get(_PREFIX + name))
        weights[name] = weight
        spans.append(span)
    position = 0
    for begin, end in sorted(spans):
        if begin != position:
            raise ArtifactError("the weights do not lie one after another", location=location)
        position = end
    if position != len(body):
        raise ArtifactError("there are bytes that belong to no weight", location=location)
    return weights


def _read_weight(fields: Fields, body: memoryview, real_type: Json) -> tuple[WeightView, tuple[int, int]]:
    element = _BY_SAFETENSORS.get(fields.text("dtype"))
    shape = fields.naturals("shape")
    offsets = fields.naturals("data_offsets")
    fields.finish()
    if element is None or len(offsets) != 2 or not offsets[0] <= offsets[1] <= len(body):
        raise fields.refuse("is no weight")
    dtype = element.text
    if real_type is not None:
        match = _TYPE.match(real_type) if isinstance(real_type, str) else None
        if match is None or match[1] not in ELEMENT_TYPES or match[1] == "str":
            raise fields.refuse("is of a type that does not exist")
        dtype, shape = match[1], tuple(int(dim) for dim in match[2].split(",") if dim)
    weight = WeightView(dtype, shape, body[offsets[0] : offsets[1]])
    if weight.byte_count != weight.data.nbytes:
        raise fields.refuse("has another size than its type says")
    return weight, (offsets[0], offsets[1])
