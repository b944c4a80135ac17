"""Matrix products and convolutions, each in several ways."""

# pyright: basic
from __future__ import annotations

import numpy as np

from .sketch import Sketch, Ways, normal, ways_of


def matmul_add(rows: int, inner: int, columns: int) -> Ways:
    """x W + b for x of rank 3."""
    w, b = normal(inner, columns, seed=1), normal(columns, seed=2)

    def gemm_of_transposed(s: Sketch) -> str:
        flat = s("Reshape", "x", s.constant([-1, inner], np.int64))
        product = s("Gemm", flat, s.constant(w.T.copy()), s.constant(b), transB=1)
        return s("Reshape", product, s.constant([1, rows, columns], np.int64))

    def gemm(s: Sketch) -> str:
        flat = s("Reshape", "x", s.constant([-1, inner], np.int64))
        return s("Reshape", s("Gemm", flat, s.constant(w), s.constant(b)), s.constant([1, rows, columns], np.int64))

    return ways_of(
        {"x": normal(1, rows, inner)},
        MatMul__Add_without_MatMulAddFusion=lambda s: s("Add", s("MatMul", "x", s.constant(w)), s.constant(b)),
        Reshape__Gemm__Reshape=gemm,
        Reshape__Gemm__Reshape_of_transB=gemm_of_transposed,
        MatMul=lambda s: s("MatMul", "x", s.constant(w)),
    )


def parallel_matmuls(rows: int, inner: int, *columns: int) -> Ways:
    """Several matmuls of one operand, and one with a Split behind it."""
    ws = [normal(inner, c, seed=i) for i, c in enumerate(columns)]

    def apart(s: Sketch) -> tuple[str, ...]:
        return tuple(s("MatMul", "x", s.constant(w)) for w in ws)

    def merged(s: Sketch) -> tuple[str, ...]:
        whole = s("MatMul", "x", s.constant(np.concatenate(ws, axis=1)))
        s("Split", whole, s.constant(columns, np.int64), axis=-1, results=len(columns))
        return tuple(s.nodes[-1].output)

    return ways_of({"x": normal(1, rows, inner)}, apart=apart, merged__Split=merged)


def conv_of_tokens(height: int, width: int, channels: int) -> Ways:
    """A depthwise convolution between tokens [1,H*W,C], as in Segformer: which of Reshape and Transpose comes first."""
    weights, bias = normal(channels, 1, 3, 3, seed=1), normal(channels, seed=2)
    attributes = {"group": channels, "pads": [1, 1, 1, 1]}

    def conv(s: Sketch, x: str) -> str:
        return s("Conv", x, s.constant(weights), s.constant(bias), **attributes)

    def transposed_first(s: Sketch) -> str:
        image = s("Reshape", s("Transpose", s("Relu", "x"), perm=[0, 2, 1]), s.constant([1, channels, height, width], np.int64))
        flat = s("Reshape", conv(s, image), s.constant([1, channels, height * width], np.int64))
        return s("Gelu", s("Transpose", flat, perm=[0, 2, 1]))

    def reshaped_first(s: Sketch) -> str:
        image = s(
            "Transpose", s("Reshape", s("Relu", "x"), s.constant([1, height, width, channels], np.int64)), perm=[0, 3, 1, 2]
        )
        last = s("Transpose", conv(s, image), perm=[0, 2, 3, 1])
        return s("Gelu", s("Reshape", last, s.constant([1, height * width, channels], np.int64)))

    return ways_of({"x": normal(1, height * width, channels)}, transposed_first=transposed_first, reshaped_first=reshaped_first)
