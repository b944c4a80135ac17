"""Sequences as calls of kernels: embeddings, normalizations, softmaxes and attention."""

from __future__ import annotations

from dataclasses import replace

from irc.ir import DType, Op, Value

from .attention import attention
from .attention_plan import AttentionRequest, in_pairs, panels_of
from .behind import apart, finish_of
from .expressions import dtype_of, shape_of
from .gathering import gather
from .kernel import product
from .lowerer import Lowerer
from .narrow import narrow
from .normalizing import lower_statistics
from .places import Buffer, Place
from .reductions import ReductionRequest, argument, cumulative_sum, reduction
from .regions import Region
from .rotary import RotaryRequest, rotary_embedding
from .rows import Affine, RowRequest, layer_normalization, log_softmax, rms_normalization, softmax
from .views import View


def lower_gather(lowerer: Lowerer, region: Region) -> None:
    """Gather along one axis, of dense copies."""
    op = region.op
    data, indices = lowerer.dense(op.needed(0)), lowerer.dense(op.needed(1))
    shape = data.view.shape
    axis = op.integer("axis", 0) % len(shape)
    kernel = gather(
        data.dtype,
        indices.dtype,
        product(shape[:axis]),
        shape[axis],
        indices.view.size,
        product(shape[axis + 1 :]),
        lowerer.machine.lanes,
    )
    target = lowerer.fresh(op.result)
    lowerer.call(kernel, [data.buffer, indices.buffer, lowerer.status, target.buffer], (op,))


def lower_normalization(lowerer: Lowerer, region: Region) -> None:
    """LayerNormalization and RMSNormalization over the axes from one on."""
    op = region.op
    source = lowerer.place(op.needed(0))
    shape = source.view.shape
    axis = op.integer("axis", -1) % len(shape)
    reduced = len(shape) - axis
    operands = [lowerer.place(value) for value in op.operands[1:] if value is not None]
    views = [place.view.broadcast(shape) for place in operands]
    finish = finish_of(lowerer, region)
    behind = finish.behind(lambda view: view)
    request = RowRequest(source.view, finish.target.view, lowerer.machine.lanes, reduced, behind=behind)
    affine = Affine(views[0], views[1] if len(views) > 1 else None)
    make = layer_normalization if op.is_a("LayerNormalization") else rms_normalization
    epsilon = op.attributes.get("epsilon", 1e-5)
    assert isinstance(epsilon, float)
    kernel = make(request, epsilon, affine)
    buffers = [source.buffer, *(place.buffer for place in operands), *finish.buffers]
    lowerer.call(kernel, buffers, finish.ops, beside=finish.beside)
    if any(result.uses or result.is_output for result in op.results[1:]):
        lower_statistics(lowerer, op, source, tuple(range(axis, len(shape))))


def lower_argument(lowerer: Lowerer, region: Region) -> None:
    """ArgMax and ArgMin over one axis."""
    op = region.op
    source = lowerer.place(op.needed(0))
    axis = op.integer("axis", 0) % len(source.view.shape)
    target = lowerer.fresh(op.result)
    kept = [size for each, size in enumerate(source.view.shape) if each != axis]
    request = ReductionRequest(source.view, (axis,), View.dense(kept), source.dtype, lowerer.machine.lanes)
    kernel = argument(op.name, request, last=bool(op.integer("select_last_index", 0)))
    lowerer.call(kernel, [source.buffer, target.buffer], (op,))


def lower_cumulative_sum(lowerer: Lowerer, region: Region) -> None:
    """CumSum along a constant axis, which is the last of the kernel's views; the reverse goes backwards."""
    op = region.op
    source, target = lowerer.place(op.needed(0)), lowerer.fresh(op.result)
    axis = op.constant_operand(1)
    assert axis is not None, "it is constant"
    along = int(axis.array.reshape(-1)[0]) % len(source.view.shape)
    order = [*(each for each in range(len(source.view.shape)) if each != along), along]

    def view(place: Place) -> View:
        made = place.view.permuted(order)
        count = made.shape[-1]
        return made.sliced(len(order) - 1, count - 1, count, -1) if op.integer("reverse", 0) else made

    exclusive = bool(op.integer("exclusive", 0))
    kernel = cumulative_sum(view(source), view(target), source.dtype, lowerer.machine.lanes, exclusive=exclusive)
    lowerer.call(kernel, [source.buffer, target.buffer], (op,))


def lower_softmax(lowerer: Lowerer, region: Region) -> None:
    """Softmax and LogSoftmax over one axis, which is the last of the kernel's views."""
    op = region.op
    source = lowerer.place(op.needed(0))
    rank = len(source.view.shape)
    axis = op.integer("axis", -1) % rank
    order = [*(each for each in range(rank) if each != axis), axis]
    finish = finish_of(lowerer, region, source)
    behind = finish.behind(lambda view: view.permuted(order))
    views = source.view.permuted(order), finish.target.view.permuted(order)
    request = RowRequest(*views, lowerer.machine.lanes, behind=behind)
    if behind is not None and not request.fits:
        return apart(lowerer, region, lower_softmax)
    kernel = softmax(request) if op.is_a("Softmax") else log_softmax(request)
    return lowerer.call(kernel, [source.buffer, *finish.buffers], finish.ops, beside=finish.beside)


def lower_attention(lowerer: Lowerer, region: Region) -> None:
    """Attention, whose heads are an axis of views."""
    op = region.op
    heads, shared = op.integer("q_num_heads", 0), op.integer("kv_num_heads", 0)
    places = [_lying(lowerer, op.needed(0)), *(_with_past(lowerer, op, number, shared) for number in (1, 2))]
    query, key, value = (_by_head(places[0].view, heads), places[1].view, places[2].view)
    finish = finish_of(lowerer, region)
    mask = op.operand(3)
    masked = None if mask is None else lowerer.place(mask)
    scale = op.attributes.get("scale", query.shape[-1] ** -0.5)
    softcap = op.attributes.get("softcap", 0.0)
    assert isinstance(scale, float)
    assert isinstance(softcap, float)
    request = AttentionRequest(
        query,
        key,
        value,
        _by_head(finish.target.view, heads),
        scale,
        lowerer.machine.lanes,
        lowerer.machine.registers,
        bool(op.integer("is_causal", 0)),
        None if masked is None else masked.view.broadcast((*query.shape[:3], key.shape[2])),
        None if masked is None else masked.dtype,
        softcap,
        key.shape[2] - shape_of(op.needed(1))[-2],
        dtypes=(places[0].dtype, places[1].dtype, places[2].dtype),
    )
    request = in_pairs(request, lowerer.machine.features)
    masks = [] if masked is None else [masked.buffer]
    if region.tree is not None and panels_of(request) > 1:
        between = Place(Buffer(DType.F32, finish.target.view.size), View.dense(finish.target.view.shape))
        finish = replace(finish, kept=between)
    request = replace(request, behind=finish.behind(lambda view: _by_head(view, heads)))
    buffers = [*(place.buffer for place in places), *masks, *finish.buffers]
    lowerer.call(attention(request), buffers, finish.ops, beside=finish.beside)


def _lying(lowerer: Lowerer, value: Value) -> Place:
    """A value as it lies: the bf16 that it is the f32 of, or the value itself."""
    lying = narrow(value)
    return lowerer.place(lying if lying is not None and dtype_of(lying) is DType.BF16 else value)


def _with_past(lowerer: Lowerer, op: Op, number: int, heads: int) -> Place:
    """The keys of an Attention, or the values, by their heads, behind those of the past; the op may return them, too."""
    past = op.operand(number + 3)
    present = op.results[number] if len(op.results) > number else None
    is_wide = past is not None or present is not None
    given = lowerer.place(op.needed(number)) if is_wide else _lying(lowerer, op.needed(number))
    view = _by_head(given.view, heads)
    if past is None:
        if present is not None:
            lowerer.places[present] = Place(given.buffer, view)
        return Place(given.buffer, view)
    before = lowerer.place(past)
    shape = (*view.shape[:2], before.view.shape[2] + view.shape[2], view.shape[3])
    whole = Place(Buffer(given.dtype, product(shape)), View.dense(shape)) if present is None else lowerer.fresh(present)
    start = before.view.shape[2]
    lowerer.copy(before, Place(whole.buffer, whole.view.sliced(2, 0, start)), (op,))
    lowerer.copy(Place(given.buffer, view), Place(whole.buffer, whole.view.sliced(2, start, view.shape[2])), (op,))
    return whole


def lower_rotary(lowerer: Lowerer, region: Region) -> None:
    """RotaryEmbedding, whose heads are an axis of views."""
    op = region.op
    places = [lowerer.place(op.needed(index)) for index in range(3)]
    positions = op.operand(3)
    given = None if positions is None else lowerer.place(positions)
    heads = op.integer("num_heads", 0)
    target = lowerer.fresh(op.result)
    source, result = _by_head(places[0].view, heads), _by_head(target.view, heads)
    request = RotaryRequest(
        source,
        result,
        places[1].view,
        places[2].view,
        op.integer("rotary_embedding_dim", 0) or source.shape[-1],
        lowerer.machine.lanes,
        bool(op.integer("interleaved", 0)),
        None if given is None else given.view,
    )
    buffers = [*(place.buffer for place in places), *([] if given is None else [given.buffer, lowerer.status]), target.buffer]
    lowerer.call(rotary_embedding(request), buffers, (op,))


def lower_reduction(lowerer: Lowerer, region: Region) -> None:
    """A reduction over constant axes, all of them where none are named."""
    op = region.op
    source = lowerer.place(op.needed(0))
    rank = len(source.view.shape)
    axes = reduced_axes(op, rank)
    target = lowerer.fresh(op.result)
    kept = [size for axis, size in enumerate(source.view.shape) if axis not in axes]
    request = ReductionRequest(source.view, axes, View.dense(kept), source.dtype, lowerer.machine.lanes)
    lowerer.call(reduction(op.name, request), [source.buffer, target.buffer], (op,))


def reduced_axes(op: Op, rank: int) -> tuple[int, ...]:
    """The axes that a reduction sums over, in order; none where it does nothing at all."""
    given = op.constant_operand(1)
    named = op.integers("axes") if given is None else tuple(int(axis) for axis in given.to_list())
    if not named:
        return () if op.integer("noop_with_empty_axes", 0) else tuple(range(rank))
    return tuple(sorted(axis % rank for axis in named))


def _by_head(view: View, heads: int) -> View:
    """[batch, heads, tokens, size] of a view that is so already, or has the heads in its last axis."""
    if len(view.shape) == 4:
        return view
    batch, tokens, width = view.shape
    split = view.reshaped((batch, tokens, heads, width // heads))
    assert split is not None, "one axis is always split"
    return split.permuted((0, 2, 1, 3))
