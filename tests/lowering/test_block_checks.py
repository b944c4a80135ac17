"""A program that computes entries in blocks is compared with the reference on a whole block and what is left over, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from irc.ir import Graph
from irc.ir.text import parse_graph
from irc.lowering import find_target
from irc.lowering.block_checks import at_block_sizes
from irc.lowering.verification import Probe, check, probe_of

HERE = find_target("cpu")


@dataclass(frozen=True)
class InBlocks:
    """An engine that computes so many entries at a time."""

    sizes: tuple[int, ...] = (4, 1)

    def block_sizes(self, graph: Graph, target: Any) -> tuple[int, ...]:
        """The same for any graph."""
        return self.sizes


FOUR: Any = InBlocks()


def graph(op: str = "Add(%x, %s)") -> Graph:
    return parse_graph(f"graph @main(%x: f32[N,3], %s: f32[3]) -> (%y: f32[N,3]) {{\n  %y = {op}\n  return %y\n}}")


def probed(examples: dict[str, Any] | None = None, engine: Any = FOUR, of: Graph | None = None) -> Probe:
    own = of or graph()
    probe = at_block_sizes(probe_of(own, None, examples), own, own, [engine], HERE)
    assert isinstance(probe, Probe)
    return probe


def fed(entries: int) -> dict[str, Any]:
    return {"x": np.arange(3 * entries, dtype=np.float32).reshape(entries, 3), "s": np.ones(3, np.float32)}


def test_made_up_inputs_have_a_block_and_one_entry_beside_two_entries() -> None:
    probe = probed()
    (more,) = probe.more
    assert (probe.feeds["x"].shape, more.feeds["x"].shape) == ((2, 3), (5, 3))
    np.testing.assert_array_equal(more.feeds["s"], probe.feeds["s"])
    np.testing.assert_array_equal(more.answers[0], more.feeds["x"] + more.feeds["s"])


def test_given_inputs_are_repeated_unless_they_have_both_already() -> None:
    (more,) = probed(fed(2)).more
    np.testing.assert_array_equal(more.feeds["x"], fed(2)["x"][[0, 1, 0, 1, 0]])
    assert not probed(fed(6)).more
    assert probed(fed(8)).more


def test_nothing_is_added_without_blocks() -> None:
    assert not probed(engine=InBlocks((1,))).more
    assert not probed(engine=InBlocks(())).more
    assert not probed(engine=object()).more
    assert not probed(of=graph("Softmax(%x) {axis=0}")).more


def test_a_program_that_is_wrong_in_whole_blocks_only_is_found_out() -> None:
    class Wrong:
        def run(self, feeds: dict[str, Any]) -> dict[str, Any]:
            y = feeds["x"] + feeds["s"]
            return {"y": y if len(y) < 4 else y[::-1]}

    program: Any = Wrong()
    probe = probed()
    assert not check(program, graph(), probe).agrees
    assert check(program, graph(), Probe(probe.feeds, probe.answers)).agrees
