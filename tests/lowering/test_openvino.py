"""OpenVINO as an engine: what it takes, what it is not given and why, and that its programs are the same and right."""

from __future__ import annotations

from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from irc.ir import DType, UnsupportedError, capture, evaluate
from irc.lowering import CompileOptions, Precision, Verify, compile_model, find_target
from irc.lowering.openvino import OpenVino
from irc.passes.precision import narrow, sites
from irc.runtime import EngineFailure, load

from .models import F32, I64, info, mlp, model, node, normal

pytest.importorskip("openvino", reason="needs the extra openvino")

F64 = TensorProto.DOUBLE
CHOSEN = CompileOptions(engine="openvino")


def refusals(message: Any) -> list[str]:
    """What OpenVINO is not given of a model, with the reasons."""
    engine, target = OpenVino(), find_target("cpu")
    ops = [op for op in capture(message.SerializeToString()).walk() if not op.is_constant]
    verdicts = [(op.name, engine.takes(op, target)) for op in ops]
    return [f"{name}: {verdict.reason}" for name, verdict in verdicts if not verdict]


def one(op: str, kinds: tuple[int, ...], result: int, shape: list[Any], **attributes: Any) -> Any:
    """A model of one op; all operands have one shape."""
    names = [f"x{index}" for index in range(len(kinds))]
    inputs = [info(name, kind, shape) for name, kind in zip(names, kinds, strict=True)]
    return model([node(op, names, ["y"], **attributes)], inputs, [info("y", result, shape)])


def test_a_program_runs_and_says_where(tmp_path: Path) -> None:
    compiled = compile_model(mlp(), CHOSEN)
    assert compiled.agreement.agrees
    compiled.program.save(tmp_path / "mlp.irc")
    x = normal(3, 4, seed=1)
    with load(tmp_path / "mlp.irc") as program:
        assert [each.engine for each in program.manifest.placement] == ["openvino"]
        np.testing.assert_allclose(program.run({"x": x})["y"], compiled.program.run({"x": x})["y"])
        np.testing.assert_allclose(program.run({"x": x})["y"], np.maximum(x @ normal(4, 4), 0), rtol=1e-5, atol=1e-6)


def test_equal_models_make_equal_bytes(tmp_path: Path) -> None:
    """OpenVINO numbers what it makes up from when the process began; an artifact must not show that."""
    for name in ("first", "second"):
        compile_model(mlp(), CHOSEN).program.save(tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (one("Relu", (F64,), F64, [2]), "Relu: it does not compute in f64"),
        (one("Add", (I64, I64), I64, [2]), "Add: it computes integers in 32 bits"),
        (one("Relu", (F32,), F32, [0, 2]), "Relu: it does not run on what is empty"),
        (one("RandomNormalLike", (F32,), F32, [2]), "RandomNormalLike: random numbers are left to ONNX Runtime"),
        (one("Pow", (F32, F32), F32, [2]), "Pow: its square root of -Inf is NaN"),
        (one("BitwiseNot", (I64,), I64, [2]), "BitwiseNot: it computes integers in 32 bits"),
    ],
)
def test_what_it_computes_otherwise_it_is_not_given(message: Any, reason: str) -> None:
    assert refusals(message) == [reason]


def test_sizes_of_dims_may_be_computed_in_64_bits() -> None:
    nodes = [node("Shape", ["x"], ["s"]), node("Add", ["s", "s"], ["t"]), node("Expand", ["x", "s"], ["y"])]
    whole = model(
        [*nodes, node("Cast", ["t"], ["u"], to=F32)], [info("x", F32, ["N"])], [info("y", F32, None), info("u", F32, None)]
    )
    assert refusals(whole) == []


def test_a_refusal_names_each_op_and_the_way_out() -> None:
    with pytest.raises(
        UnsupportedError, match=r"OpenVINO does not take these ops:\n  Relu at .*: it does not compute in f64"
    ) as raised:
        compile_model(one("Relu", (F64,), F64, [2]), CHOSEN)
    assert raised.value.hint == "use --engine onnxruntime"


def test_an_output_that_is_an_input_is_refused() -> None:
    straight = model([], [info("x", F32, [2])], [info("x", F32, [2])])
    with pytest.raises(UnsupportedError, match="output x is an input"):
        compile_model(straight, CHOSEN)


def test_integers_beyond_32_bits_are_refused_when_fed() -> None:
    program = compile_model(one("Cast", (I64,), F32, [2], to=F32), CHOSEN).program
    np.testing.assert_array_equal(program.run({"x0": np.array([1, -(2**31)])})["y"], np.array([1, -(2**31)], np.float32))
    with pytest.raises(EngineFailure, match="input x0 has a value beyond 32 bits"):
        program.run({"x0": np.array([2**31, 0])})


@pytest.mark.parametrize("shape", [[2, 3], ["N", 3]])
def test_results_are_the_callers_own(shape: list[Any]) -> None:
    """Neither a later run nor a change to what was fed shows in a result, whether its size is known ahead or not."""
    program = compile_model(one("Identity", (F32,), F32, shape), CompileOptions(engine="openvino", passes="")).program
    x = normal(2, 3, seed=2)
    first = program.run({"x0": x})["y"]
    kept = x.copy()
    x += 1
    second = program.run({"x0": x})["y"]
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(second, x)


def test_scalars_strided_and_read_only_arrays_are_taken() -> None:
    program = compile_model(one("Neg", (F32,), F32, []), CHOSEN).program
    assert program.run({"x0": np.float32(3)})["y"] == -3
    square = compile_model(one("Neg", (F32,), F32, [2, 2]), CHOSEN).program
    turned = normal(2, 2, seed=4).T
    frozen = normal(2, 2, seed=5)
    frozen.setflags(write=False)
    for array in (turned, frozen):
        np.testing.assert_array_equal(square.run({"x0": array})["y"], -array)


def test_several_threads_may_call_one_program() -> None:
    program = compile_model(mlp(), CHOSEN).program
    feeds = [normal(3, 4, seed=seed) for seed in range(4)]
    wanted = [program.run({"x": x})["y"] for x in feeds]
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(50):
            if not np.array_equal(program.run({"x": feeds[index]})["y"], wanted[index]):
                wrong.append(index)

    threads = [Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_input_that_nothing_depends_on_may_still_be_fed() -> None:
    message = model([node("Neg", ["x"], ["y"])], [info("x", F32, [2]), info("unused", F32, [3])], [info("y", F32, [2])])
    program = compile_model(message, CHOSEN).program
    assert program.run({"x": np.ones(2, np.float32), "unused": np.ones(3, np.float32)})["y"].tolist() == [-1, -1]


def test_levels_that_promise_every_bit_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="openvino keeps no answer to the bit"):
        compile_model(mlp(), CompileOptions(engine="openvino", opt_level=1, verify=Verify.NOTHING))


def test_a_resize_whose_roi_is_empty_has_none() -> None:
    """Exporters write an empty tensor where an operand in the middle is left out."""
    weights = {"roi": np.array([], np.float32), "scales": np.array([1, 1, 2, 2], np.float32)}
    resize = node("Resize", ["x", "roi", "scales"], ["y"], mode="nearest")
    made = model([resize], [info("x", F32, [1, 3, 4, 4])], [info("y", F32, [1, 3, 8, 8])], weights)
    assert refusals(made) == []
    compiled = compile_model(made.SerializeToString(), CHOSEN)
    assert compiled.agreement.agrees
    assert [each.engine for each in compiled.program.manifest.placement] == ["openvino"]


BF16 = TensorProto.BFLOAT16
LOWERED = CompileOptions(engine="openvino", strict=True, precision=Precision.BF16)


def two_products(second: str) -> Any:
    """A product of constants, and behind it another op on their result."""
    weights = {"w": normal(16, 8, seed=1), "v": normal(8, 8, seed=2)}
    nodes = [node("MatMul", ["x", "w"], ["p"]), node("Relu", ["p"], ["r"]), node(second, ["r", "v"], ["y"])]
    return model(nodes, [info("x", F32, [4, 16])], [info("y", F32, [4, 8])], weights)


def test_a_graph_in_bf16_throughout_is_computed_so() -> None:
    compiled = compile_model(two_products("MatMul").SerializeToString(), LOWERED)
    multiplies = "avx512bf16" in find_target("cpu").features
    assert compiled.program.manifest.engine_options["precision"] == ("bf16" if multiplies else "f32")
    plain = compile_model(two_products("MatMul").SerializeToString(), CHOSEN)
    x = normal(4, 16)
    got, wanted = (each.program.run({"x": x})["y"] for each in (compiled, plain))
    assert np.linalg.norm(got - wanted) < 0.02 * np.linalg.norm(wanted)


def test_a_graph_with_a_product_in_f32_is_computed_in_f32() -> None:
    graph = capture(two_products("MatMul").SerializeToString())
    narrow(graph, sites(graph)[:1], DType.BF16)
    files = OpenVino().lower(graph, find_target("cpu"), 2)
    assert "precision" not in files.options
    assert not any(op.is_a("Cast") for op in files.op_names.values())


def test_what_is_kept_in_bf16_is_left_to_others() -> None:
    message = model([node("Cast", ["x"], ["y"], to=BF16)], [info("x", F32, [2])], [info("y", BF16, [2])])
    assert refusals(message) == ["Cast: it does not compute in bf16"]


def in_run(*last: Any) -> Any:
    """A model of data quantized in each run."""
    nodes = [node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], name="quantized"), *last]
    return model(nodes, [info("x", F32, [6, 8])], [info("y", F32, [6, 8])])


def test_what_is_quantized_in_each_run_is_rounded_as_onnx_says() -> None:
    message = in_run(node("DequantizeLinear", ["q", "s", "z"], ["y"], name="wide"))
    assert refusals(message) == []
    program = compile_model(message, CHOSEN).program
    halves = np.arange(48, dtype=np.float32).reshape(6, 8) / 2  # many of them in the middle between two steps
    halves[0, 0] = 255.0
    for x in (halves, np.zeros_like(halves), -halves, normal(6, 8)):
        np.testing.assert_array_equal(program.run({"x": x})["y"], evaluate(capture(message.SerializeToString()), {"x": x})[0])


def test_bytes_that_are_an_output_are_left_to_others() -> None:
    nodes = [node("DynamicQuantizeLinear", ["x"], ["y", "s", "z"], name="quantized")]
    message = model(nodes, [info("x", F32, [6, 8])], [info("y", TensorProto.UINT8, [6, 8])])
    assert refusals(message) == ["DynamicQuantizeLinear: it rounds halves otherwise"]


def test_a_product_that_would_not_round_its_data_is_left_to_others() -> None:
    product = node("DynamicQuantizeMatMul", ["x", "w", "one"], ["y"], name="product", domain="com.microsoft")
    message = model(
        [product], [info("x", F32, [6, 8])], [info("y", F32, [6, 8])], {"w": np.ones((8, 8), np.int8), "one": np.float32(1)}
    )
    message.opset_import.add(domain="com.microsoft", version=1)
    assert refusals(message) == ["DynamicQuantizeMatMul: it does not round the data"]
