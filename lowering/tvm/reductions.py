"""Reductions over any axes, and the places of greatest and least elements.

Law: integers wrap, a NaN makes NaN of whatever it is part of, and sums are f32 in partial sums; the answer for a kept element
does not depend on how the kernel is cut into tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from irc.ir import DType

from .kernel import Kernel, Writer, literal, product, tir_name
from .lanes import extent, merged
from .mathematics import exp_of_nonpositive, log
from .spans import PRODUCT, SUM, Hook, Monoid, Row, each_row
from .views import View

TAKEN = (DType.F32, DType.I32, DType.I64)
"""Element types that `reduction` and `argument` take; of integers, `INTEGER_REDUCTIONS` only."""


@dataclass(frozen=True, slots=True)
class ReductionRequest:
    """A reduction of `axes` of a source of `dtype`; `target` has the axes that are kept, in order, and no others.

    `epilogue` makes what is stored of a result and its index, a text an axis of `target`; see `rows.RowRequest`.
    """

    source: View
    axes: tuple[int, ...]
    target: View
    dtype: DType
    lanes: int
    epilogue: Hook | None = None


def reduction(name: str, request: ReductionRequest) -> Kernel:
    """The kernel of an op of `REDUCTIONS`, of at least one element; the pointers are those of source and target.

    Raises ValueError for a dtype that the op is not taken with.
    """
    if request.dtype not in TAKEN or (request.dtype is not DType.F32 and name not in INTEGER_REDUCTIONS):
        raise ValueError(f"{name} of {request.dtype.text} has no kernel")
    return _kernel(request, request.dtype, REDUCTIONS[name])


def argument(name: str, request: ReductionRequest, *, last: bool = False) -> Kernel:
    """The index, as i64, of the greatest element along the one axis, or the least; of equals the first, or `last`."""
    better = {"ArgMax": ">", "ArgMin": "<"}[name] + ("=" if last else "")
    neutral = (_greatest if name == "ArgMax" else _least)(tir_name(request.dtype)).neutral

    def best(w: Writer, row: Row, load: _Load, kind: _Kind) -> str:
        values, places = w.local(kind.name, row.lanes), w.local("int32", row.lanes)
        with w.loop(row.lanes, "vectorized") as lane:
            w.line(f"{values}[{lane}] = {literal(neutral, kind.name)}")
            w.line(f"{places}[{lane}] = T.int32(0)")

        def look(index: Sequence[str], _: str, lane: str) -> None:
            found = w.value(kind.name, load(index))
            is_better = f"{found} {better} {values}[{lane}]"
            w.line(f"{places}[{lane}] = T.Select({is_better}, {index[-1]}, {places}[{lane}])")
            w.line(f"{values}[{lane}] = T.Select({is_better}, {found}, {values}[{lane}])")

        row.scan(look, 1)
        if row.beside is None:
            with w.loop(row.lanes) as lane:
                is_equal = f"T.And({values}[{lane}] == {values}[0], {places}[{lane}] {'>' if last else '<'} {places}[0])"
                is_better = w.let("bool", f"T.Or({values}[{lane}] {better[0]} {values}[0], {is_equal})")
                w.line(f"{places}[0] = T.Select({is_better}, {places}[{lane}], {places}[0])")
                w.line(f"{values}[0] = T.Select({is_better}, {values}[{lane}], {values}[0])")
        result = w.local("int64", row.lanes)
        row.results(lambda: w.line(f'{row.of(result)} = T.Cast("int64", {row.of(places)})'))
        return result

    return _kernel(request, DType.I64, best)


def cumulative_sum(source: View, target: View, dtype: DType, lanes: int, *, exclusive: bool = False) -> Kernel:
    """Sums along the last axis up to each element, or up to the one before it; the pointers are those of source and target.

    The reverse is that of views that go backwards. Raises ValueError for a dtype that it is not taken with.
    """
    if dtype not in TAKEN:
        raise ValueError(f"CumSum of {dtype.text} has no kernel")
    w, kind = Writer(), tir_name(dtype)
    read, written = w.buffer(dtype, extent(source)), w.buffer(dtype, extent(target))

    def body(row: Row) -> None:
        sums = w.local(kind, row.lanes)
        row.results(lambda: w.line(f"{row.of(sums)} = {literal(0, kind)}"))
        with w.loop(source.shape[-1]) as step:

            def add() -> None:
                index = [*row.index_of_row(), step]
                total = w.value(kind, f"{row.of(sums)} + {read}[{source.at(*index)}]")
                w.line(f"{written}[{target.at(*index)}] = {row.of(sums) if exclusive else total}")
                w.line(f"{row.of(sums)} = {total}")

            row.results(add)

    return w.kernel(each_row(w, source, 1, lanes, body), source.size)


_Load = Callable[[Sequence[str]], str]
_Reduce = Callable[[Writer, Row, _Load, "_Kind"], str]
"""From a row, how its elements are read, and what they are, to the array of results."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """TVM's dtype of the elements and how many a row has."""

    name: str
    count: int


def _kernel(request: ReductionRequest, result: DType, reduce: _Reduce) -> Kernel:
    w = Writer()
    source, target, reduced = _arranged(request)
    read, written = w.buffer(request.dtype, extent(source)), w.buffer(result, extent(target))
    kind = _Kind(tir_name(request.dtype), product(source.shape[-reduced:]))

    def body(row: Row) -> None:
        results = reduce(w, row, lambda index: f"{read}[{source.at(*index)}]", kind)

        def store() -> None:
            index, text = row.index_of_row(), row.of(results)
            if request.epilogue is not None:
                text = request.epilogue(w, w.value(tir_name(result), text), index)
            w.line(f"{written}[{target.at(*index)}] = {text}")

        row.results(store)

    return w.kernel(each_row(w, source, reduced, request.lanes, body), source.size)


def _arranged(request: ReductionRequest) -> tuple[View, View, int]:
    """Source and target with axes that lie one behind the other as one, reduced axes last, and how many of these there are."""
    source, target = request.source, request.target
    axes = [axis % len(source.shape) for axis in request.axes]
    kept = [axis for axis in range(len(source.shape)) if axis not in axes]
    axes.sort(key=lambda axis: -source.strides[axis])
    inner = source.permuted(axes)
    (inner,) = merged([inner])
    outer = source.permuted(kept)
    if request.epilogue is None:  # whose index is that of the axes as they were
        outer, target = merged([outer, target])
    whole = View(outer.shape + inner.shape, outer.strides + inner.strides, source.offset)
    return whole, target, len(inner.shape)


def _greatest(kind: str) -> Monoid:
    if not kind.startswith("float"):
        return Monoid("T.max({0}, {1})", int(np.iinfo(kind).min))
    return Monoid("T.Select(T.Or({1} > {0}, T.isnan({1})), {1}, {0})", float("-inf"))


def _least(kind: str) -> Monoid:
    if not kind.startswith("float"):
        return Monoid("T.min({0}, {1})", int(np.iinfo(kind).max))
    return Monoid("T.Select(T.Or({1} < {0}, T.isnan({1})), {1}, {0})", float("inf"))


def _end(w: Writer, x: str, count: int) -> str:
    return x


def _folded(
    monoid: Callable[[str], Monoid], term: Callable[[Writer, str], str], end: Callable[[Writer, str, int], str] = _end
) -> _Reduce:
    """A reduction of what `term` makes of elements; `end` makes the answer of the result and the count."""

    def reduce(w: Writer, row: Row, load: _Load, kind: _Kind) -> str:
        results = row.reduce(kind.name, monoid(kind.name), lambda index: term(w, w.value(kind.name, load(index))))
        if end is not _end:
            row.results(lambda: w.line(f"{row.of(results)} = {end(w, w.value(kind.name, row.of(results)), kind.count)}"))
        return results

    return reduce


def _log_sum_exp(w: Writer, row: Row, load: _Load, kind: _Kind) -> str:
    """greatest + log(sum of exp(x - greatest)), where an infinite greatest is 0 in both (Blanchard, Higham and Higham 2021)."""
    most = row.reduce("float32", Monoid("T.max({0}, {1})", float("-inf")), lambda index: load(index))
    infinity = "T.float32('inf')"
    finite = f"T.And({{0}} < {infinity}, {{0}} > T.float32('-inf'))"

    def bounded() -> None:
        greatest = row.of(most)
        w.line(f"{greatest} = T.Select({finite.format(greatest)}, {greatest}, T.float32(0))")

    row.results(bounded)

    def power(index: Sequence[str]) -> str:
        above = w.value("float32", f"{load(index)} - {row.of(most)}")
        return f"T.Select({above} == {infinity}, {infinity}, {exp_of_nonpositive(w, above)})"

    total = row.reduce("float32", SUM, power)
    row.results(lambda: w.line(f"{row.of(total)} = {log(w, w.value('float32', row.of(total)))} + {row.of(most)}"))
    return total


def _sum(kind: str) -> Monoid:
    return SUM


def _product(kind: str) -> Monoid:
    return PRODUCT


def _same(w: Writer, x: str) -> str:
    return x


def _square(w: Writer, x: str) -> str:
    return f"{x} * {x}"


def _magnitude(w: Writer, x: str) -> str:
    return f"T.abs({x})"


REDUCTIONS: Mapping[str, _Reduce] = {
    "ReduceSum": _folded(_sum, _same),
    "ReduceMean": _folded(_sum, _same, lambda w, x, count: f"{x} / {literal(count, 'float32')}"),
    "ReduceMax": _folded(_greatest, _same),
    "ReduceMin": _folded(_least, _same),
    "ReduceProd": _folded(_product, _same),
    "ReduceSumSquare": _folded(_sum, _square),
    "ReduceL1": _folded(_sum, _magnitude),
    "ReduceL2": _folded(_sum, _square, lambda w, x, count: f"T.sqrt({x})"),
    "ReduceLogSum": _folded(_sum, _same, lambda w, x, count: log(w, x)),
    "ReduceLogSumExp": _log_sum_exp,
}
"""The reductions by the names of ONNX's ops; GlobalAveragePool is ReduceMean, GlobalMaxPool is ReduceMax, of all but two."""

INTEGER_REDUCTIONS = frozenset({"ReduceSum", "ReduceMax", "ReduceMin"})
"""Those that integers have too; ONNX Runtime's others do not wrap where they overflow."""
