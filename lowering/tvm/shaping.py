"""Ops that copy elements into another shape: padding, tiling, blocks of depth, triangles; and those that ask for shapes alone.

Law: where a result is made of several copies, each reads what calls in front of it have written, and nothing that it writes.
"""

from __future__ import annotations

import numpy as np

from irc.ir import DType, Op, Value

from .casting import cast
from .expressions import dtype_of, shape_of
from .kernel import literal, tir_name
from .loops import elementwise
from .lowerer import Lowerer
from .places import Place
from .regions import Region
from .views import View

Pads = tuple[tuple[int, ...], tuple[int, ...]]
"""How many elements are added in front of and behind each axis, or where fewer than 0 taken away."""


def pads_of(op: Op) -> Pads | None:
    """The pads of a Pad, where they are constant."""
    rank = len(shape_of(op.needed(0)))
    given, axes = op.constant_operand(1), op.constant_operand(3)
    if given is None or (axes is None and op.operand(3) is not None):
        return None
    along = range(rank) if axes is None else [int(axis) % rank for axis in axes.to_list()]
    numbers = [int(each) for each in given.to_list()]
    begins, ends = [0] * rank, [0] * rank
    for number, axis in enumerate(along):
        begins[axis], ends[axis] = numbers[number], numbers[number + len(along)]
    return tuple(begins), tuple(ends)


def why_not_padded(op: Op) -> str:
    """Why a Pad cannot be made of copies, as a clause; empty where it can."""
    pads = pads_of(op)
    if pads is None:
        return "its pads are computed"
    mode, room = op.string("mode", "constant"), {"constant": None, "edge": 0, "reflect": 1, "wrap": 0}
    if mode not in room:
        return f"there is no padding by {mode}"
    if mode == "constant":
        return ""
    if min((*pads[0], *pads[1]), default=0) < 0:
        return "it takes away and repeats what is left"
    if mode == "edge":
        return ""
    sizes = shape_of(op.needed(0))
    fits = all(max(begin, end) <= size - (room[mode] or 0) for size, begin, end in zip(sizes, *pads, strict=True))
    return "" if fits else "it repeats more than there is"


def lower_pad(lowerer: Lowerer, region: Region) -> None:
    """What is inside, then for one axis after the other what comes in front and behind, of all that is there by then."""
    op = region.op
    source, pads = lowerer.place(op.needed(0)), pads_of(op)
    assert pads is not None, "legality asks for constant pads"
    target = _fresh_beside(lowerer, op.result, source)
    inside, current = source.view, target.view
    for axis, (begin, end) in enumerate(zip(*pads, strict=True)):
        size = inside.shape[axis] + min(begin, 0) + min(end, 0)
        inside = inside.sliced(axis, max(-begin, 0), size)
        current = current.sliced(axis, max(begin, 0), size)
    lowerer.copy(Place(source.buffer, inside), Place(target.buffer, current), (op,))
    given, mode = op.operand(2), op.string("mode", "constant")
    zero = lowerer.constant(np.zeros(1, target.dtype.numpy), target.dtype)
    filler = Place(zero, View.dense(())) if given is None else lowerer.place(given)
    for axis, (begin, end) in enumerate(zip(*pads, strict=True)):
        begin, end = max(begin, 0), max(end, 0)
        whole = _grown(current, axis, begin, end)
        front, back = whole.sliced(axis, 0, begin), whole.sliced(axis, whole.shape[axis] - end, end)
        for slab, repeated in ((front, _in_front), (back, _behind)):
            if slab.size:
                inside = Place(target.buffer, repeated(mode, current, axis, slab.shape[axis]))
                read = filler if mode == "constant" else inside
                lowerer.copy(Place(read.buffer, _as_wide(read.view, slab)), Place(target.buffer, slab), (op,))
        current = whole


def _fresh_beside(lowerer: Lowerer, value: Value, source: Place) -> Place:
    """Memory for a result of another shape: an image where the source is one, its channels side by side."""
    view = source.view
    is_image = len(view.shape) > 2 and view.strides[1] == 1 and view.shape[1] > 1 and source.dtype is DType.F32
    return lowerer.fresh_image(value) if is_image and not value.is_output else lowerer.fresh(value)


def _as_wide(view: View, other: View) -> View:
    scalar = View((), (), view.offset) if view.size == 1 else view
    return scalar.broadcast(other.shape)


def _grown(view: View, axis: int, begin: int, end: int) -> View:
    """With as many more elements in front and behind, which are in the buffer."""
    shape = (*view.shape[:axis], view.shape[axis] + begin + end, *view.shape[axis + 1 :])
    return View(shape, view.strides, view.offset - begin * view.strides[axis])


def _in_front(mode: str, view: View, axis: int, count: int) -> View:
    if mode == "edge":
        return view.sliced(axis, 0, 1)
    return view.sliced(axis, count, count, -1) if mode == "reflect" else view.sliced(axis, view.shape[axis] - count, count)


def _behind(mode: str, view: View, axis: int, count: int) -> View:
    last = view.shape[axis] - 1
    if mode == "edge":
        return view.sliced(axis, last, 1)
    return view.sliced(axis, last - 1, count, -1) if mode == "reflect" else view.sliced(axis, 0, count)


def lower_tile(lowerer: Lowerer, region: Region) -> None:
    """Each axis as two, of which the first repeats the second."""
    op = region.op
    source, target = lowerer.place(op.needed(0)), lowerer.fresh(op.result)
    pairs = zip(target.view.shape, source.view.shape, strict=True)
    split = target.view.reshaped([size for result, own in pairs for size in (result // own, own)])
    assert split is not None, "a dense view has every shape"
    strides = [step for own in source.view.strides for step in (0, own)]
    lowerer.copy(
        Place(source.buffer, View(split.shape, tuple(strides), source.view.offset)), Place(target.buffer, split), (op,)
    )


def lower_blocks(lowerer: Lowerer, region: Region) -> None:
    """DepthToSpace and SpaceToDepth: one copy between views of the same six axes."""
    op = region.op
    source, target = lowerer.place(op.needed(0)), lowerer.fresh(op.result)
    block = op.integer("blocksize", 1)
    if op.is_a("DepthToSpace"):
        deep, wide = source.view, target.view
        columns_last = op.string("mode", "DCR") == "CRD"
    else:
        deep, wide, columns_last = target.view, source.view, False
    batch, channels, height, width = deep.shape
    inner = channels // block**2
    if columns_last:
        split, order = deep.reshaped((batch, inner, block, block, height, width)), (0, 1, 4, 2, 5, 3)
    else:
        split, order = deep.reshaped((batch, block, block, inner, height, width)), (0, 3, 4, 1, 5, 2)
    blocks = wide.reshaped((batch, inner, height, block, width, block))
    assert split is not None
    assert blocks is not None, "axes are always split"
    split = split.permuted(order)
    views = (split, blocks) if op.is_a("DepthToSpace") else (blocks, split)
    lowerer.copy(Place(source.buffer, views[0]), Place(target.buffer, views[1]), (op,))


LARGEST_TRIANGLE = 1 << 22
"""Elements of a matrix whose triangle is told by a table."""


def why_not_triangle(op: Op) -> str:
    """Why a Trilu has no kernel, as a clause; empty where it has."""
    rows, columns = shape_of(op.needed(0))[-2:]
    return "it is too large" if rows * columns > LARGEST_TRIANGLE else ""


def lower_triangle(lowerer: Lowerer, region: Region) -> None:
    """Trilu, by a table of the diagonals that elements lie on."""
    op = region.op
    source, given = lowerer.place(op.needed(0)), op.operand(1)
    shape = source.view.shape
    zero = Place(lowerer.constant(np.zeros(1, np.int64), DType.I64), View.dense(()))
    diagonal = zero if given is None else lowerer.place(given)
    numbers = np.arange(shape[-1], dtype=np.int32) - np.arange(shape[-2], dtype=np.int32)[:, None]
    table = Place(lowerer.constant(numbers, DType.I32), View.dense(numbers.shape))
    target = lowerer.fresh_like(op.result, [source])
    kind, sign = tir_name(source.dtype), ">=" if op.integer("upper", 1) else "<="
    everywhere = _as_wide(diagonal.view, target.view)
    kernel = elementwise(
        target.dtype,
        target.view,
        [(source.dtype, source.view), (DType.I32, table.view.broadcast(shape)), (DType.I64, everywhere)],
        lambda writer, names: f'T.Select(T.Cast("int64", {names[1]}) {sign} {names[2]}, {names[0]}, {literal(0, kind)})',
        lowerer.machine.lanes,
    )
    lowerer.call(kernel, [source.buffer, table.buffer, diagonal.buffer, target.buffer], (op,))


def lower_cast_like(lowerer: Lowerer, region: Region) -> None:
    """CastLike, whose second operand is not read."""
    op = region.op
    source, target = lowerer.place(op.needed(0)), lowerer.fresh_like(op.result, [lowerer.place(op.needed(0))])
    kernel = elementwise(
        target.dtype,
        target.view,
        [(source.dtype, source.view)],
        lambda writer, names: cast(writer, names[0], source.dtype, target.dtype),
        lowerer.machine.lanes,
    )
    lowerer.call(kernel, [source.buffer, target.buffer], (op,))


def why_not_dropped(op: Op) -> str:
    """Why a Dropout is no identity, as a clause; empty where it is one."""
    mode = op.constant_operand(2)
    if op.operand(2) is not None and (mode is None or bool(mode.array.reshape(-1)[0])):
        return "it drops at random"
    return ""


def lower_dropout(lowerer: Lowerer, region: Region) -> None:
    """Dropout at inference: what is given, and a mask of ones."""
    op = region.op
    lowerer.places[op.results[0]] = lowerer.place(op.needed(0))
    if len(op.results) > 1:
        _put_repeated(lowerer, op.results[1], np.ones(1, np.bool_))


def _put_repeated(lowerer: Lowerer, value: Value, element: np.ndarray) -> None:
    buffer = lowerer.constant(element, dtype_of(value))
    lowerer.places[value] = Place(buffer, View.dense(()).broadcast(shape_of(value)))


def lower_shape(lowerer: Lowerer, region: Region) -> None:
    """Shape and Size of what has a known shape: constants."""
    op = region.op
    shape = shape_of(op.needed(0))
    if op.is_a("Size"):
        content = np.asarray(int(np.prod(shape, dtype=np.int64)), np.int64)
    else:
        content = np.asarray(shape[op.integer("start", 0) : op.attributes.get("end", len(shape))], np.int64)  # type: ignore[misc]  # an integer by the schema
    lowerer.places[op.result] = Place(lowerer.constant(content, DType.I64), View.dense(content.shape))


def lower_filled(lowerer: Lowerer, region: Region) -> None:
    """ConstantOfShape: one element, seen everywhere."""
    op = region.op
    dtype, given = dtype_of(op.result), op.attributes.get("value")
    element = np.zeros(1, dtype.numpy) if given is None else np.asarray(given.array).reshape(-1)  # type: ignore[union-attr]  # a tensor by the schema
    _put_repeated(lowerer, op.result, element)


def lower_diagonal(lowerer: Lowerer, region: Region) -> None:
    """EyeLike: a constant, whatever is given."""
    op = region.op
    rows, columns = shape_of(op.result)
    content = np.eye(rows, columns, op.integer("k", 0)).astype(dtype_of(op.result).numpy)
    lowerer.places[op.result] = Place(lowerer.constant(content, dtype_of(op.result)), View.dense(content.shape))
