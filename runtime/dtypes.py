"""Element types by their text (`f32`, `bf16`, `i4`): the NumPy types that hold them, and their names elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np


@dataclass(frozen=True, slots=True)
class ElementType:
    """One element type.

    `bits` is the width of an element as stored (0 for strings), `safetensors` its name in a weights file (None where
    that format has none), and `engine_takes_numpy` whether ONNX Runtime takes and gives it as a plain NumPy array.
    """

    text: str
    onnx_code: int
    bits: int
    numpy: np.dtype[np.generic]
    safetensors: str | None
    engine_takes_numpy: bool

    @property
    def numpy_name(self) -> str:
        """How a user writes the NumPy type, as in `numpy.float32`."""
        if self.text == "str":
            return "object"
        library = "numpy" if self.engine_takes_numpy or self.text[0] == "c" else "ml_dtypes"
        return f"{library}.{self.numpy.name}"

    def byte_count(self, elements: int) -> int:
        """Bytes that `elements` of this type take as stored, packed where an element is narrower than a byte."""
        return (elements * self.bits + 7) // 8


_NUMPY = [
    ("f32", 1, np.float32, "F32"),
    ("u8", 2, np.uint8, "U8"),
    ("i8", 3, np.int8, "I8"),
    ("u16", 4, np.uint16, "U16"),
    ("i16", 5, np.int16, "I16"),
    ("i32", 6, np.int32, "I32"),
    ("i64", 7, np.int64, "I64"),
    ("bool", 9, np.bool_, "BOOL"),
    ("f16", 10, np.float16, "F16"),
    ("f64", 11, np.float64, "F64"),
    ("u32", 12, np.uint32, "U32"),
    ("u64", 13, np.uint64, "U64"),
]
_OTHER = [
    ("c64", 14, 64, np.complex64, None),
    ("c128", 15, 128, np.complex128, None),
    ("bf16", 16, 16, ml_dtypes.bfloat16, "BF16"),
    ("f8e4m3fn", 17, 8, ml_dtypes.float8_e4m3fn, "F8_E4M3"),
    ("f8e4m3fnuz", 18, 8, ml_dtypes.float8_e4m3fnuz, None),
    ("f8e5m2", 19, 8, ml_dtypes.float8_e5m2, "F8_E5M2"),
    ("f8e5m2fnuz", 20, 8, ml_dtypes.float8_e5m2fnuz, None),
    ("u4", 21, 4, ml_dtypes.uint4, None),
    ("i4", 22, 4, ml_dtypes.int4, None),
    ("f4e2m1", 23, 4, ml_dtypes.float4_e2m1fn, None),
    ("f8e8m0", 24, 8, ml_dtypes.float8_e8m0fnu, "F8_E8M0"),
    ("u2", 25, 2, ml_dtypes.uint2, None),
    ("i2", 26, 2, ml_dtypes.int2, None),
]

ELEMENT_TYPES: dict[str, ElementType] = {
    "str": ElementType("str", 8, 0, np.dtype(np.object_), None, True),
    **{
        text: ElementType(text, code, np.dtype(numpy).itemsize * 8, np.dtype(numpy), name, True)
        for text, code, numpy, name in _NUMPY
    },
    **{text: ElementType(text, code, bits, np.dtype(numpy), name, False) for text, code, bits, numpy, name in _OTHER},
}
"""Every element type by its text."""

_TEXT_BY_NUMPY = {each.numpy: each.text for each in ELEMENT_TYPES.values()}


def dtype_text(dtype: np.dtype[np.generic]) -> str:
    """The text of a NumPy type (`f32`), or NumPy's own name where no model can have it."""
    if dtype.kind in "US":
        return "str"
    return _TEXT_BY_NUMPY.get(dtype, dtype.str if not dtype.isnative else dtype.name)
