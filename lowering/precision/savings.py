"""What each form of each pattern saves on an engine, by the times that were found.

Law: the savings of a form of all patterns add up to what the whole run takes less: what a form changes in kernels of nobody
(casts, quantizing that no kernel absorbs, sums in a narrower form) is shared out by the size of the data that sites read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import inf, prod

from irc.passes.precision import Form, Site

from .findings import Findings, conversions_in, named
from .selecting import Option


class Savings:
    """The savings of one model's patterns."""

    def __init__(
        self,
        findings: Findings,
        groups: Mapping[str, Sequence[Site]],
        forms: Sequence[Form],
        refused: Collection[tuple[str, Form]] = (),
    ) -> None:
        """`groups` are the sites of each pattern, `forms` what they may be beside f32, but for the pairs that are `refused`."""
        self._refused = frozenset(refused)
        self._findings, self._groups, self._forms = findings, groups, forms
        self._sizes = {name: sum(_size(site) for site in alike) for name, alike in groups.items()}

    def options(self, engine: str) -> list[Option]:
        """All options on an engine that were timed; an error that is not known is infinite."""
        times = self._findings.times.get(engine, {})
        found: list[Option] = []
        for pattern in self._groups:
            for form in self._forms:
                saved = self._saved(times, pattern, form)
                if saved is not None:
                    error = self._findings.errors.get(named(pattern, form), inf)
                    whole, converting = times[named(pattern, Form.F32)], times.get(conversions_in(pattern, form.value), 0)
                    found.append(Option(pattern, form, saved, error, whole, int(converting)))
        return found

    def most(self, pattern: str, form: Form) -> float:
        """What an option saves at most on any engine, 0 where it saves nothing."""
        saved = (self._saved(times, pattern, form) or 0.0 for times in self._findings.times.values())
        return max(0.0, max(saved, default=0.0))

    def whole(self, engine: str, what: str = Form.F32.value) -> float | None:
        """What a whole run takes on an engine, in one form everywhere or as a selection, where that was timed."""
        return self._findings.times.get(engine, {}).get(what)

    def _saved(self, times: Mapping[str, float], pattern: str, form: Form) -> float | None:
        own = None if (pattern, form) in self._refused else _own(times, pattern, form)
        if own is None:
            return None
        known = [each for name in self._groups if (each := _own(times, name, form)) is not None]
        rest = times[Form.F32.value] - times[form.value] - sum(known)
        return own + rest * self._share(pattern, form)

    def _share(self, pattern: str, form: Form) -> float:
        """The share that the data of a pattern have in those of all that can have a form."""
        whole = sum(size for name, size in self._sizes.items() if (name, form) not in self._refused)
        return self._sizes[pattern] / whole if whole else 0.0


def _own(times: Mapping[str, float], pattern: str, form: Form) -> float | None:
    """Milliseconds that the kernels of a pattern take less in a form, None where they were not timed."""
    before, after = times.get(named(pattern, Form.F32)), times.get(named(pattern, form))
    return None if before is None or after is None else before - after


def _size(site: Site) -> int:
    return prod(dim for dim in site.data.shape or () if isinstance(dim, int))
