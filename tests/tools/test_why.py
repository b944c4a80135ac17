"""`irc why`: the misses that matter most come first, those that no longer matter not at all."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .models import F32, Shell, info, model, node, normal

RULE = """
from irc.passes import No, rule

@rule("Relu", "MatMul")
def never(op, rewrite):
    '''It never applies.'''
    return No(f"{op.name} is not what it looks for")

@rule("Relu")
def only_second(op, rewrite):
    '''It applies to the Relu of a Relu.'''
    inner = op.operand(0).op
    return op.operand(0) if inner is not None and inner.is_a("Relu") else No("its input is no Relu")
"""


@pytest.fixture
def flags(shell: Shell) -> tuple[str, ...]:
    """A model with a small and a large product, and two rules."""
    (shell.folder / "mine.py").write_text(RULE)
    nodes = [
        node("MatMul", ["x", "small"], ["a"], name="small-product"),
        node("Relu", ["a"], ["b"], name="first"),
        node("Relu", ["b"], ["c"], name="second"),
        node("MatMul", ["c", "large"], ["y"], name="large-product"),
    ]
    weights = {"small": normal(4, 4), "large": normal(4, 1000)}
    shell.save("two.onnx", model(nodes, [info("x", F32, ["N", 4])], [info("y", F32, ["N", 1000])], weights))
    return "two.onnx", "--load", "mine.py", "-p", "never, only-second"


def misses(shell: Shell, *arguments: object) -> list[dict[str, Any]]:
    """What `irc why --json` lists."""
    found: Any = json.loads(shell.good("why", *arguments, "--json"))
    return found["misses"]


def test_the_most_expensive_come_first(shell: Shell, flags: tuple[str, ...]) -> None:
    found = misses(shell, *flags)
    assert [(miss["node"], miss["rewrite"]) for miss in found] == [
        ("large-product", "never"),
        ("small-product", "never"),
        ("first", "never"),
        ("first", "only-second"),
    ], "the second Relu is gone, because the other rule matched there in the end"
    assert found[0]["flops"] == 2 * 4 * 1000
    assert found[0]["reason"] == "MatMul is not what it looks for"


def test_sizes_count(shell: Shell, flags: tuple[str, ...]) -> None:
    assert misses(shell, *flags, "--dim", "N=10")[0]["flops"] == 2 * 10 * 4 * 1000


def test_as_a_table(shell: Shell, flags: tuple[str, ...]) -> None:
    lines = shell.good("why", *flags, "--limit", "2").splitlines()
    assert lines[0].split() == ["node", "op", "rewrite", "matched", "FLOPs", "bytes", "why", "not"]
    assert lines[1].split()[:4] == ["large-product", "MatMul", "never", "1"]
    assert lines[3] == "2 of 4; --limit, --node and --rule show others"


def test_one_node_or_one_rule(shell: Shell, flags: tuple[str, ...]) -> None:
    assert {miss["node"] for miss in misses(shell, *flags, "--node", "first")} == {"first"}
    assert {miss["rewrite"] for miss in misses(shell, *flags, "--rule", "only-second")} == {"only-second"}
    assert "'never'" in shell.good("why", *flags[:3], "-p", "cse", "--rule", "never")


def test_a_node_that_is_gone(shell: Shell) -> None:
    assert "'there' is gone" in shell.good("why", "good.onnx", "-O1", "--node", "there")


def test_names_that_do_not_exist(shell: Shell, flags: tuple[str, ...]) -> None:
    node_said, rule_said = shell.run("why", *flags, "--node", "frist"), shell.run("why", *flags, "--rule", "nevr")
    assert (node_said.code, rule_said.code) == (2, 2)
    assert "the model has no node 'frist' (did you mean first?)" in node_said.err
    assert "there is no rewrite 'nevr' (did you mean never?)" in rule_said.err
