"""One element of an op: what the meanings of the elementwise ops are written with.

Law: what is written through here is computed where it stands, once, and no part of TVM looks through it.
"""

from __future__ import annotations

from dataclasses import dataclass

from irc.ir import DType, Op, TensorType

from .kernel import Writer, literal, tir_name

INTEGERS = frozenset({DType.I8, DType.U8, DType.I32, DType.I64})
FLOATS = frozenset({DType.F32, DType.F64})
SINGLE = frozenset({DType.F32})
BOOL = frozenset({DType.BOOL})
NUMBERS = INTEGERS | FLOATS
EVERY = NUMBERS | BOOL


@dataclass(frozen=True, slots=True)
class Element:
    """An op at one element: where its statements go, its operands (an absent one is an empty text), and their dtypes."""

    writer: Writer
    op: Op
    operands: tuple[str, ...]
    dtypes: tuple[DType, ...]

    @property
    def x(self) -> str:
        """The first operand."""
        return self.operands[0]

    @property
    def y(self) -> str:
        """The second operand."""
        return self.operands[1]

    @property
    def kind(self) -> str:
        """TVM's dtype of the first operand."""
        return tir_name(self.dtypes[0])

    def literal(self, value: float) -> str:
        """A constant of the first operand's dtype."""
        return literal(value, self.kind)

    def number(self, name: str, default: float) -> str:
        """A float attribute, as a value that TVM does not fold: x * 0 is NaN for some x."""
        return self.value(self.literal(self.attribute(name, default)))

    def attribute(self, name: str, default: float) -> float:
        """A float attribute."""
        value = self.op.attributes.get(name, default)
        assert isinstance(value, float)
        return value

    def value(self, expression: str) -> str:
        """The value of an expression of the first operand's dtype."""
        return self.writer.value(self.kind, expression)

    def truth(self, condition: str) -> str:
        """A condition as a bool."""
        return self.writer.value("int8", f"T.Select({condition}, T.int8(1), T.int8(0))")

    def select(self, condition: str, yes: str, no: str) -> str:
        """`yes` where a condition holds, `no` elsewhere; both are computed."""
        return self.value(f"T.Select({condition}, {yes}, {no})")

    def is_nan(self, x: str) -> str:
        """The condition that an operand of the first one's dtype is NaN."""
        if self.dtypes[0] is DType.F32:
            return f'(T.bitwise_and(T.reinterpret("int32", {x}), T.int32(0x7FFFFFFF)) > T.int32(0x7F800000))'
        bits = f'T.bitwise_and(T.reinterpret("int64", {x}), T.int64({2**63 - 1}))'
        return f"({bits} > T.int64({0x7FF << 52}))"


def dtype_of(value: object) -> DType:
    """The dtype of an operand or a result, which is a tensor."""
    kind = getattr(value, "type", None)
    assert isinstance(kind, TensorType)
    return kind.dtype
