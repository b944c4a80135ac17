# pyright: basic
"""Channels really go: what is left answers as the original does with zeros where it was cut, and what must stay stays."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irc.ir import Graph, Tensor, Value, clone_graph, constant_op, evaluate, verify
from irc.ir.text import print_graph
from irc.passes import Contract, PassManager, Pruning, grams_wanted, prune_channels, registry

from ..meaning import feeds_for, nearly_same
from .networks import N, Network, networks


def zeroed(graph: Graph, pruning: Pruning) -> Graph:
    """The graph as it was, with zeros in its constants wherever these were cut."""
    graph = clone_graph(graph)
    for op in list(graph):
        cuts = pruning.kept.get(op.results[0].name, {}) if op.is_constant else {}
        if cuts:
            array = op.value.array.copy()
            for axis, kept in cuts.items():
                gone = np.setdiff1d(np.arange(array.shape[axis]), kept)
                array[(slice(None),) * axis + (gone,)] = 0
            zeros = graph.insert(constant_op(Tensor.from_array(array), op.location, op.result.name), op)
            op.result.replace_by(zeros.result)
            graph.erase(op)
    return graph


def assert_pruned_well(graph: Graph, pruned: Graph, pruning: Pruning) -> None:
    verify(pruned)
    feeds = feeds_for(graph, {"N": 3}, 0, special=False)
    for name, wanted, got in zip(
        graph.output_names, evaluate(zeroed(graph, pruning), feeds), evaluate(pruned, feeds), strict=True
    ):
        assert nearly_same(wanted, got), f"output '{name}' was {wanted!r} and is {got!r}"


def prune(graph: Graph, share: float = 0.5, **options) -> tuple[Graph, Pruning]:
    pruned = clone_graph(graph)
    pruning = prune_channels(pruned, share, **options)
    assert_pruned_well(graph, pruned, pruning)
    return pruned, pruning


def sizes(pruning: Pruning) -> list[tuple[int, int]]:
    return [(group.size, len(group.kept)) for group in pruning.groups]


@settings(max_examples=60)
@given(networks(), st.sampled_from([0.3, 0.5, 0.9]), st.sampled_from(["group", "global"]), st.sampled_from([1, 4]))
def test_a_pruned_network_answers_as_one_with_zeros(graph: Graph, share: float, ranking: str, multiple: int) -> None:
    _, pruning = prune(graph, share, ranking=ranking, multiple=multiple)
    assert pruning.flops[1] <= pruning.flops[0]
    assert pruning.parameters[1] < pruning.parameters[0] or not pruning.groups


@settings(max_examples=10)
@given(networks())
def test_pruning_is_deterministic(graph: Graph) -> None:
    copies = [prune(graph)[0] for _ in range(2)]
    assert print_graph(copies[0]) == print_graph(copies[1])


def test_a_residual_ties_what_it_adds() -> None:
    n = Network(N, 3, 8, 8)
    first = n.conv(n.x, 8)
    n.head(n.op("Add", first, n.conv(n.op("Relu", first), 8)))
    _, pruning = prune(n.graph)
    assert sizes(pruning) == [(8, 4)]
    weights = [name for name, cuts in pruning.kept.items() if 0 in cuts]
    assert len({pruning.kept[name][0] for name in weights}) == 1


def test_the_parts_of_a_concat_are_groups_of_their_own() -> None:
    n = Network(N, 3, 8, 8)
    a, b = n.conv(n.x, 4), n.conv(n.x, 6)
    after = n.weights(5, 10, 1, 1)
    n.head(n.op("Conv", n.op("Concat", a, b, axis=1), after))
    _, pruning = prune(n.graph)
    assert sizes(pruning) == [(4, 2), (6, 3), (5, 3)]
    first, second = pruning.groups[0].kept, pruning.groups[1].kept
    assert pruning.kept[after.name][1] == (*first, *(4 + i for i in second))


def test_flattened_channels_go_in_blocks() -> None:
    n = Network(N, 3, 2, 2)
    graph = n.head(n.conv(n.x, 4), flat=True)
    pruned, pruning = prune(graph)
    (rows,) = (cuts[1] for cuts in pruning.kept.values() if 1 in cuts)
    assert rows == tuple(4 * channel + i for channel in pruning.groups[0].kept for i in range(4))
    assert [op.needed(0).shape for op in pruned if op.is_a("Gemm")] == [(N, 8)]


def test_groups_of_a_convolution_go_whole() -> None:
    n = Network(N, 3, 4, 4)
    x = n.conv(n.x, 12, 1)
    graph = n.head(n.conv(x, 8, group=4))
    pruned, _ = prune(graph)
    (grouped,) = (op for op in pruned if op.is_a("Conv") and op.integer("group", 1) > 1)
    assert grouped.integer("group", 1) == 2
    assert grouped.needed(1).shape == (4, 3, 3, 3)


def test_a_depthwise_convolution_passes_channels_through() -> None:
    n = Network(N, 3, 4, 4)
    graph = n.head(n.conv(n.conv(n.x, 6, 1), 6, group=6))
    pruned, pruning = prune(graph)
    assert sizes(pruning) == [(6, 3)]
    assert [op.integer("group", 1) for op in pruned if op.is_a("Conv")] == [1, 3]


def test_the_weakest_channels_go() -> None:
    n = Network(N, 3, 4, 4)
    weight = np.ones((4, 3, 1, 1), np.float32) * np.array([3, 0.1, 2, 0.2], np.float32)[:, None, None, None]
    graph = n.head(n.op("Conv", n.x, n.constant(weight)))
    assert prune(graph)[1].groups[0].kept == (0, 2)
    assert prune(graph, norm="l1")[1].groups[0].kept == (0, 2)


def test_a_batch_normalization_has_a_say_in_what_is_weak() -> None:
    n = Network(N, 3, 4, 4)
    scale = n.constant(np.array([0.1, 5, 0.1, 5], np.float32))
    ones, zeros = n.constant(np.ones(4, np.float32)), n.constant(np.zeros(4, np.float32))
    filters = n.constant(np.ones((4, 3, 1, 1), np.float32))
    graph = n.head(n.op("BatchNormalization", n.op("Conv", n.x, filters), scale, zeros, zeros, ones))
    assert prune(graph)[1].groups[0].kept == (1, 3)


def test_a_global_ranking_cuts_where_least_is_lost() -> None:
    n = Network(N, 3, 4, 4)
    flat = n.constant(np.ones((10, 3, 1, 1), np.float32))
    steep = n.constant(
        np.linspace(0.001, 1, 10, dtype=np.float32)[:, None, None, None] ** 4 * np.ones((1, 10, 1, 1), np.float32)
    )
    x = n.op("Conv", n.op("Conv", n.x, flat), steep)
    graph = n.end(n.op("Conv", x, n.constant(np.ones((2, 10, 1, 1), np.float32))))
    assert sizes(prune(graph, 0.3, ranking="global")[1]) == [(10, 4)]


def test_what_is_kept_can_be_a_multiple() -> None:
    n = Network(N, 3, 4, 4)
    graph = n.head(n.conv(n.conv(n.x, 20), 6))
    assert sizes(prune(graph, 0.5, multiple=8)[1]) == [(20, 16)]


def outputs(n: Network) -> Graph:
    return n.end(n.conv(n.x, 4))


def normalized_over_channels(n: Network) -> Graph:
    x = n.op("Transpose", n.conv(n.x, 4), perm=(0, 2, 3, 1))
    x = n.op("LayerNormalization", x, n.weights(4), axis=-1)
    return n.head(n.op("Transpose", x, perm=(0, 3, 1, 2)))


def chosen_by_softmax(n: Network) -> Graph:
    return n.head(n.op("Softmax", n.conv(n.x, 4), axis=1))


def summed_over_channels(n: Network) -> Graph:
    return n.end(n.op("ReduceSum", n.conv(n.x, 4), n.constant(np.array([1]))))


def of_unknown_op(n: Network) -> Graph:
    return n.head(n.op("CumSum", n.conv(n.x, 4), n.constant(np.array(1))))


def multiplied_with_each_other(n: Network) -> Graph:
    return n.end(n.op("MatMul", n.conv(n.x, 4), n.op("Transpose", n.conv(n.x, 4), perm=(0, 1, 3, 2))))


def taken_by_a_branch(n: Network) -> Graph:
    x = n.conv(n.x, 4)
    branches = [Network(N) for _ in range(2)]
    for branch in branches:
        branch.graph.inputs.clear()
        branch.graph.input_names.clear()
        branch.graph.add_output(branch.op("Relu", x), "z")
    condition = n.op("Greater", n.op("ReduceMax", n.x, keepdims=0), n.constant(np.float32(0)))
    parts = {"then_branch": branches[0].graph, "else_branch": branches[1].graph}
    return n.head(n.op("If", condition, **parts))


STAYING = (
    outputs, normalized_over_channels, chosen_by_softmax, summed_over_channels, of_unknown_op, multiplied_with_each_other,
    taken_by_a_branch,
)  # fmt: skip


@pytest.mark.parametrize("build", STAYING, ids=lambda build: build.__name__)
def test_channels_stay_that_are(build) -> None:
    graph = build(Network(N, 3, 4, 4))
    assert not prune(graph)[1].groups


def test_what_keeps_channels_is_remarked() -> None:
    graph = normalized_over_channels(Network(N, 3, 4, 4))
    manager = PassManager(registry().pipeline("prune-channels"), strictest=Contract.LOSSY, remark=True)
    manager.run(graph)
    first, last = (miss.reason for miss in manager.misses)
    assert re.fullmatch(r"LayerNormalization at layernormalization_\d+ needs all of its channels", first)
    assert last == "the signature has all of its channels"


def test_a_limit_leaves_whole_groups() -> None:
    n = Network(N, 3, 8, 8)
    graph = n.head(n.conv(n.op("Relu", n.conv(n.x, 8)), 6))
    manager = PassManager(registry().pipeline("prune-channels"), strictest=Contract.LOSSY, rewrite_limit=1)
    pruned = manager.run(clone_graph(graph))
    assert not manager.failures
    assert manager.totals == {"prune-channels": 1}
    assert [op.needed(1).shape[0] for op in pruned if op.is_a("Conv")] == [4, 6]


def test_nothing_lossy_runs_unasked() -> None:
    n = Network(N, 3, 8, 8)
    graph = n.head(n.conv(n.x, 8))
    manager = PassManager(registry().pipeline("prune-channels"))
    assert print_graph(manager.run(clone_graph(graph))) == print_graph(graph)


@pytest.mark.parametrize("options", ["share=1", "share=-0.1", "norm=l3", "ranking=all", "multiple=0"])
def test_options_out_of_range_are_refused(options: str) -> None:
    with pytest.raises(Exception, match="pipeline"):
        registry().pipeline(f"prune-channels{{{options}}}")


def test_the_report_is_plain_data() -> None:
    n = Network(N, 3, 8, 8)
    graph = n.head(n.conv(n.x, 8))
    pruning = prune(graph)[1].to_json()
    assert pruning["groups"][0]["size"] == 8
    assert set(pruning) == {"groups", "kept", "flops", "parameters"}


def moments(graph: Graph, feeds: dict[str, np.ndarray]) -> dict[Value, np.ndarray]:
    """X^T X of what each product reads."""
    wanted = grams_wanted(graph)
    shown = clone_graph(graph)
    copies = dict(zip((v for op in graph for v in op.results), (v for op in shown for v in op.results), strict=True))
    while shown.outputs:
        del shown.outputs[-1], shown.output_names[-1], shown.output_types[-1]
    inner = [value for value in wanted if value in copies]
    for index, value in enumerate(inner):
        shown.add_output(copies[value], f"v{index}")
    found: dict[Value, np.ndarray] = {}
    for value, array in zip(inner, evaluate(shown, feeds), strict=True):
        rows = np.moveaxis(array, wanted[value], -1).reshape(-1, array.shape[wanted[value]]).astype(np.float64)
        found[value] = rows.T @ rows
    return found


def test_what_depends_on_others_goes_without_a_loss_when_data_say_so() -> None:
    n = Network(N, 4)
    basis = n.rng.standard_normal((4, 4))
    mixed = np.concatenate([basis, basis @ n.rng.standard_normal((4, 4))], axis=1).astype(np.float32)
    hidden = n.op("MatMul", n.x, n.constant(mixed))
    graph = n.end(n.op("MatMul", hidden, n.weights(8, 3)))
    feeds = {"x": np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)}
    pruned, blind = clone_graph(graph), prune(graph)[0]
    pruning = prune_channels(pruned, 0.5, grams=moments(pruned, feeds))
    verify(pruned)
    (wanted,), (informed,), (uninformed,) = (evaluate(g, feeds) for g in (graph, pruned, blind))
    assert sizes(pruning) == [(8, 4)]
    assert np.linalg.norm(informed - wanted) < 0.02 * np.linalg.norm(uninformed - wanted)


@settings(max_examples=20)
@given(networks())
def test_data_never_make_a_broken_graph(graph: Graph) -> None:
    feeds = feeds_for(graph, {"N": 3}, 1, special=False)
    prune_channels(graph, 0.5, grams=moments(graph, feeds))
    verify(graph)
    assert all(np.isfinite(answer).all() for answer in evaluate(graph, feeds))


def test_moments_of_another_size_are_left_aside() -> None:
    n = Network(N, 3, 4, 4)
    graph = n.head(n.conv(n.conv(n.x, 6), 4))
    grams = {value: np.eye(2) for value in grams_wanted(graph)}
    assert sizes(prune_channels(graph, 0.5, grams=grams)) == [(6, 3), (4, 2)]
