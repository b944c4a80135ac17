"""Weights that the text form elides, kept beside it: digest to tensor, in memory or as a `.safetensors` file.

The file holds raw bytes under each digest (safetensors has no strings and no 4-bit types; the text knows dtype and shape).
"""

# pyright: basic
from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import numpy as np
import safetensors
import safetensors.numpy

from ..tensors import Tensor
from ..types import DType


def save_weights(weights: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    """Write elided weights to a safetensors file."""
    arrays = {digest: np.frombuffer(_raw(tensor), np.uint8) for digest, tensor in weights.items()}
    safetensors.numpy.save_file(arrays, os.fspath(path))


def load_weights(path: str | os.PathLike[str]) -> Callable[[str], memoryview | None]:
    """A lookup of the raw bytes of a digest in a file that `save_weights` wrote; None for a digest it lacks."""
    file = safetensors.safe_open(os.fspath(path), framework="numpy")
    known = set(file.keys())
    return lambda digest: memoryview(file.get_tensor(digest)) if digest in known else None


def _raw(tensor: Tensor) -> bytes | memoryview:
    if not isinstance(tensor.data, tuple):
        return tensor.data
    return b"".join(len(s).to_bytes(8, "little") + s for s in tensor.data)


def tensor_from_raw(dtype: DType, shape: tuple[int, ...], raw: memoryview) -> Tensor:
    """The tensor whose bytes `save_weights` wrote."""
    if dtype is not DType.STR:
        return Tensor(dtype, shape, raw)
    strings: list[bytes] = []
    position, data = 0, bytes(raw)
    while position < len(data):
        length = int.from_bytes(data[position : position + 8], "little")
        strings.append(data[position + 8 : position + 8 + length])
        position += 8 + length
    return Tensor(dtype, shape, tuple(strings))
