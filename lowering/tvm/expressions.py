"""Pointwise ops as trees: what one kernel computes element for element, and which of their operands come from memory.

Law: the value of a tree is that of its last op, whatever the order in which its elements are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from irc.ir import DType, Op, TensorType, Value

from .kernel import Writer, literal, tir_name
from .pointwise import Rule
from .scaling import is_scaled, rule_of


def shape_of(value: Value) -> tuple[int, ...]:
    """The shape of a tensor all of whose dims are known."""
    assert isinstance(value.type, TensorType)
    assert value.type.shape is not None
    return tuple(size for size in value.type.shape if isinstance(size, int))


def dtype_of(value: Value) -> DType:
    """The element type of a tensor."""
    assert isinstance(value.type, TensorType)
    return value.type.dtype


@dataclass(frozen=True, slots=True)
class Tree:
    """Pointwise ops that are computed together, element for element: the ops in order, and what they take from memory.

    `seed` is a value that is at hand already, such as the sum of a contraction.
    """

    ops: tuple[Op, ...]
    leaves: tuple[Value, ...]
    seed: Value | None = None

    @property
    def result(self) -> Value:
        """What the last of the ops makes."""
        return self.ops[-1].result

    def evaluate(self, writer: Writer, given: Mapping[Value, str], rule: Callable[[Op], Rule] = rule_of) -> str:
        """The result, where the names of the leaves and the seed are given; scalar constants are written as they are."""
        names = dict(given)
        for op in self.ops:
            operands = ["" if each is None else names.get(each) or scalar(each) for each in op.operands]
            names[op.result] = rule(op)(writer, op, operands)
        return names[self.result]


def from_memory(op: Op) -> list[Value]:
    """What a pointwise op reads, but for numbers that are written into its kernel.

    Scales are no such numbers: they are others in each layer, and kernels that differ in nothing else are one.
    """
    return [value for value in op.operands if value is not None and (is_scaled(op) or not is_scalar(value))]


def scalar(value: Value) -> str:
    """A constant of one element as text."""
    tensor = value.constant
    assert tensor is not None
    assert tensor.size == 1
    kind = tir_name(tensor.dtype)
    return literal(tensor.array.reshape(-1)[0].item(), kind)


def is_scalar(value: Value) -> bool:
    """Whether a value is a constant of one element."""
    return value.constant is not None and value.constant.size == 1


def only_user(value: Value) -> Op | None:
    """The op that alone uses a value, once; None where there are several or it is an output."""
    users = value.users
    return users[0] if value.has_one_use and users else None
