"""Where the elements of a value lie: an offset and strides into a flat buffer, so that movement ops need no copies.

Law: element (i, j, ...) of a view is element offset + i * strides[0] + j * strides[1] + ... of its buffer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .kernel import product


@dataclass(frozen=True, slots=True)
class View:
    """A shape and the place of each element in a buffer; sizes, strides and offset count elements."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @staticmethod
    def dense(shape: Sequence[int]) -> View:
        """Elements in row-major order, none skipped."""
        strides: list[int] = []
        step = 1
        for size in reversed(shape):
            strides.append(step)
            step *= size
        return View(tuple(shape), tuple(reversed(strides)))

    @property
    def is_dense(self) -> bool:
        """Whether elements lie in row-major order from the start of the buffer, none skipped."""
        dense = View.dense(self.shape).strides
        return not self.offset and all(
            own == other for size, own, other in zip(self.shape, self.strides, dense, strict=True) if size > 1
        )

    @property
    def size(self) -> int:
        """How many elements there are."""
        return product(self.shape)

    def permuted(self, order: Sequence[int]) -> View:
        """As Transpose has it."""
        return replace(self, shape=tuple(self.shape[i] for i in order), strides=tuple(self.strides[i] for i in order))

    def sliced(self, axis: int, start: int, size: int, step: int = 1) -> View:
        """`size` elements along an axis, from `start`, every `step`-th; a negative step goes backwards."""
        shape, strides = list(self.shape), list(self.strides)
        offset = self.offset + start * strides[axis] if size else self.offset
        shape[axis], strides[axis] = size, strides[axis] * step
        return View(tuple(shape), tuple(strides), offset)

    def broadcast(self, shape: Sequence[int]) -> View:
        """As numpy broadcasts it to `shape`: repeated elements are one in memory."""
        missing = len(shape) - len(self.shape)
        own_shape, own_strides = (1,) * missing + self.shape, (0,) * missing + self.strides
        strides = [0 if own == 1 else step for own, step in zip(own_shape, own_strides, strict=True)]
        return replace(self, shape=tuple(shape), strides=tuple(strides))

    def reshaped(self, shape: Sequence[int]) -> View | None:
        """The same elements in row-major order under another shape; None where no strides say that. numpy knows when."""
        elements = np.lib.stride_tricks.as_strided(
            np.zeros(1, np.int8), self.shape, self.strides
        )  # one byte each, none is read
        try:
            other = elements.reshape(shape, copy=False)
        except ValueError:
            return None
        return View(other.shape, other.strides, self.offset)

    def at(self, *index: str) -> str:
        """The place of an element in the buffer, as TVMScript, for an index of one text an axis."""
        terms = [str(self.offset)] if self.offset else []
        for text, size, step in zip(index, self.shape, self.strides, strict=True):
            if size == 1 or step == 0 or text == "0":
                continue
            terms.append(f"({text})" if step == 1 else f"({text}) * {step}")
        return " + ".join(terms) or "0"
