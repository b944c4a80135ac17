"""A graph with a form for each of its sites: the very ops that every engine sees.

Law: the graph itself stays as it is; forms are by the index of a site, which a graph and its copies share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, prod
from typing import TypeAlias

from irc.ir import DType, Graph, TensorType, Value, clone_graph, cost_of, widen_inside
from irc.passes import registry
from irc.passes.precision import (
    CONTRACTIONS,
    Form,
    Site,
    correct_biases,
    narrow,
    narrow_attention,
    quantize,
    quantize_dynamically,
    quantize_weights,
    site_of,
    sites,
    wanted_values,
    why_not_dynamic,
    why_not_narrow,
    why_not_quantized,
    why_not_quantized_weights,
)

from ..engine import Wish
from ..managers import pass_manager
from ..options import CompileOptions
from .knowledge import NOTHING, Knowledge

Forms: TypeAlias = "Sequence[Form]"
"""The form of each site, in order."""
Lowering: TypeAlias = "Callable[[Graph, list[Site], Knowledge], None]"

NARROW_FLOATS = {DType.F16: Form.F16, DType.BF16: Form.BF16}
"""Types that models come in, of which f32 holds all numbers, and the forms that are as narrow."""
ROUNDED = frozenset({Form.BF16, Form.INT8, Form.DYNAMIC_INT8})
"""The forms in which data are at least as coarse as bf16."""
FEW_ROWS = 8
"""Rows of data up to which a product waits for its weights: two operations a byte of f32 are far below what processors do."""
LEAST_STREAMED = 0.1
"""The share of all arithmetic that such products have where their weights are worth a form; that behind a CNN has less."""
SMALLEST_F16, LARGEST_F16 = 2.0**-14, 65504.0
F16_MARGIN = 2.0
"""How much larger data may become than what was seen."""


def optimized(graph: Graph, options: CompileOptions) -> Graph:
    """A copy of a captured graph after the passes that are asked for, in which sites stand as they will be compiled."""
    return pass_manager(options, registry(options.load)).run(clone_graph(graph), lambda: clone_graph(graph))


def in_f32(graph: Graph, asked: Form | None = None) -> Graph:
    """A graph whose contractions are in f32: a copy of one in f16 or bf16, whose inputs and outputs stay, or the graph itself.

    What has the type already that is `asked` for stays, and so does a graph that cannot be widened.
    """
    wider = {each: DType.F32 for each, form in NARROW_FLOATS.items() if form is not asked}
    multiplied = [op.needed(0).type for op in graph.walk() if op.is_a(*CONTRACTIONS)]
    if not any(isinstance(kind, TensorType) and kind.dtype in wider for kind in multiplied):
        return graph
    return widen_inside(graph, wider) or graph


def with_forms(graph: Graph, forms: Forms, knowledge: Knowledge = NOTHING) -> Graph:
    """A copy of a graph in which each site has its form. What is `known` is known of the graph itself."""
    copy = clone_graph(graph)
    known = knowledge.of_copy(graph, copy)
    found = sites(copy)
    for form, lowering in LOWERINGS.items():  # integers first: what they read stays in steps for all its readers
        chosen = [site for site, wanted in zip(found, forms, strict=True) if wanted is form]
        if chosen:
            lowering(copy, chosen, known)
    if Wish.NARROW_ATTENTION in known.wishes:
        narrow_attention(copy, [site for site, form in zip(found, forms, strict=True) if form in ROUNDED])
    return copy


def everywhere(graph: Graph, form: Form, knowledge: Knowledge = NOTHING) -> list[Form]:
    """A form for each site that can have it, f32 for the others."""
    return [Form.F32 if why_not(site, form, knowledge) else form for site in sites(graph)]


def as_asked(graph: Graph, form: Form, knowledge: Knowledge = NOTHING) -> list[Form]:
    """What becomes of each site where one form is asked for: 8 bits are by the range of each run where that varies."""
    found = everywhere(graph, form, knowledge)
    if form is not Form.INT8:
        return found
    dynamic = everywhere(graph, Form.DYNAMIC_INT8, knowledge)
    return [other if other is not Form.F32 else own for own, other in zip(found, dynamic, strict=True)]


def integer_forms(knowledge: Knowledge) -> tuple[Form, ...]:
    """The forms of 8 bits that a search may choose from."""
    return (Form.INT8, Form.DYNAMIC_INT8) if knowledge.varying else (Form.INT8,)


def streamed_forms(graph: Graph) -> tuple[Form, ...]:
    """The forms of weights alone that a search may choose from: where rows of data are few, reading weights takes the time."""
    flops = {site: cost_of(site.op).flops for site in sites(graph)}
    streamed = sum(count for site, count in flops.items() if is_streamed(site))
    return (Form.INT8_WEIGHTS,) if streamed and streamed >= LEAST_STREAMED * sum(flops.values()) else ()


def is_streamed(site: Site) -> bool:
    """Whether a site is a product of FEW_ROWS of data, or fewer, and constant weights."""
    if why_not_quantized_weights(site):
        return False
    shape = list(site.data.shape or ())
    del shape[site.data_axis]
    return all(isinstance(dim, int) for dim in shape) and prod(dim for dim in shape if isinstance(dim, int)) <= FEW_ROWS


def why_not(site: Site, form: Form, knowledge: Knowledge = NOTHING) -> str:
    """Why a site cannot have a form, as a clause; empty where nothing speaks against it."""
    return REFUSALS[form](site, knowledge)


def _why_not_int8(site: Site, known: Knowledge) -> str:
    missing = any(value not in known.ranges for value in wanted_values_of(site))
    return why_not_quantized(site) or ("it is in the body of a loop or a branch" if missing else "")


def _why_not_dynamic(site: Site, known: Knowledge) -> str:
    return why_not_dynamic(site) or ("" if site.op in known.varying else "its data reach about as far in each sample")


def wanted_values_of(site: Site) -> list[Value]:
    """The values whose ranges a site needs."""
    assert site.op.graph is not None
    return wanted_values(site.op.graph, [site])


def _why_not_f16(site: Site, known: Knowledge) -> str:
    seen = [known.magnitudes.get(value, 0.0) for value in (site.data, site.weights)]
    largest, smallest = max(seen), min((each for each in seen if each > 0), default=inf)
    too_large = f"its data reach {largest:.1e}, and f16 ends at {LARGEST_F16:.0f}"
    if F16_MARGIN * largest > LARGEST_F16:
        return why_not_narrow(site, DType.F16) or too_large
    too_small = f"its data reach {smallest:.1e}, and f16 has fewer digits below {SMALLEST_F16:.1e}"
    return why_not_narrow(site, DType.F16) or (too_small if smallest < SMALLEST_F16 else "")


def _to_int8(graph: Graph, chosen: list[Site], known: Knowledge) -> None:
    ranges = {**known.ranges, **(known.results if Wish.ROUNDED_RESULTS in known.wishes else {})}
    if known.corrects_biases:
        correct_biases(chosen, known.weights, known.means)
        # A product may read an Add that is behind another one now.
        chosen = [site for each in chosen if (site := site_of(each.op)) is not None]
        for value in wanted_values(graph, chosen):  # an Add that was put behind a product has about the range of that
            if value not in ranges and value.op is not None:
                ranges[value] = ranges[value.op.needed(0)]
    quantize(graph, chosen, ranges, known.weights)


def _to_dynamic_int8(graph: Graph, chosen: list[Site], known: Knowledge) -> None:
    if known.corrects_biases:
        correct_biases(chosen, known.weights, known.means)
    quantize_dynamically(chosen, known.weights)


def _to_int8_weights(graph: Graph, chosen: list[Site], known: Knowledge) -> None:
    quantize_weights(graph, chosen, 8, 0, symmetric=True, compensation=known.grams)


def _to_int4_weights(graph: Graph, chosen: list[Site], known: Knowledge) -> None:
    quantize_weights(graph, chosen, 4, known.block_size, compensation=known.grams)


def _to_bf16(graph: Graph, chosen: list[Site], known: Knowledge) -> None:
    narrow(graph, chosen, DType.BF16)


def _to_f16(graph: Graph, chosen: list[Site], known: Knowledge) -> None:
    narrow(graph, chosen, DType.F16)


LOWERINGS: dict[Form, Lowering] = {
    Form.INT8: _to_int8,
    Form.DYNAMIC_INT8: _to_dynamic_int8,
    Form.INT8_WEIGHTS: _to_int8_weights,
    Form.INT4_WEIGHTS: _to_int4_weights,
    Form.BF16: _to_bf16,
    Form.F16: _to_f16,
}
"""How sites of a graph get a form; one row each."""

REFUSALS: dict[Form, Callable[[Site, Knowledge], str]] = {
    Form.F32: lambda site, known: "",
    Form.BF16: lambda site, known: why_not_narrow(site, DType.BF16),
    Form.F16: _why_not_f16,
    Form.INT8: _why_not_int8,
    Form.DYNAMIC_INT8: _why_not_dynamic,
    Form.INT8_WEIGHTS: lambda site, known: why_not_quantized_weights(site),
    Form.INT4_WEIGHTS: lambda site, known: why_not_quantized_weights(site),
}
"""Why a site cannot have a form."""
