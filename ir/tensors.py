"""Constant tensors: immutable, backed by bytes that stay where they came from (a mapped file, an array), never copied."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from .types import BY_NUMPY, DType, TensorType

Array = npt.NDArray[Any]


class Tensor:
    """A dense constant: dtype, static shape, and little-endian packed bytes (or UTF-8 strings for `str`).

    `data` is a read-only buffer exactly `dtype.byte_count(prod(shape))` long; for `str` it is a tuple of bytes objects.
    A constant made by `view` has no bytes of its own: they are put in order each time somebody asks for `data`.
    """

    __slots__ = ("_array", "_data", "_digest", "dtype", "shape")

    def __init__(self, dtype: DType, shape: tuple[int, ...], data: memoryview | tuple[bytes, ...]) -> None:
        self.dtype = dtype
        self.shape = shape
        self._data: memoryview | tuple[bytes, ...] | None = data
        self._array: Array | None = None
        self._digest: str | None = None

    @staticmethod
    def view(array: Array, dtype: DType) -> Tensor:
        """A constant that is a strided view of another one's elements; nothing is copied."""
        tensor = Tensor(dtype, array.shape, memoryview(b""))
        tensor._data, tensor._array = None, array
        return tensor

    @property
    def data(self) -> memoryview | tuple[bytes, ...]:
        """The bytes in order, or the strings."""
        if self._data is not None:
            return self._data
        return _bytes_of(_in_order(self.array))

    @staticmethod
    def from_array(array: npt.ArrayLike, dtype: DType | None = None) -> Tensor:
        """A constant holding `array`; sub-byte types are packed, strings may be str or bytes."""
        values = np.asarray(array)
        if values.dtype.kind in "OSU":
            strings = tuple(s if isinstance(s, bytes) else str(s).encode() for s in values.reshape(-1).tolist())
            return Tensor(DType.STR, values.shape, strings)
        dtype = dtype or BY_NUMPY[values.dtype.newbyteorder("=")]
        if dtype.bits < 8:
            packed = numpy_helper.from_array(values.astype(dtype.numpy)).raw_data
            return Tensor(dtype, values.shape, memoryview(packed))
        contiguous = np.ascontiguousarray(values, dtype=dtype.numpy.newbyteorder("<"))
        return Tensor(dtype, values.shape, _bytes_of(contiguous))

    @staticmethod
    def integers(values: Sequence[int]) -> Tensor:
        """A one-dimensional i64 constant."""
        return Tensor.from_array(np.array(values, dtype=np.int64))

    @property
    def type(self) -> TensorType:
        """The type of the value this constant is."""
        return TensorType(self.dtype, self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def byte_count(self) -> int:
        """The number of bytes the elements take."""
        if isinstance(self._data, tuple):
            return sum(map(len, self._data))
        return self.dtype.byte_count(self.size)

    @property
    def array(self) -> Array:
        """The elements as a read-only array; a view of the bytes except for strings and sub-byte types."""
        if self._array is None:
            self._array = self._make_array()
        return self._array

    def _make_array(self) -> Array:
        if isinstance(self._data, tuple):
            # Strings that are no UTF-8 stay bytes: they must come out as they went in.
            strings = np.empty(len(self._data), dtype=object)
            strings[:] = [_decoded(s) for s in self._data]
            return strings.reshape(self.shape)
        if self.dtype.bits < 8:
            assert isinstance(self._data, memoryview)
            proto = onnx.TensorProto(data_type=self.dtype.onnx_code, dims=self.shape, raw_data=bytes(self._data))
            return numpy_helper.to_array(proto)
        assert isinstance(self._data, memoryview)
        return np.frombuffer(self._data, dtype=self.dtype.numpy).reshape(self.shape)

    @property
    def digest(self) -> str:
        """SHA-256 over dtype, shape and bytes: equal exactly for equal constants."""
        if self._digest is None:
            state = hashlib.sha256(str(self.type).encode())
            for chunk in self.data if isinstance(self.data, tuple) else (self.data,):
                if isinstance(self.data, tuple):
                    state.update(len(chunk).to_bytes(8, "little"))
                state.update(chunk)
            self._digest = state.hexdigest()
        return self._digest

    def fingerprint(self) -> tuple[object, ...]:
        """A cheap key: different for most different constants, equal for all equal ones."""
        if isinstance(self._data, tuple):
            return (self.dtype, self.shape, self._data)
        count = self.byte_count
        if count <= 256:
            return (self.dtype, self.shape, bytes(self._bytes_at(0, count)))
        middle = count // 128 * 64
        return (
            self.dtype,
            self.shape,
            *(bytes(self._bytes_at(start, 64)) for start in (0, middle, count // 64 * 64 - 64)),
        )

    def _bytes_at(self, start: int, length: int) -> memoryview:
        """Some bytes of a tensor that is no string, without putting a view in order as a whole."""
        if isinstance(self._data, memoryview):
            return self._data[start : start + length]
        width = self.dtype.bits // 8
        return _bytes_of(np.ascontiguousarray(self.array.flat[start // width : (start + length) // width]))

    def same_as(self, other: Tensor) -> bool:
        """Whether both hold the same bits (so 0.0 and -0.0 differ, and a NaN equals itself)."""
        if self is other:
            return True
        if self.dtype is not other.dtype or self.shape != other.shape:
            return False
        if isinstance(self.data, tuple) or isinstance(other.data, tuple):
            return self.data == other.data
        return bool(np.array_equal(np.frombuffer(self.data, np.uint8), np.frombuffer(other.data, np.uint8)))

    def to_list(self) -> list[Any]:
        """The elements of a tensor of rank at most 1 as Python numbers."""
        return self.array.reshape(-1).tolist()

    def __repr__(self) -> str:
        return f"Tensor({self.type})"


@dataclass(frozen=True, slots=True)
class SparseTensor:
    """A constant in coordinate form: `values` (nnz,), `indices` (nnz,) linear or (nnz, rank), and the dense shape."""

    values: Tensor
    indices: Tensor
    shape: tuple[int, ...]

    @property
    def type(self) -> TensorType:
        """The dense type it stands for."""
        return TensorType(self.values.dtype, self.shape)

    def densified(self) -> Tensor:
        """The dense tensor; absent elements are zero or the empty string."""
        if self.values.dtype is DType.STR:
            dense = np.full(self.shape, "", dtype=object)
        else:
            dense = np.zeros(self.shape, dtype=self.values.dtype.numpy)
        indices = self.indices.array
        where = tuple(indices.T) if indices.ndim == 2 else np.unravel_index(indices, self.shape)
        dense[where] = self.values.array
        return Tensor.from_array(dense, self.values.dtype)


def _decoded(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _bytes_of(array: Array) -> memoryview:
    """The bytes of a contiguous array, read-only."""
    flat = array.reshape(-1).view(np.uint8)
    flat.flags.writeable = False
    return memoryview(flat)  # type: ignore[arg-type]  # NumPy's stubs do not call its arrays buffers


_BLOCK = 64


def _in_order(array: Array) -> Array:
    """The elements in memory order; a transposed matrix is copied in blocks that stay in the cache (3 to 8 times faster)."""
    if array.ndim != 2 or array.flags.c_contiguous or min(array.shape) < 2 * _BLOCK:
        return np.ascontiguousarray(array)
    ordered = np.empty(array.shape, array.dtype)
    rows, columns = array.shape
    for i in range(0, rows, _BLOCK):
        for j in range(0, columns, _BLOCK):
            ordered[i : i + _BLOCK, j : j + _BLOCK] = array[i : i + _BLOCK, j : j + _BLOCK]
    return ordered
