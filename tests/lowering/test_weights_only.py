"""Weights of few bits from the graph to a program: on each engine they stay as small as they are, and the answers right."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from irc.ir import capture, to_model
from irc.lowering import CompileOptions, compile_model
from irc.passes import quantize_weights, sites

from .models import F32, info, model, node, normal

ROWS, COLUMNS = 256, 96
ENGINES = [
    "onnxruntime",
    pytest.param(
        "openvino",
        marks=pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs the extra openvino"),
    ),
]


def product() -> Any:
    """A model of one product, of any number of rows, with a bias."""
    weights = {"w": normal(ROWS, COLUMNS, seed=1), "b": normal(COLUMNS, seed=2)}
    nodes = [node("MatMul", ["x", "w"], ["p"]), node("Add", ["p", "b"], ["y"])]
    return model(nodes, [info("x", F32, ["N", 3, ROWS])], [info("y", F32, ["N", 3, COLUMNS])], weights)


def byte_count(program: Any) -> int:
    """The bytes of a program's files."""
    return sum(memoryview(chunk).nbytes for part in program.files.to_chunks().values() for chunk in part)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("bits", "block"), [(4, 32), (4, 128), (8, 0), (8, 64)])
def test_a_program_keeps_the_integers(engine: str, bits: int, block: int, symmetric: bool) -> None:
    graph = capture(product().SerializeToString())
    quantize_weights(graph, sites(graph), bits, block, symmetric=symmetric)
    compiled = compile_model(to_model(graph).SerializeToString(), CompileOptions(engine=engine))
    assert compiled.agreement.agrees
    assert compiled.agreement.distance < 2e-2
    assert {each.engine for each in compiled.program.manifest.placement} == {engine}
    x = normal(2, 3, ROWS, seed=3)
    found = compiled.program.run({"x": x})["y"]
    wanted = x @ normal(ROWS, COLUMNS, seed=1) + normal(COLUMNS, seed=2)
    assert np.linalg.norm(found - wanted) < (0.12 if bits == 4 else 0.02) * np.linalg.norm(wanted)
    assert byte_count(compiled.program) < ROWS * COLUMNS * (0.6 if bits == 4 else 1.1) + 12_000


def test_onnx_runtime_loses_nothing_of_a_model_that_came_with_integers() -> None:
    graph = capture(product().SerializeToString())
    quantize_weights(graph, sites(graph))
    compiled = compile_model(to_model(graph).SerializeToString(), CompileOptions())
    assert compiled.agreement.distance < 1e-6
    assert compiled.forms["product-of-blocks"] == 1
    assert "blocks-on-integers" not in compiled.forms
