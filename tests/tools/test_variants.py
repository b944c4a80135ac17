"""`--dim` with several sizes and `--strict`, on the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from irc.runtime import load

from .models import F32, Shell, info, mlp


def test_a_line_for_each_variant(shell: Shell) -> None:
    out = shell.good("compile", "good.onnx", "--dim", "N=1,8", "-o", "m.irc")
    lines = [line for line in out.splitlines() if line.startswith("variant ")]
    assert [line.partition(": ")[0] for line in lines] == ["variant N=1", "variant N=8"]
    assert all("2 ops on onnxruntime; agrees with the reference" in line for line in lines)
    with load(shell.folder / "m.irc") as program:
        for size in (1, 5, 8):
            assert program.run({"x": np.zeros((size, 4), np.float32)})["y"].shape == (size, 3)


def test_variants_as_json(shell: Shell) -> None:
    found = json.loads(shell.good("compile", "good.onnx", "--dim", "N=1,8", "--json"))
    assert [each["dims"] for each in found["variants"]] == [{"N": 1}, {"N": 8}]
    assert all(each["placement"] == [{"engine": "onnxruntime", "ops": 2}] for each in found["variants"])
    assert all(each["agreement"]["agrees"] for each in found["variants"])
    assert json.loads(shell.good("compile", "good.onnx", "--json"))["variants"] == []


def test_an_artifact_says_its_variants(shell: Shell) -> None:
    shell.good("compile", "good.onnx", "--dim", "N=1,8", "-o", "m.irc")
    out = shell.good("inspect", "m.irc")
    assert "N=1" in out
    assert "N=8" in out


def test_an_artifact_with_variants_runs_and_is_timed(shell: Shell) -> None:
    shell.good("compile", "good.onnx", "--dim", "N=1,8", "-o", "m.irc")
    np.save(shell.folder / "x.npy", np.ones((8, 4), np.float32))
    assert "y" in shell.good("run", "m.irc", "--input", "x=x.npy")
    assert shell.good("compare", "good.onnx", "m.irc", "--input", "x=x.npy")


@pytest.mark.parametrize("verb", ["opt", "why", "bisect"])
def test_verbs_that_make_one_graph_refuse_several_sizes(shell: Shell, verb: str) -> None:
    said = shell.run(verb, "good.onnx", "--dim", "N=1,8")
    assert said.code == 2
    assert "dim 'N' is given several sizes, 1,8, and here one graph is made" in said.err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--dim N=1,8 --dim N=2", "dim 'N' is given as 1,8 and as 2"),
        ("--dim N=" + ",".join(map(str, range(17))), "the sizes of N make 17 variants"),
        ("--dim M=1,8", "the model's inputs have no dim 'M'"),
        ("--dim N=1,x", "'N=1,x' is no dim"),
    ],
)
def test_wrong_sizes(shell: Shell, flags: str, message: str) -> None:
    said = shell.run("compile", "good.onnx", *flags.split())
    assert said.code == 2
    assert message in said.err


def test_strict_is_the_same_where_nothing_falls_back(shell: Shell) -> None:
    shell.good("compile", "good.onnx", "-o", "a.irc")
    shell.good("compile", "good.onnx", "--strict", "-o", "b.irc")
    assert shell.files()["a.irc"] == shell.files()["b.irc"]


# Inputs with defaults


@pytest.fixture
def overridable(shell: Shell) -> Shell:
    """With `defaults.onnx`, the good model whose weight is an input too."""
    message = mlp()
    message.graph.input.append(info("w", F32, [4, 3]))
    (shell.folder / "defaults.onnx").write_bytes(message.SerializeToString())
    return shell


def test_a_line_for_calls_that_override_a_default(overridable: Shell) -> None:
    out = overridable.good("compile", "defaults.onnx", "--dim", "N=1,8", "-o", "m.irc")
    lines = [line for line in out.splitlines() if line.startswith(("variant", "overriding"))]
    assert [line.partition(": ")[0] for line in lines] == ["variant N=1", "variant N=8", "overriding a default"]
    assert "ops on onnxruntime; agrees with the reference" in lines[2]
    assert "overriding" not in overridable.good("compile", "good.onnx")


def test_calls_that_override_a_default_as_json(overridable: Shell) -> None:
    found = json.loads(overridable.good("compile", "defaults.onnx", "--json"))
    assert found["overriding"]["placement"] == [{"engine": "onnxruntime", "ops": 2}]
    assert found["overriding"]["agreement"]["agrees"]
    assert not found["variants"]
    assert json.loads(overridable.good("compile", "good.onnx", "--json"))["overriding"] is None


def test_an_artifact_shows_the_graph_that_usually_runs_and_all_inputs(overridable: Shell) -> None:
    overridable.good("compile", "defaults.onnx", "-o", "m.irc")
    found = json.loads(overridable.good("inspect", "m.irc", "--json"))
    assert found["inputs"] == [
        {"name": "x", "type": "f32[N,4]", "has_default": False},
        {"name": "w", "type": "f32[4,3]", "has_default": True},
    ]
    assert [each["overriding"] for each in found["placement"]] == [False, True]
    assert [[v["name"] for v in each["takes"]] for each in found["placement"]] == [["x"], ["x", "w"]]
    text = overridable.good("inspect", "m.irc")
    assert "has a default" in text
    assert ", overriding a default" in text
    assert "1 with defaults" in text
    assert "%w" in overridable.good("inspect", "m.irc", "--ir")
    assert "w:" not in overridable.good("inspect", "m.irc", "--ir").partition("{")[0]


def test_an_artifact_with_defaults_runs_either_way(overridable: Shell) -> None:
    overridable.good("compile", "defaults.onnx", "-o", "m.irc")
    overridable.good("compile", "defaults.onnx", "-O1", "-o", "plain.irc")
    np.save(overridable.folder / "w.npy", np.ones((4, 3), np.float32))
    for more in ([], ["--input", "w=w.npy"]):
        assert "agrees" in overridable.good("compare", "plain.irc", "m.irc", *more)
        assert "y" in overridable.good("run", "m.irc", "--random", *more)
        assert "MatMul" in overridable.good("profile", "m.irc", "--runs", "1", "--by", "op", "--least", "0", *more)


def test_placement_is_told_of_the_graph_that_usually_runs(overridable: Shell) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed (the extra 'openvino')")
    said = overridable.good("why", "defaults.onnx", "--placement", "--engine", "openvino")
    assert "it has no inputs with defaults" not in said
    assert "it has no inputs with defaults, as w" in overridable.good("why", "defaults.onnx", "--placement", "-O1")


def test_an_artifact_shows_what_its_engine_is_told(shell: Shell) -> None:
    shell.good("compile", "good.onnx", "--threads", "3", "-o", "m.irc")
    assert {"option": "threads", "value": "3", "pieces": "all"} in json.loads(shell.good("inspect", "m.irc", "--json"))[
        "options"
    ]
    lines = [line.split() for line in shell.good("inspect", "m.irc").splitlines()]
    assert ["threads", "3", "all"] in lines
    assert ["providers", "CPUExecutionProvider", "all"] in lines
    assert "option of an engine" not in shell.good("inspect", "good.onnx")
