"""LSTM and GRU cells written out, recognized as one step of ONNX's LSTM and GRU, and steps that follow each other joined.

A cell projects its input and its state to all gates at once, takes the gates apart and combines them:
LSTM: c' = s(f) * c + s(i) * tanh(g), h' = s(o) * tanh(c'); GRU: n = tanh(in + s(r) * hn), h' = (1 - s(z)) * n + s(z) * h.
Engines' recurrent kernels clamp the arguments of their own sigmoid and tanh and so make numbers of NaN, which the ops written
out keep: recognizing a cell is lossy, and no level does it. Joining steps that are in such kernels already changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from irc.ir import DType, Op, Tensor, TensorType, Value

from ..rewriter import Contract, No, Rewriter, Rule, rule

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Projection:
    """x @ weight.T + bias with x: f32[N, I], weight: f32[G, I], bias: f32[G]."""

    value: Value
    weight: Array
    bias: Array


@dataclass(frozen=True)
class Chunk:
    """The `index`th of `count` equal parts of the last dim of `source`: f32[N, count * H]."""

    source: Value
    index: int
    count: int


@dataclass(frozen=True)
class LstmCell:
    """A matched LSTM cell: its projections of input and state, its old cell state, and the places of the gates i, o, f, g."""

    of_input: Projection
    of_state: Projection
    cell: Value
    gates: tuple[int, int, int, int]


def _made_by(value: Value | None, *names: str) -> Op | None:
    """The op of one of these names that makes a value for one user only."""
    op = None if value is None else value.op
    return op if op is not None and not op.domain and op.is_a(*names) and op.results[0].has_one_use else None


def _both_orders(op: Op) -> Iterator[tuple[Value, Value]]:
    yield op.needed(0), op.needed(1)
    yield op.needed(1), op.needed(0)


def _is_matrix(value: Value) -> bool:
    kind = value.type
    return isinstance(kind, TensorType) and kind.dtype is DType.F32 and kind.rank == 2


def chunk_of(value: Value) -> Chunk | None:
    """Which part of which value a Split or Slice along the last of two dims gives, where all parts are equal."""
    op = value.op
    if op is None or op.domain or not op.is_a("Split", "Slice") or not _is_matrix(op.needed(0)):
        return None
    part, whole = (v.shape[1] if v.shape is not None else None for v in (value, op.needed(0)))
    if not isinstance(part, int) or not isinstance(whole, int) or not part or whole % part:
        return None
    count = whole // part
    if op.is_a("Split"):
        same = all(r.shape is not None and r.shape[1] == part for r in op.results)
        return Chunk(op.needed(0), value.index, count) if op.integer("axis", 0) in (1, -1) and same else None
    starts, axes, steps = op.constant_operand(1), op.constant_operand(3), op.constant_operand(4)
    if starts is None or axes is None or axes.to_list() not in ([1], [-1]) or (op.operand(4) is not None and steps is None):
        return None
    start = int(starts.to_list()[0])
    if start % part or start < 0 or (steps is not None and steps.to_list() != [1]):
        return None
    return Chunk(op.needed(0), start // part, count)


def _gate(value: Value, activation: str) -> Chunk | None:
    op = _made_by(value, activation)
    return None if op is None else chunk_of(op.needed(0))


def _addends(value: Value) -> list[Value]:
    found: list[Value] = []
    pending = [value]
    while pending:
        current = pending.pop()
        op = current.op
        if op is not None and not op.domain and op.is_a("Add") and (current is value or current.has_one_use):
            pending.extend((op.needed(1), op.needed(0)))
        else:
            found.append(current)
    return found


def projections_of(value: Value) -> list[Projection]:
    """The projections whose sum a value is, constants added to the first; none where it is anything else."""
    found: list[Projection] = []
    extra: list[Array] = []
    for addend in _addends(value):
        constant = addend.constant
        if constant is not None and constant.size and constant.shape[:-1] in ((), (1,)) and constant.dtype is DType.F32:
            extra.append(constant.array.reshape(-1))
            continue
        one = _projection(addend)
        if one is None:
            return []
        found.append(one)
    if found and all(len(bias) in (1, len(found[0].bias)) for bias in extra):
        bias = found[0].bias + sum(extra, np.zeros_like(found[0].bias))
        return [Projection(found[0].value, found[0].weight, bias), *found[1:]]
    return []


def _projection(value: Value) -> Projection | None:
    op = value.op
    weight = op.constant_operand(1) if op is not None and not op.domain and op.is_a("Gemm", "MatMul") else None
    if op is None or weight is None or len(weight.shape) != 2 or weight.dtype is not DType.F32 or not _is_matrix(op.needed(0)):
        return None
    if op.is_a("MatMul"):
        return Projection(op.needed(0), weight.array.T, np.zeros(weight.shape[1], np.float32))
    plain = all(op.attributes.get(name, 1.0) == 1.0 for name in ("alpha", "beta")) and not op.integer("transA", 0)
    rows = weight.array if op.integer("transB", 0) else weight.array.T
    bias = op.constant_operand(2)
    if not plain or (op.operand(2) is not None and (bias is None or bias.shape != rows.shape[:1])):
        return None
    return Projection(op.needed(0), rows, np.zeros(len(rows), np.float32) if bias is None else bias.array)


def lstm_cell_of(state: Op) -> LstmCell | None:
    """The cell whose new cell state an Add gives; the output gate is the one left over."""
    for kept, added in _both_orders(state):
        keeping, adding = _made_by(kept, "Mul"), _made_by(added, "Mul")
        if keeping is None or adding is None:
            continue
        for first, cell in _both_orders(keeping):
            for second, third in _both_orders(adding):
                forget, inward, new = _gate(first, "Sigmoid"), _gate(second, "Sigmoid"), _gate(third, "Tanh")
                if forget is not None and inward is not None and new is not None:
                    return _lstm_cell(cell, inward, forget, new)
    return None


def _lstm_cell(cell: Value, inward: Chunk, forget: Chunk, new: Chunk) -> LstmCell | None:
    places = {inward.index, forget.index, new.index}
    if not inward.source is forget.source is new.source or len(places) != 3 or inward.count != 4:
        return None
    projections = projections_of(inward.source)
    if len(projections) != 2 or not _is_matrix(cell):
        return None
    of_input, of_state = projections
    if not _comes_from_step(of_state.value) and _comes_from_step(of_input.value):
        of_input, of_state = of_state, of_input
    (outward,) = {0, 1, 2, 3} - places
    return LstmCell(of_input, of_state, cell, (inward.index, outward, forget.index, new.index))


def _comes_from_step(value: Value) -> bool:
    op = value.op
    inner = op.needed(0).op if op is not None and op.is_a("Squeeze") else None
    return inner is not None and inner.is_a("LSTM", "GRU")


@rule("Mul", contract=Contract.LOSSY)
def lstm_output(op: Op, rewrite: Rewriter) -> Value | No:
    """The output gate times the tanh of the new cell state is what one step of an LSTM gives."""
    for first, second in _both_orders(op):
        gate, inner = _gate(first, "Sigmoid"), _made_by(second, "Tanh")
        state = None if inner is None else inner.needed(0).op
        if gate is None or inner is None or state is None or not state.is_a("Add"):
            continue
        cell = lstm_cell_of(state)
        if cell is None or _output_gate(state, cell) != gate:
            return No("it is no output gate of the cell whose state it multiplies")
        return _lstm_step(op, cell, 1, rewrite)
    return No("it multiplies no gate with the tanh of a cell state")


def _output_gate(state: Op, cell: LstmCell) -> Chunk | None:
    """The output gate as a part of what the state's gates are taken from."""
    for mul in state.operands:
        maker = None if mul is None else mul.op
        for operand in () if maker is None else maker.operands:
            gate = None if operand is None else _gate(operand, "Sigmoid")
            if gate is not None:
                return Chunk(gate.source, cell.gates[1], gate.count)
    return None


@rule("Add", contract=Contract.LOSSY)
def lstm_state(op: Op, rewrite: Rewriter) -> Value | No:
    """The new cell state, where the output was made a step of an LSTM already: it is that step's other result."""
    if any(user.is_a("Tanh") for user in op.result.users):
        return No("its tanh is still taken")
    cell = lstm_cell_of(op)
    gate = None if cell is None else _output_gate(op, cell)
    if cell is None or gate is None:
        return No("it is no new cell state")
    parts = [result for user in gate.source.users for result in user.results if result.uses]
    if any(chunk_of(part) == gate for part in parts):
        return No("its output gate is taken for something else")
    return _lstm_step(op, cell, 2, rewrite)


def _lstm_step(op: Op, cell: LstmCell, wanted: int, rewrite: Rewriter) -> Value | No:
    size = len(cell.of_input.bias) // 4
    values = (cell.of_input.value, cell.of_state.value, cell.cell)
    if not _fits(values, cell.of_state, size, rewrite):
        return No("the sizes of the batch or of the states are not proved to agree")
    weights = _weights(cell.of_input, cell.of_state, cell.gates, rewrite)
    step, state, memory = (_with_step(value, rewrite) for value in values)
    made = rewrite.op("LSTM", [step, *weights, None, state, memory], {"hidden_size": size}, results=3).op
    assert made is not None
    return rewrite.op("Squeeze", [made.results[wanted], rewrite.constant(Tensor.integers([0]))])


def _fits(values: Sequence[Value], of_state: Projection, size: int, rewrite: Rewriter) -> bool:
    """Whether the input and the states after it have one batch size, and the states the cell's own size."""
    batch, *rest = [list(value.shape or ()) for value in values]
    same = all(rewrite.same_dims(batch[:1], shape[:1]) and shape[1:] == [size] for shape in rest)
    return same and of_state.weight.shape[1] == size


def _with_step(value: Value, rewrite: Rewriter) -> Value:
    return rewrite.op("Unsqueeze", [value, rewrite.constant(Tensor.integers([0]))])


def _weights(first: Projection, second: Projection, order: Sequence[int], rewrite: Rewriter) -> list[Value]:
    """W, R and B: the gates in ONNX's order, with a dim for the one direction in front."""

    def ordered(array: Array) -> Array:
        parts = np.split(array, len(order))
        return np.concatenate([parts[i] for i in order])

    biases = np.concatenate([ordered(first.bias), ordered(second.bias)])
    arrays = (ordered(first.weight), ordered(second.weight), biases)
    return [rewrite.constant(Tensor.from_array(np.ascontiguousarray(a[None]), DType.F32)) for a in arrays]


@rule("Add", contract=Contract.LOSSY)
def gru_output(op: Op, rewrite: Rewriter) -> Value | No:
    """(1 - z) * n + z * h, or n + z * (h - n), is what one step of a GRU gives."""
    for first, second in _both_orders(op):
        found = _blended(first, second) or _moved(first, second)
        if found is None:
            continue
        update, new, old = found
        return _gru_step(update, new, old, rewrite)
    return No("it adds no new state and part of the old one")


def _blended(first: Value, second: Value) -> tuple[Op, Value, Value] | None:
    """z, n and h of (1 - z) * n + z * h."""
    newer, older = _made_by(first, "Mul"), _made_by(second, "Mul")
    if newer is None or older is None:
        return None
    for left, new in _both_orders(newer):
        rest = _made_by(left, "Sub")
        one = None if rest is None else rest.constant_operand(0)
        gate = None if rest is None else rest.needed(1).op
        if one is None or one.size != 1 or float(one.array.reshape(-1)[0]) != 1 or gate is None or not gate.is_a("Sigmoid"):
            continue
        for update, old in _both_orders(older):
            if update is gate.result and len(update.uses) == 2:
                return gate, new, old
    return None


def _moved(new: Value, second: Value) -> tuple[Op, Value, Value] | None:
    """z, n and h of n + z * (h - n)."""
    product = _made_by(second, "Mul")
    for update, gap in () if product is None else _both_orders(product):
        gate, difference = _made_by(update, "Sigmoid"), _made_by(gap, "Sub")
        if gate is not None and difference is not None and difference.needed(1) is new and len(new.uses) == 2:
            return gate, new, difference.needed(0)
    return None


def _gru_step(update: Op, new: Value, old: Value, rewrite: Rewriter) -> Value | No:
    """The step whose update gate, new and old state are given; the reset gate is found in the new state."""
    tanh = new.op
    total = None if tanh is None or not tanh.is_a("Tanh") else _made_by(tanh.needed(0), "Add")
    for candidate, product in () if total is None else _both_orders(total):
        scaled = _made_by(product, "Mul")
        for gate, recurrent in () if scaled is None else _both_orders(scaled):
            reset = _made_by(gate, "Sigmoid")
            ours, theirs = chunk_of(candidate), chunk_of(recurrent)
            if reset is None or ours is None or theirs is None or ours.count != 3 or theirs.count != 3:
                continue
            sums = [_pair(op.needed(0), ours.source, theirs.source) for op in (update, reset)]
            places = (sums[0], sums[1], ours.index)
            if ours.index != theirs.index or sorted(p for p in places if p is not None) != [0, 1, 2]:
                continue
            return _gru(ours.source, theirs.source, old, [p for p in places if p is not None], rewrite)
    return No("its new state is no tanh of a projection and a reset one")


def _pair(value: Value, first: Value, second: Value) -> int | None:
    """The place of the gate that is the sum of the same part of both sources."""
    total = _made_by(value, "Add")
    parts = [] if total is None else [chunk_of(total.needed(0)), chunk_of(total.needed(1))]
    known = [part for part in parts if part is not None]
    if len(known) != 2 or {id(p.source) for p in known} != {id(first), id(second)} or known[0].index != known[1].index:
        return None
    return known[0].index


def _gru(first: Value, second: Value, old: Value, order: list[int], rewrite: Rewriter) -> Value | No:
    inputs, states = projections_of(first), projections_of(second)
    if len(inputs) != 1 or len(states) != 1 or states[0].value is not old:
        return No("its gates are no projections of an input and of the old state")
    size = len(inputs[0].bias) // 3
    if not _fits((inputs[0].value, old), states[0], size, rewrite):
        return No("the sizes of the batch or of the state are not proved to agree")
    weights = _weights(inputs[0], states[0], order, rewrite)
    operands = [_with_step(inputs[0].value, rewrite), *weights, None, _with_step(old, rewrite)]
    made = rewrite.op("GRU", operands, {"hidden_size": size, "linear_before_reset": 1}, results=2).op
    assert made is not None
    return rewrite.op("Squeeze", [made.results[1], rewrite.constant(Tensor.integers([0]))])


@rule("LSTM", "GRU")
def join_steps(op: Op, rewrite: Rewriter) -> tuple[Value, ...] | No:
    """Steps that go on where others end, with the same weights, are one sequence, if nobody asks for what is in between."""
    before = op.needed(5).op if len(op.operands) > 5 and op.operand(5) is not None else None
    if before is None or not before.is_a(op.name) or op.attributes != before.attributes or op.integer("layout", 0):
        return No("it does not start where another one ends")
    if op.string("direction", "forward") != "forward" or len(op.operands) > 7 or len(before.operands) > 7:
        return No("it runs backward too, or has peepholes")
    states = list(before.results[1 : 2 if op.is_a("GRU") else 3])
    if op.operands[5:] != states or any(not state.has_one_use for state in states) or before.results[0].uses:
        return No("it starts from other states, or others ask for those")
    if op.operand(4) is not None or before.operand(4) is not None:
        return No("their lengths are given")
    if any(not _same_constant(op.operand(i), before.operand(i)) for i in (1, 2, 3)) or op.results[0].uses:
        return No("their weights differ, or its steps are asked for")
    steps = rewrite.op("Concat", [before.operand(0), op.operand(0)], {"axis": 0})
    made = rewrite.op(op.name, [steps, *before.operands[1:]], dict(op.attributes), results=len(op.results)).op
    assert made is not None
    return (op.results[0], *made.results[1:])


def _same_constant(first: Value | None, second: Value | None) -> bool:
    if first is second:
        return True
    a, b = (None if v is None else v.constant for v in (first, second))
    return a is not None and b is not None and a.same_as(b)


RULES: tuple[Rule, ...] = (lstm_output, lstm_state, gru_output, join_steps)
