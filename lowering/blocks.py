"""A graph that maps over a dim, as graphs of fixed sizes: what is shared by all entries, and what is done for some at a time.

Law: run on the entries of a dim in order, those of as many as a graph is for at a time, the graphs give what the whole does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from irc.ir import (
    Graph,
    ModelError,
    Op,
    Tensor,
    TensorType,
    UnsupportedError,
    Value,
    clone_graph,
    clone_op,
    constant_op,
    dims,
    specialize,
)
from irc.passes import operands_of

from .engine import YES, Blockwise, Engine, Particular, Verdict
from .mapping import Hindrance, Mapped, mapping_of, open_dims
from .targets import Target


@dataclass(frozen=True)
class Part:
    """A graph for so many `entries` at a time, 0 for what is done once; and the op of the whole that each of its ops is."""

    graph: Graph
    entries: int
    origin: Mapping[Op, Op]


@dataclass(frozen=True)
class Parts:
    """The graphs of a whole, in the order in which they run; `kept` are its values that the first makes for the others.

    A value has one name in all of them. The inputs and outputs called in `counting` have entries, on their first axis.
    """

    whole: Graph
    parts: tuple[Part, ...]
    kept: Mapping[str, Value] = field(default_factory=dict[str, Value])
    counting: frozenset[str] = frozenset()


def undivided(graph: Graph) -> Parts:
    """A graph all sizes of which are known, in one part."""
    return Parts(graph, (Part(graph, 1, {op: op for op in graph.walk()}),))


def divided(graph: Graph, mapped: Mapped, sizes: Sequence[int]) -> Parts:
    """The parts of a graph that maps, for blocks of `sizes` entries, the largest first and one of 1 at last."""
    early, late = _halves(graph, mapped)
    kept = {value: f"irc:kept:{index}" for index, value in enumerate(_crossing(early, late))}
    outputs = list(zip(graph.outputs, graph.output_names, strict=True))
    once = [(value, name) for value, name in outputs if mapped.is_shared(value)]
    parts: list[Part] = []
    if kept or once:
        parts.append(_extracted(graph, early, {}, [*once, *kept.items()], ()))
    counting = [value for value in graph.inputs if value in mapped.axes]
    rest = _extracted(graph, late, kept, [pair for pair in outputs if pair not in once], counting)
    parts += [_sized(rest, mapped.name, size) for size in sizes]
    _check_sizes(parts)
    names = [*zip(graph.inputs, graph.input_names, strict=True), *outputs]
    return Parts(
        graph,
        tuple(parts),
        {name: value for value, name in kept.items()},
        frozenset(name for value, name in names if value in mapped.axes),
    )


def _check_sizes(parts: Sequence[Part]) -> None:
    """Raises UnsupportedError where an output of a block has not its entries: a model may declare what is not so."""
    *blocks, one = (part.graph for part in parts if part.entries)
    for size, graph in zip((part.entries for part in parts if part.entries), blocks, strict=False):
        for name, value, single in zip(graph.output_names, graph.outputs, one.outputs, strict=True):
            first, *others = single.shape or (None,)
            if not isinstance(first, int) or value.shape != (first * size, *others):
                reason = f"output '{name}' is {value.type} for {size} entries and {single.type} for one"
                raise UnsupportedError(reason, hint="compile it for one size, with --dim")


def at_size(graph: Graph, mapped: Mapped, entries: int) -> Part:
    """All of a graph that maps, for so many entries."""
    return _sized(Part(graph, 1, {op: op for op in graph.walk()}), mapped.name, entries)


def touched_by_entry(graph: Graph) -> int:
    """The most bytes that an op takes and makes where every open dim is 1, constants left out."""
    names = dict.fromkeys(open_dims(graph), 1)

    def size(value: Value) -> int:
        kind = value.type
        if not isinstance(kind, TensorType) or value.constant is not None:
            return 0
        return kind.dtype.byte_count(prod(dims.evaluate(dim, names) or 1 for dim in kind.shape or ()))

    return max((sum(size(v) for v in (*op.operands, *op.results) if v is not None) for op in graph), default=0)


def taker(graph: Graph, engine: Engine, target: Target) -> Callable[[Op], Verdict]:
    """What an engine says of each op of a graph; one that takes known sizes only is asked about its blocks."""
    blocks = _in_blocks(graph, engine, target)
    if blocks and not isinstance(blocks, Hindrance):
        verdicts: dict[Op, Verdict] = {}
        for block in blocks:
            for own, op in block.origin.items():
                verdicts[op] = verdicts.get(op, YES) and engine.takes(own, target)
        return lambda op: verdicts.get(op, YES)  # what is constant there needs no computing

    def take(op: Op) -> Verdict:
        verdict = engine.takes(op, target)
        explained = blocks and not verdict and _is_open(op)
        return Verdict(f"{verdict.reason}, and they are not computed entry by entry: {blocks}") if explained else verdict

    return take


def takes_signature(graph: Graph, engine: Engine, target: Target) -> Verdict:
    """What an engine says of the inputs and outputs of a graph; one that takes known sizes only, of those of a block."""
    if not isinstance(engine, Particular):
        return YES
    blocks = _in_blocks(graph, engine, target)
    return engine.takes_signature(blocks[0].graph if blocks and not isinstance(blocks, Hindrance) else graph)


def _in_blocks(graph: Graph, engine: Engine, target: Target) -> list[Part] | Hindrance | None:
    """All of a graph for each block of an engine, or why it has none; None where sizes are known, or any will do."""
    sizes = block_sizes(graph, engine, target)
    mapped = mapping_of(graph) if sizes else None
    if not isinstance(mapped, Mapped):
        return mapped
    try:
        return [at_size(graph, mapped, size) for size in sizes]
    except UnsupportedError as error:
        return Hindrance(error.message)


def block_sizes(graph: Graph, engine: Engine, target: Target) -> Sequence[int]:
    """How many entries an engine computes at a time; none of one that takes any size, or known ones only."""
    return engine.block_sizes(graph, target) if isinstance(engine, Blockwise) else ()


def _is_open(op: Op) -> bool:
    return any(
        not isinstance(dim, int) for value in (*op.operands, *op.results) if value is not None for dim in value.shape or ()
    )


def _halves(graph: Graph, mapped: Mapped) -> tuple[list[Op], list[Op]]:
    """The ops that nothing with entries is behind, and the others; constants are in neither."""
    behind = {*mapped.axes, *mapped.sizes}
    early: list[Op] = []
    late: list[Op] = []
    for op in (each for each in graph if not each.is_constant):
        is_late = any(value in behind for value in operands_of(op))
        (late if is_late else early).append(op)
        if is_late:
            behind.update(op.results)
    return early, late


def _crossing(early: Iterable[Op], late: Iterable[Op]) -> list[Value]:
    """What the early ops make and the late ones take, in order."""
    made = {result for op in early for result in op.results}
    return list(dict.fromkeys(value for op in late for value in operands_of(op) if value in made))


def _extracted(
    graph: Graph,
    ops: Sequence[Op],
    given: Mapping[Value, str],
    outputs: Iterable[tuple[Value, str]],
    needed: Iterable[Value],
) -> Part:
    """Some ops of a graph, with values that are `given` by name beside the inputs; those `needed` are inputs in any case."""
    copy, mapping, origin = Graph(graph.name), dict[Value, Value](), dict[Op, Op]()
    copy.opsets, copy.metadata = dict(graph.opsets), dict(graph.metadata)
    returned = list(outputs)
    used = {*needed, *(value for op in ops for value in operands_of(op)), *(value for value, _ in returned)}
    for value, name in (*zip(graph.inputs, graph.input_names, strict=True), *given.items()):
        if value in used:
            mapping[value] = copy.add_input(name, value.type)
            mapping[value].name, mapping[value].content = value.name, value.content
    for op in (*(each for each in graph if each.is_constant and each.result in used), *ops):
        own = copy.append(clone_op(op, mapping))
        origin.update(zip(_whole(own), _whole(op), strict=True))
    for value, name in returned:
        copy.add_output(mapping[value], name)
    return Part(copy, 0, origin)


def _whole(op: Op) -> list[Op]:
    return [op, *(each for body in op.bodies for each in body.walk())]


def _sized(part: Part, name: str, entries: int) -> Part:
    """A copy for so many entries, in which shapes that follow from that are constants."""
    copy = clone_graph(part.graph)
    origin = {own: part.origin[op] for own, op in zip(copy.walk(), part.graph.walk(), strict=True)}
    try:
        specialize(copy, {name: entries}, {})
    except ModelError as error:  # which operands fit each other may depend on the size
        raise UnsupportedError(f"the model does not take {name}={entries}: {error.message}") from error
    for op in copy:
        known = None if op.is_constant or len(op.results) != 1 else _known(op.result)
        if known is not None:
            constant = copy.insert(constant_op(known, op.location, op.result.name), op)
            op.result.replace_by(constant.result)
            copy.erase(op)
    return Part(copy, entries, origin)


def _known(value: Value) -> Tensor | None:
    """What a small tensor of integers always holds, where inference knows it."""
    kind, content = value.type, value.content
    numbers = [each for each in content or () if isinstance(each, int)]
    if content is None or len(numbers) != len(content) or not isinstance(kind, TensorType) or kind.static_shape is None:
        return None
    return Tensor.from_array(np.array(numbers, kind.dtype.numpy).reshape(kind.static_shape), kind.dtype)


__all__ = ["Part", "Parts", "at_size", "block_sizes", "divided", "taker", "takes_signature", "undivided"]
