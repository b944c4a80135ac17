"""Elementwise kernels and copies: whatever the views, numpy says what every element is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from irc.ir import DType
from irc.lowering.tvm.kernel import Kernel, Writer
from irc.lowering.tvm.loops import GRAIN, MOST_TASKS, elementwise
from irc.lowering.tvm.views import View

from .running import lanes, needs_tvm, run

Array = NDArray[Any]

pytestmark = needs_tvm
few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def copied(writer: Writer, names: Sequence[str]) -> str:
    return names[0]


def added(writer: Writer, names: Sequence[str]) -> str:
    return writer.value("float32", " + ".join(names))


def numbers(size: int, dtype: type[np.generic] = np.float32) -> Array:
    return (np.arange(size) * 7 % 251).astype(dtype)


def seen(buffer: Array, view: View) -> Array:
    """A view as numpy has it."""
    step = buffer.itemsize
    start = buffer[view.offset :] if view.size else buffer
    return np.lib.stride_tricks.as_strided(start, view.shape, [each * step for each in view.strides])


def check(view: View, size: int, operands: Sequence[tuple[Array, View]], kernel: Kernel) -> None:
    """The elements of the view are the sums of the operands', and nothing else was written."""
    result = np.full(size, -1, operands[0][0].dtype)
    expected = result.copy()
    seen(expected, view)[...] = sum(seen(buffer, each) for buffer, each in operands)
    run(kernel, *(buffer for buffer, _ in operands), result)
    np.testing.assert_array_equal(result, expected)


def copy(view: View, size: int, buffer: Array, source: View, dtype: DType = DType.F32) -> Kernel:
    kernel = elementwise(dtype, view, [(dtype, source)], copied, lanes())
    check(view, size, [(buffer, source)], kernel)
    return kernel


@st.composite
def movements(draw: st.DrawFn) -> tuple[View, View, int]:
    """A permuted, sliced and broadcast view of a dense buffer, a view of its shape to write to, and the size of its buffer."""
    shape = draw(
        st.lists(st.sampled_from([1, 2, 3, 5, 16, 17, 33, 40]), min_size=1, max_size=4).filter(lambda s: np.prod(s) < 40000)
    )
    source = View.dense(shape).permuted(draw(st.permutations(range(len(shape)))))
    for axis, size in enumerate(source.shape):
        step = draw(st.sampled_from([1, 1, 2, -1, -3]))
        source = source.sliced(axis, size - 1 if step < 0 else 0, -(-size // abs(step)), step)
    source = source.broadcast((*draw(st.sampled_from([(), (3,), (2, 1)])), *source.shape))
    outside = tuple(size + draw(st.integers(0, 2)) for size in source.shape)
    order = draw(st.permutations(range(len(outside))))
    target = View.dense([outside[axis] for axis in order]).permuted([order.index(axis) for axis in range(len(order))])
    for axis, size in enumerate(source.shape):
        target = target.sliced(axis, draw(st.integers(0, outside[axis] - size)), size)
    return source, target, int(np.prod(outside))


@few
@given(movements())
def test_any_view_is_copied_to_any_other(case: tuple[View, View, int]) -> None:
    source, target, size = case
    copy(target, size, numbers(40000), source)


@few
@given(st.lists(st.sampled_from([1, 2, 4, 7, 19, 64]), min_size=1, max_size=4), st.data())
def test_operands_are_broadcast(shape: list[int], data: st.DataObject) -> None:
    views = [View.dense(shape)]
    for _ in range(2):
        kept = data.draw(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape)))
        small = [size if keep else 1 for size, keep in zip(shape, kept, strict=True)]
        views.append(View.dense(small).broadcast(shape))
    operands = [(numbers(int(np.prod(shape))), view) for view in views]
    kernel = elementwise(DType.F32, View.dense(shape), [(DType.F32, view) for view in views], added, lanes())
    check(View.dense(shape), int(np.prod(shape)), operands, kernel)


@pytest.mark.parametrize("shape", [(64, 48), (65, 47), (3, 100, 130), (12, 197, 64), (16, 16), (31, 31)])
@pytest.mark.parametrize("dtype", [DType.F32, DType.I64, DType.I8], ids=lambda dtype: dtype.text)
def test_transposes_are_turned_by_tiles(shape: tuple[int, ...], dtype: DType) -> None:
    size = int(np.prod(shape))
    source = View.dense(shape).permuted((*range(len(shape) - 2), len(shape) - 1, len(shape) - 2))
    content = numbers(size).astype(dtype.numpy) % 100
    kernel = copy(View.dense(source.shape), size, content.astype(dtype.numpy), source, dtype)
    assert "T.Shuffle" in kernel.source


@pytest.mark.parametrize("width", [1, 4, 8, 16])
def test_vectors_have_the_width_of_the_target(width: int) -> None:
    source = View.dense((2, 37, 42)).permuted((0, 2, 1))
    kernel = elementwise(DType.F32, View.dense(source.shape), [(DType.F32, source)], copied, width)
    check(View.dense(source.shape), source.size, [(numbers(source.size), source)], kernel)


def test_an_operand_that_is_turned_adds_to_one_that_is_overwritten() -> None:
    shape = (50, 70)
    straight, turned = numbers(3500), numbers(3500)[::-1].copy()
    expected = straight.reshape(50, 70) + turned.reshape(70, 50).T
    view = View.dense(shape)
    views = [(DType.F32, view), (DType.F32, View.dense((70, 50)).permuted((1, 0)))]
    run(elementwise(DType.F32, view, views, added, lanes()), straight, turned, straight)
    np.testing.assert_array_equal(straight.reshape(shape), expected)


@pytest.mark.parametrize("size", [1, 15, 16, 17, GRAIN * 3 + 5, GRAIN * MOST_TASKS * 2, GRAIN * MOST_TASKS + 63])
def test_one_long_axis_is_cut_into_tasks(size: int) -> None:
    kernel = copy(View.dense((size,)), size, numbers(size), View.dense((size,)))
    assert kernel.tasks <= MOST_TASKS
    assert kernel.tasks > 1 or size < 2 * GRAIN


@pytest.mark.parametrize("shape", [(7, 9, 1001), (3, 40000), (100000, 3), (5, 3, 7, 11, 13)])
def test_rows_are_shared_out_to_tasks(shape: tuple[int, ...]) -> None:
    size = int(np.prod(shape))
    bias = View.dense((shape[0], *(1,) * (len(shape) - 1))).broadcast(shape)
    operands = [(numbers(size), View.dense(shape)), (numbers(shape[0]), bias)]
    kernel = elementwise(DType.F32, View.dense(shape), [(DType.F32, view) for _, view in operands], added, lanes())
    check(View.dense(shape), size, operands, kernel)
    assert kernel.tasks <= 2 * MOST_TASKS


def test_tasks_run_in_any_order() -> None:
    size = GRAIN * 5
    kernel = elementwise(DType.F32, View.dense((size,)), [(DType.F32, View.dense((size,)))], copied, lanes())
    result, content = np.zeros(size, np.float32), numbers(size)
    run(kernel, content, result, tasks=reversed(range(kernel.tasks)))
    np.testing.assert_array_equal(result, content)


def test_axes_that_lie_together_are_one_loop() -> None:
    shape = (4, 8, 16, 32)
    kernel = elementwise(DType.F32, View.dense(shape), [(DType.F32, View.dense(shape))], copied, 16)
    flat = elementwise(DType.F32, View.dense((16384,)), [(DType.F32, View.dense((16384,)))], copied, 16)
    assert kernel == flat


def test_a_shape_without_elements_has_no_tasks() -> None:
    assert not elementwise(DType.F32, View.dense((0, 3)), [(DType.F32, View.dense((0, 3)))], copied, 16).tasks


def test_a_scalar_is_one_element() -> None:
    copy(View.dense(()), 1, numbers(1) + 5, View.dense(()))


def test_a_bool_is_copied_as_it_lies() -> None:
    content = numbers(37) % 2
    copy(View.dense((37,)), 37, content.astype(np.bool_).view(np.int8), View.dense((37,)), DType.BOOL)
