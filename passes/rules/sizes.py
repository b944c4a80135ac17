"""Sizes of dims as values, taken from an input that has the dim where there is one, so that many places share them."""

from __future__ import annotations

from irc.ir import Dim, Tensor, Value

from ..rewriter import Rewriter


def size_of(value: Value, axis: int, rewrite: Rewriter) -> Value:
    """The size of `value` along `axis`, counted from the front, as i64[1]."""
    dim = (value.shape or ())[axis]
    if isinstance(dim, int):
        return rewrite.constant(Tensor.integers([dim]))
    source, place = _input_with(dim, rewrite) or (value, axis)
    return rewrite.op("Shape", [source], {"start": place, "end": place + 1})


def _input_with(dim: Dim, rewrite: Rewriter) -> tuple[Value, int] | None:
    for value in rewrite.graph.inputs:
        for axis, own in enumerate(value.shape or ()):
            if rewrite.same_dims((own,), (dim,)):
                return value, axis
    return None


__all__ = ["size_of"]
