# pyright: basic
"""Soundness of the catalogue, generated from the rules themselves: what they match, what they must not, and what they keep."""

from __future__ import annotations

import pytest

from irc.ir import clone_graph, verify
from irc.ir.text import print_graph
from irc.passes import Context, Rewriter, Rule
from irc.passes.rules import TOPICS, catalogue

from .planted import PLANTED, Planted
from .proving import apply, compare, complaint, examples, near_misses

RULES = [rule for rule in catalogue() if rule.tree is not None]
ENOUGH = 8
MORE = 60


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_keeps_what_its_contract_says(rule: Rule) -> None:
    wrong = complaint(rule, ENOUGH)
    assert not wrong, wrong


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_keeps_what_its_contract_says_at_length(rule: Rule) -> None:
    wrong = complaint(rule, MORE)
    assert not wrong, wrong


@pytest.mark.parametrize("one", PLANTED, ids=lambda one: one.rule.name)
def test_a_planted_rule_is_caught_by_its_own_test(one: Planted) -> None:
    """Its answers are found to be wrong, and not only that it goes on for ever or fires too seldom to tell."""
    wrong = complaint(one.rule, ENOUGH)
    assert wrong.startswith(f"{one.rule.name}: ")
    assert any(word in wrong for word in (" became ", "off by", "differ")), wrong


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
                continue
            wrong, _ = compare(rule, near, after, example.sizes, number)
            assert not wrong, wrong
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
