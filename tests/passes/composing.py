"""Random graphs made of what rules match: examples of several rules, wired into each other, with ordinary ops in between.

A seed is a graph. Where hypothesis' programs (programs.py) seldom hold a whole pattern, these are full of them.
"""

from __future__ import annotations

import random

from irc.ir import Graph, ModelError, Op, TensorType, Value, at, clone_op, infer
from irc.passes.language.examples import Example, Inapplicable, make_example
from irc.passes.rules import catalogue

UNARY = ("Relu", "Neg", "Abs", "Tanh", "Identity", "Sigmoid")
TREES = [rule.tree for rule in catalogue() if rule.tree is not None]
MOST_EXAMPLES = 4


def compose(seed: int) -> tuple[Graph, dict[str, int]]:
    """The graph of a seed, and sizes for its named dims."""
    rng = random.Random(seed)
    graph = Graph(f"seed{seed}")
    sizes: dict[str, int] = {}
    for _ in range(rng.randint(1, MOST_EXAMPLES)):
        example = _example(rng)
        if example is not None and not any(sizes.get(n, s) != s for n, s in example.sizes.items()):
            sizes.update(example.sizes)
            _wire(graph, example.graph, rng)
    _sprinkle(graph, rng)
    _return(graph, rng)
    return graph, sizes


def _example(rng: random.Random) -> Example | None:
    for _ in range(20):
        try:
            return make_example(rng.choice(TREES), rng.randrange(10**6), symbolic=rng.random() < 0.3)
        except Inapplicable:
            continue
    return None


def _wire(graph: Graph, part: Graph, rng: random.Random) -> None:
    """Put the ops of `part` into `graph`; its inputs become values of the same type that are there, or new inputs."""
    mapping: dict[Value, Value] = {}
    for value in part.inputs:
        known = [*graph.inputs, *(r for op in graph if not op.is_constant for r in op.results)]
        fitting = [v for v in known if v.type == value.type]
        if fitting and rng.random() < 0.7:
            mapping[value] = rng.choice(fitting)
        else:
            mapping[value] = graph.add_input(f"x{len(graph.inputs)}", value.type)
    for op in part:
        copy = graph.append(clone_op(op, mapping))
        copy.location = at(f"op{graph.size}")


def _sprinkle(graph: Graph, rng: random.Random) -> None:
    """Give some values another user, and put ops between some values and their users."""
    for op in list(graph):
        if op.is_constant or rng.random() > 0.2:
            continue
        value = rng.choice(op.results)
        if not isinstance(value.type, TensorType) or not value.type.dtype.is_float:
            continue
        made = _unary(rng.choice(UNARY), value)
        if made is None:
            continue
        graph.append(made)
        users = [use for use in value.uses if use.user is not made]
        if rng.random() < 0.4 and users and op.next is not None:
            graph.unlink(made)
            graph.insert(made, op.next)
            for user, index in users:
                if isinstance(user, Op):
                    user.set_operand(index, made.result)


def _unary(name: str, value: Value) -> Op | None:
    try:
        return infer.make(name, [value], at(f"{name}-between"))
    except ModelError:
        return None


def _return(graph: Graph, rng: random.Random) -> None:
    """Return what nobody uses, and now and then something else."""
    for op in graph:
        for result in op.results:
            if not op.is_constant and isinstance(result.type, TensorType) and (not result.uses or rng.random() < 0.05):
                graph.add_output(result, f"y{len(graph.outputs)}")
