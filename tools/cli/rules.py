"""`irc rules`: the catalogue of rewrites with their contracts, how often each applies to a model, and one of them at work."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import flags
from .output import Json, note, print_json, print_table

if TYPE_CHECKING:
    from irc.passes import Rule

ModelArgument = Annotated[
    Path | None, typer.Argument(metavar="[MODEL]", help="Count how often each rule applies to this model; default: none.")
]
TopicFlag = Annotated[str | None, typer.Option("--topic", metavar="NAME", help="Only the rules of one topic.")]
ShowFlag = Annotated[str | None, typer.Option("--show", metavar="RULE", help="One rule in full, with an example made from it.")]

TRIES = 400
YOURS = "yours"


def rules_command(
    model: ModelArgument = None,
    topic: TopicFlag = None,
    show: ShowFlag = None,
    level: flags.LevelFlag = 2,
    load: flags.LoadFlag = None,
    trust_pickle: flags.TrustFlag = False,
    as_json: flags.JsonFlag = False,
) -> None:
    """List the rules with topic, contract and sources; with a model, how often each applies to it."""
    from irc.ir import UsageError

    if model is not None and show is not None:
        raise UsageError("--show makes its own example, so a model has no use", hint="leave one of them out")
    rows = _chosen(topic, tuple(load or ()))
    if show is not None:
        _show(*_named(show, rows, topic), as_json)
        return
    counts = _counts(model, level, tuple(load or ()), trust_pickle) if model is not None else None
    _list(rows, counts, as_json)


def _chosen(topic: str | None, files: tuple[str, ...]) -> list[tuple[str, Rule]]:
    """The rules of one topic or of all, the user's under `yours`, each with its topic. Raises UsageError."""
    from irc.ir import UsageError, closest
    from irc.passes import catalogue_by_topic, registry

    own = registry(files)
    by_topic = catalogue_by_topic() | {YOURS: own.rules}
    if topic is not None and topic not in by_topic:
        hint = closest(topic, list(by_topic)) or f"topics: {', '.join(by_topic)}"
        raise UsageError(f"there is no topic '{topic}'", hint=hint)
    if files and not own.rules:
        note(f"what is loaded are passes and no rules: `irc passes --load {files[0]}` lists them")
    return [(name, rule) for name, rules in by_topic.items() if topic in (None, name) for rule in rules]


def _named(name: str, rows: list[tuple[str, Rule]], topic: str | None) -> tuple[str, Rule]:
    """The rule of this name and its topic. Raises UsageError where there is none."""
    from irc.ir import UsageError, closest

    found = next((row for row in rows if row[1].name == name), None)
    if found is None:
        where = "" if topic is None else f" in topic '{topic}'"
        hint = closest(name, [rule.name for _, rule in rows]) or "`irc rules` lists them"
        raise UsageError(f"there is no rule '{name}'{where}", hint=hint)
    return found


def _counts(model: Path, level: int, files: tuple[str, ...], trust_pickle: bool) -> Counter[str]:
    """Applications by rule over a whole level, the rules of the user's files after it."""
    from irc.passes import Contract, PassManager, registry

    from .models import open_model

    own = registry(files)
    pipeline = ", ".join([f"O{level}", *(rule.name for rule in own.rules)])
    strictest = Contract.EXACT if level <= 1 else Contract.REASSOCIATING
    manager = PassManager(own.pipeline(pipeline), strictest=strictest)
    opened = open_model(model, trust_pickle)
    manager.run(opened.graph(), opened.graph)
    for record in manager.failures:
        note(f"pass '{record.text}' was rolled back and left out: {record.failure}")
    return manager.totals


def _entry(topic: str, rule: Rule) -> dict[str, Json]:
    """What every JSON says of a rule."""
    return {
        "name": rule.name,
        "topic": topic,
        "contract": rule.contract.text,
        "roots": list[Json](rule.roots),
        "sources": list[Json](rule.sources),
        "does": rule.doc,
    }


def _list(rows: list[tuple[str, Rule]], counts: Counter[str] | None, as_json: bool) -> None:
    if as_json:
        listed: list[Json] = [
            {**_entry(topic, rule), "applied": None if counts is None else counts[rule.name]} for topic, rule in rows
        ]
        print_json({"rules": listed})
        return
    if counts is not None:
        rows = sorted((row for row in rows if counts[row[1].name]), key=lambda row: -counts[row[1].name])
    columns = ("rule", "topic", "contract", "sources" if counts is None else "applied", "what it does")
    cells = [
        (rule.name, topic, rule.contract.text, ", ".join(rule.sources) if counts is None else counts[rule.name], rule.doc)
        for topic, rule in rows
    ]
    print_table(None, columns, cells)
    applied = "1 rule applies" if len(rows) == 1 else f"{len(rows)} rules apply"
    print(f"{len(rows)} rules" if counts is None else f"{applied}, {sum(counts[r.name] for _, r in rows)} times")


def _show(topic: str, rule: Rule, as_json: bool) -> None:
    """A rule with an example, before and after."""
    example = _example(rule)
    if as_json:
        shown: Json = None if example is None else {"before": example[0], "after": example[1]}
        print_json({**_entry(topic, rule), "example": shown})
        return
    print(f"{rule.name}: {rule.contract.text}" + (f"; written so by {', '.join(rule.sources)}" if rule.sources else ""))
    print(rule.doc)
    if rule.written is None:
        print("\nIt is written in Python, so no example is made from its text; its tests show some.")
        return
    if example is None:
        print(f"\nNone of {TRIES} examples made from its text meets its conditions; `sample` clauses say what to try.")
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
