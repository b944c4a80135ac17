# pyright: basic
"""The test that a rule brings with it: graphs made from its own text, run through it, and judged by its contract.

A complaint is a text that starts with the rule's name; an empty one means that nothing was found.
"""

from __future__ import annotations

from collections.abc import Iterator

from irc.ir import EvaluationError, Graph, ModelError, Op, Value, at, clone_graph, constant_op, infer, verify
from irc.ir.tensors import Tensor
from irc.ir.text import print_graph
from irc.passes import Context, Rewriter, Rule
from irc.passes.language.examples import Example, Inapplicable, make_example
from irc.passes.language.substitute import walk
from irc.passes.language.tree import Number

from .judging import judge
from .meaning import feeds_for

SEEDS = 400
FEWEST = 3


def apply(rule: Rule, graph: Graph) -> int:
    """Run one rule to its fixpoint; how often it fired."""
    context = Context()
    Rewriter(graph, (rule,), context).run()
    verify(graph)
    return context.total


def examples(rule: Rule, enough: int) -> Iterator[tuple[Example, Graph]]:
    """Examples the rule fires on, with what it makes of them; every third has named dims."""
    assert rule.tree is not None
    found = 0
    for seed in range(SEEDS):
        try:
            example = make_example(rule.tree, seed, symbolic=seed % 3 == 2)
        except Inapplicable:
            continue
        after = clone_graph(example.graph)
        if not apply(rule, after):
            continue
        yield example, after
        found += 1
        if found == enough:
            return


def numbers_of(rule: Rule) -> tuple[float, ...]:
    """The numbers in a pattern: a constant that stands for one of them has it rounded to its own dtype."""
    assert rule.tree is not None
    return tuple(float(node.value) for node in walk(rule.tree.pattern) if isinstance(node, Number))


def compare(rule: Rule, before: Graph, after: Graph, sizes: dict[str, int], seed: int) -> tuple[str, int]:
    """Feed both with ordinary and special numbers, and where dims are named with empty tensors.

    What is wrong, and how many of the feeds were judged.
    """
    judged = 0
    plans = [(sizes, False), (sizes, True), (dict.fromkeys(sizes, 1), True), (dict.fromkeys(sizes, 0), False)]
    named = any(not isinstance(d, int) for value in before.inputs for d in value.shape or ())
    for chosen, special in plans if named else plans[:2]:
        feeds = feeds_for(before, chosen, seed, special=special)
        try:
            wrong = judge(before, after, feeds, rule.contract, numbers_of(rule))
        except EvaluationError:
            continue  # these sizes or numbers mean nothing to the graph itself
        if wrong:
            return f"{rule.name}: {wrong}\n{feeds}\n{print_graph(before)}\n{print_graph(after)}", judged
        judged += 1
    return "", judged


def complaint(rule: Rule, enough: int) -> str:
    """What is wrong with a rule on so many examples made from its text."""
    judged = fired = 0
    try:
        for example, after in examples(rule, enough):
            fired += 1
            wrong, more = compare(rule, example.graph, after, example.sizes, fired)
            judged += more
            if wrong:
                return wrong
            if apply(rule, after):
                return f"{rule.name}: it fires again on what it made\n{print_graph(after)}"
    except ModelError as error:
        return f"{rule.name}: {error}"
    if fired < FEWEST:
        return f"{rule.name}: it fires on {fired} of {SEEDS} examples; help it with `sample` or `given`"
    return "" if judged else f"{rule.name}: the reference evaluates none of its examples"


def near_misses(example: Example) -> Iterator[tuple[str, Graph]]:
    """The example with one thing wrong: an inner value used outside, a number a little off, an op in between."""
    order = list(example.graph)
    for op in example.inner:
        copy = clone_graph(example.graph)
        copy.add_output(_twin(copy, order, op).results[0], "also")
        yield f"{op.name} has another user", copy
    for op in example.literals:
        copy = clone_graph(example.graph)
        twin = _twin(copy, order, op)
        array = twin.value.array
        off = array + 1 if twin.value.dtype.is_integer else array * 1.25 + 0.125
        new = copy.insert(constant_op(Tensor.from_array(off.astype(array.dtype), twin.value.dtype), at("off")), twin)
        twin.result.replace_by(new.result)
        yield f"{array} is {off}", copy
    for user, index in example.edges:
        copy = clone_graph(example.graph)
        twin = _twin(copy, order, user)
        between = _between(twin.needed(index))
        if between is not None:
            copy.insert(between, twin)
            twin.set_operand(index, between.result)
            yield f"{between.name} before {user.name}", copy


def _twin(copy: Graph, order: list[Op], op: Op) -> Op:
    return list(copy)[order.index(op)]


def _between(value: Value) -> Op | None:
    dtype = getattr(value.type, "dtype", None)
    if dtype is None:
        return None
    name = "Not" if dtype.text == "bool" else "Neg" if dtype.text[0] in "fi" else None
    return None if name is None else infer.make(name, [value], at("between"))
