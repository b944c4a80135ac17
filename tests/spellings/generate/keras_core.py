# pyright: basic
"""How a case of Keras or TensorFlow becomes files: exported by tf2onnx or Keras, captured by irc, and written."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tf2onnx

from irc.ir import capture

from .files import write

OPSET = 15
TF, KERAS = "tf2onnx", "keras"
SOURCES = {TF: f"tf2onnx 1.17 of TensorFlow 2.21, opset {OPSET}", KERAS: "Keras 3.15, model.export(format='onnx')"}


@dataclass(frozen=True)
class Case:
    """A pattern as a Keras model or a TensorFlow function, the shapes of its inputs, and what should be left of it."""

    name: str
    pattern: str
    make: Callable[[], Any]
    shapes: Sequence[Sequence[int | None]] = ((1, 6, 6, 3),)
    expect: str = ""
    gone: str = ""
    at_most: int | None = None
    sources: Sequence[str] = (TF,)
    hope: str = ""
    corner: str = ""


def sequential(*parts: Any, shape: tuple[int, ...] = (6, 6, 3)) -> Callable[[], Any]:
    """A model of layers in a row."""
    return lambda: keras.Sequential([keras.Input(shape, batch_size=1), *(part() for part in parts)])


def coarse(rng: Any, shape: Sequence[int]) -> Any:
    """Multiples of 1/8 in [-1, 1] without 0."""
    return (rng.integers(1, 9, shape) * rng.choice([-1, 1], shape) / 8).astype(np.float32)


def randomize(model: Any) -> None:
    """Values that no exporter can fold away."""
    rng = np.random.default_rng(0)
    for variable in model.variables:
        values = coarse(rng, variable.shape)
        variable.assign(np.abs(values) + 0.5 if "variance" in variable.path or "gamma" in variable.path else values)


def write_case(case: Case) -> None:
    """Export one case and write its files."""
    for source in case.sources:
        keras.utils.set_random_seed(0)
        made = case.make()
        try:
            graph = capture(_export(made, case, source))
        except Exception as error:  # an exporter that fails is a finding, and the others go on
            print(f"FAILED {source}/{case.name}: {type(error).__name__}: {str(error).splitlines()[0][:200]}")
            continue
        headers = {"expect": case.expect, "gone": case.gone, "at-most": "" if case.at_most is None else str(case.at_most)}
        print(
            write(source, case.name, SOURCES[source], case.pattern, headers | {"hope": case.hope, "corner": case.corner}, graph)
        )


def _export(made: Any, case: Case, source: str) -> bytes:
    if isinstance(made, keras.Model):
        randomize(made)
    if source == KERAS:
        made(np.zeros(case.shapes[0], np.float32))  # a model that was never called is not exported
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            made.export(str(path), format="onnx", verbose=False)
            return path.read_bytes()
    signature = [tf.TensorSpec(shape, tf.float32, name=f"x{i}") for i, shape in enumerate(case.shapes)]
    function = tf.function(lambda *inputs: made(*inputs), input_signature=signature)
    message, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=OPSET)
    return message.SerializeToString()
