"""From model to program: where models come from, what is written down, and that equal input makes equal bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper

import irc
from irc.lowering import ENGINES, CompileOptions, Verify, compile_model, find_engine, find_target
from irc.runtime import open_artifact

from .models import BF16, F32, STRING, WRONG_PASS, info, mlp, model, node, normal, saved


def refusal(action: object, *arguments: object) -> irc.IrcError:
    """The IrcError that a call raises."""
    assert callable(action)
    with pytest.raises(irc.IrcError) as caught:
        action(*arguments)
    return caught.value


# Engines


def test_engines() -> None:
    assert find_engine("onnxruntime") is ENGINES[0]
    assert refusal(find_engine, "onxruntime").hint == "did you mean onnxruntime?"
    assert refusal(find_engine, "tensorrt").hint == "known engines: onnxruntime, openvino, tvm"


def test_what_is_asked_for_is_checked_before_the_model_is_read() -> None:
    for options in (CompileOptions(engine="tensorrt"), CompileOptions(target="toaster")):
        assert refusal(compile_model, b"no model at all", options).exit_code == 2


def test_fewer_optimizations_at_lower_levels() -> None:
    cpu = find_target("cpu")
    chosen = {level: [setting["optimization"] for setting in ENGINES[0].settings(level, cpu)] for level in range(4)}
    assert chosen[0] == chosen[1] == ["disable"]
    assert chosen[2] == chosen[3] == ["all", "all", "extended", "basic", "disable"]


# Sources


def test_bytes_messages_and_paths_make_one_program(tmp_path: Path) -> None:
    message = mlp()
    path = saved(message, tmp_path)
    x = normal(3, 4, seed=1)
    digests: set[str] = set()
    for source in (message, path, str(path), path.read_bytes()):
        with irc.compile(source) as program:
            np.testing.assert_allclose(program.run({"x": x})["y"], np.maximum(x @ normal(4, 4), 0), rtol=1e-5, atol=1e-6)
            assert program.manifest.source is not None
            digests.add(program.manifest.source.sha256)
            files = open_artifact_files(program, tmp_path / "out.irc")
        assert files["model.onnx"] == files.get("model.onnx")
    assert len(digests) == 1


def open_artifact_files(program: irc.Program, path: Path) -> dict[str, bytes]:
    """The files of a program's artifact."""
    program.save(path)
    artifact = open_artifact(path)
    return {name: bytes(artifact.read(name)) for name in artifact.names}


def test_the_engine_files_do_not_depend_on_the_kind_of_source(tmp_path: Path) -> None:
    path = saved(mlp(), tmp_path)
    made = [open_artifact_files(irc.compile(source), tmp_path / "out.irc") for source in (mlp(), path, path.read_bytes())]
    assert made[0] == made[1] == made[2]


# The manifest


def test_options_are_written_down(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(WRONG_PASS)
    options = CompileOptions(
        opt_level=2,
        passes="canonicalize, double-constants",
        load=(str(tmp_path / "mine.py"),),
        dims={"N": 3},
        verify=Verify.NOTHING,
        engine_options={"threads": 1, "spin": False},
    )
    compile_model(saved(mlp(), tmp_path), options).program.save(tmp_path / "out.irc")
    manifest = open_artifact(tmp_path / "out.irc").manifest
    assert (manifest.engine, manifest.target, manifest.opt_level) == ("onnxruntime", "cpu", 2)
    assert {**manifest.engine_options, "optimization": "all", "threads": 1, "spin": False} == manifest.engine_options
    assert [record.name for record in manifest.passes] == ["canonicalize", "double-constants"]
    assert manifest.passes[1].changes == 1
    assert manifest.passes[1].seconds is None
    assert manifest.nodes is not None
    assert (manifest.nodes.before, manifest.nodes.after) == (4, 2)
    assert [(p.engine, p.ops) for p in manifest.placement] == [("onnxruntime", 2)]
    assert set(manifest.versions) == {"irc", "onnx", "onnxruntime"}
    assert manifest.source is not None
    assert manifest.source.name == "model.onnx"
    assert [str(entry) for entry in (*manifest.inputs, *manifest.outputs)] == ["x: f32[3,4]", "y: f32[3,4]"]


def test_options_of_the_caller_win_over_the_engines_own() -> None:
    options = CompileOptions(engine_options={"optimization": "basic"})
    assert compile_model(mlp(), options).program.manifest.engine_options["optimization"] == "basic"


SCRIPT = """
import sys, irc
irc.compile(sys.argv[1], dims={"N": 2}, threads=1).save(sys.argv[2])
"""


def test_equal_input_makes_equal_bytes(tmp_path: Path) -> None:
    """In two processes whose sets and dicts of strings are ordered differently."""
    names = [f"in{i}" for i in range(12)]
    nodes = [node("Sum", names, ["s"]), *(node("Mul", ["s", f"w{i}"], [f"out{i}"]) for i in range(12))]
    outputs = [info(f"out{i}", F32, ["N", 4]) for i in range(12)]
    weights = {f"w{i}": normal(4, seed=i) for i in range(12)}
    path = saved(model(nodes, [info(name, F32, ["N", 4]) for name in names], outputs, weights), tmp_path)
    made: list[bytes] = []
    for seed in ("1", "2"):
        place = tmp_path / f"{seed}.irc"
        environment = os.environ | {"PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", SCRIPT, str(path), str(place)], env=environment, check=True)
        made.append(place.read_bytes())
    assert made[0] == made[1]


# Kinds of models


def test_weights_are_kept_apart_from_the_model_and_shared(tmp_path: Path) -> None:
    """A weight used three times, and one equal to it, are stored once; the model itself holds none of them."""
    weight = normal(64, 64)
    nodes = [
        node("MatMul", ["x", "a"], ["p"]),
        node("MatMul", ["p", "a"], ["q"]),
        node("MatMul", ["q", "b"], ["y"]),
    ]
    message = model(nodes, [info("x", F32, [1, 64])], [info("y", F32, [1, 64])], {"a": weight, "b": weight})
    files = open_artifact_files(irc.compile(message), tmp_path / "out.irc")
    assert set(files) == {"model.onnx", "weights.safetensors"}
    assert len(files["model.onnx"]) < 4096
    assert weight.nbytes <= len(files["weights.safetensors"]) < 2 * weight.nbytes


def test_small_weights_stay_in_the_model(tmp_path: Path) -> None:
    files = open_artifact_files(irc.compile(mlp(4)), tmp_path / "out.irc")
    assert normal(4, 4).tobytes() in b"".join(files.values())


def test_inputs_with_defaults_may_be_left_out() -> None:
    message = model([node("Add", ["x", "bias"], ["y"])], [info("x", F32, [2]), info("bias", F32, [2])], [info("y", F32, [2])])
    message.graph.initializer.append(onnx.numpy_helper.from_array(np.float32([1, 2]), "bias"))
    for level in (0, 1, 2):
        with irc.compile(message, opt_level=level) as program:
            assert [(entry.name, entry.optional) for entry in program.inputs] == [("x", False), ("bias", True)]
            x = np.float32([10, 20])
            assert program.run({"x": x})["y"].tolist() == [11, 22]
            assert program.run({"x": x, "bias": x})["y"].tolist() == [20, 40]


def test_sequences() -> None:
    outputs = [helper.make_tensor_sequence_value_info("parts", F32, None)]
    message = model([node("SplitToSequence", ["x"], ["parts"], axis=0)], [info("x", F32, [2, 3])], [])
    message.graph.output.extend(outputs)
    with irc.compile(message) as program:
        assert program.outputs[0].kind == "sequence"
        parts = program.run({"x": normal(2, 3)})["parts"]
        assert [part.shape for part in parts] == [(1, 3), (1, 3)]


def test_strings() -> None:
    nodes = [node("StringConcat", ["x", "tail"], ["y"])]
    message = model(nodes, [info("x", STRING, [2])], [info("y", STRING, [2])], {"tail": np.array(["!"], object)})
    with irc.compile(message) as program:
        assert program.run({"x": np.array(["a", "b"], object)})["y"].tolist() == ["a!", "b!"]


def test_bf16() -> None:
    nodes = [node("Cast", ["x"], ["wide"], to=F32), node("Relu", ["wide"], ["y"])]
    message = model(nodes, [info("x", BF16, [2])], [info("y", F32, [2])])
    with irc.compile(message) as program:
        assert program.inputs[0].dtype == "bf16"
        assert program.run({"x": np.array([-1, 1.5], ml_dtypes.bfloat16)})["y"].tolist() == [0, 1.5]


def test_a_model_without_inputs() -> None:
    nodes = [node("Add", ["a", "b"], ["y"])]
    message = model(nodes, [], [info("y", F32, [2])], {"a": np.float32([1, 2]), "b": np.float32([3, 4])})
    for level in (0, 1, 2):
        with irc.compile(message, opt_level=level) as program:
            assert program.run({})["y"].tolist() == [4, 6]
