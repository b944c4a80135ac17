"""What is asked of a GPU and of a CPU in its place alike: models, and laws that their programs keep."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from onnx import ModelProto

from irc.lowering import CompileOptions, Verify
from irc.tools.gpu_models import attention, convolutions

from ...models import node
from ..programs import compiled, of

ALONE = CompileOptions("cuda", engine="tvm", strict=True, passes="O0", opt_level=2, verify=Verify.NOTHING)
"""The ops as they are, all of them on the GPU."""

MODELS = {"convolutions": (convolutions, (2, 3, 32, 32)), "attention": (attention, (1, 16, 64))}
"""What makes a model, and the shape of its input x."""


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def perceptron(rows: int = 5) -> tuple[ModelProto, dict[str, np.ndarray]]:
    nodes = [
        node("MatMul", ["x", "w1"], ["m1"]),
        node("Add", ["m1", "b1"], ["a1"]),
        node("Relu", ["a1"], ["r1"]),
        node("MatMul", ["r1", "w2"], ["m2"]),
        node("Add", ["m2", "b2"], ["y"]),
    ]
    weights = {"w1": normal(17, 40, seed=1), "b1": normal(40, seed=2), "w2": normal(40, 9, seed=3), "b2": normal(9, seed=4)}
    feeds = {"x": normal(rows, 17)}
    return of(nodes, feeds, ["y"], weights), feeds


def assert_threads_are_apart(inputs: int, runs: int) -> None:
    """Four threads run a program on different inputs in turns, and each run answers for its own."""
    message, feeds = perceptron()
    made = compiled(message, ALONE).program
    alone = [made.run({"x": feeds["x"] + each})["y"] for each in range(inputs)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda each: made.run({"x": feeds["x"] + each % inputs})["y"], range(runs)))
    for number, answer in enumerate(together):
        np.testing.assert_array_equal(answer, alone[number % inputs])


def assert_nothing_unwritten_is_read() -> None:
    """With NaN wherever nothing was written, a program answers the same."""
    message, feeds = perceptron()
    made = compiled(message, ALONE).program
    first = made.run(feeds)["y"]
    executor: Any = made._executor
    executor.poison()
    np.testing.assert_array_equal(made.run(feeds)["y"], first)
