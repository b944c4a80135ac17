"""Which ops there are kernels for: static shapes and known dtypes first, then what each kernel asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from irc.ir import DType, Op, TensorType, Value
from irc.passes import is_codebook_op

from ..opening import is_opened, why_not_opened, why_not_plain
from . import attention_plan, pointwise, reductions
from .expressions import dtype_of, shape_of
from .foreign import FOREIGN, why_not_foreign
from .movement import MOVEMENT
from .narrow import is_known
from .pointwise import HALF_TOO, POINTWISE
from .quantizing import why_not_quantized
from .scattering import why_not_indexed
from .sequences import reduced_axes
from .shaping import why_not_dropped, why_not_padded, why_not_triangle

TAKEN = frozenset({DType.F32, DType.F64, DType.I64, DType.I32, DType.I8, DType.U8, DType.BOOL, DType.BF16})
"""Element types that lie in the memory of a program."""

LONGEST_RESIZED = 2048
"""Elements of an axis that may be resized: the reference is asked what becomes of each."""

LARGEST = 1 << 31
"""Elements of a tensor: places are counted in 32 bits."""


def why_not(op: Op) -> str:
    """Why there is no kernel for `op`, as a clause; empty where there is one, or none is needed."""
    if is_known(op) or is_codebook_op(op):
        return ""
    if is_opened(op):
        return why_no_step(op) or why_not_opened(op) or why_not_plain(op, why_not_ours)
    if reason := why_no_step(op):
        return reason
    if has_halves(op) and op.qualified_name not in HALF_TOO | MOVEMENT.keys() | {"Concat"}:
        return f"it does not compute in {DType.BF16.text}"
    reason = why_not_ours(op)
    return why_not_foreign(op) if reason and op.qualified_name in FOREIGN else reason


def why_no_step(op: Op) -> str:
    """Why an op can be no step of a program, whatever kernels there are, as a clause; empty where it can."""
    if op.bodies:
        return "ops with bodies are left to ONNX Runtime"
    reasons = (why_not_placed(value) for value in (*op.operands, *op.results) if value is not None)
    return next(filter(None, reasons), "")


def has_halves(op: Op) -> bool:
    """Whether a value of an op is bf16."""
    return any(value is not None and dtype_of(value) is DType.BF16 for value in (*op.operands, *op.results))


def why_not_ours(op: Op) -> str:
    """Why there is no kernel of our own for an op whose values have memory, as a clause; empty where there is one."""
    name = op.qualified_name
    if name in POINTWISE:
        return pointwise.takes(op)
    if name in MOVEMENT:
        return _why_not_moved(op)
    return MAIN[name](op) if name in MAIN else "there is no kernel for it"


def why_not_placed(value: Value) -> str:
    """Why a value can have no memory of a known size, as a clause; empty where it can."""
    kind = value.type
    if not isinstance(kind, TensorType):
        return f"it has no {kind}"
    if kind.shape is None or not all(isinstance(size, int) for size in kind.shape):
        return "its sizes are not all known"
    elements = 1
    for size in kind.shape:
        elements *= size if isinstance(size, int) else 1
    if elements >= LARGEST:
        return "it is too large"
    if not elements and value.constant is None:
        return "it is empty"
    return "" if kind.dtype in TAKEN else f"it does not compute in {kind.dtype.text}"


def why_not_stashed(op: Op) -> str:
    """Why a normalization takes its means and variances in no dtype of ours, as a clause; empty where it does."""
    return "" if op.integer("stash_type", 1) == 1 else "it computes in another dtype"


def is_computed(op: Op, index: int) -> bool:
    """Whether there is an operand that is not known before the program runs."""
    return op.operand(index) is not None and op.constant_operand(index) is None


def _why_not_moved(op: Op) -> str:
    if op.is_a("Slice") and any(is_computed(op, index) for index in range(1, 5)):
        return "where it starts and ends is not constant"
    return ""


def _is_f32(value: Value | None) -> bool:
    return value is None or (isinstance(value.type, TensorType) and value.type.dtype is DType.F32)


def _why_not_multiplied(op: Op) -> str:
    """What contractions ask of their operands."""
    return "" if all(_is_f32(value) for value in op.operands) else "it is not f32"


def _pool(op: Op) -> str:
    if not _is_f32(op.operand(0)):
        return "it is not f32"
    if len(op.results) > 1 and (op.results[1].uses or op.results[1].is_output):
        return "it returns where the largest were"
    if op.integer("ceil_mode", 0) and op.integer("count_include_pad", 0):
        return "it counts the pads of a window that is cut off"
    return "" if len(op.needed(0).shape or ()) > 2 else "it has no spatial axes"


def _gather(op: Op) -> str:
    kind = op.needed(1).type
    return "" if isinstance(kind, TensorType) and kind.dtype in (DType.I32, DType.I64) else "its indices are no integers"


def _normalization(op: Op) -> str:
    if not all(_is_f32(value) for value in (*op.operands, *op.results[:1])):
        return "it is not f32"
    return why_not_stashed(op)


def _softmax(op: Op) -> str:
    return "" if _is_f32(op.operand(0)) else "it is not f32"


def _rotary(op: Op) -> str:
    if not all(_is_f32(op.operand(index)) for index in range(3)):
        return "it is not f32"
    if op.operand(3) is not None and dtype_of(op.needed(3)) is not DType.I64:
        return "its positions are not i64"
    rank = len(op.needed(0).shape or ())
    return "" if rank == 4 or op.integer("num_heads", 0) else "it does not say how many heads it has"


def _resize(op: Op) -> str:
    shape, result = op.needed(0).shape or (), op.result.shape or ()
    if not _is_f32(op.operand(0)):
        return "it is not f32"
    if len(shape) < 3 or shape[:2] != result[:2]:
        return "it resizes more than the spatial axes"
    if op.string("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return "it crops"
    if op.string("keep_aspect_ratio_policy", "stretch") != "stretch" or op.integers("axes") is not None:
        return "its sizes are said in another way"
    if op.constant_operand(2) is None and op.constant_operand(3) is None:
        return "its sizes are computed"
    longest = max(size for size in (*shape[2:], *result[2:]) if isinstance(size, int))
    return "it is too large" if longest > LONGEST_RESIZED else ""


def _reduction(op: Op) -> str:
    kind = op.needed(0).type
    assert isinstance(kind, TensorType)
    if is_computed(op, 1):
        return "its axes are computed"
    if kind.dtype not in reductions.TAKEN or (kind.dtype is not DType.F32 and op.name not in reductions.INTEGER_REDUCTIONS):
        return f"it does not reduce {kind.dtype.text}"
    return "" if reduced_axes(op, len(kind.shape or ())) else "it reduces nothing"


def _along_an_axis(op: Op) -> str:
    return "" if _is_f32(op.operand(0)) and shape_of(op.needed(0)) else "it is not f32"


def _cumulative_sum(op: Op) -> str:
    if op.constant_operand(1) is None:
        return "its axis is computed"
    kind = dtype_of(op.needed(0))
    return "" if kind in reductions.TAKEN and shape_of(op.needed(0)) else f"it does not sum {kind.text}"


def _argument(op: Op) -> str:
    kind = dtype_of(op.needed(0))
    return "" if kind in reductions.TAKEN else f"it does not compare {kind.text}"


def _group_normalization(op: Op) -> str:
    shape = shape_of(op.needed(0))
    if not all(_is_f32(value) for value in op.operands):
        return "it is not f32"
    if len(shape) < 3 or shape_of(op.needed(1)) != shape[1:2] or shape_of(op.needed(2)) != shape[1:2]:
        return "its scale is not that of channels"
    return why_not_stashed(op)


def _batch_normalization(op: Op) -> str:
    if op.integer("training_mode", 0) or any(result.uses or result.is_output for result in op.results[1:]):
        return "it is in training"
    if len(shape_of(op.needed(0))) < 2:
        return "it has no channels"
    return "" if all(_is_f32(value) for value in op.operands) else "it is not f32"


def _filled(op: Op) -> str:
    return "" if op.constant_operand(0) is not None else "its shape is computed"


def _tiled(op: Op) -> str:
    return "" if op.constant_operand(1) is not None else "its repeats are computed"


def _always(op: Op) -> str:
    return ""


MAIN: Mapping[str, Callable[[Op], str]] = {
    "ArgMax": _argument,
    "ArgMin": _argument,
    "Attention": attention_plan.takes,
    "AveragePool": _pool,
    "BatchNormalization": _batch_normalization,
    "CastLike": _always,
    "Concat": _always,
    "ConstantOfShape": _filled,
    "Conv": _why_not_multiplied,
    "ConvTranspose": _why_not_multiplied,
    "CumSum": _cumulative_sum,
    "DepthToSpace": _always,
    "DequantizeLinear": why_not_quantized,
    "Dropout": why_not_dropped,
    "DynamicQuantizeLinear": lambda op: "" if _is_f32(op.needed(0)) else "it is not f32",
    "EyeLike": _always,
    "Gather": _gather,
    "GatherElements": why_not_indexed,
    "GatherND": why_not_indexed,
    "Gemm": _why_not_multiplied,
    "GlobalAveragePool": _pool,
    "GlobalMaxPool": _pool,
    "GroupNormalization": _group_normalization,
    "Hardmax": _along_an_axis,
    "InstanceNormalization": _group_normalization,
    "LayerNormalization": _normalization,
    "LogSoftmax": _softmax,
    "LpNormalization": _along_an_axis,
    "MatMul": _why_not_multiplied,
    "MaxPool": _pool,
    "Pad": why_not_padded,
    "QuantizeLinear": why_not_quantized,
    "RMSNormalization": _normalization,
    "Resize": _resize,
    "RotaryEmbedding": _rotary,
    "ScatterElements": why_not_indexed,
    "ScatterND": why_not_indexed,
    "Shape": _always,
    "Size": _always,
    "Softmax": _softmax,
    "SpaceToDepth": _always,
    "Tile": _tiled,
    "Trilu": why_not_triangle,
    **dict.fromkeys(reductions.REDUCTIONS, _reduction),
}
"""What each kernel asks of its op."""
