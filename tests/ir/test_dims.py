"""Symbolic dims: one canonical form, exact arithmetic, and a text form that reads back."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from irc.ir import Dim, DType, TensorType, dims
from irc.ir.text import parse_graph

NAMES = [
    "N",
    "batch",
    "seq_len",
    "past+present",
    "a b",
    'quo"te',
    "back\\slash",
    "line\nfeed",
    "tab\t",
    "é",
    "div",
    "?",
    "3",
    "_",
]
BINARY = ["add", "multiply", "divide", "modulo", "minimum", "maximum"]


def truncated(a: int, b: int) -> int:
    """a / b as ONNX's integer Div."""
    return math.trunc(a / b) if abs(a) < 2**50 else (abs(a) // abs(b)) * (1 if (a < 0) == (b < 0) else -1)


PLAIN = {
    "add": lambda a, b: a + b,
    "multiply": lambda a, b: a * b,
    "divide": truncated,
    "modulo": lambda a, b: a % b,
    "minimum": min,
    "maximum": max,
}

leaves = st.one_of(st.integers(-9, 9), st.sampled_from(NAMES).map(dims.named))


def grown(children: st.SearchStrategy[Dim]) -> st.SearchStrategy[Dim]:
    return st.builds(lambda op, a, b: getattr(dims, op)(a, b), st.sampled_from(BINARY), children, children)


known = st.recursive(leaves, grown, max_leaves=6).filter(lambda d: d is not None)
polynomials = st.recursive(
    leaves,
    lambda inner: st.builds(lambda op, a, b: getattr(dims, op)(a, b), st.sampled_from(["add", "multiply"]), inner, inner),
    max_leaves=6,
)
bindings = st.fixed_dictionaries({name: st.integers(0, 40) for name in NAMES})


# Canonical form


@given(polynomials, polynomials, polynomials)
def test_sums_and_products_are_a_commutative_ring(a: Dim, b: Dim, c: Dim) -> None:
    assert dims.add(a, b) == dims.add(b, a)
    assert dims.multiply(a, b) == dims.multiply(b, a)
    assert dims.add(dims.add(a, b), c) == dims.add(a, dims.add(b, c))
    assert dims.multiply(dims.multiply(a, b), c) == dims.multiply(a, dims.multiply(b, c))
    assert dims.multiply(a, dims.add(b, c)) == dims.add(dims.multiply(a, b), dims.multiply(a, c))
    assert dims.add(a, dims.negate(a)) == 0
    assert dims.add(a, 0) == a
    assert dims.multiply(a, 1) == a


@given(polynomials, polynomials)
def test_equal_dims_have_equal_hashes_and_equal_texts(a: Dim, b: Dim) -> None:
    left, right = dims.add(dims.multiply(a, 2), b), dims.add(a, dims.add(b, a))
    assert left == right
    assert hash(left) == hash(right)
    assert dims.text(left) == dims.text(right)


@given(known, known)
def test_different_dims_have_different_texts(a: Dim, b: Dim) -> None:
    assert (a == b) == (dims.text(a) == dims.text(b))


@given(polynomials, leaves)
def test_what_was_multiplied_divides_out_exactly(a: Dim, b: Dim) -> None:
    assume(b != 0)
    product = dims.multiply(a, b)
    assert dims.divide(product, b) == a
    assert dims.modulo(product, b) == 0


@pytest.mark.parametrize(
    ("dim", "text"),
    [
        (dims.add(dims.named("N"), -1), "N - 1"),
        (dims.negate(dims.named("N")), "-N"),
        (dims.multiply(dims.add(dims.named("N"), 1), dims.named("M")), "M*N+M"),
        (dims.divide(dims.add(dims.named("N"), -3), 2), "div(N - 3,2)"),
        (dims.multiply(dims.named("N"), dims.named("N")), "N*N"),
        (dims.named("a b"), '"a b"'),
        (None, "?"),
        (7, "7"),
    ],
)
def test_text(dim: Dim, text: str) -> None:
    assert dims.text(dim) == text


# Meaning


@pytest.mark.parametrize("function", BINARY)
@given(a=known, b=known, sizes=bindings)
def test_evaluation_commutes_with_arithmetic(function: str, a: Dim, b: Dim, sizes: dict[str, int]) -> None:
    x, y = dims.evaluate(a, sizes), dims.evaluate(b, sizes)
    assume(x is not None and y is not None)
    assume(function not in ("divide", "modulo") or y != 0)
    assert dims.evaluate(getattr(dims, function)(a, b), sizes) == PLAIN[function](x, y)


@pytest.mark.parametrize(("a", "b", "quotient", "remainder"), [(7, 2, 3, 1), (-7, 2, -3, 1), (7, -2, -3, -1), (-7, -2, 3, -1)])
def test_division_truncates_and_remainder_has_the_sign_of_the_divisor(a: int, b: int, quotient: int, remainder: int) -> None:
    n = dims.named("N")
    assert dims.evaluate(dims.divide(n, b), {"N": a}) == dims.divide(a, b) == quotient
    assert dims.evaluate(dims.modulo(n, b), {"N": a}) == dims.modulo(a, b) == remainder


def test_division_by_zero_is_unknown() -> None:
    n = dims.named("N")
    assert dims.divide(n, 0) is None
    assert dims.modulo(3, 0) is None
    assert dims.evaluate(dims.divide(3, n), {"N": 0}) is None


@given(known)
def test_an_unknown_operand_makes_the_result_unknown(a: Dim) -> None:
    for function in BINARY:
        result = getattr(dims, function)(a, None)
        assert result is None or (function == "multiply" and a == 0 and result == 0)


@given(known)
def test_an_unbound_name_makes_the_value_unknown(a: Dim) -> None:
    if isinstance(a, int):
        assert dims.evaluate(a, {}) == a
    else:
        assert a is not None
        assert dims.evaluate(a, {}) is None or not a.names()


@given(known, bindings)
def test_names_are_all_a_dim_depends_on(a: Dim, sizes: dict[str, int]) -> None:
    names = a.names() if isinstance(a, dims.SymbolicDim) else set()
    assert dims.evaluate(a, {n: sizes[n] for n in names}) == dims.evaluate(a, sizes)


# Text


@given(known)
def test_text_reads_back(a: Dim) -> None:
    type_text = str(TensorType(DType.F32, (a, None, 3)))
    graph = parse_graph(f"graph @main(%x: {type_text}) -> (%x: {type_text}) {{\n  return %x\n}}\n")
    assert graph.inputs[0].shape == (a, None, 3)


# Bounds: a model file decides how often dims are multiplied, not how much memory that takes.


def test_a_dim_squared_again_and_again_becomes_unknown() -> None:
    dim: Dim = dims.add(dims.named("N"), dims.named("M"))
    for _ in range(200):
        dim = dims.multiply(dim, dim)
    assert dim is None


def test_calls_nested_in_both_arguments_become_unknown() -> None:
    dim: Dim = dims.named("N")
    for i in range(200):
        dim = dims.minimum(dims.divide(dim, i + 2), dims.modulo(dim, i + 3))
    assert dim is None
