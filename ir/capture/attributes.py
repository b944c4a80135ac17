"""What the attributes of a node say: their kinds, their texts, and the tensor of a Constant."""

from __future__ import annotations

import numpy as np
from onnx import AttributeProto

from ..diagnostics import ModelError
from ..location import Location
from ..operators import Attribute, EmptyList
from ..tensors import Tensor


def constant_tensor(attributes: dict[str, Attribute], location: Location) -> Tensor:
    """The tensor a Constant stands for, whichever of its attributes holds it."""
    if len(attributes) != 1:
        raise ModelError(f"a Constant has {len(attributes)} values instead of one", location=str(location))
    ((name, value),) = attributes.items()
    if isinstance(value, EmptyList):
        value = ()
    if name == "value" and isinstance(value, Tensor):
        return value
    if name in ("value_int", "value_ints"):
        return Tensor.from_array(np.array(value, dtype=np.int64))
    if name in ("value_float", "value_floats"):
        return Tensor.from_array(np.array(value, dtype=np.float32))
    if name in ("value_string", "value_strings"):
        texts = value if isinstance(value, tuple) else (value,)
        array = np.empty(len(texts), dtype=object)
        array[:] = texts
        return Tensor.from_array(array if isinstance(value, tuple) else array.reshape(()))
    raise ModelError(f"a Constant has no attribute '{name}'", location=str(location))


def guess_kind(message: AttributeProto) -> int:
    """The type of an attribute that does not tell it."""
    # Files of IR version 1 leave the type out; the filled field tells it.
    filled = {descriptor.name for descriptor, _ in message.ListFields()}
    for field_name, kind in (
        ("f", 1),
        ("i", 2),
        ("s", 3),
        ("t", 4),
        ("g", 5),
        ("floats", 6),
        ("ints", 7),
        ("strings", 8),
    ):
        if field_name in filled:
            return kind
    return AttributeProto.UNDEFINED


def text_of(raw: bytes) -> str | bytes:
    """The text, or the bytes where they are no UTF-8: they must come out as they went in."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw
