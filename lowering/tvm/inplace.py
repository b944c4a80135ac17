"""Results in the place of what is needed for the last time: a sum takes the memory of one of its terms.

Law: a call may write over an operand if it reads each of its elements only where, and just before, it writes the element of the
result that lies there, and if nobody needs the operand afterwards. `Call.replaceable` says of which operands the first is so;
here it is seen which of them are needed no longer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from .memory import Arena, Span, arena_of
from .places import Buffer, Call, Place, Storage, lifetimes


def lies_as(place: Place, target: Place) -> bool:
    """Whether each element of `target` lies where that of `place` of the same index does, in a buffer of the same kind."""
    view, wanted = place.view, target.view
    axes = [axis for axis, size in enumerate(wanted.shape) if size > 1]
    return (
        (place.dtype, place.buffer.size) == (target.dtype, target.buffer.size)
        and (view.shape, view.offset) == (wanted.shape, wanted.offset)
        and all(view.strides[axis] == wanted.strides[axis] for axis in axes)
    )


@dataclass(frozen=True, slots=True)
class Program:
    """Calls, when each buffer of the arena is needed, and where it lies; what is written over ends a step before that."""

    calls: Sequence[Call]
    spans: Mapping[Buffer, Span]
    arena: Arena[Buffer]


def placed(calls: Sequence[Call]) -> Program:
    """Calls with a place for each of their buffers, results in the place of operands wherever that may be."""
    spans = {buffer: Span(*span, buffer.byte_count) for buffer, span in lifetimes(calls).items()}
    owners: dict[Buffer, Buffer] = {}
    made: list[Call] = []
    for number, call in enumerate(calls):
        taken = _taken(call, number, spans)
        if taken is None:
            made.append(call)
            continue
        owners[call.result] = owners.get(taken, taken)
        spans[taken] = replace(spans[taken], last=number - 1)
        made.append(replace(call, kernel=call.kernel.with_aliases()))
    return Program(made, spans, _arena(spans, owners))


def _taken(call: Call, number: int, spans: Mapping[Buffer, Span]) -> Buffer | None:
    """The operand that nobody needs after this call, where the result is new."""
    if call.result.storage is not Storage.ARENA or spans[call.result].first != number:
        return None
    uses = Counter(call.buffers)
    fit = (
        each
        for each in call.replaceable
        if each.storage is Storage.ARENA and uses[each] == 1 and spans[each].first < number == spans[each].last
    )
    return next(fit, None)


def _arena(spans: Mapping[Buffer, Span], owners: Mapping[Buffer, Buffer]) -> Arena[Buffer]:
    """One place for an owner and all that take it after it, as long as one of them is needed."""
    whole: dict[Buffer, Span] = {}
    for buffer, span in spans.items():
        owner = owners.get(buffer, buffer)
        before = whole.get(owner, span)
        whole[owner] = Span(min(before.first, span.first), max(before.last, span.last), span.byte_count)
    arena = arena_of(whole)
    return replace(arena, offsets={buffer: arena.offsets[owners.get(buffer, buffer)] for buffer in spans})


__all__ = ["Program", "lies_as", "placed"]
