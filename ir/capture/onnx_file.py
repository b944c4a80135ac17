"""Opening an ONNX model: a path, bytes or a message becomes a message without its weights, and a way to find the weights.

The file is mapped, not read; the weights stay in the mapping until somebody looks at them.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, numpy_helper

from ..diagnostics import ModelError, UsageError
from ..dims import SymbolicDim
from ..garbage import collector_paused
from ..graph import Graph
from ..tensors import SparseTensor, Tensor
from ..types import BY_ONNX_CODE, DType
from .external import ExternalFiles, external_locations
from .limits import Limits
from .wire import Skeleton


@dataclass
class Source:
    """An opened model: its message, and where the bytes of its tensors are."""

    message: onnx.ModelProto
    skeleton: Skeleton | None
    external: ExternalFiles
    name: str
    limits: Limits
    known: Mapping[str, memoryview] = field(default_factory=dict[str, memoryview])
    symbols: Mapping[str, SymbolicDim] = field(default_factory=dict[str, SymbolicDim])
    """The dims that names in the message stand for, where they are more than names."""

    def with_data(self, known: Mapping[str, memoryview]) -> Source:
        """The same model with the bytes of external tensors known by the tensors' names."""
        return replace(self, known=known)

    def tensor(self, message: TensorProto) -> Tensor:
        """The constant a TensorProto stands for; its bytes are not copied where they can stay."""
        where = f"tensor '{message.name}'"
        dtype = BY_ONNX_CODE.get(message.data_type)
        if dtype is None:
            raise ModelError(f"element type {message.data_type} does not exist in ONNX", location=where)
        shape = self._shape(message.dims, where)
        elements = math.prod(shape)
        if message.data_location == TensorProto.EXTERNAL:
            if dtype is DType.STR:
                raise ModelError("strings cannot be external data", location=where)
            if message.name in self.known:
                data = self.known[message.name]
                _expect(data.nbytes, dtype.byte_count(elements), "bytes", where)
                return Tensor(dtype, shape, data)
            return Tensor(dtype, shape, self.external.read(message, dtype, elements))
        if dtype is DType.STR:
            strings = tuple(message.string_data)
            _expect(len(strings), elements, "strings", where)
            return Tensor(dtype, shape, strings)
        data = self.skeleton.span_of(message) if self.skeleton is not None else None
        if data is None and message.HasField("raw_data"):
            data = memoryview(message.raw_data)
        if data is not None:
            _expect(data.nbytes, dtype.byte_count(elements), "bytes", where)
            return Tensor(dtype, shape, data)
        return _typed_fields(message, dtype, shape, where)

    def _shape(self, dims: Sequence[int], where: str) -> tuple[int, ...]:
        """The dims of a constant, refused when no array can have them, even an empty one."""
        shape = tuple(dims)
        if len(shape) > self.limits.rank:
            raise ModelError(f"it has {len(shape)} dims; at most {self.limits.rank} are taken", location=where)
        if any(d < 0 for d in shape):
            raise ModelError(f"it has a negative dim in {list(shape)}", location=where)
        if 0 in shape and math.prod(filter(None, shape)) >= 2**58:
            raise ModelError(f"its dims {list(shape)} are too large", location=where)
        return shape

    def sparse(self, message: onnx.SparseTensorProto) -> SparseTensor:
        """The constant a SparseTensorProto stands for, checked so that writing it out densely is safe."""
        where = f"sparse tensor '{message.values.name}'"
        values, indices = self.tensor(message.values), self.tensor(message.indices)
        shape = self._shape(message.dims, where)
        if not shape or values.dtype.byte_count(math.prod(shape)) > self.limits.dense_bytes:
            raise ModelError(f"its dense shape {list(shape)} is missing or too large", location=where)
        if (
            indices.dtype is not DType.I64
            or len(values.shape) != 1
            or indices.shape not in (values.shape, (*values.shape, len(shape)))
        ):
            raise ModelError("its indices do not fit its values", location=where)
        array = indices.array
        bound = shape if array.ndim == 2 else math.prod(shape)
        if array.size and ((array < 0).any() or (array >= bound).any()):
            raise ModelError("it has an index outside its shape", location=where)
        return SparseTensor(values, indices, shape)


def _expect(got: int, wanted: int, what: str, where: str) -> None:
    if got != wanted:
        raise ModelError(f"it holds {got} {what} but dtype and dims ask for {wanted}", location=where)


_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")


def _typed_fields(message: TensorProto, dtype: DType, shape: tuple[int, ...], where: str) -> Tensor:
    stored = max(len(getattr(message, field)) for field in _FIELDS)
    elements = math.prod(shape)
    if dtype.bits < 8:
        expected = dtype.byte_count(elements)
    else:
        expected = elements * (2 if dtype in (DType.C64, DType.C128) else 1)
    _expect(stored, expected, "numbers", where)
    if not elements:
        return Tensor(dtype, shape, memoryview(b""))
    try:
        return Tensor.from_array(numpy_helper.to_array(message), dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise ModelError(f"its numbers cannot be read: {error}", location=where) from None


def load_onnx(model: str | os.PathLike[str] | bytes | onnx.ModelProto, limits: Limits | None = None) -> Source:
    """Open a model without reading its weights.

    Raises UsageError when there is no such file and ModelError when it is no ONNX model.
    """
    limits = limits or Limits()
    if isinstance(model, onnx.ModelProto):
        return Source(model, None, ExternalFiles(None), "model", limits)
    if isinstance(model, (bytes, bytearray, memoryview)):
        return _parse(memoryview(model).cast("B"), ExternalFiles(None), "model", limits)
    path = Path(model)
    return _parse(_map_file(path), ExternalFiles(path.absolute().parent), path.name, limits)


def _map_file(path: Path) -> memoryview:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise UsageError(f"there is no file {str(path)!r}", hint="check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise UsageError(f"{str(path)!r} cannot be opened: {getattr(error, 'strerror', error)}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{str(path)!r} is not a regular file", hint="give the .onnx file itself")
        if status.st_size == 0:
            raise ModelError("the file is empty", location=str(path))
        return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
    finally:
        os.close(descriptor)


def _parse(data: memoryview, external: ExternalFiles, name: str, limits: Limits) -> Source:
    if bytes(data[:4]) == b"PK\x03\x04":
        raise ModelError("this is a zip file and not an ONNX model", location=name, hint="an artifact is run, not compiled")
    try:
        skeleton = Skeleton(data)
    except ModelError as error:
        raise ModelError(error.message, location=name, hint=error.hint) from None
    if len(skeleton.message) > limits.message_bytes:
        raise ModelError("the graph without its weights is over 2 GiB", location=name)
    try:
        message = onnx.ModelProto.FromString(skeleton.message)
    except DecodeError as error:
        raise ModelError(
            f"this is not an ONNX model: {error}", location=name, hint="the file is damaged or something else"
        ) from None
    if not message.HasField("graph"):
        raise ModelError(
            "this is not an ONNX model: it has no graph", location=name, hint="the file is damaged or something else"
        )
    return Source(message, skeleton, external, name, limits)


def capture(model: str | os.PathLike[str] | bytes | onnx.ModelProto, limits: Limits | None = None) -> Graph:
    """The graph of an ONNX model, at the canonical opset, with functions inlined and types inferred.

    Raises UsageError for a missing file, ModelError for a malformed model, UnsupportedError below opset 7.
    """
    from .importer import import_model

    with collector_paused():
        return import_model(load_onnx(model, limits))


def names_in_file(path: Path) -> tuple[list[str], list[str]]:
    """The names of the inputs that have to be fed to an ONNX file and of its outputs, in order; no graph is made of it.

    Raises UsageError and ModelError as `load_onnx` does.
    """
    graph = load_onnx(path).message.graph
    defaults = {each.name for each in graph.initializer} | {each.values.name for each in graph.sparse_initializer}
    return [each.name for each in graph.input if each.name not in defaults], [each.name for each in graph.output]


def file_digests(path: Path) -> dict[str, str]:
    """SHA-256 of an ONNX file, under its name, and of the files beside it that its tensors are in, under theirs.

    A model is the same where these are. Raises UsageError and ModelError as `load_onnx` does, and OSError for a file that is
    not there.
    """
    source = load_onnx(path)
    mentions = source.skeleton is None or b"location" in source.skeleton.message  # the key of each file beside the model
    beside = external_locations(source.message) if mentions else ()
    return {path.name: file_digest(path), **{name: file_digest(path.parent / name) for name in beside}}


def file_digest(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
