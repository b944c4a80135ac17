"""Constant folding: what depends on constants only is evaluated by the reference, so that folding cannot disagree with it.

All of a graph's foldable ops are evaluated in one go. Not folded: random ops, ops the reference does not determine, what
would make the model larger than it was, and anything an evaluation fails on. Reordering of elements is kept as a view.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from irc.ir import DType, EvaluationError, Graph, Op, Tensor, TensorType, Value, constant_op, schema, via
from irc.ir.clone import clone_op
from irc.ir.reference import evaluate_constants

from .base import Context, Contract, Pass

EVALUATION_BYTES = 1 << 28
VIEW_BYTES = 1 << 16
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
        known: set[Value] = set()
        foldable: list[Op] = []
        for op in list(graph):
            if op.is_constant or not _is_determined(op, known):
                continue
            if self._is_view(op):
                self._replace(op, [_view_of(op)], context)
                continue
            if self._too_large(op):
                continue
            foldable.append(op)
            known.update(op.results)
        roots = [op for op in foldable if any(self._is_needed(r, foldable_set) for r in op.results)] if (foldable_set := set(foldable)) else []
        if not roots:
            return
        values = _evaluate(foldable, roots)
        for op in roots:
            if op in values and op.graph is not None:
                self._replace(op, values[op], context)
        for op in reversed(foldable):
            if op.graph is not None and op.is_dead:
                op.graph.erase(op)

    def _is_needed(self, value: Value, foldable: set[Op]) -> bool:
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
        context.take(self.name)
        assert op.graph is not None
        for result, tensor in zip(op.results, tensors, strict=True):
            if not result.uses:
                continue
            parents = [v.op.location for v in op.operands if v is not None and v.op is not None and not v.op.is_constant]
            constant = constant_op(tensor, via(self.name, op.location, *parents), result.name)
            op.graph.insert(constant, op)
            result.replace_by(constant.result)
        op.graph.erase(op)


def _is_determined(op: Op, known: set[Value]) -> bool:
    if op.bodies or op.version is not None or op.is_a(*_QUANTIZATION) or not schema.is_deterministic(op):
        return False
    if any(v is not None and v.constant is None and v not in known for v in op.operands):
        return False
    if any(not isinstance(r.type, TensorType) or not _readable(r.type.dtype) for r in op.results):
        return False
    return not (_divides_by_zero(op) or _casts_out_of_range(op))


def _readable(dtype: DType) -> bool:
    return dtype is DType.STR or dtype.bits >= 8


def _divides_by_zero(op: Op) -> bool:
    # An integer division by zero ends the process. What is no constant yet may hold a zero: then it waits for the next round.
    if not op.is_a("Div", "Mod") or len(op.operands) < 2:
        return False
    kind = op.needed(1).type
    if isinstance(kind, TensorType) and kind.dtype.is_float and not op.integer("fmod", 0):
        return False
    divisor = op.constant_operand(1)
    return divisor is None or not bool(divisor.array.all())


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
    values, limits = data.array.astype(np.float64), np.iinfo(target.dtype.numpy)
    return not bool(np.all(np.isfinite(values)) and np.all(values > limits.min - 1.0) and np.all(values < limits.max + 1.0))


def _bytes(value: Value) -> int | None:
    if value.constant is not None:
        return value.constant.byte_count
    if not isinstance(value.type, TensorType) or value.type.static_shape is None:
        return None
    return value.type.dtype.byte_count(int(np.prod(value.type.static_shape, dtype=object)))


def _view_of(op: Op) -> Tensor:
    data = op.needed(0).constant
    assert data is not None and isinstance(op.result.type, TensorType) and op.result.type.static_shape is not None
    if op.name != "Transpose":
        array = data.array.reshape(op.result.type.static_shape)
        return Tensor(data.dtype, array.shape, data.data) if array.flags.c_contiguous else Tensor.view(array, data.dtype)
    permutation = op.integers("perm") or tuple(reversed(range(data.array.ndim)))
    return Tensor.view(data.array.transpose(permutation), data.dtype)


def _evaluate(foldable: list[Op], roots: list[Op]) -> dict[Op, list[Tensor]]:
    """The results of `roots`, each by itself left out when the reference fails on it."""
    values: dict[Op, list[Tensor]] = {}
    pending = [roots]
    while pending:
        group = pending.pop()
        try:
            tensors = evaluate_constants(_program(foldable, group))
        except EvaluationError:
            if len(group) > 1:
                pending += [group[: len(group) // 2], group[len(group) // 2 :]]
            continue
        position = 0
        for op in group:
            values[op] = tensors[position : position + len(op.results)]
            position += len(op.results)
    return values


def _program(foldable: list[Op], roots: list[Op]) -> Graph:
    """A graph without inputs that returns every result of `roots`."""
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
    for op in foldable:
        if op not in needed:
            continue
        for operand in op.operands:
            if operand is not None and operand.op is not None and operand.op.is_constant and operand not in mapping:
                program.append(clone_op(operand.op, mapping))
        program.append(clone_op(op, mapping))
    for op in roots:
        for result in op.results:
            program.add_output(mapping[result], f"r{len(program.outputs)}")
    return program
