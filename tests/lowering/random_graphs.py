"""Graphs of random ops on inputs with entries: of some the entries stay apart, of others they do not."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from irc.ir import DType, Graph, ModelError, Tensor, TensorType, Value, at, constant_op, dims, make

Feeds = dict[str, np.ndarray]


class RandomGraph:
    """A graph of random ops on inputs of which two have entries, and one has not."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.graph = Graph()
        batch = dims.named("N")
        shapes: dict[str, Any] = {"x": (batch, 2, 3), "z": (batch, 3), "s": (3, 2)}
        self.values = [self.graph.add_input(name, TensorType(DType.F32, shape)) for name, shape in shapes.items()]
        for _ in range(self.random.randint(1, 9)):
            self._step()
        outputs = dict.fromkeys([self.values[-1], self.random.choice(self.values)])
        for index, value in enumerate(outputs):
            self.graph.add_output(value, f"y{index}")

    def _integers(self, *numbers: int) -> Value:
        return self.graph.append(constant_op(Tensor.integers(numbers), at("c"))).result

    def _step(self) -> None:
        chance = self.random
        value, other = chance.choice(self.values), chance.choice(self.values)
        if chance.random() < 0.5:
            other = chance.choice([each for each in self.values if (each.shape or ())[-1:] == (value.shape or ())[-1:]])
        rank = len(value.shape or ())
        axis = chance.randrange(max(rank, 1))
        order = chance.sample(range(rank), rank)
        targets = [(0, -1), (-1, 3), (-1,), (0, 0, -1), (3, -1), (1, 0, -1), (0, 1, -1)]
        choices: list[tuple[str, tuple[Value | tuple[int, ...], ...], dict[str, Any]]] = [
            ("Sigmoid", (), {}),
            ("Add", (other,), {}),
            ("Mul", (other,), {}),
            ("MatMul", (other,), {}),
            ("MatMul", (other,), {}),
            ("Transpose", (), {"perm": tuple(order)}),
            ("Transpose", (), {"perm": tuple(order)}),
            ("Reshape", (chance.choice(targets),), {}),
            ("Reshape", (chance.choice(targets),), {}),
            ("Concat", (other,), {"axis": axis}),
            ("Softmax", (), {"axis": axis}),
            ("ReduceSum", ((axis,),), {"keepdims": chance.randint(0, 1)}),
            ("ReduceMax", ((axis,),), {"keepdims": chance.randint(0, 1)}),
            ("Gather", ((1, 0, 1),), {"axis": axis}),
            ("Slice", ((0,), (chance.choice([2, 2**63 - 1]),), (axis,)), {}),
            ("Slice", ((1,), (2**63 - 1,), (axis,)), {}),
            ("Unsqueeze", ((axis,),), {}),
            ("Squeeze", ((axis,),), {}),
            ("Tile", (tuple(chance.choice([1, 1, 2]) for _ in range(rank)),), {}),
            ("CumSum", ((axis,),), {}),
            ("LayerNormalization", (other,), {"axis": axis}),
            ("Pad", (tuple(chance.choice([0, 0, 1]) for _ in range(2 * rank)),), {}),
            ("Flatten", (), {"axis": axis}),
            ("Einsum", (other,), {"equation": chance.choice(["nij,nj->ni", "nij,jk->nik", "ni,nj->nij", "nij,jk->kn"])}),
        ]
        name, rest, attributes = chance.choice(choices)
        operands: list[Value | None] = [value, *(each if isinstance(each, Value) else self._integers(*each) for each in rest)]
        try:
            op = make(name, operands, at(name), attributes=attributes)
        except ModelError:
            return
        shape = op.result.shape
        if shape is None or None in shape:
            op.drop_operands()
            return
        self.values.append(self.graph.append(op).result)

    def feeds(self, entries: int) -> Feeds:
        """Numbers for so many entries."""
        numbers = np.random.default_rng(entries)
        shapes = {"x": (entries, 2, 3), "z": (entries, 3), "s": (3, 2)}
        return {name: numbers.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
