"""Einsum as the ops it stands for: of one operand sums and a transpose, of two a MatMul or a Mul between them.

Labels of an operand are put in groups: batch (in both operands and the result), contracted (in both, not in the result),
free (in one and in the result), summed (in one only). `x[batch, free, contracted] @ y[batch, contracted, free]` is the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from irc.ir import Dim, Op, Tensor, Value, dims

from ..rewriter import Contract, No, Rewriter, rule


@dataclass(frozen=True)
class Term:
    """A value and the label of each of its dims; dims that `...` stands for have labels of their own."""

    value: Value
    labels: tuple[str, ...]

    def size(self, label: str) -> Dim:
        """The dim a label names."""
        assert self.value.shape is not None
        return self.value.shape[self.labels.index(label)]


@dataclass(frozen=True)
class Equation:
    """The labels of each operand and of the result, `...` written out."""

    operands: tuple[tuple[str, ...], ...]
    result: tuple[str, ...]


def parse_equation(text: str, ranks: Sequence[int]) -> Equation | None:
    """An Einsum equation over operands of these ranks, or None where it does not fit them.

    `...` stands for leading dims that broadcast from the right, as the operator's specification has it.
    """
    left, arrow, right = text.replace(" ", "").partition("->")
    parts = left.split(",")
    if len(parts) != len(ranks):
        return None
    named = [part.replace("...", "") for part in parts]
    hidden = [rank - len(name) for rank, name in zip(ranks, named, strict=True)]
    if any(count < 0 or (count > 0 and "..." not in part) for count, part in zip(hidden, parts, strict=True)):
        return None
    most = max(count if "..." in part else 0 for count, part in zip(hidden, parts, strict=True))
    operands = tuple(_written_out(part, most, count) for part, count in zip(parts, hidden, strict=True))
    if arrow:
        result = _written_out(right, most, most)
    else:
        counts = {label: sum(part.count(label) for part in named) for label in "".join(named)}
        result = (*_hidden(most, most), *sorted(label for label, count in counts.items() if count == 1))
    known = {label for labels in operands for label in labels}
    if len(set(result)) != len(result) or not known.issuperset(result):
        return None
    return Equation(operands, result)


def _hidden(most: int, count: int) -> tuple[str, ...]:
    return tuple(f".{i}" for i in range(most - count, most))


def _written_out(part: str, most: int, count: int) -> tuple[str, ...]:
    before, dots, after = part.partition("...")
    return (*before, *(_hidden(most, count) if dots else ()), *after)


@rule("Einsum", contract=Contract.REASSOCIATING)
def einsum_by_matmul(op: Op, rewrite: Rewriter) -> Value | No:
    """Einsum of one or two operands is a MatMul, a Mul or sums, between transposes."""
    values = [op.needed(i) for i in range(len(op.operands))]
    if len(values) > 2 or any(v.shape is None for v in values):
        return No("it has more than two operands, or some rank is not known")
    equation = parse_equation(op.string("equation", ""), [len(v.shape or ()) for v in values])
    if equation is None or any(len(set(labels)) != len(labels) for labels in equation.operands):
        return No("its equation takes a diagonal, or does not fit its operands")
    terms = [Term(v, labels) for v, labels in zip(values, equation.operands, strict=True)]
    if len(terms) == 1:
        return _arranged(_summed(terms[0], set(equation.result), rewrite), equation.result, rewrite)
    first, second = terms
    shared = [label for label in first.labels if label in second.labels]
    if not rewrite.same_dims([first.size(s) for s in shared], [second.size(s) for s in shared]):
        return No("dims of one label are not provably equal")
    if any(label not in equation.result for label in shared):
        return _contraction(first, second, equation.result, rewrite)
    first = _summed(first, {*equation.result, *shared}, rewrite)
    second = _summed(second, {*equation.result, *shared}, rewrite)
    return rewrite.op("Mul", [_stretched(first, equation.result, rewrite), _stretched(second, equation.result, rewrite)])


def _contraction(first: Term, second: Term, result: tuple[str, ...], rewrite: Rewriter) -> Value | No:
    wanted = set(result)
    first = _summed(first, {*wanted, *second.labels}, rewrite)
    second = _summed(second, {*wanted, *first.labels}, rewrite)
    batch = [label for label in result if label in first.labels and label in second.labels]
    inner = [label for label in first.labels if label in second.labels and label not in wanted]
    left = [label for label in result if label in first.labels and label not in batch]
    right = [label for label in result if label in second.labels and label not in batch]
    if not left and not right:
        return _dot_product(first, second, batch, result, rewrite)
    # (x @ y) transposed is y transposed @ x transposed: the operand whose labels come last in the result goes second.
    if left and right and result.index(left[-1]) > result.index(right[-1]):
        first, second, left, right = second, first, right, left
    sizes: dict[str, Dim] = {}
    for term in (second, first):
        sizes.update(zip(term.labels, term.value.shape or (), strict=True))
    # Without batch dims the second operand is a matrix, and the first may keep all the dims of its rows.
    rows = [[label] for label in left] if left and not batch else [left]
    a = _grouped(first, batch, rows, [inner], sizes, rewrite)
    b = _grouped(second, batch, [inner], [right], sizes, rewrite)
    if a is None or b is None:
        return No("several dims that become one are not known")
    product = rewrite.op("MatMul", [a, b])
    made = (*batch, *left, *right)
    target = [sizes[label] for label in made]
    if len(right) != 1 or any(len(group) != 1 for group in rows):
        reshaped = _reshaped(product, target, rewrite)
        if reshaped is None:
            return No("several dims of its result are not known")
        product = reshaped
    return _arranged(Term(product, made), result, rewrite)


def _dot_product(first: Term, second: Term, batch: list[str], result: tuple[str, ...], rewrite: Rewriter) -> Value:
    """The sum of the product, where neither operand has a dim of its own in the result."""
    product = rewrite.op("Mul", [first.value, _arranged(second, first.labels, rewrite)])
    return _arranged(_summed(Term(product, first.labels), set(batch), rewrite), result, rewrite)


def _grouped(
    term: Term, batch: list[str], rows: list[list[str]], columns: list[list[str]], sizes: dict[str, Dim], rewrite: Rewriter
) -> Value | None:
    """The value transposed to batch, rows and columns, each list of labels in the latter two as one dim."""
    groups = [*([label] for label in batch), *rows, *columns]
    value = _arranged(term, tuple(label for group in groups for label in group), rewrite)
    if all(len(group) == 1 for group in groups):
        return value
    return _reshaped(value, [dims.product([sizes[label] for label in group]) for group in groups], rewrite)


def _reshaped(value: Value, target: list[Dim], rewrite: Rewriter) -> Value | None:
    """A Reshape to dims of which those not known in advance are copied from their place, or one is left open."""
    source = value.shape or ()
    numbers = [
        d if isinstance(d, int) and d > 0 else 0 if i < len(source) and d is not None and source[i] == d else -1
        for i, d in enumerate(target)
    ]
    if numbers.count(-1) > 1 or (-1 in numbers and 0 in numbers):
        return None
    rewrite.assume([d for d, number in zip(target, numbers, strict=True) if number == 0])
    return rewrite.op("Reshape", [value, rewrite.constant(Tensor.integers(numbers))])


def _summed(term: Term, wanted: set[str], rewrite: Rewriter) -> Term:
    """The term without the labels nobody asks for: their dims are summed."""
    axes = [i for i, label in enumerate(term.labels) if label not in wanted]
    if not axes:
        return term
    value = rewrite.op("ReduceSum", [term.value, rewrite.constant(Tensor.integers(axes))], {"keepdims": 0})
    return Term(value, tuple(label for label in term.labels if label in wanted))


def _arranged(term: Term, labels: tuple[str, ...], rewrite: Rewriter) -> Value:
    """The value transposed so that its dims are in the order of `labels`."""
    perm = [term.labels.index(label) for label in labels]
    if perm == list(range(len(perm))):
        return term.value
    return rewrite.op("Transpose", [term.value], {"perm": tuple(perm)})


def _stretched(term: Term, labels: tuple[str, ...], rewrite: Rewriter) -> Value:
    """The value with a dim for each of `labels`, of size 1 where it has none, so that it broadcasts."""
    own = tuple(label for label in labels if label in term.labels)
    value = _arranged(term, own, rewrite)
    first = labels.index(own[0]) if own else len(labels)
    axes = [i - first for i, label in enumerate(labels) if i > first and label not in own]
    return rewrite.op("Unsqueeze", [value, rewrite.constant(Tensor.integers(axes))]) if axes else value
