"""What entries do in each op, as one visible table: a rule for each op that has one."""

from __future__ import annotations

from collections.abc import Mapping

from irc.passes import ELEMENTWISE

from . import computing, moving
from .entries import Rule

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, computing.elementwise),
    **dict.fromkeys(
        ("AveragePool", "Conv", "ConvTranspose", "DepthToSpace", "GlobalAveragePool", "GlobalMaxPool"), computing.along_first
    ),
    **dict.fromkeys(("GlobalLpPool", "GroupNormalization", "InstanceNormalization", "LRN", "LpPool"), computing.along_first),
    **dict.fromkeys(
        ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean"), computing.reduction
    ),
    **dict.fromkeys(("ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"), computing.reduction),
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), moving.reshape),
    **dict.fromkeys(("GRU", "LSTM", "RNN"), computing.recurrent),
    **dict.fromkeys(("GatherElements", "ScatterElements"), moving.by_element),
    **dict.fromkeys(("Hardmax", "LogSoftmax", "LpNormalization", "Softmax"), computing.softmax),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), computing.normalization),
    **dict.fromkeys(("ArgMax", "ArgMin"), computing.argument),
    **dict.fromkeys(("DequantizeLinear", "QuantizeLinear"), computing.scaled),
    "Attention": computing.attention,
    "BatchNormalization": computing.batch_normalization,
    "CastLike": computing.like,
    "Concat": moving.concat,
    "ConvInteger": computing.along_first,
    "ConstantOfShape": moving.new_axis,
    "CumSum": computing.cumulative,
    "Dropout": computing.dropout,
    "Einsum": computing.einsum,
    "Expand": moving.expand,
    "Gather": moving.gather,
    "GatherND": moving.gather_nd,
    "Gemm": computing.gemm,
    "GridSample": computing.along_both,
    "Identity": computing.as_first,
    "MatMul": computing.matmul,
    "MatMulInteger": computing.matmul_of_integers,
    "MaxPool": computing.max_pool,
    "OneHot": moving.one_hot,
    "Pad": moving.pad,
    "QLinearConv": computing.along_first,
    "QLinearMatMul": computing.matmul_of_integers,
    "Resize": moving.resize,
    "RotaryEmbedding": computing.rotary,
    "Slice": moving.slice,
    "SpaceToDepth": computing.along_first,
    "Split": moving.split,
    "Tile": moving.tile,
    "TopK": computing.top,
    "Transpose": moving.transpose,
    "Trilu": moving.triangle,
}
"""What entries do in each op; ops without a row only take what is shared."""

TAKES_SIZES: Mapping[str, tuple[int, ...]] = {
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "Reshape": (1,),
    "Resize": (3,),
    "Slice": (2,),
    "Tile": (1,),
}
"""The operands of an op that may be sizes that follow from the number of entries: its shape follows from them, nothing else."""
