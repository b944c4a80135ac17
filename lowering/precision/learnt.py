"""What each form needs to know of a model before it can be lowered."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from math import inf

from irc.ir import Graph
from irc.passes.precision import ANY_TOGETHER, EXACT_TOGETHER, Form

from ..calibration import Calibration
from ..engine import Wish
from .integers import learn_integers
from .knowledge import NOTHING, Knowledge
from .learning import Tell, grams_of, magnitudes_of
from .lessons import notebook_of

WEIGHTS_ONLY = frozenset({Form.INT8_WEIGHTS, Form.INT4_WEIGHTS})


def learn(
    model: Graph,
    forms: Collection[Form],
    samples: Calibration,
    tell: Tell,
    wishes: Collection[Wish] = (),
    most: int | None = None,
    deadline: float = inf,
) -> tuple[Graph, Knowledge]:
    """The model to lower and what `forms` need to know of it; the one given stays as it is.

    The model to lower computes the same; for integers its channels are balanced, and its weights are as the engine `wishes`.
    What integers need is told by `most` of the samples, looked for until `deadline`, and kept in the cache. Raises UsageError
    for samples on which the model does not run.
    """
    known = NOTHING
    if Form.INT8 in forms:
        together = EXACT_TOGETHER if Wish.SMALL_NEIGHBOURS in wishes else ANY_TOGETHER
        few, notebook = samples.evenly(most or len(samples)), notebook_of(model, samples, together)
        balanced = learn_integers(model, few, tell, deadline, together, notebook)
        model, known = balanced.model, balanced.knowledge
    if Form.F16 in forms:
        known = replace(known, magnitudes=magnitudes_of(model, samples, tell))
    if not WEIGHTS_ONLY.isdisjoint(forms):
        known = replace(known, grams=grams_of(model, samples, tell))
    return model, known
