"""Architectures captured, compiled and compared with eager: the quickest of several families, and what the comparison refuses.

`benchmarks.torch_models` runs all of them and writes docs/architectures.md.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra 'torch')")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (extra 'torch')")
ROOT = Path(__file__).resolve().parents[3]

OF_TORCH = ("unet_any_size", "lstm", "graph_attention", "dlrm", "transformer_encoder_padded", "conditional")
OF_TRANSFORMERS = ("vit", "bert", "llama_step", "t5_encoder")


@pytest.fixture
def architectures(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package `benchmarks.architectures`."""
    monkeypatch.syspath_prepend(ROOT)
    return import_module("benchmarks.architectures")


@pytest.fixture
def attempt(architectures: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Try a module of one input that is dynamic in its batch."""

    def of(module: Any) -> Any:
        def make() -> Any:
            return architectures.Architecture(module, lambda batch, length: architectures.Call((torch.ones(batch, 4),)), [DIMS])

        monkeypatch.setitem(architectures.TABLE, "it", architectures.Entry("torch.nn", make))
        return architectures.attempt("it")

    return of


DIMS = {0: "batch"}


class Returns(torch.nn.Module):
    """A module that is one function."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


# Agreement


@pytest.mark.parametrize("name", OF_TORCH)
def test_architectures_of_torch_agree(architectures: Any, name: str) -> None:
    assert_agrees(architectures.attempt(name))


@pytest.mark.parametrize("name", OF_TRANSFORMERS)
def test_architectures_of_transformers_agree(architectures: Any, name: str) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed (extra 'bench')")
    assert_agrees(architectures.attempt(name))


def assert_agrees(trial: Any) -> None:
    assert trial.outcome == "agrees", trial.reason
    assert trial.other is not None, "it was not run at other sizes"
    assert trial.dynamic


# What the comparison says of others


def test_answers_that_do_not_depend_on_the_input_agree_with_nothing(attempt: Any) -> None:
    trial = attempt(Returns(lambda x: x.sum(1) * 1e-9 + 1))
    assert trial.outcome == "ignores its input"
    assert trial.counts
    assert not trial.good


def test_answers_that_differ_are_told_from_those_that_agree(attempt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = import_module("benchmarks.architectures.trial")
    monkeypatch.setattr(trial, "called", lambda program, call: program(*call.args) * 1.001)
    found = attempt(Returns(torch.exp))
    assert (found.outcome, found.reason) == ("differs", "at the example's sizes and another batch")
    assert found.example == pytest.approx(1e-3, rel=0.01)


def test_what_torch_export_refuses_is_not_counted(attempt: Any) -> None:
    trial = attempt(Returns(lambda x: x * 2 if x.sum() > 0 else x))
    assert trial.outcome == "refused"
    assert not trial.counts
    assert "data-dependent" in trial.reason


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([1.0, 2.0], [1.0, 2.0, 3.0]),
        ([1.0, float("nan")], [1.0, 2.0]),
        ([1.0, float("inf")], [1.0, float("-inf")]),
        ([1, 2], [1, 3]),
        ([1, 2], [1.0, 2.0]),
    ],
    ids=["shape", "not finite", "other infinity", "integers", "dtype"],
)
def test_what_is_not_close_at_all_is_infinitely_far(architectures: Any, found: list[float], expected: list[float]) -> None:
    distance = import_module("benchmarks.architectures.trial").distance
    assert distance(torch.tensor(found), torch.tensor(expected)) == float("inf")
    assert distance((torch.tensor(found),), [torch.tensor(found)]) == float("inf")
    assert distance(torch.tensor(expected), torch.tensor(expected)) == 0.0


# The page


def test_the_page_lists_every_architecture(architectures: Any) -> None:
    page = (ROOT / "docs" / "architectures.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^(?:\| |- )(\w+)(?: \||:)", page, re.MULTILINE)) - {"architecture"}
    assert listed == set(architectures.TABLE), "run python3 dev.py bench torch_models --write docs/architectures.md"
