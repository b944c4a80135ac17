"""Normalizations: only GroupNormalization has no kernel, and what ONNX defines it by is slow.

Measured on 2 threads (benchmarks/forms.py, f32; times against the first column):

    [1,320,32,32], 32 groups      GroupNormalization as ONNX defines it 1.00, InstanceNormalization and
                                  BatchNormalization 0.51, LayerNormalization of the groups, Mul, Add 0.52
    [2,64,64,64], 8 groups        1.00, 0.53, 0.48
    the scale of each channel within LayerNormalization: 1.18 to 1.22, and 3.0 in place of InstanceNormalization
    [1,128,768] after an Add      LayerNormalization 1.00, SkipLayerNormalization 5.1; [1,4096,32]: 2.7
                                  RMSNormalization 1.00, SkipSimplifiedLayerNormalization 1.8
    LayerNormalization, RMSNormalization and SimplifiedLayerNormalization written out: 2.2 to 2.6 times the kernels

The skip forms take one row at a time without vector instructions, so nothing makes them here and the engine's settings
keep ONNX Runtime from making them.
"""

from __future__ import annotations

import numpy as np

from irc.ir import DType, Op, Tensor, Value
from irc.passes import Contract, No, Rewriter, Rule, rule

from .facts import dtype_of, number, static_dims


@rule("GroupNormalization", contract=Contract.REASSOCIATING)
def group_norm_by_instances(op: Op, rewrite: Rewriter) -> Value | No:
    """Groups of channels are the instances of [N,G,...]; scale and bias of each channel are a BatchNormalization's."""
    x, groups = op.needed(0), op.integer("num_groups", 0)
    channels = static_dims(x, 1)
    if x.shape is None or len(x.shape) < 3 or channels is None:
        return No("its rank or its number of channels is not known")
    if any(dtype_of(value) is not DType.F32 for value in op.operands):
        return No("it is not f32")
    if groups < 1 or channels[0] % groups:
        return No("its channels do not make whole groups")
    split = rewrite.op("Reshape", [x, rewrite.constant(Tensor.integers((0, groups, -1)))])
    neutral = [_filled(rewrite, groups, value) for value in (1, 0)]
    normed = rewrite.op("InstanceNormalization", [split, *neutral], {"epsilon": number(op, "epsilon", 1e-5)})
    joined = rewrite.op("Reshape", [normed, _shape(rewrite, x)])
    mean, variance = (_filled(rewrite, channels[0], value) for value in (0, 1))
    return rewrite.op("BatchNormalization", [joined, *op.operands[1:], mean, variance], {"epsilon": 0.0})


def _filled(rewrite: Rewriter, count: int, value: float) -> Value:
    return rewrite.constant(Tensor.from_array(np.full(count, value, np.float32)))


def _shape(rewrite: Rewriter, value: Value) -> Value:
    """The shape of a value of known rank, as a constant where it is one but for one dim."""
    assert value.shape is not None
    sizes = [size if isinstance(size, int) else -1 for size in value.shape]
    if sizes.count(-1) > 1 or 0 in sizes:
        return rewrite.op("Shape", [value])
    return rewrite.constant(Tensor.integers(sizes))


RULES: tuple[Rule, ...] = (group_norm_by_instances,)
