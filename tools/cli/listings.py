"""`irc passes`: which passes there are, and what each level runs."""

from __future__ import annotations

from typing import Annotated

import typer

from . import flags
from .output import Json, print_json, print_table

LevelFilter = Annotated[str | None, typer.Option("--level", metavar="O0..O3", help="Only what this level runs, in order.")]
RewritesFlag = Annotated[bool, typer.Option("--rewrites", help="List every single rewrite, too.")]


def passes_command(
    level: LevelFilter = None,
    rewrites: RewritesFlag = False,
    load: flags.LoadFlag = None,
    as_json: flags.JsonFlag = False,
) -> None:
    """List the passes with their contracts and options, and what each level runs."""
    from irc.ir import UsageError
    from irc.passes import LEVELS, pipeline_text, registry

    if level is not None and level not in LEVELS:
        raise UsageError(f"there is no level '{level}'", hint=f"there are {', '.join(LEVELS)}")
    known = registry(tuple(load or ())).passes
    rows = [(kind.name, kind.contract.text, _options(kind), _first_line(kind.__doc__)) for kind in known.values()]
    inner = [(kind.name, *rewrite) for kind in known.values() for rewrite in kind.rewrites()]
    levels = {name: pipeline_text(steps) for name, steps in LEVELS.items() if level in (None, name)}
    if as_json:
        print_json(
            {
                "passes": [{"name": n, "contract": c, "options": o, "does": d} for n, c, o, d in rows],
                "rewrites": [{"pass": p, "name": n, "contract": c.text, "does": d} for p, n, c, d in inner],
                "levels": dict[str, Json](levels),
            }
        )
        return
    if level is None:
        print_table(None, ("pass", "contract", "options", "what it does"), rows)
        if rewrites:
            print()
            print_table(None, ("rewrite", "pass", "contract", "what it does"), [(n, p, c.text, d) for p, n, c, d in inner])
        print()
    for name, text in levels.items():
        print(f"{name}: {text or 'nothing'}")


def _options(kind: type) -> str:
    from dataclasses import fields

    return ", ".join(f"{f.name.replace('_', '-')}={f.default}" for f in fields(kind))


def _first_line(doc: str | None) -> str:
    return (doc or "").strip().splitlines()[0] if doc else ""
