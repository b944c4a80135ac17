"""`--dim` with several sizes and `--strict`, on the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from irc.runtime import load

from .models import Shell


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
