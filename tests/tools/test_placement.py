"""Where ops run: `irc why --placement`, `irc inspect` and `irc profile` tell the same of a program in several pieces."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from irc.ir import capture
from irc.lowering import CompileOptions, find_engine, find_target, partition
from irc.lowering.manifests import manifest_of
from irc.lowering.plans import lower_pieces
from irc.runtime import PLAN_FILE, Decision, EngineFiles, Manifest, Plan, Program, SignatureEntry, Variant, open_artifact
from irc.tools.cli.lowered import read_lowered
from irc.tools.html import render_html

from .models import F32, Shell, info, mlp, model, node, normal
from .test_html import Outline, data_of

pytest.importorskip("openvino", reason="needs the extra openvino")

F64 = TensorProto.DOUBLE
EDGE: dict[str, Any] = {"piece": "1", "engine": "onnxruntime", "ops": 3, "variant": {}, "overriding": False}


def three() -> Any:
    """Products in f32, f64 and f32: OpenVINO does not compute the one in the middle."""
    nodes = [
        node("MatMul", ["x", "w"], ["a"], name="/head/product"),
        node("Relu", ["a"], ["b"], name="/head/relu"),
        node("Cast", ["b"], ["c"], name="/wide/cast", to=F64),
        node("MatMul", ["c", "v"], ["d"], name="/wide/product"),
        node("Cast", ["d"], ["e"], name="/wide/back", to=F32),
        node("MatMul", ["e", "w"], ["y"], name="/tail/product"),
    ]
    weights = {"w": normal(32, 32), "v": normal(32, 32).astype(np.float64)}
    return model(nodes, [info("x", F32, [4, 32])], [info("y", F32, [4, 32])], weights)


def in_pieces(path: Path, *decisions: Decision) -> None:
    """Compile `three` in three pieces and save it, as if `decisions` had been taken."""
    graph, target = capture(three().SerializeToString()), find_target("cpu")
    pieces = partition(graph, [find_engine("openvino"), find_engine("onnxruntime")], target)
    files = lower_pieces(graph, pieces, target, 2, {"threads": 1})
    manifest = manifest_of(graph, CompileOptions(), [piece.engine for piece in pieces], files, [], None)
    Program.from_files(replace(manifest, decisions=decisions), files.to_runtime()).save(path)


# why


def test_why_says_what_an_engine_is_not_given_and_the_pieces(shell: Shell) -> None:
    shell.save("three.onnx", three())
    out = shell.good("why", "three.onnx", "--placement", "--engine", "openvino")
    assert "openvino takes 3 of 6 ops" in out
    assert "it does not compute in f64" in out
    assert "2 Cast, 1 MatMul" in out
    assert [line.split()[1] for line in out.splitlines() if line.strip()[:1].isdigit()] == [
        "openvino",
        "onnxruntime",
        "openvino",
    ]


def test_why_groups_equal_reasons_as_json(shell: Shell) -> None:
    shell.save("three.onnx", three())
    found = json.loads(shell.good("why", "three.onnx", "--placement", "--json"))
    by_name = {each["engine"]: each for each in found["engines"]}
    assert by_name["onnxruntime"]["refused"] == []
    assert len(by_name["onnxruntime"]["pieces"]) == 1
    (reason,) = by_name["openvino"]["refused"]
    assert (reason["reason"], reason["ops"]) == ("it does not compute in f64", {"Cast": 2, "MatMul": 1})
    assert reason["nodes"][0] == "/wide/product"  # the most expensive first
    assert [(each["engine"], each["takes"]) for each in by_name["openvino"]["pieces"]] == [
        ("openvino", []),
        ("onnxruntime", ["f32[4,32]"]),
        ("openvino", ["f32[4,32]"]),
    ]


def test_why_tells_of_one_node(shell: Shell) -> None:
    shell.save("three.onnx", three())
    out = shell.good("why", "three.onnx", "--placement", "--node", "/wide/product")
    assert "it does not compute in f64" in out
    assert "openvino, piece 1" not in out
    assert "onnxruntime, piece 1" in out


def test_why_names_engines_that_do_not_serve_the_target(shell: Shell) -> None:
    shell.save("three.onnx", three())
    out = shell.good("why", "three.onnx", "--placement", "--target", "cuda")
    assert out.startswith("openvino does not serve cuda: it has no kernels for NVIDIA GPUs\n")


def test_why_says_what_is_wrong_with_inputs_and_outputs(shell: Shell) -> None:
    through = model([node("Relu", ["x"], ["y"])], [info("x", F32, [2])], [info("y", F32, [2]), info("x", F32, [2])])
    shell.save("through.onnx", through)
    out = shell.good("why", "through.onnx", "--placement", "--engine", "openvino")
    assert out.endswith("openvino is not given the model: output x is an input, which it cannot have\n")


@pytest.mark.parametrize(
    ("flags", "said"), [(("--engine", "openvino"), "--placement"), (("--placement", "--rule", "x"), "--rule")]
)
def test_why_refuses_flags_that_mean_nothing(shell: Shell, flags: tuple[str, ...], said: str) -> None:
    shell.save("three.onnx", three())
    refused = shell.run("why", "three.onnx", *flags)
    assert refused.code == 2
    assert said in refused.err


# inspect


def test_inspect_shows_the_pieces_and_what_passes_between_them(shell: Shell) -> None:
    in_pieces(shell.folder / "three.irc")
    found = json.loads(shell.good("inspect", "three.irc", "--json"))
    assert found["facts"]["engine"] == "openvino + onnxruntime"
    (first, second, third) = found["placement"]
    assert EDGE.items() <= second.items()
    assert first["makes"] == second["takes"]
    assert second["makes"] == third["takes"]
    assert second["takes"][0]["bytes"] == 4 * 32 * 4
    assert found["ops"] == {"MatMul": 3, "Cast": 2, "Relu": 1}
    assert "(512 B)" in shell.good("inspect", "three.irc")


def test_inspect_lists_what_was_measured(shell: Shell) -> None:
    lost = Decision("onnxruntime", 2.0, 1e-7, "lost", "twice as slow")
    in_pieces(shell.folder / "three.irc", lost)
    out = shell.good("inspect", "three.irc")
    assert "what became of it" in out
    assert "lost: twice as slow" in out
    assert json.loads(shell.good("inspect", "three.irc", "--json"))["decisions"] == [lost.to_json()]


def test_variants_are_listed_and_the_one_for_all_sizes_is_drawn(shell: Shell, tmp_path: Path) -> None:
    in_pieces(tmp_path / "three.irc")
    artifact = open_artifact(tmp_path / "three.irc")
    files = EngineFiles.from_artifact(artifact)
    (only,) = Plan.from_bytes(files.read(PLAN_FILE)).variants
    several = Plan((Variant(only.steps, {"N": 4}), only))
    inputs = (SignatureEntry("x", "f32", ("N", 32)),)
    changed = EngineFiles({PLAN_FILE: (several.to_bytes(),)}, {}, files.parts)
    Program.elsewhere(replace(artifact.manifest, inputs=inputs), changed, "").save(shell.folder / "two.irc")
    found = json.loads(shell.good("inspect", "two.irc", "--json"))
    assert [each["variant"] for each in found["placement"]] == [{"N": 4}] * 3 + [{}] * 3
    assert found["facts"]["ops"] == 6


def test_the_page_colours_ops_by_engine(shell: Shell) -> None:
    in_pieces(shell.folder / "three.irc", Decision("<b>", 1.0, None, "won"))
    shell.good("inspect", "three.irc", "--html", "three.html")
    page = (shell.folder / "three.html").read_text()
    outline, data = Outline(page), data_of(page)
    assert outline.open == []
    assert not [each for each in outline.references if not each.startswith("href=#")]
    assert "<b>" not in page
    assert data["engines"] == ["openvino", "onnxruntime"]
    placed = {data["strings"][op["origins"][0]]: op.get("engine") for op in data["ops"] if op["kind"] != "constant"}
    assert [placed[name] for name in ("/head/relu", "/wide/product", "/tail/product")] == [0, 1, 0]
    assert [table[0] for table in data["tables"]] == ["Placement", "Decisions", "Options"]
    assert data["tables"][1][2] == [["<b>", "1.000", "–", "won"]]


def test_a_page_without_placement_has_no_engines() -> None:
    data = data_of(render_html(capture(mlp().SerializeToString()), title="mlp"))
    assert (data["engines"], data["tables"]) == ([], [])


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_artifacts_of_each_engine_show_what_was_lowered(shell: Shell, engine: str) -> None:
    shell.save("three.onnx", mlp())
    shell.good("compile", "three.onnx", "-o", "m.irc", "--engine", engine, "--no-verify")
    found = json.loads(shell.good("inspect", "m.irc", "--json"))
    (piece,) = found["placement"]
    assert (piece["engine"], piece["ops"]) == (engine, sum(found["ops"].values()))
    assert found["facts"]["parameters"] == 12
    assert shell.good("inspect", "m.irc", "--html", "m.html").startswith("m.html: ")


def test_large_weights_of_openvino_are_those_it_has_itself(tmp_path: Path) -> None:
    """The model to look at has no copy of them."""
    in_pieces(tmp_path / "three.irc")
    artifact = open_artifact(tmp_path / "three.irc")
    assert "0/ops.onnx" in artifact.names
    assert "0/weights.safetensors" not in artifact.names
    (weight,) = [op.value for op in read_lowered(artifact).graph if op.is_constant and op.value.shape == (32, 32)][:1]
    np.testing.assert_array_equal(weight.array, normal(32, 32))


def test_an_engine_whose_files_nobody_can_read_is_one_op(tmp_path: Path) -> None:
    entry = SignatureEntry("x", "f32", (2,))
    manifest = Manifest(engine="mine", inputs=(entry,), outputs=(SignatureEntry("y", "f32", (2,)),))
    Program.elsewhere(manifest, EngineFiles({"calls.json": (b"[]",)}, {}), "").save(tmp_path / "mine.irc")
    lowered = read_lowered(open_artifact(tmp_path / "mine.irc"))
    assert [op.qualified_name for op in lowered.graph] == ["mine::program"]


# profile


def test_a_profile_tells_the_pieces_and_what_passes_between_them(shell: Shell) -> None:
    in_pieces(shell.folder / "three.irc")
    found = json.loads(shell.good("profile", "three.irc", "--json", "--runs", 2))
    assert [each["engine"] for each in found["pieces"]] == ["openvino", "onnxruntime", "openvino"]
    assert found["pieces"][0]["makes"] == found["pieces"][1]["takes"]
    assert found["pieces"][1]["makes"][0]["bytes"] == 4 * 32 * 4
    assert {each["piece"] for each in found["kernels"] if each["module"] == "wide"} == {"1"}
    table = shell.good("profile", "three.irc", "--runs", 2, "--trace", "trace.json")
    assert "takes" in table
    events = json.loads((shell.folder / "trace.json").read_text())["traceEvents"]
    assert "1 on onnxruntime" in {each["name"] for each in events if each.get("cat") == "piece"}


def test_a_profile_is_of_one_size(shell: Shell) -> None:
    shell.save("mlp.onnx", mlp())
    said = shell.run("profile", "mlp.onnx", "--dim", "N=1,8")
    assert said.code == 2
    assert "dim 'N' is given several sizes" in said.err
