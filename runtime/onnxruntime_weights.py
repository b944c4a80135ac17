# pyright: basic
"""How a session gets its weights: copied from memory, used where they lie, or read from a file and laid out anew.

Law: whichever way, the session computes with the same weights; the way decides only what memory it takes meanwhile.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .dtypes import ELEMENT_TYPES
from .errors import ArtifactError
from .onnxruntime_providers import needs_gpu
from .scratch import scratch_folder
from .weights import WEIGHTS_FILE, WeightView

if TYPE_CHECKING:
    from .onnxruntime_executor import OnnxRuntimeOptions

LARGE = 1 << 24
"""Bytes of weights from which on it matters how a session gets them."""


@dataclass(frozen=True, slots=True)
class Supply:
    """The weights that ONNX Runtime is not given a copy of, and the folder in which it looks for them."""

    names: frozenset[str] = frozenset()
    folder: Path | None = None


FROM_MEMORY = Supply()


def is_large(weights: Mapping[str, WeightView]) -> bool:
    """Whether it matters how a session gets these."""
    return sum(weight.byte_count for weight in weights.values()) >= LARGE


def in_place(weights: Mapping[str, WeightView], options: OnnxRuntimeOptions) -> frozenset[str]:
    """The weights that the session uses where they lie; raises ArtifactError for one named that is not there.

    On a GPU it uses none: kernels there cannot read them, and ONNX Runtime does not copy what it is told to use.
    """
    if needs_gpu(options.providers):
        return frozenset()
    if options.optimization == "disable":
        return frozenset(weights)
    for name in options.shared_weights:
        if name not in weights:
            raise ArtifactError(f"the option shared_weights names {name}, but there is no such weight")
    return frozenset(options.shared_weights)


@contextmanager
def supplied(weights: Mapping[str, WeightView], options: OnnxRuntimeOptions) -> Generator[Supply]:
    """The way that takes least memory, for as long as a session is being made.

    Of each weight that it is given ONNX Runtime first makes a copy. Those of filters it holds until the last one has its
    blocked form: above what the process held, a session of resnet50 peaks at 2.6 times its weights; at 1.6 times with the
    filters on a disk, and at 1.25 with the heap trimmed meanwhile. In the end it is 1.1.
    """
    on_disk = _on_disk(weights, options)
    if on_disk.names:
        yield on_disk
        return
    shared = in_place(weights, options)
    if not is_large({name: weights[name] for name in shared}):
        yield FROM_MEMORY
        return
    with scratch_folder("weights") as folder:
        # A model's weights must be in a file. These are not read from there, and as it is empty, they cannot be.
        (folder / WEIGHTS_FILE).touch()
        yield Supply(shared, folder)


def _on_disk(weights: Mapping[str, WeightView], options: OnnxRuntimeOptions) -> Supply:
    """The filters in a file, where the session makes its own form of them."""
    blocked = options.optimization in ("layout", "all") and "NchwcTransformer" not in options.disabled_optimizers
    names = frozenset(name for name, weight in weights.items() if weight.folder is not None) - in_place(weights, options)
    folders = {weights[name].folder for name in names}
    if not blocked or len(folders) != 1:
        return FROM_MEMORY
    (folder,) = folders
    there = folder is not None and (folder / WEIGHTS_FILE).is_file()  # it may have been tidied away
    return Supply(names, folder) if there else FROM_MEMORY


def ort_value(weight: WeightView, onnxruntime: Any) -> Any:
    """The weight as the engine's own kind of value over the same memory."""
    element = ELEMENT_TYPES[weight.dtype]
    array = weight.array()
    if element.bits < 8:
        # The engine asks for an array with one element per value and looks only at where it begins: it knows that
        # the values are packed, and reads no further than their bytes.
        array = np.lib.stride_tricks.as_strided(array, (int(np.prod(weight.shape)),), (1,), writeable=False)
        array = array.reshape(weight.shape)
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array, element.onnx_code)


__all__ = ["FROM_MEMORY", "Supply", "in_place", "is_large", "ort_value", "supplied"]
