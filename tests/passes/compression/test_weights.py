# pyright: basic
"""Weights set to zero, made of two thin matrices, or of few distinct values: which ones, how nearly, and what stays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irc.ir import DType, Graph, Op, UsageError, clone_graph, cost_of, evaluate, save_onnx, verify
from irc.passes import LEVELS, Contract, PassManager, factorize, looked_up, registry
from irc.passes.compression.sharing import cluster, nearest

from ..meaning import feeds_for, nearly_same
from .networks import N, Network, networks


def compressed(graph: Graph, pipeline: str) -> Graph:
    manager = PassManager(registry().pipeline(pipeline), strictest=Contract.LOSSY)
    result = manager.run(clone_graph(graph))
    assert not manager.failures, manager.failures
    return result


def product(*shape: int, rows: int = 3) -> Graph:
    n = Network(rows, shape[0])
    return n.end(n.op("MatMul", n.x, n.weights(*shape)))


def weights(graph: Graph) -> list[np.ndarray]:
    return [op.needed(1).constant.array for op in graph if op.is_a("MatMul", "Gemm", "Conv")]


def distance(first: Graph, second: Graph) -> float:
    feeds = feeds_for(first, {"N": 3}, 0, special=False)
    (a,), (b,) = evaluate(first, feeds), evaluate(second, feeds)
    return float(np.linalg.norm(a - b) / np.linalg.norm(a))


# prune-weights


def test_the_smallest_become_zero() -> None:
    graph = product(8, 6)
    (before,), (after,) = weights(graph), weights(compressed(graph, "prune-weights{share=0.25}"))
    assert (after == 0).sum() == 12
    assert np.abs(before[after == 0]).max() <= np.abs(before[after != 0]).min()
    assert np.array_equal(after[after != 0], before[after != 0])


def test_two_of_four_neighbours_are_kept_along_the_summed_axis() -> None:
    graph = product(10, 3)
    (after,) = weights(compressed(graph, "prune-weights{pattern=2:4}"))
    assert (after[:8].reshape(2, 4, 3) != 0).sum(axis=1).tolist() == [[2, 2, 2]] * 2
    assert after[8:].all()


def test_a_global_ranking_takes_more_of_flatter_layers() -> None:
    n = Network(2, 4)
    x = n.op("MatMul", n.x, n.constant(np.ones((4, 4), np.float32)))
    graph = n.end(n.op("MatMul", x, n.constant(np.diag(np.full(4, 9, np.float32)) + np.float32(0.1))))
    flat, steep = weights(compressed(graph, "prune-weights{share=0.375, ranking=global}"))
    assert flat.all()
    assert (steep != 0).sum() == 4


def test_a_weight_with_other_users_stays() -> None:
    n = Network(4, 4)
    w = n.weights(4, 4)
    graph = n.end(n.op("Add", n.op("MatMul", n.x, w), w))
    for pipeline in ("prune-weights", "low-rank", "share-weights{clusters=2}"):
        assert np.array_equal(weights(compressed(graph, pipeline))[0], w.constant.array)


@pytest.mark.parametrize("options", ["share=1", "pattern=4:2", "pattern=x", "ranking=all"])
def test_options_of_pruning_out_of_range_are_refused(options: str) -> None:
    with pytest.raises(Exception, match="pipeline"):
        registry().pipeline(f"prune-weights{{{options}}}")


# low-rank


def thin(rows: int, columns: int, rank: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal((rows, rank)) @ rng.standard_normal((rank, columns))).astype(np.float32)


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_matrix_of_low_rank_becomes_two(transposed: int) -> None:
    n = Network(N, 12)
    w = thin(12, 10, 2)
    bias = n.constant(np.arange(10, dtype=np.float32))
    graph = n.end(n.op("Gemm", n.x, n.constant(w.T if transposed else w), bias, transB=transposed, alpha=0.5, beta=2.0))
    after = compressed(graph, "low-rank{max-error=1e-3}")
    assert [w.shape for w in weights(after)] == [(12, 2), (2, 10)]
    assert distance(graph, after) < 1e-5


@pytest.mark.parametrize(("size", "strides"), [(1, 1), (3, 2)])
def test_a_convolution_becomes_one_with_fewer_filters_and_a_pointwise_one(size: int, strides: int) -> None:
    n = Network(N, 6, 8, 8)
    w = thin(8, 6 * size * size, 2).reshape(8, 6, size, size)
    graph = n.end(n.op("Conv", n.x, n.constant(w), n.constant(thin(8, 1, 1)[:, 0]), pads=(1,) * 4, strides=(strides,) * 2))
    after = compressed(graph, "low-rank{max-error=1e-3}")
    assert [w.shape for w in weights(after)] == [(2, 6, size, size), (8, 2, 1, 1)]
    assert distance(graph, after) < 1e-5


def test_it_is_done_only_where_operations_are_saved_within_the_error() -> None:
    graph = product(16, 16)
    assert len(weights(compressed(graph, "low-rank{max-error=1e-3}"))) == 1
    assert [w.shape for w in weights(compressed(graph, "low-rank{share=0.5}"))] == [(16, 4), (4, 16)]
    assert len(weights(compressed(graph, "low-rank{share=0.95}"))) == 1


@settings(max_examples=20)
@given(networks(), st.sampled_from(["low-rank{share=0.0}", "low-rank{share=0.4}", "low-rank{max-error=0.3}"]))
def test_operations_only_fall(graph: Graph, pipeline: str) -> None:
    after = compressed(graph, pipeline)
    verify(after)

    def flops(graph: Graph) -> int:
        return sum(cost_of(op).flops for op in graph if op.is_a("Conv", "Gemm", "MatMul"))

    assert flops(after) <= flops(graph)
    evaluate(after, feeds_for(graph, {"N": 3}, 0, special=False))


def test_what_is_known_of_the_data_makes_the_results_nearer() -> None:
    n = Network(64, 16)
    w = n.weights(16, 16)
    graph = n.end(n.op("MatMul", n.x, w))
    rng = np.random.default_rng(1)
    x = (rng.standard_normal((64, 16)) * np.geomspace(100, 0.01, 16)).astype(np.float32)
    informed = clone_graph(graph)
    (site,) = [op.needed(1) for op in informed if op.is_a("MatMul")]
    factorize(informed, 0.5, grams={site: (x.T @ x).astype(np.float64)})
    wanted, blind, seeing = (evaluate(g, {"x": x})[0] for g in (graph, compressed(graph, "low-rank{share=0.5}"), informed))
    assert np.linalg.norm(seeing - wanted) < 0.2 * np.linalg.norm(blind - wanted)


def test_rounded_sums_of_channels_that_depend_on_each_other_are_no_hindrance() -> None:
    n = Network(64, 16)
    graph = n.end(n.op("MatMul", n.x, n.weights(16, 16)))
    x = np.repeat(np.random.default_rng(1).standard_normal((64, 1)), 16, axis=1).astype(np.float32)
    informed = clone_graph(graph)
    (site,) = [op.needed(1) for op in informed if op.is_a("MatMul")]
    gram = (x.T @ x).astype(np.float64) - 1e-3 * np.eye(16)
    assert np.linalg.eigvalsh(gram).min() < 0
    factorize(informed, 0.5, grams={site: gram})
    wanted, seeing = (evaluate(g, {"x": x})[0] for g in (graph, informed))
    assert np.linalg.norm(seeing - wanted) < 1e-3 * np.linalg.norm(wanted)


def test_what_is_no_gram_matrix_is_refused() -> None:
    graph = product(16, 16)
    (site,) = [op.needed(1) for op in graph if op.is_a("MatMul")]
    with pytest.raises(UsageError, match="eigenvalues far below zero"):
        factorize(graph, 0.5, grams={site: -np.eye(16)})


# share-weights


def lookups(graph: Graph) -> list[Op]:
    return [op for op in graph if op.is_a("Gather")]


@pytest.mark.parametrize(("clusters", "dtype"), [(16, DType.U4), (17, DType.U8), (256, DType.U8)])
def test_weights_become_indices_into_a_codebook(clusters: int, dtype: DType) -> None:
    graph = product(32, 32)
    after = compressed(graph, f"share-weights{{clusters={clusters}}}")
    (lookup,) = lookups(after)
    assert lookup.needed(0).shape == (clusters,)
    assert lookup.needed(1).op.needed(0).constant.dtype is dtype
    assert distance(graph, after) < 3 / clusters


def test_a_codebook_survives_the_levels_and_makes_a_small_file(tmp_path) -> None:
    graph = product(128, 128)
    after = PassManager(LEVELS["O2"]).run(compressed(graph, "share-weights"))
    assert len(lookups(after)) == 1
    for name, one in (("before", graph), ("after", after)):
        save_onnx(one, tmp_path / name)
    assert (tmp_path / "after").stat().st_size < (tmp_path / "before").stat().st_size / 6


def test_an_engine_without_codebooks_gets_dense_weights() -> None:
    after = compressed(product(32, 32), "share-weights")
    dense = looked_up(after)
    assert not lookups(dense)
    assert len(lookups(after)) == 1
    assert distance(after, dense) == 0
    assert looked_up(dense) is dense


def test_what_would_not_get_smaller_stays() -> None:
    assert not lookups(compressed(product(2, 4), "share-weights"))


def test_few_values_are_kept_exactly() -> None:
    n = Network(2, 8)
    values = np.array([-2, 0, 0.5, 7], np.float32)
    graph = n.end(n.op("MatMul", n.x, n.constant(values[n.rng.integers(0, 4, (8, 64))])))
    after = compressed(graph, "share-weights")
    assert nearly_same(*(evaluate(g, feeds_for(graph, {}, 0, special=False))[0] for g in (graph, after)))


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=60), st.integers(2, 8))
def test_no_value_is_nearer_to_another_center(values: list[float], count: int) -> None:
    array = np.array(values)
    centers = cluster(array, count)
    assert len(centers) <= count
    assert (np.diff(centers) > 0).all()
    distances = np.abs(array[:, None] - centers)
    assert np.allclose(distances[np.arange(len(array)), nearest(array, centers)], distances.min(axis=1))
