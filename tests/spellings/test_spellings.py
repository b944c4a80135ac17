# pyright: basic
"""Every spelling in this folder, at O2: it must mean what it meant, and be left with the ops its header asks for.

A file is one captured graph with a header: `source` (what wrote it), `pattern`, `expect` (ops and how many of them an ideal
optimizer leaves), `gone` (ops that leave), `at-most` (ops in all). `hope` is what could be left if the corner case described in
`corner` did not forbid it; nothing is asserted about it. What is not reached yet stands in `not_yet.txt`, a name a line: an
entry that has become true fails, so that the list only ever shrinks.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx.defs
import pytest

from irc.ir import EvaluationError, Graph, TensorType, dims
from irc.ir.clone import clone_graph
from irc.ir.reference import evaluate
from irc.ir.text import parse_graph
from irc.passes import LEVELS, Contract, PassManager, op_count

from ..passes.meaning import Feeds, feeds_for, nearly_same, same_bits

HERE = Path(__file__).parent
FILES = {f"{path.parent.name}/{path.stem}": path for path in sorted(HERE.glob("*/*.irtext"))}
NOT_YET = frozenset(HERE.joinpath("not_yet.txt").read_text(encoding="utf-8").split())
KEYS = {"source", "pattern", "expect", "gone", "at-most", "hope", "corner"}
FEEDS = [(2, 0, False), (3, 1, False), (2, 2, True), (3, 3, True)]
"""Size of named dims, seed, whether with NaN, Inf and denormals."""
HALF_ERROR = 2e-3
"""Relative error in L2 that f16 answers may have, two units of their last place, also where all that was done is exact: the
reference has no f16 kernels for most ops and keeps f32 between two such ops, so that folding one of them changes bits."""


@functools.cache
def header(name: str) -> dict[str, str]:
    """The `// key: text` lines of a file."""
    return dict(re.findall(r"^// ([\w-]+): (.*)$", FILES[name].read_text(encoding="utf-8"), re.MULTILINE))


def counts(text: str) -> dict[str, int]:
    """`Gelu=1, Conv=2` as a dict."""
    pairs = (entry.split("=") for entry in text.split(", ") if entry)
    return {op: int(count) for op, count in pairs}


def words(text: str) -> list[str]:
    return [word for word in text.split(", ") if word]


def graph_of(name: str) -> Graph:
    return parse_graph(FILES[name].read_text(encoding="utf-8"), name=name)


@functools.cache
def optimized(name: str) -> tuple[Graph, Graph, bool]:
    """The graph, what O2 makes of it, and whether all that was done is exact."""
    graph = graph_of(name)
    manager = PassManager(LEVELS["O2"])
    after = manager.run(clone_graph(graph))
    assert not manager.failures, [record.failure for record in manager.failures]
    contracts = {rewrite: contract for one in manager.passes for rewrite, contract, _ in one.rewrites()}
    done = {contracts.get(rewrite, Contract.REASSOCIATING) for rewrite in manager.totals}
    return graph, after, max(done, default=Contract.EXACT) is Contract.EXACT


def shortfalls(name: str) -> list[str]:
    """What the header asks for and O2 does not reach."""
    _, after, _ = optimized(name)
    left = Counter(op.name for op in after.walk() if not op.is_constant)
    asked = header(name)
    wrong = [f"{op}: {left[op]}, not {n}" for op, n in counts(asked.get("expect", "")).items() if left[op] != n]
    wrong += [f"{op}: {left[op]} left" for op in words(asked.get("gone", "")) if left[op]]
    if "at-most" in asked and op_count(after) > int(asked["at-most"]):
        wrong.append(f"{op_count(after)} ops, not at most {asked['at-most']}: {dict(left)}")
    return wrong


def feeds(graph: Graph, size: int, seed: int, special: bool) -> Feeds:
    names = {
        name
        for value in graph.inputs
        if isinstance(value.type, TensorType)
        for dim in value.type.shape or ()
        if isinstance(dim, dims.SymbolicDim)
        for name in dim.names()
    }
    return feeds_for(graph, dict.fromkeys(names, size), seed, special=special)


def close(before: Any, after: Any) -> bool:
    """`nearly_same`, with the error that f16 can promise where the answer is f16."""
    if before.dtype != np.float16 or before.shape != after.shape or after.dtype != before.dtype:
        return nearly_same(before, after)
    finite = np.isfinite(before)
    if not same_bits(np.where(finite, 0, before), np.where(finite, 0, after)):
        return False
    a, b = (np.where(finite, x, 0).astype(np.float64) for x in (before, after))
    return bool(np.linalg.norm(a - b) <= HALF_ERROR * max(float(np.linalg.norm(a)), 1e-4))


def exactly(before: Any, after: Any) -> bool:
    """`same_bits`, but for the sign of zeros: the reference's Where keeps it in its third operand only."""
    zeros = (np.where(x == 0, np.zeros_like(x), x) if x.dtype.kind == "f" else x for x in (before, after))
    return same_bits(*zeros)


def marked() -> list[Any]:
    not_yet = pytest.mark.xfail(strict=True, raises=AssertionError, reason="not recognized yet")
    return [pytest.param(name, marks=[not_yet] if name in NOT_YET else []) for name in FILES]


@pytest.mark.parametrize("name", marked())
def test_recognized(name: str) -> None:
    wrong = shortfalls(name)
    assert not wrong, "\n".join([header(name)["pattern"], *wrong])


@pytest.mark.parametrize("name", FILES)
def test_meaning(name: str) -> None:
    graph, after, exact = optimized(name)
    evaluated = 0
    for size, seed, special in FEEDS:
        given = feeds(graph, size, seed, special)
        try:
            wanted = evaluate(graph, given)
        except EvaluationError:
            continue  # special integers are no indices
        evaluated += 1
        for output, a, b in zip(graph.output_names, wanted, evaluate(after, given), strict=True):
            equal = exactly(a, b) if exact and a.dtype != np.float16 else close(a, b)
            assert equal, f"output '{output}' was {a!r} and is {b!r}"
    assert evaluated, "the reference evaluates it on no feeds"


@pytest.mark.parametrize("name", FILES)
def test_header(name: str) -> None:
    asked = header(name)
    assert {"source", "pattern"} <= asked.keys() <= KEYS
    named = {*counts(asked.get("expect", "")), *counts(asked.get("hope", "")), *words(asked.get("gone", ""))}
    assert not [op for op in named if not onnx.defs.has(op)], "no op of ONNX"
    assert int(asked.get("at-most", "0")) >= sum(counts(asked.get("expect", "")).values()) or "at-most" not in asked


def test_the_list_of_what_is_missing_names_files() -> None:
    assert not NOT_YET - FILES.keys()
