"""Which kernel computes which op, as a visible table: one row of MAINS each op that is more than pointwise or movement."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .composing import lower_hardmax, lower_lp_normalization
from .dynamic import lower_dynamic_quantize
from .images import lower_concat, lower_pool, lower_resize
from .lowerer import Lowerer
from .normalizing import lower_batch_normalization, lower_group_normalization
from .quantizing import lower_dequantize, lower_quantize
from .reductions import REDUCTIONS
from .regions import Region
from .scattering import lower_gather_elements, lower_gather_nd, lower_scatter
from .sequences import (
    lower_argument,
    lower_attention,
    lower_cumulative_sum,
    lower_gather,
    lower_normalization,
    lower_reduction,
    lower_rotary,
    lower_softmax,
)
from .shaping import (
    lower_blocks,
    lower_cast_like,
    lower_diagonal,
    lower_dropout,
    lower_filled,
    lower_pad,
    lower_shape,
    lower_tile,
    lower_triangle,
)
from .transposed import lower_transposed_conv
from .weighted import lower_conv, lower_gemm, lower_matmul

Lower = Callable[[Lowerer, Region], None]
"""Makes the calls of a region and places its result."""

MAINS: Mapping[str, tuple[Lower, bool]] = {
    "ArgMax": (lower_argument, False),
    "ArgMin": (lower_argument, False),
    "Attention": (lower_attention, True),
    "AveragePool": (lower_pool, False),
    "BatchNormalization": (lower_batch_normalization, False),
    "CastLike": (lower_cast_like, False),
    "Concat": (lower_concat, False),
    "ConstantOfShape": (lower_filled, False),
    "Conv": (lower_conv, True),
    "ConvTranspose": (lower_transposed_conv, True),
    "CumSum": (lower_cumulative_sum, False),
    "DepthToSpace": (lower_blocks, False),
    "DequantizeLinear": (lower_dequantize, False),
    "Dropout": (lower_dropout, False),
    "DynamicQuantizeLinear": (lower_dynamic_quantize, False),
    "EyeLike": (lower_diagonal, False),
    "Gather": (lower_gather, False),
    "GatherElements": (lower_gather_elements, False),
    "GatherND": (lower_gather_nd, False),
    "Gemm": (lower_gemm, True),
    "GlobalAveragePool": (lower_pool, False),
    "GlobalMaxPool": (lower_pool, False),
    "GroupNormalization": (lower_group_normalization, False),
    "Hardmax": (lower_hardmax, False),
    "InstanceNormalization": (lower_group_normalization, False),
    "LayerNormalization": (lower_normalization, True),
    "LogSoftmax": (lower_softmax, True),
    "LpNormalization": (lower_lp_normalization, False),
    "MatMul": (lower_matmul, True),
    "MaxPool": (lower_pool, False),
    "Pad": (lower_pad, False),
    "QuantizeLinear": (lower_quantize, False),
    "RMSNormalization": (lower_normalization, True),
    "Resize": (lower_resize, False),
    "RotaryEmbedding": (lower_rotary, False),
    "ScatterElements": (lower_scatter, False),
    "ScatterND": (lower_scatter, False),
    "Shape": (lower_shape, False),
    "Size": (lower_shape, False),
    "Softmax": (lower_softmax, True),
    "SpaceToDepth": (lower_blocks, False),
    "Tile": (lower_tile, False),
    "Trilu": (lower_triangle, False),
    **dict.fromkeys(REDUCTIONS, (lower_reduction, False)),
}
"""How each op is lowered, and whether the pointwise ops behind it are computed with it."""

KEEPING = frozenset({"LayerNormalization", "RMSNormalization"})
"""Those whose kernel writes its result as it is and narrow, where both are read."""
