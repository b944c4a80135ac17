"""Ops said in the form that ONNX Runtime's CPU kernels run fastest, by measurement; the answers stay the same.

The IR knows a fused op in one spelling, ONNX's own. `legalize` turns it into what benchmarks/forms.py found to be fastest,
and into what the kernel takes where it takes less than ONNX defines. Most ops need nothing: the kernels of
LayerNormalization, RMSNormalization, RotaryEmbedding and Gelu are the fastest of their forms.
"""

from __future__ import annotations

from irc.ir import Graph
from irc.passes import Context, Rewriter, Rule

from . import activation, attention, dynamic, epilogue, layout, masks, matmul, normalization, quantized, reduction, weights

# Masks come after attention: what a mask is expanded to is asked of the operands that attention ends up with.
RULES: tuple[Rule, ...] = (
    *attention.RULES,
    *masks.RULES,
    *normalization.RULES,
    *activation.RULES,
    *reduction.RULES,
    *quantized.RULES,
    *dynamic.RULES,
    *weights.RULES,
    *matmul.RULES,
    *epilogue.RULES,
    *layout.RULES,
)

CPU_ONLY: tuple[Rule, ...] = (*dynamic.RULES, *epilogue.RULES, *weights.RULES)
"""What was measured on CPUs or has no other kernels."""


WITHOUT_VNNI: tuple[Rule, ...] = quantized.WITHOUT_VNNI
"""What only x86-64 processors without VNNI need."""


def legalize(graph: Graph, context: Context | None = None) -> Context:
    """Rewrite `graph` in place, as far as `context` lets it; the context returned counts what was done, by rule.

    Where it has a checker, each rewrite is checked on the values that `graph` holds.
    """
    context = Context() if context is None else context
    if context.checker is not None:
        context.checker.begin(graph)
    Rewriter(graph, RULES, context).run()
    return context


__all__ = ["CPU_ONLY", "RULES", "WITHOUT_VNNI", "legalize"]
