"""Where values are while a program runs: buffers, the calls of kernels that fill them, and when each is needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from irc.ir import DType, Op

from .kernel import Kernel
from .views import View


class Storage(Enum):
    """Which memory a buffer lies in."""

    ARENA = "arena"
    CONSTANT = "constant"
    INPUT = "input"
    OUTPUT = "output"
    STATUS = "status"


Fill = Callable[[NDArray[np.uint8]], None]
"""Writes a constant into the bytes where it will be saved from: its memory is touched once."""


@dataclass(eq=False, slots=True)
class Buffer:
    """Memory of `size` elements. A constant has `content`, an input or output the `index` of its place in the signature."""

    dtype: DType
    size: int
    storage: Storage = Storage.ARENA
    content: Fill | None = None
    index: int = 0

    @property
    def byte_count(self) -> int:
        """The bytes it takes."""
        return self.dtype.byte_count(self.size)


@dataclass(frozen=True, slots=True)
class Place:
    """The elements of a value: a view of a buffer."""

    buffer: Buffer
    view: View

    @property
    def dtype(self) -> DType:
        """The element type."""
        return self.buffer.dtype


@dataclass(frozen=True, slots=True)
class Call:
    """A kernel called with buffers, of which it writes the last; `ops` are what it computes, the main one first.

    `replaceable` are operands that lie as the result does, each element of which is read just before that of the result is
    written. `beside` are those of the buffers that it writes as well as the last.
    """

    kernel: Kernel
    buffers: tuple[Buffer, ...]
    ops: tuple[Op, ...]
    replaceable: tuple[Buffer, ...] = ()
    beside: tuple[Buffer, ...] = ()

    @property
    def result(self) -> Buffer:
        """What it writes, or the last of several."""
        return self.buffers[-1]

    @property
    def written(self) -> tuple[Buffer, ...]:
        """All that it writes."""
        return (*self.beside, self.result)

    @property
    def read(self) -> tuple[Buffer, ...]:
        """What it is given, some of which it may write before it reads it."""
        return tuple(buffer for buffer in self.buffers[:-1] if buffer not in self.beside)


def lifetimes(calls: Sequence[Call]) -> dict[Buffer, tuple[int, int]]:
    """The numbers of the first and of the last call that need each buffer of the arena, in the order of the first."""
    found: dict[Buffer, tuple[int, int]] = {}
    for number, call in enumerate(calls):
        for buffer in call.buffers:
            if buffer.storage is Storage.ARENA:
                found[buffer] = (found[buffer][0] if buffer in found else number, number)
    return found
