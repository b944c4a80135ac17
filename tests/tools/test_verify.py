"""`--verify`: what changes answers is undone and reported, the rest is done, and how much is checked is one choice of three."""

from __future__ import annotations

import json

import numpy as np
import pytest

from irc.runtime import open_artifact

from .models import F32, Shell, info, model, node
from .wrong_forms import plant
from .wrong_rules import PLACE, PLANTED, place

ONE = "sub-to-add"


def alone(shell: Shell, rule: str) -> tuple[object, ...]:
    """The model with a place for a wrong rule, and the flags that run that rule on it and nothing else."""
    return *place(shell, rule), "-p", rule


@pytest.mark.parametrize("one", PLANTED)
def test_a_wrong_rule_is_undone_and_named(shell: Shell, one: str) -> None:
    said = shell.run("compile", *alone(shell, one), "--verify")
    assert said.code == 0
    assert said.err.startswith(f"irc: undone: {one} at {PLACE}: ")
    assert "rewrites: 0 checked and done, 1 undone" in said.out
    assert shell.run("compare", "place.onnx", "place.irc").code == 0
    passes = [record.name for record in open_artifact("place.irc").manifest.passes]
    assert passes == [f"{one} (undone: {one})"]


def test_what_was_undone_in_json(shell: Shell) -> None:
    summary = json.loads(shell.good("compile", *alone(shell, ONE), "--verify", "--json"))
    (undone,) = summary["undone"]
    assert (undone["rewrite"], undone["location"], undone["inputs"]) == (ONE, PLACE, "made-up inputs")
    assert undone["distance"] > 0.1
    assert summary["unchecked"] == 0


def test_opt_verifies_too(shell: Shell) -> None:
    said = shell.run("opt", *alone(shell, ONE), "--verify")
    assert f"irc: undone: {ONE} at {PLACE}: " in said.err
    assert "Sub(" in said.out
    assert "Sub(" not in shell.good("opt", *alone(shell, ONE))


def test_given_inputs_are_what_is_checked_with(shell: Shell) -> None:
    """Where both operands are 0 the flipped sign cannot be seen on them, but on other values it is."""
    flags = alone(shell, ONE)
    np.savez(shell.folder / "zeros.npz", x=np.zeros(4, np.float32), z=np.zeros(4, np.float32))
    np.savez(shell.folder / "ones.npz", x=np.ones(4, np.float32), z=np.ones(4, np.float32))
    assert "on ordinary values" in shell.run("compile", *flags, "--verify", "--inputs", "zeros.npz").err
    said = shell.run("compile", *flags, "--verify", "--inputs", "ones.npz")
    assert "on the given inputs" in said.err
    assert "answers: agrees with the reference on the given inputs" in said.out


def test_a_wrong_form_of_the_engine_is_undone(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The right form beside it is used, and counted."""
    said = shell.run("compile", plant(shell, monkeypatch), "--verify")
    assert said.code == 0
    assert said.err.startswith("irc: undone: tanh-as-softsign at the-place: off by ")
    assert "rewrites: 2 checked and done, 1 undone" in said.out
    assert shell.run("compare", "tanh.onnx", "tanh.irc").code == 0


def test_a_form_can_be_left_out(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    said = shell.run("compile", plant(shell, monkeypatch), "--verify", "--disable-pass", "tanh-as-softsign")
    assert (said.code, said.err) == (0, "")


def test_what_the_reference_runs_only_as_captured(shell: Shell) -> None:
    """It draws random numbers up to an older opset, and Swish is of a newer one."""
    nodes = [
        node("RandomNormalLike", ["x"], ["noise"]),
        node("Sigmoid", ["x"], ["s"]),
        node("Mul", ["x", "s"], ["swish"]),
        node("Add", ["swish", "noise"], ["y"]),
    ]
    shell.save("noise.onnx", model(nodes, [info("x", F32, [4])], [info("y", F32, [4])]))
    np.savez(shell.folder / "x.npz", x=np.ones(4, np.float32))
    assert "nothing undone" in shell.good("compile", "noise.onnx", "--verify", "--inputs", "x.npz")


def test_without_a_flag_the_whole_program_is_checked(shell: Shell) -> None:
    said = shell.run("compile", *alone(shell, ONE))
    assert "the passes were left out, because otherwise the program differs" in said.err
    assert "undone" not in said.err


def test_nothing_is_checked_where_that_is_asked_for(shell: Shell) -> None:
    said = shell.run("compile", *alone(shell, ONE), "--no-verify")
    assert said.err == ""
    assert "answers: not checked against the reference: not asked for" in said.out


def test_exact_levels_are_checked_when_it_is_asked_for(shell: Shell) -> None:
    assert "answers:" not in shell.good("compile", "good.onnx", "-O1")
    out = shell.good("compile", "good.onnx", "-O1", "--verify")
    assert "answers: agrees" in out
    assert "nothing undone" in out


def test_a_pass_that_does_not_ask_is_rolled_back(shell: Shell) -> None:
    """A pass that rewrites as it likes is judged as a whole."""
    (shell.folder / "mine.py").write_text(
        "import numpy as np\n"
        "from dataclasses import dataclass\n"
        "from irc.ir import Tensor, constant_op\n"
        "from irc.passes import Pass\n"
        "@dataclass(frozen=True)\n"
        "class DoubleConstants(Pass, name='double-constants'):\n"
        "    '''Wrong on purpose.'''\n"
        "    def run(self, graph, context):\n"
        "        for op in [op for op in graph if op.is_constant]:\n"
        "            context.take('double-constants')\n"
        "            twice = Tensor.from_array(op.value.array * np.float32(2))\n"
        "            op.result.replace_by(graph.insert(constant_op(twice, op.location), op).result)\n"
        "            graph.erase(op)\n"
    )
    said = shell.run("compile", "good.onnx", "--load", "mine.py", "-p", "O1, double-constants", "--verify")
    assert "pass 'double-constants' was rolled back and left out: it changed the answer: output 'y' is off by" in said.err
    assert "answers: agrees" in said.out
    assert "4 ops became 2" in said.out, "the other passes stay"


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (("--inputs", "nothing.npz"), "there is no file 'nothing.npz' (--inputs takes an .npz file)"),
        (("--inputs", "place.onnx"), "place.onnx: is no .npz file of arrays"),
        (("--inputs", "other.npz"), "other.npz: the program has no input q"),
        (("--inputs", "other.npz", "--no-verify"), "--no-verify checks nothing, so --inputs has no use"),
    ],
)
def test_inputs_that_do_not_fit(shell: Shell, flags: tuple[str, ...], what: str) -> None:
    np.savez(shell.folder / "other.npz", q=np.ones(4, np.float32))
    said = shell.run("compile", *alone(shell, ONE), *flags)
    assert (said.code, said.out) == (2, "")
    assert what in said.err
    assert not (shell.folder / "place.irc").exists()
