"""`irc profile`: every kernel counts once, to the module, line and rewrite its origins tell, and what nobody knows is shown."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import pytest

from irc.ir import Graph, capture, emit
from irc.passes import LEVELS, PassManager
from irc.runtime import Call, Kernel, Profile, Provenance, open_artifact
from irc.tools.cli.attribution import (
    AS_CAPTURED,
    NO_LINE,
    NOT_ATTRIBUTED,
    OUTERMOST,
    Branch,
    By,
    attribute,
    common_path,
    module_of,
    rows,
    tree,
)
from irc.tools.cli.tracing import KERNELS, MODULES, trace_file

from .models import F32, Shell, info, model, node, normal


def kernel(op: str, ms: float, *origins: str, rewrites: tuple[str, ...] = ()) -> Kernel:
    sources = (Provenance(op.lower(), op, origins, rewrites),) if origins else ()
    return Kernel(f"{op}-{ms}", op, ms, 1.0, sources, ("float[2]",), ("float[2]",))


def profile(*kernels: Kernel, run_ms: float = 10.0) -> Profile:
    starts = [sum(each.ms for each in kernels[:index]) * 1e3 for index in range(len(kernels))]
    calls = tuple(Call(each, start, each.ms * 1e3) for each, start in zip(kernels, starts, strict=True))
    return Profile("onnxruntime", 2, 20, run_ms, kernels, calls)


# Whom a kernel counts to


@pytest.mark.parametrize(
    ("origin", "path"),
    [
        ("model.py:41 (stem.conv1) conv2d_3", ("stem", "conv1")),
        ("model.py:41 (stem.conv1)", ("stem", "conv1")),
        ("model.py:41", ()),
        ("/encoder/layer.0/attention/MatMul", ("encoder", "layer.0", "attention")),
        ("MatMul(/encoder/layer.0/product)", ("encoder", "layer.0")),
        ("net/block/Conv;net/block/bias/Add;net/block/Relu", ("net", "block")),
        ("MatMul_12", None),
    ],
)
def test_the_module_an_origin_tells(origin: str, path: tuple[str, ...] | None) -> None:
    assert module_of(origin) == path


def test_a_fused_op_counts_to_the_deepest_common_module_and_its_first_line() -> None:
    where = attribute(kernel("Attention", 1.0, "a.py:9 (net.0.attn)", "a.py:5 (net.0.attn.query)", "a.py:7 (net.0.attn.key)"))
    assert (where.module, where.line, where.file) == (("net", "0", "attn"), "a.py:9", "a.py")


def test_the_last_rewrite_that_made_an_op() -> None:
    assert attribute(kernel("Gelu", 1.0, "a.py:9", rewrites=("gelu-by-tanh", "pow-as-product"))).rule == "gelu-by-tanh"
    assert attribute(kernel("Gelu", 1.0, "a.py:9")).path(By.RULE, "Gelu") == (AS_CAPTURED,)


def test_origins_without_a_module_have_no_say() -> None:
    assert attribute(kernel("Add", 1.0, "Constant_5", "/encoder/Add", "/encoder/inner/Mul")).module == ("encoder",)


def test_an_onnx_node_without_a_source_line_stands_for_itself() -> None:
    where = attribute(kernel("MatMul", 1.0, "MatMul_12"))
    assert where.path(By.MODULE, "MatMul") == (OUTERMOST,)
    assert where.path(By.LINE, "MatMul") == (NO_LINE, "MatMul_12")


@pytest.mark.parametrize("by", [By.MODULE, By.LINE, By.RULE])
def test_what_stands_for_nothing_is_not_attributed(by: By) -> None:
    assert attribute(kernel("Memcpy", 1.0)).path(by, "Memcpy") == (NOT_ATTRIBUTED,)


def test_the_common_path() -> None:
    assert common_path([("a", "b", "c"), ("a", "b"), ("a", "b", "d")]) == ("a", "b")
    assert common_path([("a",), ()]) == ()
    assert common_path([]) == ()


# The tree

PARTS = (
    kernel("Conv", 4.0, "m.py:3 (net.stem.conv)"),
    kernel("MatMul", 2.0, "m.py:8 (net.head.fc)"),
    kernel("Add", 1.0, "m.py:9 (net.head)"),
    kernel("Relu", 0.25, "m.py:4 (net.stem.act)"),
    kernel("Cast", 0.25, "m.py:5 (net.stem.cast)"),
    kernel("Memcpy", 0.125),
)


def summed(by: By) -> Branch:
    made = profile(*PARTS)
    return tree(made, {each: attribute(each) for each in made.kernels}, by)


def drawn(root: Branch, depth: int | None = None, least: float = 0.5) -> list[tuple[str, ...]]:
    return rows(root, lambda outer, inner: f"{outer}.{inner}", depth, least, lambda b: (f"{b.ms:g}", str(b.kernels)))


def test_modules_are_a_tree_with_the_most_expensive_first() -> None:
    assert drawn(summed(By.MODULE)) == [
        ("net", "7.5", "5"),
        ("├─ stem", "4.5", "3"),
        ("│  ├─ conv", "4", "1"),
        ("│  └─ … 2 smaller", "0.5", "2"),
        ("└─ head", "3", "2"),
        ("   ├─ fc", "2", "1"),
        ("   └─ (its own ops)", "1", "1"),
        (NOT_ATTRIBUTED, "0.125", "1"),
    ]
    assert [name for name, *_ in drawn(summed(By.MODULE), depth=2)] == ["net", "├─ stem", "└─ head", NOT_ATTRIBUTED]


def test_all_branches_add_up_to_the_whole() -> None:
    whole = sum(each.ms for each in PARTS)
    for by in By:
        root = summed(by)
        assert (root.ms, root.kernels) == (whole, len(PARTS))
        assert sum(branch.ms for branch in root.ordered()) == whole


def test_a_module_that_holds_nothing_but_another_shares_its_row() -> None:
    one = profile(kernel("Conv", 1.0, "m.py:3 (a.b.c)"), kernel("Relu", 1.0, "m.py:4 (a.b.d)"))
    root = tree(one, {each: attribute(each) for each in one.kernels}, By.MODULE)
    assert [name for name, *_ in drawn(root)] == ["a.b", "├─ c", "└─ d"]


# The trace


def test_a_trace_is_what_perfetto_reads() -> None:
    """The JSON Object Format: complete events with name, process, track, microseconds; spans of a track nest."""
    made = profile(*PARTS)
    trace = json.loads(trace_file(made, {each: attribute(each) for each in made.kernels}, "net.irc", "."))
    assert trace["displayTimeUnit"] == "ms"
    names = {event["args"]["name"] for event in trace["traceEvents"] if event["name"] in ("process_name", "thread_name")}
    assert names == {"net.irc", "kernels", "modules"}
    for event in trace["traceEvents"]:
        check_event(event)
    assert [event["name"] for event in on_track(trace, KERNELS)] == [each.op for each in PARTS]
    assert on_track(trace, KERNELS)[0]["args"] == {
        "kernel": "Conv-4.0",
        "location": "m.py:3 (net.stem.conv)",
        "line": "m.py:3",
        "module": "net.stem.conv",
        "rule": "",
        "inputs": "float[2]",
        "outputs": "float[2]",
    }
    spans = {(each["args"]["module"], each["ts"], each["dur"]) for each in on_track(trace, MODULES)}
    assert {
        ("net", 0.0, 7500.0),
        ("net.stem", 0.0, 4000.0),
        ("net.head", 4000.0, 3000.0),
        ("net.head.fc", 4000.0, 2000.0),
    } <= spans


def on_track(trace: dict[str, Any], track: int) -> list[dict[str, Any]]:
    return [event for event in trace["traceEvents"] if event["tid"] == track and event["ph"] == "X"]


def check_event(event: dict[str, Any]) -> None:
    """One event of Chrome's Trace Event Format, of the two kinds that are written."""
    assert isinstance(event["name"], str)
    assert isinstance(event["args"], dict)
    assert {type(event["pid"]), type(event["tid"])} == {int}
    if event["ph"] == "M":
        assert set(event) == {"ph", "pid", "tid", "name", "args"}
        return
    assert event["ph"] == "X"
    assert set(event) == {"ph", "pid", "tid", "name", "args", "cat", "ts", "dur"}
    assert event["ts"] >= 0
    assert event["dur"] >= 0


# The whole way


def block() -> onnx.ModelProto:
    """A convolution with its batch norm and activation in /stem, a product in /head/fc, named as exporters name nodes."""
    nodes = [
        node("Conv", ["x", "w"], ["c"], name="/stem/conv/Conv", pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"], name="/stem/norm/BatchNormalization"),
        node("Relu", ["n"], ["r"], name="/stem/Relu"),
        node("GlobalAveragePool", ["r"], ["p"], name="/pool/GlobalAveragePool"),
        node("Flatten", ["p"], ["f"], name="/Flatten"),
        node("MatMul", ["f", "k"], ["y"], name="/head/fc/MatMul"),
    ]
    weights = {"w": normal(16, 16, 3, 3), "s": normal(16), "b": normal(16), "m": normal(16), "v": np.ones(16, np.float32)}
    return model(nodes, [info("x", F32, ["N", 16, 8, 8])], [info("y", F32, ["N", 10])], {**weights, "k": normal(16, 10)})


@pytest.fixture
def compiled(shell: Shell) -> Shell:
    """`block.onnx`, and the artifact of it."""
    shell.save("block.onnx", block())
    shell.good("compile", "block.onnx")
    return shell


def found(shell: Shell, *arguments: object) -> dict[str, Any]:
    return json.loads(shell.good("profile", *arguments, "--runs", "3", "--json"))


def test_locations_survive_to_the_artifact(compiled: Shell) -> None:
    result = found(compiled, "block.irc", "--threads", "1")
    assert (result["runs"], result["threads"], result["by"]) == (3, 1, "module")
    assert all(each["attributed"] for each in result["kernels"])
    assert result["not_attributed_ms"] == 0
    conv = next(each for each in result["kernels"] if each["op"] == "Conv")
    assert {"/stem/conv/Conv", "/stem/norm/BatchNormalization", "/stem/Relu"} == set(conv["origins"])
    assert (conv["module"], conv["rule"]) == ("stem", "activation-in-convolution")
    assert {"stem", "pool", "head"} <= {branch["name"] for branch in result["tree"]}


def test_a_model_is_compiled_first(compiled: Shell) -> None:
    plain = found(compiled, "block.onnx", "-O", "0")
    assert [each["op"] for each in plain["kernels"]][:3] == ["Conv", "BatchNormalization", "Relu"]
    assert {each["rule"] for each in plain["kernels"]} == {""}


@pytest.mark.parametrize("by", list(By))
def test_as_a_table(compiled: Shell, by: By) -> None:
    said = compiled.good("profile", "block.irc", "--by", by, "--runs", "2", "--least", "0", "--dim", "N=2").splitlines()
    assert said[0].startswith("block.irc: ")
    assert "0.0 % of that not attributed; 2 runs on" in said[0]
    assert said[1].split() == [by.value, "ms", "%", "kernels"]
    assert said[-1].startswith("(between kernels)")
    expected = {By.MODULE: "stem", By.LINE: NO_LINE, By.OP: "Conv", By.RULE: "activation-in-convolution"}
    assert any(line.startswith(expected[by]) for line in said[2:]), said


def test_a_trace_of_a_real_run(compiled: Shell) -> None:
    said = compiled.good("profile", "block.irc", "--trace", "out.json", "--runs", "2")
    assert "out.json: " in said.splitlines()[-1]
    trace = json.loads((compiled.folder / "out.json").read_text(encoding="utf-8"))
    for event in trace["traceEvents"]:
        check_event(event)
    assert "Conv" in {event["name"] for event in on_track(trace, KERNELS)}
    assert on_track(trace, MODULES)


def test_given_inputs_are_used(compiled: Shell) -> None:
    np.savez(compiled.folder / "inputs.npz", x=normal(3, 16, 8, 8))
    result = found(compiled, "block.irc", "--inputs", "inputs.npz")
    assert result["kernels"][0]["inputs"][0] == "float[3,16,8,8]"


def test_mistakes(compiled: Shell) -> None:
    wrong = compiled.run("profile", "block.irc", "--by", "modul")
    assert (wrong.code, "did you mean module?" in wrong.err) == (2, True)
    onto_itself = compiled.run("profile", "block.irc", "--trace", "block.irc")
    assert (onto_itself.code, "is the model itself" in onto_itself.err) == (2, True)
    assert compiled.run("profile", "nothing.irc").code == 2


# What a model keeps of its history


def optimized() -> Graph:
    return PassManager(LEVELS["O2"]).run(capture(block()))


def test_a_node_keeps_all_origins_and_rewrites() -> None:
    written = {each.name: {p.key: p.value for p in each.metadata_props} for each in emit(optimized()).graph.node}
    history = next(json.loads(props["irc.history"]) for props in written.values() if "irc.history" in props)
    assert {"/stem/conv/Conv", "/stem/norm/BatchNormalization"} <= set(history["origins"])
    assert "batch-norm-after-convolution" in history["rewrites"]
    assert written["/head/fc/MatMul"] == {}, "an op as it was captured needs no words"


def test_artifacts_stay_the_same_byte_for_byte(compiled: Shell) -> None:
    compiled.good("compile", "block.onnx", "-o", "again.irc")
    assert (compiled.folder / "again.irc").read_bytes() == (compiled.folder / "block.irc").read_bytes()
    assert b"irc.history" in bytes(open_artifact(compiled.folder / "block.irc").read("model.onnx"))
