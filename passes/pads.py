"""Explicit padding moved into the convolution behind it, where the exporters of mobile networks leave it."""

from __future__ import annotations

from dataclasses import dataclass

from irc.ir import Attribute, Graph, Op, Tensor, Value

from .base import Context, Contract, Pass
from .rewriter import No, Rewriter, rule


@rule("Conv", contract=Contract.REASSOCIATING)
def pad_into_conv(op: Op, rewrite: Rewriter) -> Value | No:
    """Conv(Pad(x, zeros)) pads by itself; an explicit zero times a weight is the term the convolution leaves out."""
    pad = op.needed(0).op
    if pad is None or not pad.is_a("Pad"):
        return No("its input is no Pad")
    if op.string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return No("it chooses its padding itself")
    amounts = spatial_zero_padding(pad)
    if amounts is None:
        return No("the Pad is not constant zeros at the spatial borders")
    begin, end = amounts
    own = op.integers("pads") if op.string("auto_pad", "NOTSET") == "NOTSET" else None
    own = own or (0,) * (2 * len(begin))
    total = tuple(a + b for a, b in zip(own, (*begin, *end), strict=True))
    attributes: dict[str, Attribute] = {k: v for k, v in op.attributes.items() if k != "auto_pad"}
    return rewrite.op("Conv", [pad.operand(0), *op.operands[1:]], {**attributes, "pads": total})


def spatial_zero_padding(pad: Op) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Begin and end amounts of a Pad by constant zeros over spatial dims only, or None when it is anything else."""
    shape, pads, value = pad.needed(0).shape, pad.constant_operand(1), pad.operand(2)
    if shape is None or len(shape) < 3 or pads is None or pad.string("mode", "constant") != "constant":
        return None
    if value is not None and (value.constant is None or not _is_zero(value.constant)):
        return None
    axes = range(len(shape)) if pad.operand(3) is None else _axes(pad.constant_operand(3), len(shape))
    amounts = [int(v) for v in pads.to_list()]
    if axes is None or len(amounts) != 2 * len(axes) or any(v < 0 for v in amounts):
        return None
    begin, end = [0] * len(shape), [0] * len(shape)
    for position, axis in enumerate(axes):
        begin[axis], end[axis] = amounts[position], amounts[position + len(axes)]
    if any((*begin[:2], *end[:2])):
        return None
    return tuple(begin[2:]), tuple(end[2:])


def _is_zero(tensor: Tensor) -> bool:
    return tensor.size == 1 and not tensor.array.any()


def _axes(tensor: Tensor | None, rank: int) -> list[int] | None:
    return None if tensor is None else [int(v) % rank for v in tensor.to_list()]


@dataclass(frozen=True)
class FoldPads(Pass, name="fold-pads", contract=Contract.REASSOCIATING):
    """Move explicit zero padding into the convolution behind it."""

    def run(self, graph: Graph, context: Context) -> None:
        """Drive the one rule over the graph."""
        Rewriter(graph, (pad_into_conv,), context).run()

    @classmethod
    def rewrites(cls) -> tuple[tuple[str, Contract, str], ...]:
        """The rules, by name."""
        return ((pad_into_conv.name, pad_into_conv.contract, pad_into_conv.doc),)
