"""Which ops there are kernels for on GPUs: those that TVM imports and computes as ONNX means them, said op by op.

Law: what stands here has been run, on a CPU in place of a GPU, and compared with the reference, special values included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from irc.ir import DType, Op

from .. import attention_plan
from ..expressions import dtype_of, shape_of
from ..legality import is_computed, why_no_step, why_not_stashed

FLOAT = frozenset({DType.F32})
INTEGER = frozenset({DType.I32, DType.I64})
BOOL = frozenset({DType.BOOL})
NUMBER = FLOAT | INTEGER
ANY = NUMBER | BOOL
"""Element types that there are kernels for."""

Asks = Callable[[Op], str]


def why_not(op: Op) -> str:
    """Why there is no kernel for `op`, as a clause; empty where there is one."""
    if reason := why_no_step(op):
        return reason
    row = OPS.get(op.qualified_name)
    if row is None or op.version is not None:
        return "there is no kernel for it on GPUs"
    dtypes, asks = row
    for value in (*op.operands, *op.results):
        if value is not None and dtype_of(value) not in ANY:
            return f"it does not compute in {dtype_of(value).text} on GPUs"
    if dtype_of(op.needed(0)) not in dtypes:
        return f"it does not compute in {dtype_of(op.needed(0)).text} on GPUs"
    return asks(op)


def _always(op: Op) -> str:
    return ""


def _is_constant(*indices: int) -> Asks:
    """What these operands are has to be known."""

    def asks(op: Op) -> str:
        return "what it does is computed" if any(is_computed(op, index) for index in indices) else ""

    return asks


def _has_one_result(op: Op) -> str:
    return "it returns more than one result" if any(each.uses or each.is_output for each in op.results[1:]) else ""


def _cast(op: Op) -> str:
    given, made = dtype_of(op.needed(0)), dtype_of(op.result)
    return "" if given in ANY and made in ANY else f"it does not cast {given.text} to {made.text} on GPUs"


def _same_dtype(op: Op) -> str:
    first = dtype_of(op.needed(0))
    return "" if all(each is None or dtype_of(each) is first for each in op.operands) else "its operands are of two types"


def _window(op: Op) -> str:
    """A convolution or a pool along one to three axes."""
    if len(shape_of(op.needed(0))) not in (3, 4, 5):
        return "it has no one to three spatial axes"
    return _has_one_result(op)


def _pool(op: Op) -> str:
    if op.integer("ceil_mode", 0):
        return "its last windows are cut off"
    return _window(op) or _auto(op)


def _auto(op: Op) -> str:
    return "its pads are not said" if op.string("auto_pad", "NOTSET") not in ("NOTSET", "VALID") else ""


def _convolution(op: Op) -> str:
    return _window(op) or _auto(op)


def _transposed(op: Op) -> str:
    if op.integers("output_shape") is not None:
        return "its pads are not said"
    return _convolution(op)


def _normalization(op: Op) -> str:
    return _has_one_result(op) or why_not_stashed(op)


def _root_mean_square(op: Op) -> str:
    rank = len(shape_of(op.needed(0)))
    return _normalization(op) or ("" if op.integer("axis", -1) % rank else "it takes all axes together")


def _batch(op: Op) -> str:
    return "it is in training" if op.integer("training_mode", 0) else _has_one_result(op)


def _attention(op: Op) -> str:
    return attention_plan.takes(op) or ("it caps its scores" if op.attributes.get("softcap", 0.0) else "")


def _rotary(op: Op) -> str:
    if op.operand(3) is not None:
        return "its positions are computed"
    if op.integer("interleaved", 0):
        return "its pairs lie side by side"
    return "" if len(shape_of(op.needed(0))) == 4 or op.integer("num_heads", 0) else "it does not say how many heads it has"


def _gather(op: Op) -> str:
    return "" if dtype_of(op.needed(1)) in INTEGER else "its indices are no integers"


def _pad(op: Op) -> str:
    if op.string("mode", "constant") not in ("constant", "edge", "reflect"):
        return "it wraps around"
    return _is_constant(1, 2, 3)(op)


def _resize(op: Op) -> str:
    """By neighbours or lines, of images, by a whole ratio of the sizes: TVM takes it from these."""
    shape, result = shape_of(op.needed(0)), shape_of(op.result)
    if len(shape) != 4 or shape[:2] != result[:2]:
        return "it resizes no two spatial axes"
    if op.string("mode", "nearest") == "cubic" or op.integer("antialias", 0) or op.integers("axes") is not None:
        return "it resizes in another way than by neighbours or lines"
    if op.string("coordinate_transformation_mode", "half_pixel") not in PIXELS:
        return "its pixels lie in other places"
    if 1 in result[2:] and op.string("coordinate_transformation_mode", "half_pixel") == "align_corners":
        return "an axis of one pixel has no two corners"
    if op.string("keep_aspect_ratio_policy", "stretch") != "stretch":
        return "its sizes are said in another way"
    scales = op.constant_operand(2)
    if scales is not None and scales.size:
        exact = all(size * float(scale) == made for size, scale, made in zip(shape, scales.to_list(), result, strict=True))
        return "" if exact else "its scales are not those of its sizes"
    return "" if op.constant_operand(3) is not None else "its sizes are computed"


def _reduction(op: Op) -> str:
    return "its axes are computed" if is_computed(op, 1) else ""


PIXELS = ("align_corners", "asymmetric", "half_pixel", "pytorch_half_pixel")
"""Where the pixels of a result lie in those of what is resized."""

OPS: Mapping[str, tuple[frozenset[DType], Asks]] = {
    **dict.fromkeys(("Abs", "Neg"), (NUMBER, _always)),
    **dict.fromkeys(("Add", "Sub", "Mul"), (NUMBER, _always)),
    **dict.fromkeys(("Max", "Min", "Sum"), (NUMBER, _always)),
    **dict.fromkeys(("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"), (NUMBER, _always)),
    **dict.fromkeys(("And", "Or", "Not", "Xor"), (BOOL, _always)),
    **dict.fromkeys(
        ("Ceil", "Floor", "Reciprocal", "Sqrt", "Exp", "Log", "Erf", "Tanh", "Sigmoid", "Softplus"), (FLOAT, _always)
    ),
    **dict.fromkeys(("Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "PRelu", "Relu"), (FLOAT, _always)),
    **dict.fromkeys(("Softsign", "Swish", "Sin", "Cos", "IsNaN", "Div"), (FLOAT, _always)),
    "Cast": (ANY, _cast),
    "Clip": (NUMBER, _is_constant(1, 2)),
    "Pow": (FLOAT, _same_dtype),
    "Where": (BOOL, _always),
    **dict.fromkeys(("Concat", "Flatten", "Identity", "Transpose"), (ANY, _always)),
    **dict.fromkeys(("Expand", "Reshape", "Squeeze", "Unsqueeze", "Split", "Tile"), (ANY, _is_constant(1))),
    "Slice": (ANY, _is_constant(1, 2, 3, 4)),
    "DepthToSpace": (FLOAT, _always),
    "SpaceToDepth": (FLOAT, _always),
    "Pad": (FLOAT, _pad),
    "Resize": (FLOAT, _resize),
    "Trilu": (FLOAT, _is_constant(1)),
    "Gather": (ANY, _gather),
    "MatMul": (FLOAT, _always),
    "Gemm": (FLOAT, _always),
    "Conv": (FLOAT, _convolution),
    "ConvTranspose": (FLOAT, _transposed),
    "AveragePool": (FLOAT, _pool),
    "MaxPool": (FLOAT, _pool),
    "GlobalAveragePool": (FLOAT, _window),
    "GlobalMaxPool": (FLOAT, _window),
    "Softmax": (FLOAT, _always),
    "LogSoftmax": (FLOAT, _always),
    **dict.fromkeys(
        ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2"), (FLOAT, _reduction)
    ),
    "LayerNormalization": (FLOAT, _normalization),
    "RMSNormalization": (FLOAT, _root_mean_square),
    "BatchNormalization": (FLOAT, _batch),
    "InstanceNormalization": (FLOAT, _always),
    "GroupNormalization": (FLOAT, _normalization),
    "Attention": (FLOAT, _attention),
    "RotaryEmbedding": (FLOAT, _rotary),
}
"""What is taken: the types of the first operand, and what else an op has to be."""

__all__ = ["OPS", "why_not"]
