# pyright: basic
"""Work in proportion to the graph: rule visits are counted, never time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from irc.ir import Graph, Op, Tensor, TensorType, Value, at, constant_op, dims, make
from irc.ir.types import DType
from irc.passes import LEVELS, Context, No, PassManager, Rewriter, Rule, op_count
from irc.passes.canonicalize import RULES

SIZE = 20_000


def chain(size: int) -> Graph:
    """Pairs of ops that undo each other, so that everything can go."""
    graph = Graph("chain")
    value = graph.add_input("x", TensorType(DType.F32, (dims.named("N"), 4)))
    for index in range(size // 2):
        for _ in range(2):
            value = graph.append(make("Neg" if index % 2 else "Transpose", [value], at(f"op{index}"))).result
    graph.add_output(value, "y")
    return graph


def tree(size: int) -> Graph:
    """A binary tree of sums over equal leaves, behind identities."""
    graph = Graph("tree")
    x = graph.add_input("x", TensorType(DType.F32, (4,)))
    level: list[Value] = [graph.append(make("Identity", [x], at(f"leaf{i}"))).result for i in range(size // 2)]
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        level = [graph.append(make("Add", [a, b], at("sum"))).result for a, b in pairs] + level[len(level) & ~1 :]
    graph.add_output(level[0], "y")
    return graph


def concats(size: int) -> Graph:
    """Concatenations inside one another, which may not be flattened a part at a time for ever."""
    graph = Graph("concats")
    x = graph.add_input("x", TensorType(DType.F32, (1,)))
    value = x
    for index in range(size):
        value = graph.append(make("Concat", [value, x], at(f"op{index}"), attributes={"axis": 0})).result
    graph.add_output(value, "y")
    return graph


def branches(size: int) -> Graph:
    """Many bodies, each of which sees all that was computed before it."""
    graph = Graph("branches")
    x = graph.add_input("x", TensorType(DType.F32, (4,)))
    condition = graph.add_input("c", TensorType(DType.BOOL, ()))
    for index in range(size // 4):
        bodies = {}
        for name in ("then_branch", "else_branch"):
            body = Graph(name)
            body.add_output(body.append(make("Neg" if name[0] == "t" else "Abs", [x], at(f"{name}{index}"))).result, "out")
            bodies[name] = body
        graph.append(constant_op(Tensor.integers([index]), at(f"c{index}")))
        x = graph.append(make("If", [condition], at(f"if{index}"), attributes=bodies)).result
    graph.add_output(x, "y")
    return graph


@pytest.mark.parametrize("build", [chain, tree, concats, branches])
def test_rules_are_tried_in_proportion_to_the_graph(build: Callable[[int], Graph]) -> None:
    visits = {size: count_visits(build(size)) for size in (SIZE // 8, SIZE)}
    assert visits[SIZE] <= 9 * visits[SIZE // 8]
    assert visits[SIZE] <= 40 * SIZE


def count_visits(graph: Graph) -> int:
    """How often any rule of canonicalize looks at an op."""
    visits = Counter[str]()

    def counted(one: Rule) -> Rule:
        def look(op: Op, rewrite: Rewriter) -> object:
            visits[one.name] += 1
            return one.function(op, rewrite)

        return Rule(one.name, one.roots, one.contract, look)  # type: ignore[arg-type]

    Rewriter(graph, tuple(map(counted, RULES)), Context()).run()
    return visits.total()


@pytest.mark.parametrize(("build", "left"), [(chain, 0), (tree, 30), (branches, SIZE // 4 * 3)])
def test_a_large_graph_goes_through_a_level(build: Callable[[int], Graph], left: int) -> None:
    manager = PassManager(LEVELS["O2"])
    graph = manager.run(build(SIZE))
    assert not manager.failures
    assert op_count(graph) <= left


def test_a_rule_that_never_applies_sees_each_op_once() -> None:
    seen = Counter[Op]()

    def look(op: Op, rewrite: Rewriter) -> No:
        seen[op] += 1
        return No("it is only looked at")

    graph = chain(1000)
    Rewriter(graph, (Rule("look", (), RULES[0].contract, look),), Context()).run()
    assert set(seen.values()) == {1}
    assert len(seen) == 1000
