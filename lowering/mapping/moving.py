"""Along which axis what is moved has entries: rules for ops that place, repeat and leave out elements.

Law: a rule is right for any number of entries and whatever the values are. Operands that are not among the entries are the same
for all of them.
"""

from __future__ import annotations

from math import prod

from irc.ir import shapes

from .entries import Entries, Found


def concat(e: Entries) -> Found:
    """Operands with the same entries, joined along another axis."""
    found = {e.axis(index) for index in range(len(e.op.operands))}
    if len(found) != 1 or len({e.rows(index) for index in range(len(e.op.operands))}) != 1:
        return f"not all of its operands have {e.name} on one axis"
    (axis,) = found
    assert axis is not None, "some operand has entries"
    return e.mixes("it joins") if e.op.integer("axis", 0) % len(e.made) == axis else axis


def split(e: Entries) -> Found:
    """Along another axis."""
    axis = e.axis(0)
    if axis is None or e.op.integer("axis", 0) % len(e.shape(0)) == axis:
        return e.mixes("it splits")
    return e.only(0) or axis


def slice(e: Entries) -> Found:
    """What keeps all entries, in their order."""
    axis, rank = e.axis(0), len(e.shape(0))
    starts, steps = shapes.content_of(e.op.operand(1)), shapes.content_of(e.op.operand(4))
    axes = shapes.content_of(e.op.operand(3))
    if axis is None or e.only(0) or starts is None or (axes is None and e.op.operand(3) is not None):
        return "where it starts and ends is computed"
    along = [each % rank for each in axes if isinstance(each, int)] if axes is not None else list(range(len(starts)))
    if len(along) != len(starts):
        return "its axes are computed"
    if axis in along:
        place = along.index(axis)
        step = 1 if e.op.operand(4) is None else steps[place] if steps is not None else None
        if starts[place] != 0 or step != 1 or not e.keeps(axis):
            return e.mixes("it takes a part")
    return axis


def gather(e: Entries) -> Found:
    """Rows of a shared table for indices of each entry, or shared indices into each entry."""
    data, indices = e.axis(0), e.axis(1)
    along = e.op.integer("axis", 0) % max(len(e.shape(0)), 1)
    if data is None:
        assert indices is not None, "one of the two has entries"
        return along + indices
    if indices is not None:
        return f"both operands have {e.name}"
    if data == along:
        return e.mixes("it picks")
    return data if data < along else data + len(e.shape(1)) - 1


def by_element(e: Entries) -> Found:
    """GatherElements and ScatterElements: operands side by side, moved along another axis."""
    axis = e.axis(0)
    if axis is None or any(e.axis(i) != axis or e.rows(i) != e.rows(0) for i in range(1, len(e.op.operands))):
        return f"not all of its operands have {e.name} on one axis"
    return e.mixes("it moves elements") if e.op.integer("axis", 0) % len(e.shape(0)) == axis else axis


def gather_nd(e: Entries) -> Found:
    """Indices of each entry into what is shared, or into its own matrix of a batch."""
    batch, data, indices = e.op.integer("batch_dims", 0), e.axis(0), e.axis(1)
    if data is None and indices is not None and batch <= indices < len(e.shape(1)) - 1:
        return indices
    if data is not None and data == indices and data < batch and e.rows(0) == e.rows(1):
        return data
    return e.mixes("it picks")


def transpose(e: Entries) -> Found:
    """The axis goes where it is put."""
    axis, rank = e.axis(0), len(e.shape(0))
    assert axis is not None, "it has one operand"
    order = e.op.integers("perm") or tuple(range(rank))[::-1]
    return order.index(axis)


def reshape(e: Entries) -> Found:
    """The rows of an entry lie in the same place among all elements where as many elements lie around all entries before."""
    axis, target = e.axis(0), [index for index, dim in enumerate(e.made) if not isinstance(dim, int)]
    if not e.op.is_a("Flatten") and None in (shapes.content_of(e.op.operand(1)) or (None,)):
        return "its shape is computed"  # without axes Squeeze would drop a single entry
    if axis is None or len(target) != 1 or e.made[target[0]] is None:
        return f"of {e.name} and other sizes it makes one axis, or several"
    before, after = (prod(d for d in shape if isinstance(d, int)) for shape in (e.shape(0)[:axis], e.made[: target[0]]))
    return target[0] if before == after else f"it moves elements from one of {e.name} to another"


def expand(e: Entries) -> Found:
    """A shared value is the same for each entry along an axis of its own; else it is stretched along others."""
    axis, more = e.axis(0), len(e.made) - len(e.shape(0))
    if axis is not None:
        return axis + more if e.keeps(axis + more) else e.mixes("it repeats")
    found = new_axis(e)
    if isinstance(found, int) and found >= more and e.shape(0)[found - more] != 1:
        return f"what it repeats has a size of its own where the result has {e.name}"
    return found


def tile(e: Entries) -> Found:
    """Copies along other axes; of what is shared one for each entry."""
    axis, repeats = e.axis(0), shapes.content_of(e.op.operand(1))
    if axis is None:
        return new_axis(e)
    if repeats is None or repeats[axis] != 1 or e.only(0):
        return e.mixes("it repeats")
    return axis


def new_axis(e: Entries) -> Found:
    """The only axis with the dim of a result that is the same for each entry."""
    found = [index for index, dim in enumerate(e.made) if not isinstance(dim, int)]
    return found[0] if len(found) == 1 else f"it makes {e.name} on several axes, or a size that is not known"


def pad(e: Entries) -> Found:
    """Other axes."""
    axis, rank = e.axis(0), len(e.shape(0))
    pads, axes = shapes.content_of(e.op.operand(1)), shapes.content_of(e.op.operand(3))
    if axis is None or e.only(0) or pads is None or (axes is None and e.op.operand(3) is not None):
        return "how much is computed"
    along = list(range(rank)) if axes is None else [each % rank for each in axes if isinstance(each, int)]
    if axis in along and (pads[along.index(axis)], pads[along.index(axis) + len(along)]) != (0, 0):
        return e.mixes("it pads")
    return axis


def resize(e: Entries) -> Found:
    """What leaves the axis of entries as it is: at a scale of 1 each coordinate is its own."""
    axis = e.axis(0)
    if axis is None or e.only(0):
        return e.only(0) or f"no operand has {e.name}"
    if e.op.string("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return "it crops"
    if e.op.string("keep_aspect_ratio_policy", "stretch") != "stretch":
        return "its sizes depend on each other"
    scales = e.op.constant_operand(2)
    along = [each % len(e.shape(0)) for each in e.op.integers("axes") or range(len(e.shape(0)))]
    if scales is not None and scales.size and axis in along and scales.to_list()[along.index(axis)] != 1:
        return e.mixes("it resizes")
    return axis if e.keeps(axis) else e.mixes("it resizes")


def triangle(e: Entries) -> Found:
    """Matrices of each entry."""
    axis = e.axis(0)
    if axis is None or axis >= len(e.shape(0)) - 2:
        return e.mixes("it takes a triangle")
    return e.only(0) or axis


def one_hot(e: Entries) -> Found:
    """A new axis beside those of the indices."""
    axis, rank = e.axis(0), len(e.shape(0))
    if axis is None or e.only(0):
        return e.only(0)
    return axis + (e.op.integer("axis", -1) % (rank + 1) <= axis)
