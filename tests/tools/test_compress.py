"""`irc compile --compress`: what is printed, written and refused, and the exit code where a bound was not kept."""

from __future__ import annotations

import json

import numpy as np
import pytest

from irc.runtime import load, open_artifact
from irc.tools.html import precision_page

from .models import F32, Shell, info, model, node, normal

BY_RULES = ("--tune-budget", "0")


@pytest.fixture
def shell(shell: Shell) -> Shell:
    """The folder with samples, and a model of two products with 64 channels between them."""
    nodes = [
        node("MatMul", ["x", "v"], ["p"], name="first"),
        node("Relu", ["p"], ["a"], name="relu"),
        node("MatMul", ["a", "w"], ["y"], name="second"),
    ]
    weights = {"v": normal(16, 64), "w": normal(64, 16, seed=1)}
    shell.save("wide.onnx", model(nodes, [info("x", F32, ["N", 16])], [info("y", F32, ["N", 16])], weights))
    np.savez(shell.folder / "calib.npz", x=normal(40, 16, seed=2))
    return shell


def test_what_makes_the_artifact_smaller(shell: Shell) -> None:
    flags = ("--compress", "share-weights{clusters=256}", "--smaller", "--calib", "calib.npz", "--max-error", "0.02")
    out = shell.good("compile", "wide.onnx", *flags)
    assert "precision: f32 after share-weights{clusters=256}; relative L2 on 8 of calib.npz, bound 0.02 (kept)" in out
    assert "% smaller" in out
    shell.good("compile", "wide.onnx", "-o", "plain.irc")
    small, plain = (shell.folder / name for name in ("wide.irc", "plain.irc"))
    assert small.stat().st_size < plain.stat().st_size
    with load(small) as program, load(plain) as exact:
        x = normal(3, 16, seed=3)
        np.testing.assert_allclose(program.run({"x": x})["y"], exact.run({"x": x})["y"], rtol=0, atol=2)


def test_a_bound_that_is_not_kept(shell: Shell) -> None:
    pipeline = "prune-channels{share=0.5}, share-weights"
    flags = ("--smaller", "--calib", "calib.npz", "--max-error", "0.02", *BY_RULES)
    said = shell.run("compile", "wide.onnx", "--compress", pipeline, *flags)
    assert said.code == 1
    assert "is beyond the bound of 2.0e-02" in said.out
    assert "% smaller, not timed" in said.out
    wanted = "f32 after prune-channels{share=0.5}, share-weights is not within the bound of 0.02 by relative L2"
    assert f"{wanted}; what was written is compressed" in said.err
    assert "no step of compression was timed: --tune-budget is 0" in said.err
    report = open_artifact(shell.folder / "wide.irc").manifest.precision
    assert report is not None
    assert (report.met, report.compress) == (False, pipeline)


def test_a_share_that_is_looked_for_keeps_any_bound(shell: Shell) -> None:
    out = shell.good("compile", "wide.onnx", "--compress", "prune-channels", "--calib", "calib.npz", *BY_RULES)
    assert "prune-channels{share=0.10}" in out
    assert "bound 0.01 (kept)" in out


def test_with_a_precision_and_a_metric(shell: Shell) -> None:
    flags = ("--compress", "prune-channels{share=0.1}", "--precision", "int8", "--calib", "calib.npz", *BY_RULES)
    found = json.loads(shell.good("compile", "wide.onnx", *flags, "--metric", "cosine", "--max-error", "0.5", "--json"))
    report = found["precision"]
    assert (report["asked"], report["compress"], report["metric"]) == ("int8", "prune-channels{share=0.1}", "1 - cosine")
    assert [row["name"] for row in report["rows"]] == ["prune-channels{share=0.1}", "int8", "f32"]


def test_inspect_and_a_page_tell_of_it(shell: Shell) -> None:
    flags = ("--compress", "share-weights", "--smaller", "--html", "p.html", *BY_RULES)
    shell.good("compile", "wide.onnx", *flags)
    out = shell.good("inspect", "wide.irc")
    assert "precision: f32 after share-weights; relative L2 on 6 of made-up inputs" in out
    assert json.loads(shell.good("inspect", "wide.irc", "--json"))["precision"]["compress"] == "share-weights"
    report = open_artifact(shell.folder / "wide.irc").manifest.precision
    assert report is not None
    page = (shell.folder / "p.html").read_text(encoding="ascii")
    assert "precision f32 after share-weights</h1>" in page
    assert page == precision_page(report, "wide.onnx")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--compress", "prune"], "there is no pass 'prune'"),
        (
            ["--compress", "prune-channels, cse"],
            "'cse' is no compression (it is one of prune-channels, prune-weights, low-rank",
        ),
        (["--compress", "low-rank{share=2}"], "share is 2.0, which nothing can save"),
        (["--compress", ""], "--compress names no compression"),
        (["--smaller"], "--smaller is about compression, and none is asked for (add --compress share-weights)"),
        (["--compress", "low-rank", "-O", "1"], "--compress changes answers, which O1 does not allow (use -O2 or -O3)"),
        (["--compress", "low-rank", "--metric", "top2"], "there is no metric 'top2'"),
    ],
)
def test_flags_that_make_no_sense(shell: Shell, flags: list[str], message: str) -> None:
    said = shell.run("compile", "wide.onnx", *flags)
    assert said.code == 2
    assert message in said.err
    assert not (shell.folder / "wide.irc").exists()
