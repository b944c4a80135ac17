"""Running passes with every rewrite checked, as the tests of checking do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from irc.ir import Graph
from irc.passes import Contract, Pass, PassManager, PassRecord, RegionChecker, Rule
from irc.passes.registry import rule_pass


def checked(
    graph: Graph, *passes: Pass | Rule, feeds: Mapping[str, Any] | None = None, strictest: Contract = Contract.REASSOCIATING
) -> tuple[Graph, RegionChecker, list[PassRecord]]:
    """The graph after the passes, each rewrite checked on real `feeds` where they are given; no pass may be rolled back."""
    checker = RegionChecker(lambda _: feeds, "the given inputs")
    pipeline = [rule_pass(each)() if isinstance(each, Rule) else each for each in passes]
    manager = PassManager(pipeline, checker=checker, strictest=strictest)
    result = manager.run(graph)
    assert not manager.failures, [record.failure for record in manager.failures]
    return result, checker, manager.records
