# pyright: basic
"""How many weights a model multiplies with, and how many bytes its embeddings take, to judge a file by the weight.

An embedding is a table that rows are gathered from. A matrix that is multiplied with counts once, also where it is moved
before; one that is an embedding at the same time is counted apart: some files hold it twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import onnx

MOVING = ("Identity", "Transpose", "Reshape", "Cast")
MULTIPLYING = ("MatMul", "Gemm", "Conv", "ConvTranspose")
LEAST_BYTES = 0.5
"""What a weight takes in 4 bits, without its share of a scale."""


@dataclass(frozen=True)
class Weighed:
    """Bytes of embeddings as they are, weights that are multiplied with only, and those that are embeddings, too."""

    embeddings: int
    weights: int
    tied: int

    def bytes_of_a_weight(self, stored: int) -> float:
        """Bytes of a file for each weight beyond embeddings, everything else in the file counted in.

        Tied weights count where what is stored has room for them a second time.
        """
        beyond = stored - self.embeddings
        apart = beyond >= LEAST_BYTES * (self.weights + self.tied)
        return beyond / (self.weights + (self.tied if apart else 0))


def weigh(path: Path) -> Weighed:
    """The weights of an ONNX file, its external data left alone."""
    graph = onnx.load(path, load_external_data=False).graph
    sizes = {each.name: _elements(each.dims) for each in graph.initializer if len(each.dims) > 1}
    comes_from = {name: name for name in sizes}
    multiplied: set[str] = set()
    gathered: set[str] = set()
    for node in graph.node:  # in topological order
        origins = [comes_from.get(name, "") for name in node.input]
        if node.op_type in MOVING and origins[0]:
            comes_from[node.output[0]] = origins[0]
        elif node.op_type in MULTIPLYING:
            multiplied.update(each for each in origins[:2] if each)
        elif node.op_type == "Gather" and origins[0]:
            gathered.add(origins[0])
    floats = {each.name for each in graph.initializer if each.data_type == onnx.TensorProto.FLOAT}
    tables = gathered & floats
    return Weighed(
        embeddings=4 * sum(sizes[each] for each in tables),
        weights=sum(sizes[each] for each in multiplied & floats - tables),
        tied=sum(sizes[each] for each in multiplied & tables),
    )


def _elements(dims: Iterable[int]) -> int:
    count = 1
    for dim in dims:
        count *= dim
    return count
