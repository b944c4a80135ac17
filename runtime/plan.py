"""A plan: what a program of several parts does with its feeds; `from_bytes(to_bytes(plan))` is the plan.

A plan has variants, each for some sizes of named dims or for calls that override no default, the last one for all. A variant
has steps, each a part of the program on an engine of its own, which takes feeds and results of steps before it, by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .manifest import OptionValue, SignatureEntry, options_from_json, options_to_json
from .strict_json import Fields, Json, canonical, parse_object

PLAN_FILE = "plan.json"
PLAN = "plan"
"""What manifests call the engine of programs of several parts."""


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a program: its files are those in the folder `part`, its values have one name wherever they are."""

    part: str
    engine: str
    options: Mapping[str, OptionValue]
    inputs: tuple[SignatureEntry, ...]
    outputs: tuple[SignatureEntry, ...]

    def to_json(self) -> Json:
        """As JSON."""
        return {
            "part": self.part,
            "engine": self.engine,
            "options": options_to_json(self.options),
            "inputs": [each.to_json() for each in self.inputs],
            "outputs": [each.to_json() for each in self.outputs],
        }

    @staticmethod
    def from_json(fields: Fields) -> Step:
        """From JSON; raises ArtifactError where it is none."""
        return Step(
            part=fields.text("part"),
            engine=fields.text("engine"),
            options=options_from_json(fields, "options"),
            inputs=fields.objects("inputs", SignatureEntry.from_json),
            outputs=fields.objects("outputs", SignatureEntry.from_json),
        )


@dataclass(frozen=True, slots=True)
class Variant:
    """The steps for feeds in which dims have these sizes; for all feeds where there are none.

    They also need that each of the dims in `dims_must_agree` has one size wherever it stands, and that none of the inputs in
    `absent`, whose defaults are constants in them, is fed; without that, others run.
    """

    steps: tuple[Step, ...]
    dims: Mapping[str, int] = field(default_factory=dict[str, int])
    dims_must_agree: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()

    def to_json(self) -> Json:
        """As JSON."""
        return {
            "absent": list(self.absent),
            "dims": dict[str, Json](self.dims),
            "dims_must_agree": list(self.dims_must_agree),
            "steps": [each.to_json() for each in self.steps],
        }

    @staticmethod
    def from_json(fields: Fields) -> Variant:
        """From JSON; raises ArtifactError where it is none."""
        dims: dict[str, int] = {}
        for name, size in fields.values("dims").items():
            if not isinstance(size, int) or isinstance(size, bool) or size < 0:
                raise fields.refuse(f"{size} is no size of dim {name}")
            dims[name] = size
        steps = fields.objects("steps", Step.from_json)
        return Variant(steps, dims, fields.texts("dims_must_agree"), fields.texts("absent"))


@dataclass(frozen=True, slots=True)
class Plan:
    """All variants; the first one that is for what is fed is the one that runs."""

    variants: tuple[Variant, ...]

    @property
    def usual(self) -> Variant:
        """The variant for all sizes, of calls that override no default where there is one for those."""
        return next(each for each in self.variants if not each.dims and (each.absent or each is self.variants[-1]))

    def to_bytes(self) -> bytes:
        """The plan as the bytes of PLAN_FILE; equal plans have equal bytes."""
        return canonical({"variants": [each.to_json() for each in self.variants]})

    @staticmethod
    def from_bytes(data: bytes) -> Plan:
        """The plan in the bytes of PLAN_FILE; raises ArtifactError where it is none."""
        fields = parse_object(data, PLAN_FILE)
        plan = Plan(fields.objects("variants", Variant.from_json))
        fields.finish()
        for variant in plan.variants:
            if not variant.steps:
                raise fields.refuse("a variant has no steps")
        if not plan.variants or plan.variants[-1].dims or plan.variants[-1].dims_must_agree:
            raise fields.refuse("the last variant should be for all dims")
        if plan.variants[-1].absent:
            raise fields.refuse("the last variant should be for all inputs")
        return plan


__all__ = ["PLAN", "PLAN_FILE", "Plan", "Step", "Variant"]
