"""`irc why`: why a rewrite did not happen, where it would matter most; and why an op is not on an engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from . import flags
from .options import compile_options
from .output import Json, print_json, print_table
from .placement import explain, short

if TYPE_CHECKING:
    from irc.ir import Cost, Graph, Op
    from irc.passes import Miss, Registry

NodeFlag = Annotated[str | None, typer.Option("--node", metavar="NAME", help="Only at this node of the model.")]
RuleFlag = Annotated[str | None, typer.Option("--rule", metavar="NAME", help="Only this rewrite.")]
LinesFlag = Annotated[int, typer.Option("--limit", min=1, metavar="N", help="How many misses to print.")]
PlacementFlag = Annotated[bool, typer.Option("--placement", help="Instead: which ops each engine takes, and why not the rest.")]
OnlyEngineFlag = Annotated[str | None, typer.Option("--engine", metavar="NAME", help="With --placement, only this engine.")]
NEAREST = 3
"""Misses of one op that are printed when nothing narrows them down."""


def why_command(
    model: flags.ModelArgument,
    node: NodeFlag = None,
    rule: RuleFlag = None,
    limit: LinesFlag = 20,
    placement: PlacementFlag = False,
    engine: OnlyEngineFlag = None,
    target: flags.TargetFlag = "cpu",
    level: flags.LevelFlag = 2,
    passes: flags.PassesFlag = None,
    load: flags.LoadFlag = None,
    disable: flags.DisableFlag = None,
    dim: flags.DimFlag = None,
    shape: flags.ShapeFlag = None,
    trust_pickle: flags.TrustFlag = False,
    as_json: flags.JsonFlag = False,
) -> None:
    """List rewrites that nearly applied and why they did not, at the most expensive ops first; or where ops are placed."""
    from irc.ir import UsageError, cost_of, specialize
    from irc.lowering import pass_manager, without_defaults
    from irc.passes import Contract, registry

    from .models import open_model

    if engine is not None and not placement:
        raise UsageError("--engine is about placement, which is not asked for", hint="add --placement")
    if rule is not None and placement:
        raise UsageError("--rule is about rewrites, and --placement about engines", hint="leave one of them out")
    options = compile_options(level=level, passes=passes, load=load, disable=disable, dim=dim, shape=shape)
    known = registry(options.load)
    manager = pass_manager(options, known, strictest=Contract.LOSSY if level >= 2 else None)
    graph = open_model(model, trust_pickle).graph()
    specialize(graph, options.dims, options.shapes)
    closed = without_defaults(graph, options, ())
    graph = graph if isinstance(closed, str) else closed  # what runs, unless a call overrides a default
    _check_rule(rule, known)
    _check_node(node, graph)
    if placement:
        explain(manager.run(graph), target, engine, node, limit, as_json)
        return
    manager.remark = True
    result = manager.run(graph)
    left = _final(manager.misses, result)
    costs = {op: cost_of(op) for op in {miss.op for miss in left}}
    chosen = [m for m in left if rule in (None, m.rewrite) and (node is None or node in _origins(m.op))]
    ranked = _ranked(chosen, costs, None if node or rule else NEAREST)
    if as_json:
        print_json({"misses": [_to_json(miss, costs[miss.op]) for miss in ranked[:limit]], "all": len(chosen)})
        return
    if not ranked:
        print(_nothing(node, rule, result))
        return
    rows = [
        (m.op.location.name, m.op.qualified_name, m.rewrite, m.matched, short(c.flops), short(c.bytes), m.reason)
        for m in ranked[:limit]
        for c in (costs[m.op],)
    ]
    print_table(None, ("node", "op", "rewrite", "matched", "FLOPs", "bytes", "why not"), rows)
    if len(rows) < len(chosen):
        print(f"{len(rows)} of {len(chosen)}; --limit, --node and --rule show others")


def _check_rule(rule: str | None, known: Registry) -> None:
    from irc.ir import UsageError, closest

    names = {name for kind in known.passes.values() for name in (kind.name, *(r[0] for r in kind.rewrites()))}
    if rule is not None and rule not in names:
        hint = closest(rule, sorted(names)) or "`irc passes --rewrites` lists them"
        raise UsageError(f"there is no rewrite '{rule}'", hint=hint)


def _check_node(node: str | None, graph: Graph) -> None:
    from irc.ir import UsageError, closest

    names = {origin for op in graph.walk() for origin in _origins(op)}
    if node is not None and node not in names:
        hint = closest(node, sorted(names)) or "`irc inspect MODEL --ir` prints where each op comes from"
        raise UsageError(f"the model has no node '{node}'", hint=hint)


def _origins(op: Op) -> tuple[str, ...]:
    return op.location.flatten()[0]


def _final(misses: Iterable[Miss], graph: Graph) -> list[Miss]:
    """The last miss of each rewrite at each op that is still there; what matched later has replaced its op."""
    there = {op for op in graph.walk() if not op.is_constant}
    last: dict[tuple[str, Op], Miss] = {}
    for miss in misses:
        if miss.op in there:
            last[miss.rewrite, miss.op] = miss
    return list(last.values())


def _ranked(misses: Iterable[Miss], costs: Mapping[Op, Cost], nearest: int | None) -> list[Miss]:
    """The most expensive ops first, of each the nearest misses first and at most `nearest` of them."""
    ordered = sorted(misses, key=lambda m: (-costs[m.op].weight, m.op.location.name, id(m.op), -m.matched, m.rewrite))
    if nearest is None:
        return ordered
    seen: dict[Op, int] = {}
    kept: list[Miss] = []
    for miss in ordered:
        seen[miss.op] = seen.get(miss.op, 0) + 1
        if seen[miss.op] <= nearest:
            kept.append(miss)
    return kept


def _nothing(node: str | None, rule: str | None, graph: Graph) -> str:
    """What to say where there is no miss."""
    subject = f"'{rule}' has not" if rule is not None else "no rewrite has"
    if node is None:
        return f"nothing was missed: {subject} looked at an op in vain"
    here = [op for op in graph.walk() if node in _origins(op) and not op.is_constant]
    if not here:
        return f"'{node}' is gone: folded into constants, merged with an equal op, or not needed"
    listed = ", ".join(dict.fromkeys(f"{op.qualified_name} at {op.location}" for op in here))
    return f"nothing was missed at '{node}', which is now {listed}: {subject} looked at it in vain"


def _to_json(miss: Miss, cost: Cost) -> dict[str, Json]:
    return {
        "rewrite": miss.rewrite,
        "op": miss.op.qualified_name,
        "node": miss.op.location.name,
        "location": str(miss.op.location),
        "matched": miss.matched,
        "flops": cost.flops,
        "bytes": cost.bytes,
        "reason": miss.reason,
    }
