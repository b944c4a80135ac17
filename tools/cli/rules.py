"""`irc rules`: the catalogue of rewrites with their contracts, how often each applies to a model, and one of them at work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import flags
from .output import Json, print_json, print_table

if TYPE_CHECKING:
    from irc.passes import Rule

ModelArgument = Annotated[
    Path | None, typer.Argument(metavar="[MODEL]", help="Count how often each rule applies to this model; default: none.")
]
TopicFlag = Annotated[str | None, typer.Option("--topic", metavar="NAME", help="Only the rules of one topic.")]
ShowFlag = Annotated[str | None, typer.Option("--show", metavar="RULE", help="One rule in full, with an example made from it.")]

TRIES = 400


def rules_command(
    model: ModelArgument = None,
    topic: TopicFlag = None,
    show: ShowFlag = None,
    level: flags.LevelFlag = 2,
    load: flags.LoadFlag = None,
    as_json: flags.JsonFlag = False,
) -> None:
    """List the rules with topic, contract and sources; with a model, how often each applies to it."""
    from irc.ir import UsageError, closest
    from irc.passes import catalogue_by_topic, user_rules

    by_topic = catalogue_by_topic()
    by_topic["yours"] = tuple(user_rules(tuple(load or ())))
    if topic is not None and topic not in by_topic:
        hint = closest(topic, list(by_topic)) or f"topics: {', '.join(by_topic)}"
        raise UsageError(f"there is no topic '{topic}'", hint=hint)
    rows = [(name, rule) for name, rules in by_topic.items() if topic in (None, name) for rule in rules]
    if show is not None:
        chosen = next((rule for _, rule in rows if rule.name == show), None)
        if chosen is None:
            hint = closest(show, [rule.name for _, rule in rows]) or "`irc rules` lists them"
            raise UsageError(f"there is no rule '{show}'", hint=hint)
        _show(chosen, as_json)
        return
    counts = _counts(model, level, load) if model is not None else None
    _list(rows, counts, as_json)


def _counts(model: Path, level: int, load: Sequence[str] | None) -> Counter[str]:
    """Applications by rule over a whole level, the rules of the user's files after it."""
    from irc.ir import capture
    from irc.passes import Contract, PassManager, registry, user_rules

    files = tuple(load or ())
    pipeline = ", ".join([f"O{level}", *(rule.name for rule in user_rules(files))])
    strictest = Contract.EXACT if level <= 1 else Contract.REASSOCIATING
    manager = PassManager(registry(files).pipeline(pipeline), strictest=strictest)
    manager.run(capture(model), lambda: capture(model))
    return manager.totals


def _list(rows: list[tuple[str, Rule]], counts: Counter[str] | None, as_json: bool) -> None:
    if as_json:
        listed: list[Json] = [
            {
                "name": rule.name,
                "topic": topic,
                "contract": rule.contract.text,
                "roots": list[Json](rule.roots),
                "sources": list[Json](rule.sources),
                "does": rule.doc,
                "applied": None if counts is None else counts[rule.name],
            }
            for topic, rule in rows
        ]
        print_json({"rules": listed})
        return
    if counts is not None:
        rows = sorted((row for row in rows if counts[row[1].name]), key=lambda row: -counts[row[1].name])
    columns = ("rule", "topic", "contract", *(() if counts is None else ("applied",)), "what it does")
    cells = [(r.name, topic, r.contract.text, *(() if counts is None else (str(counts[r.name]),)), r.doc) for topic, r in rows]
    print_table(None, columns, cells)
    print(f"{len(rows)} rules" if counts is None else f"{len(rows)} rules apply, {sum(counts[r.name] for _, r in rows)} times")


def _show(rule: Rule, as_json: bool) -> None:
    """A rule with an example, before and after."""
    example = _example(rule)
    if as_json:
        shown: Json = None if example is None else {"before": example[0], "after": example[1]}
        print_json({"name": rule.name, "contract": rule.contract.text, "does": rule.doc, "example": shown})
        return
    print(f"{rule.name}: {rule.contract.text}" + (f"; written so by {', '.join(rule.sources)}" if rule.sources else ""))
    print(rule.doc)
    if example is None:
        print("\nIt is written in Python, so no example is made from its text; its tests show some.")
        return
    print(f"\nFrom\n\n{example[0]}\nit makes\n\n{example[1]}", end="")


def _example(rule: Rule) -> tuple[str, str] | None:
    from irc.ir import clone_graph
    from irc.ir.text import print_graph
    from irc.passes import Context, Rewriter, example_graphs

    for graph in example_graphs(rule, TRIES):
        after, context = clone_graph(graph), Context()
        Rewriter(after, (rule,), context).run()
        if context.total:
            return print_graph(graph, locations=False), print_graph(after, locations=False)
    return None
