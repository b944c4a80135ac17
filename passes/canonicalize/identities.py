"""Ops that give back their input bit for bit.

x + 0.0 is not among them: it makes 0.0 of -0.0. x - 0.0, x * 1 and x / 1 are, also for NaN and Inf.
"""

from __future__ import annotations

from irc.ir import DType, Op, Tensor, TensorType, Value

from ..rewriter import No, Rewriter, Rule, rule


@rule("Identity")
def identity(op: Op, rewrite: Rewriter) -> Value | No:
    """Identity is its input."""
    return op.needed(0)


@rule("Dropout")
def inference_dropout(op: Op, rewrite: Rewriter) -> Value | tuple[Value, ...] | No:
    """Dropout outside training is its input."""
    training = op.operand(2)
    if training is not None and (training.constant is None or training.constant.array.any()):
        return No("it may be training")
    if len(op.results) > 1 and op.results[1].uses:
        return No("its mask is used")
    return op.needed(0) if len(op.results) == 1 else (op.needed(0), op.results[1])


@rule("Add", "Sub", "Mul", "Div", "Pow")
def neutral_operand(op: Op, rewrite: Rewriter) -> Value | No:
    """x - 0, x * 1, x / 1, float x ** 1, and x + 0 for integers (or + -0.0 for floats), are x where nothing is broadcast."""
    for index in (1, 0) if op.name in ("Add", "Mul") else (1,):
        constant, other = op.constant_operand(index), op.needed(1 - index)
        if constant is None or not _is_neutral(op.name, constant):
            continue
        if not rewrite.same_type(other, op.result):
            return No("the neutral operand may change the shape or type")
        if op.name == "Pow" and not _is_float(other):
            return No("engines compute integer powers in floats")
        return other
    return No("no operand is a neutral constant")


def _is_float(value: Value) -> bool:
    return isinstance(value.type, TensorType) and value.type.dtype.is_float


def _is_neutral(name: str, constant: Tensor) -> bool:
    if constant.size == 0 or constant.size > 4096 or constant.dtype in (DType.STR, DType.BOOL) or constant.dtype.bits < 8:
        return False
    array = constant.array
    if array.reshape(-1)[0] != (0 if name in ("Add", "Sub") else 1):
        return False
    if name == "Add" and constant.dtype.is_float:
        # Only -0.0 leaves -0.0 what it is.
        return bool((array == 0).all()) and all(str(float(v)).startswith("-") for v in array.reshape(-1))
    if name == "Sub" and constant.dtype.is_float:
        return bool((array == 0).all()) and not any(str(float(v)).startswith("-") for v in array.reshape(-1))
    return bool((array == (0 if name in ("Add", "Sub") else 1)).all())


@rule("Relu", "Abs", "Ceil", "Floor", "Round", "Sign")
def idempotent(op: Op, rewrite: Rewriter) -> Value | No:
    """f(f(x)) is f(x) for rounding, Relu, Abs and Sign."""
    inner = op.needed(0).op
    if inner is None or not inner.is_a(op.name):
        return No(f"its input is no {op.name}")
    return inner.result


@rule("Neg", "Not")
def involution(op: Op, rewrite: Rewriter) -> Value | No:
    """-(-x) is x, and so is not not x; both flip one bit or wrap back."""
    inner = op.needed(0).op
    if inner is None or not inner.is_a(op.name):
        return No(f"its input is no {op.name}")
    return inner.needed(0)


@rule("Sum", "Mean", "Max", "Min", "Concat")
def single_operand(op: Op, rewrite: Rewriter) -> Value | No:
    """A variadic op over one operand is that operand."""
    if len(op.operands) != 1:
        return No("it has several operands")
    return op.needed(0)


@rule("And", "Or")
def neutral_truth(op: Op, rewrite: Rewriter) -> Value | No:
    """x and true, x or false, are x where nothing is broadcast."""
    for index in (1, 0):
        constant, other = op.constant_operand(index), op.needed(1 - index)
        if constant is None or not constant.size or not bool((constant.array == (op.name == "And")).all()):
            continue
        if not rewrite.same_type(other, op.result):
            return No("the neutral operand may change the shape")
        return other
    return No("no operand is a neutral constant")


@rule("Where")
def decided_where(op: Op, rewrite: Rewriter) -> Value | No:
    """Where with a condition that is the same everywhere is one of its sides, where nothing is broadcast."""
    condition = op.constant_operand(0)
    if condition is None or not condition.size:
        return No("its condition is not constant")
    if not (condition.array.all() or not condition.array.any()):
        return No("its condition differs from element to element")
    chosen = op.needed(1 if condition.array.all() else 2)
    if not rewrite.same_type(chosen, op.result):
        return No("the chosen side may be broadcast")
    return chosen


@rule("Where")
def where_of_equal_sides(op: Op, rewrite: Rewriter) -> Value | No:
    """Where between a value and itself is the value, where the condition broadcasts nothing."""
    if op.needed(1) is not op.needed(2):
        return No("its sides differ")
    if not rewrite.same_type(op.needed(1), op.result):
        return No("the condition may broadcast it")
    return op.needed(1)


@rule("Clip")
def unbounded_clip(op: Op, rewrite: Rewriter) -> Value | No:
    """Clip without bounds is its input, for integers; floats are clipped to the largest finite ones."""
    if op.operand(1) is not None or op.operand(2) is not None:
        return No("it has a bound")
    if _is_float(op.needed(0)):
        return No("it makes infinities finite")
    return op.needed(0)


@rule("And", "Or", "Min", "Max", "BitwiseAnd", "BitwiseOr")
def same_operands(op: Op, rewrite: Rewriter) -> Value | No:
    """Of a value and itself, both, either, the smaller and the larger are the value."""
    if len(op.operands) < 2 or any(operand is not op.operands[0] for operand in op.operands):
        return No("its operands differ")
    return op.needed(0)


@rule("Where")
def where_of_not(op: Op, rewrite: Rewriter) -> Value | No:
    """Where not c, a, else b is where c, b, else a."""
    inner = op.needed(0).op
    if inner is None or not inner.is_a("Not"):
        return No("its condition is no Not")
    return rewrite.op("Where", [inner.operand(0), op.operand(2), op.operand(1)])


@rule("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd")
def reduction_over_nothing(op: Op, rewrite: Rewriter) -> Value | No:
    """A reduction told to do nothing without axes, and given none, is its input."""
    axes = op.constant_operand(1)
    empty = op.operand(1) is None or (axes is not None and axes.size == 0)
    if not empty or not op.integer("noop_with_empty_axes", 0):
        return No("it reduces something")
    kind = op.needed(0).type
    if not isinstance(kind, TensorType) or op.result.type != kind:
        return No("its type is not known")
    return op.needed(0)


RULES: tuple[Rule, ...] = (
    identity,
    inference_dropout,
    neutral_operand,
    idempotent,
    involution,
    single_operand,
    neutral_truth,
    decided_where,
    where_of_equal_sides,
    unbounded_clip,
    same_operands,
    where_of_not,
    reduction_over_nothing,
)
