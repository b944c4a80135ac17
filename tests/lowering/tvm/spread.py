"""A model for each kind of kernel, small and with odd sizes, as every vector unit has to compute it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from onnx import ModelProto, helper

from ..models import normal
from .programs import Feeds, of

node = helper.make_node
Made = tuple[ModelProto, Feeds]


def _one(op: str, *shape: int, weights: Sequence[np.ndarray] = (), **attributes: object) -> Made:
    """A model of one op, on one input and weights."""
    names = [f"w{index}" for index in range(len(weights))]
    feeds = {"x": normal(*shape)}
    return of([node(op, ["x", *names], ["y"], **attributes)], feeds, ["y"], dict(zip(names, weights, strict=True))), feeds


def product() -> Made:
    """13 rows, 37 columns, a sum of 29, with a bias and an activation behind it."""
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Add", ["m", "b"], ["a"]), node("Relu", ["a"], ["y"])]
    feeds = {"x": normal(13, 29)}
    return of(nodes, feeds, ["y"], {"w": normal(29, 37, seed=1), "b": normal(37, seed=2)}), feeds


def products_of_inputs() -> Made:
    """A matrix for each of several, both known at run time only."""
    feeds = {"x": normal(2, 3, 7, 11), "z": normal(2, 3, 11, 5, seed=1)}
    return of([node("MatMul", ["x", "z"], ["y"])], feeds, ["y"]), feeds


def vector() -> Made:
    """One row, as a model that writes a word at a time has it."""
    return _one("MatMul", 1, 70, weights=[normal(70, 83, seed=1)])


def convolution() -> Made:
    """Strided and dilated, in groups, with a border."""
    weights = [normal(18, 5, 3, 5, seed=1) / 8, normal(18, seed=2)]
    return _one("Conv", 1, 10, 13, 17, weights=weights, group=2, strides=[2, 1], dilations=[1, 2], pads=[1, 4, 1, 4])


def winograd() -> Made:
    """3 x 3 over many channels, with a residual."""
    nodes = [node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]), node("Add", ["c", "z"], ["y"])]
    feeds = {"x": normal(1, 64, 21, 18), "z": normal(1, 64, 21, 18, seed=3)}
    return of(nodes, feeds, ["y"], {"w": normal(64, 64, 3, 3, seed=1) / 24, "b": normal(64, seed=2)}), feeds


def depthwise() -> Made:
    """A filter a channel, of which there are 19."""
    weights = [normal(19, 1, 3, 3, seed=1), normal(19, seed=2)]
    return _one("Conv", 2, 19, 9, 10, weights=weights, group=19, pads=[1, 1, 1, 1])


def transposed() -> Made:
    """Upwards by two."""
    return _one("ConvTranspose", 1, 6, 5, 7, weights=[normal(6, 9, 3, 3, seed=1) / 4], strides=[2, 2], pads=[1, 1, 1, 1])


def attention() -> Made:
    """Three heads of 10, with a mask."""
    feeds = {name: normal(1, 3, 9, 10, seed=seed) for seed, name in enumerate("qkv")}
    mask = np.tril(np.ones((9, 9), bool))
    return _with_opset(of([node("Attention", ["q", "k", "v", "m"], ["y"])], feeds, ["y"], {"m": mask}), 24), feeds


def functions() -> Made:
    """Functions that have polynomials, on numbers of every size, and those that are not numbers."""
    names = ["Exp", "Tanh", "Sigmoid", "Erf", "Log", "Softplus", "Sqrt", "Gelu", "Reciprocal", "Floor", "Round"]
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 88.0, 89.0, -88.0, -104.0, 3e38]
    feeds = {
        "x": np.array([*np.linspace(-12, 12, 47), *special], np.float32),
        "angle": np.linspace(-1000, 1000, 53, dtype=np.float32),
    }
    nodes = [*(node(name, ["x"], [name]) for name in names), *(node(name, ["angle"], [name]) for name in ("Sin", "Cos"))]
    return of(nodes, feeds, [*names, "Sin", "Cos"]), feeds


def expressed() -> Made:
    """What TVM has a definition of, which calls the C library."""
    return _one("Atan", 3, 17)


def softmax() -> Made:
    """Along the last axis and along one in the middle."""
    nodes = [node("Softmax", ["x"], ["s"], axis=-1), node("LogSoftmax", ["s"], ["y"], axis=1)]
    feeds = {"x": normal(3, 5, 21)}
    return of(nodes, feeds, ["y"]), feeds


def norms() -> Made:
    """Of the last axis, and of groups of channels."""
    nodes = [
        node("LayerNormalization", ["x", "s", "t"], ["n"], axis=-1),
        node("InstanceNormalization", ["n", "c", "d"], ["y"]),
    ]
    weights = {"s": normal(11, seed=1), "t": normal(11, seed=2), "c": normal(6, seed=3), "d": normal(6, seed=4)}
    feeds = {"x": normal(2, 6, 11)}
    return of(nodes, feeds, ["y"], weights), feeds


def resized() -> Made:
    """To sizes that do not divide, by lines and by cubics."""
    sizes = {"l": np.array([1, 5, 13, 9], np.int64), "c": np.array([1, 5, 17, 20], np.int64)}
    nodes = [
        node("Resize", ["x", "", "", "l"], ["m"], mode="linear"),
        node("Resize", ["m", "", "", "c"], ["y"], mode="cubic"),
    ]
    feeds = {"x": normal(1, 5, 6, 7)}
    return of(nodes, feeds, ["y"], sizes), feeds


def pooled() -> Made:
    """Largest and mean of windows that overlap, and of all there is."""
    window = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}
    nodes = [
        node("MaxPool", ["x"], ["m"], **window),
        node("AveragePool", ["m"], ["a"], **window),
        node("GlobalAveragePool", ["a"], ["y"]),
    ]
    feeds = {"x": normal(1, 7, 11, 12)}
    return of(nodes, feeds, ["m", "a", "y"]), feeds


def reduced() -> Made:
    """Sums, extremes and their places, over the first axis, the last, and several."""
    axes = {"first": np.array([0], np.int64), "both": np.array([1, 2], np.int64)}
    nodes = [
        node("ReduceSum", ["x", "first"], ["a"]),
        node("ReduceMax", ["x", "both"], ["b"]),
        node("ReduceL2", ["x", "both"], ["c"], keepdims=0),
        node("ArgMax", ["x"], ["d"], axis=2),
        node("ReduceLogSumExp", ["x", "first"], ["e"]),
    ]
    feeds = {"x": normal(5, 9, 23)}
    return of(nodes, feeds, ["a", "b", "c", "d", "e"], axes), feeds


def integers() -> Made:
    """Indices, comparisons, and arithmetic that wraps around."""
    nodes = [
        node("Gather", ["table", "i"], ["rows"]),
        node("Mul", ["i", "i"], ["squares"]),
        node("Add", ["i", "i"], ["twice"]),
        node("Less", ["i", "squares"], ["less"]),
        node("Cast", ["rows"], ["whole"], to=helper.np_dtype_to_tensor_dtype(np.dtype(np.int32))),
        node("Where", ["less", "i", "twice"], ["y"]),
    ]
    feeds = {"i": np.array([[3, 0, 4], [1, -1, 2], [5, 5, 0]], np.int64)}
    return of(nodes, feeds, ["rows", "squares", "less", "whole", "y"], {"table": 100 * normal(6, 7)}), feeds


def quantized() -> Made:
    """To u8 and back."""
    nodes = [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["y"])]
    feeds = {"x": 3 * normal(5, 19)}
    return of(nodes, feeds, ["q", "y"], {"s": np.array(0.05, np.float32), "z": np.array(117, np.uint8)}), feeds


def moved() -> Made:
    """Slices, pads, joins and turns."""
    weights = {
        "pads": np.array([0, 1, 0, 0, 2, 3], np.int64),
        **{name: np.array([value], np.int64) for name, value in (("from", -1), ("to", -100), ("along", 2), ("by", -2))},
    }
    nodes = [
        node("Pad", ["x", "pads"], ["p"], mode="edge"),
        node("Slice", ["p", "from", "to", "along", "by"], ["s"]),
        node("Transpose", ["s"], ["t"], perm=[2, 0, 1]),
        node("Concat", ["t", "t"], ["y"], axis=1),
    ]
    feeds = {"x": normal(2, 6, 13)}
    return of(nodes, feeds, ["y"], weights), feeds


def _with_opset(message: ModelProto, version: int) -> ModelProto:
    message.opset_import[0].version = version
    return message


SPREAD: Mapping[str, Callable[[], Made]] = {
    each.__name__: each
    for each in (
        *(product, products_of_inputs, vector, convolution, winograd, depthwise, transposed, attention, functions, expressed),
        *(softmax, norms, resized, pooled, reduced, integers, quantized, moved),
    )
}
