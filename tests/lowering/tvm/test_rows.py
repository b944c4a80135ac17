"""Normalizations and softmaxes of rows, wherever in memory their elements lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from irc.ir import DType, capture, evaluate
from irc.lowering.tvm.casting import cast
from irc.lowering.tvm.kernel import Kernel, Writer
from irc.lowering.tvm.lanes import extent
from irc.lowering.tvm.rows import Affine, Behind, RowRequest, layer_normalization, log_softmax, rms_normalization, softmax
from irc.lowering.tvm.views import View

from ..forms import like, node, written
from .running import lanes, needs_tvm, run

few = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
shapes = st.lists(st.integers(1, 70), min_size=1, max_size=3).map(tuple)
SPECIALS = (np.nan, np.inf, -np.inf, 3e38, -0.0, 1e-40)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng([seed, *shape]).standard_normal(shape) * 3 + 1).astype(np.float32)


def request(x: np.ndarray, reduced: int = 1) -> RowRequest:
    return RowRequest(View.dense(x.shape), View.dense(x.shape), lanes(), reduced)


def reference(name: str, *operands: np.ndarray, **attributes: Any) -> np.ndarray:
    feeds = {f"x{index}": each for index, each in enumerate(operands)}
    model = written([node(name, list(feeds), ["y"], **attributes)], like(feeds), ["y"])
    return evaluate(capture(model.SerializeToString()), feeds)[0]


def over(parameter: np.ndarray, shape: Sequence[int]) -> View:
    return View.dense(parameter.shape).broadcast(shape)


def close(got: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=3e-6)


@needs_tvm
@few
@given(shapes, st.booleans())
def test_layer_normalization(shape: tuple[int, ...], has_bias: bool) -> None:
    x, scale, bias, y = numbers(*shape), numbers(shape[-1], seed=1), numbers(shape[-1], seed=2), np.empty(shape, np.float32)
    affine = Affine(over(scale, shape), over(bias, shape) if has_bias else None)
    parameters = [scale, bias] if has_bias else [scale]
    run(layer_normalization(request(x), 1e-5, affine), x, *parameters, y)
    close(y, reference("LayerNormalization", x, *parameters, epsilon=1e-5))


@needs_tvm
@few
@given(shapes)
def test_rms_normalization(shape: tuple[int, ...]) -> None:
    x, scale, y = numbers(*shape), numbers(shape[-1], seed=1), np.empty(shape, np.float32)
    run(rms_normalization(request(x), 1e-6, Affine(over(scale, shape))), x, scale, y)
    close(y, reference("RMSNormalization", x, scale, epsilon=1e-6))


@needs_tvm
@few
@given(shapes)
def test_softmax_and_its_logarithm(shape: tuple[int, ...]) -> None:
    x, y = numbers(*shape), np.empty(shape, np.float32)
    run(softmax(request(x)), x, y)
    close(y, reference("Softmax", x))
    run(log_softmax(request(x)), x, y)
    close(y, reference("LogSoftmax", x))


@needs_tvm
@pytest.mark.parametrize("shape", [(128, 768), (4096, 32), (3, 1025)])
def test_rows_of_real_models(shape: tuple[int, int]) -> None:
    x, scale, bias, y = numbers(*shape), numbers(shape[1], seed=1), numbers(shape[1], seed=2), np.empty(shape, np.float32)
    kernel = layer_normalization(request(x), 1e-5, Affine(over(scale, shape), over(bias, shape)))
    run(kernel, x, scale, bias, y, tasks=reversed(range(kernel.tasks)))
    close(y, reference("LayerNormalization", x, scale, bias, epsilon=1e-5))


@needs_tvm
@pytest.mark.parametrize("shape", [(2, 5, 7), (1, 33, 70), (3, 64, 16), (2, 3, 1)])
def test_rows_across_memory(shape: tuple[int, int, int]) -> None:
    """Channels of [batch, channels, pixels]: lanes run along the pixels, a row to a lane."""
    x, scale, y = numbers(*shape), numbers(shape[1], seed=1), np.empty(shape, np.float32)
    view = View.dense(shape).permuted((0, 2, 1))
    run(softmax(RowRequest(view, view, lanes())), x, y)
    close(y, reference("Softmax", x, axis=1))
    run(log_softmax(RowRequest(view, view, lanes())), x, y)
    close(y, reference("LogSoftmax", x, axis=1))
    turned = np.empty((shape[0], shape[2], shape[1]), np.float32)
    dense = View.dense(turned.shape)
    run(layer_normalization(RowRequest(view, dense, lanes()), 1e-5, Affine(over(scale, turned.shape))), x, scale, turned)
    close(turned, reference("LayerNormalization", np.ascontiguousarray(x.transpose(0, 2, 1)), scale, epsilon=1e-5))


@needs_tvm
@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("pixels", [(5, 7), (3, 1), (16, 16)])
def test_groups_and_instances(groups: int, pixels: tuple[int, int]) -> None:
    shape = (2, groups, 6 // groups, pixels[0] * pixels[1])
    x, scale, bias, y = numbers(*shape), numbers(6, seed=1), numbers(6, seed=2), np.empty(shape, np.float32)
    channels = View.dense((1, groups, 6 // groups, 1)).broadcast(shape)
    run(layer_normalization(request(x, 2), 1e-5, Affine(channels, channels)), x, scale, bias, y)
    images = x.reshape(2, 6, *pixels)
    close(y.reshape(images.shape), reference("GroupNormalization", images, scale, bias, epsilon=1e-5, num_groups=groups))
    if groups == 6:
        close(y.reshape(images.shape), reference("InstanceNormalization", images, scale, bias, epsilon=1e-5))


@needs_tvm
def test_groups_with_channels_last() -> None:
    """Lanes run along the channels, since these lie one behind the other, though a group has few of them."""
    x, scale, bias, y = numbers(2, 30, 6), numbers(6, seed=1), numbers(6, seed=2), np.empty((2, 30, 6), np.float32)
    view = View.dense((2, 30, 2, 3)).permuted((0, 2, 3, 1))
    channels = View.dense((1, 2, 3, 1)).broadcast(view.shape)
    run(layer_normalization(RowRequest(view, view, lanes(), 2), 1e-5, Affine(channels, channels)), x, scale, bias, y)
    first = np.ascontiguousarray(x.transpose(0, 2, 1))
    close(y.transpose(0, 2, 1), reference("GroupNormalization", first, scale, bias, epsilon=1e-5, num_groups=2))


@needs_tvm
def test_rows_of_several_axes() -> None:
    x, scale, y = numbers(5, 7, 7, 3), numbers(7, 7, 3, seed=1), np.empty((5, 7, 7, 3), np.float32)
    run(layer_normalization(request(x, 3), 1e-5, Affine(over(scale, x.shape))), x, scale, y)
    close(y, reference("LayerNormalization", x, scale, axis=1, epsilon=1e-5))


@needs_tvm
def test_a_row_read_backwards() -> None:
    x, y = numbers(3, 20), np.empty((3, 20), np.float32)
    run(softmax(RowRequest(View.dense(x.shape).sliced(1, 19, 20, -1), View.dense(x.shape), lanes())), x, y)
    close(y, reference("Softmax", np.ascontiguousarray(x[:, ::-1])))


@needs_tvm
@pytest.mark.parametrize("special", SPECIALS)
@pytest.mark.parametrize("place", [0, 20, 36])
def test_specials(special: float, place: int) -> None:
    x, y = numbers(3, 37), np.empty((3, 37), np.float32)
    x[1, place] = special
    run(softmax(request(x)), x, y)
    close(y, reference("Softmax", x))
    run(log_softmax(request(x)), x, y)
    close(y, reference("LogSoftmax", x))
    if abs(special) != 3e38:  # whose square overflows in one order of sums and not in another
        run(layer_normalization(request(x), 1e-5, Affine()), x, y)
        close(y, reference("LayerNormalization", x, np.ones(37, np.float32), epsilon=1e-5))


@needs_tvm
def test_a_row_of_infinities_and_one_of_large_numbers() -> None:
    x, y = np.full((2, 20), -np.inf, np.float32), np.empty((2, 20), np.float32)
    x[1] = np.linspace(-3e38, 3e38, 20)
    run(softmax(request(x)), x, y)
    assert np.isnan(y[0]).all()
    close(y[1], reference("Softmax", x)[1])


@needs_tvm
def test_a_large_mean_does_not_drown_the_variance() -> None:
    x, y = numbers(4, 100) + np.float32(4096), np.empty((4, 100), np.float32)
    run(layer_normalization(request(x), 0.0, Affine()), x, y)
    exact = x.astype(np.float64)
    wanted = (exact - exact.mean(1, keepdims=True)) / exact.std(1, keepdims=True)
    np.testing.assert_allclose(y, wanted, rtol=2e-4, atol=2e-4)


class Residual:
    """x + other, in front of a function of rows."""

    def __init__(self, view: View) -> None:
        self.view, self.name = view, ""

    def __call__(self, writer: Writer, value: str, index: Sequence[str]) -> str:
        self.name = self.name or writer.buffer(DType.F32, extent(self.view))
        return writer.value("float32", f"{value} + {self.name}[{self.view.at(*index)}]")


@needs_tvm
@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1)])
@pytest.mark.parametrize("shape", [(2, 5, 40), (1, 37, 19)])
def test_hooks_run_on_every_element_once(shape: tuple[int, int, int], order: tuple[int, int, int]) -> None:
    """A residual sum in front and a ReLU behind, with rows along memory and across it."""
    x, other, y = numbers(*shape), numbers(*shape, seed=1), np.empty(shape, np.float32)
    view = View.dense(shape).permuted(order)
    relu = Behind(DType.F32, (), lambda writer, names: f"T.max({names[0]}, T.float32(0))")
    kernel = layer_normalization(RowRequest(view, view, lanes(), 1, Residual(view), relu), 1e-5, Affine())
    run(kernel, x, y, other)
    axis = order.index(2) if order == (0, 1, 2) else 1
    exact = x.astype(np.float64) + other
    wanted = (exact - exact.mean(axis, keepdims=True)) / np.sqrt(exact.var(axis, keepdims=True) + 1e-5)
    close(y, np.maximum(wanted, 0))


ROWS: Mapping[str, Callable[[RowRequest], Kernel]] = {
    "LayerNormalization": lambda request: layer_normalization(request, 1e-5, Affine()),
    "RMSNormalization": lambda request: rms_normalization(request, 1e-5, Affine()),
    "Softmax": softmax,
    "LogSoftmax": log_softmax,
}
"""Functions of rows, each without parameters."""


def plain(name: str, x: np.ndarray, axis: int) -> np.ndarray:
    """The same in f64."""
    exact = x.astype(np.float64)
    centred = exact - exact.mean(axis, keepdims=True) if name == "LayerNormalization" else exact
    if name.endswith("Normalization"):
        return centred / np.sqrt((centred**2).mean(axis, keepdims=True) + 1e-5)
    powers = np.exp(exact - exact.max(axis, keepdims=True))
    shares = powers / powers.sum(axis, keepdims=True)
    return shares if name == "Softmax" else np.log(shares)


@needs_tvm
@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize(
    ("shape", "order"), [((2, 5, 40), (0, 1, 2)), ((1, 37, 19), (0, 2, 1)), ((3, 4, 1), (0, 1, 2))], ids=str
)
def test_results_are_made_narrow_before_they_are_stored(
    name: str, kept: bool, shape: tuple[int, int, int], order: tuple[int, int, int]
) -> None:
    """(result + an operand of the columns) * an operand of the elements, as bf16, with the result itself or without."""
    x, more, factor = numbers(*shape), numbers(shape[order[2]], seed=1), numbers(*shape, seed=2)
    view = View.dense(shape).permuted(order)
    over_columns = View.dense((shape[order[2]],)).broadcast(view.shape)

    def body(writer: Writer, names: Sequence[str]) -> str:
        value = writer.value("float32", f"({names[0]} + {names[1]}) * {names[2]}")
        return cast(writer, value, DType.F32, DType.BF16)

    y, narrow = np.empty(shape, np.float32), np.zeros(shape, np.uint16)
    operands = [(DType.F32, over_columns), (DType.F32, view)]
    behind = Behind(DType.BF16, operands, body, view if kept else None)
    run(ROWS[name](RowRequest(view, view, lanes(), behind=behind)), x, more, factor, *([y] if kept else []), narrow)
    wanted = plain(name, x.transpose(order), 2).transpose(np.argsort(order))
    if kept:
        close(y, wanted)
        wanted = y
    wanted = (wanted + (more if order[2] == 2 else more[:, None])) * factor
    got = narrow.view(DType.BF16.numpy).astype(np.float32)
    np.testing.assert_allclose(got, wanted, rtol=2**-8, atol=1e-5)
    if kept:  # of the very numbers that were kept
        np.testing.assert_array_equal(got, wanted.astype(DType.BF16.numpy).astype(np.float32))


@needs_tvm
def test_a_result_of_several_reduced_axes_is_made_narrow() -> None:
    x, narrow = numbers(5, 7, 3, 4), np.zeros((5, 7, 3, 4), np.uint16)
    behind = Behind(DType.BF16, (), lambda writer, names: cast(writer, names[0], DType.F32, DType.BF16))
    run(layer_normalization(replace(request(x, 3), behind=behind), 1e-5, Affine()), x, narrow)
    wanted = reference("LayerNormalization", x, np.ones((7, 3, 4), np.float32), axis=1, epsilon=1e-5)
    np.testing.assert_allclose(narrow.view(DType.BF16.numpy).astype(np.float32), wanted, rtol=2**-8, atol=1e-6)


@needs_tvm
def test_specials_are_made_narrow() -> None:
    """NaN stays NaN, and infinities and signed zeros are what they are."""
    x, narrow = np.array([[0.0, -0.0, 1e-40, np.inf], [1, 2, np.nan, -1]], np.float32), np.zeros((2, 4), np.uint16)
    behind = Behind(DType.BF16, (), lambda writer, names: cast(writer, f"{names[0]}", DType.F32, DType.BF16))
    run(
        rms_normalization(RowRequest(View.dense(x.shape), View.dense(x.shape), lanes(), behind=behind), 1e-5, Affine()),
        x,
        narrow,
    )
    got = narrow.view(DType.BF16.numpy).astype(np.float32)
    np.testing.assert_array_equal(got, reference("RMSNormalization", x, np.ones(4, np.float32), epsilon=1e-5))
    assert list(np.signbit(got[0, :2])) == [False, True]


def test_a_softmax_of_a_row_that_does_not_fit_the_stack_is_none_that_is_made_narrow() -> None:
    view = View.dense((2, 1 << 20))
    behind = Behind(DType.BF16, (), lambda writer, names: names[0])
    request = RowRequest(view, view, 16, behind=behind)
    assert not request.fits
    with pytest.raises(ValueError, match="too long for a result that is not f32"):
        softmax(request)


def test_a_row_too_long_for_a_prologue_is_refused() -> None:
    view = View.dense((2, 1 << 20))
    with pytest.raises(ValueError, match="too long for a prologue"):
        softmax(RowRequest(view, view, 16, 1, Residual(view)))
