"""What is told of lowered precision: what each kind of contraction became, and why."""

from __future__ import annotations

from collections.abc import Sequence

from irc.ir import Graph
from irc.passes.precision import Form, Site, patterns, sites
from irc.runtime import PrecisionChoice

from .knowledge import Knowledge
from .lowered import Forms, why_not


def choices_of(graph: Graph, forms: Forms, wanted: Form, knowledge: Knowledge) -> list[PrecisionChoice]:
    """What became of each pattern where one form was wanted for all."""
    found = sites(graph)
    own = {site.op: form for site, form in zip(found, forms, strict=True)}
    return [
        _choice(name, alike, own[alike[0].op], [why_not(site, wanted, knowledge) for site in alike])
        for name, alike in patterns(found).items()
    ]


def _choice(name: str, alike: Sequence[Site], form: Form, reasons: Sequence[str]) -> PrecisionChoice:
    why = ", ".join(dict.fromkeys(filter(None, reasons)))
    return PrecisionChoice(name, place_of(alike[0]), len(alike), form.value, why=why)


def place_of(site: Site) -> str:
    """Where a site stands in the model: `MatMul at encoder.3.q`."""
    return f"{site.op.name} at {site.op.location.name}"
