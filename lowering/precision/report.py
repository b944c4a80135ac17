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
        _choice(name, alike, own[alike[0].op], _reasons(alike, own[alike[0].op], wanted, knowledge))
        for name, alike in patterns(found).items()
    ]


def _choice(name: str, alike: Sequence[Site], form: Form, reasons: Sequence[str]) -> PrecisionChoice:
    why = ", ".join(dict.fromkeys(filter(None, reasons)))
    return PrecisionChoice(name, place_of(alike[0]), len(alike), form.value, why=why)


def _reasons(alike: Sequence[Site], form: Form, wanted: Form, knowledge: Knowledge) -> list[str]:
    if form is Form.DYNAMIC_INT8:
        return [why_dynamic(alike[0], knowledge)]
    return [why_not(site, wanted, knowledge) for site in alike]


def why_dynamic(site: Site, knowledge: Knowledge) -> str:
    """Why the data of a site find their range in each run, as a clause."""
    return f"one range for all samples makes {knowledge.varying[site.op]:.1f} times the error of one for each"


def place_of(site: Site) -> str:
    """Where a site stands in the model: `MatMul at encoder.3.q`."""
    return f"{site.op.name} at {site.op.location.name}"
