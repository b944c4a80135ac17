"""What each verb of `irc` does when all is well: its results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from irc.ir.text import load_weights, parse_graph, print_graph
from irc.tools.cli.app import VERBS

from .models import F32, PERTURB, Shell, custom, info, model, node, normal

ort.set_default_logger_severity(4)
FIRST = "dead-code, fold-constants, cse, canonicalize, cse, fold-constants"
EXACT = FIRST + ", rules{strictest=exact}, layout{strictest=exact}, cse, dead-code"


def read_json(text: str) -> Any:
    """Strict JSON: NaN and Infinity are none."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def passes_of(records: Any) -> list[str]:
    """The passes of a list of records in JSON."""
    return [record["pass"] for record in records]


# Every verb


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_knows_help_and_json(shell: Shell, verb: str) -> None:
    out = shell.good(verb, "--help")
    assert out.startswith(f"Usage: irc {verb}")
    assert "--json" in out
    assert "--debug" in out
    assert "--untrusted" in out


def test_help_lists_the_verbs(shell: Shell) -> None:
    out = shell.good("--help")
    assert [line.split()[0] for line in out.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()] == list(VERBS)
    assert "..." not in out.partition("Commands:")[2]


def test_version(shell: Shell) -> None:
    assert re.fullmatch(r"irc \d+\.\d+\.\d+\S*\n", shell.good("--version"))


def test_the_module_is_the_command(shell: Shell) -> None:
    said = shell.process("--version")
    assert (said.code, said.err) == (0, "")
    assert said.out == shell.good("--version")
    assert shell.process("bogus").code == 2


@pytest.mark.parametrize("line", ["--help", "--version", "compile --help", ""])
def test_what_needs_no_model_loads_no_heavy_module(line: str) -> None:
    code = f"""
import sys
from irc.tools.cli.app import run
run({line.split()!r})
heavy = ("numpy", "onnx", "onnxruntime", "networkx", "lark", "rich.console", "irc.ir", "irc.runtime", "irc.passes")
print("loaded:", *[name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].strip() == "loaded:"


# compile


def test_compile(shell: Shell) -> None:
    said = shell.run("compile", "good.onnx")
    assert (said.code, said.err) == (0, "")
    first, placement, answers = said.out.splitlines()
    assert re.fullmatch(r"good\.irc: 4 ops became 2 in [\d.]+ m?s, [\d.]+ KiB", first)
    assert placement.startswith("placement: 2 ops on onnxruntime; target cpu, level O2")
    assert answers.startswith("answers: agrees with the reference")
    assert sorted(shell.files()) == ["good.irc", "good.onnx"]


def test_compile_json(shell: Shell) -> None:
    found = read_json(shell.good("compile", "good.onnx", "-O1", "-o", "out.irc", "--json"))
    keys = ["artifact", "bytes", "cached", "target", "opt_level", "ops", "seconds", "placement", "agreement", "variants"]
    assert list(found) == [*keys, "overriding", "passes", "undone", "unchecked", "decisions", "precision", "notes"]
    assert found["artifact"] == "out.irc"
    assert found["bytes"] == (shell.folder / "out.irc").stat().st_size
    assert (found["target"], found["opt_level"]) == ("cpu", 1)
    assert found["ops"] == {"before": 4, "after": 2}
    assert list(found["seconds"]) == ["capture", "passes", "lower", "load"]
    assert found["placement"] == [{"engine": "onnxruntime", "ops": 2}]
    assert list(found["agreement"]) == ["agrees", "output", "distance", "unknown", "inputs"]
    assert passes_of(found["passes"]) == EXACT.split(", ")
    assert list(found["passes"][0]) == ["pass", "seconds", "rewrites", "ops_before", "ops_after", "failure"]
    assert found["notes"] == []


def test_compiling_twice_gives_the_same_bytes(shell: Shell) -> None:
    for name in ("a.irc", "b.irc"):
        shell.good("compile", "good.onnx", "-o", name)
    files = shell.files()
    assert files["a.irc"] == files["b.irc"]


def test_compile_replaces_an_artifact(shell: Shell) -> None:
    (shell.folder / "good.irc").write_bytes(b"old")
    shell.good("compile", "good.onnx")
    shell.good("run", "good.irc", "--random")


def test_statistics(shell: Shell) -> None:
    out = shell.good("compile", "good.onnx", "--stats")
    header = next(line for line in out.splitlines() if line.startswith("pass "))
    assert header.split() == ["pass", "ms", "rewrites", "ops", "before", "after", "which"]
    assert re.search(r"^canonicalize .* 4 +2 +\S", out, re.MULTILINE)


def test_levels_and_disabled_passes(shell: Shell) -> None:
    disabled = ["--disable-pass", "canonicalize", "--disable-pass", "rules"]  # `rules` brings ops to canonical form, too
    for flags, after in ((["-O0"], 4), (["-O2"], 2), (disabled, 4), (["--rewrite-limit", "0"], 4)):
        found = read_json(shell.good("compile", "good.onnx", "--json", *flags))
        assert found["ops"]["after"] == after, flags
        assert set(flags).isdisjoint(passes_of(found["passes"])), flags


def test_a_single_rewrite_can_be_disabled(shell: Shell) -> None:
    ran = read_json(shell.good("opt", "good.onnx", "-p", "canonicalize", "--json"))["passes"][0]["rewrites"]
    assert ran
    left = read_json(shell.good("opt", "good.onnx", "-p", "canonicalize", "--json", "--disable-pass", next(iter(ran))))
    assert next(iter(ran)) not in left["passes"][0]["rewrites"]


def test_own_passes_inside_a_pipeline(shell: Shell) -> None:
    (shell.folder / "mine.py").write_text(PERTURB)
    pipeline = "O1, perturb{factor=1.0}"
    found = read_json(shell.good("compile", "good.onnx", "--load", "mine.py", "-p", pipeline, "--json"))
    assert passes_of(found["passes"]) == [*EXACT.split(", "), "perturb{factor=1.0}"]
    assert found["passes"][-1]["rewrites"] == {"perturb": 1}
    listed = shell.good("passes", "--load", "mine.py")
    assert re.search(r"^perturb +exact +factor=2.0 +Scale every constant: wrong on purpose\.$", listed, re.MULTILINE)


def test_a_pass_that_fails_is_left_out_and_said(shell: Shell) -> None:
    (shell.folder / "mine.py").write_text(PERTURB)
    for verb in ("compile", "opt"):
        said = shell.run(verb, "good.onnx", "--load", "mine.py", "-p", "canonicalize, stumble", "--json")
        assert said.code == 0
        assert "pass 'stumble' was rolled back and left out: RuntimeError: stumbled" in said.err
        records = read_json(said.out)["passes"]
        assert [record["failure"] for record in records] == [None, "RuntimeError: stumbled"]


def test_passes_that_change_answers_are_left_out_and_said(shell: Shell) -> None:
    (shell.folder / "mine.py").write_text(PERTURB)
    said = shell.run("compile", "good.onnx", "--load", "mine.py", "-p", "O2, perturb")
    assert said.code == 0
    assert "irc: the passes were left out, because otherwise the program differs from the reference" in said.err
    assert "4 ops became 4" in said.out
    assert shell.run("compare", "good.onnx", "good.irc").code == 0
    trusting = shell.run("compile", "good.onnx", "--load", "mine.py", "-p", "O2, perturb", "--no-verify")
    assert "answers: not checked against the reference: not asked for" in trusting.out
    assert shell.run("compare", "good.onnx", "good.irc").code == 1


def test_dims_and_shapes(shell: Shell) -> None:
    for flags in (["--dim", "N=2"], ["--shape", "x:2x4"], ["--shape", "x:2x?"]):
        shell.good("compile", "good.onnx", *flags)
        facts = read_json(shell.good("inspect", "good.irc", "--json"))
        assert facts["inputs"][0]["type"] == "f32[2,4]", flags
    shell.good("compile", "good.onnx", "--dim", "N=1..64")
    assert read_json(shell.good("inspect", "good.irc", "--json"))["inputs"][0]["type"] == "f32[N,4]"


# Looking at what passes do


def test_dumped_ir_is_numbered_and_parses(shell: Shell) -> None:
    shell.good("compile", "good.onnx", "--dump-ir", "dumps")
    folder = shell.folder / "dumps"
    entries = json.loads((folder / "manifest.json").read_text())
    named = [entry["file"] for entry in entries if entry["file"]]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*named, "manifest.json"])
    assert named[0].startswith("00-captured")
    assert [int(name[:2]) for name in named] == sorted({int(name[:2]) for name in named})
    assert any("canonicalize" in name for name in named)
    assert all(entry["step"] == int(entry["file"][:2]) for entry in entries if entry["file"])
    texts = [(folder / name).read_text() for name in named]
    assert texts[0].count("Transpose") == 2
    assert texts[-1].count("Transpose") == 0
    for text in texts:
        assert print_graph(parse_graph(text)) == text


@pytest.mark.parametrize(("names", "count"), [(["canonicalize"], 1), (["cse"], 3), (["all"], 1), (["canonicalize", "cse"], 4)])
def test_ir_is_printed_after_passes(shell: Shell, names: list[str], count: int) -> None:
    flags = [text for name in names for text in ("--print-ir-after", name)]
    said = shell.run("opt", "good.onnx", "--json", *flags)
    assert said.err.count("// after ") == count
    assert said.err.count("return %") == said.err.count("// after ")
    assert read_json(said.out)


# opt


def test_opt_prints_text(shell: Shell) -> None:
    said = shell.run("opt", "good.onnx", "--stats")
    assert said.code == 0
    assert print_graph(parse_graph(said.out)) == said.out
    assert said.err.startswith("pass")


def test_opt_writes_a_model(shell: Shell) -> None:
    assert shell.good("opt", "good.onnx", "-o", "better.onnx") == "better.onnx: 4 ops became 2\n"
    better = onnx.load(shell.folder / "better.onnx")
    onnx.checker.check_model(better, full_check=True)
    assert [each.op_type for each in better.graph.node] == ["MatMul", "Relu"]
    feeds = {"x": normal(5, 4)}
    sessions = [ort.InferenceSession(shell.folder / name) for name in ("good.onnx", "better.onnx")]
    wanted, got = (session.run(None, feeds)[0] for session in sessions)
    np.testing.assert_array_equal(got, wanted)
    shell.good("compare", "good.onnx", "better.onnx")


def test_opt_writes_text_that_parses_back(shell: Shell) -> None:
    found = read_json(shell.good("opt", "good.onnx", "-o", "better.irtext", "--json"))
    assert list(found) == ["output", "passes", "undone"]
    assert found["output"] == "better.irtext"
    text = (shell.folder / "better.irtext").read_text()
    assert print_graph(parse_graph(text)) == text


def test_opt_may_replace_its_model(shell: Shell) -> None:
    shell.good("opt", "good.onnx", "-o", "good.onnx")
    assert len(onnx.load(shell.folder / "good.onnx").graph.node) == 2


# run


def test_run(shell: Shell) -> None:
    x = normal(2, 4)
    np.save("x.npy", x)
    np.savez("x.npz", x=x)
    shell.good("compile", "good.onnx")
    for flags in (["--input", "x=x.npy"], ["--inputs", "x.npz"], ["-i", "x=x.npy"]):
        out = shell.good("run", "good.irc", "-o", "results", *flags)
        header, row = out.splitlines()
        assert header.split() == ["output", "dtype", "shape", "min", "mean", "max", "file"]
        assert row.split()[:3] == ["y", "float32", "2x3"]
        np.testing.assert_allclose(np.load("results/y.npy"), np.maximum(x @ normal(4, 3), 0), rtol=1e-5)
    found = read_json(shell.good("run", "good.irc", "-i", "x=x.npy", "--json", "--threads", 1))
    assert list(found) == ["y"]
    assert list(found["y"]) == ["dtype", "shape", "min", "mean", "max", "file"]
    assert (found["y"]["shape"], found["y"]["file"]) == ([2, 3], None)
    assert found["y"]["max"] == np.load("results/y.npy").max()


def test_run_makes_inputs_up_from_a_seed(shell: Shell) -> None:
    first, again, other = (shell.good("run", "good.onnx", "--random", "--dim", "N=3", "--seed", s) for s in (1, 1, 2))
    assert first == again != other
    assert "3x3" in first


def test_run_names_files_safely(shell: Shell) -> None:
    nodes = [node("Relu", ["x"], ["../../up"]), node("Neg", ["x"], [".._.._up"]), node("Abs", ["x"], ["/"])]
    outputs = [info(name, F32, [2]) for name in ("../../up", ".._.._up", "/")]
    shell.save("named.onnx", model(nodes, [info("x", F32, [2])], outputs))
    shell.good("run", "named.onnx", "--random", "-o", "results")
    written = sorted(name for name in shell.files() if name.endswith(".npy"))
    assert len(written) == 3
    assert all(name.count("/") == 1 and name.startswith("results/") for name in written)
    assert not list(shell.folder.parent.glob("*.npy"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_run_shows_values_that_are_no_numbers(shell: Shell, value: float) -> None:
    np.save("x.npy", np.full((1, 4), value, np.float32))
    said = shell.run("run", "good.onnx", "-i", "x=x.npy", "--json")
    assert (said.code, said.err) == (0, "")
    read_json(said.out)


# inspect


def test_inspect(shell: Shell) -> None:
    shell.good("compile", "good.onnx")
    out = shell.good("inspect", "good.onnx")
    assert out.splitlines()[0] == "good.onnx: ops 4, parameters 12, weights 48 B"
    assert re.search(r"^x +f32\[N,4\]$", out, re.MULTILINE)
    assert re.search(r"^Transpose +2$", out, re.MULTILINE)
    out = shell.good("inspect", "good.irc")
    assert out.startswith("good.irc: target cpu, level O2, engine onnxruntime, ops 2, parameters 12")
    for name in ("good.onnx", "good.irc"):
        found = read_json(shell.good("inspect", name, "--json"))
        placed = ["placement", "options", "decisions", "precision"] if name == "good.irc" else []
        assert list(found) == ["facts", "inputs", "outputs", "ops", "metadata", *placed]
        assert found["inputs"] == [{"name": "x", "type": "f32[N,4]", "has_default": False}]
        assert found["outputs"] == [{"name": "y", "type": "f32[N,3]"}]


def test_inspect_prints_the_ir_and_its_weights(shell: Shell) -> None:
    weight = normal(64, 64)
    nodes = [node("MatMul", ["x", "w"], ["y"], name="product")]
    shell.save("large.onnx", model(nodes, [info("x", F32, [1, 64])], [info("y", F32, [1, 64])], {"w": weight}))
    text = shell.good("inspect", "large.onnx", "--ir", "--weights", "w.safetensors")
    assert len(text) < 1000
    again = parse_graph(text, weights=load_weights(shell.folder / "w.safetensors"))
    constant = next(op for op in again if op.is_constant)
    np.testing.assert_array_equal(constant.value.array, weight)
    assert read_json(shell.good("inspect", "large.onnx", "--ir", "--json"))["ir"] == text


def test_inspect_writes_a_page(shell: Shell) -> None:
    assert shell.good("inspect", "good.onnx", "--html", "page.html") == "page.html: 4 ops\n"
    page = (shell.folder / "page.html").read_text()
    assert "MatMul" in page
    assert read_json(shell.good("inspect", "good.onnx", "--html", "page.html", "--json"))["html"] == "page.html"


def test_inspect_shows_what_no_engine_runs(shell: Shell) -> None:
    shell.save("custom.onnx", custom())
    assert "wizards::Magic" in shell.good("inspect", "custom.onnx")


# What there is


def test_passes(shell: Shell) -> None:
    out = shell.good("passes")
    assert f"\nO1: {EXACT}\n" in out
    assert "\nO0: nothing\n" in out
    assert shell.good("passes", "--level", "O1") == f"O1: {EXACT}\n"
    found = read_json(shell.good("passes", "--json"))
    assert list(found) == ["passes", "rewrites", "levels"]
    assert all(list(entry) == ["name", "contract", "options", "does"] for entry in found["passes"])
    assert all(entry["does"] for entry in (*found["passes"], *found["rewrites"]))
    assert len(shell.good("passes", "--rewrites").splitlines()) > len(found["rewrites"])


# bench


def test_bench(shell: Shell) -> None:
    flags = ["--rounds", 4, "--seconds", 0.01, "--threads", 1, "--dim", "N=2"]
    said = shell.run("bench", "good.onnx", "--against", "good.onnx", *flags)
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    columns = ["compile", "load ms", "first ms", "p50 ms", "p90 ms", "p99 ms", "runs/s", "peak MiB", "error"]
    assert re.split(r"  +", lines[0].strip()) == columns
    assert [line.split()[0] for line in lines[1:3]] == ["irc", "onnxruntime"]
    assert lines[3] == "threads: 1; one process each, in turns; medians over rounds"
    assert re.fullmatch(r"irc (against onnxruntime: no difference beyond noise|is [\d.]+ times \w+ than onnxruntime)", lines[4])


def test_bench_json(shell: Shell) -> None:
    shell.good("compile", "good.onnx")
    found = read_json(shell.good("bench", "good.irc", "--rounds", 2, "--seconds", 0.01, "--json"))
    assert list(found) == ["compile_s", "results", "comparisons"]
    assert found["compile_s"] is None
    assert found["comparisons"] == []
    assert found["results"][0]["name"] == "irc"
    assert found["results"][0]["error"] is None


def test_bench_names_each_contestant(shell: Shell) -> None:
    shell.good("compile", "good.onnx", "-o", "irc.irc")
    flags = ["--rounds", 2, "--seconds", 0.01, "--json"]
    found = read_json(shell.good("bench", "irc.irc", *(["--against", "irc.irc"] * 2), "--against", "good.onnx", *flags))
    assert [each["name"] for each in found["results"]] == ["irc", "irc 2", "irc 3", "onnxruntime"]
    assert all(each["error"] < 1e-5 for each in found["results"])
