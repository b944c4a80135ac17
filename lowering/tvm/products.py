"""MatMul, Gemm and Conv as contractions: which axes there are, and where their elements lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from irc.ir import Op

from .axes import Axis, Contraction
from .views import View


@dataclass(frozen=True, slots=True)
class Product:
    """A contraction and the view of its B, whose axes are `group_axes` of the groups, the reduced ones, and the columns."""

    contraction: Contraction
    weights: View
    group_axes: int = 1


def matmul(a: View, a_size: int, b: View, result: View, result_size: int) -> Product | None:
    """A [..., rows, depth] times B [..., depth, columns] as numpy broadcasts them; columns of the result lie side by side.

    None where the axes along which B differs, or the result, lie so that one step does not go through them all.
    """
    batch = result.shape[:-2]
    a, b = a.broadcast((*batch, *a.shape[-2:])), b.broadcast((*batch, *b.shape[-2:]))
    inner = len(batch)
    grouped = [axis for axis in range(inner) if batch[axis] > 1 and b.strides[axis]]
    group = _joined([Axis(batch[axis], a.strides[axis], result.strides[axis]) for axis in grouped])
    if group is None:
        grouped = [axis for axis in range(inner) if batch[axis] > 1]
        group = _joined([Axis(batch[axis], a.strides[axis], result.strides[axis]) for axis in grouped])
    if group is None:
        return None
    outer = [Axis(batch[i], a.strides[i], result.strides[i]) for i in range(inner) if i not in grouped]
    made = Contraction(
        (*([group] if group.size > 1 else []), *outer),
        Axis(a.shape[-2], a.strides[-2], result.strides[-2]),
        (Axis(a.shape[-1], a.strides[-1]),),
        b.shape[-1],
        a_size,
        result_size,
        a.offset,
        result.offset,
        groups=group.size,
    )
    order = (*grouped, inner, inner + 1)
    lying = View(tuple(b.shape[i] for i in order), tuple(b.strides[i] for i in order), b.offset)
    return Product(made.collapsed(), lying, len(grouped))


def _joined(axes: Sequence[Axis]) -> Axis | None:
    """Axes one behind the other as one; None where they do not lie so."""
    joined = Axis(1, 0, 0)
    for axis in reversed(axes):
        if joined.size > 1 and (axis.in_a, axis.in_c) != (joined.size * joined.in_a, joined.size * joined.in_c):
            return None
        joined = Axis(axis.size * joined.size, *((joined.in_a, joined.in_c) if joined.size > 1 else (axis.in_a, axis.in_c)))
    return joined


@dataclass(frozen=True, slots=True)
class Window:
    """How a convolution or a pooling moves over its spatial axes: its extents, its steps, and what is added around."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]

    @property
    def is_padded(self) -> bool:
        """Whether any elements are added."""
        return any((*self.begins, *self.ends))


def window_of(op: Op, kernel: tuple[int, ...], spatial: tuple[int, ...]) -> Window:
    """The window of a Conv or a pooling with its kernel's extents over an input of sizes `spatial`."""
    rank = len(kernel)
    strides, dilations = op.integers("strides") or (1,) * rank, op.integers("dilations") or (1,) * rank
    pads = op.integers("pads") or (0,) * (2 * rank)
    begins, ends = pads[:rank], pads[rank:]
    auto = op.string("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        totals = [
            max((-(-size // stride) - 1) * stride + (extent - 1) * dilation + 1 - size, 0)
            for size, stride, extent, dilation in zip(spatial, strides, kernel, dilations, strict=True)
        ]
        less, more = tuple(total // 2 for total in totals), tuple(total - total // 2 for total in totals)
        begins, ends = (less, more) if auto == "SAME_UPPER" else (more, less)
    elif auto == "VALID":
        begins = ends = (0,) * rank
    return Window(kernel, tuple(strides), tuple(dilations), tuple(begins), tuple(ends))


def convolution(data: View, data_size: int, filters: View, window: Window, result: View, result_size: int) -> Product:
    """A convolution of `data` [batch, channels, spatial...], which has its border around it already.

    `filters` are [groups, out channels, in channels, spatial...], those of a group; the channels of the `result` [batch,
    channels, spatial...] lie side by side.
    """
    groups, out_channels, in_channels = filters.shape[:3]
    outer = [Axis(data.shape[0], data.strides[0], result.strides[0])]
    for size, stride, in_a, in_c in zip(result.shape[2:], window.strides, data.strides[2:], result.strides[2:], strict=True):
        outer.append(Axis(size, stride * in_a, in_c))
    reduced = [
        Axis(size, dilation * step)
        for size, dilation, step in zip(window.kernel, window.dilations, data.strides[2:], strict=True)
    ]
    rows = outer.pop()
    spatial = tuple(range(3, 3 + len(window.kernel)))
    depthwise = groups > 1 and in_channels == out_channels == 1 and data.strides[1] == 1
    if depthwise:
        lying = filters.permuted((1, *spatial, 2, 0))
    else:
        reduced.append(Axis(in_channels, data.strides[1]))
        lying = filters.permuted((0, *spatial, 2, 1))
        if groups > 1:
            outer.insert(0, Axis(groups, in_channels * data.strides[1], out_channels))
    made = Contraction(
        tuple(outer),
        rows,
        tuple(reduced),
        groups if depthwise else out_channels,
        data_size,
        result_size,
        data.offset,
        result.offset,
        groups=1 if depthwise else groups,
        columns_in_a=depthwise,
    )
    return Product(made.collapsed(), lying)
