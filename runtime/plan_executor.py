"""Running a plan: the variant for what is fed, step after step, each value let go after its last use.

Law: values pass from one step to the next as they are, without a copy; results share no memory with feeds or each other,
because each is made by one step, which keeps that law. A variant runs only where everything fed has the shape that it is
for: a dim of one name may have two sizes, unless the model says otherwise, and then the variant for all sizes runs. The one
for calls that override a default is built when the first of them comes: most programs never see one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from time import perf_counter_ns
from typing import Any

from .errors import ArtifactError
from .manifest import SignatureEntry
from .plan import Plan, Step, Variant

Run = Callable[[dict[str, object]], list[object]]
RunByKernel = Callable[[dict[str, object]], tuple[list[object], dict[str, int]]]


@dataclass(frozen=True, slots=True)
class _Stage:
    """A step ready to run, by kernel where its engine can do that: what it takes and makes, and what nobody needs after it."""

    part: str
    run: Run
    run_by_kernel: RunByKernel | None
    takes: tuple[str, ...]
    makes: tuple[str, ...]
    forgets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Fit:
    """What feeds have to be for a variant: without some, axes of inputs with their sizes, groups of axes of one size each."""

    absent: frozenset[str] = frozenset()
    sizes: tuple[tuple[str, int, int], ...] = ()
    agreeing: tuple[tuple[tuple[str, int], ...], ...] = ()

    def holds(self, feeds: Mapping[str, Any]) -> bool:
        """Whether the feeds are that; an input left out, which has a default, is of no size."""
        if not self.absent.isdisjoint(feeds):
            return False
        try:
            for name, axis, size in self.sizes:
                if feeds[name].shape[axis] != size:
                    return False
            return all(len({feeds[name].shape[axis] for name, axis in places}) == 1 for places in self.agreeing)
        except KeyError:
            return False


class PlanExecutor:
    """The executors of all steps; `build` makes that of one."""

    def __init__(
        self,
        plan: Plan,
        inputs: Sequence[SignatureEntry],
        outputs: Sequence[SignatureEntry],
        build: Callable[[Step], Any],
    ) -> None:
        self._outputs = tuple(each.name for each in outputs)
        self._executors: list[Any] = []
        self._build = build
        self._last_uses = [self._checked(variant, inputs) for variant in plan.variants]
        fits = [_fit(variant, inputs) for variant in plan.variants]
        *ahead, self._last = plan.variants
        self._ahead = [
            (fit, self._stages(variant, last)) for fit, variant, last in zip(fits, ahead, self._last_uses, strict=False)
        ]
        self._lock = Lock()
        waits = any(variant.absent for variant in ahead)
        self._general = None if waits else self._stages(self._last, self._last_uses[-1])

    def run(self, feeds: dict[str, object]) -> list[object]:
        """The outputs in signature order; raises EngineFailure with what the engine of a step says."""
        stages = self._chosen(feeds)
        if len(stages) == 1 and stages[0].makes == self._outputs:
            return stages[0].run(feeds)
        values = dict(feeds)
        for stage in stages:
            results = stage.run({name: values[name] for name in stage.takes if name in values})
            values.update(zip(stage.makes, results, strict=True))
            for name in stage.forgets:
                values.pop(name, None)  # an input with a default may not be there
        return [values[name] for name in self._outputs]

    def run_by_kernel(self, feeds: dict[str, object]) -> tuple[list[object], dict[str, int]]:
        """As `run`, with the nanoseconds spent in each kernel, by its name; of an engine that tells none, in the whole part."""
        values, summed = dict(feeds), dict[str, int]()
        for stage in self._chosen(feeds):
            own = {name: values[name] for name in stage.takes if name in values}
            begin = perf_counter_ns()
            if stage.run_by_kernel is None:
                results = stage.run(own)
                times = {stage.part: perf_counter_ns() - begin}
            else:
                results, times = stage.run_by_kernel(own)
            values.update(zip(stage.makes, results, strict=True))
            for name, took in times.items():
                summed[name] = summed.get(name, 0) + took
        return [values[name] for name in self._outputs], summed

    def close(self) -> None:
        """Let go of all engines."""
        with self._lock:
            for executor in self._executors:
                executor.close()

    def _chosen(self, feeds: dict[str, object]) -> list[_Stage]:
        for fit, stages in self._ahead:
            if fit.holds(feeds):
                return stages
        return self._general or self._built()

    def _built(self) -> list[_Stage]:
        """The last variant, by whoever needs it first; the others wait."""
        with self._lock:
            if self._general is None:
                self._general = self._stages(self._last, self._last_uses[-1])
            return self._general

    def _checked(self, variant: Variant, inputs: Sequence[SignatureEntry]) -> dict[str, int]:
        """The last step of a variant that needs each value. Raises ArtifactError where a step cannot run."""
        known = {each.name for each in inputs}
        last: dict[str, int] = {}
        for index, step in enumerate(variant.steps):
            for entry in step.inputs:
                if entry.name not in known:
                    raise ArtifactError(f"a step of the plan takes {entry.name}, which nothing makes before it")
                last[entry.name] = index
            known.update(entry.name for entry in step.outputs)
            last.update((entry.name, index) for entry in step.outputs)
        missing = set(self._outputs) - known
        if missing:
            raise ArtifactError(f"the plan makes no {min(missing)}")
        return last

    def _stages(self, variant: Variant, last: Mapping[str, int]) -> list[_Stage]:
        stages: list[_Stage] = []
        for index, step in enumerate(variant.steps):
            executor = self._build(step)
            self._executors.append(executor)
            takes, makes = tuple(e.name for e in step.inputs), tuple(e.name for e in step.outputs)
            forgets = tuple(
                name for name in dict.fromkeys((*takes, *makes)) if last[name] == index and name not in self._outputs
            )
            timed = getattr(executor, "run_by_kernel", None)
            stages.append(_Stage(step.part, executor.run, timed, takes, makes, forgets))
        return stages


def _fit(variant: Variant, inputs: Sequence[SignatureEntry]) -> _Fit:
    """What a variant needs of feeds with the signature `inputs`: its dims, and what follows from them (`2*batch`)."""
    unknown = set(variant.absent) - {each.name for each in inputs if each.optional}
    if unknown:
        raise ArtifactError(f"a variant of the plan is for calls without {min(unknown)}, which is no input with a default")
    inputs = [each for each in inputs if each.name not in variant.absent]
    own = {entry.name: entry.shape or () for step in variant.steps for entry in step.inputs}
    sizes: list[tuple[str, int, int]] = []
    for each in inputs:
        specialized = own.get(each.name, ())
        for axis, text in enumerate(each.shape or ()):
            size = variant.dims.get(text) if isinstance(text, str) else None
            if size is None and isinstance(text, str) and variant.dims and axis < len(specialized):
                size = specialized[axis]
            if isinstance(size, int):
                sizes.append((each.name, axis, size))
    for name in variant.dims:
        if not _places(name, inputs):
            raise ArtifactError(f"a variant of the plan is for dim {name}, which no input has")
    agreeing = [_places(name, inputs) for name in variant.dims_must_agree]
    return _Fit(frozenset(variant.absent), tuple(sizes), tuple(places for places in agreeing if len(places) > 1))


def _places(dim: str, inputs: Sequence[SignatureEntry]) -> tuple[tuple[str, int], ...]:
    """The inputs and axes that have a dim."""
    return tuple((each.name, axis) for each in inputs for axis, text in enumerate(each.shape or ()) if text == dim)


__all__ = ["PlanExecutor"]
