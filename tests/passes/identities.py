"""Detours that lead back: each puts ops behind a value that change nothing of it, and hands the result to all its users."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from irc.ir import Attribute, DType, Graph, Op, Tensor, TensorType, Value, at, constant_op, make

Detour = Callable[[Value], None]


def _behind(value: Value, ops: Sequence[Op], result: Value) -> None:
    """Put `ops` behind the maker of `value` and give `result` to those who used it."""
    assert value.op is not None
    assert value.op.graph is not None
    graph, following = value.op.graph, value.op.next
    new = set(ops)
    for user, index in list(value.uses):
        if isinstance(user, Graph):
            user.set_output(index, result)
        elif user not in new and (user.graph is None or user.graph.owner not in new):
            user.set_operand(index, result)
    for op in ops:
        graph.append(op) if following is None else graph.insert(op, following)


def _op(name: str, *operands: Value, **attributes: Attribute) -> Op:
    return make(name, list(operands), at("detour"), attributes=attributes)


def _integers(*numbers: int) -> Op:
    return constant_op(Tensor.integers(numbers), at("detour"))


def identity(value: Value) -> None:
    op = _op("Identity", value)
    _behind(value, [op], op.result)


def double_transpose(value: Value) -> None:
    rank = len(value.shape or ())
    perm = (*range(1, rank), 0) if rank else ()
    back = (rank - 1, *range(rank - 1)) if rank else ()
    if rank:
        first = _op("Transpose", value, perm=perm)
        second = _op("Transpose", first.result, perm=back)
        _behind(value, [first, second], second.result)


def unsqueeze_squeeze(value: Value) -> None:
    axis, last = _integers(0), _integers(-1 - len(value.shape or ()))
    first = _op("Unsqueeze", value, axis.result)
    second = _op("Squeeze", first.result, last.result)
    _behind(value, [axis, last, first, second], second.result)


def reshape_round_trip(value: Value) -> None:
    shape = value.type.static_shape if isinstance(value.type, TensorType) else None
    if shape is None or 0 in shape:
        return
    flat, full = _integers(-1), _integers(*shape)
    first = _op("Reshape", value, flat.result)
    second = _op("Reshape", first.result, full.result)
    _behind(value, [flat, full, first, second], second.result)


def times_one(value: Value) -> None:
    assert isinstance(value.type, TensorType)
    if value.type.dtype not in (DType.F32, DType.F64, DType.I32, DType.I64) or None in (value.shape or ()):
        return
    one = constant_op(Tensor.from_array(np.ones((), value.type.dtype.numpy), value.type.dtype), at("detour"))
    op = _op("Mul", one.result, value)
    _behind(value, [one, op], op.result)


def split_concat(value: Value) -> None:
    size = (value.shape or (None,))[-1]
    if not isinstance(size, int) or size < 2 or None in (value.shape or ()):
        return
    sizes = _integers(1, size - 1)
    split = make("Split", [value, sizes.result], at("detour"), attributes={"axis": -1}, results=2)
    concat = _op("Concat", *split.results, axis=-1)
    _behind(value, [sizes, split, concat], concat.result)


def if_true(value: Value) -> None:
    condition = constant_op(Tensor.from_array(np.array(True)), at("detour"))
    branches: dict[str, Attribute] = {}
    for name in ("then_branch", "else_branch"):
        body = Graph(name)
        inner = body.append(_op("Identity", value))
        body.add_output(inner.result, f"{name}_out")
        branches[name] = body
    op = make("If", [condition.result], at("detour"), attributes=branches)
    _behind(value, [condition, op], op.result)


IDENTITIES: dict[str, Detour] = {
    "identity": identity,
    "double transpose": double_transpose,
    "unsqueeze squeeze": unsqueeze_squeeze,
    "reshape round trip": reshape_round_trip,
    "times one": times_one,
    "split concat": split_concat,
    "if true": if_true,
}
