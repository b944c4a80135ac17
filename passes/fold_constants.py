"""Constant folding: what depends on constants only is evaluated by the reference, so that folding cannot disagree with it.

All of a graph's foldable ops are evaluated in one go. Not folded: random ops, ops the reference does not determine, what
would make the model larger than it was, and anything an evaluation fails on. Reordering of elements is kept as a view.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np

from irc.ir import (
    DType,
    EvaluationError,
    Graph,
    Op,
    Tensor,
    TensorType,
    Value,
    clone_op,
    constant_op,
    evaluate_constants,
    schema,
    via,
)

from .base import Application, Context, Contract, LimitReached, Pass, refresh_from
from .codebooks import is_codebook_op
from .precision.sites import is_narrow_weight

EVALUATION_BYTES = 1 << 28
VIEW_BYTES = 1 << 10
GROUP = 1000  # roots evaluated in one session: building one costs more than proportionally to its size
# Engines recognise quantized kernels by the Q and DQ ops around them, and the weights stay small.
_QUANTIZATION = ("QuantizeLinear", "DequantizeLinear")
_UNBOUNDED = frozenset({"ConstantOfShape", "Expand", "Tile", "Range", "Resize", "Pad", "OneHot", "Upsample", "Loop", "Scan"})


@dataclass(frozen=True)
class FoldConstants(Pass, name="fold-constants", contract=Contract.EXACT):
    """Evaluate ops whose operands are all constants.

    `max-bytes` is the largest result that may be larger than the operands it is made from.
    """

    max_bytes: int = 1 << 16

    def run(self, graph: Graph, context: Context) -> None:
        """Fold each graph by itself, outer ones first, so that bodies see what has become constant around them."""
        for current in list(graph.graphs()):
            if current is graph or (current.owner is not None and current.owner.graph is not None):
                self._fold(current, context)

    def _fold(self, graph: Graph, context: Context) -> None:
        """In rounds: what waits for the value of an operand is looked at again, with what depends on it."""
        order = {op: position for position, op in enumerate(graph)}
        pending = list(order)
        while pending:
            waiting = self._round(pending, order, context)
            pending = [op for op in waiting if op.graph is graph and _has_constant_operands(op)]

    def _round(self, start: list[Op], order: dict[Op, int], context: Context) -> list[Op]:
        known: set[Value] = set()
        foldable: dict[Op, None] = {}
        waiting: list[Op] = []
        seen = set(start)
        queue = [(order[op], op) for op in start]  # in order, so already a heap
        while queue:
            _, op = heappop(queue)
            if op.is_constant or not _is_determined(op, known):
                continue
            if _is_hazard(op):
                if not _has_constant_operands(op):
                    waiting.append(op)
                continue
            if not self._is_view(op) and self._too_large(op):
                continue
            following = [user for result in op.results for user in result.users if user in order and user not in seen]
            if self._is_view(op):
                self._replace(op, [_view_of(op)], context)
            else:
                foldable[op] = None
                known.update(op.results)
            seen.update(following)
            for user in following:
                heappush(queue, (order[user], user))
        roots = [op for op in foldable if any(self._is_needed(r, foldable) for r in op.results)]
        values = _evaluate(list(foldable), roots) if roots else {}
        for op in roots:
            if op in values and op.graph is not None:
                self._replace(op, values[op], context)
        for op in reversed(foldable):
            if op.graph is not None and op.is_dead:
                op.graph.erase(op)
        return waiting

    def _is_needed(self, value: Value, foldable: dict[Op, None]) -> bool:
        return any(use.user not in foldable for use in value.uses)

    def _is_view(self, op: Op) -> bool:
        data = op.constant_operand(0)
        return (
            data is not None
            and data.dtype.bits >= 8
            and data.byte_count > VIEW_BYTES
            and op.is_a("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")
            and isinstance(op.result.type, TensorType)
            and op.result.type.static_shape is not None
        )

    def _too_large(self, op: Op) -> bool:
        inputs = sum(_bytes(v) or 0 for v in op.operands if v is not None)
        outputs = 0
        for result in op.results:
            size = _bytes(result)
            if size is None:
                # Of unknown size: only what cannot outgrow its operands by much is worth a try.
                size = inputs * 8 if op.name not in _UNBOUNDED else EVALUATION_BYTES
            outputs += size
        return outputs > max(self.max_bytes, inputs) or outputs > EVALUATION_BYTES

    def _replace(self, op: Op, tensors: list[Tensor], context: Context) -> None:
        assert op.graph is not None
        parents = [v.op.location for v in op.operands if v is not None and v.op is not None and not v.op.is_constant]
        location = via(self.name, op.location, *parents)
        pairs = [
            (result, op.graph.insert(constant_op(tensor, location, result.name), op))
            for result, tensor in zip(op.results, tensors, strict=True)
            if result.uses
        ]
        old, created = tuple(result for result, _ in pairs), tuple(constant for _, constant in pairs)
        new = tuple(constant.result for constant in created)
        if context.refuses(Application(self.name, self.contract, op, old, new, created)):
            for constant in created:
                op.graph.erase(constant)
            return
        try:
            context.take(self.name)
        except LimitReached:
            for constant in created:
                op.graph.erase(constant)
            raise
        for result, constant in pairs:
            learnt = constant.result.type != result.type
            users = result.users
            result.replace_by(constant.result)
            if learnt:
                refresh_from(users)
        op.graph.erase(op)


def _is_determined(op: Op, known: set[Value]) -> bool:
    if op.bodies or op.version is not None or op.is_a(*_QUANTIZATION) or not schema.is_deterministic(op):
        return False
    if is_narrow_weight(op) or is_codebook_op(op):
        return False
    if any(v is not None and v.constant is None and v not in known for v in op.operands):
        return False
    return all(isinstance(r.type, TensorType) and _readable(r.type.dtype) for r in op.results)


def _is_hazard(op: Op) -> bool:
    return _may_trap(op) or _casts_out_of_range(op)


def _has_constant_operands(op: Op) -> bool:
    return all(v is None or v.constant is not None for v in op.operands)


def _readable(dtype: DType) -> bool:
    return dtype is DType.STR or dtype.bits >= 8


def _may_trap(op: Op) -> bool:
    # An integer division by zero, or of the smallest integer by -1, ends the process. What is no constant yet may be one of
    # these: then it waits for the next round.
    if not op.is_a("Div", "Mod") or len(op.operands) < 2:
        return False
    kind = op.needed(1).type
    if isinstance(kind, TensorType) and kind.dtype.is_float and not op.integer("fmod", 0):
        return False
    dividend, divisor = op.constant_operand(0), op.constant_operand(1)
    if divisor is None or not bool(divisor.array.all()):
        return True
    if divisor.dtype.text[0] == "u" or divisor.dtype.is_float or not bool((divisor.array == -1).any()):
        return False
    return dividend is None or bool((dividend.array == _limits(divisor.dtype)[0]).any())


def _casts_out_of_range(op: Op) -> bool:
    # ONNX leaves a cast of NaN, Inf or too large a float to an integer to the machine.
    if not op.is_a("Cast", "CastLike"):
        return False
    source, target = op.needed(0).type, op.results[0].type
    if not isinstance(source, TensorType) or not isinstance(target, TensorType):
        return True
    if not source.dtype.is_float or not target.dtype.is_integer:
        return False
    data = op.constant_operand(0)
    if data is None:
        return True
    values, (low, high) = data.array.astype(np.float64), _limits(target.dtype)
    return not bool(np.all(np.isfinite(values)) and np.all(values > low - 1.0) and np.all(values < high + 1.0))


def _limits(dtype: DType) -> tuple[int, int]:
    """The smallest and the largest of an integer type."""
    if dtype.text[0] == "u":
        return 0, 2**dtype.bits - 1
    return -(2 ** (dtype.bits - 1)), 2 ** (dtype.bits - 1) - 1


def _bytes(value: Value) -> int | None:
    if value.constant is not None:
        return value.constant.byte_count
    if not isinstance(value.type, TensorType) or value.type.static_shape is None:
        return None
    return value.type.dtype.byte_count(int(np.prod(value.type.static_shape, dtype=object)))


def _view_of(op: Op) -> Tensor:
    data = op.needed(0).constant
    assert data is not None
    assert isinstance(op.result.type, TensorType)
    assert op.result.type.static_shape is not None
    if op.name != "Transpose":
        array = data.array.reshape(op.result.type.static_shape)
        return Tensor(data.dtype, array.shape, data.data) if array.flags.c_contiguous else Tensor.view(array, data.dtype)
    permutation = op.integers("perm") or tuple(reversed(range(data.array.ndim)))
    return Tensor.view(data.array.transpose(permutation), data.dtype)


def _evaluate(foldable: list[Op], roots: list[Op]) -> dict[Op, list[Tensor]]:
    """The results of `roots`, each by itself left out when the reference fails on it."""
    values: dict[Op, list[Tensor]] = {}
    order = {op: index for index, op in enumerate(foldable)}
    pending = [roots[start : start + GROUP] for start in range(0, len(roots), GROUP)]
    while pending:
        group = pending.pop()
        try:
            tensors = evaluate_constants(_program(order, group))
        except EvaluationError:
            if len(group) > 1:
                pending += [group[: len(group) // 2], group[len(group) // 2 :]]
            continue
        position = 0
        for op in group:
            values[op] = tensors[position : position + len(op.results)]
            position += len(op.results)
    return values


def _program(order: dict[Op, int], roots: list[Op]) -> Graph:
    """A graph without inputs that returns every result of `roots`; `order` knows the place of each op."""
    needed: set[Op] = set()
    pending = list(roots)
    while pending:
        op = pending.pop()
        if op not in needed:
            needed.add(op)
            pending.extend(v.op for v in op.operands if v is not None and v.op is not None and not v.op.is_constant)
    program = Graph("constants")
    if roots[0].graph is not None:
        program.opsets = dict(roots[0].graph.outermost.opsets)
    mapping: dict[Value, Value] = {}
    for op in sorted(needed, key=order.__getitem__):
        for operand in op.operands:
            if operand is not None and operand.op is not None and operand.op.is_constant and operand not in mapping:
                program.append(clone_op(operand.op, mapping))
        program.append(clone_op(op, mapping))
    for op in roots:
        for result in op.results:
            program.add_output(mapping[result], f"r{len(program.outputs)}")
    return program
