# pyright: basic
"""What two graphs that must mean the same are asked: feeds with special values, and whether the answers have the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from irc.ir import DType, Graph, TensorType, dims
from irc.ir.clone import clone_graph
from irc.ir.reference import evaluate
from irc.passes import Contract, Pass, PassManager

Feeds = dict[str, Any]

FLOATS = np.array([0.0, -0.0, 1.0, -1.5, 2.5, -7.25, 3e-42, np.inf, -np.inf, np.nan])


def feeds_for(graph: Graph, sizes: dict[str, int], seed: int, *, special: bool) -> Feeds:
    """An array for each input without a default; named dims are `sizes` (2 where not given).

    `special` floats include NaN, Inf, -0.0 and denormals, special integers the smallest and the largest; the others are
    small and not negative, so that they may be indices and sizes.
    """
    rng = np.random.default_rng(seed)
    feeds: Feeds = {}
    for name, value in zip(graph.input_names, graph.inputs, strict=True):
        kind = value.type
        assert isinstance(kind, TensorType), name
        shape = [_size(d, sizes) for d in kind.shape or ()]
        if value not in graph.defaults:
            feeds[name] = _array(kind.dtype, shape, rng, special)
    return feeds


def _size(dim: dims.Dim, sizes: dict[str, int]) -> int:
    known = dims.evaluate(dim, {name: sizes.get(name, 2) for name in dim.names()} if isinstance(dim, dims.SymbolicDim) else {})
    return 2 if known is None else known


def _array(dtype: DType, shape: list[int], rng: np.random.Generator, special: bool) -> Any:
    if dtype is DType.BOOL:
        return rng.integers(0, 2, shape).astype(np.bool_)
    if dtype is DType.STR:
        return rng.choice(np.array(["a", "b"], object), shape)
    if dtype.is_float:
        values = rng.choice(FLOATS, shape) if special else rng.standard_normal(shape)
        with np.errstate(all="ignore"):
            return np.asarray(values).astype(dtype.numpy)
    limits = np.iinfo(dtype.numpy.name)
    return (
        rng.choice(np.array([0, 1, limits.max, limits.min], dtype.numpy), shape)
        if special
        else rng.integers(0, 2, shape).astype(dtype.numpy)
    )


def same_bits(first: Any, second: Any) -> bool:
    """Whether two results are equal to the last bit, where any NaN equals any other."""
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(same_bits, first, second))
    if not isinstance(first, np.ndarray) or not isinstance(second, np.ndarray):
        return type(first) is type(second) and bool(first == second)
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    if first.dtype.kind not in "fc":
        return bool(np.array_equal(first, second))
    nan = np.isnan(first)
    if not np.array_equal(nan, np.isnan(second)):
        return False
    return np.where(nan, 0, first).tobytes() == np.where(nan, 0, second).tobytes()


def nearly_same(first: Any, second: Any) -> bool:
    """Whether the relative difference in L2 is at most 1e-5, and NaN and Inf stand in the same places."""
    if same_bits(first, second):
        return True
    if first.dtype != second.dtype or first.shape != second.shape or first.dtype.kind != "f":
        return False
    finite = np.isfinite(first)
    if not same_bits(np.where(finite, 0, first), np.where(finite, 0, second)):
        return False
    a, b = (np.where(finite, x, 0).astype(np.float64) for x in (first, second))
    return bool(np.linalg.norm(a - b) <= 1e-5 * max(float(np.linalg.norm(a)), 1e-30))


def run(graph: Graph, passes: tuple[Pass, ...]) -> tuple[Graph, PassManager]:
    """A copy of the graph optimized, and its manager; a rollback fails the test."""
    manager = PassManager(passes)
    optimized = manager.run(clone_graph(graph))
    assert not manager.failures, [record.failure for record in manager.failures]
    return optimized, manager


def assert_same_meaning(before: Graph, after: Graph, feeds: Feeds, strictest: Contract = Contract.EXACT) -> list[Any]:
    """Evaluate both and compare, to the bit where the contract is exact; the answers of the first."""
    wanted, got = evaluate(before, feeds), evaluate(after, feeds)
    equal = same_bits if strictest is Contract.EXACT else nearly_same
    for name, a, b in zip(before.output_names, wanted, got, strict=True):
        assert equal(a, b), f"output '{name}' was {a!r} and is {b!r}"
    return wanted
