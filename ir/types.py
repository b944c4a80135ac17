"""Types of values: tensors, sequences, optionals and maps; layout and quantization are ops, never part of a type."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

import ml_dtypes
import numpy as np
import onnx

from . import dims
from .dims import Dim


class DType(Enum):
    """An element type: its name in the text form, its ONNX number, its width in bits and the NumPy type that holds it."""

    F32 = ("f32", onnx.TensorProto.FLOAT, 32, np.dtype(np.float32))
    F64 = ("f64", onnx.TensorProto.DOUBLE, 64, np.dtype(np.float64))
    F16 = ("f16", onnx.TensorProto.FLOAT16, 16, np.dtype(np.float16))
    BF16 = ("bf16", onnx.TensorProto.BFLOAT16, 16, np.dtype(ml_dtypes.bfloat16))
    I8 = ("i8", onnx.TensorProto.INT8, 8, np.dtype(np.int8))
    I16 = ("i16", onnx.TensorProto.INT16, 16, np.dtype(np.int16))
    I32 = ("i32", onnx.TensorProto.INT32, 32, np.dtype(np.int32))
    I64 = ("i64", onnx.TensorProto.INT64, 64, np.dtype(np.int64))
    U8 = ("u8", onnx.TensorProto.UINT8, 8, np.dtype(np.uint8))
    U16 = ("u16", onnx.TensorProto.UINT16, 16, np.dtype(np.uint16))
    U32 = ("u32", onnx.TensorProto.UINT32, 32, np.dtype(np.uint32))
    U64 = ("u64", onnx.TensorProto.UINT64, 64, np.dtype(np.uint64))
    BOOL = ("bool", onnx.TensorProto.BOOL, 8, np.dtype(np.bool_))
    STR = ("str", onnx.TensorProto.STRING, 0, np.dtype(np.object_))
    C64 = ("c64", onnx.TensorProto.COMPLEX64, 64, np.dtype(np.complex64))
    C128 = ("c128", onnx.TensorProto.COMPLEX128, 128, np.dtype(np.complex128))
    F8E4M3FN = ("f8e4m3fn", onnx.TensorProto.FLOAT8E4M3FN, 8, np.dtype(ml_dtypes.float8_e4m3fn))
    F8E4M3FNUZ = ("f8e4m3fnuz", onnx.TensorProto.FLOAT8E4M3FNUZ, 8, np.dtype(ml_dtypes.float8_e4m3fnuz))
    F8E5M2 = ("f8e5m2", onnx.TensorProto.FLOAT8E5M2, 8, np.dtype(ml_dtypes.float8_e5m2))
    F8E5M2FNUZ = ("f8e5m2fnuz", onnx.TensorProto.FLOAT8E5M2FNUZ, 8, np.dtype(ml_dtypes.float8_e5m2fnuz))
    F8E8M0 = ("f8e8m0", onnx.TensorProto.FLOAT8E8M0, 8, np.dtype(ml_dtypes.float8_e8m0fnu))
    F4E2M1 = ("f4e2m1", onnx.TensorProto.FLOAT4E2M1, 4, np.dtype(ml_dtypes.float4_e2m1fn))
    U4 = ("u4", onnx.TensorProto.UINT4, 4, np.dtype(ml_dtypes.uint4))
    I4 = ("i4", onnx.TensorProto.INT4, 4, np.dtype(ml_dtypes.int4))
    U2 = ("u2", onnx.TensorProto.UINT2, 2, np.dtype(ml_dtypes.uint2))
    I2 = ("i2", onnx.TensorProto.INT2, 2, np.dtype(ml_dtypes.int2))

    def __init__(self, text: str, onnx_code: int, bits: int, numpy: np.dtype[np.generic]) -> None:
        self.text = text
        self.onnx_code = onnx_code
        self.bits = bits
        self.numpy = numpy

    __hash__ = object.__hash__  # members are singletons; Enum's own hash walks the name each time

    @property
    def is_float(self) -> bool:
        """Whether elements are real floating-point numbers of any width."""
        return self.text[0] in "fb" and self is not DType.BOOL

    @property
    def is_integer(self) -> bool:
        """Whether elements are integers (bool is none)."""
        return self.text[0] in "iu"

    def byte_count(self, elements: int) -> int:
        """Bytes that `elements` of this type take, packed as ONNX packs them."""
        return (elements * self.bits + 7) // 8


BY_ONNX_CODE: dict[int, DType] = {d.onnx_code: d for d in DType}
BY_TEXT: dict[str, DType] = {d.text: d for d in DType}
BY_NUMPY: dict[np.dtype[np.generic], DType] = {d.numpy: d for d in DType if d is not DType.STR}


@dataclass(frozen=True, slots=True)
class TensorType:
    """A dense tensor; `shape` is None when not even the rank is known."""

    dtype: DType
    shape: tuple[Dim, ...] | None

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.dtype.text}[*]"
        return f"{self.dtype.text}[{','.join(map(dims.text, self.shape))}]"

    @property
    def static_shape(self) -> tuple[int, ...] | None:
        """The shape when every dim is an int, else None."""
        if self.shape is None:
            return None
        sizes = tuple(d for d in self.shape if isinstance(d, int))
        return sizes if len(sizes) == len(self.shape) else None

    @property
    def rank(self) -> int | None:
        """The number of dims, or None when unknown."""
        return None if self.shape is None else len(self.shape)


@dataclass(frozen=True, slots=True)
class SparseType:
    """A sparse tensor in ONNX's coordinate form."""

    dtype: DType
    shape: tuple[Dim, ...] | None

    def __str__(self) -> str:
        return f"sparse<{TensorType(self.dtype, self.shape)}>"


@dataclass(frozen=True, slots=True)
class SequenceType:
    """A list of values of one type."""

    element: Type

    def __str__(self) -> str:
        return f"seq<{self.element}>"


@dataclass(frozen=True, slots=True)
class OptionalType:
    """A value or nothing."""

    element: Type

    def __str__(self) -> str:
        return f"opt<{self.element}>"


@dataclass(frozen=True, slots=True)
class MapType:
    """A map from integers or strings to values."""

    key: DType
    value: Type

    def __str__(self) -> str:
        return f"map<{self.key.text},{self.value}>"


@dataclass(frozen=True, slots=True)
class UnknownType:
    """The type of a result nothing is known of: what an op without a schema produces."""

    def __str__(self) -> str:
        return "?"


Type: TypeAlias = TensorType | SparseType | SequenceType | OptionalType | MapType | UnknownType
UNKNOWN = UnknownType()


def merge(first: Type, second: Type) -> Type:
    """What both types say together; where they contradict each other `first` stands."""
    if isinstance(first, UnknownType):
        return second
    if not isinstance(first, TensorType) or not isinstance(second, TensorType) or first.dtype is not second.dtype:
        return first
    if first.shape is None:
        return second
    if second.shape is None or second.shape == first.shape or len(second.shape) != len(first.shape):
        return first
    merged = tuple(_narrower(a, b) for a, b in zip(first.shape, second.shape, strict=True))
    return first if merged == first.shape else TensorType(first.dtype, merged)


def _narrower(a: Dim, b: Dim) -> Dim:
    if a is None or (isinstance(b, int) and not isinstance(a, int)):
        return b
    return a


def join(first: Type, second: Type) -> Type:
    """The narrowest type that admits both, as the result of an If whose branches disagree."""
    if first == second:
        return first
    if isinstance(first, OptionalType) and not isinstance(second, OptionalType):
        return OptionalType(join(first.element, second))
    if not isinstance(first, TensorType) or not isinstance(second, TensorType) or first.dtype is not second.dtype:
        return UNKNOWN
    if first.shape is None or second.shape is None or len(first.shape) != len(second.shape):
        return TensorType(first.dtype, None)
    return TensorType(first.dtype, tuple(a if a == b else None for a, b in zip(first.shape, second.shape, strict=True)))
