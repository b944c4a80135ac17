"""bf16 as OpenVINO has it: a setting for a whole model, where the graph says it of each product.

Law: a value that is made bf16 and f32 again is read as it was before, which is nearer to the model. Where all products read
bf16 and the processor multiplies it, OpenVINO is let to compute in it, as it does of itself for a model that says nothing.
"""

from __future__ import annotations

from irc.ir import DType, Graph, Op, Tensor, TensorType, Value, clone_graph, constant_op
from irc.passes.precision import site_of

from ..targets import Target

PRECISION = "precision"
"""The option of the engine that says what it computes in."""
MULTIPLIES = "avx512bf16"


def is_rounding(op: Op) -> bool:
    """Whether an op rounds to bf16 what is made f32 at once, or makes that f32."""
    if not op.is_a("Cast"):
        return False
    made, given = _dtype(op.result), _dtype(op.needed(0))
    if (given, made) == (DType.BF16, DType.F32):
        maker = op.needed(0).op
        return maker is not None and (maker.is_constant or (maker.is_a("Cast") and _dtype(maker.needed(0)) is DType.F32))
    if (given, made) != (DType.F32, DType.BF16) or op.result.is_output:
        return False
    return all(user.is_a("Cast") and _dtype(user.result) is DType.F32 for user in op.result.users)


def _dtype(value: Value) -> DType | None:
    return value.type.dtype if isinstance(value.type, TensorType) else None


def without_rounding(graph: Graph, target: Target) -> tuple[Graph, str]:
    """The graph, or a copy without what rounds to bf16, and the precision to compute in: `bf16`, or `f32`."""
    widening = [op for op in graph.walk() if is_rounding(op) and _dtype(op.result) is DType.F32]
    if not widening:
        return graph, "f32"
    copy = clone_graph(graph)
    for op in [op for op in copy.walk() if is_rounding(op) and _dtype(op.result) is DType.F32]:
        _read_before(op)
    low = MULTIPLIES in target.features and all(_reads_rounded(op) for op in graph.walk() if site_of(op) is not None)
    return copy, "bf16" if low else "f32"


def _reads_rounded(op: Op) -> bool:
    """Whether the data of a product are rounded, or its weights computed: those of attention are left to OpenVINO."""
    data, weights = (op.needed(index).op for index in (0, 1))
    rounded = (maker is not None and maker.is_a("Cast") and is_rounding(maker) for maker in (data, weights))
    return all(rounded) or op.needed(1).constant is None


def _read_before(op: Op) -> None:
    """Let the readers of a widened value read what was rounded, and a constant as an f32."""
    maker = op.needed(0).op
    assert maker is not None
    assert op.graph is not None
    source = maker.needed(0) if not maker.is_constant else None
    if source is None:
        content = maker.value.array.astype(DType.F32.numpy)
        source = op.graph.insert(constant_op(Tensor.from_array(content), op.location, op.result.name), op).result
    op.result.replace_by(source)
    op.graph.erase(op)
    if maker.is_dead and maker.graph is not None:
        maker.graph.erase(maker)
