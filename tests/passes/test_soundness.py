"""What every pass must keep, on random programs: bits, signature, locations, known dims; and that it comes to an end."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, note, settings
from hypothesis import strategies as st

from irc.ir import EvaluationError, Graph, TensorType, verify
from irc.ir.clone import clone_graph
from irc.ir.reference import evaluate
from irc.ir.text import print_graph
from irc.passes import LEVELS, PASSES, Contract, Pass, PassManager, op_count

from .identities import IDENTITIES
from .meaning import feeds_for, nearly_same, run, same_bits
from .programs import programs

SIZES = [{"N": 2, "M": 3}, {"N": 0, "M": 1}, {"N": 1, "M": 0}]
PIPELINES: dict[str, tuple[Pass, ...]] = {kind.name: (kind(),) for kind in PASSES} | {n: LEVELS[n] for n in ("O1", "O2")}
LOOSE = {name for kind in PASSES for name, contract, _ in kind.rewrites() if contract > Contract.EXACT}


def origins(graph: Graph) -> set[str]:
    return {origin for op in graph.walk() for origin in op.location.flatten()[0]}


def check(graph: Graph, pipelines: dict[str, tuple[Pass, ...]], special: bool) -> None:
    """Optimize by each pipeline and compare everything with the original."""
    note(print_graph(graph))
    feeds = [feeds_for(graph, sizes, seed, special=special) for seed, sizes in enumerate(SIZES)]
    answers: list[tuple[int, list[object]]] = []
    for index, feed in enumerate(feeds):
        try:
            answers.append((index, evaluate(graph, feed)))
        except EvaluationError:
            continue  # these sizes do not fit each other
    assume(answers)
    for name, passes in pipelines.items():
        optimized, manager = run(graph, passes)
        note(f"after {name}: {dict(manager.totals)}\n{print_graph(optimized)}")
        same = nearly_same if LOOSE & manager.totals.keys() else same_bits
        for index, wanted in answers:
            got = evaluate(optimized, feeds[index])
            assert all(map(same, wanted, got)), f"{name} with {SIZES[index]}: {wanted} became {got}"
        check_frame(graph, optimized)


def check_frame(before: Graph, after: Graph) -> None:
    """The signature, the locations and what was known of the outputs."""
    assert before.input_names == after.input_names
    assert [v.type for v in before.inputs] == [v.type for v in after.inputs]
    assert before.output_names == after.output_names
    assert before.output_types == after.output_types
    assert origins(after) <= origins(before)
    assert all(op.location.flatten()[0] for op in after.walk())
    for old, new in zip(before.outputs, after.outputs, strict=True):
        assert isinstance(old.type, TensorType)
        assert isinstance(new.type, TensorType)
        for a, b in zip(old.type.shape or (), new.type.shape or (), strict=old.type.shape is not None):
            assert a is None or b is not None, f"{old.type} became {new.type}"


@given(programs(), st.booleans())
@settings(max_examples=60)
def test_passes_keep_the_bits(graph: Graph, special: bool) -> None:
    check(graph, PIPELINES, special)


@pytest.mark.slow
@given(programs(largest=16), st.booleans())
@settings(max_examples=600)
def test_levels_keep_the_bits(graph: Graph, special: bool) -> None:
    check(graph, {name: LEVELS[name] for name in ("O1", "O2")}, special)


@given(programs())
@settings(max_examples=100)
def test_a_level_comes_to_an_end(graph: Graph) -> None:
    note(print_graph(graph))
    optimized, _ = run(graph, LEVELS["O2"])
    note(print_graph(optimized))
    again = PassManager(LEVELS["O2"])
    again.run(optimized)
    assert not again.failures
    assert not again.totals


@given(
    programs(),
    st.lists(st.tuples(st.integers(0, 99), st.sampled_from(sorted(IDENTITIES))), min_size=1, max_size=4),
    st.booleans(),
)
@settings(max_examples=60)
def test_inserted_identities_vanish(graph: Graph, places: list[tuple[int, str]], special: bool) -> None:
    """The answers stay, and the graph optimizes to no more ops than it does without them."""
    longer = clone_graph(graph)
    for place, name in places:
        values = [r for op in longer for r in op.results if r.uses and isinstance(r.type, TensorType) and r.shape is not None]
        if values:
            IDENTITIES[name](values[place % len(values)])
    verify(longer)
    check(longer, {"O1": LEVELS["O1"]}, special)
    plain, _ = run(graph, LEVELS["O1"])
    optimized, _ = run(longer, LEVELS["O1"])
    note(print_graph(plain))
    note(print_graph(optimized))
    assert op_count(optimized) <= op_count(plain)
