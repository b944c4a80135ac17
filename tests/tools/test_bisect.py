"""`irc bisect`: the step that breaks something is named, and the commands it prints show it."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from irc.tools.cli.bisection import LEVELS, Optimizations, Trial, first_bad, search, search_speed

from .models import F32 as FLOAT
from .models import Shell, info, model, node
from .wrong_forms import plant
from .wrong_rules import PLACE, PLANTED, place

ONE = "sub-to-add"


def flags(shell: Shell, rule: str) -> tuple[object, ...]:
    """The model with a place for a wrong rule, and the flags that run that rule on it."""
    return *place(shell, rule), "-p", f"cse, {rule}"


def repeat(shell: Shell, command: str) -> int:
    """The exit code of a printed command, each part of it run by `irc` itself."""
    code = 0
    for part in command.split(" && "):
        code = shell.run(*shlex.split(part)[1:]).code
        if code:
            break
    return code


@pytest.mark.parametrize("one", PLANTED)
def test_a_wrong_rule_is_named(shell: Shell, one: str) -> None:
    said = shell.run("bisect", *flags(shell, one), "--json")
    assert said.code == 1
    found: Any = json.loads(said.out)
    (step,) = found["steps"]
    assert (step["rewrite"], step["location"], step["pass"], step["number"]) == (one, PLACE, one, 1)
    assert step["alone"]
    assert said.err.startswith(f"irc: error: what breaks it is rewrite 1 of 1, '{one}' at {PLACE}")
    assert f"--disable-pass {one} leaves it out" in said.err
    assert repeat(shell, step["good"]) == 0
    assert repeat(shell, step["bad"]) == 1


def test_in_words(shell: Shell) -> None:
    said = shell.run("bisect", *flags(shell, ONE))
    lines = said.out.splitlines()
    assert lines[0] == f"first bad: rewrite 1 of 1, '{ONE}' at {PLACE}, in pass '{ONE}'"
    assert lines[1].startswith("with it: it differs from the reference on made-up inputs, worst output 'y' by ")
    assert "--rewrite-limit 0" in lines[2]
    assert "--rewrite-limit 1" in lines[3]


def test_nothing_to_find(shell: Shell) -> None:
    out = shell.good("bisect", "good.onnx")
    assert out.startswith("nothing to find: all ")
    assert json.loads(shell.good("bisect", "good.onnx", "--json"))["found"] is False


def test_a_bound_of_the_users(shell: Shell) -> None:
    """A difference of 4e-9 or so is there wherever sums are added up in another order, and is bad for who says so."""
    np.savez(shell.folder / "x.npz", x=np.full(4, 2.0, np.float32), z=np.full(4, 1e-3, np.float32))
    assert shell.run("bisect", *flags(shell, ONE), "--inputs", "x.npz").code == 1
    assert shell.run("bisect", *flags(shell, ONE), "--inputs", "x.npz", "--max-error", "0.01").code == 0


def test_a_command_of_the_users(shell: Shell) -> None:
    """It is asked about every artifact, by place or by name."""
    (shell.folder / "check.py").write_text(
        "import sys, numpy, irc\n"
        "y = irc.load(sys.argv[1]).run({'x': numpy.ones(4, numpy.float32), 'z': numpy.ones(4, numpy.float32)})['y']\n"
        "sys.exit(3 if y.any() else 0)\n"
    )
    for artifact in ("{}", '"$IRC_ARTIFACT"'):
        command = f"{shlex.quote(shell.python)} check.py {artifact}"
        said = shell.run("bisect", *flags(shell, ONE), "--check", command, "--json")
        assert said.code == 1
        (step,) = json.loads(said.out)["steps"]
        assert (step["rewrite"], step["symptom"]) == (ONE, "the command ends with 3")
        shell.run(*shlex.split(step["bad"].split(" && ")[0])[1:])
        check = step["bad"].split(" && ")[1]
        assert subprocess.run(check, shell=True, cwd=shell.folder, check=False).returncode == 3


def test_a_command_that_is_never_content(shell: Shell) -> None:
    said = shell.run("bisect", "good.onnx", "--check", "exit 1")
    assert said.code == 1
    assert "bad with no rewrites" in said.out
    assert "the cause is neither a rewrite nor an optimization" in said.err


def test_an_optimization_of_the_engine_is_named(shell: Shell) -> None:
    """ONNX Runtime merges a Pad by 0 with a MaxPool as if it were one by -Inf (microsoft/onnxruntime#18136)."""
    nodes = [
        node("Pad", ["x", "pads"], ["padded"], name="pad"),
        node("MaxPool", ["padded"], ["y"], name="pool", kernel_shape=[2, 2]),
    ]
    pads = {"pads": np.array([0, 0, 1, 1, 0, 0, 0, 0])}
    shell.save("pool.onnx", model(nodes, [info("x", FLOAT, [1, 3, 4, 4])], [info("y", FLOAT, [1, 3, 4, 4])], pads))
    np.savez(shell.folder / "x.npz", x=np.full((1, 3, 4, 4), -1, np.float32))
    line = ("bisect", "pool.onnx", "--inputs", "x.npz", "-p", "cse", "--engine-option", "disabled-optimizers=")
    said = shell.run(*line, "--json")
    assert said.code == 1
    (step,) = json.loads(said.out)["steps"]
    assert (step["engine_level"], step["engine_optimization"]) == ("basic", "Level1_RuleBasedTransformer")
    assert repeat(shell, step["good"]) == 0
    assert repeat(shell, step["bad"]) == 1


def test_a_wrong_form_of_the_engine_is_named(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    said = shell.run("bisect", plant(shell, monkeypatch), "--json")
    assert said.code == 1
    (step,) = json.loads(said.out)["steps"]
    assert (step["engine_form"], step["rewrite"], step["engine_level"]) == ("tanh-as-softsign", None, None)
    assert "what breaks it is the engine's form 'tanh-as-softsign'" in said.err
    assert "--disable-pass tanh-as-softsign leaves it out" in said.err
    assert repeat(shell, step["good"]) == 0
    assert repeat(shell, step["bad"]) == 1


def test_ideas_of_bad_exclude_each_other(shell: Shell) -> None:
    said = shell.run("bisect", "good.onnx", "--max-error", "1", "--check", "true")
    assert (said.code, said.out) == (2, "")
    assert "--max-error and --check are different ideas of bad" in said.err
    assert shell.run("bisect", "good.onnx", "--check", "true", "--inputs", "x.npz").code == 2
    assert shell.run("bisect", "good.onnx", "--check", "no-such-command-anywhere").code == 2
    assert shell.run("bisect", "good.onnx", "--engine-option", "optimisation=basic").code == 2
    assert "did you mean" in shell.run("bisect", "good.onnx", "--engine-option", "optimisation=basic").err


# The search by itself


def judge(is_bad: Callable[[Trial], bool]) -> Any:
    """A judge that knows, and notes what it was asked."""

    class Judge:
        asked: list[Trial]

        def __init__(self) -> None:
            self.asked = []

        def symptom(self, trial: Trial) -> str | None:
            """Whether the trial is bad."""
            self.asked.append(trial)
            return "bad" if is_bad(trial) else None

    return Judge()


def engine(level: str = "all", names: tuple[str, ...] = ()) -> Optimizations:
    """An engine with these optimizations."""
    return Optimizations(level, ("ALWAYS_OFF",), lambda trial: names)


@pytest.mark.parametrize("first", [1, 2, 499, 500, 999, 1000])
def test_the_first_bad_rewrite_is_found_in_few_trials(first: int) -> None:
    knowing = judge(lambda trial: trial.rewrites >= first)
    found = search(knowing, 1000, engine())
    assert found is not None
    (step,) = found.steps
    assert (step.rewrite, step.good.rewrites, step.bad.rewrites, step.alone) == (first, first - 1, first, True)
    assert len(knowing.asked) < 25


def test_what_comes_and_goes_is_said() -> None:
    assert first_bad(100, lambda n: n >= 40) == (40, True)
    first, alone = first_bad(100, lambda n: 20 <= n < 60 or n >= 90)
    assert (first, alone) == (20, False)


def level_of(trial: Trial) -> int:
    """How much the engine may do in a trial."""
    return LEVELS.index(str(trial.settings.get("optimization", "all")))


def test_the_engine_alone() -> None:
    def is_bad(trial: Trial) -> bool:
        off = trial.settings.get("disabled_optimizers", ())
        assert isinstance(off, tuple)
        return level_of(trial) >= 2 and "Second" not in off

    found = search(judge(is_bad), 10, engine(names=("First", "Second", "Third")))
    assert found is not None
    (step,) = found.steps
    assert (step.rewrite, step.level, step.optimizer) == (None, "extended", "Second")
    assert step.good.settings["disabled_optimizers"] == ("ALWAYS_OFF", "Second", "Third")
    assert step.bad.settings["disabled_optimizers"] == ("ALWAYS_OFF", "Third")


def test_a_form_alone() -> None:
    """Without it no other form is looked at; where forms are needed for the program to run at all, other causes are."""

    def forms_of(trial: Trial) -> tuple[str, ...]:
        return "first", "second", "third"

    forms = replace(engine(), forms=forms_of)
    found = search(judge(lambda trial: "second" not in trial.disabled), 10, forms)
    assert found is not None
    (step,) = found.steps
    assert (step.form, step.rewrite, step.good.disabled, step.bad.disabled) == ("second", None, ("second", "third"), ("third",))
    needed = search(judge(lambda trial: trial.rewrites >= 7 or "first" in trial.disabled), 10, forms)
    assert needed is not None
    assert [(step.form, step.rewrite) for step in needed.steps] == [("", 7)]


def test_an_optimization_without_a_name() -> None:
    found = search(judge(lambda trial: level_of(trial) == 3), 10, engine(names=("Other",)))
    assert found is not None
    assert (found.steps[0].level, found.steps[0].optimizer) == ("all", "")
    assert level_of(found.steps[0].good) == 2


def test_the_engine_on_what_a_rewrite_has_made() -> None:
    found = search(judge(lambda trial: trial.rewrites >= 7 and level_of(trial) >= 1), 10, engine())
    assert found is not None
    assert [(step.rewrite, step.level) for step in found.steps] == [(7, ""), (None, "basic")]


def test_bad_from_the_start_and_never_bad() -> None:
    found = search(judge(lambda trial: True), 10, engine())
    assert found is not None
    assert found.steps == ()
    assert search(judge(lambda trial: False), 10, engine()) is None


def test_speed_is_lost_to_a_rewrite_or_to_the_engine() -> None:
    fast = judge(lambda trial: False)
    by_rewrite = search_speed(judge(lambda trial: trial.rewrites >= 3), fast, 10, engine())
    assert by_rewrite is not None
    assert by_rewrite.steps[0].rewrite == 3
    by_engine = search_speed(fast, judge(lambda trial: level_of(trial) >= 2), 10, engine())
    assert by_engine is not None
    assert by_engine.steps[0].level == "extended"
    assert search_speed(fast, fast, 10, engine()) is None


@pytest.mark.slow
def test_speed_is_measured(shell: Shell) -> None:
    """Nothing is a thousand times as slow as something else here; that it was measured is all that is checked."""
    out = shell.good("bisect", "good.onnx", "--slower-than", "1000", "--rounds", "2", "--seconds", "0.01")
    assert out.startswith("nothing to find")
