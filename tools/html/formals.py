# pyright: basic
"""What ONNX calls the operands and results of an op."""

from __future__ import annotations

from irc.ir import Op, schema


def operand_names(op: Op, opsets: dict[str, int]) -> list[str]:
    """What ONNX calls each operand of an op; the number where it has no name for it."""
    own = schema.of(op, opsets)
    return _numbered([formal.name for formal in own.inputs] if own else [], len(op.operands))


def result_names(op: Op, opsets: dict[str, int]) -> list[str]:
    """What ONNX calls each result of an op; the number where it has no name for it."""
    own = schema.of(op, opsets)
    return _numbered([formal.name for formal in own.outputs] if own else [], len(op.results))


def _numbered(formals: list[str], count: int) -> list[str]:
    if len(formals) >= count:
        return formals[:count]
    if not formals:
        return [str(index) for index in range(count)]
    *fixed, last = formals
    return fixed + [f"{last}[{index}]" for index in range(count - len(fixed))]
