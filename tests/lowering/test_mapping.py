"""Whether a graph treats the entries of a dim apart: IR in, out the axes of what it returns, or the reason why not."""

from __future__ import annotations

import pytest

from irc.ir.text import parse_graph
from irc.lowering.mapping import Hindrance, mapping_of

SHARED = (
    "%w: f32[4,3], %v: f32[4], %a: f32[], %t: f32[9,4], %m: f32[6,6], %k: f32[2,6,1], %s: f32[6], %i: i64[5], %h: f32[1,2,1,1]"
)
CONSTANTS = """
  %u = const @_ : f32[3] = [1.0, 1.0, 2.0]
  %uu = const @_ : f32[3] = [2.0, 1.0, 1.0]
  %a0 = const @_ : i64[] = [0]
  %a1 = const @_ : i64[] = [1]
  %c0 = const @_ : i64[1] = [0]
  %c1 = const @_ : i64[1] = [1]
  %c2 = const @_ : i64[1] = [2]
  %far = const @_ : i64[1] = [9223372036854775807]
  %big = const @_ : i64[1] = [1000000000]
  %keep = const @_ : i64[2] = [0, -1]
  %flat = const @_ : i64[1] = [-1]
  %pairs = const @_ : i64[2] = [-1, 2]
  %swap = const @_ : i64[2] = [4, -1]
  %heads = const @_ : i64[4] = [0, 2, 2, -1]
  %sides = const @_ : i64[4] = [0, 1, 0, 1]
  %ends = const @_ : i64[4] = [1, 0, 1, 0]
  %thrice = const @_ : i64[2] = [1, 3]
  %more = const @_ : i64[2] = [3, 1]
"""


def verdict(body: str) -> str:
    """`along 0` for a value that a graph returns as %y, `shared` for one that is the same for all, or the hindrance.

    The inputs with entries are x: f32[N,4], q: f32[N,6,4] and j: i64[N,2].
    """
    given = f"%x: f32[N,4], %q: f32[N,6,4], %j: i64[N,2], {SHARED}"
    lines = "\n".join(f"  {line.strip()}" for line in body.strip().splitlines())
    graph = parse_graph(f"graph @main({given}) -> (%y: f32[*]) {{{CONSTANTS}{lines}\n  return %y\n}}")
    found = mapping_of(graph)
    if isinstance(found, Hindrance):
        return found.reason if found.op is None else f"{found.op.name}: {found.reason}"
    assert found is not None, "the dim N is open"
    (y,) = graph.outputs
    return f"along {found.axes[y]}" if y in found.axes else "shared"


TABLE = [
    # elementwise: entries meet on one axis, and what is shared is the same for all
    ("%y = Relu(%x)", "along 0"),
    ("%y = Add(%x, %v)", "along 0"),
    ("%y = Add(%x, %q)", "Add: its operands have N on several axes"),
    ("%z = Reshape(%x, %heads)\n%y = Mul(%z, %h)", "along 0"),
    ("%y = Add(%x, %t)", "Add: operand 1 has a size of its own where others have N"),
    ("%y = Clip(%x, %a, %a)", "along 0"),
    ("%y = Exp(%v)", "shared"),
    # products
    ("%y = MatMul(%x, %w)", "along 0"),
    ("%y = MatMul(%q, %w)", "along 0"),
    ("%y = MatMul(%q, %v)", "along 0"),
    ("%y = MatMul(%m, %q)", "along 0"),
    ("%z = Transpose(%x)\n%y = MatMul(%t, %z)", "output 'y' is f32[9,N], and N should be its first axis"),
    ("%z = Transpose(%x)\n%y = MatMul(%z, %x)", "MatMul: it multiplies or sums along N"),
    ("%z = Transpose(%x)\n%y = MatMul(%x, %z)", "MatMul: it multiplies or sums along N"),
    ("%z = Transpose(%q) {perm=[0,2,1]}\n%y = MatMul(%q, %z)", "along 0"),
    ("%y = Gemm(%x, %w)", "along 0"),
    ("%y = Gemm(%x, %t, %a) {transB=1}", "along 0"),
    ("%y = Gemm(%x, %x) {transA=1}", "Gemm: N is in its right operand"),
    ("%y = Gemm(%w, %x, _) {transA=1,transB=1}", "Gemm: N is in its right operand"),
    ('%y = Einsum(%q, %w) {equation="nij,jk->nik"}', "along 0"),
    ('%y = Einsum(%q, %w) {equation="nij,jk->kin"}', "output 'y' is f32[3,6,N], and N should be its first axis"),
    ('%y = Einsum(%q, %w) {equation="nij,jk->ik"}', "Einsum: it multiplies or sums along N"),
    ('%y = Einsum(%x, %x) {equation="ni,mi->nm"}', "Einsum: its operands have N on several axes"),
    # images
    ("%y = Conv(%q, %k)", "along 0"),
    ("%z = Transpose(%q) {perm=[1,0,2]}\n%y = AveragePool(%z) {kernel_shape=[2]}", "AveragePool: N is not on its first axis"),
    ("%y = MaxPool(%q) {kernel_shape=[2]}", "along 0"),
    ("%z, %y = MaxPool(%q) {kernel_shape=[2]}", "MaxPool: it returns where the largest are among all entries"),
    ("%y = InstanceNormalization(%q, %s, %s)", "along 0"),
    ("%y = BatchNormalization(%q, %s, %s, %s, %s)", "along 0"),
    ("%y, %b, %c = BatchNormalization(%q, %s, %s, %s, %s) {training_mode=1}", "BatchNormalization: it averages along N"),
    ("%y = Resize(%q, _, %u)", "along 0"),
    ("%y = Resize(%q, _, %uu)", "Resize: it resizes along N"),
    # along and over axes
    ("%y = Softmax(%x)", "along 0"),
    ("%y = Softmax(%x) {axis=0}", "Softmax: it normalizes along N"),
    ("%y = LayerNormalization(%q, %v)", "along 0"),
    ("%y = LayerNormalization(%x, %v) {axis=0}", "LayerNormalization: it normalizes along N"),
    ("%y = ReduceSum(%q, %c1) {keepdims=0}", "along 0"),
    ("%z = Transpose(%q) {perm=[1,0,2]}\n%y = ReduceSum(%z, %c0) {keepdims=0}", "along 0"),
    ("%y = ReduceMean(%x)", "ReduceMean: it reduces along N"),
    ("%y = ReduceMax(%q, %c0)", "ReduceMax: it reduces along N"),
    ("%y = ArgMax(%x) {axis=1}", "along 0"),
    ("%y = ArgMax(%x)", "ArgMax: it reduces along N"),
    ("%y, %z = TopK(%x, %c2)", "along 0"),
    ("%y, %z = TopK(%x, %c2) {axis=0}", "TopK: it sorts along N"),
    ("%y = CumSum(%x, %c1)", "along 0"),
    ("%y = CumSum(%x, %c0)", "CumSum: it sums up along N"),
    # movement
    ("%y = Concat(%x, %x) {axis=1}", "along 0"),
    ("%y = Concat(%x, %x) {axis=0}", "Concat: it joins along N"),
    (
        "%z = Reshape(%x, %pairs)\n%n = Slice(%x, %c0, %c2, %c1)\n%y = Concat(%z, %n) {axis=1}",
        "Concat: not all of its operands have N on one axis",
    ),
    ("%y = Concat(%x, %t) {axis=0}", "Concat: not all of its operands have N on one axis"),
    ("%y, %z = Split(%x) {axis=1,num_outputs=2}", "along 0"),
    ("%y = Slice(%x, %c1, %far, %c1)", "along 0"),
    ("%y = Slice(%x, %c0, %far, %c0)", "along 0"),
    ("%y = Slice(%x, %c0, %big, %c0)", "along 0"),
    ("%y = Slice(%x, %c1, %far, %c0)", "Slice: it takes a part along N"),
    ("%y = Slice(%x, %c0, %c2, %c0)", "Slice: it takes a part along N"),
    ("%y = Gather(%t, %j)", "along 0"),
    ("%y = Gather(%w, %j) {axis=1}", "output 'y' is f32[4,N,2], and N should be its first axis"),
    ("%y = Gather(%x, %i) {axis=1}", "along 0"),
    ("%y = Gather(%x, %i)", "Gather: it picks along N"),
    ("%y = Gather(%x, %j) {axis=1}", "Gather: both operands have N"),
    ("%y = GatherElements(%x, %j) {axis=1}", "along 0"),
    ("%y = GatherElements(%x, %j) {axis=0}", "GatherElements: it moves elements along N"),
    ("%y = Transpose(%q) {perm=[2,0,1]}", "output 'y' is f32[4,N,6], and N should be its first axis"),
    ("%y = Reshape(%q, %keep)", "along 0"),
    ("%y = Reshape(%q, %heads)", "along 0"),
    ("%y = Reshape(%q, %pairs)", "along 0"),
    ("%y = Reshape(%q, %flat)", "along 0"),
    ("%y = Reshape(%x, %swap)", "Reshape: it moves elements from one of N to another"),
    ("%z = Transpose(%q) {perm=[1,0,2]}\n%y = Reshape(%z, %keep)", "output 'y' is f32[6,4*N], and N should be its first axis"),
    ("%z = Transpose(%q) {perm=[1,0,2]}\n%y = Reshape(%z, %pairs)", "Reshape: it moves elements from one of N to another"),
    ("%y = Unsqueeze(%x, %c0)", "output 'y' is f32[1,N,4], and N should be its first axis"),
    ("%z = Unsqueeze(%x, %c1)\n%y = Squeeze(%z, %c1)", "along 0"),
    ("%z = Unsqueeze(%x, %c1)\n%y = Squeeze(%z)", "Squeeze: its shape is computed"),
    ("%y = Flatten(%q)", "along 0"),
    ("%y = Flatten(%q) {axis=0}", "output 'y' is f32[1,24*N], and N should be its first axis"),
    ("%y = Flatten(%q) {axis=2}", "along 0"),
    ("%y = Pad(%x, %sides)", "along 0"),
    ("%y = Pad(%x, %ends)", "Pad: it pads along N"),
    ("%y = Tile(%x, %thrice)", "along 0"),
    ("%y = Tile(%x, %more)", "Tile: it repeats along N"),
    # shapes that follow from the number of entries
    ("%n = Shape(%x) {end=1}\n%z = Concat(%n, %c2) {axis=0}\n%y = ConstantOfShape(%z)", "along 0"),
    ("%n = Shape(%x) {end=1}\n%z = Concat(%n, %c2, %c2) {axis=0}\n%y = Expand(%a, %z)", "along 0"),
    ("%n = Shape(%x)\n%y = Expand(%v, %n)", "along 0"),
    ("%n = Shape(%x) {end=1}\n%z = Concat(%n, %c2, %flat) {axis=0}\n%y = Reshape(%q, %z)", "along 0"),
    ("%n = Shape(%q) {start=1}\n%z = Cast(%n) {to=1}\n%y = Div(%x, %a)", "along 0"),
    ("%n = Shape(%q) {start=1}\n%y = Add(%n, %n)", "output 'y' says how large something is that has N"),
    ("%n = Size(%x)\n%y = Add(%n, %n)", "output 'y' says how large something is that has N"),
    ("%n = Shape(%x) {end=1}\n%z = Cast(%n) {to=1}\n%y = Div(%x, %z)", "Cast: it computes with the size of N"),
    ("%n = Size(%x)\n%y = Range(%a0, %n, %a1)", "Range: it computes with the size of N"),
    # what has no rule, and bodies
    ("%y = RandomNormalLike(%x)", "RandomNormalLike: nothing is known of what it does along N"),
    ("%y = NonZero(%x)", "NonZero: nothing is known of what it does along N"),
    ("%y = Unique(%x)", "Unique: nothing is known of what it does along N"),
]


@pytest.mark.parametrize(("body", "wanted"), TABLE)
def test_what_is_said_of_an_op(body: str, wanted: str) -> None:
    assert verdict(body) == wanted
