"""Programs: right answers on ONNX Runtime, memory that belongs to its owner, many threads, failures in a sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper

from irc.runtime import (
    ArtifactError,
    EngineFailure,
    FeedError,
    OnnxRuntimeOptions,
    SignatureEntry,
    WeightView,
    layout_weights,
    load,
    read_weights,
)

from .models import mlp, program, view


def test_an_mlp_in_memory_and_from_a_file(tmp_path: Path) -> None:
    built, w, b = mlp()
    built.save(tmp_path / "a.irc")
    x = np.random.default_rng(1).standard_normal((5, 4), np.float32)
    with load(tmp_path / "a.irc", threads=1) as loaded:
        for each in (built, loaded):
            outputs = each.run({"x": x})
            assert list(outputs) == ["y"]
            np.testing.assert_allclose(outputs["y"], np.maximum(x @ w + b, 0), rtol=1e-5, atol=1e-6)
        assert str(loaded.inputs[0]) == "x: f32[N,4]"
        assert repr(loaded) == "<Program (x: f32[N,4]) -> (y: f32[N,3]) on onnxruntime>"


def test_other_tools_can_open_the_model_in_the_folder(tmp_path: Path) -> None:
    built, w, _ = mlp()
    built.save_folder(tmp_path / "a")
    model = onnx.load(tmp_path / "a" / "model.onnx")
    assert np.array_equal(onnx.numpy_helper.to_array(model.graph.initializer[0]), w)


def test_a_closed_program_says_so(tmp_path: Path) -> None:
    built = mlp()[0]
    with built:
        pass
    built.close()
    with pytest.raises(FeedError, match=r"the program is closed \(load it again\)"):
        built.run({"x": np.zeros((1, 4), np.float32)})
    with pytest.raises(FeedError, match="the program is closed"):
        built.save(tmp_path / "a.irc")


def test_threads_may_share_a_program() -> None:
    built, w, b = mlp()

    def answer(seed: int) -> bool:
        x = np.random.default_rng(seed).standard_normal((seed % 7 + 1, 4), np.float32)
        return np.allclose(built.run({"x": x})["y"], np.maximum(x @ w + b, 0), atol=1e-5)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(answer, range(400)))


@pytest.mark.parametrize("optimization", ["all", "disable"])
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_outputs_share_no_memory(optimization: str, dtype: str) -> None:
    n = 1000
    numpy = np.dtype(np.float32 if dtype == "f32" else ml_dtypes.bfloat16)
    weight = np.arange(n).astype(numpy)
    inputs = [SignatureEntry("x", dtype, (n,))]
    outputs = [SignatureEntry(name, dtype, (n,)) for name in ("y", "z", "w", "x", "v")]
    nodes = [helper.make_node("Identity", [i], [o]) for i, o in (("x", "y"), ("x", "z"), ("w", "v"))]
    options = OnnxRuntimeOptions(threads=1, optimization=optimization)
    built = program(nodes, inputs, outputs, {"w": view(weight, dtype)}, options=options)
    x = np.ones(n).astype(numpy)
    for _ in range(2):
        results = list(built.run({"x": x}).values())
        for index, each in enumerate(results):
            assert each.dtype == numpy
            assert not np.shares_memory(each, x)
            assert not np.shares_memory(each, weight)
            assert not any(np.shares_memory(each, other) for other in results[:index])
        for each in results:
            each[:] = 7  # ruins nothing for the next run
    assert np.array_equal(weight.astype(np.float32), np.arange(n).astype(numpy).astype(np.float32))
    assert np.array_equal(x.astype(np.float32), np.ones(n))


@pytest.mark.parametrize(("dtype", "numpy"), [("f16", np.float16), ("i8", np.int8), ("u8", np.uint8), ("bool", bool)])
def test_weights_of_other_element_types(dtype: str, numpy: type) -> None:
    weight = np.array([[1, 0, 1], [0, 1, 1]], numpy)
    outputs = [SignatureEntry("y", dtype, (2, 3))]
    built = program([helper.make_node("Identity", ["w"], ["y"])], [], outputs, {"w": view(weight, dtype)})
    assert np.array_equal(built.run({})["y"], weight)


def test_packed_weights_are_handed_over_packed(tmp_path: Path) -> None:
    packed = np.array([0x21, 0x43, 0x0F], np.uint8)  # 1 2 3 4 -1, and a half byte unused
    weights = {"w": WeightView("i4", (5,), memoryview(packed))}
    scale = helper.make_tensor("scale", 1, [], [2.0])
    nodes = [helper.make_node("DequantizeLinear", ["w", "scale"], ["y"])]
    built = program(nodes, [], [SignatureEntry("y", "f32", (5,))], weights, [scale])
    built.save(tmp_path / "a.irc")
    for each in (built, load(tmp_path / "a.irc")):
        assert each.run({})["y"].tolist() == [2, 4, 6, 8, -2]


def test_a_weights_file_is_what_safetensors_reads(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    weights = {
        "bytes": view(np.arange(3, dtype=np.uint8), "u8"),
        "wide": view(np.arange(4, dtype=np.int64).reshape(2, 2), "i64"),
        "none": view(np.zeros((0, 3), np.float32)),
    }
    layout = layout_weights(weights)
    data = b"".join(layout.chunks)
    assert np.array_equal(safetensors.load(data)["wide"], [[0, 1], [2, 3]])
    assert {name: (each.dtype, each.shape) for name, each in read_weights(memoryview(data)).items()} == {
        name: (each.dtype, each.shape) for name, each in weights.items()
    }
    for name, (offset, length) in layout.ranges.items():
        assert data[offset : offset + length] == bytes(weights[name].data)


BAD_WEIGHTS = {
    "nothing": b"",
    "a header longer than the file": (1 << 40).to_bytes(8, "little") + b"{}",
    "no JSON": (2).to_bytes(8, "little") + b"{x",
}


def weights_file(header: object, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


BAD_WEIGHTS |= {
    "a gap": weights_file({"w": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}}, b"ab"),
    "bytes of nobody": weights_file({"w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}, b"ab"),
    "an overlap": weights_file({name: {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]} for name in "ab"}, b"ab"),
    "another size": weights_file({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 2]}}, b"ab"),
    "past the end": weights_file({"w": {"dtype": "U8", "shape": [9], "data_offsets": [0, 9]}}, b"ab"),
    "a type that is none": weights_file({"w": {"dtype": "X8", "shape": [2], "data_offsets": [0, 2]}}, b"ab"),
    "a negative dim": weights_file({"w": {"dtype": "U8", "shape": [-2], "data_offsets": [0, 2]}}, b"ab"),
}


@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_damaged_weights_are_refused(case: str) -> None:
    with pytest.raises(ArtifactError):
        read_weights(memoryview(BAD_WEIGHTS[case]))


def test_bfloat16_goes_in_and_out() -> None:
    entries = [SignatureEntry(name, "bf16", ("N", 2)) for name in "xy"]
    built = program([helper.make_node("Identity", ["x"], ["y"])], entries[:1], entries[1:])
    x = np.array([[1.5, -2.0], [3.0, 0.25]], ml_dtypes.bfloat16)
    for each in (x, x[::-1], x[:0]):
        result = built.run({"x": each})["y"]
        assert result.dtype == x.dtype
        assert np.array_equal(result.astype(np.float32), each.astype(np.float32))


def test_strings_and_sequences_go_in_and_out() -> None:
    x, s = SignatureEntry("x", "str", ("N",)), SignatureEntry("s", "f32", ("K",), "sequence")
    outputs = [SignatureEntry("y", "str", ("N",)), SignatureEntry("t", "f32", ("K",), "sequence")]
    built = program([helper.make_node("Identity", [i], [o]) for i, o in ("xy", "st")], [x, s], outputs)
    result = built.run({"x": ["a", "ü"], "s": [np.ones(2, np.float32), np.zeros(2, np.float32)]})
    assert result["y"].tolist() == ["a", "ü"]
    assert [each.tolist() for each in result["t"]] == [[1, 1], [0, 0]]


def test_a_default_is_used_unless_it_is_fed() -> None:
    inputs = [SignatureEntry("x", "f32", (1,)), SignatureEntry("k", "f32", (1,), optional=True)]
    default = helper.make_tensor("k", 1, [1], [10.0])
    nodes = [helper.make_node("Add", ["x", "k"], ["y"])]
    built = program(nodes, inputs, [SignatureEntry("y", "f32", (1,))], inline=[default])
    assert built.run({"x": [1]})["y"] == 11
    assert built.run({"x": [1], "k": [2]})["y"] == 3


def test_what_fails_in_the_engine_is_one_sentence_with_the_op() -> None:
    inputs = [SignatureEntry("x", "f32", ("N",)), SignatureEntry("s", "i64", (2,))]
    nodes = [helper.make_node("Reshape", ["x", "s"], ["y"], name="the/reshape")]
    built = program(nodes, inputs, [SignatureEntry("y", "f32", None)])
    with pytest.raises(EngineFailure, match=r"^the/reshape: ONNX Runtime could not run the program: Reshape: ") as caught:
        built.run({"x": np.zeros(5, np.float32), "s": np.array([2, 3])})
    assert (caught.value.location, caught.value.exit_code) == ("the/reshape", 5)
    assert "\n" not in str(caught.value)
    with pytest.raises(EngineFailure, match="could not build the program"):
        program([helper.make_node("Nonesuch", ["x"], ["y"])], inputs[:1], [SignatureEntry("y", "f32", None)])
    with pytest.raises(EngineFailure, match="has no AbacusExecutionProvider"):
        program([], inputs[:1], inputs[:1], options=OnnxRuntimeOptions(providers=("AbacusExecutionProvider",)))


def test_pad_and_max_pool_are_not_merged_wrongly() -> None:
    # ONNX Runtime's Pad_Fusion makes the zero padding a part of MaxPool, which pads with the lowest value.
    inputs, outputs = [SignatureEntry("x", "f32", (1, 1, 2, 2))], [SignatureEntry("y", "f32", None)]
    pads = helper.make_tensor("pads", 7, [8], [0, 0, 1, 1, 0, 0, 1, 1])
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["p"]),
        helper.make_node("MaxPool", ["p"], ["y"], kernel_shape=[2, 2]),
    ]
    built = program(nodes, inputs, outputs, inline=[pads])
    y = built.run({"x": np.full((1, 1, 2, 2), -1, np.float32)})["y"]
    assert y[0, 0].tolist() == [[0, 0, 0], [0, -1, 0], [0, 0, 0]]


def test_products_of_empty_sequences_do_not_end_the_process() -> None:
    # ONNX Runtime's MatmulTransposeFusion moves the Transpose into the product, whose kernel then divides by zero.
    inputs, outputs = [SignatureEntry("x", "f32", ("S", 2, 4))], [SignatureEntry("y", "f32", None)]
    nodes = [
        helper.make_node("Transpose", ["x"], ["heads"], perm=[1, 0, 2]),
        helper.make_node("Transpose", ["x"], ["turned"], perm=[1, 2, 0]),
        helper.make_node("MatMul", ["turned", "heads"], ["y"]),
    ]
    built = program(nodes, inputs, outputs)
    assert built.run({"x": np.ones((3, 2, 4), np.float32)})["y"].shape == (2, 4, 4)
    if os.fork() == 0:
        os._exit(0 if not built.run({"x": np.ones((0, 2, 4), np.float32)})["y"].any() else 1)
    assert os.wait()[1] == 0


def test_loading_and_running_needs_no_compiler(tmp_path: Path) -> None:
    mlp()[0].save(tmp_path / "a.irc")
    code = """
import sys, irc.runtime
assert not {"numpy", "onnxruntime"} & set(sys.modules), "importing the room is light"
import numpy
assert irc.runtime.load("a.irc").run({"x": numpy.zeros((1, 4), numpy.float32)})["y"].shape == (1, 3)
print(*{"onnx", "torch", "networkx", "lark", "irc.ir", "irc.passes", "irc.lowering"} & set(sys.modules))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr


def test_a_weight_that_the_engine_lays_out_anew_is_still_right() -> None:
    # ONNX Runtime removes the two Transposes and transposes w under its own name: handing it w by add_initializer as
    # well, which would save the copy, overrides that with the wrong layout.
    generator = np.random.default_rng(0)
    w, x = generator.random((3, 40, 50), np.float32), generator.random((1, 40, 50, 3), np.float32)
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Add", ["t", "w"], ["a"]),
        helper.make_node("Transpose", ["a"], ["y"], perm=[0, 2, 3, 1]),
    ]
    entries = [SignatureEntry(name, "f32", (1, 40, 50, 3)) for name in "xy"]
    built = program(nodes, entries[:1], entries[1:], {"w": view(w)})
    assert np.array_equal(built.run({"x": x})["y"], x + w.transpose(1, 2, 0))


def test_a_shared_weight_is_used_where_it_lies() -> None:
    table = np.arange(4000, dtype=np.float32).reshape(1000, 4)
    inputs, outputs = [SignatureEntry("i", "i64", ("N",))], [SignatureEntry("y", "f32", ("N", 4))]
    options = OnnxRuntimeOptions(threads=1, shared_weights=("w",))
    built = program([helper.make_node("Gather", ["w", "i"], ["y"])], inputs, outputs, {"w": view(table)}, options=options)
    assert built.run({"i": [999]})["y"].tolist() == [[3996, 3997, 3998, 3999]]
    table[999] = 7
    assert built.run({"i": [999]})["y"].tolist() == [[7, 7, 7, 7]]
    unknown = OnnxRuntimeOptions(shared_weights=("nothing",))
    with pytest.raises(ArtifactError, match="names nothing, but there is no such weight"):
        program([helper.make_node("Identity", ["i"], ["y"])], inputs, inputs[:0], options=unknown)
