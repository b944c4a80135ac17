"""Programs of our own kernels for any number of entries, as the command line shows them."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys

import numpy as np
import pytest
from onnx import ModelProto

from irc import runtime
from irc.runtime import Limits, Measured

from .models import F32, Shell, info, model, node, normal

HAS_TVM = importlib.util.find_spec("tvm") is not None and sys.platform == "linux" and shutil.which("cc") is not None
pytestmark = pytest.mark.skipif(not HAS_TVM, reason="needs TVM, and a C compiler on Linux")


def sized(axis: int = 1) -> ModelProto:
    """y = softmax(x @ (s @ w)) with an open batch, 2 * 32 * 16 FLOPs an entry; s @ w is the same for all entries."""
    nodes = [
        node("MatMul", ["s", "w"], ["m"], name="/shared"),
        node("MatMul", ["x", "m"], ["p"], name="/product"),
        node("Softmax", ["p"], ["y"], name="/softmax", axis=axis),
    ]
    inputs = [info("x", F32, ["batch", 32]), info("s", F32, [32, 8])]
    return model(nodes, inputs, [info("y", F32, ["batch", 16])], {"w": normal(8, 16)})


@pytest.fixture
def open_batch(shell: Shell) -> Shell:
    """A folder with `open.onnx` and `open.irc`, which is kernels of our own."""
    shell.save("open.onnx", sized())
    out = shell.good("compile", "open.onnx", "--engine", "tvm")
    assert "placement: 3 ops on tvm" in out
    assert "answers: agrees with the reference on made-up inputs" in out
    return shell


def test_plan_and_memory_say_how_many_entries_are_computed_at_a_time(open_batch: Shell) -> None:
    plan = open_batch.good("inspect", "open.irc", "--plan").splitlines()
    order = [line for line in plan if line in ("once:", "for every 8 entries:", "for each entry that is left:")]
    assert order == ["once:", "for every 8 entries:", "for each entry that is left:"]
    assert any(line.startswith("  %m @ arena+0 :") for line in plan)
    assert "; any number of entries, 8 or 1 at a time" in open_batch.good("inspect", "open.irc", "--memory")
    (memory,) = json.loads(open_batch.good("inspect", "open.irc", "--memory", "--json"))["memory"]
    assert [each["entries"] for each in memory["blocks"]] == [0, 8, 1]
    assert "f32[batch,32]" in open_batch.good("inspect", "open.irc")


def test_a_run_takes_any_number_of_entries(open_batch: Shell) -> None:
    np.save(open_batch.folder / "s.npy", normal(32, 8))
    for entries in (1, 11):
        np.save(open_batch.folder / "x.npy", normal(entries, 32))
        assert f"{entries}x16" in open_batch.good("run", "open.irc", "-i", "x=x.npy", "-i", "s=s.npy")


def test_profile_and_roofline_count_what_is_done_for_all_entries(open_batch: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = json.loads(open_batch.good("profile", "open.irc", "--dim", "batch=19", "--json"))
    assert {kernel["calls"] for kernel in profile["kernels"]} == {1, 2, 3}
    monkeypatch.setattr(runtime, "measure_limits", lambda: Measured(Limits(100.0, 10.0)))
    text = open_batch.good("bench", "open.irc", "--roofline", "--dim", "batch=19", "--seconds", "0.1", "--json")
    assert json.loads(text)["whole"]["flops"] >= 2 * 19 * 32 * 16 + 2 * 32 * 8 * 16


def test_why_names_the_op_that_mixes_entries(shell: Shell) -> None:
    shell.save("mixing.onnx", sized(axis=0))
    (told,) = json.loads(shell.good("why", "mixing.onnx", "--placement", "--engine", "tvm", "--json"))["engines"]
    clause = "they are not computed entry by entry: Softmax at /softmax: it normalizes along batch"
    assert [each["reason"] for each in told["refused"]] == [f"its sizes are not all known, and {clause}"]
    assert "onnxruntime" in shell.good("compile", "mixing.onnx", "--engine", "tvm")
