# pyright: basic
"""Small networks with channels to prune: a builder by hand, and random ones with residuals, concats and everything else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from hypothesis import strategies as st

from irc.ir import DType, Graph, Tensor, TensorType, Value, at, constant_op, dims, make, verify

N = dims.named("N")


class Network:
    """A graph in the making; constants have names of their own, and random contents."""

    def __init__(self, *shape: int | dims.SymbolicDim, seed: int = 0) -> None:
        self.graph = Graph("main")
        self.rng = np.random.default_rng(seed)
        self.x = self.graph.add_input("x", TensorType(DType.F32, shape))

    def constant(self, array: object, name: str = "") -> Value:
        name = name or f"c{len(self.graph)}"
        return self.graph.append(constant_op(Tensor.from_array(np.asarray(array)), at(name), name)).result

    def weights(self, *shape: int) -> Value:
        return self.constant((self.rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32))

    def several(self, name: str, *operands: Value | None, results: int, **attributes: object) -> list[Value]:
        location = at(f"{name.lower()}_{len(self.graph)}")
        op = make(name, list(operands), location, attributes=dict(attributes), results=results)  # type: ignore[arg-type]
        return self.graph.append(op).results

    def op(self, name: str, *operands: Value | None, **attributes: object) -> Value:
        return self.several(name, *operands, results=1, **attributes)[0]

    def conv(self, x: Value, channels: int, size: int = 3, group: int = 1, bias: bool = True) -> Value:
        weight = self.weights(channels, int(x.shape[1]) // group, size, size)
        more = [self.constant(self.rng.standard_normal(channels).astype(np.float32))] if bias else []
        return self.op("Conv", x, weight, *more, pads=(size // 2,) * 4, group=group)

    def norm(self, x: Value) -> Value:
        count = x.shape[1]
        vectors = [self.constant(self.rng.uniform(0.5, 1.5, count).astype(np.float32)) for _ in range(4)]
        return self.op("BatchNormalization", x, *vectors)

    def head(self, x: Value, classes: int = 5, flat: bool = False) -> Graph:
        """Classify what there is, and end."""
        if not flat:
            x = self.op("GlobalAveragePool", x)
        x = self.op("Flatten", x)
        x = self.op("Gemm", x, self.weights(classes, int(x.shape[1])), self.weights(classes), transB=1)
        return self.end(x)

    def end(self, *values: Value) -> Graph:
        for index, value in enumerate(values):
            self.graph.add_output(value, f"y{index}")
        verify(self.graph)
        return self.graph


Pick = Callable[[Sequence], object]


def residual(n: Network, x: Value, pick: Pick) -> Value:
    y = n.op("Relu", n.norm(n.conv(x, int(x.shape[1]))))
    return n.op("Add", x, y) if pick([True, False]) else n.op("Add", y, x)


def concat(n: Network, x: Value, pick: Pick) -> Value:
    parts = [x, n.conv(x, pick([2, 3, 6])), n.conv(x, pick([1, 4]), 1)]
    return n.op("Concat", *(parts if pick([True, False]) else [parts[1], x, x]), axis=pick([1, -3]))


def depthwise(n: Network, x: Value, pick: Pick) -> Value:
    return n.op("Clip", n.conv(x, int(x.shape[1]) * pick([1, 2]), group=int(x.shape[1])), n.constant(np.float32(0)))


def grouped(n: Network, x: Value, pick: Pick) -> Value:
    return n.conv(n.conv(x, 8, 1), pick([4, 8, 12]), group=pick([2, 4]))


def gated(n: Network, x: Value, pick: Pick) -> Value:
    squeezed = n.op("ReduceMean", x, n.constant(np.array([2, 3])), keepdims=1)
    return n.op("Mul", x, n.op("Sigmoid", n.conv(n.op("Relu", n.conv(squeezed, 3, 1)), int(x.shape[1]), 1)))


def split(n: Network, x: Value, pick: Pick) -> Value:
    x = n.conv(x, 8)
    if pick([True, False]):
        a, b = n.several("Split", x, n.constant(np.array([3, 5])), results=2, axis=1)
    else:
        a, b = n.several("Split", x, results=2, axis=1, num_outputs=2)
    return n.op("Concat", b, n.conv(a, 4), axis=1)


def sliced(n: Network, x: Value, pick: Pick) -> Value:
    x = n.conv(x, 9)
    if pick([True, False]):
        return n.op("Gather", x, n.constant(np.array([7, 0, -3, 4])), axis=1)
    ends, axes = n.constant(np.array([pick([8, -1, 2**40])])), n.constant(np.array([1]))
    return n.op("Slice", x, n.constant(np.array([2])), ends, axes)


def sized(n: Network, x: Value, pick: Pick) -> Value:
    if pick([True, False]):
        weight = n.weights(int(x.shape[1]), 4, 2, 2)
        return n.op("MaxPool", n.op("ConvTranspose", x, weight, strides=(2, 2)), kernel_shape=(2, 2), strides=(2, 2))
    sizes = n.constant(np.array([2, int(x.shape[1]), 8, 8]))
    y = n.op("Resize", n.op("AveragePool", x, kernel_shape=(2, 2), strides=(2, 2)), None, None, sizes, mode="linear")
    return n.op("PRelu", y, n.weights(int(x.shape[1]), 1, 1))


def shuffled(n: Network, x: Value, pick: Pick) -> Value:
    x = n.conv(x, 8)
    y = n.op("Reshape", x, n.constant(np.array([0, 2, 4, 8, 8])))
    y = n.op("Transpose", y, perm=(0, 2, 1, 3, 4) if pick([True, False]) else (0, 1, 2, 4, 3))
    return n.op("Reshape", y, n.constant(np.array([-1, 8, 8, 8])))


def normalized(n: Network, x: Value, pick: Pick) -> Value:
    x = n.conv(x, 6)
    vectors = [n.constant(n.rng.standard_normal(6).astype(np.float32)) for _ in range(2)]
    if pick([True, False]):
        return n.op("GroupNormalization", x, *vectors, num_groups=3)
    return n.op("InstanceNormalization", x, *vectors)


def spread(n: Network, x: Value, pick: Pick) -> Value:
    y = n.op("SpaceToDepth", n.op("DepthToSpace", n.conv(x, 8), blocksize=2, mode=pick(["DCR", "CRD"])), blocksize=2)
    return n.op("Pad", y, n.constant(np.array([0, 1, 0, 0, 0, 2, 0, 0])))


def tokens(n: Network, x: Value, pick: Pick) -> Value:
    """A transformer's two-layer network on pixels, behind a norm over the channels."""
    x = n.conv(x, 6)
    y = n.op("Transpose", n.op("Reshape", x, n.constant(np.array([0, 6, -1]))), perm=(0, 2, 1))
    z = n.op("LayerNormalization", y, n.weights(6), n.weights(6), axis=-1)
    z = n.op("Gelu", n.op("Add", n.op("MatMul", z, n.weights(6, 10)), n.weights(10)))
    y = n.op("Add", y, n.op("MatMul", z, n.weights(10, 6)))
    return n.op("Reshape", n.op("Transpose", y, perm=(0, 2, 1)), n.constant(np.array([0, 6, 8, 8])))


def attended(n: Network, x: Value, pick: Pick) -> Value:
    """Attention of pixels with heads of their own."""
    x = n.conv(x, 6)
    y = n.op("Transpose", n.op("Reshape", x, n.constant(np.array([0, 6, 64]))), perm=(0, 2, 1))
    heads = n.constant(np.array([0, 64, 4, 2]))
    q, k, v = (n.op("Transpose", n.op("Reshape", n.op("MatMul", y, n.weights(6, 8)), heads), perm=(0, 2, 1, 3)) for _ in "qkv")
    if pick([True, False]):
        z = n.op("Attention", q, k, v)
    else:
        z = n.op("MatMul", n.op("Softmax", n.op("MatMul", q, n.op("Transpose", k, perm=(0, 1, 3, 2)))), v)
    z = n.op("Reshape", n.op("Transpose", z, perm=(0, 2, 1, 3)), n.constant(np.array([0, 64, 8])))
    return n.op(
        "Reshape", n.op("Transpose", n.op("MatMul", z, n.weights(8, 6)), perm=(0, 2, 1)), n.constant(np.array([0, 6, 8, 8]))
    )


def rotated(n: Network, x: Value, pick: Pick) -> Value:
    """Attention with heads in one axis, of which pairs share their keys."""
    y = n.op("Transpose", n.op("Reshape", n.conv(x, 6), n.constant(np.array([0, 6, 64]))), perm=(0, 2, 1))
    angles = [n.constant(n.rng.standard_normal((64, 1)).astype(np.float32)) for _ in range(2)]
    places = n.constant(np.tile(np.arange(64), (2, 1)))
    q, k, v = (n.op("MatMul", y, n.weights(6, columns)) for columns in (16, 8, 8))
    if x.shape[0] == 2:
        q, k = (n.op("RotaryEmbedding", z, *angles, places, num_heads=h) for z, h in ((q, 8), (k, 4)))
    z = n.op("Attention", q, k, v, q_num_heads=8, kv_num_heads=4, is_causal=pick([0, 1]))
    return n.op(
        "Reshape", n.op("Transpose", n.op("MatMul", z, n.weights(16, 6)), perm=(0, 2, 1)), n.constant(np.array([0, 6, 8, 8]))
    )


def computed(n: Network, x: Value, pick: Pick) -> Value:
    """A Reshape to sizes that are put together at run time, and a bias made by Expand."""
    x = n.op(
        "Conv", x, n.weights(6, int(x.shape[1]), 1, 1), n.op("Expand", n.constant(np.float32(0.5)), n.constant(np.array([6])))
    )
    size = n.op("Shape", x, start=0, end=1)
    y = n.op("Reshape", x, n.op("Concat", size, n.constant(np.array([6, 64])), axis=0))
    return n.op("Reshape", y, n.op("Concat", size, n.constant(np.array([6, 8, 8])), axis=0))


STEPS = (
    residual, concat, depthwise, grouped, gated, split, sliced, sized, shuffled, normalized, spread, tokens, attended, rotated,
    computed,
)  # fmt: skip


@st.composite
def networks(draw: Callable[[st.SearchStrategy], object]) -> Graph:
    """A network of a few random steps on images of 8x8 pixels."""
    n = Network(pick(draw, [2, N]), 3, 8, 8, seed=draw(st.integers(0, 1000)))
    x = n.conv(n.x, pick(draw, [4, 6, 7]))
    for step in draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=4)):
        if step is sized and x.shape[0] != 2:
            continue
        x = step(n, x, lambda choices: pick(draw, choices))
    return n.head(x, flat=pick(draw, [True, False]))


def pick(draw: Callable[[st.SearchStrategy], object], choices: Sequence) -> object:
    return draw(st.sampled_from(list(choices)))
