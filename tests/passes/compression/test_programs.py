# pyright: basic
"""Compression of programs that are no networks: nothing breaks, whatever the ops, dtypes and shapes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from irc.ir import Graph, clone_graph
from irc.passes import Contract, PassManager, registry

from ..programs import programs

PIPELINES = (
    "prune-channels", "prune-channels{ranking=global, norm=l1}", "prune-weights{ranking=global}", "prune-weights{pattern=2:4}",
    "low-rank{share=0}", "share-weights{clusters=2}",
)  # fmt: skip


@pytest.mark.parametrize("pipeline", PIPELINES)
@settings(max_examples=25)
@given(graph=programs())
def test_nothing_breaks(pipeline: str, graph: Graph) -> None:
    manager = PassManager(registry().pipeline(pipeline), strictest=Contract.LOSSY, remark=True)
    manager.run(clone_graph(graph))
    assert not manager.failures, manager.failures
