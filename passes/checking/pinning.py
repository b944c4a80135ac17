"""What ONNX Runtime leaves open in its own run of a graph, pinned down: bits that depend on what stands around an op.

Its Where adds what it chose to a zero, and so loses the sign of one. Ops of f16 without a kernel run in f32, and between two
of them nothing is rounded, unless some other op stands there. Law: a pinned graph means what ONNX says, with the same kernels.
"""

from __future__ import annotations

from irc.ir import Attribute, DType, Graph, Op, Tensor, TensorType, Value, constant_op, make

HALVES = (DType.F16, DType.BF16)


def pin(graph: Graph) -> None:
    """Rewrite `graph` in place: a Where of floats moves bits, and every result in f16 or bf16 is rounded to it."""
    for op in [op for op in graph.walk() if not op.is_constant]:
        for result in op.results:
            kind = result.type
            if isinstance(kind, TensorType) and kind.dtype in HALVES:
                _round(op, result)
        if op.is_a("Where") and isinstance(op.result.type, TensorType) and op.result.type.dtype.is_float:
            _move_bits(op)


def _round(op: Op, result: Value) -> None:
    """Put two Identities, which have a kernel for every type, behind a result: one by itself is run in f32 as well."""
    assert op.graph is not None
    after, value = op.next, result
    made: list[Op] = []
    for _ in range(2):
        made.append(make("Identity", [value], op.location))
        value = made[-1].result
        if after is None:
            op.graph.append(made[-1])
        else:
            op.graph.insert(made[-1], after)
    result.replace_by(value)
    made[0].set_operand(0, result)


def _move_bits(op: Op) -> None:
    """Stack the operands of a Where and gather by its condition; the shape is the Where's own."""
    graph = op.graph
    assert graph is not None

    def put(name: str, operands: list[Value | None], attributes: dict[str, Attribute] | None = None) -> Value:
        return graph.insert(make(name, operands, op.location, attributes=attributes), op).results[0]

    first = graph.insert(constant_op(Tensor.integers((0,)), op.location), op).result
    shape = put("Shape", [put("Where", list(op.operands))])
    whole = [put("Unsqueeze", [put("Expand", [op.operand(index), shape]), first]) for index in (2, 1)]
    places = put("Expand", [put("Cast", [op.operand(0)], {"to": DType.I64.onnx_code}), shape])
    chosen = put("GatherElements", [put("Concat", [*whole], {"axis": 0}), put("Unsqueeze", [places, first])], {"axis": 0})
    squeezed = put("Squeeze", [chosen, first])
    squeezed.type = op.result.type
    op.result.replace_by(squeezed)
    graph.erase(op)
