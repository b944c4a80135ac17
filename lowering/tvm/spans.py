"""Kernels that reduce the last axes of a view: which way the lanes of a vector run, and loops over what is kept and reduced.

Law: a task takes whole rows, the elements that are reduced together; sums of a row do not depend on how tasks are cut. Where
the reduced elements lie one behind the other the lanes run along them, else along a kept axis that does, a row to a lane.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from .kernel import Writer, literal, product
from .lanes import across, power_of_two
from .views import View

Hook: TypeAlias = Callable[[Writer, str, Sequence[str]], str]
"""From a value, as text, and its index, a text an axis, to the text of what is made of it."""

WAYS = 4
"""Partial results of a row that do not wait for each other: as many as a processor needs cycles for one of them."""
SMALL = 1 << 15
"""Elements that are not worth a task of their own: about ten microseconds."""
MOST_TASKS = 16


@dataclass(frozen=True, slots=True)
class Monoid:
    """How partial results become one: a format of two operands, and what changes nothing."""

    combine: str
    neutral: float


SUM = Monoid("{0} + {1}", 0.0)
PRODUCT = Monoid("{0} * {1}", 1.0)


class Row:
    """A row, or as many as a vector has lanes, in the loops that `each_row` wrote."""

    def __init__(self, writer: Writer, view: View, kept: Sequence[str], lanes: int, beside: int | None) -> None:
        self.writer, self.view, self.kept, self.lanes = writer, view, list(kept), lanes
        self.beside = beside
        self._lane = "0"

    def of(self, array: str) -> str:
        """The element of a result that belongs to the row of the element that is being worked on."""
        return f"{array}[{self._lane}]"

    def beside_place(self, place: str) -> str:
        """Where an array that has an element for each of a row has the element `place` of the row of `of`."""
        return place if self.beside is None else f"({place}) * {self.lanes} + {self._lane}"

    def reduce(self, kind: str, monoid: Monoid, term: Callable[[Sequence[str]], str]) -> str:
        """The result over all elements of what `term` gives for the index of one, inside a vectorized loop; see `of`."""
        w, lanes = self.writer, self.lanes
        steps = self.view.shape[-1] if self.beside is not None else self.view.shape[-1] // lanes
        ways = max(1, min(WAYS, steps))
        sums = w.local(kind, ways * lanes)
        with w.loop(ways, "unroll") as way, w.loop(lanes, "vectorized") as lane:
            w.line(f"{sums}[{way} * {lanes} + {lane}] = {literal(monoid.neutral, kind)}")

        def element(index: Sequence[str], way: str, lane: str) -> None:
            value, place = term(index), f"{sums}[{way} * {lanes} + {lane}]"
            w.line(f"{place} = {monoid.combine.format(place, value)}")

        self.scan(element, ways)
        for way in range(1, ways):
            with w.loop(lanes, "vectorized") as lane:
                place = f"{sums}[{lane}]"
                w.line(f"{place} = {monoid.combine.format(place, f'{sums}[{way * lanes} + {lane}]')}")
        if self.beside is not None or lanes == 1:
            return sums
        result = w.local(kind, 1)
        w.line(f"{result}[0] = {across(w, sums, lanes, kind, monoid.combine)}")
        return result

    def elements(self, body: Callable[[Sequence[str]], None]) -> None:
        """Write `body` for the index of every element, inside a vectorized loop."""
        self.scan(lambda index, way, lane: body(index), 1)

    def results(self, body: Callable[[], None]) -> None:
        """Write `body` once for each row, a lane to a row; see `of`."""
        with self.writer.loop(self.lanes if self.beside is not None else 1, "vectorized") as lane:
            self._lane = lane
            body()
        self._lane = "0"

    def index_of_row(self) -> list[str]:
        """The index, a text to each kept axis, of the row of `of`."""
        index = list(self.kept)
        if self.beside is not None:
            index[self.beside] = f"{index[self.beside]} + {self._lane}"
        return index

    def scan(self, body: Callable[[Sequence[str], str, str], None], ways: int) -> None:
        """As `elements`, and `body` is told the way, of `ways` that take turns, and the lane."""
        w, lanes, size = self.writer, self.lanes, self.view.shape[-1]
        outer = self.view.shape[len(self.kept) : -1]
        step = 1 if self.beside is not None else lanes
        turns, rest = divmod(size, ways * step)
        with _loops(w, outer) as above:

            def at(column: str, way: str, lane: str) -> None:
                self._lane = lane if self.beside is not None else "0"
                last = column if self.beside is not None else f"{column} + {lane}"
                body([*self.index_of_row(), *above, last], way, lane)
                self._lane = "0"

            if turns:
                with w.loop(turns) as turn, w.loop(ways, "unroll") as way, w.loop(lanes, "vectorized") as lane:
                    at(f"({turn} * {ways} + {way}) * {step}", way, lane)
            more, tail = divmod(rest, step)
            if more:
                with w.loop(more, "unroll") as way, w.loop(lanes, "vectorized") as lane:
                    at(f"{turns * ways * step} + {way} * {step}", way, lane)
            if tail:
                with w.loop(tail, "vectorized") as lane:
                    at(str(size - tail), "0", lane)


def each_row(writer: Writer, view: View, reduced: int, lanes: int, body: Callable[[Row], None]) -> int:
    """Write `body` for the rows of a view whose last `reduced` axes are reduced; how many tasks that makes.

    `body` is called twice where rows do not fill vectors evenly.
    """
    kept = view.shape[: len(view.shape) - reduced]
    beside = _beside(view, len(kept))
    counts = [-(-size // lanes) if axis == beside else size for axis, size in enumerate(kept)]
    with spread(writer, product(counts), view.size) as (number, tasks):
        index = unraveled(writer, number, counts)
        if beside is None:
            body(Row(writer, view, index, lanes, None))
        else:
            _each_lane(writer, view, index, lanes, beside, body)
    return tasks


@contextlib.contextmanager
def spread(writer: Writer, groups: int, elements: int) -> Generator[tuple[str, int]]:
    """A loop over what a task has of `groups` of so many `elements`: a group's number, and how many tasks there are."""
    tasks = min(MOST_TASKS, groups, power_of_two(max(elements // SMALL, 1)))  # as many for each of two or four threads
    each = -(-groups // tasks)
    with writer.loop(each) as turn:
        number = writer.let("int32", f"task * {each} + {turn}")
        with writer.block(f"if {number} < {groups}") if groups % each else contextlib.nullcontext():
            yield number, -(-groups // each)


def _each_lane(writer: Writer, view: View, index: Sequence[str], lanes: int, beside: int, body: Callable[[Row], None]) -> None:
    whole, rest = divmod(view.shape[beside], lanes)
    start = list(index)
    start[beside] = writer.let("int32", f"{index[beside]} * {lanes}")
    if whole:
        with writer.block(f"if {index[beside]} < {whole}"):
            body(Row(writer, view, start, lanes, beside))
    if rest:
        with writer.block(f"if {index[beside]} == {whole}"):
            body(Row(writer, view, start, rest, beside))


def _beside(view: View, kept: int) -> int | None:
    """The kept axis that lanes run along; None where they run along the last axis."""
    if view.strides[-1] == 1 and view.shape[-1] > 1:
        return None
    found = [axis for axis in range(kept) if view.strides[axis] == 1 and view.shape[axis] > 1]
    if found:
        return found[-1]
    widest = max(range(kept), key=lambda axis: view.shape[axis], default=None)
    return widest if widest is not None and view.shape[widest] > view.shape[-1] else None


def unraveled(writer: Writer, number: str, sizes: Sequence[int]) -> list[str]:
    """The index, a text an axis, of an element in row-major order."""
    index: list[str] = []
    behind = product(sizes)
    for axis, size in enumerate(sizes):
        behind //= max(size, 1)
        if size == 1:
            index.append("0")
            continue
        text = number if behind == 1 else f"T.truncdiv({number}, {behind})"
        first = all(each == 1 for each in sizes[:axis])
        index.append(writer.let("int32", text if first else f"T.truncmod({text}, {size})"))
    return index


@contextlib.contextmanager
def _loops(writer: Writer, sizes: Sequence[int]) -> Generator[list[str]]:
    """Loops within each other, one to each size."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(writer.loop(size)) for size in sizes]
