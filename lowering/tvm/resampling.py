"""Resize as weighted sums of pixels: which pixels, and with which weights, the reference itself is asked once.

Law: every mode of Resize but cropping is linear in its input and works on one axis after the other, so the answer for an
identity matrix along an axis is the matrix that the axis is multiplied by.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from irc.ir import DType, Graph, Op, Tensor, TensorType, at, constant_op, evaluate

from .kernel import Kernel, Writer, product
from .views import View
from .windows import along, each_pixel

SHORTEST_TASK = 1 << 14
"""Multiply-adds that are worth a task of their own."""


@dataclass(frozen=True, slots=True)
class Taps:
    """For each place along an axis of the result, the places of the input that it is a sum of, and their weights.

    Both have the shape [size, taps].
    """

    places: NDArray[np.int32]
    weights: NDArray[np.float32]

    @property
    def count(self) -> int:
        """How many places there are for each."""
        return self.places.shape[1]


def taps_of(op: Op, axis: int, size: int, result: int) -> Taps:
    """What a Resize does along an axis of `size` that becomes `result`."""
    matrix = _matrix(op, axis, size, result)
    count = max(1, int((matrix != 0).sum(axis=1).max(initial=1)))
    order = np.argsort(matrix == 0, axis=1, kind="stable")[:, :count]
    return Taps(order.astype(np.int32), np.take_along_axis(matrix, order, axis=1).astype(np.float32))


def _matrix(op: Op, axis: int, size: int, result: int) -> NDArray[np.float32]:
    """The matrix [result, size] that the axis is multiplied by."""
    if size == result == 1:
        return np.ones((1, 1), np.float32)
    graph = Graph("taps")
    x = graph.add_input("x", TensorType(DType.F32, (1, size, size, 1)))
    scales, sizes = op.constant_operand(2), op.constant_operand(3)
    if sizes is not None and sizes.size:
        how = [None, None, graph.append(constant_op(Tensor.integers((1, size, result, 1)), at("taps"))).result]
    else:
        assert scales is not None
        factors = np.array([1, 1, scales.to_list()[axis], 1], np.float32)
        how = [None, graph.append(constant_op(Tensor.from_array(factors), at("taps"))).result]
    kind = TensorType(DType.F32, (1, size, result, 1))
    attributes = {name: value for name, value in op.attributes.items() if name != "axes"}
    made = graph.append(Op("Resize", [x, *how], attributes, [kind], at("taps"), version=op.version))
    graph.add_output(made.result, "y")
    (answer,) = evaluate(graph, {"x": np.eye(size, dtype=np.float32).reshape(1, size, size, 1)})
    return np.asarray(answer, np.float32).reshape(size, result).T


def resample(data: View, data_size: int, result: View, result_size: int, taps: Sequence[Taps], lanes: int) -> Kernel:
    """Images [batch, channels, spatial...] in f32 whose channels lie side by side.

    The pointers are data, places and weights for each spatial axis, and result.
    """
    writer = Writer()
    source = writer.buffer(DType.F32, data_size)
    tables = [(writer.buffer(DType.I32, each.places.size), writer.buffer(DType.F32, each.weights.size)) for each in taps]
    target = writer.buffer(DType.F32, result_size)
    work = product(result.shape) * product([each.count for each in taps])

    def pixel(index: Sequence[str], start: str, to: str) -> None:
        def channel(first: str, count: int) -> None:
            sums = writer.local("float32", count)
            with writer.loop(count, "vectorized") as lane:
                writer.line(f"{sums}[{lane}] = T.float32(0)")
            with ExitStack() as inner:
                base, weight = f"{start} + {first}", ""
                for (places, weights), own, here, stride in zip(tables, taps, index, data.strides[2:], strict=True):
                    tap = inner.enter_context(writer.loop(own.count))
                    entry = writer.let("int32", f"{here} * {own.count} + {tap}")
                    base = f"{base} + {places}[{entry}] * {stride}"
                    weight = writer.let("float32", f"{weight} * {weights}[{entry}]" if weight else f"{weights}[{entry}]")
                base = writer.let("int32", base)
                with writer.loop(count, "vectorized") as lane:
                    writer.line(f"{sums}[{lane}] = {sums}[{lane}] + {source}[{base} + {lane}] * {weight}")
            with writer.loop(count, "vectorized") as lane:
                writer.line(f"{target}[{to} + {first} + {lane}] = {sums}[{lane}]")

        along(writer, result.shape[1], lanes, channel)

    return writer.kernel(each_pixel(writer, data, result, work // SHORTEST_TASK, pixel), 2 * work)
