"""Constants in every form a model file can give them: raw, typed, sparse, as attributes, of every dtype."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from irc.ir import DType, SparseTensor, Tensor, capture, to_model

from .models import F32, check_capture, const, info, model, node, normal, run, same

X, Y = [info("x", F32, [4])], [info("y", F32, [4])]
FEED = {"x": normal(4)}


def captured(tensor: TensorProto) -> Tensor:
    """What an initializer becomes."""
    tensor.name = "w"
    graph = capture(model([node("Identity", ["w"], ["y"])], [], ["y"], [tensor], opset=25).SerializeToString())
    return next(op.value for op in graph if op.is_constant)


NUMERIC = [d for d in DType if d is not DType.STR]


@pytest.mark.parametrize("dtype", NUMERIC, ids=lambda d: d.text)
@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 8])
def test_raw_and_typed_fields_agree(dtype: DType, count: int) -> None:
    values = np.ones(count) if dtype is DType.F8E8M0 else np.arange(count) % 2  # f8e8m0 has no zero
    array = values.astype(dtype.numpy)
    typed = helper.make_tensor("w", dtype.onnx_code, [count], values.tolist())
    raw = numpy_helper.from_array(array, "w")
    assert not typed.raw_data
    for tensor in (typed, raw):
        found = captured(tensor)
        assert (found.dtype, found.shape) == (dtype, (count,))
        assert found.byte_count == dtype.byte_count(count)
        np.testing.assert_array_equal(found.array, array)
    assert captured(typed).same_as(captured(raw))
    assert captured(typed).digest == captured(raw).digest


@pytest.mark.parametrize("dtype", [DType.I4, DType.U4, DType.I2, DType.U2, DType.F4E2M1], ids=lambda d: d.text)
@given(numbers=st.lists(st.integers(0, 255), max_size=9), odd=st.integers(0, 3))
def test_packed_types_of_every_length(dtype: DType, numbers: list[int], odd: int) -> None:
    count = max(0, len(numbers) * 8 // dtype.bits - odd % (8 // dtype.bits))
    tensor = TensorProto(data_type=dtype.onnx_code, dims=[count], raw_data=bytes(numbers))
    assert bytes(captured(tensor).data) == bytes(numbers)  # type: ignore[arg-type]


def test_shapes_of_rank_0_and_with_zeros() -> None:
    for shape in ((), (0,), (2, 0, 3), (1, 1)):
        found = captured(numpy_helper.from_array(np.ones(shape, np.float32)))
        assert found.shape == found.array.shape == shape


def test_strings_stay_the_bytes_they_are() -> None:
    strings = [b"", "é".encode(), b"\xff\xfe", b"a\0b"]
    tensor = TensorProto(data_type=TensorProto.STRING, dims=[2, 2], string_data=strings)
    found = captured(tensor)
    assert found.data == tuple(strings)
    assert found.array.tolist() == [["", "é"], [b"\xff\xfe", "a\0b"]]


@given(st.lists(st.floats(width=32), max_size=20))
def test_floats_keep_their_bits(values: list[float]) -> None:
    array = np.array(values, np.float32)
    for tensor in (const("w", array), helper.make_tensor("w", F32, [len(values)], values)):
        assert bytes(captured(tensor).data) == array.tobytes() or np.isnan(array).any()  # type: ignore[arg-type]


def test_a_constant_is_not_copied_out_of_the_file() -> None:
    data = model([node("Identity", ["w"], ["y"])], [], ["y"], [const("w", normal(1000))]).SerializeToString()
    tensor = next(op.value for op in capture(data) if op.is_constant)
    assert np.shares_memory(tensor.array, np.frombuffer(data, np.uint8))
    assert not tensor.array.flags.writeable


# Constant, the op

FORMS = {
    "value": const("", normal(4)),
    "value_float": 0.5,
    "value_floats": [0.5, -1.0, 2.0, 4.0],
    "value_int": 3,
    "value_ints": [3, 4, 5, 6],
    "value_string": "é",
    "value_strings": ["a", "b"],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_constant(form: str) -> None:
    check_capture(model([node("Constant", [], ["y"], **{form: FORMS[form]})], [], ["y"]), {})


@pytest.mark.parametrize("form", ["value_floats", "value_ints"])
def test_constants_of_no_elements(form: str) -> None:
    made = node("Constant", [], ["y"])
    made.attribute.add(name=form, type={"value_floats": 6, "value_ints": 7}[form])
    (found,) = capture(model([made], [], ["y"]))
    assert found.value.shape == (0,)


# Sparse


def sparse(indices: np.ndarray, dims: list[int], values: np.ndarray | None = None) -> ModelProto:
    numbers = const("w", normal(len(indices)) if values is None else values)
    made = helper.make_sparse_tensor(numbers, const("i", indices), dims)
    return model([node("Add", ["x", "w"], ["y"])], [info("x", F32, dims)], ["y"], sparse_initializer=[made])


@pytest.mark.parametrize(("indices", "dims"), [([0, 3], [4]), ([1, 5, 11], [3, 4]), ([], [4])])
def test_sparse_initializers_by_position(indices: list[int], dims: list[int]) -> None:
    check_capture(sparse(np.array(indices, np.int64), dims), {"x": normal(*dims)})


def test_sparse_initializers_by_coordinates() -> None:
    check_capture(sparse(np.array([[0, 1], [2, 3]]), [3, 4]), {"x": normal(3, 4)})


def test_sparse_constants() -> None:
    made = node("Constant", [], ["w"])
    value = sparse(np.array([1, 2]), [4]).graph.sparse_initializer[0]
    made.attribute.add(name="sparse_value", type=11).sparse_tensor.CopyFrom(value)
    graph = check_capture(model([made, node("Add", ["x", "w"], ["y"])], X, Y), FEED)
    assert isinstance(graph.first.attributes["sparse_value"], SparseTensor)  # type: ignore[union-attr]


def test_overridable_sparse_initializers() -> None:
    message = sparse(np.array([1, 2]), [4])
    message.graph.input.append(info("w", F32, [4]))
    graph = capture(message)
    (default,) = graph.defaults.values()
    assert default.array.tolist() == [0, *normal(2).tolist(), 0]
    text = TensorProto(name="w", data_type=TensorProto.STRING, dims=[1], string_data=[b"a"])
    words = model(
        [node("Identity", ["w"], ["y"])],
        [info("w", TensorProto.STRING, [3])],
        ["y"],
        sparse_initializer=[helper.make_sparse_tensor(text, const("i", np.array([1])), [3])],
    )
    (default,) = capture(words).defaults.values()
    assert default.array.tolist() == ["", "a", ""]


# Arithmetic on them


def test_bf16_fp8_and_int4_through_the_engine() -> None:
    for code, values in (
        (TensorProto.BFLOAT16, np.array([1, 2.5, -3, 0.1], ml_dtypes.bfloat16)),
        (TensorProto.FLOAT8E4M3FN, np.array([1, 2.5, -3, 0.1], ml_dtypes.float8_e4m3fn)),
    ):
        tensor = helper.make_tensor("w", code, [4], values.astype(np.float32).tolist())
        nodes = [node("Cast", ["w"], ["q"], to=F32), node("Add", ["x", "q"], ["y"])]
        check_capture(model(nodes, X, Y, [tensor], opset=19), FEED)
    packed = helper.make_tensor("w", TensorProto.INT4, [3], [-8, 7, 3])
    nodes = [node("DequantizeLinear", ["w", "s"], ["q"]), node("Add", ["x", "q"], ["y"])]
    feed = {"x": normal(3)}
    message = model(nodes, [info("x", F32, [3])], ["y"], [packed, const("s", np.float32(0.5))], opset=21, ir_version=10)
    same(run(to_model(capture(message)), feed), run(message, feed))
