"""Fused regions: what an engine that takes regions runs as one kernel, without writing the values inside to memory.

A region is a contraction with its epilogue, a reduction with its producers and its epilogue, or a chain of elementwise ops.
Laws: a region is convex (no path leaves it and comes back), nothing in it is computed twice, and taking it apart gives back
the very ops it was made of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from irc.ir import Graph, Op, TensorType, Value, clone_graph, clone_op, dialect, schema, via

from .base import Context, Contract, Pass


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


ELEMENTWISE = _names(
    "Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast Ceil Celu Clip Cos"
    " Cosh Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish IsInf IsNaN LeakyRelu Less LessOrEqual"
    " Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus"
    " Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor"
)
"""Ops each element of whose result depends on one element of each operand only."""
REDUCTIONS = _names(
    "LayerNormalization LogSoftmax LpNormalization RMSNormalization ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax"
    " ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Softmax"
)
CONTRACTIONS = _names("Conv ConvTranspose Gemm MatMul")
FARTHEST = 256
"""How many ops a search for a path around a region may visit; beyond that the op stays outside."""


@dataclass(eq=False)
class _Region:
    """A region in the making: its ops in order, and the op it is built around, if any."""

    ops: dict[Op, None] = field(default_factory=dict[Op, None])
    anchor: Op | None = None

    @property
    def kind(self) -> str:
        """What it is built around."""
        if self.anchor is None:
            return "elementwise"
        return "contraction" if self.anchor.name in CONTRACTIONS else "reduction"


@dataclass(frozen=True)
class Fuse(Pass, name="fuse", contract=Contract.EXACT):
    """Gather elementwise chains, reductions with their producers, and contractions with their epilogues into regions."""

    largest: int = 32

    def run(self, graph: Graph, context: Context) -> None:
        """Grow regions forwards op by op, in the graph and in each body."""
        for block in list(graph.graphs()):
            if block.owner is not None and dialect.is_fused(block.owner):
                continue
            regions = list(_Grower(block, self.largest).regions())
            for region in regions:
                context.take(self.name)
                outline(region.ops, region.kind, self.name)
            if regions:
                _sort(block)


@dataclass(frozen=True)
class Unfuse(Pass, name="unfuse", contract=Contract.EXACT):
    """Take fused regions apart again."""

    def run(self, graph: Graph, context: Context) -> None:
        """Put the ops of every region in its place."""
        for op in [op for op in graph.walk() if dialect.is_fused(op)]:
            context.take(self.name)
            inline(op)


class _Grower:
    """Assigns the ops of one block to regions."""

    def __init__(self, graph: Graph, largest: int) -> None:
        self.graph = graph
        self.largest = largest
        self.region_of: dict[Op, _Region] = {}
        self.order = {op: number for number, op in enumerate(graph)}

    def regions(self) -> Iterator[_Region]:
        """The regions worth making: those of at least two ops."""
        for op in self.graph:
            if op.domain or op.version is not None or not _has_static_form(op):
                continue
            if op.name in CONTRACTIONS:
                self._start(op, anchor=True)
            elif op.name in REDUCTIONS:
                self._reduce(op)
            elif op.name in ELEMENTWISE:
                self._extend(op)
        done: dict[_Region, None] = dict.fromkeys(self.region_of.values())
        return (region for region in done if len(region.ops) > 1)

    def _start(self, op: Op, *, anchor: bool) -> _Region:
        region = _Region({op: None}, op if anchor else None)
        self.region_of[op] = region
        return region

    def _reduce(self, op: Op) -> None:
        """A reduction takes in the elementwise chain of its first operand, if only it uses that."""
        maker = op.needed(0).op
        region = None if maker is None else self.region_of.get(maker)
        if maker is None or region is None or region.anchor is not None or not _only_used_by(maker, {op}):
            self._start(op, anchor=True)
            return
        if self._admits(region, op):
            region.ops[op] = None
            region.anchor = op
            self.region_of[op] = region
        else:
            self._start(op, anchor=True)

    def _extend(self, op: Op) -> None:
        """An elementwise op joins the regions of its operands that give its shape, nearest first."""
        home: _Region | None = None
        makers = {value.op: value for value in op.operands if value is not None and value.op is not None}
        for maker, value in sorted(makers.items(), key=lambda pair: -self.order.get(pair[0], 0)):
            region = self.region_of.get(maker)
            if region is None or region is home or not _same_shape(value, op.result):
                continue
            if region.anchor is maker and not _only_used_by(maker, {op}):
                continue
            if home is None:
                if self._admits(region, op):
                    region.ops[op] = None
                    self.region_of[op] = home = region
            elif region.anchor is None and home.anchor is None and self._may_merge(home, region):
                self._merge(home, region)
        if home is None:
            self._start(op, anchor=False)

    def _admits(self, region: _Region, op: Op) -> bool:
        """Whether `op` may join: there is room, and none of its other operands depends on the region."""
        if len(region.ops) >= self.largest:
            return False
        outside = (v.op for v in op.operands if v is not None and v.op is not None and v.op not in region.ops)
        return not self._depends(outside, region.ops)

    def _may_merge(self, first: _Region, second: _Region) -> bool:
        if len(first.ops) + len(second.ops) > self.largest:
            return False
        return not self._depends(_sources(first), second.ops) and not self._depends(_sources(second), first.ops)

    def _merge(self, home: _Region, other: _Region) -> None:
        ordered = sorted((*home.ops, *other.ops), key=self.order.__getitem__)
        home.ops = dict.fromkeys(ordered)
        for op in other.ops:
            self.region_of[op] = home

    def _depends(self, starts: Iterable[Op], region: dict[Op, None]) -> bool:
        """Whether a path leads from the region to an op outside it among `starts`; yes, when that is too far to see."""
        earliest = min(self.order[op] for op in region)
        pending = [op for op in starts if op not in region]
        seen: set[Op] = set(pending)
        while pending:
            op = pending.pop()
            if self.order.get(op, -1) < earliest:
                continue
            for value in (*op.operands, *(v for body in op.bodies for v in body.captures())):
                maker = None if value is None else value.op
                if maker is None or maker in seen:
                    continue
                if maker in region:
                    return True
                seen.add(maker)
                pending.append(maker)
            if len(seen) > FARTHEST:
                return True
        return False


def _sources(region: _Region) -> Iterator[Op]:
    for op in region.ops:
        for value in op.operands:
            if value is not None and value.op is not None and value.op not in region.ops:
                yield value.op


def _only_used_by(maker: Op, users: set[Op]) -> bool:
    return all(use.user in users for result in maker.results for use in result.uses)


def _same_shape(a: Value, b: Value) -> bool:
    return a.shape is not None and a.shape == b.shape and all(dim is not None for dim in a.shape)


def _has_static_form(op: Op) -> bool:
    """Whether an op has one tensor result in use, no bodies, and gives the same for the same."""
    if op.bodies or op.is_constant or any(result.uses for result in op.results[1:]) or not schema.is_deterministic(op):
        return False
    return isinstance(op.results[0].type, TensorType)


def outline(ops: Iterable[Op], kind: str, by: str) -> Op:
    """Make one region of ops of one block, given in order; it takes the place of the last of them. Small constants go along."""
    inside = dict.fromkeys(ops)
    last = next(reversed(inside))
    graph = last.graph
    assert graph is not None
    body = Graph("region")
    mapping: dict[Value, Value] = {}
    operands: list[Value] = []
    for op in inside:
        for value in op.operands:
            if value is None or value in mapping or value.op in inside:
                continue
            if value.constant is not None and value.constant.size == 1:
                assert value.op is not None
                body.append(clone_op(value.op, mapping))
            else:
                mapping[value] = body.add_input(value.name or f"x{len(operands)}", value.type)
                mapping[value].content = value.content
                operands.append(value)
        body.append(clone_op(op, mapping))
    _unique_inputs(body)
    results = [r for op in inside for r in op.results if any(use.user not in inside for use in r.uses)]
    for number, result in enumerate(results):
        body.add_output(mapping[result], f"y{number}")
    location = via(by, *(op.location for op in inside))
    region = graph.insert(dialect.fused(body, operands, kind, location), last)
    for old, new in zip(results, region.results, strict=True):
        new.content = old.content
        old.replace_by(new)
    for op in reversed(inside):
        graph.erase(op)
    return region


def _sort(graph: Graph) -> None:
    """Put ops behind what they use, else in the order they are in: users of a region may stand in front of its last op."""
    done: set[Op] = set()
    ordered: list[Op] = []
    for start in list(graph):
        pending = [start]
        while pending:
            op = pending[-1]
            used = (*op.operands, *(v for body in op.bodies for v in body.captures()))
            makers = dict.fromkeys(v.op for v in used if v is not None and v.op is not None and v.op.graph is graph)
            waiting = [maker for maker in makers if maker not in done]
            if waiting:
                pending.extend(reversed(waiting))
                continue
            pending.pop()
            if op not in done:
                done.add(op)
                ordered.append(op)
    for op in ordered:
        graph.unlink(op)
        graph.append(op)


def unfused(graph: Graph) -> Graph:
    """The graph itself where it has no regions, else a copy with the ops of every region in its place."""
    if not any(dialect.is_fused(op) for op in graph.walk()):
        return graph
    plain = clone_graph(graph)
    for op in [op for op in plain.walk() if dialect.is_fused(op)]:
        inline(op)
    return plain


def _unique_inputs(body: Graph) -> None:
    taken: set[str] = set()
    for index, name in enumerate(body.input_names):
        while name in taken:
            name = f"{name}_{index}"
        taken.add(name)
        body.input_names[index] = name


def inline(region: Op) -> None:
    """Put the ops of a region in its place."""
    graph, body = region.graph, dialect.body_of(region)
    assert graph is not None
    mapping = {inside: value for inside, value in zip(body.inputs, region.operands, strict=True) if value is not None}
    for op in body:
        graph.insert(clone_op(op, mapping), region)
    for inside, result in zip(body.outputs, region.results, strict=True):
        result.replace_by(mapping[inside])
    graph.erase(region)
