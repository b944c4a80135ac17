# pyright: basic
"""Soundness of the catalogue, generated from the rules themselves: what they match, what they must not, and what they keep."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from irc.ir import EvaluationError, Graph, Op, Value, at, clone_graph, constant_op, infer, verify
from irc.ir.tensors import Tensor
from irc.ir.text import print_graph
from irc.passes import Context, Rewriter, Rule
from irc.passes.language.examples import Example, Inapplicable, make_example
from irc.passes.language.substitute import walk
from irc.passes.language.tree import Number
from irc.passes.rules import TOPICS, catalogue

from .judging import judge, narrowest
from .meaning import feeds_for

RULES = [rule for rule in catalogue() if rule.tree is not None]
SEEDS = 400
ENOUGH = 8
MORE = 60


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


def slack(rule: Rule, before: Graph) -> float:
    """How far the sides may be apart in float64: a number that may be a little off is one rounded to its dtype."""
    numbers = [] if rule.tree is None else [node for node in walk(rule.tree.pattern) if isinstance(node, Number)]
    return narrowest(before) if any(number.tolerance for number in numbers) else 1e-9


def check(rule: Rule, before: Graph, after: Graph, sizes: dict[str, int], seed: int) -> int:
    """Feed both with ordinary and special numbers, and where dims are named with empty tensors; how many were judged."""
    judged = 0
    plans = [(sizes, False), (sizes, True), (dict.fromkeys(sizes, 1), True), (dict.fromkeys(sizes, 0), False)]
    named = any(not isinstance(d, int) for value in before.inputs for d in value.shape or ())
    for chosen, special in plans if named else plans[:2]:
        feeds = feeds_for(before, chosen, seed, special=special)
        try:
            complaint = judge(before, after, feeds, rule.contract, slack(rule, before))
        except EvaluationError:
            continue  # these sizes or numbers mean nothing to the graph itself
        assert not complaint, f"{rule.name}: {complaint}\n{feeds}\n{print_graph(before)}\n{print_graph(after)}"
        judged += 1
    return judged


def check_rule(rule: Rule, enough: int) -> None:
    judged = fired = 0
    for example, after in examples(rule, enough):
        fired += 1
        judged += check(rule, example.graph, after, example.sizes, fired)
        context = Context()
        Rewriter(after, (rule,), context).run()
        assert not context.total, f"{rule.name} fires again on what it made\n{print_graph(after)}"
    assert fired >= 3, f"{rule.name} fires on {fired} of {SEEDS} examples; help it with `sample` or `given`"
    assert judged, f"the reference evaluates no example of {rule.name}"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_keeps_what_its_contract_says(rule: Rule) -> None:
    check_rule(rule, ENOUGH)


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_keeps_what_its_contract_says_at_length(rule: Rule) -> None:
    check_rule(rule, MORE)


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


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_near_misses_do_not_match(rule: Rule) -> None:
    """A near miss that fires all the same, because another match is there, must keep the meaning too."""
    missed: set[str] = set()
    for number, (example, _) in enumerate(examples(rule, 4)):
        for what, near in near_misses(example):
            verify(near)
            after = clone_graph(near)
            if not apply(rule, after):
                missed.add(what)
            else:
                check(rule, near, after, example.sizes, number)
    assert missed, f"every near miss of {rule.name} matches"


def test_every_topic_comes_to_an_end() -> None:
    """What all rules made of an example, they leave alone."""
    for topic in TOPICS:
        for rule in topic.rules:
            for _, after in examples(rule, 2) if rule.tree is not None else ():
                Rewriter(after, catalogue(), Context()).run()
                context = Context()
                Rewriter(after, catalogue(), context).run()
                assert not context.total, f"{rule.name}: {dict(context.counts)}\n{print_graph(after)}"


def test_names_are_unique_and_rules_say_what_they_do() -> None:
    names = [rule.name for rule in catalogue()]
    assert len(names) == len(set(names))
    assert not [rule.name for rule in catalogue() if len(rule.doc.split()) < 4]
