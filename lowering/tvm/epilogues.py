"""What is done with the sums of a main op while they are in registers, and what is left to a kernel of its own.

Law: an operand is read in registers only where its elements lie as those of the result do, or belong to columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from irc.ir import DType, Op, Value

from .concluding import rules_behind_sums
from .contraction import Epilogue
from .expressions import Tree
from .inplace import lies_as
from .kernel import Writer, literal, tir_name
from .lowerer import Lowerer
from .places import Buffer, Place
from .pointwise import Rule
from .regions import Region
from .scaling import rule_of
from .trees import evaluate_tree
from .views import View

Index = Callable[[str, str], str]
"""Where an operand of an epilogue has its element, given the place of the result's and its column."""


@dataclass(frozen=True, slots=True)
class Stream:
    """An operand of an epilogue, how it is read, and which value it is."""

    place: Place
    index: Index | None
    value: Value | None = None


@dataclass(frozen=True, slots=True)
class Reader:
    """How operands are read beside the elements of a result, whose columns are those of an axis."""

    result: View
    column_axis: int | None
    columns: int
    groups: int

    def index(self, view: View) -> Index | None:
        """As the elements of the result lie, or by column; None where neither holds."""
        leaf, result = view.broadcast(self.result.shape), self.result
        axes = [axis for axis, size in enumerate(result.shape) if size > 1]
        if all(leaf.strides[axis] == result.strides[axis] for axis in axes):
            shift = leaf.offset - result.offset
            return lambda place, column: f"{place} + {shift}" if shift else place
        own = None if self.column_axis is None else self.column_axis % len(result.shape)
        if any(leaf.strides[axis] for axis in axes if axis != own):
            return None
        step = 0 if own is None or result.shape[own] == 1 else leaf.strides[own]
        # The columns of a matrix begin anew with each matrix; those of an image are its channels, over all groups.
        again = self.groups > 1 and own is not None and result.shape[own] == self.columns
        number = f"({{}}) % {self.columns}" if again else "({})"
        return lambda place, column: f"{leaf.offset} + {number.format(column)} * {step}" if step else str(leaf.offset)


@dataclass(frozen=True, slots=True)
class Added:
    """What is added to sums, and by what it is multiplied before."""

    place: Place
    scale: float = 1.0


def readable(lowerer: Lowerer, reader: Reader, place: Place, target: Place, op: Op) -> Stream:
    """What is added, copied to lie as the result does where it cannot be read as it is."""
    index = reader.index(place.view)
    if index is None:
        copied = Place(Buffer(place.dtype, target.buffer.size), target.view)
        lowerer.copy(Place(place.buffer, place.view.broadcast(target.view.shape)), copied, (op,))
        place, index = copied, reader.index(copied.view)
    return Stream(place, index)


@dataclass(frozen=True, slots=True)
class Rescaled:
    """What sums of bytes are in f32: (sum + shift) * scale, both by column, counted over all groups; i32 and f32.

    What is found `in_run` is one more factor, f32, and one more factor of the shift, u8.
    """

    shift: Place
    scale: Place
    in_run: tuple[Place, ...] = ()

    @property
    def places(self) -> list[Place]:
        """All of them, in order."""
        return [self.shift, self.scale, *self.in_run]

    def written(self, writer: Writer, value: str, first: int, column: str) -> str:
        """The f32 of a sum, where the buffers from `first` on are those places'."""
        shift, scale = f"b{first}[{column}]", f"b{first + 1}[{column}]"
        if self.in_run:
            scale = writer.value("float32", f"{scale} * b{first + 2}[{self.in_run[0].view.offset}]")
            shift = writer.value("int32", f'{shift} * T.Cast("int32", b{first + 3}[{self.in_run[1].view.offset}])')
        shifted = f'T.Cast("float32", {value} + {shift})'
        return writer.value("float32", f"{shifted} * {scale}")


@dataclass(frozen=True, slots=True)
class Sums:
    """What is made of sums: of bytes they are rescaled; they are scaled, what is `added` comes to them, then the ops of a tree.

    The operands are those of `rescaled`, of `added`, then the streams; buffer `first` of the kernel is the first of them.
    `rule` says how the ops are written.
    """

    added: Sequence[tuple[Stream, float]] = ()
    streams: Sequence[Stream] = field(default=())
    tree: Tree | None = None
    scale: float = 1.0
    first: int = 2
    rescaled: Rescaled | None = None
    rule: Callable[[Op], Rule] = rule_of

    def epilogue(self) -> Epilogue | None:
        """The same for an element; None where nothing is done."""
        nothing = not self.added and self.tree is None and self.scale == 1.0 and self.rescaled is None
        return None if nothing else self._written

    def _written(self, writer: Writer, value: str, place: str, column: str) -> str:
        first = self.first
        if self.rescaled is not None:
            value, first = self.rescaled.written(writer, value, first, column), first + len(self.rescaled.places)
        if self.scale != 1.0:
            value = writer.value("float32", f"{value} * {literal(self.scale, 'float32')}")
        for number, (stream, scale) in enumerate(self.added, start=first):
            read = self._read(writer, stream, number, place, column)
            factor = "" if scale == 1.0 else f" * {literal(scale, 'float32')}"
            value = writer.let("float32", f"{value} + {read}{factor}")
        if self.tree is None:
            return value
        assert self.tree.seed is not None
        names = {self.tree.seed: value}
        for number, stream in enumerate(self.streams, start=first + len(self.added)):
            assert stream.value is not None
            names[stream.value] = self._read(writer, stream, number, place, column)
        return self.tree.evaluate(writer, names, self.rule)

    def _read(self, writer: Writer, stream: Stream, number: int, place: str, column: str) -> str:
        assert stream.index is not None
        return writer.let(tir_name(stream.place.dtype), f"b{number}[{stream.index(place, column)}]")


@dataclass(frozen=True, slots=True)
class Ending:
    """Where a main op's result goes, what is made of its sums on the way, and what the operands of that are.

    `rest` are pointwise ops that start from the stored result instead.
    """

    target: Place
    sums: Sums
    rest: Tree | None

    @property
    def places(self) -> list[Place]:
        """The operands, in order."""
        rescaled = self.sums.rescaled
        by_column = [] if rescaled is None else rescaled.places
        return [*by_column, *(stream.place for stream, _ in self.sums.added), *(stream.place for stream in self.sums.streams)]

    @property
    def sizes(self) -> list[tuple[DType, int]]:
        """The dtypes of the operands and the sizes of their buffers."""
        return [(place.dtype, place.buffer.size) for place in self.places]

    @property
    def buffers(self) -> list[Buffer]:
        """The buffers of the operands, then that of the result."""
        return [*(place.buffer for place in self.places), self.target.buffer]

    @property
    def replaceable(self) -> list[Buffer]:
        """Of these buffers, those in whose place the result may be."""
        return [place.buffer for place in self.places if lies_as(place, self.target)]

    def behind(self, more: int) -> Ending:
        """The same in a kernel with so many more buffers in front of the operands."""
        return replace(self, sums=replace(self.sums, first=self.sums.first + more))

    def of_bytes(self, rescaled: Rescaled) -> Ending:
        """The same for sums of bytes."""
        return replace(self, sums=replace(self.sums, rescaled=rescaled))

    @property
    def ops(self) -> tuple[Op, ...]:
        """The pointwise ops that are computed in registers."""
        return () if self.sums.tree is None else self.sums.tree.ops

    def conclude(self, lowerer: Lowerer, region: Region) -> None:
        """The pointwise ops that could not be computed in registers, in a kernel of their own."""
        if self.rest is not None:
            leaves = tuple(dict.fromkeys((region.op.result, *self.rest.leaves)))
            evaluate_tree(lowerer, Tree(self.rest.ops, leaves))


def ending_of(
    lowerer: Lowerer,
    region: Region,
    added: Sequence[Added],
    allocate: Callable[[Value], Place],
    read: Callable[[Place], Reader],
    scale: float = 1.0,
    first: int = 2,
) -> Ending:
    """How the main op of a region ends, in memory that is made by `allocate`; `read` says how operands are read beside it.

    `first` is the kernel's buffer of the first of them.
    """
    op, tree = region.op, region.tree
    leaves = [] if tree is None else [(leaf, lowerer.place(leaf)) for leaf in tree.leaves]
    target = allocate(region.result)
    reader = read(target)
    streams = [Stream(place, reader.index(place.view), leaf) for leaf, place in leaves]
    fused = tree if all(stream.index is not None for stream in streams) else None
    if tree is not fused:
        streams, target = [], allocate(op.result)
        reader = read(target)
    ready = tuple((readable(lowerer, reader, each.place, target, op), each.scale) for each in added)
    sums = Sums(ready, tuple(streams), fused, scale, first, rule=rules_behind_sums(lowerer.machine.features))
    return Ending(target, sums, tree if fused is None else None)
