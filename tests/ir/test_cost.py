"""What ops cost by their types: the formulas of textbooks, and orders that must hold."""

from __future__ import annotations

import pytest

from irc.ir import Cost, Graph, cost_of
from irc.ir.text import parse_graph

CASES = {
    "MatMul(%a, %b) : f32[8,16,64]": ("%a: f32[8,16,32], %b: f32[32,64]", 2 * 8 * 16 * 32 * 64),
    "Gemm(%a, %b) {transA=1} : f32[16,64]": ("%a: f32[32,16], %b: f32[32,64]", 2 * 16 * 32 * 64),
    "Conv(%a, %b) {pads=[1,1,1,1]} : f32[1,8,10,10]": ("%a: f32[1,4,10,10], %b: f32[8,4,3,3]", 2 * 8 * 100 * 4 * 9),
    "Conv(%a, %b) {group=4} : f32[1,8,8,8]": ("%a: f32[1,4,10,10], %b: f32[8,1,3,3]", 2 * 8 * 64 * 9),
    "ConvTranspose(%a, %b) : f32[1,8,12,12]": ("%a: f32[1,4,10,10], %b: f32[4,8,3,3]", 2 * 400 * 8 * 9),
    "Attention(%a, %b, %b) : f32[2,3,5,7]": ("%a: f32[2,3,5,7], %b: f32[2,3,11,7]", 4 * 2 * 3 * 5 * 11 * 7),
    'Einsum(%a, %b) {equation="bij,jk->bik"} : f32[2,3,5]': ("%a: f32[2,3,4], %b: f32[4,5]", 2 * 2 * 3 * 4 * 5),
    "MaxPool(%a) {kernel_shape=[3,3]} : f32[1,4,8,8]": ("%a: f32[1,4,10,10], %b: f32[1]", 4 * 64 * 9),
    "Add(%a, %b) : f32[3,4]": ("%a: f32[3,4], %b: f32[4]", 12),
    "Transpose(%a) : f32[4,3]": ("%a: f32[3,4], %b: f32[1]", 0),
}


def only(inputs: str, call: str) -> Graph:
    """A graph of one op."""
    kind = call.rpartition(" : ")[2]
    return parse_graph(f"graph @main({inputs}) -> (%y: {kind}) {{\n%y = {call}   @here\nreturn %y\n}}")


@pytest.mark.parametrize("call", CASES)
def test_operations(call: str) -> None:
    inputs, flops = CASES[call]
    (op,) = only(inputs, call)
    assert cost_of(op).flops == flops


def test_bytes() -> None:
    (op,) = only("%a: f32[3,4], %b: f16[4]", "Identity(%a) : f32[3,4]")
    assert cost_of(op) == Cost(0, 0), "nothing is moved for another shape"
    (op,) = only("%a: f16[3,4], %b: f16[4]", "Add(%a, %b) : f16[3,4]")
    assert cost_of(op).bytes == 2 * (12 + 4 + 12)
    (op,) = only("%a: f32[50000,8], %b: i64[2]", "Gather(%a, %b) : f32[2,8]")
    assert cost_of(op).bytes == 2 * (2 * 8 * 4) + 16, "a lookup does not read the table"


def test_named_dims_have_the_sizes_given() -> None:
    (op,) = only("%a: f32[N,4], %b: f32[4,4]", "MatMul(%a, %b) : f32[N,4]")
    assert cost_of(op).flops == 2 * 4 * 4
    assert cost_of(op, {"N": 10}).flops == 2 * 10 * 4 * 4


def test_a_product_weighs_more_than_what_moves_it() -> None:
    (product,) = only("%a: f32[512,512], %b: f32[512,512]", "MatMul(%a, %b) : f32[512,512]")
    (move,) = only("%a: f32[512,512], %b: f32[1]", "Transpose(%a) : f32[512,512]")
    assert cost_of(product).weight > cost_of(move).weight > 0
