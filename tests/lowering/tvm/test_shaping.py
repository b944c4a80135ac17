"""Ops that move, choose, pool, normalize and quantize elements, in whole programs against the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

from ..models import node, normal
from .programs import assert_right, compiled, of
from .running import needs_tvm

pytestmark = [needs_tvm, pytest.mark.usefixtures("in_this_process")]


def right(nodes: list[Any], feeds: dict[str, Any], weights: dict[str, Any] | None = None, outputs: str = "y") -> None:
    """The named outputs are those of the reference."""
    assert_right(of(nodes, feeds, outputs.split(), weights), feeds)


def whole(*shape: int, low: int = -100, high: int = 100, dtype: Any = np.int64) -> np.ndarray:
    """Random whole numbers, the same each time."""
    return np.random.default_rng(0).integers(low, high, shape).astype(dtype)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
def test_padding(mode: str) -> None:
    pad = node("Pad", ["x", "p"], ["y"], mode=mode)
    right([pad], {"x": normal(2, 3, 5, 4)}, {"p": np.array([0, 1, 2, 1, 1, 0, 1, 2])})
    right([pad], {"x": whole(7)}, {"p": np.array([3, 2])})


def test_padding_by_a_given_number_and_of_some_axes() -> None:
    value = {"v": np.array(3.5, np.float32)}
    right([node("Pad", ["x", "p", "v"], ["y"])], {"x": normal(4, 5)}, {"p": np.array([-1, 2, 1, -2]), **value})
    right(
        [node("Pad", ["x", "p", "v", "a"], ["y"])], {"x": normal(4, 5), **value}, {"p": np.array([1, 2]), "a": np.array([-2])}
    )


def test_padding_between_convolutions() -> None:
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("Pad", ["c", "p"], ["d"], mode="reflect"),
        node("Conv", ["d", "v"], ["y"], pads=[0, 1, 1, 0]),
    ]
    weights = {"w": normal(8, 3, 1, 1), "p": np.array([0, 0, 1, 2, 0, 0, 2, 1]), "v": normal(4, 8, 3, 3)}
    right(nodes, {"x": normal(1, 3, 6, 6)}, weights)


def test_repeats_and_blocks() -> None:
    right([node("Tile", ["x", "r"], ["y"])], {"x": normal(2, 3, 4)}, {"r": np.array([2, 1, 3])})
    for mode in ("DCR", "CRD"):
        right([node("DepthToSpace", ["x"], ["y"], blocksize=2, mode=mode)], {"x": normal(2, 12, 3, 4)})
    right([node("SpaceToDepth", ["x"], ["y"], blocksize=2)], {"x": normal(2, 3, 4, 6)})


def test_triangles() -> None:
    for upper in (0, 1):
        right([node("Trilu", ["x"], ["y"], upper=upper)], {"x": whole(2, 4, 5)})
        right([node("Trilu", ["x", "k"], ["y"], upper=upper)], {"x": normal(4, 5)}, {"k": np.array(-1)})
        right([node("Trilu", ["x", "k"], ["y"], upper=upper)], {"x": normal(4, 5), "k": np.array(2)})


def test_what_follows_from_shapes() -> None:
    filled = node("ConstantOfShape", ["s"], ["c"], value=numpy_helper.from_array(np.array([7])))
    nodes = [
        *(filled, node("Add", ["c", "x"], ["y"]), node("Shape", ["x"], ["a"], start=1), node("Size", ["x"], ["b"])),
        *(node("EyeLike", ["x"], ["e"], k=1), node("CastLike", ["x", "f"], ["l"]), node("Dropout", ["f"], ["d", "m"])),
    ]
    right(nodes, {"x": whole(2, 3), "f": normal(2)}, {"s": np.array([2, 3])}, "y a b e l d m")


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_places_of_extremes(axis: int) -> None:
    nodes = [
        node(op, ["x"], [f"{op}{last}"], axis=axis, select_last_index=last, keepdims=last)
        for op in ("ArgMax", "ArgMin")
        for last in (0, 1)
    ]
    right(nodes, {"x": np.round(normal(3, 40, 5))}, outputs="ArgMax0 ArgMax1 ArgMin0 ArgMin1")


def test_normalizations_of_channels() -> None:
    numbers = {name: np.abs(normal(6, seed=seed)) for seed, name in enumerate("sbmv")}
    image = {"x": normal(2, 6, 4, 5)}
    right([node("InstanceNormalization", ["x", "s", "b"], ["y"])], image, numbers)
    right([node("InstanceNormalization", ["x", "s", "b"], ["y"])], {"x": normal(2, 6, 40), **numbers})
    right([node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"])], image, numbers)
    group = node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=3)
    right([group], image, numbers)
    right([node("Conv", ["i", "w"], ["x"]), group], {"i": image["x"]}, {"w": normal(6, 6, 1, 1), **numbers})


def test_means_of_large_images_are_as_exact_as_those_of_small_ones() -> None:
    """Squares of 2**18 pixels one after the other would be off by 1e-4 of their sum, and the result with them."""
    image = normal(1, 512, 512, 4) + np.float32(30)
    nodes = [node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]), node("InstanceNormalization", ["t", "s", "b"], ["y"])]
    weights = {"s": np.ones(4, np.float32), "b": np.zeros(4, np.float32)}
    program = compiled(of(nodes, {"x": image}, ["y"], weights)).program
    wide = image.transpose(0, 3, 1, 2).astype(np.float64)
    wanted = (wide - wide.mean((2, 3), keepdims=True)) / np.sqrt(wide.var((2, 3), keepdims=True) + 1e-5)
    given = program.run({"x": image})["y"]
    assert np.linalg.norm(given - wanted) < 1e-5 * np.linalg.norm(wanted)


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_quantization(kind: Any) -> None:
    ends = np.array([np.inf, -np.inf, 0.15, 0.45, 0.75, np.nan], np.float32)
    scale, zero = {"s": np.array(0.3, np.float32)}, {"z": np.array(3, kind)}
    right([node("QuantizeLinear", ["x", "s", "z"], ["y"])], {"x": np.concatenate([normal(40) * 50, ends])}, {**scale, **zero})
    right([node("DequantizeLinear", ["x", "s", "z"], ["y"])], {"x": whole(3, 5, low=0, dtype=kind), **scale}, zero)
    both = [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["y"])]
    by_axis = {"s": np.array([0.3, 0.1, 0.02], np.float32), "z": np.array([1, 2, 3], kind)}
    right(both, {"x": normal(2, 3, 4, 5)}, by_axis, "q y")
    blocks = node("DequantizeLinear", ["x", "s", "z"], ["y"], block_size=2)
    right([blocks], {"x": whole(3, 6, low=0, dtype=kind)}, {"s": normal(3, 3), "z": whole(3, 3, low=0, high=9, dtype=kind)})


def test_sums_of_products_are_dequantized() -> None:
    feeds = {"x": whole(3, 6, low=-(10**9), high=10**9, dtype=np.int32)}
    right([node("DequantizeLinear", ["x", "s"], ["y"])], feeds, {"s": np.array(0.3, np.float32)})


def test_elements_and_slices_at_computed_places() -> None:
    x = normal(3, 4, 5)
    for axis in (0, 1, -1):
        feeds = {"x": x, "i": whole(2, 3, 4, low=-3, high=3)}
        right([node("GatherElements", ["x", "i"], ["y"], axis=axis)], feeds)
    right([node("GatherND", ["x", "i"], ["y"])], {"x": x, "i": whole(2, 3, 2, low=-3, high=3)})
    right([node("GatherND", ["x", "i"], ["y"], batch_dims=1)], {"x": x, "i": whole(3, 2, 1, low=-4, high=4)})


@pytest.mark.parametrize("how", ["none", "add", "mul"])
def test_scattering(how: str) -> None:
    once = how == "none"
    rows = np.array([[0], [2], [-1]]) if once else whole(3, 1, low=-4, high=4)
    places = np.array([[0, 1, 2, 3]] * 3) if once else whole(3, 4, low=-4, high=4)
    right([node("ScatterND", ["x", "i", "u"], ["y"], reduction=how)], {"x": normal(4, 5), "i": rows, "u": normal(3, 5)})
    scatter = node("ScatterElements", ["x", "i", "u"], ["y"], axis=1, reduction=how)
    right([scatter], {"x": normal(4, 5), "i": places, "u": normal(3, 4)})


@pytest.mark.parametrize(
    ("shape", "attributes"),
    [
        ((1, 5, 6, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
        ((1, 5, 6, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "pads": [1, 1, 1, 1]}),
        ((1, 3, 6, 6), {"kernel_shape": [2, 2], "strides": [3, 3], "ceil_mode": 1, "pads": [0, 0, 1, 1]}),
        ((1, 3, 9, 9), {"kernel_shape": [3, 2], "strides": [2, 3], "ceil_mode": 1, "dilations": [2, 2]}),
        ((1, 3, 8, 9), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"}),
        ((2, 5, 9), {"kernel_shape": [3], "strides": [2]}),
        ((1, 3, 5, 6, 7), {"kernel_shape": [2, 3, 2], "strides": [2, 1, 2], "pads": [0, 1, 1, 1, 1, 0]}),
    ],
    ids=str,
)
def test_pooling(shape: tuple[int, ...], attributes: dict[str, Any]) -> None:
    nodes = [node("MaxPool", ["x"], ["a"], **attributes), node("AveragePool", ["x"], ["b"], **attributes)]
    right(nodes, {"x": normal(*shape)}, outputs="a b")


def test_images_are_not_all_of_floats() -> None:
    """A result lies as its operand does, in memory of its own dtype."""
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        node("Add", ["t", "t"], ["a"]),
        node("Greater", ["t", "c"], ["g"]),
        node("Reshape", ["a", "all"], ["y"]),
        node("Transpose", ["g"], ["z"], perm=[0, 2, 3, 1]),
    ]
    right(nodes, {"x": whole(1, 4, 5, 6)}, {"all": np.array([-1]), "c": np.array(3)}, "y z")
