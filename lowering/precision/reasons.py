"""What is told of each pattern that a search has looked at: its form and what that saves, or why it stays in f32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf

from irc.passes.precision import Form, Site
from irc.runtime import PrecisionChoice

from .knowledge import Knowledge
from .lowered import why_not
from .report import place_of, why_dynamic
from .selecting import Option


def choice(
    pattern: str,
    alike: Sequence[Site],
    taken: Mapping[str, Option],
    options: Sequence[Option],
    unknown: Mapping[Form, str],
    knowledge: Knowledge,
) -> PrecisionChoice:
    """What became of a pattern; `unknown` says why an option of a form is not among `options`."""
    place, option = place_of(alike[0]), taken.get(pattern)
    if option is None:
        own = {each.form: each for each in options if each.pattern == pattern}
        why = "; ".join(_reason(own[form]) if form in own else f"{form.value}: {text}" for form, text in unknown.items())
        return PrecisionChoice(pattern, place, len(alike), Form.F32.value, why=why)
    error = None if option.error == inf else option.error
    whys = [why_dynamic(alike[0], knowledge)] if option.form is Form.DYNAMIC_INT8 else []
    whys += [] if option.pays else ["it pays nothing by itself, but so its neighbours need no conversion"]
    return PrecisionChoice(pattern, place, len(alike), option.form.value, option.saved, error, "; ".join(whys))


def why_unknown(site: Site, form: Form, knowledge: Knowledge, is_timed: bool) -> str:
    """Why there is no option of a form for a site."""
    return why_not(site, form, knowledge) or ("its kernels are not known" if is_timed else "it was not timed")


def _reason(option: Option) -> str:
    word = option.form.value
    if option.saved <= 0:
        several = "s" if option.conversions > 1 else ""
        kernels = f", {option.conversions} conversion{several} not absorbed" if option.conversions else ""
        return f"{word} {-option.saved:.3f} ms slower{kernels}"
    if not option.pays:
        return f"{word} saves no more than noise"
    if option.error == inf:
        return f"{word} would save {option.saved:.3f} ms, and its error was not measured in time"
    return f"{word} would save {option.saved:.3f} ms, but its error of {option.error:.1e} is too much beside the others"
