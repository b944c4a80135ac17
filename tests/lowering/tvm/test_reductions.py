"""Reductions over any axes answer as ONNX Runtime does, whichever way lanes run."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from irc.ir import DType, capture, evaluate
from irc.lowering.tvm.reductions import REDUCTIONS, ReductionRequest, argument, cumulative_sum, reduction
from irc.lowering.tvm.views import View

from ..forms import like, node, written
from .running import lanes, needs_tvm, run

few = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
DTYPES = {"float32": DType.F32, "int32": DType.I32, "int64": DType.I64}


def numbers(*shape: int) -> np.ndarray:
    """All positive, so that neither sums nor logarithms lose digits."""
    return np.random.default_rng([0, *shape]).uniform(0.5, 1.5, shape).astype(np.float32)


def request(x: np.ndarray, axes: tuple[int, ...]) -> tuple[ReductionRequest, tuple[int, ...]]:
    shape = tuple(size for axis, size in enumerate(x.shape) if axis not in axes)
    return ReductionRequest(View.dense(x.shape), axes, View.dense(shape), DTYPES[x.dtype.name], lanes()), shape


def reduced(name: str, x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    asked, shape = request(x, axes)
    y = np.empty(shape, x.dtype)
    run(reduction(name, asked), x, y)
    return y


def place(name: str, x: np.ndarray, axis: int, last: bool) -> np.ndarray:
    asked, shape = request(x, (axis,))
    y = np.empty(shape, np.int64)
    run(argument(name, asked, last=last), x, y)
    return y


def reference(name: str, x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    model = written([node(name, ["x", "axes"], ["y"], keepdims=0)], like({"x": x}), ["y"], axes=np.array(axes))
    return evaluate(capture(model.SerializeToString()), {"x": x})[0]


@needs_tvm
@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize(
    ("shape", "axes"),
    [((4, 33, 100), (2,)), ((4, 33, 100), (0,)), ((3, 20, 37), (1,)), ((2, 9, 9, 33), (1, 2)), ((3, 4, 5), (0, 2))],
)
def test_each_reduction(name: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    x = numbers(*shape)
    np.testing.assert_allclose(reduced(name, x, axes), reference(name, x, axes), rtol=4e-6)


@needs_tvm
@few
@given(st.lists(st.tuples(st.integers(1, 20), st.booleans()), min_size=1, max_size=4))
def test_any_axes(axes: list[tuple[int, bool]]) -> None:
    x = numbers(*(size for size, _ in axes))
    chosen = tuple(axis for axis, (_, is_reduced) in enumerate(axes) if is_reduced) or (0,)
    np.testing.assert_allclose(reduced("ReduceMean", x, chosen), x.astype(np.float64).mean(chosen), rtol=2e-6)
    np.testing.assert_array_equal(reduced("ReduceMax", x, chosen), x.max(chosen))


@needs_tvm
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"])
def test_nan_and_infinities(name: str, axis: int) -> None:
    """As NumPy has them: ONNX Runtime's greatest element depends on where in a row a NaN stands."""
    x = numbers(40, 40)
    x[3, 4], x[9, 9], x[12, 12], x[12, 20] = np.nan, np.inf, -np.inf, np.inf
    numpy = {
        "ReduceSum": np.sum,
        "ReduceMean": np.mean,
        "ReduceMax": np.max,
        "ReduceMin": np.min,
        "ReduceProd": np.prod,
        "ReduceL1": lambda x, axis: np.abs(x).sum(axis),
        "ReduceL2": lambda x, axis: np.sqrt((x * x).sum(axis)),
    }[name]
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(reduced(name, x, (axis,)), numpy(x, axis), rtol=1e-5)


@needs_tvm
@pytest.mark.parametrize("axis", [0, 1])
def test_sums_of_exponentials_with_infinities(axis: int) -> None:
    x = np.linspace(-300, 300, 3 * 40, dtype=np.float32).reshape(3, 40)
    x[0, 3], x[1], x[2, 5] = -np.inf, -np.inf, np.inf
    np.testing.assert_allclose(reduced("ReduceLogSumExp", x, (axis,)), np.logaddexp.reduce(x, axis), rtol=1e-6)


@needs_tvm
@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("axis", [0, 1])
def test_integers_wrap(dtype: str, axis: int) -> None:
    bounds = np.iinfo(dtype)
    x = np.random.default_rng(0).integers(bounds.min, bounds.max, (7, 45), dtype)
    for name, numpy in (("ReduceSum", np.sum), ("ReduceMax", np.max), ("ReduceMin", np.min)):
        wanted = numpy(x, axis) if name != "ReduceSum" else np.sum(x, axis, dtype=dtype)
        np.testing.assert_array_equal(reduced(name, x, (axis,)), wanted)


@needs_tvm
@pytest.mark.parametrize("name", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("last", [False, True])
def test_places_of_the_greatest_and_least(name: str, dtype: str, last: bool) -> None:
    x = np.random.default_rng(0).integers(0, 5, (6, 50, 7)).astype(dtype)
    for axis in range(3):
        model = written([node(name, ["x"], ["y"], axis=axis, keepdims=0, select_last_index=int(last))], like({"x": x}), ["y"])
        (wanted,) = evaluate(capture(model.SerializeToString()), {"x": x})
        np.testing.assert_array_equal(place(name, x, axis, last), wanted)


@needs_tvm
def test_the_place_in_a_row_of_negative_infinities_is_its_end() -> None:
    x = np.full((2, 20), -np.inf, np.float32)
    assert (place("ArgMax", x, 1, False) == 0).all()
    assert (place("ArgMax", x, 1, True) == 19).all()


@needs_tvm
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_cumulative_sums(dtype: str, exclusive: bool, reverse: bool) -> None:
    x, y = (numbers(3, 40, 5) * 100).astype(dtype), np.empty((3, 40, 5), dtype)
    for axis in range(3):
        order = (*(each for each in range(3) if each != axis), axis)
        view = View.dense(x.shape).permuted(order)
        view = view.sliced(2, x.shape[axis] - 1, x.shape[axis], -1) if reverse else view
        run(cumulative_sum(view, view, DTYPES[dtype], lanes(), exclusive=exclusive), x, y)
        one = node("CumSum", ["x", "axis"], ["y"], exclusive=int(exclusive), reverse=int(reverse))
        model = written([one], like({"x": x}), ["y"], axis=np.array(axis))
        (wanted,) = evaluate(capture(model.SerializeToString()), {"x": x})
        np.testing.assert_allclose(y, wanted, rtol=1e-5)


@needs_tvm
def test_a_view_that_is_not_dense() -> None:
    x, y = numbers(6, 20, 10), np.empty((5, 10), np.float32)
    view = View.dense(x.shape).sliced(0, 1, 5).sliced(1, 3, 8, 2)
    run(reduction("ReduceSum", ReductionRequest(view, (1,), View.dense((5, 10)), DType.F32, lanes())), x, y)
    np.testing.assert_allclose(y, x[1:, 3:19:2].sum(1), rtol=1e-6)


@needs_tvm
def test_an_epilogue_runs_on_results() -> None:
    x, y = numbers(3, 4, 40), np.empty((3, 4), np.float32)
    asked = ReductionRequest(
        View.dense(x.shape), (2,), View.dense(y.shape), DType.F32, lanes(), lambda writer, value, index: f"-{value}"
    )
    run(reduction("ReduceSum", asked), x, y)
    np.testing.assert_allclose(y, -x.sum(2), rtol=1e-6)


def test_what_has_no_kernel_is_refused() -> None:
    x = np.zeros((3, 4), np.int32)
    with pytest.raises(ValueError, match="ReduceMean of i32 has no kernel"):
        reduction("ReduceMean", request(x, (0,))[0])
