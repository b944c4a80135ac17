# pyright: basic
"""Small random programs: typed op specs over static, symbolic and empty shapes, special constants, If and Loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from hypothesis import strategies as st

from irc.ir import DType, Graph, ModelError, Op, Tensor, TensorType, Value, at, constant_op, dims, make, verify
from irc.ir.clone import clone_op

NUMBERS = (DType.F32, DType.F64, DType.I64, DType.I32)
MOVABLE = (*NUMBERS, DType.F16, DType.I8, DType.BOOL)
T = TypeVar("T")
N, M = dims.named("N"), dims.named("M")
INPUTS = [
    (DType.F32, (2, 3)), (DType.F32, (N, 3)), (DType.F32, (2, N, 4)), (DType.F32, (1, N)), (DType.F32, (N, 1, M)),
    (DType.F32, (0, 3)), (DType.F32, ()), (DType.F64, (3,)), (DType.I64, (3,)), (DType.I64, (N, 2)), (DType.I32, (2, 2)),
    (DType.BOOL, (2, 3)), (DType.BOOL, ()), (DType.F16, (1, 4)),
]  # fmt: skip
FLOATS = [0.0, -0.0, 1.0, -1.0, 2.0, float("inf"), float("-inf"), float("nan"), 1e-40]


class Builder:
    """A graph being drawn: what it holds so far, and where random choices come from."""

    def __init__(self, draw: Callable[[st.SearchStrategy[object]], object]) -> None:
        self.draw = draw
        self.graph = Graph("main")
        self.values: list[Value] = []

    def integer(self, low: int, high: int) -> int:
        return int(self.draw(st.integers(low, high)))  # type: ignore[call-overload]

    def pick(self, choices: Sequence[T]) -> T:
        return choices[self.integer(0, len(choices) - 1)]

    def flag(self) -> bool:
        return self.integer(0, 1) == 1

    def value(self, *dtypes: DType, rank: int = 0) -> Value | None:
        """An earlier value of one of these dtypes and at least this rank, later ones more often."""
        fitting = [v for v in self.values if dtype(v) in dtypes and v.shape is not None and len(v.shape) >= rank]
        if not fitting:
            return None
        return self.pick(fitting[-4:] if self.flag() else fitting)

    def op(self, name: str, operands: Sequence[Value | None], results: int = 1, **attributes: object) -> list[Value]:
        """Append an op; ModelError where its operands do not fit."""
        location = at(f"{name.lower()}_{len(self.graph)}")
        op = make(name, list(operands), location, attributes=dict(attributes), results=results)  # type: ignore[arg-type]
        self.graph.append(op)
        self.values.extend(op.results)
        return op.results

    def constant(self, array: object, dtype: DType | None = None) -> Value:
        """Append a constant, which other ops may use too."""
        return self.graph.append(constant_op(Tensor.from_array(np.asarray(array), dtype), at(f"c{len(self.graph)}"))).result

    def integers(self, *numbers: int) -> Value:
        return self.constant(np.array(numbers, np.int64))


def dtype(value: Value) -> DType | None:
    return value.type.dtype if isinstance(value.type, TensorType) else None


def sizes(value: Value) -> list[int]:
    """The dims of a value, 2 for a symbolic one."""
    return [d if isinstance(d, int) else 2 for d in value.shape or ()]


def fits(a: Value, b: Value) -> bool:
    """Whether two values provably broadcast."""
    pairs = zip(reversed(a.shape or ()), reversed(b.shape or ()), strict=False)
    return all(x is not None and (x == y or 1 in (x, y)) for x, y in pairs)


def number(b: Builder, kind: DType) -> object:
    if kind.is_float:
        return b.pick(FLOATS)
    limit = 2 ** (kind.bits - 1)
    return b.pick([0, 1, -1, 2, limit - 1, -limit])


def unary(b: Builder) -> None:
    x = b.value(*NUMBERS, DType.BOOL)
    if x is None:
        return
    names = ["Not"] if dtype(x) is DType.BOOL else ["Neg", "Abs", "Sign", "Identity"]
    if dtype(x) in (DType.F32, DType.F64):
        names += ["Relu", "Floor", "Ceil", "Round", "Sqrt", "Dropout", "Clip"]
    b.op(b.pick(names), [x])


def binary(b: Builder) -> None:
    x = b.value(*NUMBERS)
    others = [v for v in b.values if x is not None and dtype(v) is dtype(x) and fits(x, v)]
    if x is None or not others:
        return
    names = ["Add", "Sub", "Mul", "Min", "Max", "Equal", "Less", "GreaterOrEqual"]
    b.op(b.pick([*names, "Div"] if dtype(x) in (DType.F32, DType.F64) else names), [x, b.pick(others)])


def with_constant(b: Builder) -> None:
    x = b.value(*NUMBERS)
    if x is None:
        return
    kind = dtype(x)
    assert kind is not None
    shape = b.pick([(), (1,), (1,) * len(x.shape or ()), (1,) * (len(x.shape or ()) + 1), tuple(sizes(x)[-1:])])
    if shape and shape[-1] != 1 and not isinstance((x.shape or (None,))[-1], int):
        return
    with np.errstate(all="ignore"):
        array = np.full(shape, number(b, kind)).astype(kind.numpy)
    names = ["Add", "Sub", "Mul", "Max"] + (["Div", "Pow"] if kind.is_float else [])
    operands = [x, b.constant(array, kind)]
    name = b.pick(names)
    b.op(name, operands[::-1] if name in ("Add", "Mul") and b.flag() else operands)


def logic(b: Builder) -> None:
    x, y = b.value(DType.BOOL), b.value(DType.BOOL)
    if x is None or y is None or not fits(x, y):
        return
    y = b.constant(np.array(b.flag())) if b.flag() else y
    b.op(b.pick(["And", "Or"]), [x, y])


def where(b: Builder) -> None:
    x = b.value(DType.F32, DType.I64)
    others = [v for v in b.values if x is not None and dtype(v) is dtype(x) and fits(x, v)]
    c = b.constant(np.array(b.flag())) if b.flag() else b.value(DType.BOOL)
    if x is None or c is None or not others:
        return
    y = b.pick(others)
    if dtype(x) is DType.F32:
        # The reference's Where makes 0.0 of a -0.0 it picks, which ONNX does not ask for; adding 0.0 makes it so first.
        zero = b.constant(np.array(0, np.float32))
        x, y = (b.op("Add", [v, zero])[0] for v in (x, y))
    if fits(c, x) and fits(c, y):
        b.op("Where", [c, x, y])


def cast(b: Builder) -> None:
    """Floats of a size that integers have: ONNX leaves open what becomes of others, and two Casts in a row do it otherwise."""
    x = b.value(*MOVABLE)
    for _ in range(b.integer(1, 3)):
        if x is not None and (kind := dtype(x)) is not None and kind.is_float:
            (x,) = b.op("Clip", [x, *(b.constant(np.array(end, kind.numpy), kind) for end in (-100, 100))])
        if x is not None:
            (x,) = b.op("Cast", [x], to=b.pick(MOVABLE).onnx_code)


def transpose(b: Builder) -> None:
    x = b.value(*MOVABLE, rank=1)
    for _ in range(b.integer(1, 2)):
        if x is not None:
            rank = len(x.shape or ())
            order = tuple(b.draw(st.permutations(range(rank))))  # type: ignore[arg-type]
            (x,) = b.op("Transpose", [x], perm=order) if b.flag() else b.op("Transpose", [x])


def reshape(b: Builder) -> None:
    x = b.value(*MOVABLE)
    if x is None:
        return
    known = list(x.shape or ())
    choices: list[list[int]] = [[-1], [1, -1], [-1, 1], [0] * len(known), [0] * (len(known) - 1) + [-1]]
    if all(isinstance(d, int) for d in known):
        total = int(np.prod(sizes(x)))
        choices += [[total], [1, total], sizes(x)[::-1], [*sizes(x), 1]] + ([[2, total // 2]] if total % 2 == 0 else [])
    target = b.pick(choices)
    b.op("Reshape", [x, b.integers(*target)], **({"allowzero": 1} if b.integer(0, 4) == 0 else {}))


def dims_of_rank(b: Builder) -> None:
    x = b.value(*MOVABLE)
    if x is None:
        return
    rank = len(x.shape or ())
    name = b.pick(["Squeeze", "Unsqueeze", "Flatten"])
    if name == "Flatten":
        b.op(name, [x], axis=b.integer(-rank, rank))
    elif name == "Unsqueeze":
        axis = b.integer(-rank - 1, rank)
        b.op(name, [x, b.integers(axis)])
    else:
        ones = [i - (rank if b.flag() else 0) for i, d in enumerate(x.shape or ()) if d == 1]
        if ones:
            b.op(name, [x, b.integers(*ones)] if b.flag() or len(ones) < 2 else [x, b.integers(ones[0])])


def slicing(b: Builder) -> None:
    x = b.value(*MOVABLE, rank=1)
    for _ in range(b.integer(1, 2)):
        if x is None or not x.shape:
            return
        axis = b.integer(-len(x.shape), len(x.shape) - 1)
        start, end, step = *(b.pick([0, 1, 2, -1, -2, -9, 9, 2**31 - 1, 2**63 - 1]) for _ in range(2)), b.pick([1, 1, 1, 2, -1])
        end = min(end, 9) if step < 0 else end  # ONNX Runtime and the specification disagree on far ends backwards
        (x,) = b.op("Slice", [x, b.integers(0 if b.flag() else start), b.integers(end), b.integers(axis), b.integers(step)])


def concat(b: Builder) -> None:
    x = b.value(*MOVABLE, rank=1)
    if x is None or not x.shape:
        return
    axis = b.integer(-len(x.shape), len(x.shape) - 1)

    def alike(v: Value) -> bool:
        rest = zip(v.shape or (), x.shape or (), strict=True)
        return v is x or all(i == axis % len(x.shape or ()) or (p is not None and p == q) for i, (p, q) in enumerate(rest))

    others = [v for v in b.values if dtype(v) is dtype(x) and v.shape and len(v.shape) == len(x.shape) and alike(v)]
    b.op("Concat", [x, *(b.pick(others) for _ in range(b.integer(0, 2)))], axis=axis)


def split(b: Builder) -> None:
    x = b.value(*MOVABLE, rank=1)
    axes = [i for i, d in enumerate((x.shape if x else None) or ()) if isinstance(d, int) and d > 0]
    if x is None or not axes:
        return
    axis = b.pick(axes)
    size = sizes(x)[axis]
    cut = b.integer(1, size)
    parts = [cut, size - cut] if cut < size else [cut]
    if b.flag():
        sequence = make("SplitToSequence", [x, b.integers(*parts)], at(f"split_{len(b.graph)}"), attributes={"axis": axis})
        b.graph.append(sequence)
        b.op("SequenceAt", [sequence.result, b.constant(np.array(b.integer(-1, 0)))])
        return
    results = b.op("Split", [x, b.integers(*parts)], len(parts), axis=axis)
    if b.flag():
        b.op("Concat", results if b.flag() else results[::-1], axis=axis)


def expand(b: Builder) -> None:
    x = b.value(*MOVABLE)
    if x is None:
        return
    other = b.value(*MOVABLE)
    if other is not None and fits(x, other) and b.flag():
        (shape,) = b.op("Shape", [other])
    else:
        target = [1 if not isinstance(d, int) or b.flag() else b.integer(2, 3) if d == 1 else d for d in x.shape or ()]
        shape = b.integers(*([2] * b.integer(0, 1)), *target)
    (wide,) = b.op("Expand", [x, shape])
    again = [v for v in b.values if dtype(v) is dtype(wide) and fits(wide, v)]
    if dtype(x) in NUMBERS and again:
        b.op(b.pick(["Add", "Mul", "Less"]), [wide, b.pick(again)])


def pad(b: Builder) -> None:
    x = b.value(DType.F32, DType.I64, rank=1)
    for _ in range(b.integer(1, 2)):
        if x is None or not x.shape:
            return
        amounts = [b.pick([0, 0, 1, 2]) for _ in range(2 * len(x.shape))]
        kind = dtype(x)
        assert kind is not None
        value = None if b.flag() else b.constant(np.array(b.pick([0, 1, -0.0]), kind.numpy))
        (x,) = b.op("Pad", [x, b.integers(*amounts), *([value] if value else [])])


def gather(b: Builder) -> None:
    x = b.value(*MOVABLE, rank=1)
    axes = [i for i, d in enumerate((x.shape if x else None) or ()) if isinstance(d, int) and d > 0]
    if x is None or not axes:
        return
    axis = b.pick(axes)
    size = sizes(x)[axis]
    index = b.integer(-size, size - 1)
    indices = b.pick([np.array(index), np.array([index]), np.arange(size), np.array([index, 0])]).astype(np.int64)
    (y,) = b.op("Gather", [x, b.constant(indices)], axis=axis - (len(x.shape or ()) if b.flag() else 0))
    if b.flag() and indices.ndim == 0:
        b.op("Unsqueeze", [y, b.integers(axis)])
    elif b.flag() and indices.shape == (1,):
        b.op("Squeeze", [y, b.integers(axis)])


def shape_chain(b: Builder) -> None:
    x = b.value(*MOVABLE, rank=2)
    if x is None or not x.shape:
        return
    (shape,) = b.op("Shape", [x])
    first = b.integer(0, len(x.shape) - 1)
    if b.flag():
        (one,) = b.op("Gather", [shape, b.constant(np.array(first))], axis=0)
        (part,) = b.op("Unsqueeze", [one, b.integers(0)])
    else:
        (part,) = b.op("Slice", [shape, b.integers(first), b.integers(first + 1), b.integers(0)])
    (rest,) = b.op("Slice", [shape, b.integers(first + 1), b.integers(99), b.integers(0)])
    parts = (
        [part, rest] if first == 0 or b.flag() else [b.op("Slice", [shape, b.integers(0), b.integers(first)])[0], part, rest]
    )
    (target,) = b.op("Concat", parts if b.flag() else [part, b.integers(-1)], axis=0)
    b.op("Reshape", [x, target])


def control(b: Builder) -> None:
    x, y = b.value(*NUMBERS), b.value(*NUMBERS)
    if x is None or y is None:
        return
    scalars = [v for v in b.values if dtype(v) is DType.BOOL and v.shape == ()]
    condition = b.pick(scalars) if scalars and b.flag() else b.constant(np.array(b.flag()))
    branches = {name: body(b, name, source) for name, source in (("then_branch", x), ("else_branch", y if b.flag() else x))}
    b.op("If", [condition], 1, **branches)


def body(b: Builder, name: str, source: Value) -> Graph:
    """A branch that captures a value."""
    graph = Graph(name)
    inner = make(b.pick(["Neg", "Abs", "Identity"]), [source], at(f"{name}_{len(b.graph)}"))
    graph.append(inner)
    graph.add_output(inner.result, f"{name}_out")
    return graph


def loop(b: Builder) -> None:
    x, captured = b.value(DType.F32, DType.I64), b.value(*NUMBERS)
    if x is None or captured is None:
        return
    graph = Graph("body")
    graph.add_input("i", TensorType(DType.I64, ()))
    condition = graph.add_input("keep", TensorType(DType.BOOL, ()))
    carried = graph.add_input("state", x.type)
    inner = (("Identity", condition), ("Neg", carried), ("Abs", captured))
    made = [make(name, [v], at(f"loop_{len(b.graph)}")) for name, v in inner]
    for op, name in zip(made, ("keep_out", "state_out", "scanned"), strict=True):
        graph.append(op)
        graph.add_output(op.result, name)
    # Where no turn is taken, what is scanned has the sizes that the engine happens to know, and 0 for others.
    least = 0 if isinstance(captured.type, TensorType) and captured.type.static_shape is not None else 1
    trips, go = b.constant(np.array(b.integer(least, 2))), b.pick([None, b.constant(np.array(least == 1 or b.flag()))])
    b.op("Loop", [trips, go, x], 2, body=graph)


def duplicate(b: Builder) -> None:
    ops = [v.op for v in b.values if v.op is not None and not v.op.bodies]
    if ops:
        copy = clone_op(b.pick(ops), {})
        b.graph.append(copy)
        b.values.extend(copy.results)


def constant(b: Builder) -> None:
    kind = b.pick(NUMBERS)
    shape = b.pick([(), (1,), (3,), (2, 3), (0, 3)])
    with np.errstate(all="ignore"):
        array = np.array([number(b, kind) for _ in range(int(np.prod(shape)))]).astype(kind.numpy).reshape(shape)
    b.values.append(b.constant(array, kind))


STEPS = [
    *(unary, binary, with_constant, logic, where, cast, transpose, reshape, dims_of_rank, slicing, concat, split, expand, pad),
    *(gather, shape_chain, control, loop, duplicate, constant),
]


@st.composite
def programs(draw: Callable[[st.SearchStrategy[object]], object], largest: int = 9) -> Graph:
    """A verified graph with one to three inputs, some ops and one to three outputs."""
    b = Builder(draw)
    for index in range(b.integer(1, 3)):
        kind, shape = b.pick(INPUTS)
        b.values.append(b.graph.add_input(f"x{index}", TensorType(kind, shape)))
    for _ in range(b.integer(1, largest)):
        last = b.graph.last
        try:
            b.pick(STEPS)(b)
        except ModelError:
            _drop_after(b, last)
    made = [v for v in b.values if v.op is not None] or b.values
    chosen = [made[-1], *(b.pick(b.values) for _ in range(b.integer(0, 2)))]
    for index, value in enumerate(chosen):
        b.graph.add_output(value, f"y{index}")
    verify(b.graph)
    return b.graph


def _drop_after(b: Builder, last: Op | None) -> None:
    """Take back the ops of a step that came to nothing."""
    while b.graph.last is not last and b.graph.last is not None:
        gone = b.graph.last
        b.values = [v for v in b.values if v.op is not gone]
        b.graph.erase(gone)
