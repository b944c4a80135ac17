"""`irc compile FILE.py:NAME` and `.pt2` files: what a factory returns is compiled, and wrong factories are sentences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .models import Shell

torch = pytest.importorskip("torch", reason="needs torch (pip install 'irc-compiler[torch]')")

FACTORIES = """
import torch


class Tower(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Linear(4, 8)
        self.head = torch.nn.Linear(8, 2)

    def forward(self, x):
        return self.head(torch.relu(self.stem(x)))


towers = 1


def tower():
    torch.manual_seed(0)
    return Tower().eval(), (torch.randn(2, 4),)


def batched():
    module, inputs = tower()
    return module, inputs, {"x": {0: "batch"}}


class Tokens(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(5, 3)

    def forward(self, file):
        return self.table(file)


def tokens():
    return Tokens().eval(), (torch.tensor([4, 0, 1]),)


def by_name():
    module, (x,) = tower()
    return module, {"x": x}


def fails():
    raise RuntimeError("no weights")


def number():
    return 3


def alone():
    return (Tower().eval(),)


def training():
    return Tower(), (torch.randn(2, 4),)


def with_argument(x):
    return Tower().eval(), (x,)
"""


@pytest.fixture
def models(shell: Shell) -> Path:
    path = shell.folder / "my_models.py"
    path.write_text(FACTORIES)
    return path


@pytest.mark.parametrize(("name", "shape"), [("tower", [2, 2]), ("by_name", [2, 2]), ("batched", [3, 2])])
def test_a_factory_is_compiled_and_runs(shell: Shell, models: Path, name: str, shape: list[int]) -> None:
    shell.good("compile", f"{models.name}:{name}", "-O2")
    dims = ["--dim", "batch=3"] if name == "batched" else []
    [entry] = json.loads(shell.good("run", f"{name}.irc", "--random", "--json", *dims)).values()
    assert (entry["dtype"], entry["shape"]) == ("float32", shape)


def test_the_answers_are_checked_with_the_example_inputs(shell: Shell, models: Path) -> None:
    report = json.loads(shell.good("compile", f"{models.name}:tower", "-o", "t.irc", "--json"))
    assert report["agreement"]["inputs"] == "the example inputs"
    assert report["agreement"]["agrees"]


def test_the_same_factory_makes_the_same_bytes(shell: Shell, models: Path) -> None:
    for place in ("a.irc", "b.irc"):
        shell.good("compile", f"{models.name}:tower", "-o", place)
    assert (shell.folder / "a.irc").read_bytes() == (shell.folder / "b.irc").read_bytes()


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("my_models.py:tow", "my_models.py: there is no function 'tow' in it (did you mean tower?)"),
        ("my_models.py:towers", "my_models.py: there is no function 'towers' in it (did you mean tower?)"),
        ("my_models.py:fails", "my_models.py:fails: it fails: RuntimeError: no weights"),
        ("my_models.py:number", "my_models.py:number: it returns int and not (module, example_inputs)"),
        ("my_models.py:alone", "my_models.py:alone: it returns 1 values and not (module, example_inputs)"),
        ("my_models.py:with_argument", "my_models.py:with_argument: it fails: TypeError: "),
        ("my_models.py:training", "the module Tower is in training mode"),
        ("broken.py:tower", "broken.py: it fails to import: NameError: "),
        ("missing.py:tower", "there is no file 'missing.py'"),
        ("missing.pt2", "there is no file 'missing.pt2'"),
    ],
)
def test_wrong_factories(shell: Shell, models: Path, what: str, sentence: str) -> None:
    (shell.folder / "broken.py").write_text("nonsense\n")
    said = shell.run("compile", what, "-o", "out.irc")
    assert said.code == 2
    assert sentence in said.err
    assert not (shell.folder / "out.irc").exists()


def test_a_pickle_is_opened_only_when_it_is_trusted(shell: Shell, models: Path) -> None:
    class Double(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x * 2

    place = shell.folder / "double.pt2"
    torch.export.save(torch.export.export(Double(), (torch.ones(3),)), place)
    said = shell.run("compile", place.name)
    assert said.code == 2
    assert "--trust-pickle" in said.err or "trust_pickle" in said.err
    shell.good("compile", place.name, "--trust-pickle")
    assert "float32" in shell.good("run", "double.irc", "--random")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("run my_models.py:batched", "2x2"),
        ("run my_models.py:batched --random --dim batch=3", "3x2"),
        ("profile my_models.py:tower", "head "),
        ("inspect my_models.py:batched", "f32[batch,4]"),
        ("opt my_models.py:tower", "my_models.py:12 (stem)"),
        ("why my_models.py:tower", "my_models.py:12 (stem)"),
        ("rules my_models.py:tower", "rules apply"),
        ("compare my_models.py:batched my_models.py:batched", "agrees"),
        ("bisect my_models.py:tower", "nothing to find"),
    ],
)
def test_every_verb_takes_a_factory(shell: Shell, models: Path, line: str, said: str) -> None:
    assert said in shell.good(*line.split())


def test_bench_takes_a_factory_and_its_example_inputs(shell: Shell, models: Path) -> None:
    measured = shell.good("bench", "my_models.py:tokens", "--rounds", "2", "--seconds", "0.01", "--json")
    assert len(json.loads(measured)["results"]) == 1
    said = shell.run("bench", "my_models.py:tower", "--against", "my_models.py:batched")
    assert said.code == 2
    assert "`irc compile my_models.py:batched -o other.irc` makes an artifact" in said.err


def test_a_python_file_without_a_name_is_a_sentence(shell: Shell, models: Path) -> None:
    for verb in ("compile", "inspect", "run"):
        said = shell.run(verb, "my_models.py")
        assert said.code == 2
        assert "'my_models.py' is a Python file (name the function in it that makes the model: my_models.py:NAME)" in said.err


def test_other_verbs_open_a_pickle_only_when_it_is_trusted(shell: Shell) -> None:
    class Double(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x * 2

    torch.export.save(torch.export.export(Double(), (torch.ones(3),)), shell.folder / "double.pt2")
    assert "--trust-pickle" in shell.run("inspect", "double.pt2").err
    assert "f32[3]" in shell.good("inspect", "double.pt2", "--trust-pickle")
    assert "float32" in shell.good("run", "double.pt2", "--trust-pickle", "--random")
