"""The front door: what `import irc` brings in, what its docstring shows, and programs that many threads share."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import irc

F32 = TensorProto.FLOAT


def mlp() -> onnx.ModelProto:
    """x: f32[N,4] -> y: f32[N,3]."""
    weight = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(4, 3) - 5, "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Relu", ["m"], ["y"])]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "g", [info("x", F32, ["N", 4])], [info("y", F32, ["N", 3])], [weight])
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])


def answer(x: np.ndarray) -> np.ndarray:
    """What the model makes of x."""
    return np.maximum(x @ (np.arange(12, dtype=np.float32).reshape(4, 3) - 5), 0)


X = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)


def test_the_example_in_the_docstring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(mlp(), "model.onnx")
    assert irc.__doc__ is not None
    example = "\n".join(line.strip() for line in irc.__doc__.splitlines() if line.startswith("    "))
    assert "irc.compile(" in example
    assert "irc.load(" in example
    names: dict[str, Any] = {"irc": irc, "array": X}
    exec(example, names)
    np.testing.assert_allclose(names["outputs"]["y"], answer(X), rtol=1e-5)
    assert Path("model.irc").is_file()
    assert isinstance(names["program"], irc.Program)


def test_compile_save_load_run(tmp_path: Path) -> None:
    with irc.compile(mlp(), opt_level=1, threads=1) as program:
        assert [str(entry) for entry in program.inputs] == ["x: f32[N,4]"]
        assert [str(entry) for entry in program.outputs] == ["y: f32[N,3]"]
        program.save(tmp_path / "model.irc")
        program.save_folder(tmp_path / "folder")
        wanted = program.run({"x": X})
    assert list(wanted) == ["y"]
    for name in ("model.irc", "folder"):
        with irc.load(tmp_path / name) as loaded:
            np.testing.assert_array_equal(loaded.run({"x": X})["y"], wanted["y"])
            assert loaded.manifest.opt_level == 1
            loaded.save(tmp_path / "again.irc")
        assert (tmp_path / "again.irc").read_bytes() == (tmp_path / "model.irc").read_bytes()


def test_dims_and_shapes_as_values_or_texts() -> None:
    wanted = "x: f32[2,4]"
    for options in ({"dims": {"N": 2}}, {"dims": ["N=2"]}, {"shapes": {"x": (2, 4)}}, {"shapes": ["x:2x4"]}):
        assert str(irc.compile(mlp(), **options).inputs[0]) == wanted  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"opt_level": 4}, "no optimization level 4"),
        ({"target": "toaster"}, "no target 'toaster'"),
        ({"verify": "all"}, "verify cannot be 'all'"),
        ({"verify": False}, "verify cannot be False"),
        ({"verify": "nothing", "inputs": "x.npz"}, "inputs have no use"),
        ({"inputs": "missing.npz"}, "no file 'missing.npz'"),
        ({"engine": "toaster"}, "no engine 'toaster'"),
        ({"passes": "csee"}, "no pass 'csee'"),
        ({"load": ["missing.py"]}, "no file 'missing.py'"),
        ({"dims": {"M": 1}}, "no dim 'M'"),
        ({"dims": ["N"]}, "'N' is no dim"),
        ({"dims": {"N": ()}}, r"dim 'N' cannot be \(\)"),
        ({"dims": {"N": (1, -2)}}, r"dim 'N' cannot be \(1, -2\)"),
        ({"dims": {"N": True}}, "dim 'N' cannot be True"),
        ({"dims": {"N": tuple(range(17))}}, "make 17 variants"),
        ({"strict": 1}, "strict cannot be 1"),
        ({"smaller": 1}, "smaller cannot be 1"),
        ({"compress": ["share-weights"]}, "compress cannot be"),
        ({"smaller": True}, "--smaller is about compression"),
        ({"block_size": 64}, "--block-size is about weights of 4 bits, and none are asked for"),
        ({"precision": "int4-weights", "block_size": 48}, "48 is nothing that --block-size can be"),
        ({"shapes": {"z": (1,)}}, "no input 'z'"),
        ({"threads": 0}, "threads"),
        ({"disable": ["csee"]}, "no pass or rewrite 'csee'"),
        ({"rewrite_limit": -1}, "rewrite limit"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(irc.IrcError, match=message) as caught:
        irc.compile(mlp(), **options)
    assert caught.value.exit_code == 2


WRONG = """# Wrong: Relu is not Abs.
rule relu-to-abs [exact]:
    given %x: float
    Relu(%x)
    => Abs(%x)
"""


def test_verify_says_what_is_checked(tmp_path: Path) -> None:
    (tmp_path / "wrong.rules").write_text(WRONG, encoding="utf-8")
    np.savez(tmp_path / "given.npz", x=X)
    options: dict[str, Any] = {"passes": "relu-to-abs", "load": tmp_path / "wrong.rules"}
    for inputs in (None, tmp_path / "given.npz"):
        checked = irc.compile(mlp(), **options, verify="rewrites", inputs=inputs)
        assert [each.name for each in checked.manifest.passes] == ["relu-to-abs (undone: relu-to-abs)"]
        np.testing.assert_allclose(checked.run({"x": X})["y"], answer(X), rtol=1e-5)
    left_out = irc.compile(mlp(), **options, verify="answers", inputs=tmp_path / "given.npz")
    np.testing.assert_allclose(left_out.run({"x": X})["y"], answer(X), rtol=1e-5)
    trusted = irc.compile(mlp(), **options, verify="nothing")
    np.testing.assert_allclose(trusted.run({"x": X})["y"], np.abs(X @ (np.arange(12).reshape(4, 3) - 5)), rtol=1e-5)


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(irc.IrcError, match="no file"):
        irc.compile(tmp_path / "missing.onnx")
    with pytest.raises(irc.IrcError):
        irc.compile(b"no model")
    with pytest.raises(irc.RunError, match="x"):
        irc.compile(mlp()).run({})
    with pytest.raises(irc.RunError):
        irc.load(tmp_path / "missing.irc")
    closed = irc.compile(mlp())
    closed.close()
    with pytest.raises(irc.RunError, match="closed"):
        closed.run({"x": X})


def test_many_threads_share_a_program() -> None:
    program = irc.compile(mlp(), threads=1)
    wrong: list[object] = []

    def work(seed: int) -> None:
        generator = np.random.default_rng(seed)
        for _ in range(50):
            x = generator.standard_normal((1 + seed, 4)).astype(np.float32)
            try:
                np.testing.assert_allclose(program.run({"x": x})["y"], answer(x), rtol=1e-4, atol=1e-5)
            except Exception as error:  # a failure in a thread has to reach the test
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_many_threads_compile() -> None:
    wrong: list[object] = []

    def work() -> None:
        try:
            np.testing.assert_allclose(irc.compile(mlp(), threads=1).run({"x": X})["y"], answer(X), rtol=1e-4)
        except Exception as error:  # a failure in a thread has to reach the test
            wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def python(code: str, folder: Path) -> str:
    """What a new interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_irc_is_light(tmp_path: Path) -> None:
    heavy = "('numpy', 'onnx', 'onnxruntime', 'networkx', 'lark', 'rich', 'typer', 'irc.ir', 'irc.runtime')"
    assert python(f"import sys, irc; print(*[m for m in {heavy} if m in sys.modules])", tmp_path) == ""
    assert "compile" in python("import irc; print(dir(irc))", tmp_path)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'optimise'"):
        _ = irc.optimise  # type: ignore[attr-defined]
    assert set(irc.__all__) <= set(dir(irc))
    assert all(getattr(irc, name) is not None for name in irc.__all__)
