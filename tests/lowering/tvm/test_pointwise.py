"""Every elementwise op against ONNX Runtime: NaN, infinities, signed zeros and extremes, each with each, and what wraps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from irc.ir import Graph, Op, capture, evaluate
from irc.lowering.tvm.elements import dtype_of
from irc.lowering.tvm.kernel import Kernel, Writer, literal, tir_name
from irc.lowering.tvm.loops import elementwise
from irc.lowering.tvm.pointwise import POINTWISE, takes
from irc.lowering.tvm.views import View

from .running import lanes, needs_tvm, run

Array = NDArray[Any]

INFINITY, NAN = float("inf"), float("nan")
FLOATS = (
    *(0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.0, 7.25, -7.25, 0.01, -0.01, 1e-4, -1e-4, 5.9, -11.0),
    *(40.0, -40.0, 90.0, -90.0, 1e10, -1e10, 2.0**31, -(2.0**31), 1e-38, -1e-38, 3e38, -3e38, INFINITY, -INFINITY, NAN),
)
# Not 2**31 as an i64: ONNX Runtime's Max, Min, Clip and Sign hold it for negative on processors with AVX-512.
INTEGERS = {
    np.int8: (0, 1, -1, 2, -2, 3, 7, -7, 100, 127, -127, -128),
    np.uint8: (0, 1, 2, 3, 7, 8, 9, 100, 127, 128, 200, 254, 255),
    np.int32: (0, 1, -1, 2, -3, 7, -7, 46341, 2**30, 2**31 - 1, -(2**31)),
    np.int64: (0, 1, -1, 2, -3, 7, -7, 2**33 + 5, -(2**40), 2**62, 2**63 - 1, -(2**63)),
    np.bool_: (False, True),
}
OF_FLOATS = {np.float32: FLOATS, np.float64: FLOATS}
NUMBERS = INTEGERS | OF_FLOATS
del NUMBERS[np.bool_]


def graph_of(name: str, dtypes: Sequence[type], result: type, constants: dict[int, Array], **attributes: Any) -> Graph:
    """A graph of one op whose operands are vectors, but for the constants."""
    kinds = [helper.np_dtype_to_tensor_dtype(np.dtype(dtype)) for dtype in dtypes]
    inputs = [helper.make_tensor_value_info(f"x{i}", k, ["n"]) for i, k in enumerate(kinds) if i not in constants]
    weights = [numpy_helper.from_array(value, f"x{i}") for i, value in constants.items()]
    node = helper.make_node(name, [f"x{i}" for i in range(len(dtypes))], ["y"], **attributes)
    output = helper.make_tensor_value_info("y", helper.np_dtype_to_tensor_dtype(np.dtype(result)), ["n"])
    graph = helper.make_graph([node], "g", inputs, [output], weights)
    return capture(helper.make_model(graph, ir_version=11, opset_imports=[helper.make_opsetid("", 24)]).SerializeToString())


def only_op(graph: Graph) -> Op:
    (op,) = [each for each in graph if not each.is_constant]
    return op


def kernel_of(op: Op, size: int) -> Kernel:
    """The op on vectors; constants are texts, as a caller with scalar constants writes them."""
    values = [value for value in op.operands if value is not None]
    loaded = [value for value in dict.fromkeys(values) if value.constant is None]

    def body(writer: Writer, names: Sequence[str]) -> str:
        texts = dict(zip(loaded, names, strict=True))
        for value in values:
            if value.constant is not None:
                texts[value] = literal(value.constant.array.reshape(-1)[0].item(), tir_name(value.constant.dtype))
        return POINTWISE[op.qualified_name](writer, op, ["" if value is None else texts[value] for value in op.operands])

    view = View.dense((size,))
    return elementwise(dtype_of(op.result), view, [(dtype_of(value), view) for value in loaded], body, lanes())


def check(name: str, arrays: Sequence[Array], result: type | None = None, **attributes: Any) -> None:
    """The op gives what ONNX Runtime gives: the same integers, zeros with their signs, infinities, NaN, and close numbers."""
    constants = {index: array for index, array in enumerate(arrays) if array.ndim == 0}
    result = result or arrays[0].dtype.type
    graph = graph_of(name, [array.dtype.type for array in arrays], result, constants, **attributes)
    op = only_op(graph)
    assert takes(op) == ""
    feeds = {f"x{index}": array for index, array in enumerate(arrays) if index not in constants}
    with np.errstate(all="ignore"):
        expected = evaluate(graph, feeds)[0]
    size = len(expected)
    out = np.empty(size, expected.dtype)
    run(kernel_of(op, size), *map(np.ascontiguousarray, feeds.values()), out)
    if out.dtype.kind != "f":
        np.testing.assert_array_equal(out, expected)
        return
    np.testing.assert_allclose(out, expected, rtol=2e-6, atol=LOOSE.get(name, 1e-37))
    plain = (expected == 0) & (out == 0)
    np.testing.assert_array_equal(np.signbit(out)[plain], np.signbit(expected)[plain])


LOOSE = {"Gelu": 3e-6, "Elu": 1e-7, "Celu": 3e-7, "Selu": 2e-7, "Sigmoid": 1e-7, "Swish": 1e-6, "Mish": 1e-5, "Softplus": 1e-7}
"""Ops whose tails ONNX Runtime itself computes with an absolute error."""


def pairs(dtype: type) -> tuple[Array, Array]:
    """Each number with each."""
    first, second = np.meshgrid(*(np.array(NUMBERS.get(dtype, INTEGERS.get(dtype)), dtype),) * 2)
    return first.reshape(-1), second.reshape(-1)


def some(dtype: type) -> Array:
    """The special numbers, and many between them."""
    if dtype in INTEGERS:
        return np.array(INTEGERS[dtype] * 3, dtype)
    rng = np.random.default_rng(7)
    return np.array([*FLOATS, *rng.normal(size=200), *(rng.normal(size=200) * 30)], dtype)


def ids(value: object) -> str:
    return getattr(value, "__name__", str(value))


@pytest.mark.parametrize("dtype", [*OF_FLOATS, np.int8, np.uint8, np.int32, np.int64], ids=ids)
@pytest.mark.parametrize("name", ["Add", "Sub", "Mul", "Max", "Min"])
@needs_tvm
def test_arithmetic(name: str, dtype: type) -> None:
    check(name, pairs(dtype))


@pytest.mark.parametrize("dtype", [*OF_FLOATS, np.int8, np.uint8, np.int32, np.int64], ids=ids)
@needs_tvm
def test_division(dtype: type) -> None:
    a, b = pairs(dtype)
    keep = b != 0 if dtype in OF_FLOATS else (b != 0) & ~((b == -1) & (a == np.iinfo(dtype).min))  # which stop ONNX Runtime
    check("Div", (a[keep], b[keep]) if dtype not in OF_FLOATS else (a, b))
    if dtype not in OF_FLOATS:
        check("Mod", (a[keep], b[keep]))
        keep &= (np.abs(a.astype(np.float64)) < 2.0**53) & (np.abs(b.astype(np.float64)) < 2.0**53)  # ONNX Runtime goes by f64
        check("Mod", (a[keep], b[keep]), fmod=1)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64], ids=ids)
@needs_tvm
def test_no_division_of_integers_traps(dtype: type) -> None:
    least = np.iinfo(dtype).min
    a, b = np.array([5, 0, least, least], dtype), np.array([0, 0, -1, 0], dtype)
    for name, expected in (("Div", [5, 0, least, least]), ("Mod", [0, 0, 0, 0])):
        out = np.empty(4, dtype)
        run(kernel_of(only_op(graph_of(name, [dtype, dtype], dtype, {})), 4), a, b, out)
        assert out.tolist() == expected


@pytest.mark.parametrize("name", ["Sub", "Div", "Equal", "Less"])
@needs_tvm
def test_an_operand_beside_itself_is_no_shortcut(name: str) -> None:
    """Infinity less itself is NaN, and NaN does not equal itself."""
    result = np.float32 if name in ("Sub", "Div") else np.bool_
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(result))
    graph = helper.make_graph(
        [helper.make_node(name, ["x", "x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", kind, ["n"])],
    )
    captured = capture(helper.make_model(graph, ir_version=11, opset_imports=[helper.make_opsetid("", 24)]).SerializeToString())
    x = np.array(FLOATS, np.float32)
    out = np.empty(len(x), result)
    run(kernel_of(only_op(captured), len(x)), x, out)
    np.testing.assert_array_equal(out, evaluate(captured, {"x": x})[0])


@pytest.mark.parametrize("number", [0.0, -0.0, 1.0, INFINITY])
@pytest.mark.parametrize("name", ["Add", "Sub", "Mul", "Div"])
@needs_tvm
def test_a_constant_is_no_shortcut(name: str, number: float) -> None:
    """0 times infinity is NaN, and -0 plus 0 is 0."""
    check(name, (np.array(FLOATS, np.float32), np.array(number, np.float32)))


@pytest.mark.parametrize("dtype", [*OF_FLOATS, np.int8, np.uint8, np.int32, np.int64, np.bool_], ids=ids)
@needs_tvm
def test_comparisons(dtype: type) -> None:
    ordered = dtype in (np.float32, np.float64, np.int32, np.int64)  # what ONNX Runtime has besides Equal
    for name in ("Equal", *(("Less", "LessOrEqual", "Greater", "GreaterOrEqual") if ordered else ())):
        check(name, pairs(dtype), np.bool_)


@pytest.mark.parametrize(
    "name",
    [
        *("Relu", "LeakyRelu", "Elu", "Selu", "Celu", "ThresholdedRelu", "HardSigmoid", "HardSwish", "Softplus", "Softsign"),
        *("Mish", "Gelu", "Swish", "Sigmoid", "Tanh", "Erf", "Exp", "Log", "Sqrt", "Reciprocal", "Sign", "Abs", "Neg"),
        *("Floor", "Ceil", "Round", "Identity"),
    ],
)
@needs_tvm
def test_functions(name: str) -> None:
    check(name, [some(np.float32)])


@pytest.mark.parametrize("name", ["Sin", "Cos"])
@needs_tvm
def test_circular_functions(name: str) -> None:
    x = some(np.float32)
    check(name, [x[(np.abs(x) <= 1e6) | ~np.isfinite(x)]])


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("LeakyRelu", {"alpha": 0.3}),
        ("LeakyRelu", {"alpha": 0.0}),
        ("Elu", {"alpha": 2.0}),
        ("Celu", {"alpha": 0.5}),
        ("Selu", {"alpha": 1.0, "gamma": 2.0}),
        ("ThresholdedRelu", {"alpha": 2.5}),
        ("HardSigmoid", {"alpha": 0.5, "beta": 0.25}),
        ("Swish", {"alpha": 1.702}),
        ("Gelu", {"approximate": "tanh"}),
    ],
)
@needs_tvm
def test_attributes(name: str, attributes: dict[str, Any]) -> None:
    check(name, [some(np.float32)], **attributes)


@pytest.mark.parametrize("name", ["Abs", "Neg", "Sign", "Relu", "Floor", "Ceil", "Round", "Sqrt", "Reciprocal"])
@needs_tvm
def test_wide_floats(name: str) -> None:
    check(name, [some(np.float64)])


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64], ids=ids)
@needs_tvm
def test_signs_of_integers(dtype: type) -> None:
    for name in ("Abs", "Neg", "Sign"):
        check(name, [some(dtype)])


@needs_tvm
def test_conditions_on_floats() -> None:
    check("IsNaN", [some(np.float32)], np.bool_)
    check("IsNaN", [some(np.float64)], np.bool_)
    for positive, negative in ((1, 1), (0, 1), (1, 0), (0, 0)):
        check("IsInf", [some(np.float32)], np.bool_, detect_positive=positive, detect_negative=negative)


@needs_tvm
def test_bools() -> None:
    for name in ("And", "Or", "Xor"):
        check(name, pairs(np.bool_))
    check("Not", [some(np.bool_)])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64], ids=ids)
@needs_tvm
def test_bits(dtype: type) -> None:
    for name in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
        check(name, pairs(dtype))
    check("BitwiseNot", [some(dtype)])


@needs_tvm
def test_shifts_by_the_width_leave_nothing() -> None:
    for direction in ("LEFT", "RIGHT"):
        check("BitShift", pairs(np.uint8), direction=direction)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8], ids=ids)
@needs_tvm
def test_where(dtype: type) -> None:
    a, b = pairs(dtype)
    check("Where", [np.arange(len(a)) % 3 == 0, a, b], dtype)


@pytest.mark.parametrize("target", [np.float32, np.float64, np.int8, np.uint8, np.int32, np.int64, np.bool_], ids=ids)
@pytest.mark.parametrize("source", [np.float32, np.float64, np.int8, np.uint8, np.int32, np.int64, np.bool_], ids=ids)
@needs_tvm
def test_casts(source: type, target: type) -> None:
    x = some(source)
    if source in OF_FLOATS:
        x = np.concatenate(
            [x, np.array([127.9, 128.0, 255.5, 256.0, -128.9, -129.0, 300.0, 2147483647.5, -2147483648.5], source)]
        )
    check("Cast", [x], target, to=helper.np_dtype_to_tensor_dtype(np.dtype(target)))


@needs_tvm
def test_powers() -> None:
    x, y = pairs(np.float32)
    check("Pow", (x, y))
    for dtype in (np.int32, np.int64):
        check("Pow", (x, np.clip(np.nan_to_num(y), -40, 40).astype(dtype)))


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.0, -1.0, 0.5, -0.5, 1.7])
@needs_tvm
def test_powers_of_a_constant(exponent: float) -> None:
    check("Pow", (some(np.float32), np.array(exponent, np.float32)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8, np.int64], ids=ids)
@needs_tvm
def test_clip(dtype: type) -> None:
    x = some(dtype)
    check("Clip", (x, np.array(-2, dtype), np.array(3, dtype)))
    check("Clip", (x, np.array(-2, dtype)))
    check("Clip", (x, np.array(3, dtype), np.array(2, dtype)))


@needs_tvm
def test_a_slope_for_each_element() -> None:
    x, slope = pairs(np.float32)
    check("PRelu", (x, slope))


@pytest.mark.parametrize("name", ["Sum", "Mean", "Max", "Min"])
@needs_tvm
def test_many_operands(name: str) -> None:
    a, b = pairs(np.float32)
    check(name, (a, b, np.roll(a, 3)))
    check(name, (a,))


def test_what_is_not_taken_has_a_reason() -> None:
    assert (
        takes(only_op(graph_of("Softmax", [np.float32], np.float32, {}))) == "Softmax is no elementwise op that is written here"
    )
    assert "dtype other than f32, f64, i8" in takes(only_op(graph_of("Exp", [np.float16], np.float16, {})))
    assert takes(only_op(graph_of("Exp", [np.float64], np.float64, {}))) == "Exp is written for f32 only"
    assert (
        takes(only_op(graph_of("Mod", [np.float32, np.float32], np.float32, {}, fmod=1)))
        == "Mod is written for i8, i32, i64, u8 only"
    )
    assert "exponents" in takes(only_op(graph_of("Pow", [np.float32, np.float64], np.float32, {})))
