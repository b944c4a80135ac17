"""Programs of our own kernels, as the command line shows them: memory, plan, shares of the machine's limits."""

from __future__ import annotations

import importlib.util
import json
import platform
import re
import shutil
import sys
import zipfile
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from irc import runtime
from irc.ir.text import parse_graph, print_graph
from irc.runtime import Limits, Measured
from irc.tools.cli import roofline

from .models import F32, I64, Shell, info, model, node, normal
from .test_html import data_of

HAS_TVM = importlib.util.find_spec("tvm") is not None and sys.platform == "linux" and shutil.which("cc") is not None
pytestmark = pytest.mark.skipif(not HAS_TVM, reason="needs TVM, and a C compiler on Linux")


def branching() -> ModelProto:
    """Two products of x that are added, f32[8,64]: 2 * 8 * 32 * 64 FLOPs each; weights of 8 KiB."""
    nodes = [
        node("MatMul", ["x", "v"], ["one"], name="/left/product"),
        node("MatMul", ["x", "w"], ["other"], name="/right/product"),
        node("Softmax", ["one"], ["soft"], name="/left/softmax", axis=-1),
        node("Add", ["soft", "other"], ["y"], name="/sum"),
    ]
    weights = {"v": normal(32, 64), "w": normal(32, 64, seed=1)}
    return model(nodes, [info("x", F32, [8, 32])], [info("y", F32, [8, 64])], weights)


@pytest.fixture
def native(shell: Shell) -> Shell:
    """A folder with `branching.onnx` and `branching.irc`, which is kernels of our own."""
    shell.save("branching.onnx", branching())
    shell.good("compile", "branching.onnx", "--engine", "tvm")
    return shell


def test_memory_names_what_is_live_at_the_peak(native: Shell) -> None:
    out = native.good("inspect", "branching.irc", "--memory")
    assert re.match(r"arena \S+ KiB, \d.\d % over the largest live set, \S+ KiB at step \d+ of \d+; constants \S+ KiB\n", out)
    assert re.search(r"^%(one|soft|other) +arena\+\d+ +2,048 +\d+\.\.\d+$", out, re.MULTILINE)
    assert "█" in out
    memory = json.loads(native.good("inspect", "branching.irc", "--memory", "--json"))["memory"]
    (only,) = memory
    assert only["largest_live_set"] <= only["arena"] <= 1.05 * only["largest_live_set"]
    assert sum(each["bytes"] for each in only["at_peak"]) == only["largest_live_set"]
    assert max(step["live"] for step in only["steps"]) == only["largest_live_set"]


def test_the_plan_prints_the_places_of_values(native: Shell) -> None:
    out = native.good("inspect", "branching.irc", "--plan")
    assert re.search(r"^  %(one|soft|other) @ arena\+\d+ : 2048 bytes, steps \d+\.\.\d+$", out, re.MULTILINE)
    assert re.search(r"^\d+: irc_\w+ x \d+ \(%x, constants\+0:\d+, .*%\w+\)  # /(left|right)/product", out, re.MULTILINE)
    assert "%y)" in out


def test_the_text_has_the_place_of_each_value_and_reads_back(native: Shell) -> None:
    text = native.good("inspect", "branching.irc", "--ir")
    assert re.search(r"^  %one = MatMul\(.*   // @ arena\+\d+$", text, re.MULTILINE)
    assert re.search(r"^  %y = .*   // @ output \"y\"\+0$", text, re.MULTILINE)
    assert print_graph(parse_graph(text)) == re.sub(r"   // .*", "", text)
    assert "//" not in native.good("inspect", "branching.onnx", "--ir").replace("@/", "")


def test_what_a_kernel_keeps_for_itself_is_in_registers(shell: Shell) -> None:
    """And of what another engine runs, nothing is said."""
    nodes = [
        node("MatMul", ["x", "w"], ["m"]),
        node("Relu", ["m"], ["r"]),
        node("Transpose", ["r"], ["t"], perm=[1, 0]),
        node("NonZero", ["t"], ["i"]),
    ]
    message = model(
        nodes, [info("x", F32, [64, 64])], [info("t", F32, [64, 64]), info("i", I64, [2, None])], {"w": normal(64, 64)}
    )
    shell.save("m.onnx", message)
    shell.good("compile", "m.onnx", "--engine", "tvm", "-o", "m.irc")
    lines = shell.good("inspect", "m.irc", "--ir").splitlines()
    assert next(line for line in lines if "MatMul(" in line).endswith("   // @ registers")
    assert next(line for line in lines if "Relu(" in line).partition("//")[2].strip().startswith("@ ")
    assert "//" not in next(line for line in lines if "NonZero(" in line)


def test_an_artifact_tells_its_ops_and_the_size_of_its_weights(native: Shell) -> None:
    out = native.good("inspect", "branching.irc")
    assert "parameters 4,096, weights 16.0 KiB" in out
    assert re.search(r"^Softmax +1$", out, re.MULTILINE)
    assert "option of an engine" not in out
    assert re.search(r"^x +f32\[8,32\]", out, re.MULTILINE)
    assert not re.search(r"^[vw] ", out, re.MULTILINE)


def test_the_page_has_the_timeline(native: Shell) -> None:
    native.good("inspect", "branching.irc", "--html", "page.html")
    tables = {title: rows for title, _, rows in data_of((native.folder / "page.html").read_text())["tables"]}
    (peak,) = (rows for title, rows in tables.items() if title.startswith("Memory: arena"))
    assert all(name.startswith("%") for name, *_ in peak)
    assert len(tables["Memory, step by step"]) >= 3


def test_what_has_no_plan_says_how_to_get_one(shell: Shell) -> None:
    shell.good("compile", "good.onnx")
    for name in ("good.onnx", "good.irc"):
        for flag in ("--memory", "--plan"):
            said = shell.run("inspect", name, flag)
            assert said.code == 4
            assert f"{flag} shows the plan of an artifact of the engine tvm, and '{name}' has none" in said.err
            assert "--engine tvm" in said.err


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that was measured."""
    monkeypatch.setattr(runtime, "measure_limits", lambda: Measured(Limits(100.0, 10.0)))


@pytest.mark.usefixtures("limits")
def test_roofline_has_work_time_and_share_of_every_kernel(native: Shell) -> None:
    words = ("bench", "branching.irc", "--roofline", "--rounds", "2", "--seconds", "0.01", "--threads", "1")
    found: dict[str, Any] = json.loads(native.good(*words, "--json"))
    assert found["threads"] == 1
    assert found["whole"]["flops"] >= 2 * 2 * 8 * 32 * 64
    assert found["whole"]["bytes"] == 4 * (8 * 32 + 8 * 64) + 2 * 4 * 32 * 64
    products = [step for step in found["steps"] if "product" in step["name"]]
    assert all(step["flops"] >= 2 * 8 * 32 * 64 and step["ms"] > 0 and step["share"] > 0 for step in products)
    out = native.good(*words)
    assert re.search(r"^all +the whole model ", out, re.MULTILINE)
    assert re.search(r"branching.irc: \S+ ms a run, \S+ GFLOP/s, \S+ % of the limit by (arithmetic|bandwidth); 1 threads", out)


@pytest.mark.usefixtures("limits")
def test_roofline_compiles_a_model_to_kernels_of_our_own(native: Shell) -> None:
    out = native.good("bench", "branching.onnx", "--roofline", "--rounds", "2", "--seconds", "0.01")
    assert "branching.onnx: " in out


def test_roofline_is_for_one_program_of_ours(native: Shell) -> None:
    native.good("compile", "good.onnx")
    said = native.run("bench", "good.irc", "--roofline")
    assert (said.code, "'good.irc' runs on other engines" in said.err, "--engine tvm" in said.err) == (4, True, True)
    said = native.run("bench", "branching.irc", "--roofline", "--against", "branching.onnx")
    assert (said.code, "--roofline measures one program" in said.err) == (2, True)


def test_the_limit_that_binds_is_the_one_that_needs_longer() -> None:
    roof = roofline.Roof(flops=100, byte_count=10)
    assert roof.needs(200, 10) == (2, "arithmetic")
    assert roof.needs(200, 30) == (3, "bandwidth")


def test_profile_names_modules(native: Shell) -> None:
    out = native.good("profile", "branching.irc", "--runs", "2")
    assert re.search(r"^(├─ )?left ", out, re.MULTILINE)


def mixed() -> ModelProto:
    """Products on both sides of a Det, for which there is no kernel."""
    nodes = [
        node("MatMul", ["x", "v"], ["a"], name="/head/product"),
        node("Relu", ["a"], ["b"], name="/head/relu"),
        node("Det", ["b"], ["c"], name="/middle/det"),
        node("Mul", ["b", "c"], ["d"], name="/tail/scale"),
        node("MatMul", ["d", "w"], ["y"], name="/tail/product"),
    ]
    weights = {"v": normal(32, 32), "w": normal(32, 32, seed=1)}
    return model(nodes, [info("x", F32, [32, 32])], [info("y", F32, [32, 32])], weights)


@pytest.mark.usefixtures("limits")
def test_a_program_of_several_pieces_shows_those_that_are_our_own(shell: Shell) -> None:
    shell.save("mixed.onnx", mixed())
    shell.good("compile", "mixed.onnx", "--engine", "tvm")
    summary = json.loads(shell.good("inspect", "mixed.irc", "--memory", "--json"))
    engines = {piece["piece"]: piece["engine"] for piece in summary["placement"]}
    assert set(engines.values()) == {"tvm", "onnxruntime"}
    assert [each["piece"] for each in summary["memory"]] == [name for name, engine in engines.items() if engine == "tvm"]
    assert summary["facts"]["parameters"] == 2048
    assert [each["name"] for each in summary["inputs"]] == ["x"]
    shell.good("inspect", "mixed.irc", "--html", "page.html")
    out = shell.good("bench", "mixed.irc", "--roofline", "--rounds", "2", "--seconds", "0.01")
    assert re.search(r"^ +\(other engines\) ", out, re.MULTILINE)


def test_doctor_says_that_kernels_cannot_be_linked(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def works(*arguments: str, timeout: float) -> bytes:
        return b'{"failure": null}\n'

    monkeypatch.setattr(runtime, "run_child", works)
    monkeypatch.setattr("irc.lowering.tvm.linking.HERE", ("no-such-compiler",))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    out = shell.good("doctor")
    assert re.search(
        r"^  -  +tvm +no C compiler for \S+ is installed, and kernels have to be linked\n +do: pip install", out, re.M
    )


# For other machines

OTHER = "arm64:neoverse-n1"
AARCH64 = 183
"""What an ELF file for Arm says at its 18th byte."""


@pytest.fixture
def for_arm(shell: Shell) -> Shell:
    """A folder with `branching.onnx`, on a machine that is no Arm and can link for one."""
    if platform.machine() == "aarch64":
        pytest.skip("this machine runs what is made for Arm")
    if shutil.which("aarch64-linux-gnu-gcc") is None and importlib.util.find_spec("ziglang") is None:
        pytest.skip("needs aarch64-linux-gnu-gcc or the extra zig")
    shell.save("branching.onnx", branching())
    return shell


def test_a_program_for_arm_is_written_and_runs_only_there(for_arm: Shell) -> None:
    said = for_arm.run("compile", "branching.onnx", "--engine", "tvm", "--target", OTHER, "-O3", "-o", "arm.irc")
    assert said.code == 0, said.err
    assert re.search(r"^placement: 3 ops on tvm; target arm64:neoverse-n1, level O3", said.out, re.MULTILINE)
    assert "nothing was measured: this machine is x86-64, not arm64" in said.err
    with zipfile.ZipFile(for_arm.folder / "arm.irc") as artifact:
        library = artifact.read("program.so")
        manifest, plan = (json.loads(artifact.read(name)) for name in ("manifest.json", "plan.json"))
    assert library[:5] == b"\x7fELF\x02"
    assert int.from_bytes(library[18:20], "little") == AARCH64
    assert manifest["target"] == OTHER
    assert plan["architecture"] == "arm64"
    assert "neon" in plan["features"]
    np.savez(for_arm.folder / "x.npz", x=normal(8, 32))
    said = for_arm.run("run", "arm.irc", "-i", "x.npz")
    assert said.code == 5
    assert said.err == "irc: error: the program is for arm64, and this machine is x86-64\n"
    assert "arena" in for_arm.good("inspect", "arm.irc", "--memory")
