"""Filters that the engine lays out anew wait on a disk; nothing else does, and no graph means another thing for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from irc.ir import Graph, capture, evaluate
from irc.ir.text import print_graph
from irc.lowering import find_target
from irc.lowering.onnxruntime import OnnxRuntime, engine
from irc.runtime import spilling

from .forms import node, numbers, written

FILTER = (64, 64, 3, 3)


@pytest.fixture(autouse=True)
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A disk with room, for weights of any size together."""
    monkeypatch.setattr(spilling, "_disk_with", lambda size: tmp_path)
    monkeypatch.setattr(engine, "SMALLEST_SPILLED", 1)
    return tmp_path


def convolutions() -> Graph:
    """A convolution by `k`, one by `both`, which is an output as well, one of one dim, a small one, and a product by `w`."""
    nodes = [
        node("Conv", ["image", "k"], ["a"], name="first"),
        node("Conv", ["image", "both"], ["b"], name="second"),
        node("Add", ["both", "both"], ["twice"]),
        node("Conv", ["signal", "line"], ["c"]),
        node("Conv", ["image", "small"], ["d"]),
        node("MatMul", ["x", "w"], ["y"]),
    ]
    inputs = {"image": (1, (1, 64, 8, 8)), "signal": (1, (1, 64, 8)), "x": (1, (3, 128))}
    constants = {
        "k": numbers(*FILTER, seed=1),
        "both": numbers(*FILTER, seed=2),
        "line": numbers(64, 64, 8, seed=3),
        "small": numbers(8, 64, 3, 3, seed=4),
        "w": numbers(128, 192, seed=5),
    }
    return capture(written(nodes, inputs, ["a", "b", "twice", "c", "d", "y"], **constants).SerializeToString())


def test_only_large_filters_of_images_wait_on_the_disk() -> None:
    files = OnnxRuntime().lower(convolutions(), find_target("cpu"), 2)
    assert [name for name, weight in files.weights.items() if weight.folder is not None] == ["k"]


def test_nothing_does_where_the_engine_changes_nothing() -> None:
    files = OnnxRuntime().lower(convolutions(), find_target("cpu"), 1)
    assert not any(weight.folder for weight in files.weights.values())


def test_little_is_not_worth_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "SMALLEST_SPILLED", 1 << 24)
    files = OnnxRuntime().lower(convolutions(), find_target("cpu"), 2)
    assert not any(weight.folder for weight in files.weights.values())


def test_the_graph_lets_go_of_their_memory_and_means_the_same() -> None:
    graph = convolutions()
    feeds = {"image": numbers(1, 64, 8, 8), "signal": numbers(1, 64, 8), "x": numbers(3, 128)}
    before, text = evaluate(graph, feeds), print_graph(graph)
    files = OnnxRuntime().lower(graph, find_target("cpu"), 2)
    assert print_graph(graph) == text
    [moved] = [op.value for op in graph if op.is_constant and op.value.shape == FILTER and len(op.result.uses) == 1]
    assert isinstance(moved.data, memoryview)
    assert moved.data.obj is files.weights["k"].data.obj
    for want, got in zip(before, evaluate(graph, feeds), strict=True):
        np.testing.assert_array_equal(got, want)
