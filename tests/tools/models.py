"""Small models for the command line, good ones and bad ones, and how a command line is run in a test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from irc.tools.cli.app import run

F32, I64, STRING, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING, TensorProto.BOOL
node = helper.make_node
info = helper.make_tensor_value_info


def model(
    nodes: Iterable[NodeProto],
    inputs: Iterable[ValueInfoProto],
    outputs: Iterable[ValueInfoProto],
    weights: Mapping[str, object] | None = None,
    domains: Mapping[str, int] | None = None,
) -> ModelProto:
    """A model of opset 21."""
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), initializers)
    imports = [helper.make_opsetid(domain, version) for domain, version in {"": 21, **(domains or {})}.items()]
    return helper.make_model(graph, ir_version=10, opset_imports=imports)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Random f32 numbers, the same each time."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def relu(shape: list[object], operand: str = "x", **extra: object) -> ModelProto:
    """One Relu."""
    return model([node("Relu", [operand], ["y"], name="relu", **extra)], [info("x", F32, shape)], [info("y", F32, shape)])


def mlp(scale: float = 1.0) -> ModelProto:
    """x: f32[N,4] -> y: f32[N,3]: a matrix product, two transposes that undo each other, a Relu."""
    nodes = [
        node("MatMul", ["x", "w"], ["product"], name="product"),
        node("Transpose", ["product"], ["there"], name="there", perm=[1, 0]),
        node("Transpose", ["there"], ["back"], name="back", perm=[1, 0]),
        node("Relu", ["back"], ["y"], name="relu"),
    ]
    return model(nodes, [info("x", F32, ["N", 4])], [info("y", F32, ["N", 3])], {"w": normal(4, 3) * scale})


def cyclic() -> ModelProto:
    """Two Relus that wait for each other."""
    nodes = [node("Relu", ["b"], ["a"], name="one"), node("Relu", ["a"], ["b"], name="two"), node("Relu", ["b"], ["y"])]
    return model(nodes, [info("x", F32, [4])], [info("y", F32, [4])])


def mistyped() -> ModelProto:
    """f32 plus i64."""
    return model(
        [node("Add", ["x", "i"], ["y"], name="sum")], [info("x", F32, [4]), info("i", I64, [4])], [info("y", F32, [4])]
    )


def custom() -> ModelProto:
    """An op of a domain nobody has kernels for."""
    nodes = [node("Magic", ["x"], ["y"], name="wand", domain="wizards")]
    return model(nodes, [info("x", F32, [4])], [info("y", F32, [4])], domains={"wizards": 1})


def endless() -> ModelProto:
    """A loop of 2**60 rounds."""
    inner = [node("Identity", ["go"], ["still"]), node("Add", ["v", "v"], ["w"])]
    body = helper.make_graph(
        inner,
        "body",
        [info("i", I64, []), info("go", BOOL, []), info("v", F32, [4])],
        [info("still", BOOL, []), info("w", F32, [4])],
    )
    loop = node("Loop", ["rounds", "", "x"], ["y"], name="loop", body=body)
    return model([loop], [info("x", F32, [4])], [info("y", F32, [4])], {"rounds": np.array(2**60)})


PERTURB = """
from dataclasses import dataclass

import numpy as np

from irc.ir import Tensor, constant_op
from irc.passes import Context, Pass


@dataclass(frozen=True)
class Perturb(Pass, name="perturb"):
    \"\"\"Scale every constant: wrong on purpose.\"\"\"

    factor: float = 2.0

    def run(self, graph, context):
        for op in [op for op in graph if op.is_constant]:
            context.take("perturb")
            scaled = Tensor.from_array(op.value.array * np.float32(self.factor))
            op.result.replace_by(graph.insert(constant_op(scaled, op.location), op).result)
            graph.erase(op)


@dataclass(frozen=True)
class Stumble(Pass, name="stumble"):
    \"\"\"Fail half way.\"\"\"

    def run(self, graph, context):
        context.take("stumble")
        raise RuntimeError("stumbled")
"""


@dataclass(frozen=True)
class Said:
    """What a command line came to."""

    code: int
    out: str
    err: str


class Shell:
    """A folder to run command lines in, in this process."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.python = sys.executable
        self._capture = capture

    def save(self, name: str, message: ModelProto) -> Path:
        """Write a model into the folder."""
        path = self.folder / name
        onnx.save(message, path)
        return path

    def files(self) -> dict[str, bytes]:
        """Every file below the folder with its bytes."""
        return {str(p.relative_to(self.folder)): p.read_bytes() for p in sorted(self.folder.rglob("*")) if p.is_file()}

    def run(self, *arguments: object) -> Said:
        """Run `irc` with these arguments."""
        self._capture.readouterr()
        code = run([str(argument) for argument in arguments])
        said = self._capture.readouterr()
        return Said(code, said.out, said.err)

    def good(self, *arguments: object) -> str:
        """Run `irc`, demand success, and hand back its stdout."""
        said = self.run(*arguments)
        assert said.code == 0, said.err
        return said.out

    def process(self, *arguments: object, **environment: str) -> Said:
        """Run `python -m irc.tools.cli` in a process of its own."""
        command = [sys.executable, "-m", "irc.tools.cli", *map(str, arguments)]
        done = subprocess.run(
            command, cwd=self.folder, env=os.environ | environment, capture_output=True, text=True, check=False
        )
        return Said(done.returncode, done.stdout, done.stderr)
