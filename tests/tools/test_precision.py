"""`irc compile --precision`: what is printed, written and refused, and the exit code where a bound was not kept."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from irc.runtime import PrecisionChoice, PrecisionReport, PrecisionRow, load, open_artifact
from irc.tools.cli.precision import MOST_ALIKE, print_precision
from irc.tools.cli.progress import line
from irc.tools.html import precision_page

from .models import Shell, normal, relu


@pytest.fixture
def shell(shell: Shell) -> Shell:
    """The folder with samples and labels, and a metric."""
    x = normal(40, 4)
    np.savez(shell.folder / "calib.npz", x=x, label=np.arange(40) % 3)
    text = "def accuracy(outputs, labels):\n    return (outputs['y'].argmax(-1) == labels['label']).mean()\n"
    (shell.folder / "eval.py").write_text(text, encoding="utf-8")
    return shell


def test_a_program_in_lower_precision(shell: Shell) -> None:
    out = shell.good("compile", "good.onnx", "--precision", "int8", "--calib", "calib.npz", "-o", "m.irc")
    assert "precision: int8; relative L2 on 8 of calib.npz" in out
    with load(shell.folder / "m.irc") as program:
        assert program.run({"x": normal(2, 4)})["y"].shape == (2, 3)


def test_a_bound_that_is_not_kept(shell: Shell) -> None:
    said = shell.run("compile", "good.onnx", "--precision", "bf16", "--max-error", "1e-6", "-o", "m.irc")
    assert said.code == 1
    assert "beyond the bound of 1.0e-06" in said.out
    assert "bf16 is not within the bound of 1e-06 by relative L2; what was written is f32" in said.err
    assert "with made-up inputs" in said.err
    report = open_artifact(shell.folder / "m.irc").manifest.precision
    assert report is not None
    assert not report.met


def test_a_model_without_contractions(shell: Shell) -> None:
    shell.save("bare.onnx", relu(["N", 4]))
    out = shell.good("compile", "bare.onnx", "--precision", "int8")
    assert out.endswith("no convolutions that are known to be in f32, so nothing in it can be int8\n")


@pytest.mark.parametrize("kinds", [MOST_ALIKE, MOST_ALIKE + 1])
def test_many_kinds_with_one_reason_are_summed_up(capsys: pytest.CaptureFixture[str], kinds: int) -> None:
    choices = tuple(
        PrecisionChoice(f"p{i}", f"Conv at place {i}", 2, "f32", why="bf16: it was not timed") for i in range(kinds)
    )
    print_precision(PrecisionReport("auto", "relative L2", 0.01, True, "8 of calib.npz", (), choices))
    out = capsys.readouterr().out
    assert out.count("it was not timed") == (kinds if kinds <= MOST_ALIKE else 1)
    assert ("\n12 contractions of 6 kinds are f32: bf16: it was not timed\n" in out) == (kinds > MOST_ALIKE)


def test_a_metric_of_the_user(shell: Shell) -> None:
    flags = ("--precision", "int8", "--calib", "calib.npz", "--metric", "eval.py:accuracy", "--max-drop", "100%", "--json")
    found = json.loads(shell.good("compile", "good.onnx", *flags))["precision"]
    assert (found["metric"], found["limit"], found["met"]) == ("drop of accuracy", 1.0, True)


def test_a_metric_by_name(shell: Shell) -> None:
    flags = ("--precision", "bf16", "--calib", "calib.npz", "--metric", "top1", "--max-drop", "0.5")
    out = shell.good("compile", "good.onnx", *flags)
    assert "top-1 disagreement on 8 of calib.npz, bound 0.5 (kept)" in out
    assert out.endswith("\n1 contraction is bf16\n")


def test_inspect_tells_what_was_decided(shell: Shell) -> None:
    shell.good("compile", "good.onnx", "--precision", "bf16", "-o", "m.irc")
    assert "precision: bf16; relative L2 on 6 of made-up inputs" in shell.good("inspect", "m.irc")
    assert json.loads(shell.good("inspect", "m.irc", "--json"))["precision"]["asked"] == "bf16"
    shell.good("compile", "good.onnx", "-o", "m.irc")
    assert json.loads(shell.good("inspect", "m.irc", "--json"))["precision"] is None


def test_compare_knows_that_something_was_to_be_lost(shell: Shell) -> None:
    shell.good("compile", "good.onnx", "--precision", "bf16", "-o", "m.irc")
    said = shell.run("compare", "good.onnx", "m.irc")
    assert said.code == 1
    assert "bf16 was " in said.err
    assert "off on 6 of made-up inputs: give --inputs like these, and that much --tolerance)" in said.err
    shell.good("compare", "good.onnx", "m.irc", "--tolerance", "0.1")


def test_a_page(shell: Shell) -> None:
    shell.run("compile", "good.onnx", "--precision", "bf16", "--max-error", "1e-6", "--html", "p.html", "-o", "m.irc")
    page = (shell.folder / "p.html").read_text(encoding="ascii")
    assert page.count("<circle") == 2
    assert 'class="kept"' in page
    assert 'class="bound"' in page
    report = open_artifact(shell.folder / "m.irc").manifest.precision
    assert report is not None
    assert precision_page(report, "<b>") == page.replace("good.onnx", "&lt;b&gt;")


def test_a_page_where_nothing_was_timed_has_sizes_as_people_read_them() -> None:
    rows = (PrecisionRow("f32", 0.0, 0.0, None, 20_000_000, ""), PrecisionRow("bf16", 1e-3, 1e-3, None, 10_000_000, "kept"))
    page = precision_page(PrecisionReport("bf16", "relative L2", None, True, "made-up inputs", rows, ()), "m.onnx")
    assert re.findall(r'text-anchor="middle">(.*?)</text>', page) == ["0 B", "5.484 MiB", "10.97 MiB", "16.45 MiB", "21.93 MiB"]
    assert "<td>19.07 MiB</td>" in page


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--precision int9", "there is no precision 'int9'"),
        ("--max-error 1e-2", "a bound on the error was given, but no precision"),
        ("--html p.html", "--html draws what became of a precision"),
        ("--precision bf16 --max-drop x%", "'x%' is no drop"),
        ("--precision bf16 --metric top2", "there is no metric 'top2' (did you mean top1?)"),
        ("--precision bf16 --metric no.py:f", "there is no file 'no.py'"),
        ("--precision bf16 --metric eval.py:acuracy", "it has no function 'acuracy' (did you mean accuracy?)"),
        ("--precision bf16 --calib no.npz", "no.npz"),
        ("--precision auto", "--precision auto decides by measuring, and nothing is measured here (use -O3"),
    ],
)
def test_flags_that_make_no_sense(shell: Shell, flags: str, message: str) -> None:
    said = shell.run("compile", "good.onnx", *flags.split())
    assert said.code == 2
    assert message in said.err
    assert not (shell.folder / "good.irc").exists()


def test_progress_is_a_bar_where_something_is_counted() -> None:
    assert line("ranges: sample 64 of 128") == f"ranges {'━' * 12}{'╌' * 12} 64/128"
    assert line("reading sample 1 of 1") == f"samples {'━' * 24} 1/1"
    assert line("building tvm") == "building tvm"
