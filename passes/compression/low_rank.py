"""Low-rank factorization: one product by a matrix becomes two by thin ones, where that takes fewer multiply-adds.

A matrix W [K, N] is nearly U V with U [K, r] and V [r, N] by its largest singular values, at r (K + N) instead of K N. A
convolution is one of its patches by a matrix: first r filters of its own size, then a 1x1 (Zhang et al., 2016).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from irc.ir import Attribute, DType, Graph, Op, Tensor, UsageError, Value, constant_op, make, types, via

from ..base import Context, Contract, Pass, erase_dead
from ..precision.sites import Site
from .weights import allowed, weights_of

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Factors:
    """W is nearly `left` [K, r] times `right` [r, N]; `error` is the relative distance of the product from W."""

    left: Matrix
    right: Matrix
    error: float


@dataclass(frozen=True)
class LowRank(Pass, name="low-rank", contract=Contract.LOSSY):
    """Make two thin products of one where that saves `share` of its multiply-adds.

    The rank is the smallest with a relative error of the weights (Frobenius norm) within `max-error`; by default any error will
    do, and the rank is the largest that saves the share.
    """

    share: float = 0.25
    max_error: float = 1.0

    def __post_init__(self) -> None:
        """Raises UsageError for an option out of its range."""
        if not 0.0 <= self.share < 1.0:
            raise UsageError(f"share is {self.share}, which nothing can save", hint="give at least 0 and less than 1")
        if not self.max_error > 0.0:
            raise UsageError(f"max-error is {self.max_error}", hint="give a relative error above 0; 1 allows any")

    def run(self, graph: Graph, context: Context) -> None:
        """Each product that becomes two counts as one rewrite."""
        self.factorize(graph, context, {})

    def factorize(self, graph: Graph, context: Context, grams: Mapping[Value, Matrix]) -> None:
        """The same with what is known of the data: `grams` has X^T X [K, K] for the weights of some products.

        For these the factors and the error are those of the product's results (Wang et al., "SVD-LLM", 2024).
        """
        for value, users in weights_of(graph, context).items():
            matrix = matrix_of(users[0]) if len(users) == 1 else None
            if matrix is None or not np.isfinite(matrix).all():
                continue
            factors = factors_of(matrix, self.share, self.max_error, grams.get(value))
            if factors is not None and allowed(self.name, users[0].op, context):
                _replace(users[0], factors, self.name)


def factorize(graph: Graph, share: float = 0.25, max_error: float = 1.0, *, grams: Mapping[Value, Matrix]) -> None:
    """Factorize the weights of a graph in place as `low-rank` does, those in `grams` for the data they meet.

    `grams` maps the weights of a product to X^T X [K, K] of its data X [rows, K]. Raises UsageError for an option out of range.
    """
    LowRank(share, max_error).factorize(graph, Context(), grams)


def matrix_of(site: Site) -> Matrix | None:
    """The weights of a product as a matrix [K, N] in f64; None for batches, groups and transposed filters."""
    tensor = site.weights.constant
    if tensor is None or site.op.name == "ConvTranspose" or site.op.integer("group", 1) != 1:
        return None
    array = tensor.array.astype(np.float64)
    if site.op.name == "Conv":
        return array.reshape(array.shape[0], -1).T
    if array.ndim != 2:
        return None
    return array.T if site.summed_axis == 1 else array


DAMPINGS = tuple(10.0**power for power in range(-6, 0))
"""What is added to the diagonal of G, in units of its mean: the first that is enough."""
EXACT = 1e-7
"""A relative error below which another rank gains nothing in f32."""


def factors_of(matrix: Matrix, share: float, max_error: float, gram: Matrix | None = None) -> Factors | None:
    """The factors that save at least `share` of a product at an error of at most `max_error`; None where there are none."""
    rows, columns = matrix.shape
    most = int((1.0 - share) * rows * columns / (rows + columns))
    most -= most * (rows + columns) >= rows * columns
    if most < 1:
        return None
    root = None if gram is None else _root(gram)
    seen = matrix if root is None else root @ matrix
    values, vectors = _directions(seen if rows <= columns else seen.T)
    energies = np.append(np.cumsum(values[::-1])[::-1], 0.0)  # [r]: what rank r leaves out
    if energies[0] == 0.0:
        return None
    errors = np.sqrt(energies / energies[0])
    enough = max(int(np.argmax(errors <= (EXACT if max_error >= 1.0 else max_error))), 1)
    rank = min(enough, most) if max_error >= 1.0 else enough
    if rank > most:
        return None
    basis, scale = vectors[:, :rank], values[:rank] ** 0.25  # shared by both, so that neither has much larger numbers
    left, right = (basis * scale, (basis / scale).T @ seen) if rows <= columns else (seen @ (basis / scale), (basis * scale).T)
    if root is not None:
        left = np.linalg.solve(root, left).astype(np.float64)
    return Factors(left, right, float(errors[rank]))


def _directions(matrix: Matrix) -> tuple[Matrix, Matrix]:
    """The squared singular values of a wide matrix, the largest first, and its left singular vectors, by those of A A^T."""
    values, vectors = np.linalg.eigh(matrix @ matrix.T)
    return np.maximum(values[::-1], 0.0).astype(np.float64), vectors[:, ::-1].astype(np.float64)


def _root(gram: Matrix) -> Matrix:
    """S with S^T S = G, damped as little as lets it be inverted.

    Of channels that depend on each other G has eigenvalues of zero, and by what its sums were rounded to even lower ones.
    """
    mean = max(float(np.trace(gram)) / len(gram), 1e-30)
    for damping in DAMPINGS:
        try:
            return np.linalg.cholesky(gram.astype(np.float64) + damping * mean * np.eye(len(gram))).T.astype(np.float64)
        except np.linalg.LinAlgError:
            continue
    raise UsageError("what is given as X^T X is none: it has eigenvalues far below zero")


def _replace(site: Site, factors: Factors, name: str) -> None:
    """Two products in front of the op, and away with it."""
    op, location = site.op, via(name, site.op.location)

    def put(new: Op) -> Value:
        assert op.graph is not None
        return op.graph.insert(new, op).results[0]

    def constant(array: Matrix, suffix: str) -> Value:
        label = f"{site.weights.name}.{suffix}" if site.weights.name else ""
        return put(constant_op(Tensor.from_array(array, DType.F32), location, label))

    data, bias = op.needed(0), op.operand(2)
    tail: list[Value | None] = [] if bias is None else [bias]
    if op.name == "MatMul":
        inner = put(make("MatMul", [data, constant(factors.left, "left")], location))
        outer = put(make("MatMul", [inner, constant(factors.right, "right")], location))
    elif op.name == "Gemm":
        first: dict[str, Attribute] = {k: v for k, v in op.attributes.items() if k == "transA"}
        second: dict[str, Attribute] = {k: v for k, v in op.attributes.items() if k in ("alpha", "beta")}
        inner = put(make("Gemm", [data, constant(factors.left, "left")], location, attributes=first))
        outer = put(make("Gemm", [inner, constant(factors.right, "right"), *tail], location, attributes=second))
    else:
        shape = site.weights.shape or ()
        filters = factors.left.T.reshape(-1, *[size for size in shape[1:] if isinstance(size, int)])
        points = factors.right.T.reshape(*factors.right.T.shape, *(1,) * (len(shape) - 2))
        inner = put(make("Conv", [data, constant(filters, "left")], location, attributes=dict(op.attributes)))
        outer = put(make("Conv", [inner, constant(points, "right"), *tail], location))
    outer.name, outer.type = op.result.name, types.merge(outer.type, op.result.type)
    op.result.replace_by(outer)
    erase_dead(op)
