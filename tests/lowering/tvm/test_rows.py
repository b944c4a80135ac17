"""Normalizations and softmaxes of rows, wherever in memory their elements lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from irc.ir import DType, capture, evaluate
from irc.lowering.tvm.kernel import Writer
from irc.lowering.tvm.lanes import extent
from irc.lowering.tvm.rows import Affine, RowRequest, layer_normalization, log_softmax, rms_normalization, softmax
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


def reference(name: str, *operands: np.ndarray, **attributes: float) -> np.ndarray:
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

    def relu(writer: Writer, value: str, index: Sequence[str]) -> str:
        return f"T.max({value}, T.float32(0))"

    kernel = layer_normalization(RowRequest(view, view, lanes(), 1, Residual(view), relu), 1e-5, Affine())
    run(kernel, x, y, other)
    axis = order.index(2) if order == (0, 1, 2) else 1
    exact = x.astype(np.float64) + other
    wanted = (exact - exact.mean(axis, keepdims=True)) / np.sqrt(exact.var(axis, keepdims=True) + 1e-5)
    close(y, np.maximum(wanted, 0))


def test_a_row_too_long_for_a_prologue_is_refused() -> None:
    view = View.dense((2, 1 << 20))
    with pytest.raises(ValueError, match="too long for a prologue"):
        softmax(RowRequest(view, view, 16, 1, Residual(view)))
