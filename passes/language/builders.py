"""What the right side may call besides ops: one function each, listed in BUILDERS; each makes a value.

They serve where the op to make depends on shapes. Raises Unproven where too little is known.
"""

from __future__ import annotations

from collections.abc import Sequence

from irc.ir import Dim, Tensor, TensorType, Value, dims, types

from .. import precise
from ..rewriter import No
from .functions import Function, Numbers
from .match import Match, Unproven


def reshape(found: Match, value: Value, target: Sequence[Dim]) -> Value:
    """`value` with the dims `target`, of which those that stand where they stood, and one more, may be symbolic."""
    if value.shape == tuple(target) and all(d is not None for d in target):
        return value
    numbers = reshape_target(value.shape, target)
    return found.rewriter.op("Reshape", [value, found.rewriter.constant(Tensor.integers(numbers))])


def reshape_target(source: Sequence[Dim] | None, target: Sequence[Dim]) -> list[int]:
    """The shape operand of a Reshape to `target`: 0 copies a dim, one -1 stands for the rest. Raises Unproven."""
    numbers: list[int] = []
    for index, dim in enumerate(target):
        if isinstance(dim, int) and not isinstance(dim, bool):
            numbers.append(dim)
        elif source is not None and index < len(source) and dim is not None and source[index] == dim:
            numbers.append(0)
        else:
            numbers.append(-1)
    if any(isinstance(dim, int) and dim == 0 for dim in target):
        raise Unproven("a dim of the new shape is 0")
    if numbers.count(-1) > 1:
        raise Unproven("more than one dim of the new shape is not known")
    return numbers


def per_channel(found: Match, value: Value, like: Value, axis: int = 0) -> Value:
    """A value of shape [C] reshaped to broadcast along `axis` of `like`."""
    if like.shape is None:
        raise Unproven("the rank to broadcast to is not known")
    target = [1] * len(like.shape)
    target[axis] = -1
    return found.rewriter.op("Reshape", [value, found.rewriter.constant(Tensor.integers(target))])


def flat(found: Match, value: Value) -> Value:
    """A value with all its elements in one dim."""
    if value.shape is not None and len(value.shape) == 1:
        return value
    return found.rewriter.op("Reshape", [value, found.rewriter.constant(Tensor.integers([-1]))])


def vector(found: Match, value: Value, size: Dim) -> Value:
    """A value of one element or of `size` elements as a vector of `size`."""
    count = None if value.shape is None else dims.product(value.shape)
    if count == size:
        return flat(found, value)
    if count != 1 or not isinstance(size, int):
        raise Unproven("it is not one number per channel")
    return found.rewriter.op("Expand", [flat(found, value), found.rewriter.constant(Tensor.integers([size]))])


def transpose(found: Match, value: Value, permutation: tuple[int, ...]) -> Value:
    """A transpose, or the value itself where nothing moves."""
    if permutation == tuple(range(len(permutation))):
        return value
    return found.rewriter.op("Transpose", [value], {"perm": permutation})


def cast(found: Match, value: Value, dtype: str) -> Value:
    """A value of another dtype, or the value itself where it has it."""
    wanted = types.BY_TEXT[dtype]
    if isinstance(value.type, TensorType) and value.type.dtype is wanted:
        return value
    return found.rewriter.op("Cast", [value], {"to": wanted.onnx_code})


def filled(found: Match, number: float, size: Dim, like: Value) -> Value:
    """A constant vector of `size` equal numbers of the dtype of `like`."""
    if not isinstance(size, int) or not isinstance(like.type, TensorType):
        raise Unproven("the size of a constant is not known")
    import numpy as np

    dtype = like.type.dtype
    return found.rewriter.constant(Tensor.from_array(np.full([size], number).astype(dtype.numpy), dtype))


def again(found: Match, made: Value, *operands: Value | None) -> Value:
    """The op that makes a value, with its attributes and other operands."""
    op, given = made.op, list(operands)
    if op is None:
        raise Unproven("no op makes what is to be made again")
    while given and given[-1] is None:
        given.pop()
    return found.rewriter.op(op.name, given, dict(op.attributes), results=len(op.results), domain=op.domain)


def scaled(found: Match, constant: Value, factors: Numbers) -> Value:
    """A constant times numbers shaped to multiply it with, rounded once; nothing may overflow or vanish."""
    tensor = constant.constant
    if tensor is None or tensor.dtype not in precise.FLOATS:
        raise Unproven("a weight is not constant")
    return _constant(found, precise.scaled(tensor, factors))


def bias(found: Match, numbers: Numbers, convolution: Value) -> Value:
    """Numbers for the channels that a convolution makes, one or one for each, as its bias."""
    op = convolution.op
    weight = None if op is None else op.constant_operand(1)
    if op is None or weight is None or weight.dtype not in precise.FLOATS:
        raise Unproven("a weight is not constant")
    channels = weight.shape[0] if op.is_a("Conv") else weight.shape[1] * op.integer("group", 1)
    if numbers.size not in (1, channels):
        raise Unproven("it is not one number per channel")
    return _constant(found, precise.bias_of(numbers, channels, weight.dtype))


def _constant(found: Match, made: Tensor | No) -> Value:
    if isinstance(made, No):
        raise Unproven(made.reason)
    return found.rewriter.constant(made)


BUILDERS: dict[str, Function] = {
    one.name: one
    for one in (
        Function("reshape", reshape, 2, 2),
        Function("per_channel", per_channel, 2, 3),
        Function("flat", flat, 1, 1),
        Function("vector", vector, 2, 2),
        Function("transpose", transpose, 2, 2),
        Function("cast", cast, 2, 2),
        Function("filled", filled, 3, 3),
        Function("again", again, 2, None),
        Function("scaled", scaled, 2, 2),
        Function("bias", bias, 2, 2),
    )
}
